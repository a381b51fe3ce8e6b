/* See children.h: the POSIX twin. POSIX cannot list children, and without subreapers the only ones
 * are those we forked, which their callers know. */
#include "children.h"

#include "fd.h"

int nr_children_each(struct nr_children *children, nr_child_fn *fn, void *context)
{
    (void)children;
    (void)fn;
    (void)context;
    return -ENOSYS;
}

void nr_children_close(struct nr_children *children)
{
    children->file = nr_fd_close(children->file);
}
