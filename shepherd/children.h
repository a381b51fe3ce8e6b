/*
 * Who are our children? Asked by the sweeps of guardian and zygote, because a subreaper gets children
 * it never made. Two ways: /proc/thread-self/children; or, on kernels without it, every pid in /proc
 * put to waitid(2). Must not be taken for a proof of absence: both are snapshots of a moving crowd;
 * the proof is nr_family_look().
 */
#ifndef NR_CHILDREN_H
#define NR_CHILDREN_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

struct nr_children {
    int file;     /* kept open between looks */
    bool by_pids; /* use the second way only (tests) */
};

#define NR_CHILDREN_NONE ((struct nr_children){.file = -EBADF, .by_pids = false})

typedef void nr_child_fn(void *context, pid_t pid);

/* Calls fn (which may be NULL, may signal and may reap) for each child, ended or not. 0 or -errno
 * when children cannot be listed at all (no /proc; portable: -ENOSYS). */
int nr_children_each(struct nr_children *children, nr_child_fn *fn, void *context);

void nr_children_close(struct nr_children *children);

#endif
