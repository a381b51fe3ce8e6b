/*
 * Guardians that rest: one keeps one command after the other, each as if it were the first, and leaves with the
 * hang-up. This process is the BEAM. Each test ends by asserting that the zygote left with 0 and that nobody is
 * left behind. Where there is no subreaper (portable) none rests.
 */
#include "shepherd_support.h"

#include "codec.h"
#include "fd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static struct shepherd shepherd;
static char folder[TEMPORARY_MAX];

static void begin(void)
{
    make_folder(folder);
    shepherd = shepherd_begin(NULL);
}

static void end(void)
{
    shepherd_finish(&shepherd);
}

#define ORDER(...) ((struct order){.kill_timeout_ms = 2000, .drain_timeout_ms = 1000, __VA_ARGS__})
#define TRUE_ORDER ORDER(.argv = ARGV("/bin/true"), .flags = NR_SPAWN_REST)

static bool rests(struct command *command)
{
    struct nr_exited exited = expect_exited(command);
    ck_assert_uint_eq(exited.how, NR_EXIT_CODE);
    ck_assert_uint_eq(exited.value, 0);
    return exited.flags & NR_EXITED_RESTS;
}

#ifndef NR_PORTABLE

static struct command rested(void)
{
    struct order order = TRUE_ORDER;
    struct command command = start(&shepherd, &order);
    ck_assert(rests(&command));
    return command;
}

static unsigned long field_kb(pid_t pid, const char *name)
{
    char path[64];
    char line[256];
    unsigned long kb = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *status = fopen(path, "re");
    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtoul(line + strlen(name), NULL, 10);
    (void)fclose(status);
    return kb;
}

/* Whether what a process may write to holds these bytes. */
static bool holds(pid_t pid, const char *text)
{
    char path[64];
    char line[512];
    static char bytes[8192 + 64];
    size_t length = strlen(text);
    bool found = false;
    (void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_sys(memory);
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    ck_assert_ptr_nonnull(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[1] != 'w')
            continue;
        for (; from < to && to - from < (16UL << 20) && !found; from += 8192) {
            ssize_t got = pread(memory, bytes, 8192 + length, (off_t)from);
            found = got > 0 && memmem(bytes, (size_t)got, text, length) != NULL;
        }
    }
    (void)fclose(maps);
    (void)close(memory);
    return found;
}

/* ---- one after the other -------------------------------------------------------------------- */

START_TEST(one_guardian_keeps_one_command_after_the_other)
{
    struct command command = rested();
    pid_t guardian = command.guardian;
    unsigned fds = count_fds(guardian);
    for (unsigned i = 0; i < 256; i++) {
        char text[8];
        char output[16];
        (void)snprintf(text, sizeof(text), "%u", i % 256);
        (void)snprintf(output, sizeof(output), "output %u", i);
        struct order order = ORDER(.argv = ARGV(FIXTURE("exit_with"), text, output),
                                   .flags = NR_SPAWN_STDOUT | NR_SPAWN_REST);
        command = start_again(&command, &order);
        ck_assert_int_eq(command.guardian, guardian);
        ck_assert_str_eq(read_all(command.out), output);
        struct nr_exited exited = expect_exited(&command);
        ck_assert_uint_eq(exited.value, i);
        ck_assert_uint_eq(exited.flags, NR_EXITED_RESTS);
        ck_assert_uint_eq(count_fds(guardian), fds);
    }
    ck_assert_uint_eq(count_children(shepherd.pid), 1);
    drop(&command);
    await_gone(guardian, WAIT_MS);
}
END_TEST

START_TEST(each_starts_as_the_first_did)
{
    static const struct nr_setting settings[] = {
        {.what = NR_SETTING_UMASK, .value = 0777},
        {.what = NR_SETTING_NICE, .value = 5},
        {.what = NR_SETTING_RLIMIT, .which = 7, .value = 64, .hard = 64},
    };
    struct order before = ORDER(.argv = ARGV("/bin/true"), .cd = folder, .settings = settings,
                                .settings_count = 3, .flags = NR_SPAWN_MERGE | NR_SPAWN_REST);
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("show_state"), "ONLY_THE_FIRST"),
              .env = (const char *const[]){"ONLY_THE_FIRST=1", NULL},
              .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR | NR_SPAWN_REST);
    struct command command = start(&shepherd, &order);
    ck_assert_str_eq(state_line(read_all(command.out), "env"), "env ONLY_THE_FIRST=1");
    ck_assert(rests(&command));
    command = start_again(&command, &before);
    ck_assert(rests(&command));

    order = ORDER(.argv = ARGV(FIXTURE("show_state"), "ONLY_THE_FIRST"),
                  .flags = NR_SPAWN_STDOUT | NR_SPAWN_REST);
    command = start_again(&command, &order);
    char want[64];
    const char *text = read_all(command.out);
    ck_assert_str_eq(state_line(text, "SigIgn"), "SigIgn 0000000000000000");
    ck_assert_str_eq(state_line(text, "SigBlk"), "SigBlk 0000000000000000");
    ck_assert_str_eq(state_line(text, "fds"), "fds 0 1 2");
    ck_assert_str_eq(state_line(text, "cwd"), "cwd /");
    ck_assert_str_eq(state_line(text, "umask"), "umask 0022");
    ck_assert_str_eq(state_line(text, "env"), "env ONLY_THE_FIRST unset");
    (void)snprintf(want, sizeof(want), "sid %d", command.pid);
    ck_assert_str_eq(state_line(text, "sid"), want);
    (void)snprintf(want, sizeof(want), "ppid %d", command.guardian);
    ck_assert_str_eq(state_line(text, "ppid"), want);
    ck_assert(rests(&command));
    drop(&command);
}
END_TEST

START_TEST(nothing_of_one_is_in_the_guardian_of_the_next)
{
    struct order order = ORDER(.argv = ARGV("/bin/cat"),
                               .env = (const char *const[]){"SECRET=neverto"
                                                            "bereadagain",
                                                            NULL},
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_REST);
    struct command command = start(&shepherd, &order);
    ck_assert(holds(command.guardian, "SECRET=nevertobereadagain"));
    command.in = nr_fd_close(command.in);
    ck_assert(rests(&command));
    /* That it says so comes right before it. */
    struct order next = ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_REST);
    command = start_again(&command, &next);
    ck_assert(!holds(command.guardian, "SECRET=neverto"));
    ck_assert(!holds(command.guardian, "bereadagain"));
    command.in = nr_fd_close(command.in);
    ck_assert(rests(&command));
    drop(&command);
}
END_TEST

START_TEST(it_grows_no_larger_with_them)
{
    enum { ARGUMENTS = 5000 }; /* 40 KB of vectors each time */
    static const char *argv[ARGUMENTS + 1] = {"/bin/true"};
    for (int i = 1; i < ARGUMENTS; i++)
        argv[i] = "argument";
    struct order large = ORDER(.argv = argv, .flags = NR_SPAWN_REST);
    struct command command = rested();
    for (int i = 0; i < 20; i++) {
        command = start_again(&command, &large);
        ck_assert(rests(&command));
    }
    unsigned long before = field_kb(command.guardian, "VmData:");
    for (int i = 0; i < 500; i++) {
        command = start_again(&command, &large);
        ck_assert(rests(&command));
    }
    /* 20 MB, were nothing given back; AddressSanitizer keeps some for itself. */
    ck_assert_uint_le(field_kb(command.guardian, "VmData:"), before + 2048);
    drop(&command);
}
END_TEST

START_TEST(the_next_is_stopped_and_killed_as_ever)
{
    struct command command = rested();
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "1000"), .flags = NR_SPAWN_REST);
    command = start_again(&command, &order);
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    send_stop(&command, 2000);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.how, NR_EXIT_SIGNAL);
    ck_assert_uint_eq(exited.value, SIGTERM);
    ck_assert_uint_eq(exited.flags, NR_EXITED_STOPPED); /* whoever stops one does not rest */
    expect_hangup(command.control);
    drop(&command);

    command = rested();
    command = start_again(&command, &order);
    pid_t sleeper = command.pid;
    drop(&command); /* the hang-up ends it */
    await_gone(sleeper, WAIT_MS);
}
END_TEST

START_TEST(an_orphan_of_the_next_is_found)
{
    struct command command = rested();
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "setsid sleep 1000 & echo $!"),
                               .env = (const char *const[]){"PATH=/usr/bin:/bin", NULL},
                               .flags = NR_SPAWN_STDOUT | NR_SPAWN_REST);
    order.drain_timeout_ms = 0;
    command = start_again(&command, &order);
    pid_t orphan = (pid_t)strtol(read_line(command.out), NULL, 10);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.orphans_killed, 1);
    ck_assert_uint_eq(exited.flags, 0);
    expect_hangup(command.control);
    await_gone(orphan, WAIT_MS);
    drop(&command);
}
END_TEST

START_TEST(a_next_that_does_not_start_says_why_and_ends_the_rest)
{
    struct command command = rested();
    char missing[BELOW_MAX];
    (void)snprintf(missing, sizeof(missing), "%s/missing", folder);
    struct order order = ORDER(.argv = ARGV(missing), .flags = NR_SPAWN_REST);
    command = spawn_again(&command, &order);
    struct nr_failed failed;
    expect_frame(command.control, NR_FAILED, command.id, &failed, sizeof(failed));
    ck_assert_uint_eq(failed.stage, NR_STAGE_EXEC);
    ck_assert_uint_eq(failed.error, ENOENT);
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

START_TEST(who_was_not_asked_does_not_rest)
{
    struct order order = ORDER(.argv = ARGV("/bin/true"));
    struct command command = start(&shepherd, &order);
    ck_assert(!rests(&command));
    expect_hangup(command.control);
    drop(&command);

    command = rested(); /* nor does one that was asked the first time only */
    command = start_again(&command, &order);
    ck_assert(!rests(&command));
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

/* ---- while it rests ------------------------------------------------------------------------- */

START_TEST(what_crossed_the_end_of_the_one_before_is_not_the_nexts)
{
    struct command command = rested();
    unsigned fds = count_fds(command.guardian);
    unsigned char bytes[NR_WIRE_FRAME_MAX] = {1, 2, 3};
    unsigned char hold[32];
    size_t length = nr_codec_write(hold, sizeof(hold), NR_HOLD, 0, NULL, 0);
    int gifts[2];
    ck_assert_int_eq(nr_fd_pipe(gifts), 0);

    send_kill(&command, 1, SIGKILL, NR_SCOPE_GROUP);
    send_stop(&command, 0);
    send_message(command.control, hold, length, gifts, 2);
    send_message(command.control, bytes, 3, gifts, 1);
    send_message(command.control, bytes, 20, NULL, 0);
    struct order order =
        ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_REST);
    command = start_again(&command, &order);
    ck_assert_int_eq(write(command.in, "alive\n", 6), 6);
    ck_assert_str_eq(read_line(command.out), "alive");
    command.in = nr_fd_close(command.in);
    ck_assert(rests(&command));
    ck_assert_uint_eq(count_fds(command.guardian), fds);
    drop(&command);
    (void)close(gifts[0]);
    (void)close(gifts[1]);
}
END_TEST

/* An order that its sender did not stay for. */
START_TEST(a_hangup_behind_the_order_starts_nothing)
{
    char path[BELOW_MAX];
    (void)snprintf(path, sizeof(path), "%s/touched", folder);
    struct command command = rested();
    pid_t guardian = command.guardian;
    ck_assert_sys(kill(guardian, SIGSTOP));
    struct order order = ORDER(.argv = ARGV("/usr/bin/touch", path), .flags = NR_SPAWN_REST);
    command = spawn_again(&command, &order);
    drop(&command);
    ck_assert_sys(kill(guardian, SIGCONT));
    await_gone(guardian, WAIT_MS);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static void expect_refused(struct command *command, uint64_t id, int error)
{
    struct nr_failed failed;
    expect_frame(command->control, NR_FAILED, id, &failed, sizeof(failed));
    ck_assert_uint_eq(failed.stage, NR_STAGE_REQUEST);
    ck_assert_uint_eq(failed.error, (uint32_t)error);
    expect_hangup(command->control);
    drop(command);
}

START_TEST(an_order_that_is_wrong_is_refused_and_ends_the_rest)
{
    static unsigned char bytes[NR_WIRE_FRAME_MAX + 1];
    int pipe_ends[2];
    struct order order = TRUE_ORDER;
    ck_assert_int_eq(nr_fd_pipe(pipe_ends), 0);

    /* With a control socket, as the zygote wants it. */
    struct command command = rested();
    size_t length = spawn_frame(&order, 77, bytes, sizeof(bytes));
    send_message(command.control, bytes, length, pipe_ends, 1);
    expect_refused(&command, 77, EBADMSG);

    /* For a cgroup, which its zygote would have to know. */
    command = rested();
    order = ORDER(.argv = ARGV("/bin/true"), .cgroup = "/sys/fs/cgroup/a", .leaf = "leaf");
    length = spawn_frame(&order, 78, bytes, sizeof(bytes));
    send_message(command.control, bytes, length, NULL, 0);
    expect_refused(&command, 78, EBADMSG);

    /* Longer than any. */
    command = rested();
    order = TRUE_ORDER;
    (void)spawn_frame(&order, 79, bytes, sizeof(bytes));
    send_message(command.control, bytes, sizeof(bytes), NULL, 0);
    expect_refused(&command, 79, EBADMSG);

    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(one_that_is_killed_is_swept_up_behind)
{
    struct command command = rested();
    ck_assert_sys(kill(command.guardian, SIGKILL));
    expect_hangup(command.control);
    drop(&command);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(the_zygote_kills_one_by_its_first_id)
{
    struct command command = rested();
    uint64_t first = command.id;
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "1000"), .flags = NR_SPAWN_REST);
    command = start_again(&command, &order);
    ck_assert_sys(kill(command.guardian, SIGSTOP));
    escalate(&shepherd, first);
    await_gone(command.guardian, WAIT_MS);
    await_gone(command.pid, WAIT_MS);
    drop(&command);
}
END_TEST

START_TEST(the_end_of_one_whom_nobody_reads_waits_and_then_it_rests)
{
    struct order order =
        ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_REST);
    struct command command = start(&shepherd, &order);
    int room = 4096;
    ck_assert_sys(setsockopt(command.control, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)));
    struct pollfd wait = {.fd = command.control, .events = POLLOUT};
    unsigned sent = 0;
    while (sent < 5000 && poll(&wait, 1, 100) == 1 && (wait.revents & POLLOUT))
        send_kill(&command, ++sent, SIGCONT, NR_SCOPE_LEADER);
    ck_assert_uint_lt(sent, 5000); /* it has answers that it cannot send, and reads no more */
    command.in = nr_fd_close(command.in); /* the end, behind answers that nobody reads */
    await_gone(command.pid, WAIT_MS);
    uint64_t before = cpu_ms(command.guardian);
    (void)poll(NULL, 0, 300);
    ck_assert_uint_le(cpu_ms(command.guardian) - before, 20);

    struct nr_killed killed;
    uint64_t id = 0;
    uint8_t type;
    while ((type = next_frame(command.control, &id, &killed, sizeof(killed))) == NR_KILLED)
        ;
    ck_assert_uint_eq(type, NR_EXITED);
    order = TRUE_ORDER;
    command = start_again(&command, &order);
    ck_assert(rests(&command));
    drop(&command);
}
END_TEST

/* While it waits it takes no time at all. */
START_TEST(resting_costs_no_time)
{
    struct command command = rested();
    uint64_t before = cpu_ms(command.guardian);
    (void)poll(NULL, 0, 300);
    ck_assert_uint_le(cpu_ms(command.guardian) - before, 20);
    drop(&command);
}
END_TEST

#else

START_TEST(nobody_rests_without_a_subreaper)
{
    struct order order = TRUE_ORDER;
    struct command command = start(&shepherd, &order);
    ck_assert(!rests(&command));
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

#endif

int main(void)
{
    Suite *suite = suite_create("rest");
    TCase *tcase = tcase_create("rest");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin, end);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, one_guardian_keeps_one_command_after_the_other);
    tcase_add_test(tcase, each_starts_as_the_first_did);
    tcase_add_test(tcase, nothing_of_one_is_in_the_guardian_of_the_next);
    tcase_add_test(tcase, it_grows_no_larger_with_them);
    tcase_add_test(tcase, the_next_is_stopped_and_killed_as_ever);
    tcase_add_test(tcase, an_orphan_of_the_next_is_found);
    tcase_add_test(tcase, a_next_that_does_not_start_says_why_and_ends_the_rest);
    tcase_add_test(tcase, who_was_not_asked_does_not_rest);
    tcase_add_test(tcase, what_crossed_the_end_of_the_one_before_is_not_the_nexts);
    tcase_add_test(tcase, a_hangup_behind_the_order_starts_nothing);
    tcase_add_test(tcase, an_order_that_is_wrong_is_refused_and_ends_the_rest);
    tcase_add_test(tcase, one_that_is_killed_is_swept_up_behind);
    tcase_add_test(tcase, the_zygote_kills_one_by_its_first_id);
    tcase_add_test(tcase, the_end_of_one_whom_nobody_reads_waits_and_then_it_rests);
    tcase_add_test(tcase, resting_costs_no_time);
#else
    tcase_add_test(tcase, nobody_rests_without_a_subreaper);
#endif
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
