/*
 * The guardian's policy: what it does when something happens, as one table of states x events.
 * Pure: no process, no descriptor, no clock. guardian.c turns the world into events and the steps
 * into system calls; it must hold no policy of its own, and this room no mechanism.
 */
#ifndef NR_POLICY_H
#define NR_POLICY_H

#define NR_POLICY_STATES(X)                                                                        \
    X(STARTING) /* forked, not yet known to have exec'd                                 */         \
    X(RUNNING)  /* exec'd, the leader lives                                             */         \
    X(DRAINING) /* the leader ended, others may end by themselves for drain_timeout     */         \
    X(STOPPING) /* asked to end by stop_signal, until the grace is over                 */         \
    X(KILLING)  /* SIGKILL and sweep, until nobody is left or S is over                 */         \
    X(REAPING)  /* survivors of SIGKILL were reported: wait for their end               */         \
    X(KEEPING)  /* orphans: :keep, the leader's end is published, others live on        */         \
    X(GONE)     /* nothing left to do but send what is queued, and exit or rest         */

#define NR_POLICY_EVENTS(X)                                                                        \
    X(EXECED)      /* the exec pipe closed without a word                               */         \
    X(EXEC_FAILED) /* the exec pipe brought {stage, errno}                              */         \
    X(LEADER_LEFT) /* the leader ended, others live                                     */         \
    X(LEADER_KEPT) /* the same, under orphans: :keep                                    */         \
    X(FAMILY_GONE) /* nobody lives (the leader may still be unreaped)                   */         \
    X(DEADLINE)    /* the deadline the last step set has passed                         */         \
    X(STOP)        /* the BEAM asks for the stop ladder                                 */         \
    X(HANGUP)      /* nobody listens: the control socket hung up                        */         \
    X(BEAM_GONE)   /* the BEAM is dead, whoever may still hold its sockets              */

#define NR_POLICY_STEPS(X)                                                                         \
    X(STAY)             /* nothing                                                      */         \
    X(REPORT_STARTED)   /* STARTED                                                      */         \
    X(REPORT_FAILED)    /* FAILED, reap                                                 */         \
    X(BEGIN_DRAIN)      /* deadline := drain_timeout                                    */         \
    X(BEGIN_STOP)       /* stop_signal and SIGCONT; deadline := grace                   */         \
    X(HASTEN)           /* deadline := min(deadline, the new grace)                     */         \
    X(BEGIN_KILL)       /* SIGKILL to the group, sweep; deadline := S                   */         \
    X(BEGIN_KEEP)       /* reap the leader, EXITED; no deadline                         */         \
    X(REPORT_SURVIVORS) /* UNKILLABLE; no deadline                                      */         \
    X(FINISH)           /* reap everybody, EXITED unless it was published               */         \
    X(LEAVE)            /* exit as things are: the zygote sweeps behind us              */

#define NR_POLICY_NAME(name) NR_STATE_##name,
enum nr_policy_state { NR_POLICY_STATES(NR_POLICY_NAME) NR_STATE_COUNT };
#undef NR_POLICY_NAME
#define NR_POLICY_NAME(name) NR_EVENT_##name,
enum nr_policy_event { NR_POLICY_EVENTS(NR_POLICY_NAME) NR_EVENT_COUNT };
#undef NR_POLICY_NAME
#define NR_POLICY_NAME(name) NR_STEP_##name,
enum nr_policy_step { NR_POLICY_STEPS(NR_POLICY_NAME) NR_STEP_COUNT };
#undef NR_POLICY_NAME

struct nr_policy_cell {
    enum nr_policy_state next;
    enum nr_policy_step step;
};

/* What to do, and which state follows. Total: an event a state does not know gives {state, STAY}. */
struct nr_policy_cell nr_policy(enum nr_policy_state state, enum nr_policy_event event);

/* "RUNNING", for tests and documentation. */
const char *nr_policy_state_name(enum nr_policy_state state);
const char *nr_policy_event_name(enum nr_policy_event event);
const char *nr_policy_step_name(enum nr_policy_step step);

#endif
