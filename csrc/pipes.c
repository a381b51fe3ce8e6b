/* See pipes.h: sizes and the budget. Must never let many small pipes pay for a few large ones. */
#include "pipes.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB      ((uint64_t)1024 * 1024)
#define DEFAULT  (MIB / 16)
#define STEP_ONE (MIB / 4)

static _Atomic uint64_t all;   /* capacity of our pipes */
static _Atomic uint64_t grown; /* of that, what is beyond the sizes that they were made with */

struct nr_pipe_memory nr_pipes_enter(int fd)
{
    uint64_t bytes = DEFAULT;
#ifdef F_GETPIPE_SZ
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > 0)
        bytes = (uint64_t)size;
#else
    (void)fd;
#endif
    atomic_fetch_add(&all, bytes);
    return (struct nr_pipe_memory){.made = bytes, .now = bytes};
}

void nr_pipes_leave(struct nr_pipe_memory *memory)
{
    atomic_fetch_sub(&all, memory->now);
    atomic_fetch_sub(&grown, memory->now - memory->made);
    *memory = (struct nr_pipe_memory){0};
}

#ifdef F_SETPIPE_SZ

/* Of 64 MiB: enough for the two pipes each of 380 commands, and for what was grown before they came. */
#define GROWN_MAX (16 * MIB)
#define ALL_MAX   (48 * MIB)
/* Who may pass the soft limit need only mind the machine's memory. */
#define GROWN_MAX_PRIVILEGED (256 * MIB)

static int pipe_size_max(void)
{
    char text[16] = "";
    int fd = open("/proc/sys/fs/pipe-max-size", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return (int)NR_PIPE_MAX;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    (void)nr_fd_close(fd);
    long max = got > 0 ? strtol(text, NULL, 10) : 0;
    return max >= (long)NR_PIPE_MAX && max < INT_MAX ? (int)max : (int)NR_PIPE_MAX;
}

enum { UNKNOWN, NORMAL, PRIVILEGED };
static _Atomic int standing = UNKNOWN;

/* Whether this process may pass the limits of pipes. Capabilities do not say: those of a user namespace, as root has
 * in a rootless container, count for nothing here. The kernel is asked by what it grants to nobody else: a size above
 * pipe-max-size, which is 1 MiB, for a pipe that is given back at once. */
static bool privileged(void)
{
    int known = atomic_load(&standing);
    if (known == UNKNOWN) {
        int ends[2];
        if (nr_fd_pipe(ends) < 0)
            return false; /* and asked again */
        known = fcntl(ends[0], F_SETPIPE_SZ, pipe_size_max() + 1) > 0 ? PRIVILEGED : NORMAL;
        (void)nr_fd_close(ends[0]);
        (void)nr_fd_close(ends[1]);
        atomic_store(&standing, known);
    }
    return known == PRIVILEGED;
}

static bool reserve(uint64_t more)
{
    uint64_t all_now = atomic_fetch_add(&all, more) + more;
    uint64_t grown_now = atomic_fetch_add(&grown, more) + more;
    return (grown_now <= GROWN_MAX && all_now <= ALL_MAX) ||
           (grown_now <= GROWN_MAX_PRIVILEGED && privileged());
}

int nr_pipes_grow(int fd, struct nr_pipe_memory *memory)
{
    if (memory->now >= NR_PIPE_MAX)
        return NR_PIPE_LARGE;
    uint64_t wanted = memory->now < STEP_ONE ? STEP_ONE : NR_PIPE_MAX;
    uint64_t more = wanted - memory->now;
    if (!reserve(more) || fcntl(fd, F_SETPIPE_SZ, (int)wanted) < 0) {
        atomic_fetch_sub(&all, more);
        atomic_fetch_sub(&grown, more);
        return NR_PIPE_REFUSED;
    }
    memory->now = wanted;
    return 0;
}

#else

int nr_pipes_grow(int fd, struct nr_pipe_memory *memory)
{
    (void)fd;
    (void)memory;
    return NR_PIPE_LARGE;
}

#endif
