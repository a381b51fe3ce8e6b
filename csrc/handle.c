/* See handle.h: the life cycle of a pipe end. */
#include "handle.h"

#include "atoms.h"
#include "backend.h"
#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ErlNifResourceType *handle_type;

static void close_fd(struct nr_handle *handle)
{
    unsigned closing = NR_HANDLE_CLOSING;
    if (!atomic_compare_exchange_strong(&handle->state, &closing, NR_HANDLE_CLOSED))
        return;
    handle->fd = nr_fd_close(handle->fd);
    nr_pipes_leave(&handle->pipe); /* nothing grows once a handle is closing */
}

static void free_unread(struct nr_handle *handle)
{
    while (handle->unread != NULL) {
        struct nr_unread *top = handle->unread;
        handle->unread = top->below;
        enif_free_env(top->env);
        free(top);
    }
}

static void on_destroy(ErlNifEnv *env, void *object)
{
    (void)env;
    struct nr_handle *handle = object;
    (void)nr_turns_leave(&handle->turn);
    handle->fd = nr_fd_close(handle->fd);
    free_unread(handle);
    if (handle->has_late)
        enif_release_binary(&handle->late);
    free(handle->out);
    if (handle->wait_env != NULL)
        enif_free_env(handle->wait_env);
    if (handle->mutex != NULL)
        enif_mutex_destroy(handle->mutex);
    nr_pipes_leave(&handle->pipe);
}

/* ERTS has taken the descriptor out of its poll set. May run inside enif_select, on any scheduler. */
static void on_stop(ErlNifEnv *env, void *object, ErlNifEvent fd, int is_direct_call)
{
    (void)env;
    (void)fd;
    (void)is_direct_call;
    nr_handle_release(object, NR_HOLDER_SELECT);
}

static void on_owner_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    nr_handle_close(env, object);
}

int nr_handle_type_open(ErlNifEnv *env)
{
    const ErlNifResourceTypeInit callbacks = {
        .dtor = on_destroy,
        .stop = on_stop,
        .down = on_owner_down,
        .members = 3,
    };
    handle_type = enif_init_resource_type(env, "net_runner_handle", &callbacks,
                                          ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return handle_type != NULL ? 0 : -ENOMEM;
}

struct nr_handle *nr_handle_new_take(ErlNifEnv *env, int fd, enum nr_direction direction,
                                     enum nr_mode mode, const ErlNifPid *owner)
{
    struct nr_handle *handle = enif_alloc_resource(handle_type, sizeof(*handle));
    if (handle == NULL) {
        nr_fd_close(fd);
        return NULL;
    }
    memset(handle, 0, sizeof(*handle));
    handle->fd = fd;
    handle->direction = direction;
    handle->mode = mode;
    handle->backend = nr_backend_first(mode);
    handle->last_written = -1;
    handle->pipe = nr_pipes_enter(fd);
    handle->stats.pipe_bytes = handle->pipe.now;
    handle->stream.fd = fd;
    handle->stream.direction = direction;
    handle->stream.owner = handle;
    handle->mutex = enif_mutex_create("net_runner_handle");
    handle->wait_env = enif_alloc_env();
    if (handle->mutex == NULL || handle->wait_env == NULL ||
        enif_monitor_process(env, handle, owner, NULL) != 0) {
        enif_release_resource(handle);
        return NULL;
    }
    return handle;
}

struct nr_handle *nr_handle_new_terminal_take(ErlNifEnv *env, int fd, enum nr_direction direction,
                                              const ErlNifPid *owner)
{
    struct nr_handle *handle = nr_handle_new_take(env, fd, direction, NR_MODE_POLL, owner);
    if (handle != NULL) {
        handle->terminal = true;
        nr_pipes_leave(&handle->pipe);
        handle->stats.pipe_bytes = 0;
    }
    return handle;
}

int nr_handle_unread(struct nr_handle *handle, ERL_NIF_TERM binary)
{
    struct nr_unread *top = malloc(sizeof(*top));
    if (top == NULL)
        return -ENOMEM;
    *top = (struct nr_unread){.below = handle->unread, .env = enif_alloc_env()};
    if (top->env == NULL ||
        !enif_inspect_binary(top->env, enif_make_copy(top->env, binary), &top->binary)) {
        if (top->env != NULL)
            enif_free_env(top->env);
        free(top);
        return -ENOMEM;
    }
    handle->unread = top;
    handle->stats.bytes -= top->binary.size;
    return 0;
}

size_t nr_handle_take_unread(struct nr_handle *handle, unsigned char *data, size_t room)
{
    size_t taken = 0;
    while (handle->unread != NULL && taken < room) {
        struct nr_unread *top = handle->unread;
        size_t left = top->binary.size - top->offset;
        size_t n = left < room - taken ? left : room - taken;
        memcpy(data + taken, top->binary.data + top->offset, n);
        taken += n;
        top->offset += n;
        if (top->offset == top->binary.size) {
            handle->unread = top->below;
            enif_free_env(top->env);
            free(top);
        }
    }
    return taken;
}

struct nr_handle *nr_handle_get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;
    return enif_get_resource(env, term, handle_type, &object) ? object : NULL;
}

int nr_handle_cancel_wait(ErlNifEnv *env, struct nr_handle *handle)
{
    if (handle->in_queue)
        return nr_turns_leave(&handle->turn) ? 0 : NR_PENDING;
    return handle->backend->cancel(env, handle);
}

bool nr_handle_end_wait(ErlNifEnv *env, struct nr_handle *handle, ErlNifPid *pid, ERL_NIF_TERM *ref)
{
    if (!handle->waiting)
        return false;
    /* NR_PENDING: the message is sent, or the mechanism sends it itself, and it may be the only one. */
    if (nr_handle_cancel_wait(env, handle) != 0)
        return false;
    handle->waiting = handle->in_queue = false;
    *pid = handle->waiter;
    *ref = enif_make_copy(env, handle->wait_ref);
    return true;
}

void nr_handle_notify(ErlNifEnv *env, const ErlNifPid *pid, ERL_NIF_TERM ref)
{
    ERL_NIF_TERM message = enif_make_tuple2(env, ref, nr_atoms.ready_);
    (void)enif_send(env, pid, NULL, message); /* fails only if the receiver is gone */
}

void nr_handle_release(struct nr_handle *handle, enum nr_holder holder)
{
    unsigned before = atomic_fetch_and(&handle->holders, ~(unsigned)holder);
    if ((before & ~(unsigned)holder) == 0)
        close_fd(handle);
}

void nr_handle_close(ErlNifEnv *env, struct nr_handle *handle)
{
    ErlNifPid pid;
    ERL_NIF_TERM ref;

    enif_mutex_lock(handle->mutex);
    unsigned open = NR_HANDLE_OPEN;
    if (!atomic_compare_exchange_strong(&handle->state, &open, NR_HANDLE_CLOSING)) {
        enif_mutex_unlock(handle->mutex);
        return;
    }
    bool notify = nr_handle_end_wait(env, handle, &pid, &ref);
    (void)nr_turns_leave(&handle->turn);
    free_unread(handle);
    if (handle->has_late) {
        enif_release_binary(&handle->late);
        handle->has_late = false;
    }
    unsigned holders = atomic_load(&handle->holders);
    if (holders == 0)
        close_fd(handle);
    enif_mutex_unlock(handle->mutex);

    if (notify)
        nr_handle_notify(env, &pid, ref);
    /* No wait is placed on a closing handle, so `holders` can only shrink from here; each holder
     * of the snapshot is asked to leave exactly once. */
    if (holders & NR_HOLDER_RING)
        nr_backend_ring.close(env, handle);
    if (holders & NR_HOLDER_SELECT)
        nr_backend_poll.close(env, handle);
}

void nr_handle_finish(ErlNifEnv *env, struct nr_handle *handle)
{
    ErlNifPid pid;
    ERL_NIF_TERM ref;

    enif_mutex_lock(handle->mutex);
    handle->finished = true;
    bool notify = atomic_load(&handle->state) == NR_HANDLE_OPEN &&
                  nr_handle_end_wait(env, handle, &pid, &ref);
    enif_mutex_unlock(handle->mutex);
    if (notify)
        nr_handle_notify(env, &pid, ref);
}

int nr_handle_dup(struct nr_handle *handle)
{
    enif_mutex_lock(handle->mutex);
    int fd = -EBADF;
    if (atomic_load(&handle->state) == NR_HANDLE_OPEN) {
        fd = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
        fd = fd < 0 ? nr_errno() : fd;
    }
    enif_mutex_unlock(handle->mutex);
    return fd;
}

bool nr_handle_grow_pipe(struct nr_handle *handle)
{
    if (handle->terminal)
        return false;
    int r = nr_pipes_grow(handle->fd, &handle->pipe);
    if (r == NR_PIPE_REFUSED)
        handle->stats.pipe_refused++;
    if (r == 0)
        handle->stats.pipe_bytes = handle->pipe.now;
    return r == 0;
}
