/*
 * The atoms the NIF speaks, one list. Made once at load, read from any thread after that.
 */
#ifndef NR_ATOMS_H
#define NR_ATOMS_H

#include <erl_nif.h>

#define NR_ATOMS(X)                                                                                \
    X(again)                                                                                       \
    X(badarg)                                                                                      \
    X(bytes)                                                                                       \
    X(busy)                                                                                        \
    X(cancelled)                                                                                   \
    X(closed)                                                                                      \
    X(direction)                                                                                   \
    X(eof)                                                                                         \
    X(error)                                                                                       \
    X(eproto)                                                                                      \
    X(false)                                                                                       \
    X(fixed)                                                                                       \
    X(harvests)                                                                                    \
    X(enters)                                                                                      \
    X(io_uring)                                                                                    \
    X(more)                                                                                        \
    X(moves)                                                                                       \
    X(moves_back)                                                                                  \
    X(much)                                                                                        \
    X(nil)                                                                                         \
    X(nowait_pipes)                                                                                \
    X(ok)                                                                                          \
    X(ops)                                                                                         \
    X(overflows)                                                                                   \
    X(pending)                                                                                     \
    X(later)                                                                                       \
    X(soon)                                                                                        \
    X(pipe_bytes)                                                                                  \
    X(pipe_refused)                                                                                \
    X(poll)                                                                                        \
    X(portable)                                                                                    \
    X(pty)                                                                                         \
    X(read)                                                                                        \
    X(ready)                                                                                       \
    X(registered)                                                                                  \
    X(rings)                                                                                       \
    X(slots)                                                                                       \
    X(slots_in_use)                                                                                \
    X(streams)                                                                                     \
    X(ticking)                                                                                     \
    X(true)                                                                                        \
    X(turn)                                                                                        \
    X(undefined)                                                                                   \
    X(unfixed)                                                                                     \
    X(unseen)                                                                                      \
    X(unsure)                                                                                      \
    X(waits_io_uring)                                                                              \
    X(waits_poll)                                                                                  \
    X(write)

#define NR_ATOM_FIELD(name) ERL_NIF_TERM name##_;
struct nr_atoms {
    NR_ATOMS(NR_ATOM_FIELD)
};
#undef NR_ATOM_FIELD

extern struct nr_atoms nr_atoms;

/* Fills nr_atoms; at load. */
void nr_atoms_make(ErlNifEnv *env);

#endif
