/*
 * The n-th call of each kind fails, for n = 1, 2, 3, ... until a whole life of a command no longer
 * reaches it: in the zygote, in the guardian, in the child. Each time the life works as ever, or its
 * start fails with the errno of that call, or (where the call is the answer itself) its guardian is
 * lost; never a hang, a signal to a stranger, a descriptor or a process left behind, and the next
 * command runs. The shepherd under test is `shepherd_failing`: see test/failing/failing.h.
 */
#include "shepherd_support.h"

#include "failing.h"
#include "failing_syscalls.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDER(...) ((struct order){.kill_timeout_ms = 300, .drain_timeout_ms = 1000, __VA_ARGS__})

/* A life with more calls of one kind than this has lost its way. */
#define CALLS_MAX 300

enum outcome {
    WORKS = 1 << 0, /* as without the failing call */
    FAILS = 1 << 1, /* the start fails, with its errno */
    LOST = 1 << 2,  /* the control socket ends without the last word */
    ENDS = 1 << 3,  /* the zygote leaves; another is started in its place */
};

struct fault {
    const char *role;
    const char *call;
    int error;
    unsigned may; /* enum outcome */
    bool all;     /* at once, not one after the other */
};

static struct failing *failing;
static struct shepherd shepherd;
static const char *lock;
static const char *const *wrapper;

/* ---- the lives ------------------------------------------------------------------------------ */

static bool zygote_left(void)
{
    struct pollfd look = {.fd = shepherd.socket};
    return poll(&look, 1, 0) == 1 && (look.revents & POLLHUP);
}

/* How the start went. A frame that says why it did not must say the errno of the failing call, or
 * `natural`, which the life has without any fault. */
static enum outcome start_of(struct command *command, const struct order *order, int natural)
{
    struct nr_failed failed = {0};
    struct nr_started started;
    unsigned char bytes[64] = {0};
    uint64_t id;

    *command = spawn(&shepherd, order);
    uint8_t type = next_frame(command->control, &id, bytes, sizeof(bytes));
    switch (type) {
    case NR_STARTED:
        memcpy(&started, bytes, sizeof(started));
        command->pid = (pid_t)started.pid;
        command->guardian = (pid_t)started.guardian_pid;
        return WORKS;
    case NR_FAILED:
        memcpy(&failed, bytes, sizeof(failed));
        expect_hangup(command->control);
        break;
    case 0:
        if (!has_frame(shepherd.socket, 0))
            return LOST;
        if (zygote_left())
            return ENDS;
        type = next_frame(shepherd.socket, &id, bytes, sizeof(bytes));
        ck_assert_uint_eq(type, NR_REJECTED);
        ck_assert_uint_eq(id, command->id);
        memcpy(&failed.error, bytes, sizeof(failed.error));
        break;
    default:
        ck_abort_msg("frame %u", type);
    }
    ck_assert_msg(failed.error == failing->error || failed.error == (uint32_t)natural,
                  "stage %u failed with: %s", failed.stage, strerror((int)failed.error));
    return failed.error == (uint32_t)natural ? WORKS : FAILS;
}

/* How the end went. A family that could not be swept is retried: the report of it lets the call work
 * again. Who was not reached by a signal is killed after the grace. */
static enum outcome end_of(struct command *command, enum nr_exit_how how, uint32_t value)
{
    unsigned char bytes[128] = {0};
    struct nr_exited exited;
    uint64_t id;

    uint8_t type = next_frame(command->control, &id, bytes, sizeof(bytes));
    if (type == NR_UNKILLABLE) {
        failing_disarm(failing);
        type = next_frame(command->control, &id, bytes, sizeof(bytes));
    }
    if (type == 0)
        return LOST;
    ck_assert_uint_eq(type, NR_EXITED);
    memcpy(&exited, bytes, sizeof(exited));
    ck_assert_uint_eq(exited.how, how);
    if (how != NR_EXIT_SIGNAL || exited.value != SIGKILL || failing->failed == 0)
        ck_assert_uint_eq(exited.value, value);
    expect_hangup(command->control);
    return WORKS;
}

static enum outcome reads_and_exits(struct command *command)
{
    int cwd = open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "cat; exec " FIXTURE("show_state")),
              .env = ARGV("PATH=/usr/bin:/bin"), .cd = "bin", .cwd = cwd, .memfd = true,
              .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR);
    enum outcome outcome = start_of(command, &order, 0);
    (void)close(cwd);
    if (outcome != WORKS)
        return outcome;
    ck_assert_int_eq(write(command->in, "input\n", 6), 6);
    (void)close(command->in);
    command->in = -1;
    outcome = end_of(command, NR_EXIT_CODE, 0);
    if (outcome != WORKS)
        return outcome;
    const char *text = read_all(command->out);
    ck_assert_msg(strncmp(text, "input\n", 6) == 0, "%s", text);
    ck_assert_str_eq(state_line(text, "SigIgn"), "SigIgn 0000000000000000");
    ck_assert_str_eq(state_line(text, "SigBlk"), "SigBlk 0000000000000000");
    ck_assert_str_eq(state_line(text, "fds"), "fds 0 1 2");
    ck_assert_str_eq(state_line(text, "cwd"), "cwd /usr/bin");
    return WORKS;
}

static char files[3][BELOW_MAX];

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static const char *content(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_sys(fd);
    const char *text = read_all(fd);
    (void)close(fd);
    return text;
}

static enum outcome has_files(struct command *command)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "cat; echo error >&2"),
              .env = ARGV("PATH=/usr/bin:/bin"), .files = {files[0], files[1], files[2]},
              .flags = NR_SPAWN_STDIN_FILE | NR_SPAWN_STDOUT_FILE | NR_SPAWN_STDERR_FILE |
                       NR_SPAWN_STDERR_APPEND);
    write_file(files[0], "input\n");
    write_file(files[1], "something longer from before\n");
    write_file(files[2], "before\n");
    enum outcome outcome = start_of(command, &order, 0);
    if (outcome == WORKS)
        outcome = end_of(command, NR_EXIT_CODE, 0);
    if (outcome == FAILS) /* nothing ran */
        ck_assert_str_eq(content(files[2]), "before\n");
    if (outcome != WORKS)
        return outcome;
    ck_assert_str_eq(content(files[1]), "input\n");
    ck_assert_str_eq(content(files[2]), "before\nerror\n");
    return WORKS;
}

static enum outcome lives_in_a_terminal(struct command *command)
{
    char text[16] = {0};
    int master;
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", ": </dev/tty && echo so"));
    open_terminal(&master, &order.pty);
    enum outcome outcome = start_of(command, &order, 0);
    (void)close(order.pty);
    if (outcome == WORKS)
        outcome = end_of(command, NR_EXIT_CODE, 0);
    if (outcome == WORKS) {
        ck_assert_sys(read(master, text, sizeof(text) - 1));
        ck_assert_str_eq(text, "so\r\n");
    }
    (void)close(master);
    return outcome;
}

/* Somebody else with limits; root only, others are themselves. */
static enum outcome is_somebody(struct command *command)
{
    const bool root = geteuid() == 0;
    const struct nr_setting settings[] = {
        {.what = NR_SETTING_UMASK, .value = 027},
        {.what = NR_SETTING_NICE, .value = 19},
        {.what = NR_SETTING_OOM_SCORE_ADJ, .value = 1000},
        {.what = NR_SETTING_RLIMIT, .which = 4, .value = 0, .hard = 0}, /* core */
        {.what = NR_SETTING_NO_NEW_PRIVS},
        {.what = NR_SETTING_USER, .value = 61063},
        {.what = NR_SETTING_GROUP, .value = 61064},
        {.what = NR_SETTING_MEMBER, .value = 61065},
    };
    int master;
    struct order order = ORDER(.argv = ARGV("/usr/bin/id"), .flags = NR_SPAWN_STDOUT, .cd = "/",
                               .settings = settings, .settings_count = root ? 8 : 5);
    open_terminal(&master, &order.pty); /* which becomes that user's */
    enum outcome outcome = start_of(command, &order, 0);
    (void)close(order.pty);
    if (outcome == WORKS)
        outcome = end_of(command, NR_EXIT_CODE, 0);
    (void)close(master); /* not earlier: it would hang up */
    if (outcome == WORKS && root)
        ck_assert_str_eq(read_all(command->out), "uid=61063 gid=61064 groups=61064,61065\n");
    return outcome;
}

static enum outcome has_nothing_to_read(struct command *command)
{
    struct order order = ORDER(.argv = ARGV("/bin/true"));
    enum outcome outcome = start_of(command, &order, 0);
    return outcome == WORKS ? end_of(command, NR_EXIT_CODE, 0) : outcome;
}

static enum outcome cannot_be_executed(struct command *command)
{
    struct order order = ORDER(.argv = ARGV("/usr/bin/there is no such program"));
    return start_of(command, &order, ENOENT);
}

static enum outcome daemon_of(struct command *command)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    enum outcome outcome = start_of(command, &order, 0);
    if (outcome == WORKS)
        expect_ready(command);
    return outcome;
}

static enum outcome is_stopped_with_its_daemon(struct command *command)
{
    enum outcome outcome = daemon_of(command);
    if (outcome != WORKS)
        return outcome;
    send_stop(command, 300);
    return end_of(command, NR_EXIT_SIGNAL, SIGTERM);
}

static enum outcome leaves_a_daemon(struct command *command)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock, "exit"),
                               .flags = NR_SPAWN_STDOUT, .drain_timeout_ms = 20);
    enum outcome outcome = start_of(command, &order, 0);
    return outcome == WORKS ? end_of(command, NR_EXIT_CODE, 0) : outcome;
}

static enum outcome is_killed(struct command *command)
{
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), lock), .flags = NR_SPAWN_STDOUT);
    struct nr_killed killed;
    unsigned char bytes[64] = {0};
    uint64_t id;

    enum outcome outcome = start_of(command, &order, 0);
    if (outcome != WORKS)
        return outcome;
    expect_ready(command);
    send_kill(command, 7, SIGKILL, NR_SCOPE_LEADER);
    uint8_t type = next_frame(command->control, &id, bytes, sizeof(bytes));
    if (type == 0)
        return LOST;
    ck_assert_uint_eq(type, NR_KILLED);
    memcpy(&killed, bytes, sizeof(killed));
    if (killed.error == 0)
        return end_of(command, NR_EXIT_SIGNAL, SIGKILL);
    ck_assert_uint_eq(killed.error, failing->error);
    return FAILS;
}

static enum outcome loses_its_owner(struct command *command)
{
    enum outcome outcome = daemon_of(command);
    if (outcome != WORKS)
        return outcome;
    drop(command);
    return WORKS; /* the lock shows it */
}

static enum outcome loses_its_guardian(struct command *command)
{
    enum outcome outcome = daemon_of(command);
    if (outcome != WORKS)
        return outcome;
    ck_assert_sys(kill(command->guardian, SIGKILL));
    expect_hangup(command->control);
    if (failing->last == UINT32_MAX) { /* for longer than two looks for strays */
        (void)poll(NULL, 0, 300);
        failing_disarm(failing);
    }
    return WORKS;
}

/* ---- in a cgroup ---------------------------------------------------------------------------- */

static const char *parent;

/* The leaf is removed, whatever failed; at once where the command worked. */
static enum outcome without_leaf(enum outcome outcome, bool at_once)
{
    char leaf[600];
    uint64_t limit = now_ms() + WAIT_MS;
    (void)snprintf(leaf, sizeof(leaf), "%s/leaf", parent);
    if (failing->failed == 0 && at_once && outcome == WORKS)
        ck_assert(access(leaf, F_OK) < 0);
    failing_disarm(failing);
    while (access(leaf, F_OK) == 0) {
        ck_assert_msg(now_ms() < limit, "the leaf is not removed");
        (void)poll(NULL, 0, 2);
    }
    return outcome;
}

static enum outcome end_in_cgroup(struct command *command, enum nr_exit_how how, uint32_t value)
{
    unsigned char bytes[128] = {0};
    uint64_t id;
    uint8_t type = next_frame(command->control, &id, bytes, sizeof(bytes));
    if (type == NR_UNKILLABLE) {
        failing_disarm(failing);
        type = next_frame(command->control, &id, bytes, sizeof(bytes));
    }
    if (type == 0)
        return LOST;
    ck_assert_uint_eq(type, NR_USAGE);
    return end_of(command, how, value);
}

static enum outcome lives_in_a_cgroup(struct command *command)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "exec cat /proc/self/cgroup"), .flags = NR_SPAWN_STDOUT,
              .env = ARGV("PATH=/usr/bin:/bin"), .cgroup = parent, .leaf = "leaf",
              .limits = ARGV("cgroup.max.depth=3"), .drain_timeout_ms = 20);
    enum outcome outcome = start_of(command, &order, 0);
    if (outcome == WORKS)
        outcome = end_in_cgroup(command, NR_EXIT_CODE, 0);
    if (outcome == WORKS) /* however it was put there */
        ck_assert_ptr_nonnull(strstr(read_all(command->out), "/leaf\n"));
    return without_leaf(outcome, true);
}

static enum outcome is_stopped_in_a_cgroup(struct command *command)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT,
                               .cgroup = parent, .leaf = "leaf");
    enum outcome outcome = start_of(command, &order, 0);
    if (outcome == WORKS) {
        expect_ready(command);
        send_stop(command, 300);
        outcome = end_in_cgroup(command, NR_EXIT_SIGNAL, SIGTERM);
    }
    return without_leaf(outcome, true);
}

static enum outcome loses_its_guardian_in_a_cgroup(struct command *command)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT,
                               .cgroup = parent, .leaf = "leaf", .memfd = true);
    enum outcome outcome = start_of(command, &order, 0);
    if (outcome == WORKS) {
        expect_ready(command);
        ck_assert_sys(kill(command->guardian, SIGKILL));
        expect_hangup(command->control);
        (void)poll(NULL, 0, 150); /* the zygote's first looks */
    }
    return without_leaf(outcome, false);
}

static const struct {
    const char *name;
    enum outcome (*live)(struct command *command);
} lives[] = {
    {"loses its guardian", loses_its_guardian}, /* first: the looks for strays take their time */
    {"reads and exits", reads_and_exits},
    {"has files", has_files},
    {"lives in a terminal", lives_in_a_terminal},
    {"is somebody", is_somebody},
    {"has nothing to read", has_nothing_to_read},
    {"cannot be executed", cannot_be_executed},
    {"is stopped with its daemon", is_stopped_with_its_daemon},
    {"leaves a daemon", leaves_a_daemon},
    {"is killed", is_killed},
    {"loses its owner", loses_its_owner},
    /* From here on only where there are cgroups, and with faults of their own. */
    {"lives in a cgroup", lives_in_a_cgroup},
    {"is stopped in a cgroup", is_stopped_in_a_cgroup},
    {"loses its guardian in a cgroup", loses_its_guardian_in_a_cgroup},
};
#define LIVES_IN_ALL (sizeof(lives) / sizeof(lives[0]))
#define LIVES        (LIVES_IN_ALL - 3)

/* ---- the faults ----------------------------------------------------------------------------- */

static const char *say(unsigned outcomes)
{
    static char text[64];
    (void)snprintf(text, sizeof(text), "%s%s%s%s", outcomes & WORKS ? "works " : "",
                   outcomes & FAILS ? "fails " : "", outcomes & LOST ? "lost " : "",
                   outcomes & ENDS ? "ends " : "");
    return text;
}

static void prepare(void)
{
    char page[BELOW_MAX];
    become_subreaper();
    ck_assert_sys(setenv("ASAN_OPTIONS", "detect_leaks=0", 1)); /* the detector forks, too */
    shepherd_path = NR_TEST_SHEPHERD_FAILING;
    lock = lock_file();
    (void)snprintf(page, sizeof(page), "%s.failing", lock);
    for (int i = 0; i < 3; i++)
        (void)snprintf(files[i], sizeof(files[i]), "%s.%d", lock, i);
    ck_assert_sys(setenv(FAILING_FILE, page, 1));
    failing = failing_open(page);
    ck_assert_ptr_nonnull(failing);
}

static void begin(void)
{
    prepare();
    shepherd = shepherd_start(wrapper);
}

static void end(void)
{
    shepherd_finish(&shepherd);
}

/* One life with the n-th call failing. Whether it was reached. */
static bool live_once(const struct fault *fault, size_t life, uint32_t n)
{
    struct command command = {.control = -1, .in = -1, .out = -1, .err = -1};
    unsigned fds = count_fds(shepherd.pid);
    char what[256];
    (void)snprintf(what, sizeof(what), "a command that %s; %s: %s no. %u%s: %s", lives[life].name,
                   fault->role, fault->call, n, fault->all ? " and all others" : "",
                   strerror(fault->error));

    failing_arm(failing, fault->role, fault->call, n, fault->all ? UINT32_MAX : n, fault->error);
    unsigned outcome = lives[life].live(&command);
    drop(&command);
    await_unlocked(lock, WAIT_MS);
    failing_disarm(failing);

    bool reached = failing->failed > 0;
    unsigned may = reached ? fault->may : WORKS;
    ck_assert_msg((outcome & may) != 0, "%s: %s", what, say(outcome));
    ck_assert_msg(failing->strangers == 0, "%s: a signal to a stranger", what);
    if (reached && (fault->may & ENDS)) { /* at once, or when it comes to look at its socket */
        shepherd_end(&shepherd);
        expect_no_children();
        shepherd = shepherd_start(wrapper);
    } else {
        expect_baseline(&shepherd, fds);
    }
    return reached;
}

static void live_each(const struct fault *fault, size_t first, size_t end)
{
    uint32_t reached = 0;
    for (size_t life = first; life < end; life++) {
        uint32_t n = 1;
        while (live_once(fault, life, n)) {
            reached++;
            if (fault->all)
                break;
            ck_assert_msg(++n < CALLS_MAX, "%s in the %s: a life without end", fault->call,
                          fault->role);
        }
        expect_alive(&shepherd);
    }
    ck_assert_msg(reached > 0, "no life calls %s in the %s", fault->call, fault->role);
}

static void live_through(const struct fault *fault)
{
    live_each(fault, 0, LIVES);
}

/* clang-format off */
static const struct fault zygote_faults[] = {
    {"zygote", "fork", EAGAIN, FAILS, false},
    {"zygote", "fork", ENOMEM, FAILS, false},
    {"zygote", "poll", EINTR, WORKS, false},
    {"zygote", "poll", ENOMEM, WORKS, false},
    {"zygote", "recvmsg", EINTR, WORKS, false},
    {"zygote", "recvmsg", ENOMEM, WORKS, false},
    {"zygote", "recvmsg", ENOBUFS, WORKS, false},
    {"zygote", "fstat", ENOMEM, FAILS, false},
    {"zygote", "fcntl", EBADMSG, FAILS, false}, /* no seals: whatever the reason, they are not to be trusted */
    {"zygote", "getsockopt", ENOTSOCK, FAILS, false},
    {"zygote", "read", EINTR, WORKS, false},
    {"zygote", "kill", EPERM, WORKS, false},
    {"zygote", "pread", ENOMEM, WORKS, true},
    {"zygote", "pread", ENOMEM, WORKS, false},
    {"zygote", "open,pread", ENFILE, WORKS, true},
    {"zygote", "close", EINTR, WORKS, true},
};
/* clang-format on */

START_TEST(in_the_zygote)
{
    live_through(&zygote_faults[_i]);
}
END_TEST

/* clang-format off */
static const struct fault guardian_faults[] = {
    {"guardian", "prctl", EPERM, WORKS | FAILS, false},
    {"guardian", "signalfd", EMFILE, FAILS, false},
    {"guardian", "signalfd", ENOMEM, FAILS, false},
    {"guardian", "mmap", ENOMEM, FAILS, false},
    {"guardian", "malloc", ENOMEM, FAILS, false},
    {"guardian", "pipe2", EMFILE, FAILS, false},
    {"guardian", "pipe2", ENFILE, FAILS, false},
    {"guardian", "fcntl", ENOMEM, FAILS, false},
    {"guardian", "vfork", EAGAIN, FAILS, false},
    {"guardian", "vfork", ENOMEM, FAILS, false},
    {"guardian", "pidfd_open", EMFILE, WORKS, false},
    {"guardian", "clone3", EAGAIN, FAILS, false},
    {"guardian", "clone3", ENOMEM, FAILS, false},
    {"guardian", "clone3", ENOSYS, WORKS, false},
    {"guardian", "clone3", EPERM, WORKS, false},
    {"guardian", "poll", EINTR, WORKS, false},
    {"guardian", "poll", ENOMEM, WORKS, false},
    {"guardian", "recvmsg", EINTR, WORKS, false},
    {"guardian", "recvmsg", ENOMEM, WORKS, false},
    {"guardian", "recvmsg", ENOBUFS, WORKS, false},
    {"guardian", "send", EINTR, WORKS, false},
    {"guardian", "send", EAGAIN, WORKS, false},
    {"guardian", "send", ENOBUFS, WORKS, false},
    {"guardian", "read", EINTR, WORKS, false},
    {"guardian", "kill", EPERM, WORKS | FAILS, false},
    {"guardian", "open", EMFILE, WORKS, false},
    {"guardian", "open", ENFILE, WORKS, true},
    {"guardian", "open,pread", ENFILE, WORKS, true},
    {"guardian", "pread", ENOMEM, WORKS, false},
    {"guardian", "wait4", EINTR, WORKS, false},
    {"guardian", "shutdown", ENOBUFS, WORKS, false},
    {"guardian", "close", EINTR, WORKS, true},
};
/* clang-format on */

START_TEST(in_the_guardian)
{
    live_through(&guardian_faults[_i]);
}
END_TEST

/* clang-format off */
static const struct fault child_faults[] = {
    {"child", "setsid", EPERM, FAILS, false},
    {"child", "rt_sigaction", EINVAL, WORKS, true},
    {"child", "fcntl", EMFILE, FAILS, false},
    {"child", "open", EMFILE, FAILS, false},
    {"child", "open", ENFILE, FAILS, true},
    {"child", "openat", EMFILE, FAILS, false},
    {"child", "openat", ENOSPC, FAILS, true},
    {"child", "openat", EINTR, FAILS, false},
    {"child", "dup2", EBUSY, FAILS, false},
    {"child", "fchdir", EACCES, FAILS, false},
    {"child", "chdir", ESTALE, FAILS, false},
    {"child", "ioctl", EPERM, FAILS, false},
    {"child", "prctl", EPERM, FAILS, false},
    {"child", "setpriority", EACCES, FAILS, false},
    {"child", "setrlimit", EPERM, FAILS, false},
    {"child", "dup3", EMFILE, FAILS, false},
    {"child", "close_range", ENOSYS, WORKS, false},
    {"child", "close_range", EPERM, WORKS, false},
    {"child", "close", EINTR, WORKS, true},
    {"child", "execve", ENOMEM, FAILS, false},
    {"child", "execve", EAGAIN, FAILS, false},
    {"child", "write", EINTR, WORKS, false},
};
/* clang-format on */

START_TEST(in_the_child)
{
    live_through(&child_faults[_i]);
}
END_TEST

/* EPERM is also what the start says that finds itself to be somebody else than it should. That root cannot be
 * had again is a call that has to fail. */
/* clang-format off */
static const struct fault identity_faults[] = {
    {"child", "fchown", EPERM, WORKS, false},
    {"child", "keyctl", EPERM, FAILS, false},
    {"child", "keyctl", EDQUOT, FAILS, false},
    {"child", "keyctl", EPERM, WORKS, true}, /* a filter's: whoever runs under it reaches no key */
    {"child", "keyctl", ENOSYS, WORKS, false},
    {"child", "getgroups", EPERM, WORKS | FAILS, false},
    {"child", "setgroups", EPERM, FAILS, false},
    {"child", "setresgid", EPERM, FAILS, false},
    {"child", "getresgid", EPERM, FAILS, false},
    {"child", "setresuid", EPERM, WORKS | FAILS, false},
    {"child", "getresuid", EPERM, FAILS, false},
    {"child", "capget", EPERM, FAILS, false},
    {"child", "capset", EPERM, FAILS, false},
};
/* clang-format on */

START_TEST(in_the_change_of_user)
{
    if (geteuid() != 0)
        skip("only root can become somebody else");
    live_through(&identity_faults[_i]);
}
END_TEST

/* clang-format off */
static const struct fault cgroup_faults[] = {
    {"zygote", "mmap", ENOMEM, FAILS, false},
    {"zygote", "madvise", ENOMEM, WORKS, false},
    {"zygote", "pread", EIO, FAILS | WORKS, false},
    {"zygote", "openat2", EMFILE, WORKS, false},
    {"zygote", "openat2", ENOSYS, WORKS, true},
    {"zygote", "openat", EMFILE, WORKS, false},
    {"zygote", "openat", ENFILE, WORKS, true},
    {"zygote", "unlinkat", EBUSY, WORKS, false},
    {"zygote", "unlinkat", EBUSY, WORKS, true},
    {"zygote", "write", EIO, WORKS, false},
    {"zygote", "fork", EAGAIN, FAILS, false},
    {"guardian", "openat2", EMFILE, FAILS, false},
    {"guardian", "openat2", ENOSYS, WORKS, true},
    {"guardian", "openat2", EPERM, WORKS, true},
    {"guardian", "fstatfs", EIO, FAILS, false},
    {"guardian", "mkdirat", ENOSPC, FAILS, false},
    {"guardian", "openat", EMFILE, FAILS | WORKS, false},
    {"guardian", "openat", ENFILE, FAILS | WORKS, true},
    {"guardian", "fstat", EIO, FAILS, false},
    {"guardian", "write", EIO, FAILS | WORKS, false},
    {"guardian", "write", EINTR, WORKS, false},
    {"guardian", "clone3", EACCES, FAILS, false},
    {"guardian", "clone3", EAGAIN, FAILS, false},
    {"guardian", "clone3", ENOSYS, WORKS, false},
    {"guardian", "clone3", E2BIG, WORKS, false},
    {"guardian", "clone3", EINVAL, WORKS, false},
    {"guardian", "clone3,write,waitpid", EINVAL, FAILS, true}, /* neither born there nor put there */
    {"guardian", "write,pidfd_send_signal", EIO, FAILS | WORKS, true}, /* no cgroup.kill, nor one by one */
    {"guardian", "pread", ENOMEM, WORKS, false},
    {"guardian", "pread", ENOMEM, WORKS, true},
    {"guardian", "read", EINTR, WORKS, false},
    {"guardian", "poll", EINTR, WORKS, false},
    {"guardian", "fstatat", EIO, WORKS, false},
    {"guardian", "unlinkat", EBUSY, WORKS, false},
    {"guardian", "unlinkat", EBUSY, WORKS, true},
    {"guardian", "unlinkat", EROFS, WORKS, false},
    {"guardian", "close", EINTR, WORKS, true},
};
/* clang-format on */

static void begin_in_a_cgroup(void)
{
    parent = cgroup_make_parent();
    begin();
}

static void end_in_a_cgroup(void)
{
    end();
    cgroup_remove_parent();
}

START_TEST(in_a_cgroup)
{
    live_each(&cgroup_faults[_i], LIVES, LIVES_IN_ALL);
}
END_TEST

/* ---- strays that cannot be killed -------------------------------------------------------------- */

static void kill_guardian(struct command *command)
{
    expect_ready(command);
    ck_assert_sys(kill(command->guardian, SIGKILL));
    expect_hangup(command->control);
    await_gone(command->pid, WAIT_MS);
}

/* One that outlives SIGKILL is looked for once a second; what a guardian leaves later is new. */
START_TEST(an_old_stray_does_not_slow_the_sweep_of_new_ones)
{
    const char *other = files[0];
    write_file(other, "");
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), other), .flags = NR_SPAWN_STDOUT);
    struct command old = start(&shepherd, &order);
    failing_arm(failing, "zygote", "kill", 1, UINT32_MAX, EPERM);
    kill_guardian(&old);
    (void)poll(NULL, 0, 2500); /* longer than a stray is looked for in haste */
    ck_assert(is_locked(other));

    order.argv = ARGV(FIXTURE("daemonize"), lock);
    struct command new = start(&shepherd, &order);
    kill_guardian(&new);
    (void)poll(NULL, 0, 200); /* the looks at once, that ends bring, are over */
    ck_assert(is_locked(lock));
    failing_disarm(failing);
    uint64_t took = await_unlocked(lock, WAIT_MS);
    printf("swept in %llu ms\n", (unsigned long long)took);
    ck_assert_uint_lt(took, 500);
    await_unlocked(other, WAIT_MS);
    ck_assert_uint_eq(failing->strangers, 0);
    drop(&old);
    drop(&new);
}
END_TEST

/* ---- no memory to listen with, for longer ----------------------------------------------------- */

/* It does not turn round meanwhile: how often it tried shows it. */
static void expect_patience(void)
{
    uint64_t limit = now_ms() + WAIT_MS;
    while (failing->failed < 2 && now_ms() < limit)
        (void)poll(NULL, 0, 1);
    uint32_t before = failing->failed;
    (void)poll(NULL, 0, 500);
    uint32_t tries = failing->failed - before;
    ck_assert_msg(tries >= 2 && tries <= 60, "%u tries in half a second", tries);
}

START_TEST(a_guardian_without_memory_hears_later)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"));
    struct command command = start(&shepherd, &order);
    struct nr_killed killed;
    failing_arm(failing, "guardian", "recvmsg", 1, UINT32_MAX, _i == 0 ? ENOMEM : ENOBUFS);
    send_kill(&command, 7, SIGTERM, NR_SCOPE_LEADER);
    expect_patience();
    ck_assert(!has_frame(command.control, 0));
    failing_disarm(failing);
    expect_frame(command.control, NR_KILLED, 7, &killed, sizeof(killed));
    expect_exit(&command, NR_EXIT_SIGNAL, SIGTERM);
}
END_TEST

START_TEST(a_guardian_without_memory_sees_a_hangup)
{
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    failing_arm(failing, "guardian", "recvmsg", 1, UINT32_MAX, ENOMEM);
    drop(&command);
    await_unlocked(lock, WAIT_MS);
    ck_assert_uint_gt(failing->failed, 0);
    failing_disarm(failing);
}
END_TEST

START_TEST(a_zygote_without_memory_serves_later)
{
    struct order order = ORDER(.argv = ARGV("/bin/true"));
    struct nr_started started;
    failing_arm(failing, "zygote", "recvmsg", 1, UINT32_MAX, _i == 0 ? ENOMEM : ENOBUFS);
    struct command command = spawn(&shepherd, &order);
    expect_patience();
    ck_assert(!has_frame(command.control, 0));
    failing_disarm(failing);
    expect_frame(command.control, NR_STARTED, command.id, &started, sizeof(started));
    expect_exit(&command, NR_EXIT_CODE, 0);
}
END_TEST

/* ---- its own start -------------------------------------------------------------------------- */

/* One start of a zygote with the n-th call failing: it serves, or ends with 1 and without a word.
 * Whether the call was reached. */
static bool start_once(const struct fault *fault, uint32_t n)
{
    struct command command = {.control = -1, .in = -1, .out = -1, .err = -1};
    struct nr_hello hello;
    uint64_t id;

    failing_arm(failing, fault->role, fault->call, n, fault->all ? UINT32_MAX : n, fault->error);
    shepherd = shepherd_launch(wrapper);
    uint8_t type = next_frame(shepherd.socket, &id, &hello, sizeof(hello));
    bool reached = failing->failed > 0;
    failing_disarm(failing);

    unsigned may = reached ? fault->may : WORKS;
    ck_assert_msg((may & (type == NR_HELLO ? WORKS : ENDS)) != 0, "%s no. %u: %s: frame %u",
                  fault->call, n, strerror(fault->error), type);
    if (type == NR_HELLO) {
        ck_assert_uint_le(count_fds(shepherd.pid), 8); /* as in test_zygote.c */
        ck_assert_uint_eq(reads_and_exits(&command), WORKS);
        drop(&command);
        shepherd_end(&shepherd);
    } else {
        int status = shepherd_await_end(&shepherd);
        ck_assert(WIFEXITED(status));
        /* 64: it finds that NetRunner is not who started it. */
        ck_assert_int_eq(WEXITSTATUS(status), strcmp(fault->call, "getsockopt") == 0 ? 64 : 1);
        (void)close(shepherd.socket);
    }
    expect_no_children();
    return reached;
}

static void start_until_clean(const struct fault *fault)
{
    uint32_t n = 1;
    while (start_once(fault, n) && !fault->all)
        ck_assert_msg(++n < CALLS_MAX, "%s: a start without end", fault->call);
    ck_assert_msg(n > 1 || failing->failed > 0, "no start calls %s", fault->call);
}

/* clang-format off */
static const struct fault start_faults[] = {
    {"zygote", "getsockopt", ENOTSOCK, ENDS, false},
    {"zygote", "chdir", EACCES, ENDS, false},
    {"zygote", "open", EMFILE, WORKS | ENDS, false},
    {"zygote", "open", ENFILE, WORKS | ENDS, true},
    {"zygote", "dup2", EBUSY, ENDS, false},
    {"zygote", "fcntl", ENOMEM, ENDS, false},
    {"zygote", "close_range", ENOSYS, WORKS, false},
    {"zygote", "close_range", EPERM, WORKS, false},
    {"zygote", "rt_sigaction", EINVAL, WORKS, true},
    {"zygote", "prctl", EPERM, WORKS, false},
    {"zygote", "signalfd", EMFILE, ENDS, false},
    {"zygote", "signalfd", ENOMEM, ENDS, false},
    {"zygote", "pidfd_open", EMFILE, WORKS, false},
    {"zygote", "pidfd_open", ENOSYS, WORKS, true},
    {"zygote", "pread", ENOMEM, WORKS, false},
    {"zygote", "pread,faccessat", ENOENT, WORKS, true},
    {"zygote", "send", EINTR, WORKS, false},
    {"zygote", "send", EAGAIN, WORKS, false},
    {"zygote", "send", ENOMEM, ENDS, false},
    {"zygote", "write", EACCES, WORKS, false}, /* of its oom_score_adj, which not everybody may */
    {"zygote", "close", EINTR, WORKS, true},
};
/* clang-format on */

START_TEST(in_the_start_of_the_zygote)
{
    start_until_clean(&start_faults[_i]);
}
END_TEST

/* ---- what only runs where the first choice is refused ----------------------------------------- */

static void refuse(void)
{
    static const char *const refusing[] = {FIXTURE("refuse_calls"), "clone3,close_range", NULL};
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", "38", 1)); /* ENOSYS */
    wrapper = refusing;
}

static void prepare_refused(void)
{
    refuse();
    prepare();
}

static void begin_refused(void)
{
    refuse();
    begin();
}

/* clang-format off */
static const struct fault fallback_faults[] = {
    {"guardian", "fork", EAGAIN, FAILS, false},
    {"guardian", "fork", ENOMEM, FAILS, false},
    {"guardian", "pidfd_open", ENOSYS, WORKS, false},
    {"guardian", "pidfd_open", EPERM, WORKS, false},
    {"guardian", "pidfd_open", EMFILE, WORKS, false},
    {"child", "open", EMFILE, WORKS | FAILS, false},
    {"child", "open", EMFILE, WORKS | FAILS, true},
    {"child", "getdents64", EIO, WORKS, false},
    {"child", "lseek", EIO, WORKS, false},
};
/* clang-format on */

START_TEST(in_a_fallback)
{
    live_through(&fallback_faults[_i]);
}
END_TEST

/* close_range(2) is refused to the zygote, too: nothing of the starter may stay open. */
/* clang-format off */
static const struct fault start_fallback_faults[] = {
    {"zygote", "open", EMFILE, WORKS | ENDS, false},
    {"zygote", "open", EMFILE, WORKS | ENDS, true},
    {"zygote", "getdents64", EIO, WORKS, false},
    {"zygote", "lseek", EIO, WORKS, false},
    {"zygote", "getdents64,getrlimit", EIO, WORKS, true},
};
/* clang-format on */

START_TEST(in_a_fallback_of_the_start)
{
    start_until_clean(&start_fallback_faults[_i]);
}
END_TEST

/* ---- no call is forgotten --------------------------------------------------------------------- */

#define ALL_OF(faults)                                                                             \
    {                                                                                              \
        faults, sizeof(faults) / sizeof(*(faults))                                                 \
    }

static const struct {
    const struct fault *faults;
    size_t count;
} tables[] = {
    ALL_OF(zygote_faults),   ALL_OF(guardian_faults),       ALL_OF(child_faults),
    ALL_OF(identity_faults), ALL_OF(cgroup_faults),         ALL_OF(start_faults),
    ALL_OF(fallback_faults), ALL_OF(start_fallback_faults),
};

/* What no table arms, and why. */
static const struct {
    const char *calls;
    const char *why;
} exempt[] = {
    {"bcmp,memchr,memcmp,memcpy,memmove,memset,snprintf,strchr,strcmp,strcspn,strlen,strncmp,"
     "strspn,strstr,strtol",
     "they ask nobody for anything"},
    {"sigaddset,sigemptyset,rt_sigprocmask", "they fail only for a signal or a mask that is none"},
    {"_exit,free,getpid,getppid,getuid,umask", "they cannot fail"},
    {"clock_gettime", "the monotonic clock is always there"},
    {"getpgid", "it fails only where nobody has the pid: test_pidref.c asks for such a one"},
    {"munmap", "of what was mapped; there would be nothing to do about it"},
    {"syscall", "by number: FAILING_SYSCALLS"},
    {"waitid",
     "with WNOHANG it fails only where there is no such child, which is an answer: test_reap.c, "
     "test_pidref.c; and the seam itself asks it for strangers"},
};

static bool is_among(const char *calls, const char *call)
{
    size_t length = strlen(call);
    for (const char *at = calls; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, call, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

static bool is_armed(const char *call)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (size_t i = 0; i < tables[t].count; i++)
            if (is_among(tables[t].faults[i].call, call))
                return true;
    return false;
}

static bool is_exempt(const char *call)
{
    for (size_t i = 0; i < sizeof(exempt) / sizeof(exempt[0]); i++)
        if (is_among(exempt[i].calls, call))
            return true;
    return false;
}

static void expect_known(const char *call)
{
    ck_assert_msg(is_armed(call) || is_exempt(call),
                  "%s fails in no table of this file, nor is it exempt", call);
    ck_assert_msg(!(is_armed(call) && is_exempt(call)), "%s is exempt, and fails", call);
}

#define EXPECT_KNOWN(name) expect_known(#name);

/* What the shepherd's objects leave to libc, but for what the compiler itself brings (__names). nm is of binutils, which
 * gcc brings. */
START_TEST(each_call_of_the_shepherd_fails_somewhere)
{
    char line[512];
    char call[256];
    unsigned calls = 0;
    FILE *symbols = popen("nm -u " NR_TEST_SHEPHERD_OBJECTS, "re");
    ck_assert_ptr_nonnull(symbols);
    while (fgets(line, sizeof(line), symbols) != NULL) {
        if (sscanf(line, " U %255s", call) != 1 || strncmp(call, "__", 2) == 0 ||
            strncmp(call, "nr_", 3) == 0)
            continue;
        expect_known(call);
        calls++;
    }
    ck_assert_int_eq(pclose(symbols), 0);
    ck_assert_uint_gt(calls, 50);
    FAILING_SYSCALLS(EXPECT_KNOWN)
}
END_TEST

static TCase *add_case(Suite *suite, const char *name, SFun before, SFun after)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, before, after);
    suite_add_tcase(suite, tcase);
    return tcase;
}

#define ADD_EACH(tcase, test, faults)                                                              \
    tcase_add_loop_test(tcase, test, 0, sizeof(faults) / sizeof(*(faults)))

int main(void)
{
    Suite *suite = suite_create("failing calls");
    TCase *tcase = add_case(suite, "serving", begin, end);
    ADD_EACH(tcase, in_the_zygote, zygote_faults);
    ADD_EACH(tcase, in_the_guardian, guardian_faults);
    ADD_EACH(tcase, in_the_child, child_faults);
    ADD_EACH(tcase, in_the_change_of_user, identity_faults);
    tcase_add_test(tcase, an_old_stray_does_not_slow_the_sweep_of_new_ones);
    tcase_add_loop_test(tcase, a_guardian_without_memory_hears_later, 0, 2);
    tcase_add_test(tcase, a_guardian_without_memory_sees_a_hangup);
    tcase_add_loop_test(tcase, a_zygote_without_memory_serves_later, 0, 2);

    bool cgroups = cgroup_begin() != NULL;
    if (cgroups) {
        tcase = add_case(suite, "in a cgroup", begin_in_a_cgroup, end_in_a_cgroup);
        ADD_EACH(tcase, in_a_cgroup, cgroup_faults);
    } else {
        printf("SKIP in_a_cgroup: no cgroup2 is mounted here that we may write to\n");
    }

    tcase = add_case(suite, "all calls", NULL, NULL);
    tcase_add_test(tcase, each_call_of_the_shepherd_fails_somewhere);

    tcase = add_case(suite, "starting", prepare, NULL);
    ADD_EACH(tcase, in_the_start_of_the_zygote, start_faults);

    tcase = add_case(suite, "fallbacks", begin_refused, end);
    ADD_EACH(tcase, in_a_fallback, fallback_faults);

    tcase = add_case(suite, "starting with fallbacks", prepare_refused, NULL);
    ADD_EACH(tcase, in_a_fallback_of_the_start, start_fallback_faults);
    int r = run_suite(suite);
    if (cgroups)
        cgroup_end();
    return r;
}
