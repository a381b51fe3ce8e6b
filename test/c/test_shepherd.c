/*
 * Commands through the built shepherd: start, exit, signals, drain, stop ladder, keep, hang-up. This
 * process is the BEAM. Each test ends by asserting that the zygote left with 0 and that nobody, not
 * even a zombie, is left behind.
 */
#include "shepherd_support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shepherd shepherd;
static char folder[TEMPORARY_MAX];

static void begin(void)
{
    make_folder(folder);
    shepherd = shepherd_begin(NULL);
}

#ifndef NR_PORTABLE
static const char *const no_new_calls[] = {FIXTURE("refuse_calls"), "clone3,pidfd_open,close_range",
                                           NULL};

static void begin_without_new_calls(void)
{
    make_folder(folder);
    shepherd = shepherd_begin(no_new_calls);
}
#endif

static void end(void)
{
    shepherd_finish(&shepherd);
}

#define ORDER(...) ((struct order){.kill_timeout_ms = 2000, .drain_timeout_ms = 1000, __VA_ARGS__})

static const char *const path_env[] = {"PATH=/usr/bin:/bin", NULL};

/* ---- start and exit ------------------------------------------------------------------------- */

START_TEST(hello_says_what_the_machine_gives)
{
#ifdef NR_PORTABLE
    ck_assert_uint_eq(shepherd.hello.features, 0);
#else
    ck_assert_uint_eq(shepherd.hello.features & NR_FEATURE_SUBREAPER, NR_FEATURE_SUBREAPER);
    ck_assert_uint_eq(shepherd.hello.features & NR_FEATURE_CHILDREN, NR_FEATURE_CHILDREN);
#endif
}
END_TEST

START_TEST(output_comes_and_then_the_exit)
{
    struct order order = ORDER(.argv = ARGV("/bin/echo", "hello"), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    ck_assert_int_gt(command.pid, 1);
    ck_assert_int_gt(command.guardian, 1);
    ck_assert_int_ne(command.pid, command.guardian);
    ck_assert_str_eq(read_all(command.out), "hello\n");
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert_uint_eq(exited.orphans_killed, 0);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 0);
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

START_TEST(every_exit_code_is_exact)
{
    for (unsigned code = 0; code < 256; code++) {
        char text[8];
        (void)snprintf(text, sizeof(text), "%u", code);
        struct order order = ORDER(.argv = ARGV(FIXTURE("exit_with"), text));
        struct command command = start(&shepherd, &order);
        expect_exit(&command, NR_EXIT_CODE, code);
    }
}
END_TEST

START_TEST(a_death_by_signal_is_exact)
{
    static const unsigned signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGPIPE, SIGUSR1, 34, 64};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "signal %u", signals[i]);
        struct order order = ORDER(.argv = ARGV(FIXTURE("exit_with"), text));
        struct command command = start(&shepherd, &order);
        expect_exit(&command, NR_EXIT_SIGNAL, signals[i]);
    }
}
END_TEST

START_TEST(many_commands_at_once_keep_their_statuses)
{
    enum { COUNT = 200 };
    static struct command commands[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        char text[8];
        char output[16];
        (void)snprintf(text, sizeof(text), "%u", i % 256);
        (void)snprintf(output, sizeof(output), "output %u", i);
        struct order order =
            ORDER(.argv = ARGV(FIXTURE("exit_with"), text, output), .flags = NR_SPAWN_STDOUT);
        commands[i] = spawn(&shepherd, &order);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct nr_started started;
        char output[16];
        (void)snprintf(output, sizeof(output), "output %u", i);
        expect_frame(commands[i].control, NR_STARTED, commands[i].id, &started, sizeof(started));
        ck_assert_str_eq(read_all(commands[i].out), output);
        expect_exit(&commands[i], NR_EXIT_CODE, i % 256);
    }
}
END_TEST

START_TEST(a_start_that_fails_says_where_and_why)
{
    char missing[BELOW_MAX];
    (void)snprintf(missing, sizeof(missing), "%s/missing", folder);

    struct order order = ORDER(.argv = ARGV(missing));
    struct nr_failed failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_EXEC);
    ck_assert_uint_eq(failed.error, ENOENT);

    order = ORDER(.argv = ARGV(folder));
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_EXEC);
    ck_assert_uint_eq(failed.error, EACCES);

    order = ORDER(.argv = ARGV("/bin/true"), .cd = missing);
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_CD);
    ck_assert_uint_eq(failed.error, ENOENT);
}
END_TEST

START_TEST(a_failed_start_closes_the_pipes)
{
    struct order order =
        ORDER(.argv = ARGV("/nonexistent"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = spawn(&shepherd, &order);
    ck_assert_str_eq(read_all(command.out), "");
    expect_broken(command.in);
    drop(&command);
}
END_TEST

START_TEST(the_child_starts_clean)
{
    /* shepherd_start ignored SIGPIPE and left descriptor 77 open. */
    int cwd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char want[BELOW_MAX];
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("show_state")), .flags = NR_SPAWN_STDOUT, .cwd = cwd);
    struct command command = start(&shepherd, &order);
    const char *text = read_all(command.out);
    ck_assert_str_eq(state_line(text, "SigIgn"), "SigIgn 0000000000000000");
    ck_assert_str_eq(state_line(text, "SigBlk"), "SigBlk 0000000000000000");
    ck_assert_str_eq(state_line(text, "fds"), "fds 0 1 2");
    (void)snprintf(want, sizeof(want), "cwd %s", folder);
    ck_assert_str_eq(state_line(text, "cwd"), want);
    (void)snprintf(want, sizeof(want), "sid %d", command.pid);
    ck_assert_str_eq(state_line(text, "sid"), want);
    (void)snprintf(want, sizeof(want), "ppid %d", command.guardian);
    ck_assert_str_eq(state_line(text, "ppid"), want);
    expect_exit(&command, NR_EXIT_CODE, 0);
    (void)close(cwd);
}
END_TEST

START_TEST(a_thousand_parallel_children_start_clean)
{
    enum { COUNT = 250 };
    static struct command commands[COUNT];
    struct order order = ORDER(.argv = ARGV(FIXTURE("show_state")), .flags = NR_SPAWN_STDOUT);
    for (int round = 0; round < 4; round++) {
        for (unsigned i = 0; i < COUNT; i++)
            commands[i] = spawn(&shepherd, &order);
        for (unsigned i = 0; i < COUNT; i++) {
            struct nr_started started;
            expect_frame(commands[i].control, NR_STARTED, commands[i].id, &started,
                         sizeof(started));
            const char *text = read_all(commands[i].out);
            ck_assert_str_eq(state_line(text, "SigIgn"), "SigIgn 0000000000000000");
            ck_assert_str_eq(state_line(text, "SigBlk"), "SigBlk 0000000000000000");
            ck_assert_str_eq(state_line(text, "fds"), "fds 0 1 2");
            expect_exit(&commands[i], NR_EXIT_CODE, 0);
        }
    }
}
END_TEST

START_TEST(big_argument_lists_travel_in_a_memfd)
{
    enum { STRINGS = 20, LENGTH = 100 * 1000 };
    static char strings[STRINGS][LENGTH + 1];
    const char *argv[STRINGS + 2] = {FIXTURE("show_exec")};
    for (unsigned i = 0; i < STRINGS; i++) {
        memset(strings[i], 'a' + (int)i, LENGTH);
        argv[1 + i] = strings[i];
    }
    argv[STRINGS + 1] = NULL;
    struct order order =
        ORDER(.argv = argv, .env = path_env, .flags = NR_SPAWN_STDOUT, .memfd = true);
    struct command command = start(&shepherd, &order);
    ck_assert_str_eq(read_line(command.out), "argc 21");
    size_t total = 0;
    char block[65536];
    ssize_t got;
    while ((got = read(command.out, block, sizeof(block))) > 0)
        total += (size_t)got;
    ck_assert_uint_gt(total, (size_t)STRINGS * LENGTH);
    expect_exit(&command, NR_EXIT_CODE, 0);

    const char *small[] = {FIXTURE("show_exec"), "", "x", NULL};
    order = ORDER(.argv = small, .flags = NR_SPAWN_STDOUT, .memfd = true);
    command = start(&shepherd, &order);
    ck_assert_ptr_nonnull(strstr(read_all(command.out), "\n0:\n1:x\nenvc 0\n"));
    expect_exit(&command, NR_EXIT_CODE, 0);
}
END_TEST

START_TEST(the_three_descriptors_are_apart)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "cat; echo err >&2; exit 4"), .env = path_env,
              .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR);
    struct command command = start(&shepherd, &order);
    ck_assert_int_eq(write(command.in, "in", 2), 2);
    (void)close(command.in);
    command.in = -1;
    ck_assert_str_eq(read_all(command.out), "in");
    ck_assert_str_eq(read_all(command.err), "err\n");
    expect_exit(&command, NR_EXIT_CODE, 4);
}
END_TEST

/* Neither zygote nor guardian may keep it: its reader would never see the end. */
START_TEST(a_terminal_ends_for_its_reader_with_the_command)
{
    char text[64] = {0};
    int master;
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "read x; echo got $x >/dev/tty"));
    open_terminal(&master, &order.pty);
    struct command command = start(&shepherd, &order);
    (void)close(order.pty);
    struct pollfd hangup = {.fd = master, .events = 0};
    ck_assert_int_eq(poll(&hangup, 1, 0), 0);
    ck_assert_int_eq(write(master, "it\n", 3), 3);
    expect_exit(&command, NR_EXIT_CODE, 0);
    ck_assert_int_eq(poll(&hangup, 1, WAIT_MS), 1);
    /* The echo and the answer may come one after the other. */
    size_t length = 0;
    ssize_t got;
    while ((got = read(master, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    ck_assert_str_eq(text, "it\r\ngot it\r\n");
#ifdef __linux__
    ck_assert_int_eq(got, -1);
    ck_assert_int_eq(errno, EIO);
#endif
    (void)close(master);
}
END_TEST

/* The terminal's own SIGHUP: the guardian sends none. */
START_TEST(closing_the_terminal_hangs_up_the_command)
{
    int master;
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "echo ready; read x; read x"));
    open_terminal(&master, &order.pty);
    struct command command = start(&shepherd, &order);
    (void)close(order.pty);
    ck_assert_str_eq(read_line(master), "ready\r");
    (void)close(master);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGHUP);
}
END_TEST

START_TEST(closing_stdin_breaks_the_pipe_while_the_command_runs_on)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("close_stdin"), "300"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    ck_assert_int_eq(write(command.in, "x", 1), 1);
    ck_assert_str_eq(read_line(command.out), "closed");
    /* Nobody else, zygote or guardian, holds the reading end. */
    expect_broken(command.in);
    ck_assert_str_eq(read_line(command.out), "end");
    expect_exit(&command, NR_EXIT_CODE, 3);
}
END_TEST

START_TEST(closing_stdout_is_an_end_long_before_the_exit)
{
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("close_stdout"), "500"), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    uint64_t begin_ms = now_ms();
    ck_assert_str_eq(read_all(command.out), "before\n");
    uint64_t closed_ms = now_ms();
    ck_assert(!has_frame(command.control, 0));
    expect_exit(&command, NR_EXIT_CODE, 7);
    ck_assert_uint_lt(closed_ms - begin_ms, now_ms() - begin_ms);
}
END_TEST

START_TEST(the_rusage_is_the_commands)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"));
    struct command command = start(&shepherd, &order);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_gt(exited.rusage.user_us + exited.rusage.system_us, 5000);
    ck_assert_uint_gt(exited.rusage.max_rss_kb, 100);
    drop(&command);
}
END_TEST

/* ---- signals -------------------------------------------------------------------------------- */

/* A shell that waits in its own read is no good here: a signal that comes just before the call is heard after it. Seen on an
 * emulated processor. */

START_TEST(a_signal_reaches_the_leader_or_the_group)
{
    struct order order =
        ORDER(.argv = ARGV(
                  "/bin/sh", "-c",
                  "trap 'echo leader' USR1; "
                  "(trap 'echo member; exit' USR2; echo ready; while :; do /bin/sleep 0.1; done) & "
                  "while :; do wait; done"),
              .env = path_env, .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    ck_assert_uint_eq(signal_command(&command, SIGUSR1, NR_SCOPE_LEADER), 0);
    ck_assert_str_eq(read_line(command.out), "leader");
    ck_assert_uint_eq(signal_command(&command, SIGKILL, NR_SCOPE_GROUP), 0);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_SIGNAL);
    ck_assert_uint_eq(exited.value, SIGKILL);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 0);
    drop(&command);
}
END_TEST

START_TEST(bad_signals_and_scopes_are_refused)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"));
    struct command command = start(&shepherd, &order);
    ck_assert_uint_eq(signal_command(&command, 0, NR_SCOPE_LEADER), EINVAL);
    ck_assert_uint_eq(signal_command(&command, 65, NR_SCOPE_LEADER), EINVAL);
    ck_assert_uint_eq(signal_command(&command, UINT32_MAX, NR_SCOPE_GROUP), EINVAL);
    ck_assert_uint_eq(signal_command(&command, SIGTERM, 2), EINVAL);
    ck_assert_uint_eq(signal_command(&command, SIGTERM, NR_SCOPE_LEADER), 0);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGTERM);
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(once_the_leader_has_ended_there_is_nobody_to_signal)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("background_stdout"), lock),
                               .flags = NR_SPAWN_STDOUT, .drain_timeout_ms = 60000);
    struct command command = start(&shepherd, &order);
    ck_assert_str_eq(read_line(command.out), "leader");
    await_gone(command.pid, 2000); /* its zombie keeps the pid */
    uint32_t error;
    while ((error = signal_command(&command, SIGUSR1, NR_SCOPE_LEADER)) == 0)
        ;
    ck_assert_uint_eq(error, ESRCH);
    ck_assert_uint_eq(signal_command(&command, SIGUSR1, NR_SCOPE_GROUP), ESRCH);
    ck_assert(is_locked(lock));
    send_stop(&command, 1000);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert_uint_eq(exited.orphans_killed, 1);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 0);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST
#endif

START_TEST(malformed_commands_are_ignored)
{
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    unsigned seed = 7;
    for (int i = 0; i < 2000; i++) {
        unsigned char bytes[256];
        size_t length = 1 + (size_t)rand_r(&seed) % sizeof(bytes);
        for (size_t k = 0; k < length; k++)
            bytes[k] = (unsigned char)rand_r(&seed);
        send_message(command.control, bytes, length, (int[]){0, 1, 2}, (unsigned)i % 4);
#ifndef NR_PORTABLE /* there, an empty message is a hang-up */
        send_message(command.control, bytes, 0, NULL, 0);
#endif
    }
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_le(count_fds(command.guardian), 10);
    (void)close(command.in);
    command.in = -1;
    expect_exit(&command, NR_EXIT_CODE, 0);
}
END_TEST

START_TEST(a_beam_that_does_not_read_loses_nothing)
{
    /* More answers than the socket holds: the guardian stops taking commands, not its duties. */
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    int room = 4096;
    ck_assert_sys(setsockopt(command.control, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)));
    struct pollfd wait = {.fd = command.control, .events = POLLOUT};
    unsigned sent = 0;
    while (sent < 5000 && poll(&wait, 1, 100) == 1 && (wait.revents & POLLOUT))
        send_kill(&command, ++sent, SIGCONT, NR_SCOPE_LEADER);
    unsigned got = 0;
    struct nr_killed killed;
    uint64_t id = 0;
    uint8_t type;
    /* The half that the socket held, and some for which there was no room when their commands had come. */
    while (got < sent / 2 + 50) {
        ck_assert_uint_eq(next_frame(command.control, &id, &killed, sizeof(killed)), NR_KILLED);
        ck_assert_uint_eq(id, ++got);
    }
    while (sent < 10000 && poll(&wait, 1, 100) == 1 && (wait.revents & POLLOUT)) /* full again */
        send_kill(&command, ++sent, SIGCONT, NR_SCOPE_LEADER);
    ck_assert_int_eq(kill(command.pid, SIGKILL), 0);
    await_gone(command.pid, WAIT_MS); /* reaped: EXITED is ready, and there is no room for it */
    wait.events = 0;
    ck_assert_int_eq(poll(&wait, 1, 200), 0); /* no hang-up: it waits for room */
    while ((type = next_frame(command.control, &id, &killed, sizeof(killed))) == NR_KILLED)
        ck_assert_uint_eq(id, ++got);
    ck_assert_uint_eq(type, NR_EXITED);
    ck_assert_uint_le(got, sent);
    ck_assert_uint_ge(got, 10);
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

START_TEST(commands_unread_at_the_exit_do_not_hide_it)
{
    for (int i = 0; i < 100; i++) {
        struct order order = ORDER(.argv = ARGV("/bin/true"));
        struct command command = spawn(&shepherd, &order);
        /* Somebody sends from before the exit until after the close. */
        pid_t sender = fork();
        ck_assert_sys(sender);
        if (sender == 0) {
            unsigned char bytes[24] = {0};
            while (send(command.control, bytes, sizeof(bytes), MSG_NOSIGNAL) >= 0)
                ;
            _exit(0);
        }
        struct nr_started started;
        expect_frame(command.control, NR_STARTED, command.id, &started, sizeof(started));
        /* Read only after the close: a reset comes before what was sent. */
        ck_assert_int_eq(waitpid(sender, NULL, 0), sender);
        await_gone((pid_t)started.guardian_pid, WAIT_MS);
        expect_exit(&command, NR_EXIT_CODE, 0);
    }
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(a_command_between_the_last_look_and_the_close_does_not_hide_the_exit)
{
    /* Traced: one comes whenever the guardian has just been told that there is none. */
    const unsigned char bytes[24] = {0};
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN);
    struct command command = start(&shepherd, &order);
    pid_t guardian = command.guardian;
    unsigned sent = 0;
    int status;
    if (ptrace(PTRACE_SEIZE, guardian, NULL, (uintptr_t)PTRACE_O_TRACESYSGOOD) < 0)
        skip("ptrace: %s", strerror(errno));
    ck_assert_sys(ptrace(PTRACE_INTERRUPT, guardian, NULL, NULL));
    ck_assert_int_eq(waitpid(guardian, &status, __WALL), guardian);
    (void)close(command.in);
    command.in = -1;
    while (!WIFEXITED(status)) {
        struct __ptrace_syscall_info info = {0};
        if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
            ptrace(PTRACE_GET_SYSCALL_INFO, guardian, (void *)sizeof(info), &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval == -EAGAIN)
            sent += send(command.control, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
        ck_assert_sys(ptrace(PTRACE_SYSCALL, guardian, NULL, NULL));
        ck_assert_int_eq(waitpid(guardian, &status, __WALL), guardian);
        ck_assert(!WIFSIGNALED(status));
    }
    ck_assert_uint_gt(sent, 0);
    expect_exit(&command, NR_EXIT_CODE, 0);
}
END_TEST
#endif

/* ---- the end of a family -------------------------------------------------------------------- */

START_TEST(the_stop_ladder_begins_politely)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"));
    struct command command = start(&shepherd, &order);
    uint64_t begin_ms = now_ms();
    send_stop(&command, 5000);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_SIGNAL);
    ck_assert_uint_eq(exited.value, SIGTERM);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 1);
    ck_assert_uint_lt(now_ms() - begin_ms, 2000);
    drop(&command);
}
END_TEST

START_TEST(the_stop_signal_can_be_another)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c",
                           "trap 'exit 9' INT; echo ready; while :; do /bin/sleep 0.1; done"),
              .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT, .stop_signal = SIGINT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    send_stop(&command, 5000);
    expect_exit(&command, NR_EXIT_CODE, 9);
}
END_TEST

START_TEST(the_stop_signal_goes_to_the_whole_group)
{
    struct order order =
        ORDER(.argv = ARGV(
                  "/bin/sh", "-c",
                  "trap : TERM; " /* before anybody says ready */
                  "(trap 'echo member; exit' TERM; echo ready; while :; do /bin/sleep 0.1; done) & "
                  "while :; do wait; done"),
              .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    send_stop(&command, 300);
    ck_assert_str_eq(read_line(command.out), "member");
    expect_exit(&command, NR_EXIT_SIGNAL, SIGKILL);
}
END_TEST

START_TEST(who_ignores_the_stop_signal_is_killed_after_the_grace)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("ignore_term")), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    uint64_t begin_ms = now_ms();
    send_stop(&command, 400);
    struct nr_exited exited = expect_exited(&command);
    uint64_t took = now_ms() - begin_ms;
    ck_assert_uint_eq(exited.how, NR_EXIT_SIGNAL);
    ck_assert_uint_eq(exited.value, SIGKILL);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 1);
    ck_assert_uint_ge(took, 400);
    ck_assert_uint_lt(took, 1400);
    drop(&command);
}
END_TEST

START_TEST(no_grace_is_an_immediate_kill_and_a_second_stop_hastens)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("ignore_term")), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    uint64_t begin_ms = now_ms();
    send_stop(&command, 0);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGKILL);
    ck_assert_uint_lt(now_ms() - begin_ms, 1000);

    command = start(&shepherd, &order);
    expect_ready(&command);
    begin_ms = now_ms();
    send_stop(&command, 60000);
    send_stop(&command, 100);
    send_stop(&command, 120000); /* does not lengthen */
    expect_exit(&command, NR_EXIT_SIGNAL, SIGKILL);
    ck_assert_uint_lt(now_ms() - begin_ms, 2000);
}
END_TEST

START_TEST(a_stopped_command_is_continued_to_hear_the_stop)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("stop_itself")), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    uint64_t begin_ms = now_ms();
    send_stop(&command, 5000);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGTERM);
    ck_assert_uint_lt(now_ms() - begin_ms, 2000);
}
END_TEST

START_TEST(members_that_outlive_the_leaders_stop_are_killed_at_once)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("term_ignoring_member"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    ck_assert(is_locked(lock));
    uint64_t begin_ms = now_ms();
    send_stop(&command, 60000);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, SIGTERM);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 1);
#ifndef NR_PORTABLE
    ck_assert_uint_eq(exited.orphans_killed, 1);
#endif
    ck_assert_uint_lt(now_ms() - begin_ms, 2000);
    await_unlocked(lock, 1000);
    drop(&command);
}
END_TEST

START_TEST(a_hangup_ends_the_command)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("ignore_term")), .flags = NR_SPAWN_STDOUT,
                               .kill_timeout_ms = 300);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    uint64_t begin_ms = now_ms();
    (void)close(command.control);
    command.control = -1;
    ck_assert_str_eq(read_all(command.out), "");
    uint64_t took = now_ms() - begin_ms;
    ck_assert_uint_ge(took, 300);
    ck_assert_uint_lt(took, 1300);
    await_gone(command.guardian, 1000);
    drop(&command);
}
END_TEST

START_TEST(a_hangup_with_unread_frames_ends_the_command_too)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"), .kill_timeout_ms = 300);
    struct command command = spawn(&shepherd, &order);
    ck_assert(has_frame(command.control, 5000)); /* STARTED, unread */
    drop(&command);
    /* end() finds nobody */
}
END_TEST

START_TEST(a_hangup_before_the_start_starts_nothing)
{
    char path[BELOW_MAX];
    (void)snprintf(path, sizeof(path), "%s/touched", folder);
    ck_assert_sys(kill(shepherd.pid, SIGSTOP));
    struct order order = ORDER(.argv = ARGV("/usr/bin/touch", path));
    struct command command = spawn(&shepherd, &order);
    drop(&command); /* the BEAM's time-out */
    ck_assert_sys(kill(shepherd.pid, SIGCONT));
    /* A later command proves that the first was dealt with. */
    order = ORDER(.argv = ARGV("/bin/true"));
    command = start(&shepherd, &order);
    expect_exit(&command, NR_EXIT_CODE, 0);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

#ifndef NR_PORTABLE
/* Lets the traced zygote and its traced children run until one of these has ended. How often those
 * forked. */
static unsigned forks_of_a_guardian(void)
{
    for (unsigned forks = 0;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        ck_assert_sys(pid);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            ck_assert_int_ne(pid, shepherd.pid);
            return forks;
        }
        int event = status >> 16;
        if (pid != shepherd.pid && (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_CLONE))
            forks++;
        ck_assert_sys(ptrace(PTRACE_CONT, pid, NULL, NULL));
    }
}

START_TEST(a_hangup_before_the_start_is_not_worth_a_fork)
{
    const uintptr_t follow = PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE;
    if (ptrace(PTRACE_SEIZE, shepherd.pid, NULL, follow) < 0)
        skip("ptrace: %s", strerror(errno));
    ck_assert_sys(ptrace(PTRACE_INTERRUPT, shepherd.pid, NULL, NULL));
    ck_assert_int_eq(waitpid(shepherd.pid, NULL, 0), shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/true"));
    struct command command = spawn(&shepherd, &order);
    drop(&command);
    ck_assert_sys(ptrace(PTRACE_CONT, shepherd.pid, NULL, NULL));
    ck_assert_uint_eq(forks_of_a_guardian(), 0);
    ck_assert_sys(ptrace(PTRACE_INTERRUPT, shepherd.pid, NULL, NULL));
    ck_assert_int_eq(waitpid(shepherd.pid, NULL, 0), shepherd.pid);
    ck_assert_sys(ptrace(PTRACE_DETACH, shepherd.pid, NULL, NULL));
}
END_TEST

START_TEST(a_background_job_is_killed_after_the_drain)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("background_stdout"), lock),
                               .flags = NR_SPAWN_STDOUT, .drain_timeout_ms = 300);
    struct command command = start(&shepherd, &order);
    ck_assert_str_eq(read_line(command.out), "leader");
    uint64_t begin_ms = now_ms();
    ck_assert_str_eq(read_all(command.out), "");
    uint64_t took = now_ms() - begin_ms;
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert_uint_eq(exited.orphans_killed, 1);
    ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 0);
    ck_assert_uint_ge(took, 250);
    ck_assert_uint_lt(took, 1300);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST

START_TEST(a_background_job_that_ends_by_itself_ends_the_drain)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c", "(sleep 0.2; echo late) & exit 5"), .env = path_env,
              .flags = NR_SPAWN_STDOUT, .drain_timeout_ms = 60000);
    struct command command = start(&shepherd, &order);
    ck_assert_str_eq(read_all(command.out), "late\n");
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, 5);
    ck_assert_uint_eq(exited.orphans_killed, 0);
    drop(&command);
}
END_TEST

START_TEST(no_drain_kills_at_once)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("background_stdout"), lock),
                               .flags = NR_SPAWN_STDOUT, .drain_timeout_ms = 0);
    struct command command = start(&shepherd, &order);
    uint64_t begin_ms = now_ms();
    ck_assert_str_eq(read_all(command.out), "leader\n");
    ck_assert_uint_eq(expect_exited(&command).orphans_killed, 1);
    ck_assert_uint_lt(now_ms() - begin_ms, 1000);
    drop(&command);
}
END_TEST

START_TEST(a_daemon_is_found_and_ended_with_its_command)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    send_stop(&command, 5000);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, SIGTERM);
    ck_assert_uint_eq(exited.orphans_killed, 1);
    ck_assert(!is_locked(lock));
    drop(&command);

    order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock, "exit"), .flags = NR_SPAWN_STDOUT,
                  .drain_timeout_ms = 100);
    command = start(&shepherd, &order);
    expect_ready(&command);
    exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.orphans_killed, 1);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST

START_TEST(endless_fork_chains_are_ended)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("fork_chain"), "64", lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    uint64_t begin_ms = now_ms();
    send_stop(&command, 100);
    ck_assert_uint_eq(expect_exited(&command).value, SIGKILL);
    uint64_t took = now_ms() - begin_ms;
    printf("64 chains: %llu ms, 100 of them grace\n", (unsigned long long)took);
    ck_assert_uint_lt(took, 2100);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST

START_TEST(orphans_are_reaped_while_the_command_runs)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("orphan_maker"), "300"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    /* An answered KILL: the guardian has been through its loop since the last of them. */
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_eq(count_children(command.guardian), 1);
    (void)close(command.in);
    command.in = -1;
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert_uint_eq(exited.orphans_killed, 0);
    drop(&command);
}
END_TEST

/* ---- orphans: :keep ------------------------------------------------------------------------- */

static struct command start_kept(const char *lock)
{
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock, "exit"),
                               .flags = NR_SPAWN_STDOUT | NR_SPAWN_KEEP, .drain_timeout_ms = 60000,
                               .kill_timeout_ms = 300);
    struct command command = start(&shepherd, &order);
    uint64_t begin_ms = now_ms();
    expect_ready(&command);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_lt(now_ms() - begin_ms, 2000);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert_uint_eq(exited.orphans_killed, 0);
    ck_assert(is_locked(lock));
    ck_assert_int_eq(kill(command.pid, 0), -1); /* reaped: no zombie for the daemon's life */
    ck_assert(!has_frame(command.control, 300));
    return command;
}

START_TEST(kept_orphans_live_on_until_a_stop)
{
    const char *lock = lock_file();
    struct command command = start_kept(lock);
    ck_assert_uint_eq(signal_command(&command, SIGTERM, NR_SCOPE_LEADER), ESRCH);
    ck_assert(is_locked(lock));
    send_stop(&command, 1000);
    expect_hangup(command.control);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST

START_TEST(kept_orphans_outlive_a_hangup)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "sleep 1 & exit 0"), .env = path_env,
                               .flags = NR_SPAWN_KEEP, .kill_timeout_ms = 100);
    struct command command = start(&shepherd, &order);
    ck_assert_uint_eq(expect_exited(&command).value, 0);
    uint64_t begin_ms = now_ms();
    pid_t guardian = command.guardian;
    drop(&command);
    await_gone(guardian, WAIT_MS);
    ck_assert_uint_ge(now_ms() - begin_ms, 700); /* its orphan slept, nothing ended it */
}
END_TEST

static void send_hold(struct command *command, const int *fds, unsigned count)
{
    struct nr_header header = {.magic = NR_WIRE_MAGIC, .version = NR_WIRE_VERSION, .type = NR_HOLD};
    send_message(command->control, &header, sizeof(header), fds, count);
}

#define WRITES_1_MIB_LATER "(head -c 1048576 /dev/zero; echo written >&2) & exit 0"

START_TEST(pipes_of_kept_orphans_are_held_and_emptied)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", WRITES_1_MIB_LATER), .env = path_env,
                               .flags = NR_SPAWN_STDOUT | NR_SPAWN_STDERR | NR_SPAWN_KEEP);
    struct command command = start(&shepherd, &order);
    ck_assert_uint_eq(expect_exited(&command).value, 0);
    ck_assert_sys(fcntl(command.out, F_SETFL, O_NONBLOCK));
    send_hold(&command, &command.out, 1);
    (void)close(command.out);
    command.out = -1;
    ck_assert_str_eq(read_line(command.err), "written");
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

START_TEST(what_would_block_is_not_held_and_leaks_nowhere)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "read x; exit 0"), .env = path_env,
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_KEEP);
    struct command command = start(&shepherd, &order);
    unsigned before = count_fds(command.guardian);
    int many[] = {command.out, command.out, command.out, command.out};
    send_hold(&command, many, 1); /* blocks */
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_eq(count_fds(command.guardian), before);
    ck_assert_sys(fcntl(command.out, F_SETFL, O_NONBLOCK));
    send_hold(&command, many, 4); /* more than there is room for */
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_eq(count_fds(command.guardian), before + 2);
    (void)close(command.in);
    command.in = -1;
    expect_exit(&command, NR_EXIT_CODE, 0);
    drop(&command);
}
END_TEST

START_TEST(nothing_is_held_unless_orphans_are_kept)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "read x; exit 0"), .env = path_env,
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    unsigned before = count_fds(command.guardian);
    ck_assert_sys(fcntl(command.out, F_SETFL, O_NONBLOCK));
    send_hold(&command, &command.out, 1);
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_uint_eq(count_fds(command.guardian), before);
    (void)close(command.in);
    command.in = -1;
    expect_exit(&command, NR_EXIT_CODE, 0);
    drop(&command);
}
END_TEST

START_TEST(a_guardian_leaves_with_the_last_kept_orphan)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "sleep 0.3 & exit 6"), .env = path_env,
                               .flags = NR_SPAWN_KEEP);
    struct command command = start(&shepherd, &order);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, 6);
    expect_hangup(command.control);
    await_gone(command.guardian, 1000);
    drop(&command);
}
END_TEST

START_TEST(a_stop_while_the_leader_lives_keeps_nobody)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT | NR_SPAWN_KEEP);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    send_stop(&command, 5000);
    ck_assert_uint_eq(expect_exited(&command).orphans_killed, 1);
    ck_assert(!is_locked(lock));
    drop(&command);
}
END_TEST

/* ---- who cannot be killed ------------------------------------------------------------------- */

#define UNPRIVILEGED 65534

/* Only root can signal such a survivor, and the unprivileged BEAM is a fork of it. */
struct favour {
    pid_t pid;
    int signal;
};

static void ask_root(int tell, pid_t pid, int signal)
{
    const struct favour favour = {.pid = pid, .signal = signal};
    ck_assert_int_eq(write(tell, &favour, sizeof(favour)), (ssize_t)sizeof(favour));
}

/* The unprivileged zygote and the survivor come to us, the subreaper. */
static void reap_all_but_the_zygote(void)
{
    while (count_children(getpid()) > 1) {
        siginfo_t info = {0};
        ck_assert_sys(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT));
        ck_assert_int_ne(info.si_pid, shepherd.pid);
        (void)waitpid(info.si_pid, NULL, 0);
    }
}

START_TEST(survivors_of_sigkill_are_reported_and_awaited)
{
    /* A set-uid program that becomes root is out of an unprivileged guardian's reach. */
    char path[BELOW_MAX];
    char command_line[8 * BELOW_MAX];
    if (geteuid() != 0)
        skip("needs root, to make a set-uid program");
    (void)snprintf(path, sizeof(path), "%s/become_root", folder);
    (void)snprintf(command_line, sizeof(command_line),
                   "chmod 755 '%s' && cp '%s' '%s' && chmod 4755 '%s' && cp '%s' '%s/shepherd'",
                   folder, FIXTURE("become_root"), path, path, shepherd_path, folder);
    ck_assert_int_eq(system(command_line), 0);
    /* The build folder may be closed to others. */
    char copy[BELOW_MAX];
    (void)snprintf(copy, sizeof(copy), "%s/shepherd", folder);
    shepherd_path = copy;

    struct shepherd root = shepherd;
    int tell[2];
    ck_assert_sys(pipe(tell));
    pid_t beam = fork();
    ck_assert_sys(beam);
    if (beam == 0) { /* an unprivileged BEAM; it ends by exit, so assertions end it too */
        (void)close(root.socket);
        ck_assert_sys(setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED));
        ck_assert_sys(setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED));
        struct shepherd unprivileged = shepherd_start(NULL);
        struct order order = ORDER(.argv = ARGV(path), .flags = NR_SPAWN_STDOUT);
        struct command command = start(&unprivileged, &order);
        const char *line = read_line(command.out);
        if (strcmp(line, "ready") != 0)
            _exit(77);
        uint64_t begin_ms = now_ms();
        send_stop(&command, 100);
        struct nr_unkillable unkillable;
        expect_frame(command.control, NR_UNKILLABLE, command.id, &unkillable, sizeof(unkillable));
        uint64_t took = now_ms() - begin_ms;
        ck_assert_uint_ge(took, 2000);
        ck_assert_uint_lt(took, 4000);
        ck_assert_uint_eq(unkillable.count, 1);
        ck_assert_uint_eq(unkillable.pids[0], (uint32_t)command.pid);
        ck_assert_uint_eq(unkillable.pids[1], 0);
        /* The guardian still listens, and cannot signal it either. */
        ck_assert_uint_eq(signal_command(&command, SIGTERM, NR_SCOPE_LEADER), EPERM);
        ask_root(tell[1], command.pid, SIGUSR1);
        struct nr_exited exited = expect_exited(&command);
        ck_assert_uint_eq(exited.value, SIGUSR1);
        ck_assert_uint_eq(exited.flags & NR_EXITED_STOPPED, 1);

        /* Who can be killed later is killed later. */
        command = start(&unprivileged, &order);
        expect_ready(&command);
        send_stop(&command, 0);
        expect_frame(command.control, NR_UNKILLABLE, command.id, &unkillable, sizeof(unkillable));
        ask_root(tell[1], command.pid, SIGUSR2);
        exited = expect_exited(&command);
        ck_assert_uint_eq(exited.value, SIGKILL);

        /* And with nobody listening it does not wait for ever. */
        command = start(&unprivileged, &order);
        expect_ready(&command);
        begin_ms = now_ms();
        ask_root(tell[1], command.pid, 0);
        (void)close(command.control);
        await_gone(command.guardian, 6000);
        ck_assert_uint_ge(now_ms() - begin_ms, 2000);
        _exit(0);
    }
    (void)close(tell[1]);
    struct favour favour = {0};
    while (read(tell[0], &favour, sizeof(favour)) == (ssize_t)sizeof(favour))
        ck_assert_sys(kill(favour.pid, favour.signal));
    int status;
    ck_assert_int_eq(waitpid(beam, &status, 0), beam);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        reap_all_but_the_zygote();
        skip("set-uid programs have no effect here");
    }
    ck_assert_int_eq(status, 0);
    ck_assert_sys(kill(favour.pid, SIGKILL));
    reap_all_but_the_zygote();
}
END_TEST

/* ---- whose end a tracer keeps back ---------------------------------------------------------- */

/* User and system time, in milliseconds. */
START_TEST(a_leader_whose_zombie_a_tracer_holds_is_waited_for_in_peace)
{
    /* Its pidfd is readable and waitid(2) says "not yet", for as long as the tracer likes. */
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"));
    struct command command = start(&shepherd, &order);
    siginfo_t end = {0};
    if (ptrace(PTRACE_SEIZE, command.pid, NULL, NULL) < 0)
        skip("ptrace: %s", strerror(errno));
    ck_assert_uint_eq(signal_command(&command, SIGKILL, NR_SCOPE_LEADER), 0);
    ck_assert_sys(waitid(P_PID, (id_t)command.pid, &end, WEXITED | WNOWAIT | __WALL));
    ck_assert_int_eq(end.si_pid, command.pid);
    uint64_t before = cpu_ms(command.guardian);
    ck_assert(
        !has_frame(command.control, 1500)); /* who turns round burns a third of that, or more */
    uint64_t burnt = cpu_ms(command.guardian) - before;
    printf("%llu ms of processor time in 1500 ms\n", (unsigned long long)burnt);
    ck_assert_uint_le(burnt, 50);
    ck_assert_uint_eq(signal_command(&command, SIGTERM, NR_SCOPE_LEADER), 0); /* it listens */
    ck_assert_int_eq(waitpid(command.pid, NULL, __WALL), command.pid);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_SIGNAL);
    ck_assert_uint_eq(exited.value, SIGKILL);
    drop(&command);
}
END_TEST

/* ---- a start that hangs --------------------------------------------------------------------- */

/* An executable of which fanotify holds the exec until somebody says yes; nobody does. The descriptor is readable once
 * a start has come to it; -errno where nothing can be held. */
static int hold_exec(char path[static BELOW_MAX])
{
    char command_line[2 * BELOW_MAX];
    (void)snprintf(path, BELOW_MAX, "%s/held", folder);
    (void)snprintf(command_line, sizeof(command_line), "cp /bin/true '%s'", path);
    ck_assert_int_eq(system(command_line), 0);
    int fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);
    if (fan < 0 || fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, path) < 0)
        return -errno;
    return fan;
}

START_TEST(a_stop_reaches_a_start_that_hangs)
{
    char path[BELOW_MAX];
    int fan = hold_exec(path);
    if (fan < 0)
        skip("fanotify: %s", strerror(-fan));
    struct order order = ORDER(.argv = ARGV(path), .cd = "/", .kill_timeout_ms = 60000);
    struct command command = spawn(&shepherd, &order);
    ck_assert(has_frame(fan, 5000)); /* it is in execve */
    ck_assert(!has_frame(command.control, 100));
    uint64_t begin_ms = now_ms();
    send_stop(&command, 60000);
    struct nr_failed failed;
    expect_frame(command.control, NR_FAILED, command.id, &failed, sizeof(failed));
    ck_assert_uint_eq(failed.stage, NR_STAGE_SETUP);
    ck_assert_uint_eq(failed.error, ECANCELED);
    ck_assert_uint_lt(now_ms() - begin_ms, 1000);
    expect_hangup(command.control);
    drop(&command);

    command = spawn(&shepherd, &order);
    ck_assert(has_frame(fan, 5000));
    drop(&command);
    while (count_children(shepherd.pid) > 0)
        (void)poll(NULL, 0, 1);
    (void)close(fan);
}
END_TEST

/* A guardian that waits for its child hears nothing, as one that was stopped: both end the same way. */
START_TEST(a_plain_start_that_hangs_ends_with_its_guardian)
{
    char path[BELOW_MAX];
    int fan = hold_exec(path);
    if (fan < 0)
        skip("fanotify: %s", strerror(-fan));
    struct order order = ORDER(.argv = ARGV(path), .kill_timeout_ms = 60000);
    struct command command = spawn(&shepherd, &order);
    ck_assert(has_frame(fan, 5000));
    uint64_t begin_ms = now_ms();
    send_stop(&command, 0);
    ck_assert(!has_frame(command.control, 250)); /* nor a hang-up */
    escalate(&shepherd, command.id);
    ck_assert(has_frame(command.control, 5000)); /* with the stop unread: ECONNRESET, no end */
    while (count_children(shepherd.pid) > 0)
        (void)poll(NULL, 0, 1);
    ck_assert_uint_lt(now_ms() - begin_ms, 1000);
    drop(&command);
    expect_alive(&shepherd);
    (void)close(fan);
}
END_TEST
#endif

/* ---- files ---------------------------------------------------------------------------------- */

/* As a shell's redirection from it: open(2) waits, in the child. */
START_TEST(a_fifo_holds_up_its_own_start_only)
{
    char fifo[BELOW_MAX];
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    ck_assert_sys(mkfifo(fifo, 0600));
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .files = {fifo},
                               .flags = NR_SPAWN_STDIN_FILE | NR_SPAWN_STDOUT);

    struct command command = spawn(&shepherd, &order);
    expect_alive(&shepherd);
    ck_assert(!has_frame(command.control, 0));
    int writer = open(fifo, O_WRONLY | O_CLOEXEC); /* waits for the reader */
    ck_assert_sys(writer);
    struct nr_started started;
    expect_frame(command.control, NR_STARTED, command.id, &started, sizeof(started));
    ck_assert_int_eq(write(writer, "through", 7), 7);
    (void)close(writer);
    ck_assert_str_eq(read_all(command.out), "through");
    expect_exit(&command, NR_EXIT_CODE, 0);
    drop(&command);
}
END_TEST

START_TEST(a_start_that_waits_for_a_fifo_can_be_stopped)
{
    char fifo[BELOW_MAX];
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    ck_assert_sys(mkfifo(fifo, 0600));
    struct order order =
        ORDER(.argv = ARGV("/bin/cat"), .files = {NULL, fifo}, .flags = NR_SPAWN_STDOUT_FILE);
    struct nr_failed failed;

    struct command command = spawn(&shepherd, &order);
    expect_alive(&shepherd);
    send_stop(&command, 60000);
    expect_frame(command.control, NR_FAILED, command.id, &failed, sizeof(failed));
    ck_assert_uint_eq(failed.stage, NR_STAGE_SETUP);
    ck_assert_uint_eq(failed.error, ECANCELED);
    expect_hangup(command.control);
    drop(&command);

    command = spawn(&shepherd, &order);
    expect_alive(&shepherd);
    drop(&command);
    while (count_children(shepherd.pid) > 0)
        (void)poll(NULL, 0, 1);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_told_by_its_stage)
{
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .files = {NULL, NULL, folder},
                               .flags = NR_SPAWN_STDERR_FILE);
    struct nr_failed failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_STDERR_FILE);
    ck_assert_uint_eq(failed.error, EISDIR);
}
END_TEST

/* ---- what the machine refuses --------------------------------------------------------------- */

#ifndef NR_PORTABLE
START_TEST(hello_does_not_promise_what_is_refused)
{
    ck_assert_uint_eq(shepherd.hello.features & NR_FEATURE_PIDFD, 0);
    ck_assert_uint_eq(shepherd.hello.features & NR_FEATURE_SUBREAPER, NR_FEATURE_SUBREAPER);
}
END_TEST
#endif

static void add_basic_tests(TCase *tcase)
{
    tcase_add_test(tcase, output_comes_and_then_the_exit);
    tcase_add_test(tcase, every_exit_code_is_exact);
    tcase_add_test(tcase, a_death_by_signal_is_exact);
    tcase_add_test(tcase, many_commands_at_once_keep_their_statuses);
    tcase_add_test(tcase, a_start_that_fails_says_where_and_why);
    tcase_add_test(tcase, a_fifo_holds_up_its_own_start_only);
    tcase_add_test(tcase, a_start_that_waits_for_a_fifo_can_be_stopped);
    tcase_add_test(tcase, a_file_that_cannot_be_opened_is_told_by_its_stage);
    tcase_add_test(tcase, the_child_starts_clean);
    tcase_add_test(tcase, a_signal_reaches_the_leader_or_the_group);
    tcase_add_test(tcase, who_ignores_the_stop_signal_is_killed_after_the_grace);
    tcase_add_test(tcase, members_that_outlive_the_leaders_stop_are_killed_at_once);
    tcase_add_test(tcase, a_hangup_ends_the_command);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, a_background_job_is_killed_after_the_drain);
    tcase_add_test(tcase, a_daemon_is_found_and_ended_with_its_command);
    tcase_add_test(tcase, kept_orphans_outlive_a_hangup);
    tcase_add_test(tcase, pipes_of_kept_orphans_are_held_and_emptied);
    tcase_add_test(tcase, what_would_block_is_not_held_and_leaks_nowhere);
    tcase_add_test(tcase, nothing_is_held_unless_orphans_are_kept);
#endif
}

int main(void)
{
    Suite *suite = suite_create("shepherd");
    TCase *tcase = tcase_create("commands");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin, end);
    add_basic_tests(tcase);
    tcase_add_test(tcase, hello_says_what_the_machine_gives);
    tcase_add_test(tcase, a_failed_start_closes_the_pipes);
    tcase_add_test(tcase, a_thousand_parallel_children_start_clean);
    tcase_add_test(tcase, big_argument_lists_travel_in_a_memfd);
    tcase_add_test(tcase, the_three_descriptors_are_apart);
    tcase_add_test(tcase, a_terminal_ends_for_its_reader_with_the_command);
    tcase_add_test(tcase, closing_the_terminal_hangs_up_the_command);
    tcase_add_test(tcase, closing_stdin_breaks_the_pipe_while_the_command_runs_on);
    tcase_add_test(tcase, closing_stdout_is_an_end_long_before_the_exit);
    tcase_add_test(tcase, the_rusage_is_the_commands);
    tcase_add_test(tcase, bad_signals_and_scopes_are_refused);
    tcase_add_test(tcase, malformed_commands_are_ignored);
    tcase_add_test(tcase, a_beam_that_does_not_read_loses_nothing);
    tcase_add_test(tcase, commands_unread_at_the_exit_do_not_hide_it);
    tcase_add_test(tcase, the_stop_ladder_begins_politely);
    tcase_add_test(tcase, the_stop_signal_can_be_another);
    tcase_add_test(tcase, the_stop_signal_goes_to_the_whole_group);
    tcase_add_test(tcase, no_grace_is_an_immediate_kill_and_a_second_stop_hastens);
    tcase_add_test(tcase, a_stopped_command_is_continued_to_hear_the_stop);
    tcase_add_test(tcase, a_hangup_with_unread_frames_ends_the_command_too);
    tcase_add_test(tcase, a_hangup_before_the_start_starts_nothing);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, a_command_between_the_last_look_and_the_close_does_not_hide_the_exit);
    tcase_add_test(tcase, a_hangup_before_the_start_is_not_worth_a_fork);
    tcase_add_test(tcase, once_the_leader_has_ended_there_is_nobody_to_signal);
    tcase_add_test(tcase, a_background_job_that_ends_by_itself_ends_the_drain);
    tcase_add_test(tcase, no_drain_kills_at_once);
    tcase_add_test(tcase, endless_fork_chains_are_ended);
    tcase_add_test(tcase, orphans_are_reaped_while_the_command_runs);
    tcase_add_test(tcase, kept_orphans_live_on_until_a_stop);
    tcase_add_test(tcase, a_guardian_leaves_with_the_last_kept_orphan);
    tcase_add_test(tcase, a_stop_while_the_leader_lives_keeps_nobody);
    tcase_add_test(tcase, survivors_of_sigkill_are_reported_and_awaited);
    tcase_add_test(tcase, a_leader_whose_zombie_a_tracer_holds_is_waited_for_in_peace);
    tcase_add_test(tcase, a_stop_reaches_a_start_that_hangs);
    tcase_add_test(tcase, a_plain_start_that_hangs_ends_with_its_guardian);
#endif
    suite_add_tcase(suite, tcase);

#ifndef NR_PORTABLE
    tcase = tcase_create("commands without clone3, pidfd_open and close_range");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin_without_new_calls, end);
    tcase_add_test(tcase, hello_does_not_promise_what_is_refused);
    add_basic_tests(tcase);
    suite_add_tcase(suite, tcase);
#endif
    return run_suite(suite);
}
