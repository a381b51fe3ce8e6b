/*
 * What the child makes of itself before it executes the command: its limits, then who it is, then what it
 * gives up for good. Called by exec.c in the child, between fork and exec, in this order: async-signal-safe
 * calls only. A setting that cannot be had is a start that fails: nothing here may go on with less than
 * was asked.
 */
#ifndef NR_SETTINGS_H
#define NR_SETTINGS_H

#include "order.h"

/* Each: 0, or -errno, with failed->stage and failed->detail saying what it was. */

/* umask, nice, oom_score_adj (the order's own where the settings say nothing) and the resource limits. Opens
 * a file: descriptors must be had. */
int nr_settings_limits(const struct nr_order *order, struct nr_failed *failed);

/* Gives the terminal, if there is one, to the user, if there is one: who is somebody else could not open it by
 * its name, as tmux(1) and gpg(1) do. Needs CAP_CHOWN; without it the terminal stays the BEAM's user's. */
void nr_settings_terminal(const struct nr_order *order);

/* Groups and user, all three ids of each; with a user no capability is left; verified. Clears the leash
 * (commit_creds in kernel/cred.c): it must be asked for again. */
int nr_settings_identity(const struct nr_order *order, struct nr_failed *failed);

/* no_new_privs. */
int nr_settings_privileges(const struct nr_order *order, struct nr_failed *failed);

#endif
