/* See dirents.h. Must never allocate. */
#include "dirents.h"

#include "error.h"

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void nr_dirents_begin(struct nr_dirents *walk, int directory)
{
    walk->directory = directory;
    walk->got = 0;
    walk->at = 0;
}

const struct nr_dirent *nr_dirents_next(struct nr_dirents *walk)
{
    if (walk->at == walk->got) {
        walk->at = 0;
        walk->got = syscall(SYS_getdents64, walk->directory, walk->bytes, sizeof(walk->bytes));
        if (walk->got < 0)
            walk->got = nr_errno();
        if (walk->got <= 0)
            return NULL;
    }
    const struct nr_dirent *entry = (const void *)(walk->bytes + walk->at);
    walk->at += entry->length;
    return entry;
}
