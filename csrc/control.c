/* See control.h: SEQPACKET sockets as resources. */
#include "control.h"

#include "atoms.h"
#include "base/error.h"
#include "base/fd.h"
#include "handle.h"
#include "launch_os.h"
#include "protocol.h"
#include "term.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct nr_control {
    ErlNifMutex *mutex; /* over `open`, `selected`, `owner` and any system call on fd */
    bool open;
    bool selected; /* ERTS's poll set holds fd: the stop callback closes it */
    int fd;
    ErlNifMonitor owner;
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
    struct nr_control *control = object;
    enif_mutex_lock(control->mutex);
    bool owns = enif_compare_monitors(monitor, &control->owner) == 0;
    enif_mutex_unlock(control->mutex);
    if (owns) /* else it was given away meanwhile */
        close_control(env, control);
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
    if (control->mutex != NULL) {
        /* The owner may be told dead before ERTS has written down which monitor that is. */
        enif_mutex_lock(control->mutex);
        if (enif_monitor_process(env, control, owner, &control->owner) == 0)
            term = enif_make_resource(env, control);
        enif_mutex_unlock(control->mutex);
    }
    enif_release_resource(control);
    return term;
}

static struct nr_control *get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;
    return enif_get_resource(env, term, control_type, &object) ? object : NULL;
}

/* An open control resource, locked for one system call on its descriptor. NULL: nothing is locked, and
 * *answer is what the NIF call gives. */
static struct nr_control *lock(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM *answer)
{
    struct nr_control *control = get(env, term);
    if (control == NULL) {
        *answer = enif_make_badarg(env);
        return NULL;
    }
    enif_mutex_lock(control->mutex);
    if (control->open)
        return control;
    enif_mutex_unlock(control->mutex);
    *answer = enif_make_tuple2(env, nr_atoms.error_, nr_atoms.closed_);
    return NULL;
}

static void unlock(struct nr_control *control)
{
    enif_mutex_unlock(control->mutex);
}

static ssize_t send_message(int fd, const ErlNifBinary *frame, const int fds[], size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * NR_SPAWN_FDS_MAX)];
    } control;
    struct iovec iovec = {.iov_base = frame->data, .iov_len = frame->size};
    struct msghdr message = {.msg_iov = &iovec, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = (socklen_t)CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = (socklen_t)CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
}

int nr_control_send(ErlNifEnv *env, ERL_NIF_TERM term, const ErlNifBinary *frame, const int fds[],
                    size_t count)
{
    ERL_NIF_TERM unused;
    struct nr_control *control = lock(env, term, &unused);
    if (control == NULL)
        return -EBADF;
    int r = send_message(control->fd, frame, fds, count) < 0 ? nr_errno() : 0;
    unlock(control);
    return r;
}

ERL_NIF_TERM nr_nif_control_recv(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ERL_NIF_TERM result;
    struct nr_control *control = lock(env, argv[0], &result);
    if (control == NULL)
        return result;

    int fd = control->fd;
    unsigned char frame[512]; /* no frame towards the BEAM is larger; MSG_TRUNC tells */
    ssize_t n;
    int resets = 0;
    do {
        n = recv(fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_TRUNC);
        /* The peer ended with our commands unread: its own last frames are behind the reset. */
        if (n < 0 && errno == ECONNRESET && resets++ < 2)
            errno = EINTR;
    } while (n < 0 && errno == EINTR);

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
    unlock(control);
    return result;
}

/* Duplicates of the reading ends in a list of handles; those that are closed are passed over. How
 * many, or -errno with none open. */
static int dup_handles(ErlNifEnv *env, ERL_NIF_TERM list, int fds[NR_SPAWN_FDS_MAX])
{
    ERL_NIF_TERM head;
    int count = 0;
    int r = 0;

    while (r == 0 && enif_get_list_cell(env, list, &head, &list)) {
        struct nr_handle *handle = nr_handle_get(env, head);
        if (handle == NULL || count == NR_SPAWN_FDS_MAX)
            r = -EINVAL;
        else if ((fds[count] = nr_handle_dup(handle)) >= 0)
            count++;
        else if (fds[count] != -EBADF)
            r = fds[count];
    }
    if (r == 0)
        return count;
    while (count > 0)
        nr_fd_close(fds[--count]);
    return r;
}

ERL_NIF_TERM nr_nif_control_send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifBinary frame;
    ERL_NIF_TERM result;
    int fds[NR_SPAWN_FDS_MAX];
    if (!enif_inspect_iolist_as_binary(env, argv[1], &frame) || !enif_is_list(env, argv[2]))
        return enif_make_badarg(env);
    int count = dup_handles(env, argv[2], fds);
    if (count < 0)
        return count == -EINVAL ? enif_make_badarg(env) : nr_term_error(env, count);
    struct nr_control *control = lock(env, argv[0], &result);
    if (control != NULL) {
        ssize_t n = send_message(control->fd, &frame, fds, (size_t)count);
        result = n < 0 ? nr_term_error(env, nr_errno()) : nr_atoms.ok_;
        unlock(control);
    }
    while (count > 0)
        nr_fd_close(fds[--count]);
    return result;
}

ERL_NIF_TERM nr_nif_control_kill(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    int pid;
    ERL_NIF_TERM result;
    if (!enif_get_int(env, argv[1], &pid))
        return enif_make_badarg(env);
    struct nr_control *control = lock(env, argv[0], &result);
    if (control == NULL)
        return result;
    int r = nr_os_kill_peer(control->fd, pid);
    unlock(control);
    return r < 0 ? nr_term_error(env, r) : nr_atoms.ok_;
}

int nr_control_give(ErlNifEnv *env, ERL_NIF_TERM term, const ErlNifPid *owner)
{
    ERL_NIF_TERM unused;
    ErlNifMonitor monitor;
    struct nr_control *control = lock(env, term, &unused);
    if (control == NULL)
        return -EBADF;
    /* A message that is on its way to the owner before is that one's to pass over. */
    if (control->selected)
        (void)enif_select(env, control->fd, ERL_NIF_SELECT_READ | ERL_NIF_SELECT_CANCEL, control,
                          NULL, nr_atoms.undefined_);
    int r = enif_monitor_process(env, control, owner, &monitor) == 0 ? 0 : -ESRCH;
    if (r == 0) {
        (void)enif_demonitor_process(env, control, &control->owner);
        control->owner = monitor;
    }
    unlock(control);
    return r;
}

ERL_NIF_TERM nr_nif_control_give(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifPid owner;
    if (get(env, argv[0]) == NULL || !enif_get_local_pid(env, argv[1], &owner))
        return enif_make_badarg(env);
    int r = nr_control_give(env, argv[0], &owner);
    if (r == -EBADF)
        return enif_make_tuple2(env, nr_atoms.error_, nr_atoms.closed_);
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
