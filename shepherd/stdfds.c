/* See stdfds.h: the child's standard descriptors. Must stay async-signal-safe. */
#include "stdfds.h"

#include "error.h"

#include <fcntl.h>
#include <unistd.h>

/* Above all targets and above the exec pipe's final place. */
#define STAGE 10

static int stage(int fd)
{
    int staged = fcntl(fd, F_DUPFD_CLOEXEC, STAGE);
    return staged < 0 ? nr_errno() : staged;
}

static int stage_take(int fd)
{
    int staged = stage(fd);
    (void)close(fd);
    return staged;
}

static int stage_null(int access)
{
    int null = open("/dev/null", access | O_CLOEXEC);
    return null < 0 ? nr_errno() : stage_take(null);
}

/* O_NOCTTY: the child leads a session that has no terminal yet. EINTR is an error like any other: no
 * signal is delivered here, all are blocked, so it can only be the device's own answer, which may come
 * again for ever. */
static int stage_file(const struct nr_stdfd *from, int cwd, int access)
{
    int fd = openat(cwd, from->file, access | from->flags | O_CLOEXEC | O_NOCTTY, from->mode);
    return fd < 0 ? nr_errno() : stage_take(fd);
}

int nr_stdfds_place(const struct nr_stdfd from[3], bool merge, int cwd, int *file)
{
    int staged[3];

    *file = -1;
    for (int i = 0; i < 3; i++) {
        int access = i == 0 ? O_RDONLY : O_WRONLY;
        if (i == 2 && merge)
            staged[i] = stage(staged[1]);
        else if (from[i].fd >= 0)
            staged[i] = stage(from[i].fd);
        else if (from[i].file != NULL)
            staged[i] = stage_file(&from[i], cwd, access);
        else
            staged[i] = stage_null(access);
        if (staged[i] < 0) {
            *file = from[i].file != NULL ? i : -1;
            return staged[i];
        }
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(staged[i], i) < 0)
            return nr_errno();
    }
    return 0;
}
