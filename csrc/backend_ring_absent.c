/* The portable build's twin of backend_ring.c: there is no ring, every wait is poll's. */
#include "atoms.h"
#include "backend.h"
#include "base/error.h"
#include "term.h"

static int absent_arm(ErlNifEnv *env, struct nr_handle *handle, const void *out, size_t out_length)
{
    (void)env;
    (void)handle;
    (void)out;
    (void)out_length;
    return -ENOSYS;
}

static int absent_cancel(ErlNifEnv *env, struct nr_handle *handle)
{
    (void)env;
    (void)handle;
    return 0;
}

static void absent_close(ErlNifEnv *env, struct nr_handle *handle)
{
    (void)env;
    (void)handle;
}

const struct nr_backend nr_backend_ring = {
    .name = "io_uring",
    .arm = absent_arm,
    .cancel = absent_cancel,
    .close = absent_close,
};

bool nr_backend_ring_usable(void)
{
    return false;
}

bool nr_backend_ring_tells(struct nr_handle *handle)
{
    (void)handle;
    return false;
}

void nr_backend_ring_pass(ErlNifEnv *env, struct nr_handle *handle)
{
    (void)env;
    (void)handle;
}

void nr_backend_choose(struct nr_handle *handle)
{
    (void)handle;
}

const struct nr_backend *nr_backend_first(enum nr_mode mode)
{
    (void)mode;
    return &nr_backend_poll;
}

int nr_backend_ring_type_open(ErlNifEnv *env)
{
    (void)env;
    return 0;
}

ERL_NIF_TERM nr_nif_rings_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return nr_term_error(env, -ENOSYS);
}

ERL_NIF_TERM nr_nif_ring_harvest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_badarg(env);
}

ERL_NIF_TERM nr_nif_rings_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    ERL_NIF_TERM zero = enif_make_uint(env, 0);
    const ERL_NIF_TERM keys[] = {
        nr_atoms.rings_,      nr_atoms.slots_,        nr_atoms.slots_in_use_, nr_atoms.streams_,
        nr_atoms.registered_, nr_atoms.nowait_pipes_, nr_atoms.harvests_,     nr_atoms.enters_,
        nr_atoms.fixed_,      nr_atoms.unfixed_,      nr_atoms.overflows_,    nr_atoms.ticking_,
    };
    const ERL_NIF_TERM values[] = {
        zero, zero, zero, zero, nr_atoms.false_, nr_atoms.false_, zero, zero,
        zero, zero, zero, zero,
    };
    return nr_term_map(env, keys, values, sizeof(keys) / sizeof(keys[0]));
}
