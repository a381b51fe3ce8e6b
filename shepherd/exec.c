/*
 * See exec.h: fork and the child's set-up. Between fork and exec only async-signal-safe calls, and nothing is
 * written but the child's own stack, for it may be in the guardian's memory: the order is the design's
 * (section 2) and each step has its reason there.
 */
#include "exec.h"

#include "error.h"
#include "fd.h"
#include "settings.h"
#include "stdfds.h"
#include "sys.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* Where the child keeps what it still needs, above its 0, 1 and 2. */
#define EXEC_PIPE 3
#define CWD       4

static _Noreturn void tell_and_end(int pipe, struct nr_failed failed, int error)
{
    ssize_t written;
    failed.error = (uint32_t)-error;
    do {
        written = write(pipe, &failed, sizeof(failed));
    } while (written < 0 && errno == EINTR);
    _exit(127);
}

static _Noreturn void give_up(int pipe, enum nr_stage stage, int error)
{
    tell_and_end(pipe, (struct nr_failed){.stage = (uint32_t)stage}, error);
}

static int creation(uint32_t flags, uint32_t append)
{
    return O_CREAT | (flags & append ? O_APPEND : O_TRUNC);
}

/* The descriptor of 0, 1 or 2: what was given, else the terminal, unless a file takes its place. */
static int given(const struct nr_order *order, const struct nr_program *program, int which)
{
    if (order->stdio[which] >= 0 || program->files[which] != NULL)
        return order->stdio[which];
    return order->pty;
}

static void place_stdfds(const struct nr_order *order, const struct nr_program *program, int pipe)
{
    const struct nr_spawn *spawn = &order->spawn;
    const struct nr_stdfd from[3] = {
        {.fd = given(order, program, 0), .file = program->files[0]},
        {.fd = given(order, program, 1),
         .file = program->files[1],
         .flags = creation(spawn->flags, NR_SPAWN_STDOUT_APPEND),
         .mode = spawn->stdout_mode},
        {.fd = given(order, program, 2),
         .file = program->files[2],
         .flags = creation(spawn->flags, NR_SPAWN_STDERR_APPEND),
         .mode = spawn->stderr_mode},
    };
    int cwd = order->cwd >= 0 ? order->cwd : AT_FDCWD;
    int file;
    int r = nr_stdfds_place(from, spawn->flags & NR_SPAWN_MERGE, cwd, &file);
    if (r < 0)
        give_up(pipe, file < 0 ? NR_STAGE_STDIO : NR_STAGE_STDIN_FILE + (unsigned)file, r);
}

/* SIGKILL for us when the guardian ends. */
static void hold_leash(int pipe, pid_t guardian)
{
    int r = nr_sys_leash();
    if (r < 0)
        give_up(pipe, NR_STAGE_SETUP, r);
    if (getppid() != guardian) /* it died before the leash held */
        _exit(127);
}

/* Leaves 0, 1 and 2, the exec pipe and (where one was given) the working directory, which becomes *cwd. */
static void keep_only(int pipe, int *cwd)
{
    int first = EXEC_PIPE + 1;

    if (*cwd >= 0) {
        /* By way of a number above both: the two may have each other's. */
        int staged = fcntl(*cwd, F_DUPFD_CLOEXEC, CWD + 1);
        if (staged < 0)
            give_up(pipe, NR_STAGE_SETUP, nr_errno());
        *cwd = staged;
        first = CWD + 1;
    }
    int r = nr_sys_move_cloexec(pipe, EXEC_PIPE);
    if (r < 0)
        give_up(pipe, NR_STAGE_SETUP, r);
    if (*cwd >= 0) {
        r = nr_sys_move_cloexec(*cwd, CWD);
        if (r < 0)
            give_up(EXEC_PIPE, NR_STAGE_SETUP, r);
        *cwd = CWD;
    }
    r = nr_sys_close_from(first);
    if (r < 0)
        give_up(EXEC_PIPE, NR_STAGE_SETUP, r);
}

/* What a child is made of: all of it the guardian's. */
struct birth {
    const struct nr_order *order;
    const struct nr_program *program;
    int pipe;
    pid_t guardian;
};

static _Noreturn void child(const void *context)
{
    const struct birth *birth = context;
    const struct nr_order *order = birth->order;
    const struct nr_program *program = birth->program;
    const int pipe = birth->pipe;
    const pid_t guardian = birth->guardian;
    struct nr_failed failed = {0};
    int cwd = order->cwd;

    if (setsid() < 0)
        give_up(pipe, NR_STAGE_SETUP, nr_errno());
    nr_sys_signals_default();
    hold_leash(pipe, guardian); /* before anything that may take long */

    if (order->pty >= 0) {
        int r = nr_sys_terminal(order->pty);
        if (r < 0)
            give_up(pipe, NR_STAGE_PTY, r);
        nr_settings_terminal(order);
    }
    place_stdfds(order, program, pipe);
    /* Before the limits: of few descriptors, the fallback that closes them would see few. */
    keep_only(pipe, &cwd);

    int r = nr_settings_limits(order, &failed);
    if (r < 0)
        tell_and_end(EXEC_PIPE, failed, r);
    r = nr_settings_identity(order, &failed);
    if (r < 0)
        tell_and_end(EXEC_PIPE, failed, r);
    hold_leash(EXEC_PIPE, guardian); /* who became somebody else has none any more */

    /* As who the command is: where it may not go, it does not start. An absolute path is not in the way of
     * somebody who may not be where the BEAM is. */
    if (cwd >= 0 && program->cd[0] != '/' && fchdir(cwd) < 0)
        give_up(EXEC_PIPE, NR_STAGE_CD, nr_errno());
    if (program->cd[0] != '\0' && chdir(program->cd) < 0)
        give_up(EXEC_PIPE, NR_STAGE_CD, nr_errno());

    r = nr_settings_privileges(order, &failed);
    if (r < 0)
        tell_and_end(EXEC_PIPE, failed, r);
    nr_sys_signals_unblock();
    (void)execve(program->exe, program->argv, program->envp);
    give_up(EXEC_PIPE, NR_STAGE_EXEC, nr_errno());
}

/* Whether the child goes from its birth to its execve without a step that may take long, a FIFO or a directory on a
 * dead server, and without one that changes what it may do. Then the guardian can wait for it: it need not copy its
 * memory for what is thrown away at once, and a start takes 65 us less (docs/decisions/0015). */
static bool is_plain(const struct nr_order *order, const struct nr_program *program)
{
    bool files =
        program->files[0] != NULL || program->files[1] != NULL || program->files[2] != NULL;

    return !files && program->cd[0] == '\0' && order->pty < 0 && order->cgroup < 0 &&
           order->spawn.settings == 0;
}

int nr_exec(const struct nr_order *order, const struct nr_program *program,
            struct nr_pidref *leader, int *pipe, enum nr_stage *stage)
{
    int ends[2];
    *leader = NR_PIDREF_NONE;
    *pipe = -EBADF;

    *stage = NR_STAGE_SETUP;
    int r = nr_fd_pipe(ends);
    if (r < 0)
        return r;
    r = nr_fd_nonblock(ends[0], true);
    if (r < 0)
        goto fail;

    *stage = NR_STAGE_FORK;
    const struct birth birth = {order, program, ends[1], getpid()};
    if (is_plain(order, program))
        r = nr_sys_vfork(leader, child, &birth);
    else
        r = nr_sys_fork(leader, order->cgroup);
    if (r == NR_SYS_CHILD)
        child(&birth);
    if (r < 0 && order->cgroup >= 0 && nr_sys_fork_cgroup_refused(r))
        *stage = NR_STAGE_CGROUP;
    if (r < 0)
        goto fail;

    (void)nr_fd_close(ends[1]);
    *pipe = ends[0];
    return 0;

fail:
    (void)nr_fd_close(ends[0]);
    (void)nr_fd_close(ends[1]);
    return r;
}

int nr_exec_result(int pipe, struct nr_failed *failed)
{
    ssize_t got;
    do {
        got = read(pipe, failed, sizeof(*failed));
    } while (got < 0 && errno == EINTR);

    if (got == (ssize_t)sizeof(*failed))
        return NR_EXEC_FAILED;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return NR_EXEC_WAIT;
    return 0;
}
