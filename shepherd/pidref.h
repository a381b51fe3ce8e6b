/*
 * A process as one owned value, and the only place in the tree that sends a signal.
 *
 * nr_pidref_signal and nr_pidref_signal_group end in one function that calls kill(2). It refuses pid <= 1 (a
 * failed fork must never become kill(-1)) and whatever waitid(2) does not show as our own child that
 * nobody has reaped: the pid of an unreaped child cannot be given to a stranger, and we are
 * single-threaded, so that between the look and the signal nothing can change. That is why a pidfd is
 * not needed to signal; it is what poll(2) waits on.
 *
 * Called by zygote, guardian and the rooms below them. Must never be given a pid that came from
 * outside this process as anything but a question.
 */
#ifndef NR_PIDREF_H
#define NR_PIDREF_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

struct nr_pidref {
    pid_t pid; /* 0: none */
    int pidfd; /* -EBADF where there is none (fork fallback, portable build) */
};

#define NR_PIDREF_NONE ((struct nr_pidref){.pid = 0, .pidfd = -EBADF})

/* Signals the child itself. 0 or -errno: -EINVAL (pid <= 1), -ESRCH (not our unreaped child, or it
 * has ended), what kill(2) says. */
int nr_pidref_signal(const struct nr_pidref *ref, int signal);

/* Signals the process group the child leads; the child may have ended, it must not have been
 * reaped. 0 or -errno: as above, -ESRCH also when there is no such group. */
int nr_pidref_signal_group(const struct nr_pidref *ref, int signal);

/*
 * Signals a member of a cgroup of ours that need not be our child. The one exception, and why no stranger can
 * be hit: `pidfd` was opened for `pid`, and AFTER that `pid` was seen in the list of the members. The
 * process that the pidfd means either still had its number then, and so was the member that was seen, or
 * it had ended, and then its pidfd reaches nobody any more (-ESRCH), whoever has the number now. The signal goes to the
 * pidfd, never to the number. 0 or -errno: -EINVAL (pid <= 1, ourselves), -ESRCH, -ENOSYS, -EPERM.
 */
int nr_pidref_signal_member(pid_t pid, int pidfd, int signal);

/* Whether the child leads a process group of its own. */
bool nr_pidref_leads(const struct nr_pidref *ref);

/* Closes the pidfd and forgets the pid. Twice is fine. */
void nr_pidref_close(struct nr_pidref *ref);

#endif
