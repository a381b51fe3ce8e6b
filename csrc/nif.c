/*
 * The NIF library of NetRunner.Nif: the function table and the load hook, nothing else.
 *
 * Loading makes the atoms and opens the resource types. When the Elixir module is loaded again from the
 * same place (c:l/1, a recompilation), the dynamic linker gives the same copy of this library: it takes
 * its own resources over and everything goes on. Another copy is refused: it could not take over what
 * the first one's rings and poll sets hold. If the module was deleted and purged before, its resources
 * have lost their type: rings go on, handles of before are no handles any more (docs/limits.md).
 */
#include "atoms.h"
#include "backend.h"
#include "control.h"
#include "handle.h"
#include "io.h"
#include "joint.h"
#include "launch.h"
#include "terminal.h"
#include "turns.h"
#include "users.h"

#include <erl_nif.h>

/* Its address tells this copy of the library from others. */
static char this_copy;

#define NOT_LOADED 1

static int open_types(ErlNifEnv *env, void **private_data)
{
    nr_atoms_make(env);
    if (nr_turns_open() < 0 || nr_handle_type_open(env) < 0 || nr_control_type_open(env) < 0 ||
        nr_backend_ring_type_open(env) < 0 || nr_joint_type_open(env) < 0)
        return NOT_LOADED;
    *private_data = &this_copy;
    return 0;
}

static int on_load(ErlNifEnv *env, void **private_data, ERL_NIF_TERM info)
{
    (void)info;
    return open_types(env, private_data);
}

static int on_upgrade(ErlNifEnv *env, void **private_data, void **old_private_data,
                      ERL_NIF_TERM info)
{
    (void)info;
    return *old_private_data == &this_copy ? open_types(env, private_data) : NOT_LOADED;
}

/* build() -> :io_uring | :portable: which variant this library was built as. */
static ERL_NIF_TERM nif_build(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)env;
    (void)argc;
    (void)argv;
#ifdef NR_PORTABLE
    return nr_atoms.portable_;
#else
    return nr_atoms.io_uring_;
#endif
}

static ErlNifFunc functions[] = {
    {"build", 0, nif_build, 0},
    {"read", 3, nr_nif_read, 0},
    {"read_coalescing", 3, nr_nif_read_coalescing, 0},
    {"read_patiently", 3, nr_nif_read_patiently, 0},
    {"write", 3, nr_nif_write, 0},
    {"cancel", 1, nr_nif_cancel, 0},
    {"take_written", 1, nr_nif_take_written, 0},
    {"unread", 2, nr_nif_unread, 0},
    {"close", 1, nr_nif_close, 0},
    {"finish", 1, nr_nif_finish, 0},
    {"handle_info", 1, nr_nif_handle_info, 0},
    {"terminal_eof", 1, nr_nif_terminal_eof, 0},
    {"terminal_resize", 3, nr_nif_terminal_resize, 0},
    {"control_recv", 1, nr_nif_control_recv, 0},
    {"control_send", 3, nr_nif_control_send, 0},
    {"control_kill", 2, nr_nif_control_kill, 0},
    {"control_give", 2, nr_nif_control_give, 0},
    {"control_close", 1, nr_nif_control_close, 0},
    {"zygote_start", 2, nr_nif_zygote_start, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"zygote_reap", 1, nr_nif_zygote_reap, 0},
    {"zygote_ended", 1, nr_nif_zygote_ended, 0},
    {"spawn", 8, nr_nif_spawn, 0},
    {"spawn_large", 8, nr_nif_spawn, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"joint_open", 1, nr_nif_joint_open, 0},
    {"joint_close", 1, nr_nif_joint_close, 0},
    {"which", 2, nr_nif_which, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"user", 1, nr_nif_user, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"group", 1, nr_nif_group, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"own_groups", 0, nr_nif_own_groups, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"probe", 1, nr_nif_probe, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"turns_watch", 1, nr_nif_turns_watch, 0},
    {"turns_let_in", 2, nr_nif_turns_let_in, 0},
    {"turns_rest", 0, nr_nif_turns_rest, 0},
    {"turns_spread", 1, nr_nif_turns_spread, 0},
    {"turns_moves", 0, nr_nif_turns_moves, 0},
    {"rings_open", 2, nr_nif_rings_open, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"ring_harvest", 1, nr_nif_ring_harvest, 0},
    {"rings_info", 0, nr_nif_rings_info, 0},
};

ERL_NIF_INIT(Elixir.NetRunner.Nif, functions, on_load, NULL, on_upgrade, NULL)
