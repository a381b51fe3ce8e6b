/*
 * What NetRunner.Process says to a command's terminal that is no byte of its input: its size, the end of
 * the input. NIF functions on the handles of a master; any scheduler, none of them waits.
 */
#ifndef NR_TERMINAL_H
#define NR_TERMINAL_H

#include <erl_nif.h>

/* terminal_eof(handle) -> {:ok, bytes} | {:error, :enotty | :closed | posix}: what is to be written now for
 * the end of the input (nr_pty_eof). The handle that writes. :enotty: it is no terminal's. */
ERL_NIF_TERM nr_nif_terminal_eof(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* terminal_resize(handle, rows, cols) -> :ok | {:error, :enotty | :closed | posix}. 1..65535 each. */
ERL_NIF_TERM nr_nif_terminal_resize(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
