/*
 * The seam between a handle and the mechanisms that can wait for its pipe: ERTS's poll set
 * (backend_poll.c) and io_uring (backend_ring.c, or backend_ring_absent.c in the portable build).
 *
 * All functions are called with the handle's mutex held, except close, which is called without it.
 */
#ifndef NR_BACKEND_H
#define NR_BACKEND_H

#include "handle.h"

/* Conditions of arm and cancel. */
#define NR_RETRY   1 /* arm: the pipe became ready meanwhile, no wait was placed */
#define NR_PENDING 1 /* cancel: too late, the message is sent or will be */

struct nr_backend {
    const char *name;

    /* Places a wait for the handle's waiter. `out`: for a write, the bytes that wait (borrowed for
     * the call). 0, NR_RETRY or -errno (no wait was placed). */
    int (*arm)(ErlNifEnv *env, struct nr_handle *handle, const void *out, size_t out_length);

    /* Takes the wait back. 0: no message will come. NR_PENDING: one will, or has. */
    int (*cancel)(ErlNifEnv *env, struct nr_handle *handle);

    /* Lets go of the descriptor of a closing handle; ends in nr_handle_release, now or later. */
    void (*close)(ErlNifEnv *env, struct nr_handle *handle);
};

extern const struct nr_backend nr_backend_poll;
extern const struct nr_backend nr_backend_ring;

/* Which of the two a new handle of that mode starts on. */
const struct nr_backend *nr_backend_first(enum nr_mode mode);

/* Called before each arm, with the handle's mutex held: the policy of :auto, which moves a handle to a ring and back. */
void nr_backend_choose(struct nr_handle *handle);

/* Whether the rings were made. */
bool nr_backend_ring_usable(void);

/* Whether the ring of a handle is about to tell of something, of its stream or of another. */
bool nr_backend_ring_tells(struct nr_handle *handle);

/* Passing by: harvest the calling scheduler's ring if completions wait. No mutex held. */
void nr_backend_ring_pass(ErlNifEnv *env, struct nr_handle *handle);

/* NIF functions of the ring's side, listed in nif.c. */
ERL_NIF_TERM nr_nif_rings_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_ring_harvest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_rings_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
int nr_backend_ring_type_open(ErlNifEnv *env);

#endif
