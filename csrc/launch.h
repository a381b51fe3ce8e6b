/*
 * Starting things: the zygote, and commands through it. What a command's start needs from this
 * process is made here (pipes, the control pair, descriptors to pass) and sent in one message; the
 * frame itself is made by NetRunner.Protocol.
 */
#ifndef NR_LAUNCH_H
#define NR_LAUNCH_H

#include <erl_nif.h>

/* zygote_start(path, owner) -> {:ok, request_control, os_pid} | {:error, posix}. Dirty I/O. */
ERL_NIF_TERM nr_nif_zygote_start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* zygote_reap(os_pid) -> :ok. Collects a zygote that ended, should this process be its parent in
 * the kernel's eyes; does nothing otherwise. */
ERL_NIF_TERM nr_nif_zygote_reap(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* zygote_ended(os_pid) -> boolean. It has ended, whether it was collected or not. */
ERL_NIF_TERM nr_nif_zygote_ended(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* No flag of the wire. */
#define NR_LAUNCH_STDERR_OURS (1U << 31)
/* The socket is the control socket of a guardian that rests, and becomes the owner's. */
#define NR_LAUNCH_RESTS (1U << 30)

/* spawn(request_control, frame, strings, flags, mode, owner, terminal, joints) ->
 *   {:ok, {control, stdin | nil, stdout | nil, stderr | nil}} | {:error, posix | {:pty, posix}}
 * frame: binary. strings: nil, or the binary that travels in a memfd (flag NR_SPAWN_STRINGS).
 * flags: those of struct nr_spawn; the pipes are made after them. NR_LAUNCH_STDERR_OURS beside them: what
 * travels as stderr is this process's own, -EBADF if that is closed. mode: 0 auto, 1 poll, 2 io_uring.
 * terminal: nil, or {rows, cols, echo, raw} (flag NR_SPAWN_PTY): the master is stdout's handle, and stdin's
 * unless that is a file.
 * joints: nil, or {stdin, stdout, stderr}: where one is a joint (joint.h), its end is passed on in place of a new
 * pipe's, and given away if all goes well; there is no handle of it.
 * With NR_LAUNCH_RESTS the control that is answered is the one that was given; after an error it is to be closed, whosever it is.
 * Normal scheduler; `spawn_large` is the same on a dirty one, for strings in a memfd. */
ERL_NIF_TERM nr_nif_spawn(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* probe(path) -> {:ok, line} | {:error, :killed | :timeout | posix}: runs the ring probe in a
 * process of its own and gives what it printed. Dirty I/O; at most 5 s. */
ERL_NIF_TERM nr_nif_probe(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* which(exe, path) -> {:ok, absolute} | {:error, posix}: execvp's search in a PATH value, without
 * its implicit current directory; empty and relative elements are skipped. An exe with a slash is
 * checked as it is. Dirty I/O, for a PATH may be on a slow file system. */
ERL_NIF_TERM nr_nif_which(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
