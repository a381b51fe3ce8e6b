/*
 * Waiting through ERTS's own poll set: enif_select with our message. It is the whole product where
 * io_uring is refused, and the cheapest wait for a lone stream.
 */
#include "atoms.h"
#include "backend.h"
#include "base/error.h"

#include <erl_nif.h>

static int poll_arm(ErlNifEnv *env, struct nr_handle *handle, const void *out, size_t out_length)
{
    (void)out;
    (void)out_length;
    ERL_NIF_TERM ref = enif_make_copy(env, handle->wait_ref);
    ERL_NIF_TERM message = enif_make_tuple2(env, ref, nr_atoms.ready_);
    int r = handle->direction == NR_READ
                ? enif_select_read(env, handle->fd, handle, &handle->waiter, message, NULL)
                : enif_select_write(env, handle->fd, handle, &handle->waiter, message, NULL);
    if (r < 0)
        return r & ERL_NIF_SELECT_INVALID_EVENT ? -EBADF : -ENOMEM;
    atomic_fetch_or(&handle->holders, NR_HOLDER_SELECT);
    handle->stats.waits_poll++;
    return 0;
}

static int poll_cancel(ErlNifEnv *env, struct nr_handle *handle)
{
    enum ErlNifSelectFlags mode =
        handle->direction == NR_READ ? ERL_NIF_SELECT_READ : ERL_NIF_SELECT_WRITE;
    int cancelled = handle->direction == NR_READ ? ERL_NIF_SELECT_READ_CANCELLED
                                                 : ERL_NIF_SELECT_WRITE_CANCELLED;
    int r = enif_select(env, handle->fd, mode | ERL_NIF_SELECT_CANCEL, handle, &handle->waiter,
                        nr_atoms.undefined_);
    return r >= 0 && (r & cancelled) ? 0 : NR_PENDING;
}

static void poll_close(ErlNifEnv *env, struct nr_handle *handle)
{
    /* Ends in the stop callback, here or on another scheduler: see handle.c. */
    (void)enif_select(env, handle->fd, ERL_NIF_SELECT_STOP, handle, NULL, nr_atoms.undefined_);
}

const struct nr_backend nr_backend_poll = {
    .name = "poll",
    .arm = poll_arm,
    .cancel = poll_cancel,
    .close = poll_close,
};
