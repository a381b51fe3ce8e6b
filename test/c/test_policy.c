/*
 * The policy, cell by cell: the transitions wanted are written down a second time here, and every
 * cell that is not among them must change nothing. Then properties that hold for the table as a whole.
 */
#include "check_support.h"

#include "policy.h"

#include <stdbool.h>

static const struct {
    enum nr_policy_state state;
    enum nr_policy_event event;
    enum nr_policy_state next;
    enum nr_policy_step step;
} wanted[] = {
#define T(state, event, next, step)                                                                \
    {                                                                                              \
        NR_STATE_##state, NR_EVENT_##event, NR_STATE_##next, NR_STEP_##step                        \
    }
    T(STARTING, EXECED, RUNNING, REPORT_STARTED),
    T(STARTING, EXEC_FAILED, GONE, REPORT_FAILED),
    T(STARTING, STOP, KILLING, BEGIN_KILL),
    T(STARTING, HANGUP, KILLING, BEGIN_KILL),
    T(STARTING, BEAM_GONE, KILLING, BEGIN_KILL),
    T(RUNNING, LEADER_LEFT, DRAINING, BEGIN_DRAIN),
    T(RUNNING, LEADER_KEPT, KEEPING, BEGIN_KEEP),
    T(RUNNING, FAMILY_GONE, GONE, FINISH),
    T(RUNNING, STOP, STOPPING, BEGIN_STOP),
    T(RUNNING, HANGUP, STOPPING, BEGIN_STOP),
    T(RUNNING, BEAM_GONE, STOPPING, BEGIN_STOP),
    T(DRAINING, FAMILY_GONE, GONE, FINISH),
    T(DRAINING, DEADLINE, KILLING, BEGIN_KILL),
    T(DRAINING, STOP, KILLING, BEGIN_KILL),
    T(DRAINING, HANGUP, KILLING, BEGIN_KILL),
    T(DRAINING, BEAM_GONE, KILLING, BEGIN_KILL),
    T(STOPPING, LEADER_LEFT, KILLING, BEGIN_KILL),
    T(STOPPING, LEADER_KEPT, KILLING, BEGIN_KILL),
    T(STOPPING, FAMILY_GONE, GONE, FINISH),
    T(STOPPING, DEADLINE, KILLING, BEGIN_KILL),
    T(STOPPING, STOP, STOPPING, HASTEN),
    T(STOPPING, HANGUP, STOPPING, HASTEN),
    T(STOPPING, BEAM_GONE, STOPPING, HASTEN),
    T(KILLING, FAMILY_GONE, GONE, FINISH),
    T(KILLING, DEADLINE, REAPING, REPORT_SURVIVORS),
    T(REAPING, FAMILY_GONE, GONE, FINISH),
    T(REAPING, HANGUP, GONE, LEAVE),
    T(REAPING, BEAM_GONE, GONE, LEAVE),
    T(KEEPING, FAMILY_GONE, GONE, FINISH),
    T(KEEPING, STOP, STOPPING, BEGIN_STOP),
    T(KEEPING, BEAM_GONE, STOPPING, BEGIN_STOP),
#undef T
};

START_TEST(each_cell_is_as_wanted_and_no_other_does_anything)
{
    for (int state = 0; state < NR_STATE_COUNT; state++) {
        for (int event = 0; event < NR_EVENT_COUNT; event++) {
            struct nr_policy_cell want = {(enum nr_policy_state)state, NR_STEP_STAY};
            for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
                if ((int)wanted[i].state == state && (int)wanted[i].event == event)
                    want = (struct nr_policy_cell){wanted[i].next, wanted[i].step};
            struct nr_policy_cell got =
                nr_policy((enum nr_policy_state)state, (enum nr_policy_event)event);
            ck_assert_msg(got.next == want.next && got.step == want.step,
                          "%s x %s: %s %s, wanted %s %s",
                          nr_policy_state_name((enum nr_policy_state)state),
                          nr_policy_event_name((enum nr_policy_event)event),
                          nr_policy_state_name(got.next), nr_policy_step_name(got.step),
                          nr_policy_state_name(want.next), nr_policy_step_name(want.step));
        }
    }
}
END_TEST

START_TEST(gone_is_final)
{
    for (int event = 0; event < NR_EVENT_COUNT; event++) {
        struct nr_policy_cell cell = nr_policy(NR_STATE_GONE, (enum nr_policy_event)event);
        ck_assert_int_eq(cell.next, NR_STATE_GONE);
        ck_assert_int_eq(cell.step, NR_STEP_STAY);
    }
}
END_TEST

/* Nothing ever ends by itself, only deadlines pass: the event, then DEADLINE and the event in turns. */
static enum nr_policy_state left_alone(enum nr_policy_state state, enum nr_policy_event event)
{
    state = nr_policy(state, event).next;
    for (int i = 0; i < 4 && state != NR_STATE_GONE; i++) {
        state = nr_policy(state, NR_EVENT_DEADLINE).next;
        state = nr_policy(state, event).next;
    }
    return state;
}

START_TEST(with_the_beam_gone_every_state_ends_in_bounded_time)
{
    for (int start = 0; start < NR_STATE_COUNT; start++)
        ck_assert_msg(left_alone((enum nr_policy_state)start, NR_EVENT_BEAM_GONE) == NR_STATE_GONE,
                      "%s never ends", nr_policy_state_name((enum nr_policy_state)start));
}
END_TEST

START_TEST(with_nobody_listening_every_state_but_keeping_ends_in_bounded_time)
{
    for (int start = 0; start < NR_STATE_COUNT; start++)
        ck_assert_msg(left_alone((enum nr_policy_state)start, NR_EVENT_HANGUP) ==
                          (start == NR_STATE_KEEPING ? NR_STATE_KEEPING : NR_STATE_GONE),
                      "%s", nr_policy_state_name((enum nr_policy_state)start));
}
END_TEST

START_TEST(once_the_family_is_gone_every_state_after_exec_ends)
{
    for (int state = NR_STATE_RUNNING; state < NR_STATE_COUNT; state++)
        ck_assert_int_eq(nr_policy((enum nr_policy_state)state, NR_EVENT_FAMILY_GONE).next,
                         NR_STATE_GONE);
}
END_TEST

START_TEST(a_stop_reaches_killing_by_deadlines_alone)
{
    static const enum nr_policy_state from[] = {NR_STATE_STARTING, NR_STATE_RUNNING,
                                                NR_STATE_DRAINING, NR_STATE_STOPPING,
                                                NR_STATE_KEEPING};
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        enum nr_policy_state state = nr_policy(from[i], NR_EVENT_STOP).next;
        if (state == NR_STATE_STOPPING)
            state = nr_policy(state, NR_EVENT_DEADLINE).next;
        ck_assert_int_eq(state, NR_STATE_KILLING);
    }
}
END_TEST

START_TEST(numbers_outside_the_table_change_nothing)
{
    struct nr_policy_cell cell = nr_policy(NR_STATE_RUNNING, NR_EVENT_COUNT);
    ck_assert_int_eq(cell.next, NR_STATE_RUNNING);
    ck_assert_int_eq(cell.step, NR_STEP_STAY);
    cell = nr_policy(NR_STATE_COUNT, NR_EVENT_STOP);
    ck_assert_int_eq(cell.step, NR_STEP_STAY);
    ck_assert_ptr_null(nr_policy_state_name(NR_STATE_COUNT));
    ck_assert_ptr_null(nr_policy_event_name(NR_EVENT_COUNT));
    ck_assert_ptr_null(nr_policy_step_name(NR_STEP_COUNT));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("policy");
    TCase *tcase = tcase_create("policy");
    tcase_add_test(tcase, each_cell_is_as_wanted_and_no_other_does_anything);
    tcase_add_test(tcase, gone_is_final);
    tcase_add_test(tcase, with_the_beam_gone_every_state_ends_in_bounded_time);
    tcase_add_test(tcase, with_nobody_listening_every_state_but_keeping_ends_in_bounded_time);
    tcase_add_test(tcase, once_the_family_is_gone_every_state_after_exec_ends);
    tcase_add_test(tcase, a_stop_reaches_killing_by_deadlines_alone);
    tcase_add_test(tcase, numbers_outside_the_table_change_nothing);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
