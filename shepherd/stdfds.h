/*
 * The child's 0, 1 and 2. Called by exec.c in the child, between fork and exec: async-signal-safe
 * calls only. A file is opened here and nowhere else, so that whatever open(2) waits for holds up one
 * child only, which its guardian can kill.
 */
#ifndef NR_STDFDS_H
#define NR_STDFDS_H

#include <stdbool.h>
#include <sys/types.h>

/* What becomes one of them. */
struct nr_stdfd {
    int fd;           /* given; -EBADF: the file, or /dev/null without one */
    const char *file; /* path from `cwd` on; NULL: none. Never becomes a controlling terminal */
    int flags;        /* of open(2) */
    mode_t mode;
};

/* Places from[0..2] on 0, 1, 2, without close-on-exec; with `merge`, 2 is 1's open file. Whatever
 * numbers the given descriptors have, 0, 1 and 2 included, none is overwritten before it was placed.
 * cwd: a directory's descriptor, or AT_FDCWD. 0 or -errno; *file is then the index of the file that
 * could not be opened, or -1. */
int nr_stdfds_place(const struct nr_stdfd from[3], bool merge, int cwd, int *file);

#endif
