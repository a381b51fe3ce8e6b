/* See joint.h. */
#include "joint.h"

#include "atoms.h"
#include "base/error.h"
#include "base/fd.h"
#include "pipes.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>

struct nr_joint {
    ErlNifMutex *mutex; /* over everything below, and system calls on fds */
    int fds[2];         /* by enum nr_joint_end; -EBADF: not ours any more */
    struct nr_pipe_memory memory;
};

static ErlNifResourceType *joint_type;

static void close_joint(struct nr_joint *joint)
{
    enif_mutex_lock(joint->mutex);
    joint->fds[NR_JOINT_READS] = nr_fd_close(joint->fds[NR_JOINT_READS]);
    joint->fds[NR_JOINT_WRITES] = nr_fd_close(joint->fds[NR_JOINT_WRITES]);
    nr_pipes_leave(&joint->memory);
    enif_mutex_unlock(joint->mutex);
}

static void on_destroy(ErlNifEnv *env, void *object)
{
    (void)env;
    struct nr_joint *joint = object;
    if (joint->mutex == NULL)
        return;
    close_joint(joint);
    enif_mutex_destroy(joint->mutex);
}

static void on_owner_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)env;
    (void)pid;
    (void)monitor;
    close_joint(object);
}

int nr_joint_type_open(ErlNifEnv *env)
{
    const ErlNifResourceTypeInit callbacks = {
        .dtor = on_destroy,
        .down = on_owner_down,
        .members = 3,
    };
    joint_type = enif_init_resource_type(env, "net_runner_joint", &callbacks,
                                         ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return joint_type != NULL ? 0 : -ENOMEM;
}

struct nr_joint *nr_joint_get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;
    return enif_get_resource(env, term, joint_type, &object) ? object : NULL;
}

int nr_joint_dup(struct nr_joint *joint, enum nr_joint_end end)
{
    enif_mutex_lock(joint->mutex);
    int fd = joint->fds[end];
    if (fd >= 0) {
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            fd = nr_errno();
    }
    enif_mutex_unlock(joint->mutex);
    return fd;
}

void nr_joint_given(struct nr_joint *joint, enum nr_joint_end end)
{
    enif_mutex_lock(joint->mutex);
    joint->fds[end] = nr_fd_close(joint->fds[end]);
    enif_mutex_unlock(joint->mutex);
}

/* Half built, a joint is let go of by on_destroy. 0 or -errno. */
static int open_joint(ErlNifEnv *env, struct nr_joint *joint, const ErlNifPid *owner)
{
    joint->mutex = enif_mutex_create("net_runner_joint");
    if (joint->mutex == NULL)
        return -ENOMEM;
    int r = nr_fd_pipe(joint->fds);
    if (r < 0)
        return r;
    joint->memory = nr_pipes_enter(joint->fds[NR_JOINT_WRITES]);
    /* 64 KiB, 256 KiB, 1 MiB; where there is no room for more it stays what it is. */
    while (nr_pipes_grow(joint->fds[NR_JOINT_WRITES], &joint->memory) == 0)
        ;
    return enif_monitor_process(env, joint, owner, NULL) == 0 ? 0 : -ESRCH;
}

ERL_NIF_TERM nr_nif_joint_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifPid owner;
    if (!enif_get_local_pid(env, argv[0], &owner))
        return enif_make_badarg(env);
    struct nr_joint *joint = enif_alloc_resource(joint_type, sizeof(*joint));
    if (joint == NULL)
        return nr_term_error(env, -ENOMEM);
    *joint = (struct nr_joint){.fds = {-EBADF, -EBADF}};
    int r = open_joint(env, joint, &owner);
    ERL_NIF_TERM result =
        r < 0 ? nr_term_error(env, r) : nr_term_ok(env, enif_make_resource(env, joint));
    enif_release_resource(joint);
    (void)enif_consume_timeslice(env, 1);
    return result;
}

ERL_NIF_TERM nr_nif_joint_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_joint *joint = nr_joint_get(env, argv[0]);
    if (joint == NULL)
        return enif_make_badarg(env);
    close_joint(joint);
    return nr_atoms.ok_;
}
