/*
 * A joint: the pipe between two commands of a pipeline, as a NIF resource. Both of its ends are given away,
 * each with the start of one command (launch.c): what goes through it never comes here, and the kernel alone makes
 * a writer wait. Until an end is given away it is ours, and close-on-exec; afterwards ours is closed, or neither side
 * would ever see the other's end.
 *
 * Both ends block, as a shell's do. A joint belongs to the process that opened it: what was not given away is
 * closed when that dies.
 */
#ifndef NR_JOINT_H
#define NR_JOINT_H

#include <erl_nif.h>

struct nr_joint;

/* What an end is to the command that gets it. */
enum nr_joint_end {
    NR_JOINT_READS = 0, /* its stdin */
    NR_JOINT_WRITES = 1,
};

/* Opens the resource type. 0 or -ENOMEM; at load. */
int nr_joint_type_open(ErlNifEnv *env);

/* The joint in a term, or NULL. Borrowed: valid while the term is. */
struct nr_joint *nr_joint_get(ErlNifEnv *env, ERL_NIF_TERM term);

/* A second descriptor of one end, close-on-exec, the caller's; or -errno: -EBADF when it was given away or closed. */
int nr_joint_dup(struct nr_joint *joint, enum nr_joint_end end);

/* One end has been given away: closes ours. Twice is fine. */
void nr_joint_given(struct nr_joint *joint, enum nr_joint_end end);

/* joint_open(owner) -> {:ok, joint} | {:error, posix}. Its pipe is made as large as one of a stream gets, within
 * the budget of all pipes (pipes.h), which it takes a share of until joint_close. Normal scheduler. */
ERL_NIF_TERM nr_nif_joint_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* joint_close(joint) -> :ok. Closes what was not given away; the pipe is over and counts no more. Twice is fine. */
ERL_NIF_TERM nr_nif_joint_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
