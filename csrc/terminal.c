/* See terminal.h. Must never touch a descriptor that its handle may be closing: each call is made under
 * the handle's mutex, while it is open. */
#include "terminal.h"

#include "atoms.h"
#include "base/error.h"
#include "handle.h"
#include "pty.h"
#include "term.h"

#include <limits.h>
#include <string.h>

/* 0, or -errno: -ENOTTY, -EBADF when it is closed. Mutex held. */
static int check(struct nr_handle *handle)
{
    if (!handle->terminal)
        return -ENOTTY;
    return atomic_load(&handle->state) == NR_HANDLE_OPEN ? 0 : -EBADF;
}

static ERL_NIF_TERM failure(ErlNifEnv *env, int r)
{
    if (r == -EBADF)
        return enif_make_tuple2(env, nr_atoms.error_, nr_atoms.closed_);
    return nr_term_error(env, r);
}

ERL_NIF_TERM nr_nif_terminal_eof(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    unsigned char bytes[NR_PTY_EOF_MAX];
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || handle->direction != NR_WRITE)
        return enif_make_badarg(env);
    enif_mutex_lock(handle->mutex);
    int r = check(handle);
    if (r == 0)
        r = nr_pty_eof(handle->fd, handle->last_written, bytes);
    enif_mutex_unlock(handle->mutex);
    if (r < 0)
        return failure(env, r);
    ERL_NIF_TERM binary;
    memcpy(enif_make_new_binary(env, (size_t)r, &binary), bytes, (size_t)r);
    return nr_term_ok(env, binary);
}

ERL_NIF_TERM nr_nif_terminal_resize(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    unsigned rows, cols;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || !enif_get_uint(env, argv[1], &rows) ||
        !enif_get_uint(env, argv[2], &cols) || rows == 0 || rows > USHRT_MAX || cols == 0 ||
        cols > USHRT_MAX)
        return enif_make_badarg(env);
    enif_mutex_lock(handle->mutex);
    int r = check(handle);
    if (r == 0)
        r = nr_pty_resize(handle->fd, (unsigned short)rows, (unsigned short)cols);
    enif_mutex_unlock(handle->mutex);
    return r < 0 ? failure(env, r) : nr_atoms.ok_;
}
