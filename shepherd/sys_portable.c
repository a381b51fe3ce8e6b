/* See sys.h: the POSIX twin. What it cannot do it says so (-ENOSYS), and the shepherd then falls
 * back to hang-ups and process groups. Must never use what only Linux has. */
#include "sys.h"

#include "error.h"
#include "fd.h"
#include "protocol.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* The write end of the self-pipe: a signal handler has no other way to know it. */
static volatile sig_atomic_t handler_fd = -1;

static void on_child(int signal)
{
    (void)signal;
    int saved = errno;
    if (handler_fd >= 0)
        (void)!write(handler_fd, "", 1); /* a full pipe is readable already */
    errno = saved;
}

uint32_t nr_sys_features(void)
{
    return 0;
}

int nr_sys_subreaper(void)
{
    return -ENOSYS;
}

void nr_sys_name(const char *name)
{
    (void)name;
}

void nr_sys_signals_default(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    for (int signal = 1; signal < NSIG; signal++)
        (void)sigaction(signal, &action, NULL);
}

int nr_sys_signals_open(void)
{
    int fds[2];
    int r = nr_fd_pipe(fds);
    if (r < 0)
        return r;
    r = nr_fd_nonblock(fds[0], true);
    if (r == 0)
        r = nr_fd_nonblock(fds[1], true);
    if (r < 0)
        goto fail;

    if (handler_fd >= 0)
        (void)nr_fd_close(handler_fd);
    handler_fd = fds[1];

    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_child;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    sigset_t mask;
    sigfillset(&mask);
    sigdelset(&mask, SIGCHLD);
    if (sigaction(SIGCHLD, &action, NULL) < 0 || sigprocmask(SIG_SETMASK, &mask, NULL) < 0) {
        r = nr_errno();
        handler_fd = -1;
        goto fail;
    }
    return fds[0];

fail:
    (void)nr_fd_close(fds[0]);
    (void)nr_fd_close(fds[1]);
    return r;
}

void nr_sys_signals_drain(int fd)
{
    char bytes[64];
    while (read(fd, bytes, sizeof(bytes)) > 0)
        ;
}

void nr_sys_signals_unblock(void)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int nr_sys_watch(pid_t pid)
{
    (void)pid;
    return -ENOSYS;
}

pid_t nr_sys_peer(int socket)
{
    (void)socket;
    return -ENOSYS;
}

int nr_sys_oom_protect(void)
{
    return NR_OOM_UNCHANGED;
}

int nr_sys_oom_set(int value)
{
    return value == NR_OOM_UNCHANGED ? 0 : -ENOSYS;
}

/* Those of POSIX, at the wire's numbers; plus one, so that 0 says that there is none. */
static const int limits[NR_RLIMITS] = {
    [0] = RLIMIT_CPU + 1,  [1] = RLIMIT_FSIZE + 1,  [2] = RLIMIT_DATA + 1, [3] = RLIMIT_STACK + 1,
    [4] = RLIMIT_CORE + 1, [7] = RLIMIT_NOFILE + 1, [9] = RLIMIT_AS + 1,
};

static rlim_t limit_of(uint64_t value)
{
    return value == UINT64_MAX ? RLIM_INFINITY : (rlim_t)value;
}

int nr_sys_limit(unsigned which, uint64_t soft, uint64_t hard)
{
    const struct rlimit limit = {.rlim_cur = limit_of(soft), .rlim_max = limit_of(hard)};
    if (limits[which] == 0)
        return -ENOSYS;
    return setrlimit(limits[which] - 1, &limit) < 0 ? nr_errno() : 0;
}

bool nr_sys_may_signal_anybody(void)
{
    return geteuid() == 0;
}

/* There may be something like it that we know nothing of. */
int nr_sys_capabilities_drop(void)
{
    return -ENOSYS;
}

bool nr_sys_capabilities_none(void)
{
    return false;
}

int nr_sys_keyring_leave(void)
{
    return 0;
}

int nr_sys_no_new_privs(void)
{
    return -ENOSYS;
}

int nr_sys_fork(struct nr_pidref *child, int cgroup)
{
    *child = NR_PIDREF_NONE;
    if (cgroup >= 0)
        return -ENOSYS;
    pid_t pid = fork();
    if (pid < 0)
        return nr_errno();
    if (pid == 0)
        return NR_SYS_CHILD;
    child->pid = pid;
    return 0;
}

/* POSIX has no vfork(2) any more. */
int nr_sys_vfork(struct nr_pidref *child, void (*run)(const void *context), const void *context)
{
    int r = nr_sys_fork(child, -EBADF);
    if (r != NR_SYS_CHILD)
        return r;
    run(context);
    _exit(127);
}

bool nr_sys_fork_cgroup_refused(int error)
{
    return error == -ENOSYS;
}

int nr_sys_watched_signal(int pidfd, int signal)
{
    (void)pidfd;
    (void)signal;
    return -ENOSYS;
}

int nr_sys_leash(void)
{
    return 0;
}

int nr_sys_terminal(int fd)
{
    if (ioctl(fd, TIOCSCTTY, 0) < 0)
        return nr_errno();
    return tcsetpgrp(fd, getpgrp()) < 0 ? nr_errno() : 0;
}

bool nr_sys_children_alive(void)
{
    return false;
}

int nr_sys_close_from(int first)
{
    long most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > 65536)
        most = 65536;
    for (int fd = first; fd < (int)most; fd++)
        (void)nr_fd_close(fd);
    return 0;
}

int nr_sys_move_cloexec(int fd, int to)
{
    if (fd != to && dup2(fd, to) < 0)
        return nr_errno();
    return nr_fd_cloexec(to, true);
}

int nr_sys_strings_check(int fd, size_t length)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return nr_errno();
    if (!S_ISREG(info.st_mode) || info.st_size < 0 || (size_t)info.st_size != length)
        return -EBADMSG;
    return 0;
}

int nr_sys_strings_load(int fd, size_t length, const char **bytes)
{
    char *copy = malloc(length);
    if (copy == NULL)
        return -ENOMEM;
    /* A copy, not a mapping: without seals a shrunk file would kill us with SIGBUS. */
    size_t have = 0;
    while (have < length) {
        ssize_t got = pread(fd, copy + have, length - have, (off_t)have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int r = got < 0 ? nr_errno() : -EBADMSG;
            free(copy);
            return r;
        }
        have += (size_t)got;
    }
    *bytes = copy;
    return 0;
}
