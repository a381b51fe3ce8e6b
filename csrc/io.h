/*
 * Reading and writing a handle: the fast path that every byte takes, on a normal scheduler, and the
 * hand-over to a backend when the pipe is not ready. The NIF functions that NetRunner.Pipe calls.
 */
#ifndef NR_IO_H
#define NR_IO_H

#include <erl_nif.h>

/* read(handle, max, ref) -> {:ok, binary} | :eof | :again | {:error, :busy | :closed | posix}
 * :again: nothing yet; {ref, :ready} will come, then call again. At most 64 KiB per call. */
ERL_NIF_TERM nr_nif_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* read_coalescing(handle, max, ref): the same, or
 * {:later, ms}, from a pipe that is empty now and fills fast (coalesce.h): call again when the clock's next ms milliseconds have begun. No message
 * will come for that. */
ERL_NIF_TERM nr_nif_read_coalescing(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* read_patiently(handle, max, ref): the same, or
 * :soon, from a pipe that is empty now and answers fast (patience.h), or in a crowd: yield, and call again. No message will come for
 * that;
 * :unseen, as :again, but the pipe was not looked at: it was empty last time, and {ref, :ready} will come for what came
 * since. Before the wait is given up, cancel it and look, with read/3;
 * :turn, as :unseen, but what is waited for is the caller's turn (turns.h), and there may be something any time;
 * :unsure, as :unseen, but do so also if nothing comes for long: the pipe may have given one packet of several (O_DIRECT,
 * pipe(2)), of which a ring does not tell. */
ERL_NIF_TERM nr_nif_read_patiently(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* write(handle, iovec, ref) -> {:ok, bytes} | :again | {:error, :busy | :closed | posix}
 * iovec: a list of binaries, as :erlang.iolist_to_iovec/1 makes it. {:ok, bytes} may be short: call
 * again with the rest. :again: nothing was taken; {ref, :ready} will come, then call again with
 * the same bytes (or cancel first: a ring may take some of them meanwhile, and says so then). */
ERL_NIF_TERM nr_nif_write(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* cancel(handle) -> :cancelled (no message will come) | :pending (it will: receive it)
 * Only for the process that waits. */
ERL_NIF_TERM nr_nif_cancel(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* take_written(handle) -> bytes that a ring took for this process since its last write call. */
ERL_NIF_TERM nr_nif_take_written(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* unread(handle, binary) -> :ok | {:error, :closed | :enomem}: bytes that were read go back: the next read
 * gets them first. They count as not read. */
ERL_NIF_TERM nr_nif_unread(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* close(handle) -> :ok, also the second time. */
ERL_NIF_TERM nr_nif_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* finish(handle) -> :ok: see nr_handle_finish. */
ERL_NIF_TERM nr_nif_finish(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* handle_info(handle) -> a map of struct nr_handle_stats and the backend in use. */
ERL_NIF_TERM nr_nif_handle_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
