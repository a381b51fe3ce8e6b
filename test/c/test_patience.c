/* When an empty pipe is looked at again: by a clock of the test's own. */
#include "check_support.h"

#include "patience.h"

#include <limits.h>

#define QUICK   40U /* microseconds that a fast program takes, a wait included */
#define SLOW    5000U
#define LOOKS   12U /* patience.c */
#define PENANCE 32U

static struct nr_patience patience;
static uint64_t now;

static void setup(void)
{
    patience = (struct nr_patience){0};
    now = 1000000;
}

/* An empty pipe whose answer comes after `us`, looks taking none of that. How often it was looked at; UINT_MAX: and found,
 * without a wait. */
static unsigned empty_until(uint64_t us, unsigned found_at)
{
    unsigned looks = 0;
    while (looks < found_at && nr_patience_look_again(&patience, now))
        looks++;
    bool waited = patience.waiting;
    now += us;
    nr_patience_answered(&patience, now);
    return waited ? looks : UINT_MAX;
}

START_TEST(the_first_answer_is_waited_for)
{
    ck_assert_uint_eq(empty_until(QUICK, UINT_MAX), 0);
}
END_TEST

START_TEST(who_answered_fast_is_looked_at_again)
{
    (void)empty_until(QUICK, UINT_MAX);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(2, 3), UINT_MAX);
}
END_TEST

START_TEST(who_is_slow_never_is)
{
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(empty_until(SLOW, UINT_MAX), 0);
}
END_TEST

START_TEST(looks_in_vain_are_few_and_not_repeated_for_a_while)
{
    unsigned looks = 0;
    unsigned waits = 0;
    (void)empty_until(QUICK, UINT_MAX);
    for (unsigned i = 0; i < 10 * (PENANCE + 1); i++, waits++)
        looks += empty_until(SLOW, UINT_MAX);
    ck_assert_uint_eq(looks, LOOKS); /* slow ones do not earn it again */

    /* Fast ones, but never fast enough for the looks: at most LOOKS in PENANCE + 1 waits. */
    looks = 0;
    for (unsigned i = 0; i < 10 * (PENANCE + 1); i++)
        looks += empty_until(QUICK, UINT_MAX);
    ck_assert_uint_le(looks, 10 * LOOKS);
    ck_assert_uint_ge(looks, 9 * LOOKS);
}
END_TEST

START_TEST(bytes_that_were_there_say_nothing_about_waits)
{
    (void)empty_until(QUICK, UINT_MAX);
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
    tcase_add_test(tests, bytes_that_were_there_say_nothing_about_waits);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
