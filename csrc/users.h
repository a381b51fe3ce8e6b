/*
 * Users and groups as the system's databases have them (passwd, group, and whatever nsswitch.conf puts
 * behind them), and who this BEAM is. Called by NetRunner.Identity before a command is started. Thread: a
 * dirty scheduler, because a directory service may be asked over the network. Nothing is cached: the
 * databases change.
 */
#ifndef NR_USERS_H
#define NR_USERS_H

#include <erl_nif.h>

/* user(name | uid) -> {:ok, {uid, gid, [gid]}}: ids, the primary group and all groups, that one included, or
 * :nil without such a user, or {:error, posix}. The name is a binary without NUL, the uid below 2^32. */
ERL_NIF_TERM nr_nif_user(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* group(name) -> {:ok, gid} | nil | {:error, posix}. */
ERL_NIF_TERM nr_nif_group(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* own_groups() -> {:ok, {egid, [gid]}} | {:error, posix}: the BEAM's own, which its shepherd has, too. */
ERL_NIF_TERM nr_nif_own_groups(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
