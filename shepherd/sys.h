/*
 * What the shepherd asks of the system beyond POSIX, as one thin seam with two twins picked by
 * CMake: sys_linux.c (pidfd, signalfd, subreaper, memfd, close_range, each with its fallback) and
 * sys_portable.c (a self-pipe, groups, nothing to enumerate children with). Called by every room of
 * the shepherd; it decides nothing.
 */
#ifndef NR_SYS_H
#define NR_SYS_H

#include "pidref.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef NR_PORTABLE
#define NR_WAIT_ALL 0
#else
#define NR_WAIT_ALL __WALL /* children made by clone(2) without SIGCHLD count too */
#endif

/* enum nr_feature: what this machine gives us. */
uint32_t nr_sys_features(void);

/* Orphans of any depth become our children. 0 or -errno (portable: -ENOSYS). */
int nr_sys_subreaper(void);

/* The name that ps(1) shows. */
void nr_sys_name(const char *name);

/* Every disposition to its default, real-time signals included. */
void nr_sys_signals_default(void);

/* Blocks every signal and returns a descriptor, close-on-exec, that becomes readable when a child
 * changes state; or -errno. A fork may go on using the descriptor of its parent (Linux) but not in
 * the portable build: call again after fork, which is right on both. */
int nr_sys_signals_open(void);

/* Makes the descriptor unreadable until the next child. */
void nr_sys_signals_drain(int fd);

/* An empty signal mask. */
void nr_sys_signals_unblock(void);

/* A descriptor, close-on-exec, readable once `pid` has ended; or -errno (portable: -ENOSYS). The
 * caller makes sure that the pid is still the one it means. */
int nr_sys_watch(pid_t pid);

/* Who made the socket pair of this end (SO_PEERCRED): its pid at that time, or -errno (portable:
 * -ENOSYS). */
pid_t nr_sys_peer(int socket);

/* Makes us the last that the out-of-memory killer takes: what we keep would be kept by nobody. Needs
 * CAP_SYS_RESOURCE. Our oom_score_adj of before (-1000..1000, proc(5)), or NR_OOM_UNCHANGED. */
#define NR_OOM_UNCHANGED INT32_MIN
int nr_sys_oom_protect(void);

/* Sets oom_score_adj; NR_OOM_UNCHANGED: nothing. Async-signal-safe. 0 or -errno (portable: -ENOSYS). */
int nr_sys_oom_set(int value);

/* setrlimit(2) by the wire's number (< NR_RLIMITS); UINT64_MAX: no limit. Async-signal-safe. 0 or -errno
 * (portable: -ENOSYS for those that POSIX does not know). */
int nr_sys_limit(unsigned which, uint64_t soft, uint64_t hard);

/* ---- privileges; async-signal-safe ---- */

/* Whether we may signal processes of any user. */
bool nr_sys_may_signal_anybody(void);

/* Gives up every capability, the ambient ones included. 0 or -errno (portable: -ENOSYS). */
int nr_sys_capabilities_drop(void);

/* Whether we have no capability, nor could give one to a program by executing it (portable: false). */
bool nr_sys_capabilities_none(void);

/* A session keyring of our own and empty, in place of the one that we have from whoever started us: who has a keyring
 * may read its keys, whoever he is (keyrings(7), "possession"). 0, also where there are none to be had, or -errno
 * (portable: 0). */
int nr_sys_keyring_leave(void);

/* From now on no program that we execute gains privileges by it. 0 or -errno (portable: -ENOSYS). */
int nr_sys_no_new_privs(void);

/* fork(2) with a pidfd, the child in this cgroup (its directory; negative: in ours) from its first
 * instruction on. 0 in the parent (child->pidfd may be -EBADF), NR_SYS_CHILD in the child, or -errno. */
#define NR_SYS_CHILD 1
int nr_sys_fork(struct nr_pidref *child, int cgroup);

/* vfork(2), with a pidfd where there are any: run(context) is the child, in our memory, and we go on once it has
 * executed a program or ended (also of SIGKILL, which it gets from our leash should we). What it writes to memory of
 * ours stays written; it must not return. 0 in the parent (child->pidfd may be -EBADF), or -errno. */
int nr_sys_vfork(struct nr_pidref *child, void (*run)(const void *context), const void *context);

/* Whether nr_sys_fork() failed for its cgroup's sake: not for want of a process, or of memory. */
bool nr_sys_fork_cgroup_refused(int error);

/* Signals whom a descriptor of nr_sys_watch() means. 0 or -errno (portable: -ENOSYS). */
int nr_sys_watched_signal(int pidfd, int signal);

/* SIGKILL for us when the thread that forked us dies (no-op where there is no such thing). 0 or
 * -errno. Does not notice a death that came before: compare getppid() afterwards. */
int nr_sys_leash(void);

/* Makes the terminal the controlling one of the session that we lead and that has none, our group its
 * foreground. Async-signal-safe. 0 or -errno. */
int nr_sys_terminal(int fd);

/* Whether any child of ours lives. False means that every child left is a zombie, and then nobody
 * descends from us any more: orphans come to a subreaper before their parent is a zombie. Portable:
 * always false, there are no children but those we forked. */
bool nr_sys_children_alive(void);

/* Closes every descriptor >= first. Async-signal-safe. 0 or -errno. */
int nr_sys_close_from(int first);

/* dup3(fd, to, O_CLOEXEC), with fd == to allowed. 0 or -errno. */
int nr_sys_move_cloexec(int fd, int to);

/* Whether fd holds exactly `length` bytes that nobody can change under us any more (a sealed memfd;
 * portable: a regular file). 0 or -errno: -EBADMSG if not. */
int nr_sys_strings_check(int fd, size_t length);

/* The bytes of such a descriptor, in memory until the process ends. 0 or -errno. */
int nr_sys_strings_load(int fd, size_t length, const char **bytes);

#endif
