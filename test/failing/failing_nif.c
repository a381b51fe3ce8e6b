/*
 * The NIF's calls, wrapped (see failing.h; the list for the linker is made from this file by CMake): of
 * the system, of liburing, of ERTS. One role: nif.
 */
#include "failing.h"

#include <erl_nif.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

__attribute__((constructor)) static void first_role(void)
{
    failing_role = "nif";
}

/* ---- the system ----------------------------------------------------------------------------- */

FAILING_CALL(void *, NULL, calloc, (size_t count, size_t size), (count, size))
FAILING_CALL(void *, NULL, malloc, (size_t size), (size))
FAILING_CALL(void *, NULL, realloc, (void *pointer, size_t size), (pointer, size))
FAILING_CALL(void *, NULL, reallocarray, (void *pointer, size_t count, size_t size),
             (pointer, count, size))
FAILING_CALL(int, -1, eventfd, (unsigned value, int flags), (value, flags))
FAILING_CALL(int, -1, eventfd_read, (int fd, eventfd_t *value), (fd, value))
FAILING_CALL(int, -1, faccessat, (int folder, const char *path, int mode, int flags),
             (folder, path, mode, flags))
FAILING_CALL(int, -1, getgrouplist, (const char *name, gid_t gid, gid_t *groups, int *count),
             (name, gid, groups, count))
FAILING_CALL(int, -1, getgroups, (int room, gid_t *groups), (room, groups))
FAILING_CALL(int, -1, madvise, (void *at, size_t length, int advice), (at, length, advice))
FAILING_CALL(int, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
FAILING_CALL(void *, MAP_FAILED, mmap,
             (void *at, size_t length, int protection, int flags, int fd, off_t offset),
             (at, length, protection, flags, fd, offset))
FAILING_CALL(int, -1, pipe2, (int fds[2], int flags), (fds, flags))
FAILING_CALL(int, -1, poll, (struct pollfd * fds, nfds_t count, int ms), (fds, count, ms))
FAILING_CALL(ssize_t, -1, read, (int fd, void *bytes, size_t room), (fd, bytes, room))
FAILING_CALL(ssize_t, -1, recv, (int fd, void *bytes, size_t room, int flags),
             (fd, bytes, room, flags))
FAILING_CALL(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags),
             (fd, message, flags))
FAILING_CALL(int, -1, posix_openpt, (int flags), (flags))
FAILING_CALL(int, -1, grantpt, (int fd), (fd))
FAILING_CALL(int, -1, unlockpt, (int fd), (fd))
FAILING_CALL(int, -1, tcgetattr, (int fd, struct termios *modes), (fd, modes))
FAILING_CALL(int, -1, tcsetattr, (int fd, int when, const struct termios *modes), (fd, when, modes))
FAILING_CALL(int, -1, shutdown, (int fd, int how), (fd, how))
FAILING_CALL(int, -1, stat, (const char *path, struct stat *info), (path, info))
FAILING_CALL(int, -1, socketpair, (int domain, int type, int protocol, int fds[2]),
             (domain, type, protocol, fds))
FAILING_CALL(ssize_t, -1, write, (int fd, const void *bytes, size_t length), (fd, bytes, length))
FAILING_CALL(ssize_t, -1, writev, (int fd, const struct iovec *parts, int count),
             (fd, parts, count))

int __real_close(int fd);
int __wrap_close(int fd);
/* As Linux does it: the descriptor is gone, whatever close(2) says. */
int __wrap_close(int fd)
{
    int r = __real_close(fd);
    return failing_now("close") ? -1 : r;
}

/* These give the errno itself. */
FAILING_CALL(int, errno, getgrnam_r,
             (const char *name, struct group *group, char *buffer, size_t size,
              struct group **found),
             (name, group, buffer, size, found))
FAILING_CALL(int, errno, getpwnam_r,
             (const char *name, struct passwd *user, char *buffer, size_t size,
              struct passwd **found),
             (name, user, buffer, size, found))
FAILING_CALL(int, errno, getpwuid_r,
             (uid_t uid, struct passwd *user, char *buffer, size_t size, struct passwd **found),
             (uid, user, buffer, size, found))
FAILING_CALL(int, errno, ptsname_r, (int fd, char *name, size_t room), (fd, name, room))
FAILING_CALL(int, errno, pthread_mutex_init,
             (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes), (mutex, attributes))
FAILING_CALL(int, errno, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * actions),
             (actions))
FAILING_CALL(int, errno, posix_spawn_file_actions_adddup2,
             (posix_spawn_file_actions_t * actions, int from, int to), (actions, from, to))
FAILING_CALL(int, errno, posix_spawnattr_init, (posix_spawnattr_t * attributes), (attributes))
FAILING_CALL(int, errno, posix_spawn,
             (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
              const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]),
             (pid, path, actions, attributes, argv, envp))

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    /* Nothing in the NIF makes a file: there is no mode. */
    return failing_now("open") ? -1 : __real_open(path, flags);
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

/* ---- liburing: -errno ------------------------------------------------------------------------ */

FAILING_CALL(int, -errno, io_uring_queue_init_params,
             (unsigned entries, struct io_uring *ring, struct io_uring_params *params),
             (entries, ring, params))
FAILING_CALL(int, -errno, io_uring_register_buffers,
             (struct io_uring * ring, const struct iovec *parts, unsigned count),
             (ring, parts, count))
FAILING_CALL(int, -errno, io_uring_register_eventfd, (struct io_uring * ring, int fd), (ring, fd))
FAILING_CALL(int, -errno, io_uring_submit, (struct io_uring * ring), (ring))
FAILING_CALL(int, -errno, io_uring_get_events, (struct io_uring * ring), (ring))

/* ---- ERTS ------------------------------------------------------------------------------------ */

FAILING_CALL(int, 0, enif_alloc_binary, (size_t size, ErlNifBinary *binary), (size, binary))
FAILING_CALL(int, 0, enif_realloc_binary, (ErlNifBinary * binary, size_t size), (binary, size))
FAILING_CALL(ErlNifEnv *, NULL, enif_alloc_env, (void), ())
FAILING_CALL(void *, NULL, enif_alloc_resource, (ErlNifResourceType * type, size_t size),
             (type, size))
FAILING_CALL(ErlNifResourceType *, NULL, enif_init_resource_type,
             (ErlNifEnv * env, const char *name, const ErlNifResourceTypeInit *init,
              ErlNifResourceFlags flags, ErlNifResourceFlags *tried),
             (env, name, init, flags, tried))
FAILING_CALL(int, -1, enif_monitor_process,
             (ErlNifEnv * env, void *object, const ErlNifPid *pid, ErlNifMonitor *monitor),
             (env, object, pid, monitor))
/* The name is ERTS's to read: no const. */
FAILING_CALL(ErlNifMutex *, NULL, enif_mutex_create, (char *name), (name))

int __real_enif_select(ErlNifEnv *env, ErlNifEvent fd, enum ErlNifSelectFlags flags, void *object,
                       const ErlNifPid *pid, ERL_NIF_TERM ref);
int __wrap_enif_select(ErlNifEnv *env, ErlNifEvent fd, enum ErlNifSelectFlags flags, void *object,
                       const ErlNifPid *pid, ERL_NIF_TERM ref);
/* Letting go of a descriptor needs nothing and cannot fail. */
int __wrap_enif_select(ErlNifEnv *env, ErlNifEvent fd, enum ErlNifSelectFlags flags, void *object,
                       const ErlNifPid *pid, ERL_NIF_TERM ref)
{
    bool lets_go = (flags & (ERL_NIF_SELECT_STOP | ERL_NIF_SELECT_CANCEL)) != 0;
    return !lets_go && failing_now("enif_select")
               ? INT_MIN | ERL_NIF_SELECT_FAILED
               : __real_enif_select(env, fd, flags, object, pid, ref);
}

FAILING_CALL(int, INT_MIN | ERL_NIF_SELECT_FAILED, enif_select_x,
             (ErlNifEnv * env, ErlNifEvent fd, enum ErlNifSelectFlags flags, void *object,
              const ErlNifPid *pid, ERL_NIF_TERM message, ErlNifEnv *message_env),
             (env, fd, flags, object, pid, message, message_env))
