/* See policy.h: the whole policy on one screen. Must never do anything. */
#include "policy.h"

#include <stdbool.h>
#include <stddef.h>

/* clang-format off */
/*        state     event         next      step                why, where the row does not say it   */
#define TABLE(ROW) \
    ROW(STARTING, EXECED,       RUNNING,  REPORT_STARTED)   \
    ROW(STARTING, EXEC_FAILED,  GONE,     REPORT_FAILED)    \
    ROW(STARTING, STOP,         KILLING,  BEGIN_KILL)       /* no command yet that could use a grace */ \
    ROW(STARTING, HANGUP,       KILLING,  BEGIN_KILL)       \
    ROW(STARTING, BEAM_GONE,    KILLING,  BEGIN_KILL)       \
    \
    ROW(RUNNING,  LEADER_LEFT,  DRAINING, BEGIN_DRAIN)      \
    ROW(RUNNING,  LEADER_KEPT,  KEEPING,  BEGIN_KEEP)       \
    ROW(RUNNING,  FAMILY_GONE,  GONE,     FINISH)           \
    ROW(RUNNING,  STOP,         STOPPING, BEGIN_STOP)       \
    ROW(RUNNING,  HANGUP,       STOPPING, BEGIN_STOP)       \
    ROW(RUNNING,  BEAM_GONE,    STOPPING, BEGIN_STOP)       \
    \
    ROW(DRAINING, FAMILY_GONE,  GONE,     FINISH)           \
    ROW(DRAINING, DEADLINE,     KILLING,  BEGIN_KILL)       \
    ROW(DRAINING, STOP,         KILLING,  BEGIN_KILL)       /* stops skip the drain */ \
    ROW(DRAINING, HANGUP,       KILLING,  BEGIN_KILL)       \
    ROW(DRAINING, BEAM_GONE,    KILLING,  BEGIN_KILL)       \
    \
    ROW(STOPPING, LEADER_LEFT,  KILLING,  BEGIN_KILL)       /* the grace is the leader's */ \
    ROW(STOPPING, LEADER_KEPT,  KILLING,  BEGIN_KILL)       /* a stop ends what :keep would keep */ \
    ROW(STOPPING, FAMILY_GONE,  GONE,     FINISH)           \
    ROW(STOPPING, DEADLINE,     KILLING,  BEGIN_KILL)       \
    ROW(STOPPING, STOP,         STOPPING, HASTEN)           \
    ROW(STOPPING, HANGUP,       STOPPING, HASTEN)           \
    ROW(STOPPING, BEAM_GONE,    STOPPING, HASTEN)           \
    \
    ROW(KILLING,  FAMILY_GONE,  GONE,     FINISH)           \
    ROW(KILLING,  DEADLINE,     REAPING,  REPORT_SURVIVORS) \
    \
    ROW(REAPING,  FAMILY_GONE,  GONE,     FINISH)           \
    ROW(REAPING,  HANGUP,       GONE,     LEAVE)            /* never hang: the zygote takes them */ \
    ROW(REAPING,  BEAM_GONE,    GONE,     LEAVE)            \
    \
    ROW(KEEPING,  FAMILY_GONE,  GONE,     FINISH)           \
    ROW(KEEPING,  STOP,         STOPPING, BEGIN_STOP)       /* it crossed EXITED on its way */ \
    ROW(KEEPING,  BEAM_GONE,    STOPPING, BEGIN_STOP)       /* outliving the BEAM is not offered */
/* clang-format on */

#define CELL(state, event, to, what)                                                               \
    [NR_STATE_##state][NR_EVENT_##event] = {true, {NR_STATE_##to, NR_STEP_##what}},

static const struct {
    bool known;
    struct nr_policy_cell cell;
} table[NR_STATE_COUNT][NR_EVENT_COUNT] = {TABLE(CELL)};

struct nr_policy_cell nr_policy(enum nr_policy_state state, enum nr_policy_event event)
{
    if (state < NR_STATE_COUNT && event < NR_EVENT_COUNT && table[state][event].known)
        return table[state][event].cell;
    return (struct nr_policy_cell){state, NR_STEP_STAY};
}

#define NAME(name) #name,

const char *nr_policy_state_name(enum nr_policy_state state)
{
    static const char *const names[] = {NR_POLICY_STATES(NAME)};
    return state < NR_STATE_COUNT ? names[state] : NULL;
}

const char *nr_policy_event_name(enum nr_policy_event event)
{
    static const char *const names[] = {NR_POLICY_EVENTS(NAME)};
    return event < NR_EVENT_COUNT ? names[event] : NULL;
}

const char *nr_policy_step_name(enum nr_policy_step step)
{
    static const char *const names[] = {NR_POLICY_STEPS(NAME)};
    return step < NR_STEP_COUNT ? names[step] : NULL;
}
