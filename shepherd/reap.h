/*
 * The family: the leader a guardian made, and everybody who came to the guardian since. This room
 * looks and reaps; who is signalled is stop.c's. Called by guardian.c. It must never block, and never
 * reap the leader by accident: its unreaped pid is what keeps its process group ours.
 */
#ifndef NR_REAP_H
#define NR_REAP_H

#include "children.h"
#include "pidref.h"
#include "protocol.h"

#include <stdbool.h>
#include <stdint.h>

struct nr_family {
    struct nr_pidref leader;
    bool leader_ended; /* seen to have ended; its zombie may still hold the pid */
    bool condemned;    /* SIGKILL has begun: ends by it count */
    uint32_t killed;   /* others that ended by SIGKILL since */
    struct nr_children children;
};

#define NR_FAMILY_NONE                                                                             \
    ((struct nr_family){.leader = {.pid = 0, .pidfd = -EBADF}, .children = {.file = -EBADF}})

/* Whether the leader has ended (once true, always true). */
bool nr_family_leader_ended(struct nr_family *family);

/* Whether anybody lives. */
bool nr_family_alive(const struct nr_family *family);

/* Reaps who ended, except the leader. The number reaped; after NR_REAP_MAX or more, call again: a
 * family that forks without end must not keep the caller for ever. */
#define NR_REAP_MAX 1024
unsigned nr_family_reap_others(struct nr_family *family);

/* Reaps this child (never the leader) if it has ended. Whether it did. */
bool nr_family_reap_child(struct nr_family *family, pid_t pid);

/* Reaps the ended leader and fills in its end; its pid is free afterwards. 0 or -errno. */
int nr_family_reap_leader(struct nr_family *family, struct nr_exited *end);

/* Names living children. The number of all of them; at most `room` are written. */
uint32_t nr_family_survivors(struct nr_family *family, uint32_t *pids, uint32_t room);

void nr_family_close(struct nr_family *family);

#endif
