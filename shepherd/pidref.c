/* See pidref.h: the one place that signals, and its refusals. */
#include "pidref.h"

#include "error.h"
#include "fd.h"
#include "sys.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum target {
    THE_PROCESS,
    ITS_GROUP,
};

static int deliver(pid_t pid, enum target target, int signal)
{
    siginfo_t end = {0};

    if (pid <= 1)
        return -EINVAL;
    if (waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT | NR_WAIT_ALL) < 0)
        return errno == ECHILD ? -ESRCH : nr_errno();
    if (target == THE_PROCESS && end.si_pid == pid)
        return -ESRCH;
    return kill(target == ITS_GROUP ? -pid : pid, signal) < 0 ? nr_errno() : 0;
}

int nr_pidref_signal(const struct nr_pidref *ref, int signal)
{
    return deliver(ref->pid, THE_PROCESS, signal);
}

int nr_pidref_signal_group(const struct nr_pidref *ref, int signal)
{
    return deliver(ref->pid, ITS_GROUP, signal);
}

int nr_pidref_signal_member(pid_t pid, int pidfd, int signal)
{
    if (pid <= 1 || pid == getpid() || pidfd < 0)
        return -EINVAL;
    return nr_sys_watched_signal(pidfd, signal);
}

bool nr_pidref_leads(const struct nr_pidref *ref)
{
    return ref->pid > 1 && getpgid(ref->pid) == ref->pid;
}

void nr_pidref_close(struct nr_pidref *ref)
{
    ref->pidfd = nr_fd_close(ref->pidfd);
    ref->pid = 0;
}
