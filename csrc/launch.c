/* See launch.h. */
#include "launch.h"

#include "atoms.h"
#include "backend.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "control.h"
#include "handle.h"
#include "joint.h"
#include "launch_os.h"
#include "protocol.h"
#include "pty.h"
#include "term.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096

static int get_path(ErlNifEnv *env, ERL_NIF_TERM term, char path[PATH_BYTES])
{
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, term, &binary) || memchr(binary.data, 0, binary.size) != NULL)
        return -EINVAL;
    if (binary.size >= PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(path, binary.data, binary.size);
    path[binary.size] = '\0';
    return 0;
}

static int socket_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        fds[0] = -EBADF;
        fds[1] = -EBADF;
        return nr_errno();
    }
    return 0;
}

/* posix_spawn with `passed` as descriptor `as`, nothing else of ours inherited but 0 1 2, default
 * dispositions, an empty mask, a session of its own and an empty environment. 0 or -errno. */
static int start_helper(const char *path, char *const argv[], int passed, int as, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    char *const environment[] = {NULL};

    int r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -r;
    }
    sigfillset(&all);
    sigemptyset(&none);
    /* dup2 onto itself only clears FD_CLOEXEC (glibc 2.29). */
    r = posix_spawn_file_actions_adddup2(&actions, passed, as);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(&attributes, &all);
    if (r == 0)
        r = posix_spawnattr_setsigmask(&attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSID);
    if (r == 0)
        r = posix_spawn(pid, path, &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

ERL_NIF_TERM nr_nif_zygote_start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    char path[PATH_BYTES];
    char beam[16];
    ErlNifPid owner;
    if (get_path(env, argv[0], path) < 0 || !enif_get_local_pid(env, argv[1], &owner))
        return enif_make_badarg(env);

    int fds[2];
    int r = socket_pair(fds);
    if (r < 0)
        return nr_term_error(env, r);
    NR_CLEANUP_FD int ours = fds[0];
    NR_CLEANUP_FD int theirs = fds[1];
    snprintf(beam, sizeof(beam), "%ld", (long)getpid());
    char *const arguments[] = {"shepherd", beam, NULL};
    pid_t pid;
    r = start_helper(path, arguments, theirs, 3, &pid);
    if (r < 0)
        return nr_term_error(env, r);
    ERL_NIF_TERM control = nr_control_new_take(env, nr_fd_take(&ours), &owner);
    if (control == 0)
        return nr_term_error(env, -ENOMEM);
    return enif_make_tuple3(env, nr_atoms.ok_, control, enif_make_int(env, pid));
}

ERL_NIF_TERM nr_nif_zygote_reap(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    int pid;
    if (!enif_get_int(env, argv[0], &pid) || pid <= 1)
        return enif_make_badarg(env);
    (void)waitpid(pid, NULL, WNOHANG);
    return nr_atoms.ok_;
}

ERL_NIF_TERM nr_nif_zygote_ended(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    int pid;
    siginfo_t info = {.si_pid = 0};
    if (!enif_get_int(env, argv[0], &pid) || pid <= 1)
        return enif_make_badarg(env);
    /* It is our child. Where SIGCHLD is ignored, as ERTS does, the kernel collects it when it ends: ECHILD. */
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return nr_term_bool(errno == ECHILD);
    return nr_term_bool(info.si_pid == pid);
}

/* One pipe of a command: our end becomes a handle, the other is passed on. */
static int make_pipe(ErlNifEnv *env, enum nr_direction direction, enum nr_mode mode,
                     const ErlNifPid *owner, int *theirs, struct nr_handle **handle)
{
    int fds[2];
    int r = nr_fd_pipe(fds);
    if (r < 0)
        return r;
    NR_CLEANUP_FD int our_end = fds[direction == NR_READ ? 0 : 1];
    *theirs = fds[direction == NR_READ ? 1 : 0];
    r = nr_fd_nonblock(our_end, true);
    if (r < 0)
        return r;
    *handle = nr_handle_new_take(env, nr_fd_take(&our_end), direction, mode, owner);
    return *handle != NULL ? 0 : -ENOMEM;
}

/* Everything one start holds until it is sent, and the way to let go of it. */
struct start {
    int theirs[NR_SPAWN_FDS_MAX]; /* to pass on, in the order of the protocol */
    size_t count;
    struct nr_handle *handles[3]; /* stdin, stdout, stderr; each with our reference */
    struct nr_joint *joints[3];   /* borrowed from the call's terms */
    bool no_terminal;             /* that is what failed */
};

static void start_close(ErlNifEnv *env, struct start *start, bool failed)
{
    for (size_t i = 0; i < start->count; i++)
        nr_fd_close(start->theirs[i]);
    for (size_t i = 0; i < 3; i++) {
        if (start->handles[i] == NULL)
            continue;
        if (failed)
            nr_handle_close(env, start->handles[i]);
        enif_release_resource(start->handles[i]);
    }
}

/* 0, or -errno with nothing more than what start_close lets go of. */
static int pass_on(struct start *start, int fd)
{
    if (fd < 0)
        return fd;
    start->theirs[start->count++] = fd;
    return 0;
}

/* A control socket: the other end is passed on first. */
static int add_control(struct start *start, int *ours)
{
    int pair[2];
    int r = socket_pair(pair);
    *ours = pair[0];
    return r < 0 ? r : pass_on(start, pair[1]);
}

static enum nr_joint_end joint_end(size_t stdio)
{
    return stdio == 0 ? NR_JOINT_READS : NR_JOINT_WRITES;
}

/* After this the command's is the only one, but for who shares it. */
static void give_joints(const struct start *start)
{
    for (size_t i = 0; i < 3; i++)
        if (start->joints[i] != NULL)
            nr_joint_given(start->joints[i], joint_end(i));
}

static int dup_stderr(void)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? nr_errno() : fd;
}

/* The terminal: its slave is passed on, its master becomes handles. */
static int add_terminal(ErlNifEnv *env, struct start *start, unsigned flags,
                        const struct nr_pty_options *options, const ErlNifPid *owner)
{
    int master, slave;
    int r = nr_pty_open(options, &master, &slave);
    if (r < 0) {
        start->no_terminal = true;
        return r;
    }
    start->theirs[start->count++] = slave;
    start->handles[1] = nr_handle_new_terminal_take(env, master, NR_READ, owner);
    if (start->handles[1] == NULL)
        return -ENOMEM;
    if (flags & NR_SPAWN_STDIN_FILE)
        return 0;
    /* One of its own: each direction is waited for by itself. */
    int writes = nr_handle_dup(start->handles[1]);
    if (writes < 0)
        return writes;
    start->handles[0] = nr_handle_new_terminal_take(env, writes, NR_WRITE, owner);
    return start->handles[0] != NULL ? 0 : -ENOMEM;
}

static bool get_terminal(ErlNifEnv *env, ERL_NIF_TERM term, struct nr_pty_options *options)
{
    int arity;
    const ERL_NIF_TERM *fields;
    unsigned rows, cols;
    if (!enif_get_tuple(env, term, &arity, &fields) || arity != 4 ||
        !enif_get_uint(env, fields[0], &rows) || !enif_get_uint(env, fields[1], &cols) ||
        rows == 0 || rows > USHRT_MAX || cols == 0 || cols > USHRT_MAX)
        return false;
    *options = (struct nr_pty_options){
        .rows = (unsigned short)rows,
        .cols = (unsigned short)cols,
        .echo = enif_is_identical(fields[2], nr_atoms.true_),
        .raw = enif_is_identical(fields[3], nr_atoms.true_),
    };
    return true;
}

static bool get_joints(ErlNifEnv *env, ERL_NIF_TERM term, struct nr_joint *joints[3])
{
    int arity;
    const ERL_NIF_TERM *ends;
    if (enif_is_identical(term, nr_atoms.nil_))
        return true;
    if (!enif_get_tuple(env, term, &arity, &ends) || arity != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        if (enif_is_identical(ends[i], nr_atoms.nil_))
            continue;
        joints[i] = nr_joint_get(env, ends[i]);
        if (joints[i] == NULL)
            return false;
    }
    return true;
}

static int start_fill(ErlNifEnv *env, struct start *start, unsigned flags, enum nr_mode mode,
                      const ErlNifPid *owner, const ErlNifBinary *strings,
                      const struct nr_pty_options *terminal)
{
    static const unsigned bits[3] = {NR_SPAWN_STDIN, NR_SPAWN_STDOUT, NR_SPAWN_STDERR};
    for (size_t i = 0; i < 3; i++) {
        if (!(flags & bits[i]))
            continue;
        if (i == 2 && (flags & NR_LAUNCH_STDERR_OURS)) {
            int r = pass_on(start, dup_stderr());
            if (r < 0)
                return r;
            continue;
        }
        if (start->joints[i] != NULL) {
            int r = pass_on(start, nr_joint_dup(start->joints[i], joint_end(i)));
            if (r < 0)
                return r;
            continue;
        }
        int theirs = -EBADF;
        int r =
            make_pipe(env, i == 0 ? NR_WRITE : NR_READ, mode, owner, &theirs, &start->handles[i]);
        if (theirs >= 0)
            start->theirs[start->count++] = theirs;
        if (r < 0)
            return r;
        if (i > 0 && start->handles[0] != NULL)
            nr_coalesce_may_answer(&start->handles[i]->coalesce);
    }
    if (flags & NR_SPAWN_CWD) {
        int r = pass_on(start, nr_os_open_cwd());
        if (r < 0)
            return r;
    }
    if (flags & NR_SPAWN_PTY) {
        int r = add_terminal(env, start, flags, terminal, owner);
        if (r < 0)
            return r;
    }
    if (flags & NR_SPAWN_STRINGS)
        return pass_on(start, nr_os_sealed_file(strings->data, strings->size));
    return 0;
}

static ERL_NIF_TERM start_error(ErlNifEnv *env, const struct start *start, int r)
{
    ERL_NIF_TERM posix = nr_term_posix(env, -r);
    if (start->no_terminal)
        posix = enif_make_tuple2(env, nr_atoms.pty_, posix);
    return enif_make_tuple2(env, nr_atoms.error_, posix);
}

static ERL_NIF_TERM handle_term(ErlNifEnv *env, struct nr_handle *handle)
{
    return handle != NULL ? enif_make_resource(env, handle) : nr_atoms.nil_;
}

ERL_NIF_TERM nr_nif_spawn(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifBinary frame;
    ErlNifBinary strings = {0};
    struct nr_pty_options terminal = {0};
    unsigned flags, mode;
    ErlNifPid owner;
    struct start start = {.count = 0};
    if (!enif_inspect_binary(env, argv[1], &frame) || !enif_get_uint(env, argv[3], &flags) ||
        !enif_get_uint(env, argv[4], &mode) || mode > NR_MODE_RING ||
        !enif_get_local_pid(env, argv[5], &owner) ||
        (flags & ~(NR_SPAWN_FLAGS_ALL | NR_LAUNCH_STDERR_OURS | NR_LAUNCH_RESTS)) ||
        ((flags & NR_SPAWN_STRINGS) && !enif_inspect_binary(env, argv[2], &strings)) ||
        ((flags & NR_SPAWN_PTY) && ((flags & (NR_SPAWN_STDIN | NR_SPAWN_STDOUT)) ||
                                    !get_terminal(env, argv[6], &terminal))) ||
        !get_joints(env, argv[7], start.joints))
        return enif_make_badarg(env);

    NR_CLEANUP_FD int ours = -EBADF;
    int r = flags & NR_LAUNCH_RESTS ? nr_control_give(env, argv[0], &owner)
                                    : add_control(&start, &ours);
    if (r < 0)
        return nr_term_error(env, r);
    r = start_fill(env, &start, flags, (enum nr_mode)mode, &owner, &strings, &terminal);
    if (r == 0) {
        r = nr_control_send(env, argv[0], &frame, start.theirs, start.count);
        if (r == -EBADF)
            r = -ENOTCONN;
    }
    ERL_NIF_TERM control = argv[0];
    if (r == 0 && ours >= 0) {
        control = nr_control_new_take(env, nr_fd_take(&ours), &owner);
        r = control != 0 ? 0 : -ENOMEM;
    }
    if (r == 0)
        give_joints(&start);
    ERL_NIF_TERM result =
        r < 0 ? start_error(env, &start, r)
              : nr_term_ok(env, enif_make_tuple4(env, control, handle_term(env, start.handles[0]),
                                                 handle_term(env, start.handles[1]),
                                                 handle_term(env, start.handles[2])));
    start_close(env, &start, r < 0);
    (void)enif_consume_timeslice(env, 5);
    return result;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

ERL_NIF_TERM nr_nif_probe(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    char path[PATH_BYTES];
    if (get_path(env, argv[0], path) < 0)
        return enif_make_badarg(env);
    int fds[2];
    int r = nr_fd_pipe(fds);
    if (r < 0)
        return nr_term_error(env, r);
    NR_CLEANUP_FD int ours = fds[0];
    NR_CLEANUP_FD int theirs = fds[1];
    char *const arguments[] = {path, NULL};
    pid_t pid;
    r = start_helper(path, arguments, theirs, STDOUT_FILENO, &pid);
    theirs = nr_fd_close(theirs);
    if (r < 0)
        return nr_term_error(env, r);

    char line[256];
    size_t length = 0;
    int64_t deadline = now_ms() + 5000;
    bool timed_out = false;
    while (length < sizeof(line)) {
        struct pollfd poller = {.fd = ours, .events = POLLIN};
        int64_t left = deadline - now_ms();
        int ready = left > 0 ? poll(&poller, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        timed_out = ready <= 0;
        ssize_t n = ready > 0 ? read(ours, line + length, sizeof(line) - length) : 0;
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    (void)waitpid(pid, NULL, WNOHANG);
    if (timed_out)
        return enif_make_tuple2(env, nr_atoms.error_, enif_make_atom(env, "timeout"));
    if (length == 0 || line[length - 1] != '\n')
        return enif_make_tuple2(env, nr_atoms.error_, enif_make_atom(env, "killed"));
    ERL_NIF_TERM binary;
    memcpy(enif_make_new_binary(env, length - 1, &binary), line, length - 1);
    return nr_term_ok(env, binary);
}

/* 0 if a process may execute the regular file at path, else -errno. */
static int check_executable(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return nr_errno();
    if (!S_ISREG(status.st_mode))
        return -EACCES; /* what execve(2) says of a directory */
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? nr_errno() : 0;
}

ERL_NIF_TERM nr_nif_which(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    char exe[PATH_BYTES];
    char candidate[PATH_BYTES];
    ErlNifBinary path;
    int r = get_path(env, argv[0], exe);
    if (r == -ENAMETOOLONG)
        return nr_term_error(env, r);
    if (r < 0 || !enif_inspect_binary(env, argv[1], &path))
        return enif_make_badarg(env);

    size_t exe_length = strlen(exe);
    if (memchr(exe, '/', exe_length) != NULL) {
        r = check_executable(exe);
        return r < 0 ? nr_term_error(env, r) : nr_term_ok(env, argv[0]);
    }
    int found = -ENOENT;
    const char *at = (const char *)path.data;
    const char *end = at + path.size;
    while (exe_length > 0 && at < end) {
        const char *colon = memchr(at, ':', (size_t)(end - at));
        size_t length = (size_t)((colon != NULL ? colon : end) - at);
        if (length > 0 && *at == '/' && length + 1 + exe_length < sizeof(candidate)) {
            memcpy(candidate, at, length);
            candidate[length] = '/';
            memcpy(candidate + length + 1, exe, exe_length + 1);
            r = check_executable(candidate);
            if (r == 0) {
                ERL_NIF_TERM binary;
                size_t size = length + 1 + exe_length;
                memcpy(enif_make_new_binary(env, size, &binary), candidate, size);
                return nr_term_ok(env, binary);
            }
            if (r == -EACCES)
                found = r; /* as execvp: remembered, the search goes on */
        }
        at += length + 1;
    }
    return nr_term_error(env, found);
}
