/*
 * The program replay: what a cassette says is what comes out, in that order, no sooner than it did where that is
 * asked for; stdin is read, checked or left alone; it ends as the command did; and what is no cassette is told of,
 * with its line. This process writes its stdin and reads both outputs.
 */
#include "program_support.h"

#include "cassette.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST     "net_runner cassette 1\ncommand \"x\"\n"
#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { IN, OUT, ERR };

static char said[3][512 * 1024];
static size_t sizes[3];

static void set_up(void)
{
    for (int i = IN; i <= ERR; i++) {
        int ends[2];
        ck_assert_int_eq(nr_fd_pipe(ends), 0);
        ours[i] = ends[i == IN ? 1 : 0];
        theirs[i] = ends[i == IN ? 0 : 1];
        sizes[i] = 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
}

static void start(const char *const *arguments)
{
    const char *argv[16] = {"ls"};
    for (int i = 0; arguments[i] != NULL; i++)
        argv[i + 1] = arguments[i];
    program = fork();
    ck_assert_sys(program);
    if (program == 0) {
        (void)signal(SIGPIPE, SIG_DFL);
        take_descriptors();
        (void)execv(NR_TEST_REPLAY, (char *const *)(uintptr_t)argv);
        _exit(98);
    }
    leave_descriptors();
}

static void tell(const char *text)
{
    ck_assert_int_eq(nr_fd_write_all(ours[IN], text, strlen(text)), 0);
}

static void end_stdin(void)
{
    ours[IN] = nr_fd_close(ours[IN]);
}

/* Reads until that many bytes are there; or to the ends of both. */
static void hear(int which, size_t wanted)
{
    while ((ours[OUT] >= 0 || ours[ERR] >= 0) && (wanted == 0 || sizes[which] < wanted)) {
        struct pollfd waited[2] = {{.fd = ours[OUT], .events = POLLIN},
                                   {.fd = ours[ERR], .events = POLLIN}};
        ck_assert_sys(poll(waited, 2, -1));
        for (int i = OUT; i <= ERR; i++) {
            if (ours[i] < 0 || waited[i - OUT].revents == 0)
                continue;
            ssize_t n = read(ours[i], said[i] + sizes[i], sizeof(said[i]) - 1 - sizes[i]);
            ck_assert_sys(n);
            sizes[i] += (size_t)n;
            if (n == 0)
                ours[i] = nr_fd_close(ours[i]);
        }
    }
    said[OUT][sizes[OUT]] = '\0';
    said[ERR][sizes[ERR]] = '\0';
}

/* What it ends with when it is told this and no more. */
static int end_after(const char *text, const char *const *arguments)
{
    start(arguments);
    tell(text);
    end_stdin();
    hear(OUT, 0);
    return exit_of_program();
}

static int end_of(const char *const *arguments)
{
    return end_after("", arguments);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static char *written_file(const char *text)
{
    static char name[TEMPORARY_MAX];
    int file = make_file_open(name);
    ck_assert_int_eq(nr_fd_write_all(file, text, strlen(text)), 0);
    (void)nr_fd_close(file);
    return name;
}

/* ---- what comes out ------------------------------------------------------------------------------ */

#define BOTH                                                                                       \
    FIRST "cd \"/tmp\"\nenv \"A\" \"B\"\nunset \"C\"\n\n# a comment\n"                             \
          "at 5 stdout\n  \"one\\n\"\n  \"two\"\nat 9 stderr\n  \"oops\\n\"\n"                     \
          "at 10 stdout\n  \" three\\n\"\nat 11 exit 3\n"

START_TEST(a_file_is_played_to_both_outputs)
{
    char *name = written_file(BOTH);
    int status = end_of(ARGV("read", "0", name));
    ck_assert_int_eq(status, 3);
    ck_assert_str_eq(said[OUT], "one\ntwo three\n");
    ck_assert_str_eq(said[ERR], "oops\n");
}
END_TEST

START_TEST(a_text_may_come_in_pieces)
{
    static const char text[] = BOTH;
    static char first[sizeof(text)];
    memcpy(first, text, 70);
    ck_assert_int_eq(end_of(ARGV("read", "0", "-", first, text + 70)), 3);
    ck_assert_str_eq(said[OUT], "one\ntwo three\n");
}
END_TEST

START_TEST(where_both_are_one_pipe_the_order_is_kept)
{
    give_take(ERR, fcntl(theirs[OUT], F_DUPFD_CLOEXEC, 0));
    ck_assert_int_eq(end_of(ARGV("read", "0", "-", BOTH)), 3);
    ck_assert_str_eq(said[OUT], "one\ntwooops\n three\n");
}
END_TEST

START_TEST(any_byte_comes_out_as_escape_or_base64)
{
    static const char expected[] = "\n\r\t\033\"\\\0\377A\001\002\003\004\005ABC";
    ck_assert_int_eq(end_of(ARGV("read", "0", "-",
                                 FIRST "at 0 stdout\n  \"\\n\\r\\t\\e\\\"\\\\\\x00\\xFf\\x41\"\n"
                                       "  base64 AQ==\n  base64 AgM=\n  base64 BAVB\n"
                                       "  \"BC\"\nat 0 exit 0\n")),
                     0);
    ck_assert_uint_eq(sizes[OUT], sizeof(expected) - 1);
    ck_assert_mem_eq(said[OUT], expected, sizeof(expected) - 1);
}
END_TEST

START_TEST(who_reads_slowly_is_waited_for)
{
    static char text[300 * 1024];
    size_t at = (size_t)snprintf(text, sizeof(text), FIRST "at 0 stdout\n  \"");
    memset(text + at, 'x', 200 * 1024);
    (void)snprintf(text + at + 200 * 1024, 64, "\"\nat 0 stderr\n  \"done\"\nat 0 exit 0\n");
    char *name = written_file(text);
    if (_i > 0)
        ck_assert_int_eq(nr_fd_nonblock(theirs[OUT], true), 0);
    start(ARGV("read", "0", name));
    /* It waits in its write: a pipe holds less. */
    struct pollfd waited = {.fd = ours[ERR], .events = POLLIN};
    ck_assert_int_eq(poll(&waited, 1, 50), 0);
    hear(OUT, 0);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_uint_eq(sizes[OUT], 200 * 1024);
    ck_assert_str_eq(said[ERR], "done");
}
END_TEST

START_TEST(without_a_reader_it_ends_by_sigpipe)
{
    ours[OUT] = nr_fd_close(ours[OUT]);
    ck_assert_int_eq(end_of(ARGV("read", "0", "-", BOTH)), -SIGPIPE);
}
END_TEST

/* ---- time ---------------------------------------------------------------------------------------- */

#define LATE FIRST "at 200000 stdout\n  \"a\"\nat 300000 stderr\n  \"b\"\nat 400000 exit 0\n"

START_TEST(at_the_recorded_speed_nothing_comes_too_early)
{
    uint64_t began = now_ms();
    start(ARGV("read", "1000", "-", LATE));
    hear(OUT, 1);
    ck_assert_uint_ge(now_ms() - began, 199);
    hear(ERR, 1);
    ck_assert_uint_ge(now_ms() - began, 299);
    hear(OUT, 0);
    ck_assert_uint_ge(now_ms() - began, 399);
    ck_assert_int_eq(exit_of_program(), 0);
}
END_TEST

START_TEST(half_the_speed_takes_twice_as_long)
{
    uint64_t began = now_ms();
    ck_assert_int_eq(end_of(ARGV("read", "500", "-", LATE)), 0);
    ck_assert_uint_ge(now_ms() - began, 799);
}
END_TEST

START_TEST(an_hour_is_not_waited_for_where_all_is_at_once)
{
    /* Check ends a test that waits. */
    ck_assert_int_eq(end_of(ARGV("read", "0", "-", FIRST "at 3600000000 exit 0\n")), 0);
}
END_TEST

START_TEST(what_follows_stdin_is_as_late_behind_it)
{
    start(ARGV("read", "1000", "-",
               FIRST "at 100000 stdin\n  \"x\"\nat 300000 stdout\n  \"y\"\nat 300000 exit 0\n"));
    ck_assert_int_eq(poll(&(struct pollfd){.fd = ours[OUT], .events = POLLIN}, 1, 300), 0);
    uint64_t began = now_ms();
    tell("x");
    hear(OUT, 0);
    ck_assert_uint_ge(now_ms() - began, 199);
    ck_assert_int_eq(exit_of_program(), 0);
}
END_TEST

/* ---- stdin --------------------------------------------------------------------------------------- */

#define ASKS                                                                                       \
    FIRST                                                                                          \
    "at 0 stdout\n  \"name? \"\nat 1 stdin\n  \"Ada\\n\"\nat 2 stdout\n  \"age? \"\n"              \
    "at 3 stdin\n  \"36\"\n  \"\\n\"\nat 4 stdin end\nat 5 stdout\n  \"done\"\nat 6 exit 0\n"

START_TEST(an_answer_is_waited_for)
{
    start(ARGV(_i == 0 ? "read" : "check", "0", "-", ASKS));
    hear(OUT, 6);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = ours[OUT], .events = POLLIN}, 1, 50), 0);
    tell("Ada\n");
    hear(OUT, 11);
    ck_assert_str_eq(said[OUT], "name? age? ");
    tell("36\n");
    ck_assert_int_eq(poll(&(struct pollfd){.fd = ours[OUT], .events = POLLIN}, 1, 50), 0);
    end_stdin();
    hear(OUT, 0);
    ck_assert_str_eq(said[OUT], "name? age? done");
    ck_assert_int_eq(exit_of_program(), 0);
}
END_TEST

START_TEST(other_answers_do_where_they_are_only_read)
{
    static const char *const answers[] = {"Grace Hopper\n85\n", "", "x"};
    ck_assert_int_eq(end_after(answers[_i], ARGV("read", "0", "-", ASKS)), 0);
    ck_assert_str_eq(said[OUT], "name? age? done");
}
END_TEST

START_TEST(other_answers_are_told_of_where_they_are_checked)
{
    static const char *const answers[] = {"Eve\n36\n", "Ada\n37\n", "Ada\n", "Ada\n36\n!", ""};
    ck_assert_int_eq(end_after(answers[_i], ARGV("check", "0", "-", ASKS)), 125);
    ck_assert_ptr_nonnull(strstr(said[ERR], "stdin is not as it was recorded"));
    ck_assert_ptr_null(strstr(said[OUT], "done"));
}
END_TEST

/* _i: whether the byte that differs is there. */
START_TEST(bytes_of_which_only_the_sum_is_kept_are_checked_by_it)
{
    static char bytes[100001];
    char text[256];
    for (size_t i = 0; i < sizeof(bytes) - 1; i++)
        bytes[i] = (char)('a' + i % 26);
    (void)snprintf(text, sizeof(text), FIRST "at 0 stdin 100000 crc32 %08" PRIx32 "\nat 1 exit 0\n",
                   nr_crc32(0, (unsigned char *)bytes, sizeof(bytes) - 1));
    bytes[70000] = _i == 0 ? bytes[70000] : '!';
    start(ARGV("check", "0", "-", text));
    tell(bytes);
    ck_assert_int_eq(exit_of_program(), _i == 0 ? 0 : 125);
}
END_TEST

START_TEST(the_sum_is_that_of_zlib_in_pieces_too)
{
    const unsigned char *digits = (const unsigned char *)"123456789";
    ck_assert_uint_eq(nr_crc32(0, digits, 9), 0xCBF43926U);
    ck_assert_uint_eq(nr_crc32(nr_crc32(0, digits, 4), digits + 4, 5), 0xCBF43926U);
    ck_assert_uint_eq(nr_crc32(0, digits, 0), 0);
}
END_TEST

START_TEST(stdin_that_is_ignored_is_not_read)
{
    char left[16];
    int reader = fcntl(theirs[IN], F_DUPFD_CLOEXEC, 0);
    ck_assert_sys(reader);
    start(ARGV("ignore", "0", "-", ASKS));
    tell("Ada\n36\n");
    hear(OUT, 0);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_str_eq(said[OUT], "name? age? done");
    ck_assert_int_eq(read(reader, left, sizeof(left)), 7);
    (void)nr_fd_close(reader);
}
END_TEST

START_TEST(a_stdin_that_is_none_has_ended)
{
    give_take(IN, -EBADF);
    start(ARGV("read", "0", "-", ASKS));
    hear(OUT, 0);
    ck_assert_int_eq(exit_of_program(), 0);
    ck_assert_str_eq(said[OUT], "name? age? done");
}
END_TEST

START_TEST(a_cassette_does_not_become_a_descriptor_that_is_closed)
{
    char *name = written_file(FIRST "at 0 stdin\n  \"x\"\nat 1 stdout\n  \"y\"\nat 2 exit 0\n");
    give_take(IN, -EBADF);
    start(ARGV("check", "0", name));
    hear(OUT, 0);
    ck_assert_int_eq(exit_of_program(), 125);
    ck_assert_ptr_nonnull(strstr(said[ERR], "ends behind byte 0"));
}
END_TEST

/* ---- ends ---------------------------------------------------------------------------------------- */

START_TEST(it_ends_by_the_recorded_signal)
{
    static const int numbers[] = {SIGHUP, SIGKILL, SIGSEGV, SIGABRT, SIGTERM, SIGPIPE};
    char text[128];
    sigset_t set;
    (void)snprintf(text, sizeof(text), FIRST "at 0 stdout\n  \"x\"\nat 1 signal %d (its name)\n",
                   numbers[_i]);
    /* As whoever starts it may have it. */
    (void)sigemptyset(&set);
    (void)sigaddset(&set, numbers[_i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int status = end_of(ARGV("read", "0", "-", text));
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    ck_assert_int_eq(status, -numbers[_i]);
    ck_assert_str_eq(said[OUT], "x");
}
END_TEST

static void start_staying(const char *end)
{
    char text[128];
    (void)snprintf(text, sizeof(text), FIRST "at 0 stdout\n  \"up\"\nat 1 stopped %s\n", end);
    start(ARGV("read", "0", "-", text));
    hear(OUT, 2);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = ours[OUT], .events = POLLIN}, 1, 50), 0);
}

START_TEST(one_that_was_stopped_stays_until_it_is)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGKILL};
    start_staying("signal 15 (sigterm)");
    ck_assert_sys(kill(program, numbers[_i]));
    ck_assert_int_eq(exit_of_program(), -numbers[_i]);
}
END_TEST

START_TEST(one_that_ended_itself_when_it_was_stopped_does_so)
{
    start_staying("exit 7");
    ck_assert_sys(kill(program, SIGTERM));
    ck_assert_int_eq(exit_of_program(), 7);
}
END_TEST

START_TEST(one_that_had_to_be_killed_has_to_be_again)
{
    start_staying("signal 9 (sigkill)");
    ck_assert_sys(kill(program, SIGTERM));
    ck_assert_int_eq(poll(&(struct pollfd){.fd = ours[OUT], .events = POLLIN}, 1, 50), 0);
    ck_assert_sys(kill(program, SIGKILL));
    ck_assert_int_eq(exit_of_program(), -SIGKILL);
}
END_TEST

/* ---- what is none -------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *said;
} wrongs[] = {
    {"", ":1: its first line is not"},
    {"GIF89a", ":1: its first line is not"},
    {"net_runner cassette 2\nat 0 exit 0\n", ":1: its first line is not"},
    {"net_runner cassette 1", ":1: its first line is not"},
    {FIRST, ":3: it has no end"},
    {FIRST "at 0 stdout\n  \"x\"\n", ":5: it has no end"},
    {FIRST "at 0 exit 0", ":3: the line has no end"},
    {FIRST "at 0 stdout\n  \"x\"\nat 1 stdup\n", ":5: no such event"},
    {FIRST "nonsense\n", ":3: no such line"},
    {FIRST "at stdout\n", ":3: no such time"},
    {FIRST "at 18446744073709551616 exit 0\n", ":3: no such time"},
    {FIRST "at -1 exit 0\n", ":3: no such time"},
    {FIRST "at 0 stdup\n", ":3: no such event"},
    {FIRST "at 0 stopped stdout\n", ":3: no such event"},
    {FIRST "at 0 stdin 5\n", ":3: no such event"},
    {FIRST "at 0 stdin 5 crc32 12\n", ":3: crc32 needs"},
    {FIRST "at 0 stdin 5 crc32 123456789\n", ":3: crc32 needs"},
    {FIRST "at 0 exit 256\n", ":3: no such exit"},
    {FIRST "at 0 exit\n", ":3: no such event"},
    {FIRST "at 0 signal 0\n", ":3: no such exit"},
    {FIRST "at 0 signal 65\n", ":3: no such exit"},
    {FIRST "at 0 signal 9 (a\n", ":3: something behind"},
    {FIRST "at 0 exit 0 x\n", ":3: something behind"},
    {FIRST "at 0 stdout\n  x\n", ":4: neither"},
    {FIRST "at 0 stdout\n  \"x\n", ":4: a text without"},
    {FIRST "at 0 stdout\n  \"x\" \n", ":4: something behind"},
    {FIRST "at 0 stdout\n  \"\\q\"\n", ":4: no such escape"},
    {FIRST "at 0 stdout\n  \"\\x4\"\n", ":4: no such escape"},
    {FIRST "at 0 stdout\n  \"\\", ":4: the line has no end"},
    {FIRST "at 0 stdout\n  \"\\\n", ":4: no such escape"},
    {FIRST "at 0 stdout\n  base64 \n", ":4: no base64"},
    {FIRST "at 0 stdout\n  base64 AQ=\n", ":4: no base64"},
    {FIRST "at 0 stdout\n  base64 A?==\n", ":4: no base64"},
    {FIRST "at 0 stdout\n  base64 ====\n", ":4: no base64"},
};

START_TEST(what_is_no_cassette_is_told_of_with_its_line)
{
    ck_assert_int_eq(end_of(ARGV("read", "0", "-", wrongs[_i].text)), 125);
    ck_assert_uint_eq(sizes[OUT], 0);
    if (strstr(said[ERR], wrongs[_i].said) == NULL)
        ck_abort_msg("%s: not %s", said[ERR], wrongs[_i].said);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_told_of)
{
    ck_assert_int_eq(end_of(ARGV("read", "0", "/nowhere/x.cassette")), 125);
    ck_assert_str_eq(said[ERR], "replay: /nowhere/x.cassette: No such file or directory\n");
}
END_TEST

START_TEST(without_arguments_it_says_who_starts_it)
{
    ck_assert_int_eq(end_of(ARGV("read")), 125);
    ck_assert_ptr_nonnull(strstr(said[ERR], "NetRunner.Test"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay");
    TCase *tcase = tcase_create("replay");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, a_file_is_played_to_both_outputs);
    tcase_add_test(tcase, a_text_may_come_in_pieces);
    tcase_add_test(tcase, where_both_are_one_pipe_the_order_is_kept);
    tcase_add_test(tcase, any_byte_comes_out_as_escape_or_base64);
    tcase_add_loop_test(tcase, who_reads_slowly_is_waited_for, 0, 2);
    tcase_add_test(tcase, without_a_reader_it_ends_by_sigpipe);
    tcase_add_test(tcase, at_the_recorded_speed_nothing_comes_too_early);
    tcase_add_test(tcase, half_the_speed_takes_twice_as_long);
    tcase_add_test(tcase, an_hour_is_not_waited_for_where_all_is_at_once);
    tcase_add_test(tcase, what_follows_stdin_is_as_late_behind_it);
    tcase_add_loop_test(tcase, an_answer_is_waited_for, 0, 2);
    tcase_add_loop_test(tcase, other_answers_do_where_they_are_only_read, 0, 3);
    tcase_add_loop_test(tcase, other_answers_are_told_of_where_they_are_checked, 0, 5);
    tcase_add_loop_test(tcase, bytes_of_which_only_the_sum_is_kept_are_checked_by_it, 0, 2);
    tcase_add_test(tcase, the_sum_is_that_of_zlib_in_pieces_too);
    tcase_add_test(tcase, stdin_that_is_ignored_is_not_read);
    tcase_add_test(tcase, a_stdin_that_is_none_has_ended);
    tcase_add_test(tcase, a_cassette_does_not_become_a_descriptor_that_is_closed);
    tcase_add_loop_test(tcase, it_ends_by_the_recorded_signal, 0, 6);
    tcase_add_loop_test(tcase, one_that_was_stopped_stays_until_it_is, 0, 3);
    tcase_add_test(tcase, one_that_ended_itself_when_it_was_stopped_does_so);
    tcase_add_test(tcase, one_that_had_to_be_killed_has_to_be_again);
    tcase_add_loop_test(tcase, what_is_no_cassette_is_told_of_with_its_line, 0,
                        (int)(sizeof(wrongs) / sizeof(wrongs[0])));
    tcase_add_test(tcase, a_file_that_is_not_there_is_told_of);
    tcase_add_test(tcase, without_arguments_it_says_who_starts_it);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
