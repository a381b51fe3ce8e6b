/*
 * The zygote through the built shepherd: requests good and bad, and every death there is: of the
 * BEAM, of guardians, of the zygote, of the owner of its socket. Ends like test_shepherd.c: nobody
 * left behind, not even a zombie.
 */
#include "shepherd_support.h"

#include "codec.h"

#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDER(...) ((struct order){.kill_timeout_ms = 300, .drain_timeout_ms = 1000, __VA_ARGS__})

static struct shepherd shepherd;
static unsigned char frame[NR_WIRE_FRAME_MAX + 4096];

static void begin(void)
{
    shepherd = shepherd_begin(NULL);
}

static void end(void)
{
    shepherd_finish(&shepherd);
}

/* ---- being started -------------------------------------------------------------------------- */

static int run_by_hand(const char *const *argv, bool socket_on_3, char *text, size_t room)
{
    int out[2];
    int status;
    ck_assert_sys(pipe(out));
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0) {
        int ends[2];
        if (dup2(out[1], 2) < 0)
            _exit(99);
        (void)close(3);
        if (socket_on_3 && (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || dup2(ends[0], 3) < 0))
            _exit(99);
        (void)execv(NR_TEST_SHEPHERD, (char *const *)(uintptr_t)argv);
        _exit(98);
    }
    (void)close(out[1]);
    ssize_t got = read(out[0], text, room - 1);
    text[got > 0 ? got : 0] = '\0';
    (void)close(out[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(started_by_hand_it_says_so_in_one_sentence)
{
    char text[512];
    ck_assert_int_eq(run_by_hand(ARGV("shepherd"), false, text, sizeof(text)), 64);
    ck_assert_ptr_nonnull(strstr(text, "NetRunner"));
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
    ck_assert_int_eq(run_by_hand(ARGV("shepherd", "1"), false, text, sizeof(text)), 64);
    ck_assert_int_eq(run_by_hand(ARGV("shepherd", "x"), true, text, sizeof(text)), 64);
    /* a socket, but of another kind */
    ck_assert_int_eq(run_by_hand(ARGV("shepherd", "1"), true, text, sizeof(text)), 64);
}
END_TEST

/* The exit code of a zygote that is told `beam`, on a socket of ours. Its parent is us, or a child
 * of ours. */
static int run_for(pid_t beam, bool by_child, int socket_type)
{
    int ends[2];
    int status;
    char byte;
    char text[16];
    ck_assert_sys(socketpair(AF_UNIX, socket_type, 0, ends));
    (void)snprintf(text, sizeof(text), "%d", beam);
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0) {
        (void)close(ends[0]);
        if (dup2(ends[1], 3) < 0 || dup2(open("/dev/null", O_WRONLY), 2) < 0)
            _exit(99);
        pid_t child = by_child ? fork() : 0;
        if (child == 0)
            (void)execl(NR_TEST_SHEPHERD, "shepherd", text, (char *)NULL);
        if (child <= 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
            _exit(98);
        _exit(WEXITSTATUS(status));
    }
    (void)close(ends[1]);
    ck_assert_int_eq(recv(ends[0], &byte, 1, 0), 0); /* not even HELLO */
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    (void)close(ends[0]);
    return WEXITSTATUS(status);
}

START_TEST(a_parent_that_is_not_the_beam_is_not_served)
{
    ck_assert_int_eq(run_for(getpid(), true, SOCK_SEQPACKET), 1);
}
END_TEST

START_TEST(a_socket_that_does_not_keep_messages_apart_is_not_served)
{
    ck_assert_int_eq(run_for(getpid(), false, SOCK_STREAM), 64);
}
END_TEST

START_TEST(a_socket_that_the_beam_did_not_make_is_not_served)
{
#ifdef NR_PORTABLE
    ck_assert_int_eq(run_for(1, false, SOCK_SEQPACKET),
                     1); /* nobody says who made it; its parent is not 1 */
#else
    ck_assert_int_eq(run_for(1, false, SOCK_SEQPACKET), 64);
#endif
}
END_TEST

START_TEST(it_keeps_nothing_of_who_started_it)
{
    char path[64];
    char target[256];
    /* 0 1 2 and the request socket, plus the BEAM's pidfd (or a pipe in its place), the signals and
     * the list of children. */
    ck_assert_uint_le(count_fds(shepherd.pid), 8);
    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", shepherd.pid, CARELESS_FD);
    ck_assert_int_eq(readlink(path, target, sizeof(target)), -1);
    for (int fd = 0; fd < 3; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", shepherd.pid, fd);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        ck_assert_int_gt(length, 0);
        target[length] = '\0';
        ck_assert_str_eq(target, "/dev/null");
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/cwd", shepherd.pid);
    ssize_t length = readlink(path, target, sizeof(target));
    ck_assert_int_eq(length, 1);
    ck_assert_int_eq(target[0], '/');
}
END_TEST

/* ---- bad requests --------------------------------------------------------------------------- */

START_TEST(malformed_requests_are_answered_by_id_and_the_socket_kept)
{
    unsigned fds = count_fds(shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/true"));
    size_t length;

    /* unreadable: no id to answer */
    send_message(shepherd.socket, "x", 1, NULL, 0);
    expect_rejected(&shepherd, 0, EBADMSG);
    length = spawn_frame(&order, 11, frame, sizeof(frame));
    frame[0] = 0;
    send_message(shepherd.socket, frame, length, NULL, 0);
    expect_rejected(&shepherd, 0, EBADMSG);

    /* short, long */
    length = spawn_frame(&order, 12, frame, sizeof(frame));
    send_message(shepherd.socket, frame, length - 1, NULL, 0);
    expect_rejected(&shepherd, 12, EBADMSG);
    send_message(shepherd.socket, frame, length + 1, NULL, 0);
    expect_rejected(&shepherd, 12, EBADMSG);
    send_message(shepherd.socket, frame, 16, NULL, 0);
    expect_rejected(&shepherd, 12, EBADMSG);

    /* longer than any frame */
    length = spawn_frame(&order, 13, frame, sizeof(frame));
    send_message(shepherd.socket, frame, sizeof(frame), NULL, 0);
    expect_rejected(&shepherd, 13, EBADMSG);

    /* a type that is not a request */
    length = nr_codec_write(frame, sizeof(frame), NR_STOP, 14, &(struct nr_stop){0}, 4);
    send_message(shepherd.socket, frame, length, NULL, 0);
    expect_rejected(&shepherd, 14, EBADMSG);
    length = nr_codec_write(frame, sizeof(frame), NR_ESCALATE, 15, &(struct nr_stop){0}, 4);
    send_message(shepherd.socket, frame, length, NULL, 0);
    expect_rejected(&shepherd, 15, EBADMSG);

    expect_baseline(&shepherd, fds);
    expect_alive(&shepherd);
    expect_baseline(&shepherd, fds);
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(a_rejection_is_there_before_its_control_end_hangs_up)
{
    /* Whoever sees the hang-up asks for the reason once, without waiting: looked at after each system
     * call of the zygote. */
    int ends[2];
    struct order order = ORDER(.argv = ARGV("/bin/true"), .flags = NR_SPAWN_STDIN);
    size_t length = spawn_frame(&order, 16, frame, sizeof(frame));
    if (ptrace(PTRACE_SEIZE, shepherd.pid, NULL, NULL) < 0)
        skip("ptrace: %s", strerror(errno));
    ck_assert_sys(ptrace(PTRACE_INTERRUPT, shepherd.pid, NULL, NULL));
    ck_assert_int_eq(waitpid(shepherd.pid, NULL, 0), shepherd.pid);
    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    send_message(shepherd.socket, frame, length, &ends[1], 1); /* stdin is missing */
    (void)close(ends[1]);
    struct pollfd hangup = {.fd = ends[0]};
    while (poll(&hangup, 1, 0) == 0) {
        ck_assert_sys(ptrace(PTRACE_SYSCALL, shepherd.pid, NULL, NULL));
        ck_assert_int_eq(waitpid(shepherd.pid, NULL, 0), shepherd.pid);
    }
    ck_assert(has_frame(shepherd.socket, 0));
    ck_assert_sys(ptrace(PTRACE_DETACH, shepherd.pid, NULL, NULL));
    expect_rejected(&shepherd, 16, EBADMSG);
    (void)close(ends[0]);
    expect_alive(&shepherd);
}
END_TEST
#endif

START_TEST(every_bad_golden_frame_is_rejected)
{
    unsigned fds = count_fds(shepherd.pid);
    glob_t all;
    ck_assert_int_eq(glob(NR_TEST_WIRE "/bad/*.bin", 0, NULL, &all), 0);
    ck_assert_uint_gt(all.gl_pathc, 20);
    for (size_t i = 0; i < all.gl_pathc; i++) {
        const char *path = all.gl_pathv[i];
        int control[2];
        struct nr_rejected rejected;
        uint64_t id;
        FILE *file = fopen(path, "rbe");
        ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
        size_t length = fread(frame, 1, sizeof(frame), file);
        (void)fclose(file);
        ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control));
        send_message(shepherd.socket, frame, length, &control[1], 1);
        (void)close(control[1]);
        ck_assert_msg(next_frame(shepherd.socket, &id, &rejected, sizeof(rejected)) == NR_REJECTED,
                      "%s", path);
        ck_assert_uint_eq(rejected.error, EBADMSG);
        expect_hangup(control[0]); /* the descriptor was closed */
        (void)close(control[0]);
    }
    globfree(&all);
    expect_baseline(&shepherd, fds);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(the_descriptors_must_be_as_many_as_the_flags_say)
{
    unsigned fds = count_fds(shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/true"), .flags = NR_SPAWN_STDOUT);
    size_t length = spawn_frame(&order, 21, frame, sizeof(frame));
    int control[2];
    int many[FDS_MOST];

    static const unsigned counts[] = {0, 1, 3, 6, 7, 32, 33, FDS_MOST};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control));
        for (unsigned k = 0; k < FDS_MOST; k++)
            many[k] = k == 0 ? control[1] : STDIN_FILENO;
        send_message(shepherd.socket, frame, length, many, counts[i]);
        (void)close(control[1]);
        expect_rejected(&shepherd, 21, EBADMSG);
        expect_hangup(control[0]);
        (void)close(control[0]);
        expect_baseline(&shepherd, fds);
    }

    /* as many as promised, but the first is no socket */
    many[0] = STDIN_FILENO;
    send_message(shepherd.socket, frame, length, many, 2);
    expect_rejected(&shepherd, 21, ENOTSOCK);
    expect_baseline(&shepherd, fds);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(descriptors_with_a_frame_that_takes_none_are_closed)
{
    unsigned fds = count_fds(shepherd.pid);
    size_t length = nr_codec_write(frame, sizeof(frame), NR_ESCALATE, 31, NULL, 0);
    send_message(shepherd.socket, frame, length, (int[]){0, 1}, 2);
    expect_rejected(&shepherd, 31, EBADMSG);
    send_message(shepherd.socket, "x", 1, (int[]){0, 1}, 2);
    expect_rejected(&shepherd, 0, EBADMSG);
    expect_baseline(&shepherd, fds);
}
END_TEST

#ifndef NR_PORTABLE
static void send_memfd(uint64_t id, const char *bytes, size_t length, size_t promised, int seals,
                       int control)
{
    int fd = memfd_create("strings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct nr_spawn spawn_header = {.flags = NR_SPAWN_STRINGS,
                                    .stop_signal = SIGTERM,
                                    .argc = 1,
                                    .strings_length = (uint32_t)promised};
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, bytes, length), (ssize_t)length);
    ck_assert_sys(fcntl(fd, F_ADD_SEALS, seals));
    size_t size =
        nr_codec_write(frame, sizeof(frame), NR_SPAWN, id, &spawn_header, sizeof(spawn_header));
    send_message(shepherd.socket, frame, size, (int[]){control, fd}, 2);
    (void)close(fd);
}

START_TEST(strings_in_a_memfd_are_checked)
{
    static const char good[] = "/bin/true\0\0true";
    static const char relative[] = "bin/truee\0\0true";
    static const char few[] = "/bin/true\0_true_";
    unsigned fds = count_fds(shepherd.pid);
    int sealed = F_SEAL_SHRINK | F_SEAL_WRITE;
    int control[2];

    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control));
    send_memfd(41, good, sizeof(good), sizeof(good), F_SEAL_SHRINK, control[1]);
    expect_rejected(&shepherd, 41, EBADMSG);
    send_memfd(42, good, sizeof(good), sizeof(good) + 1, sealed, control[1]);
    expect_rejected(&shepherd, 42, EBADMSG);
    send_memfd(43, good, sizeof(good), NR_WIRE_STRINGS_MAX + 1, sealed, control[1]);
    expect_rejected(&shepherd, 43, EBADMSG);

    /* What is inside is the guardian's to read. */
    static const char *const inside[] = {relative, few};
    for (size_t i = 0; i < 2; i++) {
        struct nr_failed failed;
        send_memfd(44 + i, inside[i], sizeof(good), sizeof(good), sealed, control[1]);
        expect_frame(control[0], NR_FAILED, 44 + i, &failed, sizeof(failed));
        ck_assert_uint_eq(failed.stage, NR_STAGE_REQUEST);
        ck_assert_uint_eq(failed.error, EBADMSG);
    }
    (void)close(control[0]);
    (void)close(control[1]);
    expect_baseline(&shepherd, fds);
    expect_alive(&shepherd);
}
END_TEST
#endif

/* As sent again by mistake: the frame is the same, byte for byte. */
static void send_again(const struct order *order, uint64_t id, int *control)
{
    int ends[2];
    size_t length = spawn_frame(order, id, frame, sizeof(frame));
    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    send_message(shepherd.socket, frame, length, &ends[1], 1);
    (void)close(ends[1]);
    *control = ends[0];
}

START_TEST(a_replayed_request_is_refused_while_its_first_runs)
{
    unsigned fds = count_fds(shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"));
    int second;
    struct command command = start(&shepherd, &order);
    send_again(&order, command.id, &second);
    expect_rejected(&shepherd, command.id, EEXIST);
    expect_hangup(second);
    (void)close(second);
    ck_assert_uint_eq(count_children(shepherd.pid), 1);
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
#ifndef NR_PORTABLE
    /* It names the first as ever. Portable, the command would outlive its guardian. */
    escalate(&shepherd, command.id);
    expect_hangup(command.control);
#endif
    drop(&command);
    expect_baseline(&shepherd, fds);

    struct nr_started started;
    send_again(&order, command.id, &second);
    expect_frame(second, NR_STARTED, command.id, &started, sizeof(started));
    (void)close(second);
    expect_baseline(&shepherd, fds);
}
END_TEST

START_TEST(random_requests_do_no_harm)
{
    unsigned seed = getenv("NR_SEED") != NULL ? (unsigned)atoi(getenv("NR_SEED")) : 1;
    unsigned fds = count_fds(shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/true", "argument"), .env = ARGV("A=B"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR);
    printf("seed %u\n", seed);
    for (int i = 0; i < 5000; i++) {
        size_t length = spawn_frame(&order, (uint64_t)i, frame, sizeof(frame));
        int control[2];
        int many[8];
        for (int change = rand_r(&seed) % 4; change > 0; change--)
            frame[(size_t)rand_r(&seed) % 60] = (unsigned char)rand_r(&seed);
        if (rand_r(&seed) % 4 == 0)
            length = 1 + (size_t)rand_r(&seed) % (length + 64);
        ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control));
        for (int k = 0; k < 8; k++)
            many[k] = k == 0 ? control[1] : STDIN_FILENO;
        unsigned count = rand_r(&seed) % 2 == 0 ? 4 : (unsigned)rand_r(&seed) % 8;
        send_message(shepherd.socket, frame, length, many, count);
        (void)close(control[1]);
        (void)close(control[0]); /* whatever was started ends at once */
        while (has_frame(shepherd.socket, 0)) {
            struct nr_rejected rejected;
            uint64_t id;
            ck_assert_uint_eq(next_frame(shepherd.socket, &id, &rejected, sizeof(rejected)),
                              NR_REJECTED);
        }
    }
    while (has_frame(shepherd.socket, 50)) {
        struct nr_rejected rejected;
        uint64_t id;
        ck_assert_uint_eq(next_frame(shepherd.socket, &id, &rejected, sizeof(rejected)),
                          NR_REJECTED);
    }
    expect_baseline(&shepherd, fds);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(a_beam_that_does_not_read_rejections_is_not_forgotten)
{
    int room = 4096;
    unsigned sent = 0;
    unsigned got = 0;
    ck_assert_sys(setsockopt(shepherd.socket, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)));
    struct pollfd wait = {.fd = shepherd.socket, .events = POLLOUT};
    do { /* always more at once than the outbox holds */
        ck_assert_sys(kill(shepherd.pid, SIGSTOP));
        while (sent < 5000 && send(shepherd.socket, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
            sent++;
        ck_assert_sys(kill(shepherd.pid, SIGCONT));
    } while (sent < 5000 && poll(&wait, 1, 200) == 1);
    ck_assert_uint_gt(sent, 10);
    ck_assert_uint_lt(sent, 5000); /* it stops asking */
    for (; got < sent; got++)
        expect_rejected(&shepherd, 0, EBADMSG);
    expect_alive(&shepherd);
}
END_TEST

/* ---- out of something ----------------------------------------------------------------------- */

START_TEST(out_of_descriptors_is_emfile_and_passes)
{
    unsigned fds = count_fds(shepherd.pid);
    struct order order = ORDER(.argv = ARGV("/bin/true"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR);
    struct rlimit before;
    for (unsigned room = 0; room < 4; room++) {
        struct rlimit tight;
        ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, NULL, &before));
        tight = before;
        tight.rlim_cur = fds + room;
        ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, &tight, NULL));
        struct command command = spawn(&shepherd, &order);
        expect_rejected(&shepherd, command.id, EMFILE);
        expect_hangup(command.control);
        ck_assert_str_eq(read_all(command.out), "");
        drop(&command);
        ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, &before, NULL));
        expect_baseline(&shepherd, fds);
    }
    expect_alive(&shepherd);
}
END_TEST

#ifndef NR_PORTABLE
/* A start with a directory is none that the guardian waits for. */
static void expect_fork_failure(const char *call, const char *cd)
{
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", "11", 1));
    ck_assert_sys(setenv("ASAN_OPTIONS", "detect_leaks=0", 1)); /* the detector forks, too */
    become_subreaper();
    shepherd = shepherd_start(ARGV(FIXTURE("refuse_calls"), call));
    struct order order = ORDER(.argv = ARGV("/bin/true"), .cd = cd, .flags = NR_SPAWN_STDOUT);
    unsigned fds = count_fds(shepherd.pid);
    for (int i = 0; i < 3; i++) {
        struct nr_failed failed = start_and_fail(&shepherd, &order);
        ck_assert_uint_eq(failed.stage, NR_STAGE_FORK);
        ck_assert_uint_eq(failed.error, EAGAIN);
        expect_baseline(&shepherd, fds);
    }
    end();
}

START_TEST(a_guardian_that_cannot_be_forked_is_a_failed_start)
{
    expect_fork_failure("clone,fork", NULL); /* fork(3) is the one or the other */
}
END_TEST

START_TEST(a_command_that_cannot_be_forked_is_a_failed_start)
{
    expect_fork_failure("clone3", "/");
}
END_TEST

#ifdef SYS_vfork /* where vfork(2) is clone(2), no guardian could be forked */
START_TEST(a_command_that_cannot_be_vforked_is_a_failed_start)
{
    expect_fork_failure("vfork", NULL);
}
END_TEST
#endif

START_TEST(a_guardian_without_its_calls_fails_the_start)
{
    static const struct {
        const char *call;
        const char *number;
        enum nr_stage stage;
    } cases[] = {
        {"pipe2", "24", NR_STAGE_SETUP},
        {"setsid", "1", NR_STAGE_SETUP},
#ifdef SYS_dup2 /* where dup2(2) is dup3(2), the zygote itself would not start */
        {"dup3", "9", NR_STAGE_SETUP},
#endif
    };
    become_subreaper();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_sys(setenv("NR_REFUSE_ERRNO", cases[i].number, 1));
        shepherd = shepherd_start(ARGV(FIXTURE("refuse_calls"), cases[i].call));
        struct order order = ORDER(.argv = ARGV("/bin/true"));
        struct nr_failed failed = start_and_fail(&shepherd, &order);
        ck_assert_uint_eq(failed.stage, cases[i].stage);
        ck_assert_uint_eq(failed.error, (uint32_t)atoi(cases[i].number));
        end();
    }
}
END_TEST
#endif

/* ---- deaths of guardian and zygote ---------------------------------------------------------- */

#ifndef NR_PORTABLE
static void kill_guardian_of(const struct order *order, const char *lock)
{
    struct command command = start(&shepherd, order);
    expect_ready(&command);
    ck_assert(is_locked(lock));
    uint64_t begin_ms = now_ms();
    ck_assert_sys(kill(command.guardian, SIGKILL));
    expect_hangup(command.control); /* without EXITED: the guardian is lost */
    ck_assert_uint_lt(now_ms() - begin_ms, 250);
    ck_assert_uint_lt(await_unlocked(lock, 5000), 1000);
    await_gone(command.pid, 1000);
    drop(&command);
}

START_TEST(a_killed_guardian_takes_its_whole_family_with_it)
{
    unsigned fds = count_fds(shepherd.pid);
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), lock), .flags = NR_SPAWN_STDOUT);
    kill_guardian_of(&order, lock);
    order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    kill_guardian_of(&order, lock);
    order = ORDER(.argv = ARGV(FIXTURE("term_ignoring_member"), lock), .flags = NR_SPAWN_STDOUT);
    kill_guardian_of(&order, lock);
    expect_alive(&shepherd);
    expect_baseline(&shepherd, fds);
}
END_TEST

START_TEST(a_zygote_out_of_descriptors_still_sweeps)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    struct rlimit none = {0};
    struct rlimit before;
    ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, NULL, &before));
    none.rlim_max = before.rlim_max;
    ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, &none, NULL));
    ck_assert_sys(kill(command.guardian, SIGKILL));
    await_unlocked(lock, 2000);
    ck_assert_sys(prlimit(shepherd.pid, RLIMIT_NOFILE, &before, NULL));
    expect_alive(&shepherd);
    drop(&command);
}
END_TEST

static int oom_score_adj(pid_t pid)
{
    char path[64];
    int value;
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL && fscanf(file, "%d", &value) == 1, "%s", path);
    (void)fclose(file);
    return value;
}

static bool set_own_oom_score_adj(const char *text)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    bool done = write(file, text, strlen(text)) > 0;
    (void)close(file);
    return done;
}

START_TEST(the_oom_killer_takes_us_last_and_commands_as_the_beam_is_taken)
{
    /* 200 is more than anybody has who may not lower it; -900 is what only root may have. */
    bool may = set_own_oom_score_adj("-950");
    ck_assert(set_own_oom_score_adj("200"));
    struct shepherd other = shepherd_start(NULL);
    struct order order = ORDER(.argv = ARGV("/bin/cat", "/proc/self/oom_score_adj", "-"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&other, &order);
    ck_assert_str_eq(read_line(command.out), "200");
    ck_assert_int_eq(oom_score_adj(other.pid), may ? -900 : 200);
    ck_assert_int_eq(oom_score_adj(command.guardian), may ? -900 : 200);
    (void)close(command.in);
    command.in = -1;
    expect_exit(&command, NR_EXIT_CODE, 0);
    shepherd_end(&other);
}
END_TEST

START_TEST(a_killed_guardians_tree_of_sessions_is_swept)
{
    /* Killing one brings the next to light, and only once it is dead. */
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("session_tree"), "5", lock), .flags = NR_SPAWN_STDOUT);
    kill_guardian_of(&order, lock);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(a_killed_guardians_fork_chains_are_swept)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("fork_chain"), "16", lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    ck_assert_sys(kill(command.guardian, SIGKILL));
    uint64_t took = await_unlocked(lock, 20000);
    printf("16 chains swept by the zygote in %llu ms\n", (unsigned long long)took);
    ck_assert_uint_lt(took, 1000);
    expect_alive(&shepherd);
    drop(&command);
}
END_TEST

START_TEST(the_leader_dies_with_guardian_and_zygote)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    ck_assert_sys(kill(shepherd.pid, SIGKILL));
    (void)shepherd_await_end(&shepherd);
    ck_assert_sys(kill(command.guardian, SIGKILL));
    await_unlocked(lock, 1000);
    drop(&command);
    (void)close(shepherd.socket);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    shepherd = shepherd_start(NULL);
}
END_TEST

START_TEST(strays_are_swept_without_touching_other_commands)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV("/bin/cat"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command others[20];
    for (int i = 0; i < 20; i++)
        others[i] = start(&shepherd, &order);
    order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    kill_guardian_of(&order, lock);
    (void)poll(NULL, 0, 300); /* time for two more looks: they must find nobody else */
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(write(others[i].in, "ok\n", 3), 3);
        ck_assert_str_eq(read_line(others[i].out), "ok");
        (void)close(others[i].in);
        others[i].in = -1;
        expect_exit(&others[i], NR_EXIT_CODE, 0);
    }
}
END_TEST

START_TEST(a_frozen_guardian_is_killed_by_escalation)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    ck_assert_sys(kill(command.guardian, SIGSTOP));
    send_stop(&command, 0);
    ck_assert(!has_frame(command.control, 200));
    escalate(&shepherd, command.id + 1000); /* nobody's: ignored */
    escalate(&shepherd, command.id);
    await_unlocked(lock, 2000);
    await_gone(command.pid, 1000);
    drop(&command);
    ck_assert(!has_frame(shepherd.socket, 50));
    expect_alive(&shepherd);
}
END_TEST

START_TEST(signals_to_everybody_take_no_grace_away)
{
    /* A container's stop signals the whole cgroup. */
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c",
                           "trap 'echo asked; sleep 0.3; exit 8' TERM; echo ready; "
                           "while :; do sleep 0.05; done"),
              .env = ARGV("PATH=/usr/bin:/bin"), .flags = NR_SPAWN_STDOUT, .kill_timeout_ms = 5000);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    static const int signals[] = {SIGTERM, SIGINT,  SIGHUP, SIGQUIT, SIGUSR1,
                                  SIGPIPE, SIGALRM, 32,     33,      34};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        ck_assert_sys(kill(shepherd.pid, signals[i]));
        ck_assert_sys(kill(command.guardian, signals[i]));
    }
    send_stop(&command, 5000);
    ck_assert_str_eq(read_line(command.out), "asked");
    expect_exit(&command, NR_EXIT_CODE, 8);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(commands_survive_the_zygote)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "echo ready; read x; exit 5"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command commands[20];
    for (int i = 0; i < 20; i++) {
        commands[i] = start(&shepherd, &order);
        expect_ready(&commands[i]);
    }
    ck_assert_sys(kill(shepherd.pid, SIGKILL));
    (void)shepherd_await_end(&shepherd);
    expect_hangup(shepherd.socket);
    (void)close(shepherd.socket);
    shepherd = shepherd_start(NULL);
    expect_alive(&shepherd);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(write(commands[i].in, "\n", 1), 1);
        expect_exit(&commands[i], NR_EXIT_CODE, 5);
        await_gone(commands[i].guardian, 1000);
        ck_assert_int_eq(waitpid(commands[i].guardian, NULL, 0), commands[i].guardian);
    }
}
END_TEST
#endif

START_TEST(a_hangup_of_the_request_socket_lets_commands_run)
{
    struct order order = ORDER(.argv = ARGV("/bin/sh", "-c", "echo ready; read x; exit 5"),
                               .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT);
    struct command command = start(&shepherd, &order);
    expect_ready(&command);
    (void)close(shepherd.socket);
    shepherd.socket = -1;
    (void)poll(NULL, 0, 500); /* longer than the portable build's look for its parent */
    ck_assert_int_eq(waitpid(shepherd.pid, NULL, WNOHANG), 0);
    ck_assert_uint_eq(signal_command(&command, SIGCONT, NR_SCOPE_LEADER), 0);
    ck_assert_int_eq(write(command.in, "\n", 1), 1);
    expect_exit(&command, NR_EXIT_CODE, 5);
    /* end(): it leaves now */
}
END_TEST

START_TEST(without_commands_a_hangup_ends_it)
{
    uint64_t begin_ms = now_ms();
    (void)close(shepherd.socket);
    shepherd.socket = -1;
    ck_assert_int_eq(shepherd_await_end(&shepherd), 0);
    ck_assert_uint_lt(now_ms() - begin_ms, 1000);
    expect_no_children();
}
END_TEST

/* ---- death of the BEAM ---------------------------------------------------------------------- */

struct beam {
    pid_t pid;
    struct shepherd shepherd;
    struct command command;
    int hold; /* its descriptors live on in us: nothing hangs up */
};

/* A process of its own plays the BEAM; this one inherits nothing from it but what is told. */
static struct beam beam_start(const struct order *order, bool hold)
{
    struct beam beam = {0};
    int tell[2];
    int sockets[2];
    ck_assert_sys(pipe(tell));
    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets));
    beam.pid = fork();
    ck_assert_sys(beam.pid);
    if (beam.pid == 0) {
        (void)close(sockets[0]);
        beam.shepherd = shepherd_start(NULL);
        beam.command = start(&beam.shepherd, order);
        if (order->flags & NR_SPAWN_STDOUT)
            expect_ready(&beam.command);
        if (hold) {
            int held[2] = {beam.shepherd.socket, beam.command.control};
            send_message(sockets[1], "x", 1, held, 2);
        }
        ck_assert_int_eq(write(tell[1], &beam, sizeof(beam)), (ssize_t)sizeof(beam));
        for (;;)
            (void)pause();
    }
    pid_t pid = beam.pid;
    (void)close(tell[1]);
    (void)close(sockets[1]);
    ck_assert_int_eq(read(tell[0], &beam, sizeof(beam)), (ssize_t)sizeof(beam));
    (void)close(tell[0]);
    beam.pid = pid;
    beam.hold = sockets[0]; /* undelivered descriptors stay open inside a socket */
    return beam;
}

static uint64_t beam_kill(struct beam *beam, int signal_number)
{
    ck_assert_sys(kill(beam->pid, signal_number));
    ck_assert_int_eq(waitpid(beam->pid, NULL, 0), beam->pid);
    return now_ms();
}

static void expect_all_gone(struct beam *beam, const char *lock, uint64_t limit_ms)
{
    uint64_t begin_ms = now_ms();
    if (lock != NULL)
        await_unlocked(lock, limit_ms);
    uint64_t unlocked_ms = now_ms() - begin_ms;
    await_gone(beam->command.pid, limit_ms);
    await_gone(beam->command.guardian, limit_ms);
    await_gone(beam->shepherd.pid, limit_ms + 1000);
    printf("gone after %llu ms, the zygote after %llu ms\n", (unsigned long long)unlocked_ms,
           (unsigned long long)(now_ms() - begin_ms));
    /* The zygote came to us, the subreaper; nobody else did. */
    int status;
    ck_assert_int_eq(waitpid(beam->shepherd.pid, &status, 0), beam->shepherd.pid);
    ck_assert_int_eq(status, 0);
    (void)close(beam->hold);
    expect_no_children();
}

/* D + K, and with the grace of ORDER D + G + K. */
#define GONE_AT_ONCE_MS (250 + 1000)
#define GONE_MS         (GONE_AT_ONCE_MS + 300)

#define BEAM_DEATH_TEST(name, hold, signal_number, limit_ms, ...)                                  \
    START_TEST(name)                                                                               \
    {                                                                                              \
        become_subreaper();                                                                        \
        const char *lock = lock_file();                                                            \
        struct order order = ORDER(.argv = ARGV(__VA_ARGS__), .flags = NR_SPAWN_STDOUT);           \
        struct beam beam = beam_start(&order, hold);                                               \
        ck_assert(is_locked(lock));                                                                \
        (void)beam_kill(&beam, signal_number);                                                     \
        expect_all_gone(&beam, lock, limit_ms);                                                    \
    }                                                                                              \
    END_TEST

BEAM_DEATH_TEST(a_killed_beam_takes_a_plain_command_with_it, false, SIGKILL, GONE_MS,
                FIXTURE("ignore_term"), lock)
BEAM_DEATH_TEST(an_aborted_beam_takes_a_plain_command_with_it, false, SIGABRT, GONE_MS,
                FIXTURE("ignore_term"), lock)
BEAM_DEATH_TEST(a_dead_beam_is_noticed_though_a_fork_of_it_holds_the_sockets, true, SIGKILL,
                GONE_MS, FIXTURE("ignore_term"), lock)
#ifndef NR_PORTABLE
BEAM_DEATH_TEST(a_killed_beam_takes_a_daemon_with_it, false, SIGKILL, GONE_MS, FIXTURE("daemonize"),
                lock)
BEAM_DEATH_TEST(a_killed_beam_takes_a_daemon_with_it_while_the_sockets_are_held, true, SIGKILL,
                GONE_MS, FIXTURE("daemonize"), lock)
BEAM_DEATH_TEST(a_killed_beam_takes_a_member_that_ignores_term_with_it, false, SIGKILL, GONE_MS,
                FIXTURE("term_ignoring_member"), lock)
BEAM_DEATH_TEST(a_killed_beam_takes_endless_fork_chains_with_it, false, SIGKILL, 250 + 300 + 2000,
                FIXTURE("fork_chain"), "64", lock)
BEAM_DEATH_TEST(a_killed_beam_takes_a_stopped_command_with_it, false, SIGKILL, GONE_MS,
                FIXTURE("stop_itself"), lock)

START_TEST(a_killed_beam_takes_kept_orphans_with_it)
{
    become_subreaper();
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock, "exit"),
                               .flags = NR_SPAWN_STDOUT | NR_SPAWN_KEEP);
    struct beam beam = beam_start(&order, false);
    await_gone(beam.command.pid, 2000);
    ck_assert(is_locked(lock));
    (void)beam_kill(&beam, SIGKILL);
    expect_all_gone(&beam, lock, GONE_MS);
}
END_TEST

START_TEST(a_frozen_guardian_is_killed_by_the_zygote_once_the_beam_is_dead)
{
    become_subreaper();
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT);
    struct beam beam = beam_start(&order, false);
    ck_assert_sys(kill(beam.command.guardian, SIGSTOP));
    (void)beam_kill(&beam, SIGKILL);
    expect_all_gone(&beam, lock, 250 + 300 + 2000 + 1000);
}
END_TEST

START_TEST(a_stopped_beam_loses_nothing)
{
    become_subreaper();
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), lock), .flags = NR_SPAWN_STDOUT);
    struct beam beam = beam_start(&order, false);
    ck_assert_sys(kill(beam.pid, SIGSTOP));
    (void)poll(NULL, 0, 1500);
    ck_assert(is_locked(lock));
    ck_assert_sys(kill(beam.pid, SIGCONT));
    (void)poll(NULL, 0, 200);
    ck_assert(is_locked(lock));
    (void)beam_kill(&beam, SIGKILL);
    expect_all_gone(&beam, lock, GONE_MS);
}
END_TEST

START_TEST(a_beam_killed_right_after_its_request_leaves_nothing)
{
    /* One that obeys its stop signal has no use for its grace; one that had been executed by then and
     * ignores it has the whole of it. */
    static const struct {
        const char *fixture;
        uint32_t kill_timeout_ms;
        uint64_t gone_ms;
    } commands[] = {
        {FIXTURE("hold_lock"), 60000, GONE_AT_ONCE_MS},
        {FIXTURE("ignore_term"), 300, GONE_MS},
    };
    become_subreaper();
    const char *lock = lock_file();
    for (int i = 0; i < 56; i++) {
        int tell[2];
        pid_t zygote;
        size_t which = (size_t)i / 4 % 2; /* each at each of the moments below */
        ck_assert_sys(pipe(tell));
        pid_t pid = fork();
        ck_assert_sys(pid);
        if (pid == 0) {
            struct shepherd its = shepherd_start(NULL);
            ck_assert_int_eq(write(tell[1], &its.pid, sizeof(its.pid)), (ssize_t)sizeof(its.pid));
            struct order order = ORDER(.argv = ARGV(commands[which].fixture, lock),
                                       .kill_timeout_ms = commands[which].kill_timeout_ms);
            struct command command = spawn(&its, &order);
            (void)command;
            ck_assert_int_eq(write(tell[1], "x", 1), 1);
            for (;;)
                (void)pause();
        }
        char byte;
        ck_assert_int_eq(read(tell[0], &zygote, sizeof(zygote)), (ssize_t)sizeof(zygote));
        ck_assert_int_eq(read(tell[0], &byte, 1), 1);
        if (i % 2 == 1) /* now, or somewhere in the middle of the start */
            (void)poll(NULL, 0, i % 4 == 1 ? 1 : 2);
        ck_assert_sys(kill(pid, SIGKILL));
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        await_gone(zygote, commands[which].gone_ms);
        ck_assert(!is_locked(lock));
        ck_assert_int_eq(waitpid(zygote, NULL, 0), zygote);
        expect_no_children();
        (void)close(tell[0]);
        (void)close(tell[1]);
    }
}
END_TEST
#endif

START_TEST(two_beams_do_not_touch_each_other)
{
    become_subreaper();
    const char *mine = lock_file();
    char path[TEMPORARY_MAX];
    (void)strcpy(path, mine);
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("ignore_term"), path), .flags = NR_SPAWN_STDOUT);
    struct beam first = beam_start(&order, false);
    order = ORDER(.argv = ARGV(FIXTURE("ignore_term")), .flags = NR_SPAWN_STDOUT);
    struct beam second = beam_start(&order, false);
    (void)beam_kill(&second, SIGKILL);
    await_gone(second.command.pid, GONE_MS);
    await_gone(second.shepherd.pid, GONE_MS + 1000);
    ck_assert_int_eq(waitpid(second.shepherd.pid, NULL, 0), second.shepherd.pid);
    (void)close(second.hold);
    ck_assert(is_locked(path));
    (void)beam_kill(&first, SIGKILL);
    expect_all_gone(&first, path, GONE_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("zygote");
    TCase *tcase = tcase_create("requests");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, started_by_hand_it_says_so_in_one_sentence);
    tcase_add_test(tcase, a_parent_that_is_not_the_beam_is_not_served);
    tcase_add_test(tcase, a_socket_that_does_not_keep_messages_apart_is_not_served);
    tcase_add_test(tcase, a_socket_that_the_beam_did_not_make_is_not_served);
    tcase_add_test(tcase, it_keeps_nothing_of_who_started_it);
    tcase_add_test(tcase, malformed_requests_are_answered_by_id_and_the_socket_kept);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, a_rejection_is_there_before_its_control_end_hangs_up);
#endif
    tcase_add_test(tcase, every_bad_golden_frame_is_rejected);
    tcase_add_test(tcase, the_descriptors_must_be_as_many_as_the_flags_say);
    tcase_add_test(tcase, descriptors_with_a_frame_that_takes_none_are_closed);
    tcase_add_test(tcase, a_replayed_request_is_refused_while_its_first_runs);
    tcase_add_test(tcase, random_requests_do_no_harm);
    tcase_add_test(tcase, a_beam_that_does_not_read_rejections_is_not_forgotten);
    tcase_add_test(tcase, out_of_descriptors_is_emfile_and_passes);
    tcase_add_test(tcase, a_hangup_of_the_request_socket_lets_commands_run);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, strings_in_a_memfd_are_checked);
    tcase_add_test(tcase, a_killed_guardian_takes_its_whole_family_with_it);
    tcase_add_test(tcase, a_zygote_out_of_descriptors_still_sweeps);
    tcase_add_test(tcase, the_oom_killer_takes_us_last_and_commands_as_the_beam_is_taken);
    tcase_add_test(tcase, a_killed_guardians_tree_of_sessions_is_swept);
    tcase_add_test(tcase, a_killed_guardians_fork_chains_are_swept);
    tcase_add_test(tcase, the_leader_dies_with_guardian_and_zygote);
    tcase_add_test(tcase, strays_are_swept_without_touching_other_commands);
    tcase_add_test(tcase, a_frozen_guardian_is_killed_by_escalation);
    tcase_add_test(tcase, signals_to_everybody_take_no_grace_away);
    tcase_add_test(tcase, commands_survive_the_zygote);
#endif
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("ends");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, begin, NULL);
    tcase_add_test(tcase, without_commands_a_hangup_ends_it);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("the death of the BEAM, and refused calls");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_killed_beam_takes_a_plain_command_with_it);
    tcase_add_test(tcase, an_aborted_beam_takes_a_plain_command_with_it);
    tcase_add_test(tcase, two_beams_do_not_touch_each_other);
    tcase_add_test(tcase, a_dead_beam_is_noticed_though_a_fork_of_it_holds_the_sockets);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, a_killed_beam_takes_a_daemon_with_it);
    tcase_add_test(tcase, a_killed_beam_takes_a_daemon_with_it_while_the_sockets_are_held);
    tcase_add_test(tcase, a_killed_beam_takes_a_member_that_ignores_term_with_it);
    tcase_add_test(tcase, a_killed_beam_takes_endless_fork_chains_with_it);
    tcase_add_test(tcase, a_killed_beam_takes_a_stopped_command_with_it);
    tcase_add_test(tcase, a_killed_beam_takes_kept_orphans_with_it);
    tcase_add_test(tcase, a_frozen_guardian_is_killed_by_the_zygote_once_the_beam_is_dead);
    tcase_add_test(tcase, a_stopped_beam_loses_nothing);
    tcase_add_test(tcase, a_beam_killed_right_after_its_request_leaves_nothing);
    tcase_add_test(tcase, a_guardian_that_cannot_be_forked_is_a_failed_start);
    tcase_add_test(tcase, a_command_that_cannot_be_forked_is_a_failed_start);
#ifdef SYS_vfork
    tcase_add_test(tcase, a_command_that_cannot_be_vforked_is_a_failed_start);
#endif
    tcase_add_test(tcase, a_guardian_without_its_calls_fails_the_start);
#endif
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
