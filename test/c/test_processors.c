/* How a thread is moved to another processor: the kernel's part of spread.c (spread_os_linux.c). */
#include "check_support.h"

#include "refuse.h"
#include "spread_os.h"

#include <sched.h>

static cpu_set_t before;
static int from;
static int asked;

static void setup(void)
{
    ck_assert_sys(sched_getaffinity(0, sizeof(before), &before));
}

/* `context`: counts how often it was asked. */
static bool takes_any(unsigned processor, void *context)
{
    (void)processor;
    ++*(int *)context;
    return true;
}

static bool takes_none(unsigned processor, void *context)
{
    (void)processor;
    ++*(int *)context;
    return false;
}

/* It runs on one processor from now on, `from`. */
static cpu_set_t stay_here(void)
{
    cpu_set_t here;
    from = nr_os_processor();
    ck_assert_int_ge(from, 0);
    CPU_ZERO(&here);
    CPU_SET((unsigned)from, &here);
    ck_assert_sys(sched_setaffinity(0, sizeof(here), &here));
    return here;
}

/* Affinity is a thread's own: the test's is one of many, as a scheduler is. */
static void assert_affinity(const cpu_set_t *expected)
{
    cpu_set_t mask;
    ck_assert_sys(sched_getaffinity(0, sizeof(mask), &mask));
    ck_assert(CPU_EQUAL(&mask, expected));
}

START_TEST(a_thread_moves_to_another_processor)
{
    if (CPU_COUNT(&before) < 2)
        skip("there is one processor only");
    for (int i = 0; i < 100; i++) {
        (void)stay_here();
        ck_assert_sys(sched_setaffinity(0, sizeof(before), &before));
        int to = nr_os_move(from, takes_any, &asked);
        ck_assert_int_ge(to, 0);
        ck_assert_int_ne(to, from);
        ck_assert(CPU_ISSET((unsigned)to, &before));
        assert_affinity(&before);
    }
}
END_TEST

/* taskset(1), +sbt: they said so for a reason. */
START_TEST(a_thread_that_is_bound_stays_where_it_is)
{
    cpu_set_t here = stay_here();
    ck_assert_int_eq(nr_os_move(from, takes_any, &asked), -ESRCH);
    assert_affinity(&here);
}
END_TEST

/* And where it is asked for all processors afterwards, it does not get them: it is moved to where it may be. */
START_TEST(what_a_thread_was_forbidden_stays_forbidden)
{
    cpu_set_t here = stay_here();
    ck_assert_int_eq(nr_os_move((from + 1) % NR_PROCESSORS, takes_any, &asked), from);
    assert_affinity(&here);
}
END_TEST

START_TEST(where_none_is_free_a_thread_stays)
{
    ck_assert_int_eq(nr_os_move(nr_os_processor(), takes_none, &asked), -ESRCH);
    ck_assert_int_eq(asked, CPU_COUNT(&before) - 1);
    assert_affinity(&before);
}
END_TEST

/* The process is the test's own, and so is its filter. */
static void refuse_call(unsigned number, const char *error)
{
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", error, 1));
    refuse(&number, 1);
}

START_TEST(a_thread_that_must_not_be_moved_is_told_so)
{
    refuse_call(SYS_sched_setaffinity, "1");
    ck_assert_int_eq(nr_os_move((nr_os_processor() + 1) % NR_PROCESSORS, takes_any, &asked),
                     -EPERM);
}
END_TEST

/* sched_getaffinity(2) says so where there are more than a cpu_set_t holds. */
START_TEST(with_too_many_processors_nobody_is_moved)
{
    refuse_call(SYS_sched_getaffinity, "22");
    ck_assert_int_eq(nr_os_move(nr_os_processor(), takes_any, &asked), -ENOSYS);
    ck_assert_int_eq(asked, 0);
}
END_TEST

START_TEST(where_affinity_is_not_told_nobody_is_moved)
{
    refuse_call(SYS_sched_getaffinity, "1");
    ck_assert_int_eq(nr_os_move(nr_os_processor(), takes_any, &asked), -EPERM);
    ck_assert_int_eq(asked, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("processors");
    TCase *tests = tcase_create("processors");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, a_thread_moves_to_another_processor);
    tcase_add_test(tests, a_thread_that_is_bound_stays_where_it_is);
    tcase_add_test(tests, what_a_thread_was_forbidden_stays_forbidden);
    tcase_add_test(tests, where_none_is_free_a_thread_stays);
    tcase_add_test(tests, a_thread_that_must_not_be_moved_is_told_so);
    tcase_add_test(tests, with_too_many_processors_nobody_is_moved);
    tcase_add_test(tests, where_affinity_is_not_told_nobody_is_moved);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
