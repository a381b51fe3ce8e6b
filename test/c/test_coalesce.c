/* When a stream's pieces are let come together: by a clock of the test's own. */
#include "check_support.h"

#include "coalesce.h"

#define PIECE             4096U
#define WINDOW            8000U /* microseconds; coalesce.c */
#define PAUSE             2000U /* at first */
#define SECOND            1000000U
#define SILENT_MAX        4U
#define DOUBTS_MAY_ANSWER 3U
#define MIB               (1U << 20)

static struct nr_coalesce coalesce;
static uint64_t now;
static uint64_t written; /* when the program last wrote a piece */

static void setup(void)
{
    coalesce = (struct nr_coalesce){0};
    now = written = 1000000;
}

/* How a program writes: a piece every `every` microseconds, no further ahead of its reader than `most` bytes; into a pipe of `capacity`. */
struct program {
    unsigned every;
    unsigned most;
    unsigned capacity;
};

/* One round: the pipe is empty; its reader waits for the next piece, or pauses, and reads all there is. True: it paused. */
static bool read_on(struct program program)
{
    (void)nr_coalesce_empty(&coalesce, now, program.capacity);
    while (program.capacity < nr_coalesce_room(&coalesce))
        nr_coalesce_shorten(&coalesce, now);
    unsigned pause = coalesce.pause;
    if (pause > 0)
        now += pause * 1000;
    else if (now < written + program.every)
        now = written + program.every;
    unsigned bytes = 0;
    while (written + program.every <= now && bytes + PIECE <= program.most) {
        written += program.every;
        bytes += PIECE;
    }
    /* Who had to wait for its reader goes on from here. */
    if (written + program.every <= now)
        written = now;
    if (bytes > 0)
        nr_coalesce_read(&coalesce, bytes);
    return pause > 0;
}

/* For so long. How many times the reader paused. */
static unsigned read_for(uint64_t us, struct program program)
{
    unsigned pauses = 0;
    uint64_t end = now + us;
    while (now < end)
        pauses += read_on(program);
    return pauses;
}

/* jq, awk, sed: all the same whether somebody reads. */
static const struct program stdio = {.every = 50, .most = MIB, .capacity = MIB};
/* One that is asked: after each piece it waits. */
static const struct program answers = {.every = 20, .most = PIECE, .capacity = MIB};

START_TEST(a_fast_stream_is_read_by_the_millisecond)
{
    unsigned pauses = read_for(SECOND, stdio);
    ck_assert_uint_ge(pauses, SECOND / PAUSE * 9 / 10);
    ck_assert_uint_le(pauses, SECOND / PAUSE);
}
END_TEST

START_TEST(not_before_it_was_looked_at)
{
    ck_assert_uint_eq(read_for(WINDOW - 100, stdio), 0);
}
END_TEST

START_TEST(a_slow_stream_is_waited_for)
{
    const struct program log = {.every = 400, .most = MIB, .capacity = MIB};
    ck_assert_uint_eq(read_for(10 * SECOND, log), 0);
}
END_TEST

START_TEST(who_pauses_is_waited_for)
{
    (void)read_for(SECOND, stdio);
    ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
    for (unsigned i = 1; i < SILENT_MAX; i++) {
        now += PAUSE;
        ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2); /* nothing came */
    }
    now += PAUSE;
    ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 0);
    /* And is no worse for it when it goes on. */
    ck_assert_uint_eq(coalesce.penance, 0);
    now = written += SECOND;
    ck_assert_uint_ge(read_for(SECOND, stdio), SECOND / PAUSE * 9 / 10);
}
END_TEST

START_TEST(who_lost_its_processor_for_a_while_is_not)
{
    (void)read_for(SECOND, stdio);
    for (unsigned i = 0; i < 1000; i++) {
        now += PAUSE;
        ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
        nr_coalesce_read(&coalesce, PIECE);
        now += 100;
        ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
    }
}
END_TEST

START_TEST(who_thinks_before_it_answers_is_tried_ever_less_often)
{
    nr_coalesce_may_answer(&coalesce);
    (void)read_for(SECOND, stdio);
    ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
    for (unsigned i = 0; i < 5; i++) {
        coalesce.pause = 2;
        now += PAUSE;
        (void)nr_coalesce_empty(&coalesce, now, MIB);
        ck_assert_uint_eq(coalesce.pause, 0);
        ck_assert_uint_eq(coalesce.penance, 1U << (DOUBTS_MAY_ANSWER + 1 + i));
    }
}
END_TEST

/* Its reader has another pipe, of which it is told meanwhile. */
START_TEST(a_pause_that_is_interrupted_goes_on)
{
    (void)read_for(SECOND, stdio);
    ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
    for (uint64_t end = now + PAUSE / 4; now < end; now++) {
        ck_assert(nr_coalesce_pauses(&coalesce, now));
        ck_assert_uint_eq(nr_coalesce_empty(&coalesce, now, MIB), 2);
    }
    ck_assert(!nr_coalesce_pauses(&coalesce, now + PAUSE / 2));
}
END_TEST

START_TEST(who_answers_is_tried_ever_less_often)
{
    unsigned first = read_for(SECOND, answers);
    ck_assert_uint_ge(first, 1);
    ck_assert_uint_le(first, 8);
    (void)read_for(20 * SECOND, answers);
    ck_assert_uint_le(read_for(10 * SECOND, answers), 2);
}
END_TEST

START_TEST(who_has_a_stdin_is_not_tried_soon)
{
    nr_coalesce_may_answer(&coalesce);
    ck_assert_uint_eq(read_for(8 * WINDOW, answers), 0);
    ck_assert_uint_le(read_for(SECOND, answers), 4);
}
END_TEST

START_TEST(a_filter_is_tried_in_the_end)
{
    nr_coalesce_may_answer(&coalesce);
    (void)read_for(10 * WINDOW, stdio);
    ck_assert_uint_ge(read_for(SECOND, stdio), SECOND / PAUSE * 9 / 10);
}
END_TEST

/* 256 KiB, and it waits to be asked for more: it would stand still for half of the time. */
START_TEST(who_answers_much_is_given_up)
{
    const struct program batches = {.every = 8, .most = 1 << 18, .capacity = MIB};
    (void)read_for(SECOND, batches);
    ck_assert_uint_le(read_for(SECOND, batches), 30);
}
END_TEST

START_TEST(its_room_is_what_comes_in_a_pause)
{
    (void)read_for(SECOND, stdio);
    uint64_t comes = PIECE * PAUSE / stdio.every;
    ck_assert_uint_ge(nr_coalesce_room(&coalesce), comes);
    ck_assert_uint_le(nr_coalesce_room(&coalesce), comes * 5 / 4);
}
END_TEST

START_TEST(what_comes_in_a_pause_is_too_much_for_its_pipe)
{
    const struct program fast = {.every = 5, .most = MIB, .capacity = MIB};
    unsigned pauses = read_for(SECOND, fast);
    ck_assert_uint_eq(coalesce.pause, 1);
    ck_assert_uint_ge(pauses, SECOND / 1000 * 9 / 10);
    const struct program faster = {.every = 4, .most = MIB, .capacity = MIB};
    setup();
    ck_assert_uint_eq(read_for(SECOND, faster), 0);
}
END_TEST

START_TEST(without_room_it_is_not_tried_again_soon)
{
    (void)read_for(2 * WINDOW, stdio);
    ck_assert(coalesce.pause > 0);
    nr_coalesce_shorten(&coalesce, now);
    ck_assert_uint_eq(coalesce.pause, 1);
    nr_coalesce_shorten(&coalesce, now);
    ck_assert_uint_eq(coalesce.pause, 0);
    ck_assert_uint_eq(read_for(2 * WINDOW, stdio), 0);
}
END_TEST

/* It is seen again what comes without, once in a second: for the whole of a window it is waited for. */
START_TEST(it_is_turned_off_now_and_then)
{
    unsigned offs = 0;
    (void)read_for(SECOND, stdio);
    bool was_on = coalesce.pause > 0;
    for (uint64_t end = now + 10 * SECOND; now<end; was_on = coalesce.pause> 0) {
        (void)read_on(stdio);
        offs += was_on && coalesce.pause == 0;
    }
    ck_assert_uint_ge(offs, 8);
    ck_assert_uint_le(offs, 11);
}
END_TEST

/* It read files into memory first, or was waited for piece by piece: what it gave then says little. The pipe holds what comes in a pause at
 * half of its speed. */
START_TEST(a_program_that_a_full_pipe_holds_up_is_looked_at_soon)
{
    const struct program slowly = {.every = 20, .most = 1 << 19, .capacity = 1 << 19};
    const struct program fast = {.every = 5, .most = 1 << 19, .capacity = 1 << 19};
    (void)read_for(2 * WINDOW, slowly);
    ck_assert(coalesce.pause > 0);
    (void)read_for(6 * WINDOW, fast);
    ck_assert_uint_eq(coalesce.pause, 0);
}
END_TEST

/* Where as much comes as without, though the pipe is full each time: ever less often. */
START_TEST(a_full_pipe_that_costs_nothing_is_let_be)
{
    const struct program bursts = {.every = 5, .most = 1 << 18, .capacity = 1 << 18};
    unsigned offs = 0;
    coalesce = (struct nr_coalesce){.pause = 2, .since = now, .rate = 100000};
    for (unsigned i = 0; i < 10 * SECOND / PAUSE; i++) {
        bool was_on = coalesce.pause > 0;
        (void)read_on(bursts);
        if (was_on && coalesce.pause == 0) {
            offs++;
            coalesce.pause = 2;
            coalesce.windows = 0;
        }
    }
    ck_assert_uint_ge(offs, 10);
    ck_assert_uint_le(offs, 16);
}
END_TEST

/* Its program was kept from its processor for a while. */
START_TEST(a_doubt_is_forgotten_where_it_went_well)
{
    (void)read_for(SECOND, stdio);
    for (unsigned i = 0; i < 20; i++) {
        nr_coalesce_shorten(&coalesce, now);
        nr_coalesce_shorten(&coalesce, now);
        ck_assert_uint_eq(coalesce.penance, 2);
        (void)read_for(SECOND, stdio);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coalesce");
    TCase *tests = tcase_create("coalesce");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, a_fast_stream_is_read_by_the_millisecond);
    tcase_add_test(tests, not_before_it_was_looked_at);
    tcase_add_test(tests, a_slow_stream_is_waited_for);
    tcase_add_test(tests, who_pauses_is_waited_for);
    tcase_add_test(tests, who_lost_its_processor_for_a_while_is_not);
    tcase_add_test(tests, who_thinks_before_it_answers_is_tried_ever_less_often);
    tcase_add_test(tests, a_pause_that_is_interrupted_goes_on);
    tcase_add_test(tests, who_answers_is_tried_ever_less_often);
    tcase_add_test(tests, who_has_a_stdin_is_not_tried_soon);
    tcase_add_test(tests, a_filter_is_tried_in_the_end);
    tcase_add_test(tests, who_answers_much_is_given_up);
    tcase_add_test(tests, its_room_is_what_comes_in_a_pause);
    tcase_add_test(tests, what_comes_in_a_pause_is_too_much_for_its_pipe);
    tcase_add_test(tests, without_room_it_is_not_tried_again_soon);
    tcase_add_test(tests, it_is_turned_off_now_and_then);
    tcase_add_test(tests, a_program_that_a_full_pipe_holds_up_is_looked_at_soon);
    tcase_add_test(tests, a_full_pipe_that_costs_nothing_is_let_be);
    tcase_add_test(tests, a_doubt_is_forgotten_where_it_went_well);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
