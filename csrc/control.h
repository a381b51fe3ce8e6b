/*
 * A control socket: our end of a SOCK_SEQPACKET pair, as a NIF resource. The request socket to the
 * zygote (owned by NetRunner.Shepherd) and the control socket of each guardian (owned by the server of its
 * command, or by NetRunner.Shepherd while it rests) are both one of these.
 *
 * It is never on a ring: a hang-up through a pending ring read arrives 10 to 60 times later
 * (design.md, section 1). It closes itself when its owner dies, which is what ends a command whose
 * GenServer was killed brutally.
 */
#ifndef NR_CONTROL_H
#define NR_CONTROL_H

#include <erl_nif.h>
#include <stddef.h>

int nr_control_type_open(ErlNifEnv *env);

/* Makes a control resource that owns fd (also on failure) and closes when owner dies. A term of it,
 * or 0 with no memory or a dead owner. */
ERL_NIF_TERM nr_control_new_take(ErlNifEnv *env, int fd, const ErlNifPid *owner);

/* Sends one frame with `count` descriptors (at most NR_SPAWN_FDS_MAX), which stay the caller's. 0 or -errno; -EBADF: closed. Never
 * blocks: -EAGAIN when the peer does not read. */
int nr_control_send(ErlNifEnv *env, ERL_NIF_TERM term, const ErlNifBinary *frame, const int fds[],
                    size_t count);

/* From now on it closes when `owner` dies, and with nobody else; nobody waits for it to become readable. 0; -EBADF: closed;
 * -ESRCH: no such process, and it is still the owner's before. */
int nr_control_give(ErlNifEnv *env, ERL_NIF_TERM term, const ErlNifPid *owner);

/* control_recv(control) -> {:ok, frame} | :again | :eof | {:error, :closed | posix}
 * :again: {:select, control, :undefined, :ready_input} will come to the calling process. */
ERL_NIF_TERM nr_nif_control_recv(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* control_send(control, frame, handles) -> :ok | {:error, :closed | posix}, with the descriptors of
 * those handles that are open (they stay ours too). Never blocks: :eagain when the peer does not read. */
ERL_NIF_TERM nr_nif_control_send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* control_kill(control, os_pid) -> :ok | {:error, :closed | :esrch | posix}: SIGKILL to the process that
 * holds the other end, known by the pid it gave in STARTED. Only for a guardian that does not answer
 * while its zygote, whose task this is, is gone. */
ERL_NIF_TERM nr_nif_control_kill(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* control_give(control, owner) -> :ok | {:error, :closed | :esrch}: as nr_control_give. */
ERL_NIF_TERM nr_nif_control_give(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* control_close(control) -> :ok, also the second time. The peer sees a hang-up. */
ERL_NIF_TERM nr_nif_control_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
