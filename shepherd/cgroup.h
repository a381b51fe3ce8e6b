/*
 * The leaf: a cgroup (version 2) of one command's own, below a parent that was named. The guardian makes
 * it, has the command born in it, and removes it; the guardian itself never lives in it. Should the guardian
 * be killed, the zygote removes it (the claim, below). Called by guardian.c and zygote.c. Linux only: the
 * portable twin has none (-ENOSYS).
 *
 * It must never touch a cgroup that it has not made: a leaf that is there already is an error, no symlink
 * is followed on the way to it, and nothing but a directory of cgroup2 is taken for a parent. Nor may it
 * wait for anybody: who lives in the leaf is told by a descriptor that poll(2) knows.
 */
#ifndef NR_CGROUP_H
#define NR_CGROUP_H

#include "protocol.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * What zygote and guardian both know of one leaf, in memory that they share: the names, and whether the
 * guardian has made it. A killed guardian tells nothing any more, and a cgroup of that name may be
 * somebody else's.
 */
struct nr_cgroup_claim;

/* A claim on parent/leaf, both of which are copied. Made by the zygote before it forks the guardian.
 * 0 or -errno. */
int nr_cgroup_claim_new(struct nr_cgroup_claim **claim, const char *parent, const char *leaf);

/* The zygote's half once the guardian is forked: later forks have no use for it. */
void nr_cgroup_claim_forked(struct nr_cgroup_claim *claim);

/* Tries to remove what a killed guardian has left: kills who is in it, removes it. Whether there is nothing
 * (more) to do; if not, call again. */
bool nr_cgroup_claim_settle(struct nr_cgroup_claim *claim);

/* Gives the memory back. NULL is fine. */
void nr_cgroup_claim_free(struct nr_cgroup_claim *claim);

struct nr_cgroup {
    int parent;                    /* O_PATH */
    int leaf;                      /* a directory, close-on-exec like the others; -EBADF: no leaf */
    int events;                    /* its cgroup.events: poll(2) says POLLPRI when it changes */
    struct nr_cgroup_claim *claim; /* borrowed */
    bool by_freezer;               /* kill as kernels before 5.14 must (tests) */
};

#define NR_CGROUP_NONE ((struct nr_cgroup){.parent = -EBADF, .leaf = -EBADF, .events = -EBADF})

/* Opens the parent, makes the leaf, and writes `count` strings "file=content" into it, one after the other. 0, or
 * -errno with *detail as FAILED wants it (enum nr_cgroup_step); a leaf that was made is removed again. */
int nr_cgroup_make(struct nr_cgroup *cgroup, struct nr_cgroup_claim *claim,
                   const char *const *files, unsigned count, uint32_t *detail);

/* Whether there is a leaf of ours. */
bool nr_cgroup_is_made(const struct nr_cgroup *cgroup);

/* Whether anybody lives in the leaf or below it; somebody may, where that cannot be read. Nobody, once somebody
 * else has removed it: only an empty one can be. The look is what silences poll(2) until the next change. */
bool nr_cgroup_populated(struct nr_cgroup *cgroup);

/* SIGKILL to everybody in the leaf and below it: by cgroup.kill, or where there is none (before Linux 5.14)
 * frozen, signalled one by one, thawed. Who is born meanwhile may escape the second way: call again. */
void nr_cgroup_kill(const struct nr_cgroup *cgroup);

/* Names who is in the leaf or below it: how many they are; at most `room` are written. */
uint32_t nr_cgroup_members(const struct nr_cgroup *cgroup, uint32_t *pids, uint32_t room);

/* What the leaf has used; UINT64_MAX where this kernel, or this cgroup, does not tell. */
void nr_cgroup_usage(const struct nr_cgroup *cgroup, struct nr_usage *usage);

/* Removes the leaf, and before it what was made below it. 0 (also when it is gone already), or -errno: -EBUSY
 * while somebody lives there. Except for -EBUSY everything is closed and there is no leaf of ours any more,
 * even if the directory stays. */
int nr_cgroup_remove(struct nr_cgroup *cgroup);

/* Closes the descriptors and leaves the leaf as it is. Twice is fine. */
void nr_cgroup_close(struct nr_cgroup *cgroup);

#endif
