/* See kernel.h. */
#include "kernel.h"

#include "invariant.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct nr_kernel nr_kernel;

static int fail(int error)
{
    errno = error;
    return -1;
}

/* ---- the heap of the process under test ----------------------------------------------------- */

/* A guardian allocates for life; a target that runs thousands of them gives it back. */
#define HEAP_MAX 64
static void *heap[HEAP_MAX];
static unsigned heap_count;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    void *block = __real_malloc(size);
    if (nr_kernel.running && block != NULL && heap_count < HEAP_MAX)
        heap[heap_count++] = block;
    return block;
}

void __real_free(void *block);
void __wrap_free(void *block);
void __wrap_free(void *block)
{
    for (unsigned i = 0; i < heap_count; i++)
        if (heap[i] == block) {
            heap[i] = heap[--heap_count];
            break;
        }
    __real_free(block);
}

void nr_kernel_begin(void)
{
    memset(&nr_kernel, 0, sizeof(nr_kernel));
    nr_world_begin();
    nr_kernel.running = true;
}

void nr_kernel_next_command(void)
{
    nr_kernel.exec = NR_EXEC_OPEN;
    nr_kernel.forked = false;
    nr_world.watched = 0;
    nr_world.watched_ended = false;
}

void nr_kernel_free_heap(void)
{
    while (heap_count > 0)
        __real_free(heap[--heap_count]);
}

void nr_kernel_end(void)
{
    nr_kernel.running = false;
    nr_kernel_free_heap();
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static bool simulated(int fd)
{
    return nr_kernel.running && fd >= NR_KERNEL_FIRST;
}

int nr_kernel_open(enum nr_fd_kind kind)
{
    for (int i = 0; i < NR_KERNEL_FDS; i++) {
        if (nr_kernel.fds[i].kind == NR_FD_NONE) {
            memset(&nr_kernel.fds[i], 0, sizeof(nr_kernel.fds[i]));
            nr_kernel.fds[i].kind = kind;
            return NR_KERNEL_FIRST + i;
        }
    }
    return fail(EMFILE);
}

unsigned nr_kernel_count(enum nr_fd_kind kind)
{
    unsigned count = 0;
    for (int i = 0; i < NR_KERNEL_FDS; i++)
        count += nr_kernel.fds[i].kind == kind;
    return count;
}

enum nr_fd_kind nr_kernel_kind(int fd)
{
    int i = fd - NR_KERNEL_FIRST;
    INVARIANT(i >= 0 && i < NR_KERNEL_FDS && nr_kernel.fds[i].kind != NR_FD_NONE,
              "descriptor %d is used and not open", fd);
    return nr_kernel.fds[i].kind;
}

/* Where the exec pipe stands: its last writer is the child before exec, or we ourselves. */
static bool exec_pipe_ended(void)
{
    const struct nr_creature *leader = nr_world_born(nr_world.watched);
    bool held = nr_kernel.exec == NR_EXEC_OPEN && nr_kernel.forked && leader != NULL &&
                leader->life == NR_ALIVE;
    return !held && nr_kernel_count(NR_FD_EXEC_WRITE) == 0;
}

static short ready_gift(int fd, short events)
{
    int i = fd - NR_KERNEL_FIRST;
    short ready = nr_kernel.fds[i].holds > 0 ? events & POLLIN : 0;
    return nr_kernel.fds[i].ended ? ready | POLLHUP : ready;
}

short nr_kernel_ready(int fd, short events, bool beam_dead)
{
    const struct nr_creature *who;

    switch (nr_kernel_kind(fd)) {
    case NR_FD_BEAM:
        return beam_dead ? events & POLLIN : 0;
    case NR_FD_SIGNALS:
        return nr_world.sigchld ? events & POLLIN : 0;
    case NR_FD_PIDFD:
        who = nr_world_born(nr_kernel.fds[fd - NR_KERNEL_FIRST].birth);
        return who == NULL || who->life != NR_ALIVE ? events & POLLIN : 0;
    case NR_FD_EXEC_READ:
        if (nr_kernel.exec == NR_EXEC_BROUGHT)
            return events & POLLIN;
        return exec_pipe_ended() ? POLLHUP : 0;
    case NR_FD_GIFT:
        return ready_gift(fd, events);
    default:
        nr_broken("descriptor %d of kind %d is polled", fd, (int)nr_kernel_kind(fd));
    }
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (!simulated(fd))
        return __real_close(fd);
    (void)nr_kernel_kind(fd);
    nr_kernel.fds[fd - NR_KERNEL_FIRST].kind = NR_FD_NONE;
    return 0;
}

/* fcntl(2), syscall(2) and prctl(2) are variadic, but their callers give as many values as they like:
 * here they take as many as travel in registers. */
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, long value);
int __wrap_fcntl(int fd, int command, long value)
{
    if (!simulated(fd))
        return __real_fcntl(fd, command, value);
    (void)nr_kernel_kind(fd);
    return command == F_GETFL && !nr_kernel.fds[fd - NR_KERNEL_FIRST].blocking ? O_NONBLOCK : 0;
}

int __real_pipe2(int fds[2], int flags);
int __wrap_pipe2(int fds[2], int flags);
int __wrap_pipe2(int fds[2], int flags)
{
    if (!nr_kernel.running)
        return __real_pipe2(fds, flags);
    if (nr_kernel.refusals.no_pipe)
        return fail(EMFILE);
    fds[0] = nr_kernel_open(NR_FD_EXEC_READ);
    fds[1] = nr_kernel_open(NR_FD_EXEC_WRITE);
    return 0;
}

int __real_signalfd(int fd, const sigset_t *mask, int flags);
int __wrap_signalfd(int fd, const sigset_t *mask, int flags);
int __wrap_signalfd(int fd, const sigset_t *mask, int flags)
{
    if (!nr_kernel.running)
        return __real_signalfd(fd, mask, flags);
    return nr_kernel.refusals.no_signalfd ? fail(EMFILE) : nr_kernel_open(NR_FD_SIGNALS);
}

static ssize_t read_signal(void *bytes, size_t room)
{
    if (!nr_world.sigchld)
        return fail(EAGAIN);
    nr_world.sigchld = false;
    struct signalfd_siginfo info = {.ssi_signo = SIGCHLD};
    INVARIANT(room >= sizeof(info), "the signal descriptor is read with %zu bytes of room", room);
    memcpy(bytes, &info, sizeof(info));
    return sizeof(info);
}

static ssize_t read_exec_pipe(void *bytes, size_t room)
{
    if (nr_kernel.exec == NR_EXEC_BROUGHT) {
        size_t length = room < sizeof(nr_kernel.exec_failed) ? room : sizeof(nr_kernel.exec_failed);
        memcpy(bytes, nr_kernel.exec_failed, length);
        nr_kernel.exec = NR_EXEC_TOLD;
        return (ssize_t)length;
    }
    return exec_pipe_ended() ? 0 : fail(EAGAIN);
}

static ssize_t read_gift(int fd, size_t room)
{
    int i = fd - NR_KERNEL_FIRST;
    size_t got = nr_kernel.fds[i].holds < room ? nr_kernel.fds[i].holds : room;
    INVARIANT(!nr_kernel.fds[i].blocking, "descriptor %d is read, and may block", fd);
    nr_kernel.fds[i].holds -= got;
    return got > 0 || nr_kernel.fds[i].ended ? (ssize_t)got : fail(EAGAIN);
}

ssize_t __real_read(int fd, void *bytes, size_t room);
ssize_t __wrap_read(int fd, void *bytes, size_t room);
ssize_t __wrap_read(int fd, void *bytes, size_t room)
{
    if (!simulated(fd))
        return __real_read(fd, bytes, room);
    switch (nr_kernel_kind(fd)) {
    case NR_FD_SIGNALS:
        return read_signal(bytes, room);
    case NR_FD_EXEC_READ:
        return read_exec_pipe(bytes, room);
    case NR_FD_GIFT:
        return read_gift(fd, room);
    default:
        nr_broken("descriptor %d of kind %d is read", fd, (int)nr_kernel_kind(fd));
    }
}

/* ---- /proc ---------------------------------------------------------------------------------- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list values;
    va_start(values, flags);
    mode_t mode = flags & O_CREAT ? va_arg(values, mode_t) : 0;
    va_end(values);

    if (!nr_kernel.running)
        return __real_open(path, flags, mode);
    if (nr_kernel.refusals.no_proc)
        return fail(ENOENT);
    if (strcmp(path, "/proc") == 0)
        return nr_kernel_open(NR_FD_PROC);
    if (strcmp(path, "/proc/thread-self/children") == 0)
        return nr_kernel.refusals.no_children ? fail(ENOENT) : nr_kernel_open(NR_FD_CHILDREN);
    nr_broken("%s is opened", path);
}

ssize_t __real_pread(int fd, void *bytes, size_t room, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t room, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t room, off_t offset)
{
    if (!simulated(fd))
        return __real_pread(fd, bytes, room, offset);
    INVARIANT(nr_kernel_kind(fd) == NR_FD_CHILDREN, "descriptor %d is read at an offset", fd);

    pid_t pids[NR_WORLD_MAX];
    char list[NR_WORLD_MAX * 8];
    unsigned count = nr_world_children(pids, NR_WORLD_MAX);
    size_t length = 0;
    for (unsigned i = 0; i < count; i++)
        length += (size_t)snprintf(list + length, sizeof(list) - length, "%d ", pids[i]);
    if ((size_t)offset >= length)
        return 0;
    size_t left = length - (size_t)offset;
    size_t most = nr_kernel.refusals.short_reads > 0 ? nr_kernel.refusals.short_reads : left;
    left = left < most ? left : most;
    left = left < room ? left : room;
    memcpy(bytes, list + offset, left);
    return (ssize_t)left;
}

struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[13]; /* the whole is 32 bytes, aligned as the kernel's */
};

static size_t put_entry(char *bytes, size_t room, const char *name)
{
    struct entry entry = {.length = sizeof(entry)};
    if (room < sizeof(entry))
        return 0;
    (void)snprintf(entry.name, sizeof(entry.name), "%s", name);
    memcpy(bytes, &entry, sizeof(entry));
    return sizeof(entry);
}

static long read_proc(int fd, char *bytes, size_t room)
{
    char name[12];
    size_t length = 0;

    INVARIANT(nr_kernel_kind(fd) == NR_FD_PROC, "descriptor %d is no folder", fd);
    if (nr_kernel.fds[fd - NR_KERNEL_FIRST].read)
        return 0;
    nr_kernel.fds[fd - NR_KERNEL_FIRST].read = true;
    length += put_entry(bytes + length, room - length, "self");
    length += put_entry(bytes + length, room - length, "1");
    for (int i = 0; i < NR_WORLD_MAX; i++) {
        if (nr_world.all[i].life == NR_NOBODY)
            continue;
        (void)snprintf(name, sizeof(name), "%d", nr_world.all[i].pid);
        length += put_entry(bytes + length, room - length, name);
    }
    return (long)length;
}

/* ---- processes ------------------------------------------------------------------------------ */

int __real_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal)
{
    return nr_kernel.running ? nr_world_kill(pid, signal) : __real_kill(pid, signal);
}

int __real_waitid(idtype_t type, id_t id, siginfo_t *end, int flags);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *end, int flags);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *end, int flags)
{
    return nr_kernel.running ? nr_world_waitid(type, id, end, flags)
                             : __real_waitid(type, id, end, flags);
}

pid_t __real_wait4(pid_t pid, int *status, int flags, struct rusage *usage);
pid_t __wrap_wait4(pid_t pid, int *status, int flags, struct rusage *usage);
pid_t __wrap_wait4(pid_t pid, int *status, int flags, struct rusage *usage)
{
    return nr_kernel.running ? nr_world_wait4(pid, status, flags)
                             : __real_wait4(pid, status, flags, usage);
}

pid_t __real_getpgid(pid_t pid);
pid_t __wrap_getpgid(pid_t pid);
pid_t __wrap_getpgid(pid_t pid)
{
    return nr_kernel.running ? nr_world_getpgid(pid) : __real_getpgid(pid);
}

pid_t __real_getpid(void);
pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
    return nr_kernel.running ? NR_WORLD_SELF : __real_getpid();
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    if (!nr_kernel.running)
        return __real_fork();
    if (nr_kernel.refusals.no_fork)
        return fail(EAGAIN);
    const struct nr_creature *child = nr_world_birth(NR_WORLD_SELF, nr_kernel.leader);
    if (child == NULL)
        return fail(EAGAIN);
    nr_kernel.forked = true;
    nr_world.watched = child->birth;
    return child->pid;
}

pid_t __wrap_vfork(void);
pid_t __wrap_vfork(void)
{
    return __wrap_fork();
}

static int open_pidfd(pid_t pid)
{
    const struct nr_creature *c = nr_world_find(pid);
    if (nr_kernel.refusals.no_pidfd)
        return fail(ENOSYS);
    if (c == NULL)
        return fail(ESRCH);
    int fd = nr_kernel_open(NR_FD_PIDFD);
    if (fd >= 0)
        nr_kernel.fds[fd - NR_KERNEL_FIRST].birth = c->birth;
    return fd;
}

static long clone_process(const struct clone_args *args)
{
    if (nr_kernel.refusals.no_clone3)
        return fail(ENOSYS);
    pid_t pid = __wrap_fork();
    if (pid > 0) {
        bool refused = nr_kernel.refusals.no_pidfd;
        nr_kernel.refusals.no_pidfd = false; /* who has clone3 has pidfds */
        *(int *)(uintptr_t)args->pidfd = open_pidfd(pid);
        nr_kernel.refusals.no_pidfd = refused;
    }
    return pid;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e);
long __wrap_syscall(long number, long a, long b, long c, long d, long e)
{
    if (!nr_kernel.running)
        return __real_syscall(number, a, b, c, d, e);
    switch (number) {
    case SYS_clone3:
        return clone_process((const void *)(uintptr_t)a);
    case SYS_pidfd_open:
        return open_pidfd((pid_t)a);
    case SYS_getdents64:
        return read_proc((int)a, (char *)(uintptr_t)b, (size_t)c);
    case SYS_rt_sigprocmask: /* the fuzzer's own signals stay as they are */
        return 0;
    default:
        nr_broken("system call %ld", number);
    }
}

int __real_prctl(int option, ...);
int __wrap_prctl(int option, long a, long b, long c, long d);
int __wrap_prctl(int option, long a, long b, long c, long d)
{
    if (!nr_kernel.running)
        return __real_prctl(option, a, b, c, d);
    if (option == PR_SET_CHILD_SUBREAPER && nr_kernel.refusals.no_subreaper)
        return fail(EINVAL);
    if (option == PR_SET_CHILD_SUBREAPER)
        nr_world.subreaper = true;
    return 0;
}

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!nr_kernel.running)
        return __real_clock_gettime(clock, time);
    INVARIANT(clock == CLOCK_MONOTONIC, "clock %d is read", (int)clock);
    time->tv_sec = (time_t)(nr_world.now / 1000);
    time->tv_nsec = (long)(nr_world.now % 1000) * 1000000;
    return 0;
}
