/*
 * Small conversions between terms and C values, used by every room of the NIF that speaks terms.
 * Thread: the one that runs the NIF call whose env is given.
 */
#ifndef NR_TERM_H
#define NR_TERM_H

#include "atoms.h"

#include <erl_nif.h>
#include <stdbool.h>

/* {:ok, value} */
ERL_NIF_TERM nr_term_ok(ErlNifEnv *env, ERL_NIF_TERM value);

/* The POSIX atom of an errno, lower case as OTP spells it (:enoent); :eunknown if it has no name. */
ERL_NIF_TERM nr_term_posix(ErlNifEnv *env, int error);

/* {:error, posix} of a negative errno. */
ERL_NIF_TERM nr_term_error(ErlNifEnv *env, int negative_errno);

/* A map from parallel arrays of atoms and values. */
ERL_NIF_TERM nr_term_map(ErlNifEnv *env, const ERL_NIF_TERM keys[], const ERL_NIF_TERM values[],
                         size_t count);

/* true and false. */
ERL_NIF_TERM nr_term_bool(bool value);

#endif
