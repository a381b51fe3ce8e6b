/*
 * See exec.h: fork and the child's set-up. Between fork and exec only async-signal-safe calls: the
 * order is the design's (section 2) and each step has its reason there.
 */
#include "exec.h"

#include "error.h"
#include "fd.h"
#include "stdfds.h"
#include "sys.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define EXEC_PIPE 3

static _Noreturn void give_up(int pipe, enum nr_stage stage, int error)
{
    struct nr_failed failed = {.stage = (uint32_t)stage, .error = (uint32_t)-error};
    ssize_t written;
    do {
        written = write(pipe, &failed, sizeof(failed));
    } while (written < 0 && errno == EINTR);
    _exit(127);
}

static int creation(uint32_t flags, uint32_t append)
{
    return O_CREAT | (flags & append ? O_APPEND : O_TRUNC);
}

static void place_stdfds(const struct nr_order *order, const struct nr_program *program, int pipe)
{
    const struct nr_spawn *spawn = &order->spawn;
    const struct nr_stdfd from[3] = {
        {.fd = order->stdio[0], .file = program->files[0]},
        {.fd = order->stdio[1],
         .file = program->files[1],
         .flags = creation(spawn->flags, NR_SPAWN_STDOUT_APPEND),
         .mode = spawn->stdout_mode},
        {.fd = order->stdio[2],
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

static _Noreturn void child(const struct nr_order *order, const struct nr_program *program,
                            int pipe, pid_t guardian)
{
    int r;

    if (setsid() < 0)
        give_up(pipe, NR_STAGE_SETUP, nr_errno());
    nr_sys_signals_default();

    /* Before anything that may take long. */
    r = nr_sys_leash();
    if (r < 0)
        give_up(pipe, NR_STAGE_SETUP, r);
    if (getppid() != guardian) /* it died before the leash held */
        _exit(127);

    place_stdfds(order, program, pipe);

    if (order->cwd >= 0 && fchdir(order->cwd) < 0)
        give_up(pipe, NR_STAGE_CD, nr_errno());
    if (program->cd[0] != '\0' && chdir(program->cd) < 0)
        give_up(pipe, NR_STAGE_CD, nr_errno());

    r = nr_sys_oom_set(order->oom_score_adj);
    if (r < 0)
        give_up(pipe, NR_STAGE_SETUP, r);

    r = nr_sys_move_cloexec(pipe, EXEC_PIPE);
    if (r < 0)
        give_up(pipe, NR_STAGE_SETUP, r);
    r = nr_sys_close_from(EXEC_PIPE + 1);
    if (r < 0)
        give_up(EXEC_PIPE, NR_STAGE_SETUP, r);

    nr_sys_signals_unblock();
    (void)execve(program->exe, program->argv, program->envp);
    give_up(EXEC_PIPE, NR_STAGE_EXEC, nr_errno());
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
    pid_t guardian = getpid();
    r = nr_sys_fork(leader, order->cgroup);
    if (r == NR_SYS_CHILD)
        child(order, program, ends[1], guardian);
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
