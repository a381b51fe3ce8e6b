/*
 * The shepherd's calls, wrapped (see failing.h; the list for the linker is made from this file by
 * CMake). Roles: zygote, guardian, child. kill(2) is watched as well: a signal to everybody, or to
 * somebody who is not our unreaped child, is counted and not sent.
 */
#include "failing.h"
#include "failing_syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((constructor)) static void first_role(void)
{
    failing_role = "zygote";
}

static void next_role(void)
{
    failing_role = strcmp(failing_role, "zygote") == 0 ? "guardian" : "child";
}

FAILING_CALL(int, -1, chdir, (const char *path), (path))
FAILING_CALL(int, -1, dup2, (int from, int to), (from, to))
FAILING_CALL(int, -1, dup3, (int from, int to, int flags), (from, to, flags))
FAILING_CALL(int, -1, execve, (const char *path, char *const argv[], char *const envp[]),
             (path, argv, envp))
FAILING_CALL(int, -1, faccessat, (int folder, const char *path, int mode, int flags),
             (folder, path, mode, flags))
FAILING_CALL(int, -1, fchdir, (int fd), (fd))
FAILING_CALL(int, -1, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
FAILING_CALL(int, -1, fstat, (int fd, struct stat *info), (fd, info))
FAILING_CALL(int, -1, getgroups, (int room, gid_t groups[]), (room, groups))
FAILING_CALL(int, -1, getresgid, (gid_t * gid, gid_t *effective, gid_t *saved),
             (gid, effective, saved))
FAILING_CALL(int, -1, getresuid, (uid_t * uid, uid_t *effective, uid_t *saved),
             (uid, effective, saved))
FAILING_CALL(int, -1, getrlimit, (__rlimit_resource_t which, struct rlimit *limit), (which, limit))
FAILING_CALL(int, -1, getsockopt, (int fd, int level, int what, void *value, socklen_t *size),
             (fd, level, what, value, size))
FAILING_CALL(int, -1, fstatat, (int folder, const char *path, struct stat *info, int flags),
             (folder, path, info, flags))
FAILING_CALL(int, -1, fstatfs, (int fd, struct statfs *info), (fd, info))
FAILING_CALL(off_t, -1, lseek, (int fd, off_t offset, int whence), (fd, offset, whence))
FAILING_CALL(void *, NULL, malloc, (size_t size), (size))
FAILING_CALL(int, -1, madvise, (void *at, size_t length, int advice), (at, length, advice))
FAILING_CALL(int, -1, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode))
FAILING_CALL(void *, MAP_FAILED, mmap,
             (void *at, size_t length, int protection, int flags, int fd, off_t offset),
             (at, length, protection, flags, fd, offset))
FAILING_CALL(int, -1, pipe2, (int fds[2], int flags), (fds, flags))
FAILING_CALL(int, -1, poll, (struct pollfd * fds, nfds_t count, int ms), (fds, count, ms))
FAILING_CALL(ssize_t, -1, pread, (int fd, void *bytes, size_t room, off_t offset),
             (fd, bytes, room, offset))
FAILING_CALL(ssize_t, -1, read, (int fd, void *bytes, size_t room), (fd, bytes, room))
FAILING_CALL(ssize_t, -1, recvmsg, (int fd, struct msghdr *message, int flags),
             (fd, message, flags))
FAILING_CALL(ssize_t, -1, send, (int fd, const void *bytes, size_t length, int flags),
             (fd, bytes, length, flags))
FAILING_CALL(int, -1, setgroups, (size_t count, const gid_t *groups), (count, groups))
FAILING_CALL(int, -1, setpriority, (__priority_which_t which, id_t who, int priority),
             (which, who, priority))
FAILING_CALL(int, -1, setresgid, (gid_t gid, gid_t effective, gid_t saved), (gid, effective, saved))
FAILING_CALL(int, -1, setresuid, (uid_t uid, uid_t effective, uid_t saved), (uid, effective, saved))
FAILING_CALL(int, -1, setrlimit, (__rlimit_resource_t which, const struct rlimit *limit),
             (which, limit))
FAILING_CALL(pid_t, -1, setsid, (void), ())
FAILING_CALL(int, -1, shutdown, (int fd, int how), (fd, how))
FAILING_CALL(int, -1, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
FAILING_CALL(int, -1, unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
FAILING_CALL(pid_t, -1, waitpid, (pid_t pid, int *status, int options), (pid, status, options))
FAILING_CALL(pid_t, -1, wait4, (pid_t pid, int *status, int options, struct rusage *usage),
             (pid, status, options, usage))
FAILING_CALL(ssize_t, -1, write, (int fd, const void *bytes, size_t length), (fd, bytes, length))

int __real_close(int fd);
int __wrap_close(int fd);
/* As Linux does it: the descriptor is gone, whatever close(2) says. */
int __wrap_close(int fd)
{
    int r = __real_close(fd);
    return failing_now("close") ? -1 : r;
}

pid_t __real_fork(void);
static pid_t fork_as(const char *call)
{
    if (failing_now(call))
        return -1;
    pid_t pid = __real_fork();
    if (pid == 0)
        next_role();
    return pid;
}

pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    return fork_as("fork");
}

/* __real_vfork() is never called: a wrapper that returned twice would break the stack on which it returns. Here a child
 * has memory of its own, its role among it. */
pid_t __wrap_vfork(void);
pid_t __wrap_vfork(void)
{
    return fork_as("vfork");
}

int __real_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal)
{
    siginfo_t info;
    pid_t whom = pid < -1 ? -pid : pid;
    if (whom <= 1 || waitid(P_PID, (id_t)whom, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
        failing_note_stranger();
        errno = EPERM;
        return -1;
    }
    return failing_now("kill") ? -1 : __real_kill(pid, signal);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    /* Nothing in the shepherd makes a file: there is no mode. */
    return failing_now("open") ? -1 : __real_open(path, flags);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return failing_now("openat") ? -1 : __real_openat(folder, path, flags, mode);
}

int __real_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...)
{
    va_list rest;
    va_start(rest, what);
    long argument = va_arg(rest, long);
    va_end(rest);
    return failing_now("fcntl") ? -1 : __real_fcntl(fd, what, argument);
}

int __real_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...)
{
    va_list rest;
    va_start(rest, what);
    long argument = va_arg(rest, long);
    va_end(rest);
    return failing_now("ioctl") ? -1 : __real_ioctl(fd, what, argument);
}

int __real_prctl(int what, ...);
int __wrap_prctl(int what, ...);
int __wrap_prctl(int what, ...)
{
    unsigned long arguments[4];
    va_list rest;
    va_start(rest, what);
    for (int i = 0; i < 4; i++)
        arguments[i] = va_arg(rest, unsigned long);
    va_end(rest);
    return failing_now("prctl")
               ? -1
               : __real_prctl(what, arguments[0], arguments[1], arguments[2], arguments[3]);
}

#define FAILING_CASE(name)                                                                         \
    case SYS_##name:                                                                               \
        return #name;

static const char *call_name(long number)
{
    switch (number) {
        FAILING_SYSCALLS(FAILING_CASE)
    default:
        (void)fprintf(stderr, "call %ld is not in failing_syscalls.h\n", number);
        abort();
    }
}

/* As libc's own, it takes six words, however many were passed: that is not for a sanitizer to judge. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(rest, long);
    va_end(rest);
    if (failing_now(call_name(number)))
        return -1;
    long r = __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                            arguments[4], arguments[5]);
    if (number == SYS_clone3 && r == 0)
        next_role();
    return r;
}
