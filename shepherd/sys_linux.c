/* See sys.h: the Linux twin. Every call newer than 5.10, or refused by seccomp profiles in use, has
 * a fallback here and nowhere else. Must never decide policy. */
#include "sys.h"

#include "children.h"
#include "dirents.h"
#include "error.h"
#include "fd.h"
#include "protocol.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel's mask, not glibc's: sigfillset() leaves out 32 and 33, which would kill us. */
typedef uint64_t kernel_mask;

static void set_mask(kernel_mask mask)
{
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

uint32_t nr_sys_features(void)
{
    uint32_t features = 0;
    int subreaper = 0;

    if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper)
        features |= NR_FEATURE_SUBREAPER;
    int pidfd = nr_sys_watch(getpid());
    if (pidfd >= 0)
        features |= NR_FEATURE_PIDFD;
    (void)nr_fd_close(pidfd);
    struct nr_children children = NR_CHILDREN_NONE;
    if (nr_children_each(&children, NULL, NULL) == 0)
        features |= NR_FEATURE_CHILDREN;
    nr_children_close(&children);
    return features;
}

int nr_sys_subreaper(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? nr_errno() : 0;
}

void nr_sys_name(const char *name)
{
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
}

void nr_sys_signals_default(void)
{
    /* struct kernel_sigaction is not in any header; all zero is SIG_DFL with no flags, and no
     * architecture's is larger than this. */
    unsigned char nothing[64] = {0};
    for (int signal = 1; signal <= 64; signal++) {
        if (signal != SIGKILL && signal != SIGSTOP)
            (void)syscall(SYS_rt_sigaction, signal, nothing, NULL, sizeof(kernel_mask));
    }
}

int nr_sys_signals_open(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);

    set_mask(~(kernel_mask)0);
    int fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? nr_errno() : fd;
}

void nr_sys_signals_drain(int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
}

void nr_sys_signals_unblock(void)
{
    set_mask(0);
}

int nr_sys_watch(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0U);
    return fd < 0 ? nr_errno() : (int)fd;
}

pid_t nr_sys_peer(int socket)
{
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? nr_errno() : peer.pid;
}

#define OOM_SCORE_ADJ "/proc/self/oom_score_adj"
/* As systemd has it for what a system cannot do without (dbus, its own journal is at -250). */
#define OOM_PROTECTED (-900)

int nr_sys_oom_protect(void)
{
    char text[16] = {0};
    int file = open(OOM_SCORE_ADJ, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
    (void)nr_fd_close(file);
    if (got <= 0)
        return NR_OOM_UNCHANGED;
    int before = atoi(text);
    if (before <= OOM_PROTECTED || nr_sys_oom_set(OOM_PROTECTED) < 0)
        return NR_OOM_UNCHANGED;
    return before;
}

int nr_sys_oom_set(int value)
{
    if (value == NR_OOM_UNCHANGED)
        return 0;

    char text[16];
    char *at = text + sizeof(text);
    unsigned rest = value < 0 ? (unsigned)-value : (unsigned)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--at = '-';

    int file = open(OOM_SCORE_ADJ, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return nr_errno();
    int r = nr_fd_write_all(file, at, (size_t)(text + sizeof(text) - at));
    (void)nr_fd_close(file);
    return r;
}

/* The wire's numbers are those of most architectures, not of all. (setrlimit takes an enum in glibc, an int in musl.) */
static const unsigned char limits[NR_RLIMITS] = {
    RLIMIT_CPU,      RLIMIT_FSIZE,  RLIMIT_DATA,    RLIMIT_STACK,  RLIMIT_CORE,  RLIMIT_RSS,
    RLIMIT_NPROC,    RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS,     RLIMIT_LOCKS, RLIMIT_SIGPENDING,
    RLIMIT_MSGQUEUE, RLIMIT_NICE,   RLIMIT_RTPRIO,  RLIMIT_RTTIME,
};

static rlim_t limit_of(uint64_t value)
{
    return value == UINT64_MAX ? RLIM_INFINITY : (rlim_t)value;
}

int nr_sys_limit(unsigned which, uint64_t soft, uint64_t hard)
{
    const struct rlimit limit = {.rlim_cur = limit_of(soft), .rlim_max = limit_of(hard)};
    return setrlimit(limits[which], &limit) < 0 ? nr_errno() : 0;
}

/* The calls themselves: libcap would be one more library, and glibc has no wrapper. */
struct capabilities {
    struct __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3];
};

static int get_capabilities(struct capabilities *capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, capabilities->words) < 0 ? nr_errno() : 0;
}

bool nr_sys_may_signal_anybody(void)
{
    struct capabilities ours;
    return get_capabilities(&ours) == 0 &&
           (ours.words[CAP_TO_INDEX(CAP_KILL)].effective & CAP_TO_MASK(CAP_KILL));
}

int nr_sys_capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct capabilities none = {0};

    /* The ambient ones go with those that they are a part of (cap_capset in security/commoncap.c). */
    return syscall(SYS_capset, &header, none.words) < 0 ? nr_errno() : 0;
}

/* An ambient capability is permitted and inheritable: without those there is none. */
bool nr_sys_capabilities_none(void)
{
    struct capabilities ours;
    if (get_capabilities(&ours) < 0)
        return false;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        if (ours.words[i].effective | ours.words[i].permitted | ours.words[i].inheritable)
            return false;
    return true;
}

/* Where a filter refuses keyctl(2) (Docker's does) the command cannot reach a key either, for it has that filter. One
 * that refuses the joining only is another matter. */
int nr_sys_keyring_leave(void)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0 || errno == ENOSYS)
        return 0;
    int r = nr_errno();
    if (syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) < 0 &&
        (errno == EPERM || errno == ENOSYS))
        return 0;
    return r;
}

int nr_sys_no_new_privs(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? nr_errno() : 0;
}

/* The child of a fork that could not be born in its cgroup: nothing of it happens anywhere else. It waits until
 * its parent has put it there, and ends if that cannot be done. */
static void wait_for_cgroup(const int hold[2])
{
    char word;
    ssize_t got;

    (void)nr_fd_close(hold[1]); /* or our parent's death would not be seen */
    do {
        got = read(hold[0], &word, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1)
        _exit(127);
    (void)nr_fd_close(hold[0]);
}

static int put_into_cgroup(pid_t pid, int cgroup)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%d", pid);
    int file = openat(cgroup, "cgroup.procs", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return nr_errno();
    int r = nr_fd_write_all(file, text, (size_t)length);
    (void)nr_fd_close(file);
    return r;
}

/* Our child that no clone3(2) gave a pidfd with. */
static void watch_child(struct nr_pidref *child, pid_t pid)
{
    int pidfd = nr_sys_watch(pid);
    child->pid = pid;
    child->pidfd = pidfd < 0 ? -EBADF : pidfd;
}

/* fork(2), where clone3(2) or its way into a cgroup is refused. */
static int fork_held(struct nr_pidref *child, int cgroup)
{
    int hold[2] = {-EBADF, -EBADF};
    int r = cgroup >= 0 ? nr_fd_pipe(hold) : 0;
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid == 0) {
        if (cgroup >= 0)
            wait_for_cgroup(hold);
        return NR_SYS_CHILD;
    }
    r = pid < 0 ? nr_errno() : 0;
    if (r == 0 && cgroup >= 0)
        r = put_into_cgroup(pid, cgroup);
    if (r == 0 && cgroup >= 0)
        r = nr_fd_write_all(hold[1], "x", 1);
    (void)nr_fd_close(hold[0]);
    (void)nr_fd_close(hold[1]); /* unless it was told, it ends */
    if (r < 0) {
        if (pid > 0)
            (void)waitpid(pid, NULL, NR_WAIT_ALL);
        return r;
    }
    watch_child(child, pid);
    return 0;
}

/* clone3(2) is newer than the oldest kernel in use (5.3) and refused by seccomp profiles, a cgroup for the
 * child is newer still (5.7): before, it is too long a structure, or a flag without a meaning. */
static bool clone3_is_refused(int cgroup)
{
    return errno == ENOSYS || errno == EPERM ||
           (cgroup >= 0 && (errno == E2BIG || errno == EINVAL));
}

int nr_sys_fork(struct nr_pidref *child, int cgroup)
{
    int pidfd = -EBADF;
    struct clone_args args = {
        .flags = CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (__u64)(unsigned)cgroup;
    }

    *child = NR_PIDREF_NONE;
    long pid =
        syscall(SYS_clone3, &args, cgroup >= 0 ? CLONE_ARGS_SIZE_VER2 : CLONE_ARGS_SIZE_VER0);
    if (pid < 0 && clone3_is_refused(cgroup))
        return fork_held(child, cgroup);
    if (pid < 0)
        return nr_errno();
    if (pid == 0)
        return NR_SYS_CHILD;
    child->pid = (pid_t)pid;
    child->pidfd = pidfd;
    return 0;
}

int nr_sys_vfork(struct nr_pidref *child, void (*run)(const void *context), const void *context)
{
    *child = NR_PIDREF_NONE;
    /* What the checks are against is what sys.h asks of `run`. */
    pid_t pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
    if (pid == 0) {
        run(context); /* NOLINT(clang-analyzer-unix.Vfork) */
        _exit(127);
    }
    if (pid < 0)
        return nr_errno();
    watch_child(child, pid);
    return 0;
}

bool nr_sys_fork_cgroup_refused(int error)
{
    return error != -EAGAIN && error != -ENOMEM && error != -EMFILE && error != -ENFILE;
}

int nr_sys_watched_signal(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0U) < 0 ? nr_errno() : 0;
}

int nr_sys_leash(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? nr_errno() : 0;
}

/* The group in the foreground becomes ours by the same call (tty_jobctrl.c, __proc_set_tty). */
int nr_sys_terminal(int fd)
{
    return ioctl(fd, TIOCSCTTY, 0) < 0 ? nr_errno() : 0;
}

/* Without WEXITED a zombie is no candidate, and no candidate at all is ECHILD (do_wait in
 * kernel/exit.c, one look under the task list's lock). It needs no /proc and sees past the leader's
 * zombie, behind which waitid(P_ALL, WEXITED) hides all others. */
bool nr_sys_children_alive(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | WNOWAIT | NR_WAIT_ALL) == 0 ||
           errno != ECHILD;
}

static int close_listed(int first)
{
    int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return nr_errno();

    int closed;
    int r;
    do { /* closing entries while walking may skip some: walk until nothing is left to close */
        closed = 0;
        r = lseek(directory, 0, SEEK_SET) < 0 ? nr_errno() : 0;
        if (r < 0)
            break;
        struct nr_dirents walk;
        const struct nr_dirent *entry;
        nr_dirents_begin(&walk, directory);
        while ((entry = nr_dirents_next(&walk)) != NULL) {
            if (entry->name[0] < '0' || entry->name[0] > '9')
                continue;
            int fd = atoi(entry->name);
            if (fd >= first && fd != directory) {
                (void)nr_fd_close(fd);
                closed++;
            }
        }
        r = (int)walk.got; /* not walked to its end: who knows what is left */
    } while (r == 0 && closed > 0);
    (void)nr_fd_close(directory);
    return r;
}

int nr_sys_close_from(int first)
{
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0)
        return 0;
    if (close_listed(first) == 0)
        return 0;

    struct rlimit limit;
    rlim_t most = 65536;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < most)
        most = limit.rlim_cur;
    for (int fd = first; (rlim_t)fd < most; fd++)
        (void)nr_fd_close(fd);
    return 0;
}

int nr_sys_move_cloexec(int fd, int to)
{
    if (fd == to)
        return nr_fd_cloexec(fd, true);
    return dup3(fd, to, O_CLOEXEC) < 0 ? nr_errno() : 0;
}

int nr_sys_strings_check(int fd, size_t length)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return nr_errno();
    if (!S_ISREG(info.st_mode) || info.st_size < 0 || (size_t)info.st_size != length)
        return -EBADMSG;
    /* Only memfds and tmpfs files know seals; F_GET_SEALS gives EINVAL on anything else. */
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EBADMSG;
    return 0;
}

int nr_sys_strings_load(int fd, size_t length, const char **bytes)
{
    void *map = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return nr_errno();
    *bytes = map;
    return 0;
}
