/*
 * Ending a family: the polite way, and the sweep. Called by guardian.c when the policy says so, and by
 * zygote.c for the children of a guardian that was killed. It
 * must never wait: it signals and looks, the guardian's loop brings it back.
 */
#ifndef NR_STOP_H
#define NR_STOP_H

#include "reap.h"

/* Signals a child and, if it leads one, its group: whoever's parent cannot be killed is reached so. */
void nr_stop_child(pid_t pid, int signal);

/* Sends `signal` and then SIGCONT (a stopped process does not see the first before the second) to
 * the leader's group; once the leader has been reaped, to each child and the group it leads. */
void nr_stop_ask(struct nr_family *family, int signal);

/* SIGKILL to the leader's group. From here on the family is condemned. */
void nr_stop_kill(struct nr_family *family);

/* Kills every child, and its group if it leads one, and reaps; again as long as that brings new
 * children to light. Whether anybody still lives: if so, call again at the next SIGCHLD or soon. */
bool nr_stop_sweep(struct nr_family *family);

#endif
