/* See control.h: SEQPACKET sockets as resources. */
#include "control.h"

#include "atoms.h"
#include "base/error.h"
#include "base/fd.h"
#include "launch_os.h"
#include "term.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct nr_control {
    ErlNifMutex *mutex; /* over `open`, `selected` and any system call on fd */
    bool open;
    bool selected; /* ERTS's poll set holds fd: the stop callback closes it */
    int fd;
};

static ErlNifResourceType *control_type;

static void on_destroy(ErlNifEnv *env, void *object)
{
    (void)env;
    struct nr_control *control = object;
    control->fd = nr_fd_close(control->fd);
    if (control->mutex != NULL)
        enif_mutex_destroy(control->mutex);
}

/* May run inside the enif_select of close_control, which holds no mutex. */
static void on_stop(ErlNifEnv *env, void *object, ErlNifEvent fd, int is_direct_call)
{
    (void)env;
    (void)fd;
    (void)is_direct_call;
    struct nr_control *control = object;
    control->fd = nr_fd_close(control->fd);
}

static void close_control(ErlNifEnv *env, struct nr_control *control)
{
    enif_mutex_lock(control->mutex);
    bool was_open = control->open;
    bool selected = control->selected;
    control->open = false;
    if (was_open && !selected)
        control->fd = nr_fd_close(control->fd);
    else if (was_open)
        (void)shutdown(control->fd, SHUT_RDWR); /* the peer sees it now, whenever ERTS lets go */
    enif_mutex_unlock(control->mutex);
    if (was_open && selected)
        (void)enif_select(env, control->fd, ERL_NIF_SELECT_STOP, control, NULL,
                          nr_atoms.undefined_);
}

static void on_owner_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    close_control(env, object);
}

int nr_control_type_open(ErlNifEnv *env)
{
    const ErlNifResourceTypeInit callbacks = {
        .dtor = on_destroy,
        .stop = on_stop,
        .down = on_owner_down,
        .members = 3,
    };
    control_type = enif_init_resource_type(env, "net_runner_control", &callbacks,
                                           ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return control_type != NULL ? 0 : -ENOMEM;
}

ERL_NIF_TERM nr_control_new_take(ErlNifEnv *env, int fd, const ErlNifPid *owner)
{
    struct nr_control *control = enif_alloc_resource(control_type, sizeof(*control));
    if (control == NULL) {
        nr_fd_close(fd);
        return 0;
    }
    memset(control, 0, sizeof(*control));
    control->fd = fd;
    control->open = true;
    control->mutex = enif_mutex_create("net_runner_control");
    ERL_NIF_TERM term = 0;
    if (control->mutex != NULL && enif_monitor_process(env, control, owner, NULL) == 0)
        term = enif_make_resource(env, control);
    enif_release_resource(control);
    return term;
}

static struct nr_control *get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;
    return enif_get_resource(env, term, control_type, &object) ? object : NULL;
}

int nr_control_lock(ErlNifEnv *env, ERL_NIF_TERM term, struct nr_control **control)
{
    *control = get(env, term);
    if (*control == NULL)
        return -EBADF;
    enif_mutex_lock((*control)->mutex);
    if ((*control)->open)
        return (*control)->fd;
    enif_mutex_unlock((*control)->mutex);
    return -EBADF;
}

void nr_control_unlock(struct nr_control *control)
{
    enif_mutex_unlock(control->mutex);
}

static ERL_NIF_TERM closed(ErlNifEnv *env)
{
    return enif_make_tuple2(env, nr_atoms.error_, nr_atoms.closed_);
}

ERL_NIF_TERM nr_nif_control_recv(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_control *control;
    int fd = nr_control_lock(env, argv[0], &control);
    if (control == NULL)
        return enif_make_badarg(env);
    if (fd < 0)
        return closed(env);

    unsigned char frame[512]; /* no frame towards the BEAM is larger; MSG_TRUNC tells */
    ssize_t n;
    int resets = 0;
    do {
        n = recv(fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_TRUNC);
        /* The peer ended with our commands unread: its own last frames are behind the reset. */
        if (n < 0 && errno == ECONNRESET && resets++ < 2)
            errno = EINTR;
    } while (n < 0 && errno == EINTR);

    ERL_NIF_TERM result;
    if (n > (ssize_t)sizeof(frame)) {
        result = enif_make_tuple2(env, nr_atoms.error_, nr_atoms.eproto_);
    } else if (n > 0) {
        ERL_NIF_TERM binary;
        memcpy(enif_make_new_binary(env, (size_t)n, &binary), frame, (size_t)n);
        result = nr_term_ok(env, binary);
    } else if (n == 0) {
        result = nr_atoms.eof_;
    } else if (errno != EAGAIN) {
        result = nr_term_error(env, nr_errno());
    } else if (enif_select(env, fd, ERL_NIF_SELECT_READ, control, NULL, nr_atoms.undefined_) < 0) {
        result = nr_term_error(env, -EBADF);
    } else {
        control->selected = true;
        result = nr_atoms.again_;
    }
    nr_control_unlock(control);
    return result;
}

ERL_NIF_TERM nr_nif_control_send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifBinary frame;
    struct nr_control *control;
    if (!enif_inspect_iolist_as_binary(env, argv[1], &frame))
        return enif_make_badarg(env);
    int fd = nr_control_lock(env, argv[0], &control);
    if (control == NULL)
        return enif_make_badarg(env);
    if (fd < 0)
        return closed(env);
    ssize_t n;
    do {
        n = send(fd, frame.data, frame.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    ERL_NIF_TERM result = n < 0 ? nr_term_error(env, nr_errno()) : nr_atoms.ok_;
    nr_control_unlock(control);
    return result;
}

ERL_NIF_TERM nr_nif_control_kill(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    int pid;
    struct nr_control *control;
    if (!enif_get_int(env, argv[1], &pid))
        return enif_make_badarg(env);
    int fd = nr_control_lock(env, argv[0], &control);
    if (control == NULL)
        return enif_make_badarg(env);
    if (fd < 0)
        return closed(env);
    int r = nr_os_kill_peer(fd, pid);
    nr_control_unlock(control);
    return r < 0 ? nr_term_error(env, r) : nr_atoms.ok_;
}

ERL_NIF_TERM nr_nif_control_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_control *control = get(env, argv[0]);
    if (control == NULL)
        return enif_make_badarg(env);
    close_control(env, control);
    return nr_atoms.ok_;
}
