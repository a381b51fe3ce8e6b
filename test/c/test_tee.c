/*
 * The program tee: whatever its descriptors are, both outputs get every byte of stdin once and in order; and
 * each way a stream or its copy may end has the exit that csrc/tee.c says. This process is all that is around
 * it: what writes stdin and both readers.
 */
#include "program_support.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)

/* Who waits that long waits for ever. */
#define LIMIT_MS 20000

/* How far one reader may be ahead of the other: the pipes of 1 MiB of one test, and a buffer. */
#define AHEAD_MAX (3 * MIB)

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { IN, OUT, COPY };

static rlim_t file_size_max;

/* What this process does at its ends. */
static struct {
    size_t at_a_time;
    bool patient;       /* acts only while nobody else can */
    bool silent;        /* does not act */
    uint64_t leaves_at; /* closes its end once that many bytes ... */
    int leaves_because; /* ... have been read there (OUT, COPY) */
    uint64_t done;      /* bytes written or read so far */
    bool gone;          /* IN: nobody reads what is written */
} at[3];

/* ---- the bytes ------------------------------------------------------------------------------- */

/* A prime: no chunk that might be doubled or lost is a multiple of it. */
#define PERIOD 1048573

static unsigned char pattern[PERIOD];

static void make_pattern(void)
{
    uint64_t state = 0x9E3779B97F4A7C15U;
    for (size_t i = 0; i < PERIOD; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pattern[i] = (unsigned char)(state >> 32);
    }
}

/* The bytes at some place of the stream, and how many there are until the pattern begins again. */
static const unsigned char *bytes_at(uint64_t place, size_t *size)
{
    size_t offset = (size_t)(place % PERIOD);
    *size = PERIOD - offset < *size ? PERIOD - offset : *size;
    return pattern + offset;
}

static void expect_bytes(const char *what, const unsigned char *bytes, size_t size, uint64_t place)
{
    while (size > 0) {
        size_t some = size;
        const unsigned char *expected = bytes_at(place, &some);
        if (memcmp(bytes, expected, some) != 0)
            ck_abort_msg("%s: wrong within %zu bytes from %llu on", what, some,
                         (unsigned long long)place);
        bytes += some;
        place += some;
        size -= some;
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static int temporary_file(void)
{
    char name[TEMPORARY_MAX];
    int file = make_file_open(name);
    ck_assert_sys(unlink(name)); /* its bytes go with its last descriptor */
    return file;
}

static void write_file(int file, uint64_t size)
{
    for (uint64_t place = 0; place < size;) {
        size_t some = (size_t)(size - place);
        const unsigned char *bytes = bytes_at(place, &some);
        ck_assert_int_eq(nr_fd_write_all(file, bytes, some), 0);
        place += some;
    }
    ck_assert_sys(lseek(file, 0, SEEK_SET));
}

/* From `start` on the file holds the stream's first `size` bytes, and no more. */
static void expect_file(int file, off_t start, uint64_t size)
{
    static unsigned char bytes[64 * 1024];
    struct stat status;
    ck_assert_sys(fstat(file, &status));
    ck_assert_uint_eq((uint64_t)status.st_size, (uint64_t)start + size);
    for (uint64_t place = 0; place < size;) {
        ssize_t n = pread(file, bytes, sizeof(bytes), start + (off_t)place);
        ck_assert_int_gt(n, 0);
        expect_bytes("the file", bytes, (size_t)n, place);
        place += (uint64_t)n;
    }
}

/* ---- tee and its surroundings ---------------------------------------------------------------- */

static void set_up(void)
{
    for (int i = IN; i <= COPY; i++) {
        int ends[2];
        ck_assert_int_eq(nr_fd_pipe(ends), 0);
        ours[i] = ends[i == IN ? 1 : 0];
        theirs[i] = ends[i == IN ? 0 : 1];
        ck_assert_int_eq(nr_fd_nonblock(ours[i], true), 0);
        at[i].at_a_time = 64 * KIB;
        at[i].leaves_at = UINT64_MAX;
        at[i].leaves_because = i;
    }
    file_size_max = RLIM_INFINITY;
    (void)signal(SIGPIPE, SIG_IGN);
}

static int another(int fd)
{
    int same = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ck_assert_sys(same);
    return same;
}

static void give_file(int which, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    ck_assert_sys(fd);
    give_take(which, fd);
}

static void give_socket(int which)
{
    int ends[2];
    ck_assert_sys(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    give_take(which, ends[0]);
    ours[which] = ends[1];
    ck_assert_int_eq(nr_fd_nonblock(ours[which], true), 0);
}

static _Noreturn void become_tee(const char *const *launcher)
{
    const char *argv[8];
    unsigned argc = 0;
    struct rlimit limit = {.rlim_cur = file_size_max, .rlim_max = file_size_max};

    for (; launcher != NULL && launcher[argc] != NULL; argc++)
        argv[argc] = launcher[argc];
    argv[argc++] = NR_TEST_TEE;
    argv[argc] = NULL;
    take_descriptors();
    if (file_size_max != RLIM_INFINITY && setrlimit(RLIMIT_FSIZE, &limit) < 0)
        _exit(99);
    (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(98);
}

/* SIGPIPE is left as this process has it, which is ignored. */
static void start_by(const char *const *launcher)
{
    program = fork();
    ck_assert_sys(program);
    if (program == 0)
        become_tee(launcher);
    leave_descriptors();
}

static void start(void)
{
    start_by(NULL);
}

/* ---- what writes and what reads -------------------------------------------------------------- */

static void write_some(uint64_t size)
{
    size_t some = at[IN].at_a_time;
    if (some > size - at[IN].done)
        some = (size_t)(size - at[IN].done);
    const unsigned char *bytes = bytes_at(at[IN].done, &some);
    ssize_t n = some > 0 ? write(ours[IN], bytes, some) : 0;
    if (n > 0)
        at[IN].done += (uint64_t)n;
    at[IN].gone = n < 0 && errno == EPIPE;
    ck_assert(n >= 0 || errno == EPIPE || errno == EAGAIN);
    if (at[IN].gone || at[IN].done == size)
        ours[IN] = nr_fd_close(ours[IN]);
}

static void read_some(int which)
{
    static unsigned char bytes[64 * 1024];
    ssize_t n = read(ours[which], bytes, at[which].at_a_time);
    if (n < 0)
        ck_assert_int_eq(errno, EAGAIN);
    if (n == 0)
        ours[which] = nr_fd_close(ours[which]);
    if (n <= 0)
        return;
    expect_bytes(which == OUT ? "stdout" : "the copy", bytes, (size_t)n, at[which].done);
    at[which].done += (uint64_t)n;
}

static void leave(void)
{
    for (int i = OUT; i <= COPY; i++)
        if (at[at[i].leaves_because].done >= at[i].leaves_at)
            ours[i] = nr_fd_close(ours[i]);
}

/* Moves what can be moved: the patient wait for the others. Whether anything could. */
static bool step(uint64_t size, bool patient)
{
    struct pollfd polled[3] = {{.fd = -1}};
    for (int i = IN; i <= COPY; i++) {
        bool included = !at[i].silent && (patient || !at[i].patient);
        polled[i].fd = included ? ours[i] : -1;
        polled[i].events = i == IN ? POLLOUT : POLLIN;
    }
    int ready = poll(polled, 3, patient ? LIMIT_MS : 0);
    ck_assert_msg(ready > 0 || !patient, "nothing moves: %llu in, %llu out, %llu copied",
                  (unsigned long long)at[IN].done, (unsigned long long)at[OUT].done,
                  (unsigned long long)at[COPY].done);
    if (polled[IN].revents != 0)
        write_some(size);
    for (int i = OUT; i <= COPY; i++)
        if (polled[i].revents != 0)
            read_some(i);
    leave();
    if (ours[OUT] >= 0 && ours[COPY] >= 0) {
        ck_assert_uint_le(at[OUT].done, at[COPY].done + AHEAD_MAX);
        ck_assert_uint_le(at[COPY].done, at[OUT].done + AHEAD_MAX);
    }
    return ready > 0;
}

/* Writes `size` bytes, and reads both outputs until they end or are left. */
static void pump(uint64_t size)
{
    while (ours[IN] >= 0 || ours[OUT] >= 0 || ours[COPY] >= 0)
        if (!step(size, false))
            (void)step(size, true);
}

static void await_one(int which, short events)
{
    struct pollfd polled = {.fd = ours[which], .events = events};
    ck_assert_int_eq(poll(&polled, 1, LIMIT_MS), 1);
}

/* ---- every byte, once, in order -------------------------------------------------------------- */

static void expect_both(uint64_t size)
{
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, size);
    ck_assert_uint_eq(at[COPY].done, size);
}

START_TEST(both_outputs_get_all_of_it)
{
    start();
    pump(64 * MIB);
    expect_both(64 * MIB);
}
END_TEST

/* _i: who is slow. */
START_TEST(who_is_slow_holds_up_the_others_and_no_byte_is_lost)
{
    at[_i].patient = true;
    at[_i].at_a_time = 3001;
    start();
    pump(16 * MIB + 1);
    expect_both(16 * MIB + 1);
}
END_TEST

START_TEST(pieces_of_odd_sizes_come_out_whole)
{
    at[IN].at_a_time = 4099;
    at[OUT].at_a_time = 7919;
    at[COPY].at_a_time = 1009;
    start();
    pump(4 * MIB + 3);
    expect_both(4 * MIB + 3);
}
END_TEST

START_TEST(one_byte_comes_out_before_the_next_goes_in)
{
    const uint64_t size = 2000;
    at[IN].at_a_time = 1;
    start();
    for (uint64_t place = 0; place < size; place++) {
        write_some(size + 1);
        for (int i = OUT; i <= COPY; i++) {
            await_one(i, POLLIN);
            read_some(i);
            ck_assert_uint_eq(at[i].done, place + 1);
        }
    }
    pump(size);
    expect_both(size);
}
END_TEST

START_TEST(nothing_in_is_nothing_out)
{
    start();
    pump(0);
    expect_both(0);
}
END_TEST

/* _i: which are as small as pipes can be, a bit each. */
START_TEST(small_pipes_will_do)
{
    for (int i = IN; i <= COPY; i++)
        if (_i & 1 << i)
            ck_assert_sys(fcntl(ours[i], F_SETPIPE_SZ, 4096));
    start();
    pump(4 * MIB + 5);
    expect_both(4 * MIB + 5);
}
END_TEST

START_TEST(large_pipes_will_do)
{
    for (int i = IN; i <= COPY; i++)
        if (fcntl(ours[i], F_SETPIPE_SZ, 1 << 20) < 0)
            skip("no pipe of 1 MiB: %s", strerror(errno));
    at[COPY].patient = true;
    start();
    for (at[OUT].silent = true; at[IN].done < MIB;)
        (void)step(32 * MIB, true);
    at[OUT].silent = false;
    pump(32 * MIB);
    expect_both(32 * MIB);
}
END_TEST

/* _i: which do not block, a bit each. */
START_TEST(descriptors_that_do_not_block_are_waited_for)
{
    for (int i = IN; i <= COPY; i++)
        if (_i & 1 << i)
            ck_assert_int_eq(nr_fd_nonblock(theirs[i], true), 0);
    at[1 + _i % 2].patient = true;
    start();
    pump(4 * MIB + 7);
    expect_both(4 * MIB + 7);
}
END_TEST

START_TEST(the_end_does_not_wait_for_room)
{
    /* stdout is full, nobody reads it yet, and the copy's reader wants an end first. */
    for (int i = IN; i <= COPY; i++)
        ck_assert_sys(fcntl(ours[i], F_SETPIPE_SZ, 4096));
    at[OUT].silent = true;
    start();
    while (ours[IN] >= 0 || ours[COPY] >= 0)
        (void)step(4096, true);
    ck_assert_uint_eq(at[COPY].done, 4096);
    ck_assert_int_eq(exit_of_program(), 0);
    at[OUT].silent = false;
    pump(4096);
    ck_assert_uint_eq(at[OUT].done, 4096);
}
END_TEST

START_TEST(one_pipe_may_be_both_outputs)
{
    static char bytes[64 * 1024];
    uint64_t got = 0;
    give_take(COPY, another(theirs[OUT]));
    at[OUT].silent = true;
    start();
    for (;;) {
        ssize_t n = read(ours[OUT], bytes, sizeof(bytes));
        if (n == 0)
            break;
        if (n > 0)
            got += (uint64_t)n;
        else if (ours[IN] >= 0)
            write_some(MIB);
        else
            await_one(OUT, POLLIN);
    }
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(got, 2 * MIB);
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(between_pipes_no_byte_is_read_by_the_program)
{
    char path[64];
    char text[512] = "";
    const uint64_t size = 8 * MIB;
    start();
    (void)snprintf(path, sizeof(path), "/proc/%d/io", (int)program);
    while (at[OUT].done < size || at[COPY].done < size)
        (void)step(size + 1, true);
    int io = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = io < 0 ? -1 : read(io, text, sizeof(text) - 1);
    (void)nr_fd_close(io);
    pump(size + 1);
    expect_both(size + 1);
    if (n <= 0)
        skip("%s cannot be read", path);
    unsigned long long bytes = ULLONG_MAX;
    ck_assert_int_eq(sscanf(text, "rchar: %llu", &bytes), 1);
    ck_assert_uint_lt(bytes, MIB); /* the dynamic loader's, or a sanitizer's */
}
END_TEST
#endif

/* ---- other descriptors than pipes ------------------------------------------------------------ */

#define FILE_SIZE (3 * MIB + 11)

START_TEST(stdin_may_be_a_file)
{
    give_take(IN, temporary_file());
    write_file(theirs[IN], FILE_SIZE);
    start();
    pump(0);
    expect_both(FILE_SIZE);
}
END_TEST

START_TEST(stdin_and_outputs_may_be_sockets)
{
    give_socket(_i);
    start();
    pump(4 * MIB + 13);
    expect_both(4 * MIB + 13);
}
END_TEST

START_TEST(stdout_may_be_a_file)
{
    int file = temporary_file();
    give_take(OUT, another(file));
    start();
    pump(FILE_SIZE);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[COPY].done, FILE_SIZE);
    expect_file(file, 0, FILE_SIZE);
}
END_TEST

START_TEST(both_outputs_may_be_files_and_stdin_as_well)
{
    int out = temporary_file();
    int copy = temporary_file();
    give_take(IN, temporary_file());
    write_file(theirs[IN], FILE_SIZE);
    give_take(OUT, another(out));
    give_take(COPY, another(copy));
    start();
    ck_assert_int_eq(exit_of_program(), 0);
    expect_file(out, 0, FILE_SIZE);
    expect_file(copy, 0, FILE_SIZE);
}
END_TEST

START_TEST(either_output_may_be_dev_null)
{
    give_file(_i, "/dev/null", O_WRONLY);
    start();
    pump(FILE_SIZE);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[_i == OUT ? COPY : OUT].done, FILE_SIZE);
}
END_TEST

START_TEST(the_copy_may_be_a_file)
{
    int file = temporary_file();
    give_take(COPY, another(file));
    start();
    pump(FILE_SIZE);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, FILE_SIZE);
    expect_file(file, 0, FILE_SIZE);
}
END_TEST

START_TEST(a_file_is_continued_where_its_descriptor_stands)
{
    int file = temporary_file();
    ck_assert_int_eq(write(file, "before", 6), 6);
    give_take(COPY, another(file));
    start();
    pump(FILE_SIZE);
    ck_assert_int_eq(exit_of_program(), 0);
    expect_file(file, 6, FILE_SIZE);
    ck_assert_int_eq(lseek(file, 0, SEEK_CUR), (off_t)FILE_SIZE + 6);
}
END_TEST

START_TEST(a_file_may_be_appended_to)
{
    int file = temporary_file();
    ck_assert_int_eq(write(file, "before", 6), 6);
    ck_assert_sys(lseek(file, 0, SEEK_SET));
    ck_assert_sys(fcntl(file, F_SETFL, O_APPEND));
    give_take(COPY, another(file));
    start();
    pump(FILE_SIZE);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, FILE_SIZE);
    expect_file(file, 6, FILE_SIZE);
}
END_TEST

#ifdef __linux__
/* Where a filter forbids what pipes can do. _i: the errno that it gives. */
START_TEST(refused_system_calls_are_done_without)
{
    static const char *const refused[] = {"tee", "splice", "tee,splice"};
    static const char *const errors[] = {"1", "38"};
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", errors[_i % 2], 1));
    start_by(ARGV(NR_TEST_FIXTURES "/fixture_refuse_calls", refused[_i / 2]));
    pump(2 * MIB + 17);
    expect_both(2 * MIB + 17);
}
END_TEST
#endif

/* ---- readers that leave ---------------------------------------------------------------------- */

START_TEST(without_a_reader_of_stdout_it_ends_by_sigpipe)
{
    at[OUT].leaves_at = _i == 0 ? 1 : MIB;
    start();
    pump(1024 * MIB);
    ck_assert_int_eq(exit_of_program(), -SIGPIPE);
    ck_assert(at[IN].gone);
    ck_assert_uint_ge(at[COPY].done, at[OUT].done);
}
END_TEST

START_TEST(sigpipe_ends_it_where_stdin_is_a_file_too)
{
    give_take(IN, temporary_file());
    write_file(theirs[IN], FILE_SIZE);
    at[OUT].leaves_at = 1;
    start();
    pump(0);
    ck_assert_int_eq(exit_of_program(), -SIGPIPE);
    ck_assert_uint_ge(at[COPY].done, at[OUT].done);
}
END_TEST

START_TEST(sigpipe_ends_it_although_whoever_started_it_has_it_blocked)
{
    sigset_t mask;
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGPIPE);
    ck_assert_sys(sigprocmask(SIG_BLOCK, &mask, NULL));
    ours[OUT] = nr_fd_close(ours[OUT]);
    start();
    pump(MIB);
    ck_assert_int_eq(exit_of_program(), -SIGPIPE);
}
END_TEST

START_TEST(who_has_nothing_to_write_needs_no_reader)
{
    ours[OUT] = nr_fd_close(ours[OUT]);
    if (_i == 1)
        ours[COPY] = nr_fd_close(ours[COPY]);
    start();
    pump(0);
    ck_assert_int_eq(exit_of_program(), 0);
}
END_TEST

START_TEST(without_a_reader_of_the_copy_the_stream_goes_on)
{
    at[COPY].leaves_at = _i == 0 ? 0 : _i == 1 ? 1 : MIB + 1;
    start();
    pump(8 * MIB + 19);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, 8 * MIB + 19);
}
END_TEST

/* stdin holds 64 KiB, of which stdout gets all and the copy, which nobody reads, a page. What the copy
 * has not got when its reader leaves must not come to stdout a second time. */
START_TEST(a_copy_that_is_behind_when_its_reader_leaves_leaves_nothing_behind)
{
    ck_assert_sys(fcntl(ours[COPY], F_SETPIPE_SZ, 4096));
    at[COPY].silent = true;
    at[COPY].leaves_because = OUT;
    at[COPY].leaves_at = 32 * KIB;
    while (step(4 * MIB, false) && at[IN].done < 64 * KIB)
        ;
    start();
    pump(4 * MIB);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, 4 * MIB);
}
END_TEST

START_TEST(a_copy_without_a_reader_is_no_failure_where_stdin_is_a_file)
{
    give_take(IN, temporary_file());
    write_file(theirs[IN], FILE_SIZE);
    at[COPY].leaves_at = 1;
    start();
    pump(0);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(at[OUT].done, FILE_SIZE);
}
END_TEST

START_TEST(without_both_readers_it_ends_by_sigpipe)
{
    at[COPY].leaves_at = MIB;
    at[OUT].leaves_at = 2 * MIB;
    start();
    pump(1024 * MIB);
    ck_assert_int_eq(exit_of_program(), -SIGPIPE);
    ck_assert(at[IN].gone);
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

/* Added to the errno of stdin or stdout in the exit; the copy's is told as it is. */
#define STREAM 133

START_TEST(a_copy_that_fails_leaves_the_stream_whole_and_is_told_of_at_the_end)
{
    give_file(COPY, "/dev/full", O_WRONLY);
    start();
    pump(4 * MIB);
    ck_assert_int_eq(exit_of_program(), ENOSPC);
    ck_assert_uint_eq(at[OUT].done, 4 * MIB);
}
END_TEST

START_TEST(a_copy_that_may_not_grow_any_more_is_told_of)
{
    int file = temporary_file();
    give_take(COPY, another(file));
    file_size_max = 100001;
    start();
    pump(4 * MIB);
    ck_assert_int_eq(exit_of_program(), EFBIG);
    ck_assert_uint_eq(at[OUT].done, 4 * MIB);
    expect_file(file, 0, 100001);
}
END_TEST

START_TEST(a_copy_that_failed_is_told_of_although_stdout_has_no_reader)
{
    give_file(COPY, "/dev/full", O_WRONLY);
    at[OUT].leaves_at = MIB;
    start();
    pump(1024 * MIB);
    ck_assert_int_eq(exit_of_program(), ENOSPC);
    ck_assert(at[IN].gone);
}
END_TEST

START_TEST(a_copy_that_cannot_be_written_is_told_of)
{
    give_file(COPY, "/dev/null", O_RDONLY);
    start();
    pump(MIB);
    ck_assert_int_eq(exit_of_program(), EBADF);
    ck_assert_uint_eq(at[OUT].done, MIB);
}
END_TEST

START_TEST(without_a_descriptor_2_nothing_is_copied)
{
    give_take(COPY, -EBADF);
    start();
    pump(MIB);
    ck_assert_int_eq(exit_of_program(), EBADF);
    ck_assert_uint_eq(at[OUT].done, 0);
}
END_TEST

START_TEST(a_stdout_that_fails_ends_it)
{
    give_file(OUT, "/dev/full", O_WRONLY);
    start();
    pump(1024 * MIB);
    ck_assert_int_eq(exit_of_program(), STREAM + ENOSPC);
    ck_assert(at[IN].gone);
    ck_assert_uint_eq(at[COPY].done, 0);
}
END_TEST

START_TEST(the_copy_has_what_stdout_took_before_it_failed)
{
    int file = temporary_file();
    give_take(OUT, another(file));
    file_size_max = 100001;
    start();
    pump(4 * MIB);
    ck_assert_int_eq(exit_of_program(), STREAM + EFBIG);
    expect_file(file, 0, 100001);
    ck_assert_uint_eq(at[COPY].done, 100001);
}
END_TEST

START_TEST(where_both_outputs_fail_the_copy_is_told_of)
{
    give_take(OUT, temporary_file());
    give_file(COPY, "/dev/full", O_WRONLY);
    file_size_max = 100001;
    start();
    pump(4 * MIB);
    ck_assert_int_eq(exit_of_program(), ENOSPC);
}
END_TEST

START_TEST(a_stdin_that_cannot_be_read_ends_it)
{
    static const int expected[] = {EBADF, EISDIR, EBADF};
    if (_i == 0)
        give_take(IN, -EBADF);
    else if (_i == 1)
        give_file(IN, "/", O_RDONLY | O_DIRECTORY);
    else
        give_take(IN, another(theirs[OUT]));
    start();
    pump(0);
    ck_assert_int_eq(exit_of_program(), STREAM + expected[_i]);
    ck_assert_uint_eq(at[OUT].done + at[COPY].done, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tee");
    TCase *tcase = tcase_create("tee");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, NULL);
    make_pattern();
    tcase_add_test(tcase, both_outputs_get_all_of_it);
    tcase_add_loop_test(tcase, who_is_slow_holds_up_the_others_and_no_byte_is_lost, IN, COPY + 1);
    tcase_add_test(tcase, pieces_of_odd_sizes_come_out_whole);
    tcase_add_test(tcase, one_byte_comes_out_before_the_next_goes_in);
    tcase_add_test(tcase, nothing_in_is_nothing_out);
    tcase_add_loop_test(tcase, small_pipes_will_do, 1, 8);
    tcase_add_test(tcase, large_pipes_will_do);
    tcase_add_loop_test(tcase, descriptors_that_do_not_block_are_waited_for, 1, 8);
    tcase_add_test(tcase, the_end_does_not_wait_for_room);
    tcase_add_test(tcase, one_pipe_may_be_both_outputs);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, between_pipes_no_byte_is_read_by_the_program);
#endif
    tcase_add_test(tcase, stdin_may_be_a_file);
    tcase_add_loop_test(tcase, stdin_and_outputs_may_be_sockets, IN, COPY + 1);
    tcase_add_test(tcase, stdout_may_be_a_file);
    tcase_add_test(tcase, both_outputs_may_be_files_and_stdin_as_well);
    tcase_add_loop_test(tcase, either_output_may_be_dev_null, OUT, COPY + 1);
    tcase_add_test(tcase, the_copy_may_be_a_file);
    tcase_add_test(tcase, a_file_is_continued_where_its_descriptor_stands);
    tcase_add_test(tcase, a_file_may_be_appended_to);
#ifdef __linux__
    tcase_add_loop_test(tcase, refused_system_calls_are_done_without, 0, 6);
#endif
    tcase_add_loop_test(tcase, without_a_reader_of_stdout_it_ends_by_sigpipe, 0, 2);
    tcase_add_test(tcase, sigpipe_ends_it_where_stdin_is_a_file_too);
    tcase_add_test(tcase, sigpipe_ends_it_although_whoever_started_it_has_it_blocked);
    tcase_add_loop_test(tcase, who_has_nothing_to_write_needs_no_reader, 0, 2);
    tcase_add_loop_test(tcase, without_a_reader_of_the_copy_the_stream_goes_on, 0, 3);
    tcase_add_test(tcase, a_copy_that_is_behind_when_its_reader_leaves_leaves_nothing_behind);
    tcase_add_test(tcase, a_copy_without_a_reader_is_no_failure_where_stdin_is_a_file);
    tcase_add_test(tcase, without_both_readers_it_ends_by_sigpipe);
    tcase_add_test(tcase, a_copy_that_fails_leaves_the_stream_whole_and_is_told_of_at_the_end);
    tcase_add_test(tcase, a_copy_that_may_not_grow_any_more_is_told_of);
    tcase_add_test(tcase, a_copy_that_failed_is_told_of_although_stdout_has_no_reader);
    tcase_add_test(tcase, a_copy_that_cannot_be_written_is_told_of);
    tcase_add_test(tcase, without_a_descriptor_2_nothing_is_copied);
    tcase_add_test(tcase, a_stdout_that_fails_ends_it);
    tcase_add_test(tcase, the_copy_has_what_stdout_took_before_it_failed);
    tcase_add_test(tcase, where_both_outputs_fail_the_copy_is_told_of);
    tcase_add_loop_test(tcase, a_stdin_that_cannot_be_read_ends_it, 0, 3);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
