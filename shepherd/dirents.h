/*
 * The entries of a directory, one after the other, by getdents64(2): readdir(3) allocates. Linux only, for
 * its twins. Must never allocate.
 */
#ifndef NR_DIRENTS_H
#define NR_DIRENTS_H

#include <stdint.h>

/* struct linux_dirent64, as getdents64(2) writes it; its manual page has no header to name. */
struct nr_dirent {
    uint64_t inode;
    int64_t offset;
    unsigned short length; /* of this record, bytes */
    unsigned char type;    /* DT_... of readdir(3) */
    char name[];
};

struct nr_dirents {
    int directory; /* borrowed */
    long got;      /* after the last entry: 0, or -errno of what cut the walk short */
    long at;
    _Alignas(struct nr_dirent) char bytes[4096]; /* /proc is walked no faster with 16 KiB */
};

/* Begins where the directory's offset stands. */
void nr_dirents_begin(struct nr_dirents *walk, int directory);

/* The next entry, . and .. too, good until the next call. NULL after the last. */
const struct nr_dirent *nr_dirents_next(struct nr_dirents *walk);

#endif
