/* When a scheduler leaves the processor that it shares with another: on processors and by a clock of the test's own. */
#include "check_support.h"

#include "base/error.h"
#include "spread.h"
#include "spread_os.h"

#include <string.h>

#define LATELY 50000U /* microseconds; spread.c */
#define REST   1000U

static struct nr_spread a, b, c;
static uint64_t now;

/* The system: where the caller is, where it may be, and what it answers. */
static int here;
static bool allowed[NR_PROCESSORS];
static int refusal;
static unsigned tries;

int nr_os_processor(void)
{
    return here;
}

/* What others do while it is on its way. */
static void (*meanwhile)(void);

int nr_os_move(int from, bool (*take)(unsigned processor, void *context), void *context)
{
    tries++;
    if (refusal != 0)
        return refusal;
    for (int i = 1; i < NR_PROCESSORS; i++) {
        int to = (from + i) % NR_PROCESSORS;
        if (!allowed[to] || !take((unsigned)to, context))
            continue;
        void (*others)(void) = meanwhile;
        meanwhile = NULL;
        if (others != NULL)
            others();
        return here = to;
    }
    return -ESRCH;
}

static void setup(void)
{
    static uint64_t later;
    now = later += 1000000000;
    a = b = c = (struct nr_spread){0};
    memset(allowed, 0, sizeof(allowed));
    allowed[0] = allowed[1] = true;
    refusal = 0;
    tries = 0;
    meanwhile = NULL;
}

/* It comes by, on that processor. Where it is afterwards. */
static int look(struct nr_spread *spread, int processor)
{
    now += 100;
    here = processor;
    nr_spread_look(spread, now);
    return here;
}

START_TEST(who_shares_a_processor_goes_to_the_free_one)
{
    unsigned long before = nr_spread_moves();
    ck_assert_int_eq(look(&a, 0), 0);
    ck_assert_int_eq(look(&b, 0), 0);
    ck_assert_int_eq(look(&a, 0), 1);
    ck_assert_uint_eq(nr_spread_moves(), before + 1);
}
END_TEST

/* Else both would go, and share the other one. */
START_TEST(the_other_one_stays)
{
    look(&a, 0);
    look(&b, 0);
    look(&a, 0);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(look(&b, 0), 0);
        ck_assert_int_eq(look(&a, 1), 1);
    }
    ck_assert_uint_eq(tries, 1);
}
END_TEST

static void b_looks(void)
{
    ck_assert_int_eq(look(&b, 0), 0);
}

/* The kernel lets it run as soon as the one that it shared with is on its way. */
START_TEST(the_other_one_stays_also_while_the_first_goes)
{
    look(&a, 0);
    look(&b, 0);
    meanwhile = b_looks;
    ck_assert_int_eq(look(&a, 0), 1);
    ck_assert_uint_eq(tries, 1);
}
END_TEST

static void b_and_c_look(void)
{
    ck_assert_int_eq(look(&b, 0), 0);
    ck_assert_int_eq(look(&c, 0), 2);
}

START_TEST(nobody_goes_where_another_is_going)
{
    allowed[2] = true;
    look(&a, 0);
    look(&b, 0);
    look(&c, 0);
    meanwhile = b_and_c_look;
    ck_assert_int_eq(look(&a, 0), 1);
    ck_assert_uint_eq(tries, 2);
}
END_TEST

/* Another may have looked at the clock later, and come by sooner. */
START_TEST(nobody_goes_where_another_came_in_this_moment)
{
    look(&a, 0);
    look(&b, 0);
    here = 1;
    nr_spread_look(&c, now + 200);
    ck_assert_int_eq(look(&a, 0), 0);
    ck_assert_uint_eq(tries, 1);
}
END_TEST

START_TEST(what_another_has_left_is_free)
{
    look(&b, 1);
    look(&a, 0);
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 1);
}
END_TEST

START_TEST(who_is_alone_stays)
{
    for (int i = 0; i < 1000; i++)
        look(&a, 0);
    ck_assert_uint_eq(tries, 0);
}
END_TEST

START_TEST(who_have_one_each_stay)
{
    for (int i = 0; i < 1000; i++) {
        look(&a, 0);
        look(&b, 1);
    }
    ck_assert_uint_eq(tries, 0);
}
END_TEST

/* The kernel moves threads, too: one that comes where another was has not shared with it. */
START_TEST(who_follows_another_stays)
{
    look(&a, 0);
    for (int i = 0; i < 1000; i++) {
        look(&a, 1 - i % 2);
        look(&b, i % 2);
    }
    ck_assert_uint_eq(tries, 0);
}
END_TEST

/* One slept, and the other was where it had been. */
START_TEST(who_comes_back_after_long_stays)
{
    look(&a, 0);
    now += LATELY;
    look(&b, 0);
    look(&a, 0);
    ck_assert_uint_eq(tries, 0);
}
END_TEST

/* Other programs want the processor, too. */
START_TEST(who_waited_for_the_processor_does_not)
{
    look(&a, 0);
    now += LATELY / 2;
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 1);
}
END_TEST

/* More schedulers than processors: they have to share. */
START_TEST(nobody_goes_where_another_is)
{
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(look(&a, 0), 0);
        ck_assert_int_eq(look(&b, 0), 0);
        ck_assert_int_eq(look(&c, 1), 1);
    }
    ck_assert_uint_gt(tries, 0);
}
END_TEST

START_TEST(a_processor_that_nobody_was_seen_on_lately_is_free)
{
    look(&c, 1);
    now += LATELY - 300;
    look(&a, 0);
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 1);
}
END_TEST

START_TEST(one_that_somebody_was_just_seen_on_is_not)
{
    look(&a, 0);
    look(&c, 1);
    now += LATELY - 400;
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 0);
    ck_assert_uint_eq(tries, 1);
}
END_TEST

/* The third one that shares is not sent after the first. */
START_TEST(each_goes_to_another_one)
{
    allowed[2] = true;
    look(&a, 0);
    look(&b, 0);
    look(&c, 0);
    ck_assert_int_eq(look(&a, 0), 1);
    look(&c, 0);
    ck_assert_int_eq(look(&b, 0), 2);
    ck_assert_int_eq(look(&c, 0), 0);
    ck_assert_int_eq(look(&a, 1), 1);
    ck_assert_uint_eq(tries, 2);
}
END_TEST

/* The kernel puts it back each time: once in REST, whatever happens. */
START_TEST(nobody_moves_all_the_time)
{
    uint64_t begin = now;
    while (now < begin + 100 * REST) {
        look(&a, 0);
        look(&b, 0);
    }
    ck_assert_uint_gt(tries, 10);
    ck_assert_uint_le(tries, 2 * 101);
}
END_TEST

/* Bound to one, or in a container that has one. */
START_TEST(who_may_go_nowhere_stays_and_asks_again)
{
    allowed[1] = false;
    look(&a, 0);
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 0);
    allowed[1] = true;
    now += REST;
    ck_assert_int_eq(look(&b, 0), 1);
}
END_TEST

/* A seccomp filter: the system is not asked again. */
START_TEST(who_is_refused_does_not_ask_again)
{
    refusal = -EPERM;
    for (int i = 0; i < 1000; i++) {
        look(&a, 0);
        look(&b, 0);
    }
    ck_assert_uint_eq(tries, 2);
    ck_assert(a.refused && b.refused);
}
END_TEST

START_TEST(where_nobody_knows_processors_nothing_happens)
{
    for (int i = 0; i < 10; i++) {
        look(&a, -ENOSYS);
        look(&b, -ENOSYS);
    }
    ck_assert_uint_eq(tries, 0);
}
END_TEST

START_TEST(a_processor_beyond_the_table_is_left_alone)
{
    for (int i = 0; i < 10; i++) {
        look(&a, NR_PROCESSORS);
        look(&b, NR_PROCESSORS);
    }
    ck_assert_uint_eq(tries, 0);
}
END_TEST

/* ERTS's monotonic time begins below zero. */
START_TEST(a_clock_below_zero_is_one_too)
{
    now = (uint64_t)-100000;
    look(&a, 0);
    look(&b, 0);
    ck_assert_int_eq(look(&a, 0), 1);
    ck_assert_int_eq(look(&b, 0), 0);
    ck_assert_int_eq(look(&a, 1), 1);
    ck_assert_uint_eq(tries, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spread");
    TCase *tests = tcase_create("spread");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, who_shares_a_processor_goes_to_the_free_one);
    tcase_add_test(tests, the_other_one_stays);
    tcase_add_test(tests, the_other_one_stays_also_while_the_first_goes);
    tcase_add_test(tests, nobody_goes_where_another_is_going);
    tcase_add_test(tests, nobody_goes_where_another_came_in_this_moment);
    tcase_add_test(tests, what_another_has_left_is_free);
    tcase_add_test(tests, who_is_alone_stays);
    tcase_add_test(tests, who_have_one_each_stay);
    tcase_add_test(tests, who_follows_another_stays);
    tcase_add_test(tests, who_comes_back_after_long_stays);
    tcase_add_test(tests, who_waited_for_the_processor_does_not);
    tcase_add_test(tests, nobody_goes_where_another_is);
    tcase_add_test(tests, a_processor_that_nobody_was_seen_on_lately_is_free);
    tcase_add_test(tests, one_that_somebody_was_just_seen_on_is_not);
    tcase_add_test(tests, each_goes_to_another_one);
    tcase_add_test(tests, nobody_moves_all_the_time);
    tcase_add_test(tests, who_may_go_nowhere_stays_and_asks_again);
    tcase_add_test(tests, who_is_refused_does_not_ask_again);
    tcase_add_test(tests, where_nobody_knows_processors_nothing_happens);
    tcase_add_test(tests, a_processor_beyond_the_table_is_left_alone);
    tcase_add_test(tests, a_clock_below_zero_is_one_too);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
