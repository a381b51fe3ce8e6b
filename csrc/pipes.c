/* See pipes.h: sizes and the budget. Must never let many small pipes pay for a few large ones. */
#include "pipes.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>

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

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of 64 MiB: enough for the two pipes each of 380 commands, and for what was grown before they came. */
#define GROWN_MAX (16 * MIB)
#define ALL_MAX   (48 * MIB)
/* Who may pass the soft limit need only mind the machine's memory. */
#define GROWN_MAX_PRIVILEGED (256 * MIB)

/* The kernel asks for one of these (fs/pipe.c); root in a container may have neither. */
static bool privileged(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    const uint32_t either = 1U << CAP_SYS_ADMIN | 1U << CAP_SYS_RESOURCE;
    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & either) != 0;
}

static bool reserve(uint64_t more)
{
    uint64_t all_now = atomic_fetch_add(&all, more) + more;
    uint64_t grown_now = atomic_fetch_add(&grown, more) + more;
    return (grown_now <= GROWN_MAX && all_now <= ALL_MAX) ||
           (grown_now <= GROWN_MAX_PRIVILEGED && privileged());
}

bool nr_pipes_grow(int fd, struct nr_pipe_memory *memory)
{
    if (memory->now >= NR_PIPE_MAX)
        return false;
    uint64_t wanted = memory->now < STEP_ONE ? STEP_ONE : NR_PIPE_MAX;
    uint64_t more = wanted - memory->now;
    if (!reserve(more) || fcntl(fd, F_SETPIPE_SZ, (int)wanted) < 0) {
        atomic_fetch_sub(&all, more);
        atomic_fetch_sub(&grown, more);
        return false;
    }
    memory->now = wanted;
    return true;
}

#else

bool nr_pipes_grow(int fd, struct nr_pipe_memory *memory)
{
    (void)fd;
    (void)memory;
    return false;
}

#endif
