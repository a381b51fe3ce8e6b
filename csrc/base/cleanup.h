/*
 * Scope-bound cleanup for descriptors and heap memory.
 *
 * `NR_CLEANUP_FD int fd = -EBADF;` closes fd when the scope ends, whatever the way out. Hand a
 * value on with nr_fd_take(), which leaves -EBADF behind. Destructors accept half-built objects,
 * twice.
 */
#ifndef NR_BASE_CLEANUP_H
#define NR_BASE_CLEANUP_H

#include "fd.h"

#include <stdlib.h>

static inline void nr_cleanup_fd(int *fd)
{
    *fd = nr_fd_close(*fd);
}

static inline void nr_cleanup_free(void *pointer)
{
    free(*(void **)pointer);
    *(void **)pointer = NULL;
}

#define NR_CLEANUP_FD   __attribute__((cleanup(nr_cleanup_fd)))
#define NR_CLEANUP_FREE __attribute__((cleanup(nr_cleanup_free)))

#endif
