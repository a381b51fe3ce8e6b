/* When an empty pipe is looked at again: by a clock of the test's own. */
#include "check_support.h"

#include "patience.h"

#include <limits.h>

#define QUICK                                                                                      \
    60U /* microseconds that a fast program takes, a wait included, and longer than it is looked at */
#define SLOW    5000U
#define LOOKS   50U /* microseconds; patience.c */
#define ALONE   10U
#define PENANCE 32U

static struct nr_patience patience;
static uint64_t now;

static void setup(void)
{
    patience = (struct nr_patience){0};
    now = 1000000;
}

/* An empty pipe whose answer comes after `us`, looked at every `step` microseconds until it is waited for. How long it was looked at;
 * UINT_MAX: and found, without a wait. */
static unsigned empty_until(uint64_t us, unsigned step)
{
    uint64_t begin = now;
    uint64_t end = now + us;
    while (nr_patience_look_again(&patience, now)) {
        now += step;
        if (now >= end) {
            nr_patience_answered(&patience, now);
            return UINT_MAX;
        }
    }
    unsigned looked = (unsigned)(now - begin);
    now = now < end ? end : now;
    nr_patience_answered(&patience, now);
    return looked;
}

START_TEST(the_first_answer_is_waited_for)
{
    ck_assert_uint_eq(empty_until(QUICK, 1), 0);
}
END_TEST

START_TEST(who_answered_fast_is_looked_at_again)
{
    (void)empty_until(QUICK, 1);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(LOOKS - 2, 1), UINT_MAX);
}
END_TEST

START_TEST(who_is_slow_never_is)
{
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(SLOW, 1), 0);
}
END_TEST

START_TEST(looks_in_vain_are_few_and_not_repeated_for_a_while)
{
    unsigned looked = 0;
    (void)empty_until(QUICK, 1);
    for (unsigned i = 0; i < 10 * (PENANCE + 1); i++)
        looked += empty_until(SLOW, 1);
    ck_assert_uint_eq(looked, LOOKS); /* slow ones do not earn it again */

    /* Fast ones, but never fast enough for the looks: at most LOOKS in PENANCE + 1 waits. */
    looked = 0;
    for (unsigned i = 0; i < 10 * (PENANCE + 1); i++)
        looked += empty_until(QUICK, 1);
    ck_assert_uint_le(looked, 10 * LOOKS);
    ck_assert_uint_ge(looked, 9 * LOOKS);
}
END_TEST

START_TEST(where_others_have_their_turn_it_is_waited_for)
{
    (void)empty_until(QUICK, 1);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(QUICK, ALONE), ALONE);
    /* That is no fault of the program's, whose answers come late for the same reason. */
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(SLOW, ALONE), ALONE);
    ck_assert_uint_eq(empty_until(LOOKS - 2, 1), UINT_MAX);
}
END_TEST

START_TEST(bytes_that_were_there_say_nothing_about_waits)
{
    (void)empty_until(QUICK, 1);
    now += SLOW;
    nr_patience_answered(&patience, now); /* not waited for */
    ck_assert(nr_patience_look_again(&patience, now));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("patience");
    TCase *tests = tcase_create("patience");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, the_first_answer_is_waited_for);
    tcase_add_test(tests, who_answered_fast_is_looked_at_again);
    tcase_add_test(tests, who_is_slow_never_is);
    tcase_add_test(tests, looks_in_vain_are_few_and_not_repeated_for_a_while);
    tcase_add_test(tests, where_others_have_their_turn_it_is_waited_for);
    tcase_add_test(tests, bytes_that_were_there_say_nothing_about_waits);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
