/* See stop.h: whom to signal when a family must end. Must never wait. */
#include "stop.h"

#include <signal.h>

/* A chain of forks can keep one sweep busy for as long as it likes; the loop must also look at its
 * sockets. */
#define SWEEP_PASSES 32

struct signalling {
    const struct nr_family *family;
    int signal;
};

void nr_stop_child(pid_t pid, int signal)
{
    struct nr_pidref child = {.pid = pid, .pidfd = -EBADF};

    if (nr_pidref_leads(&child))
        (void)nr_pidref_signal_group(&child, signal);
    (void)nr_pidref_signal(&child, signal);
}

static void signal_child(void *context, pid_t pid)
{
    const struct signalling *signalling = context;

    if (pid != signalling->family->leader.pid || !signalling->family->leader_ended)
        nr_stop_child(pid, signalling->signal);
}

static void signal_family(struct nr_family *family, int signal)
{
    struct signalling signalling = {.family = family, .signal = signal};

    if (family->leader.pid > 1) {
        /* Between its fork and its setsid there is no such group yet. Looked at before, because the
         * setsid may come between two calls. */
        bool leads = nr_pidref_leads(&family->leader);
        (void)nr_pidref_signal_group(&family->leader, signal);
        if (!leads)
            (void)nr_pidref_signal(&family->leader, signal);
    } else {
        (void)nr_children_each(&family->children, signal_child, &signalling);
    }
}

void nr_stop_ask(struct nr_family *family, int signal)
{
    signal_family(family, signal);
    signal_family(family, SIGCONT);
}

void nr_stop_kill(struct nr_family *family)
{
    family->condemned = true;
    signal_family(family, SIGKILL);
}

struct sweeping {
    struct nr_family *family;
    unsigned reaped;
};

/* Reaping and killing in one walk, each child in one turn: a zombie that stays makes every later
 * list longer, and the time between seeing a fork chain's link and killing it is what decides. */
static void sweep_child(void *context, pid_t pid)
{
    struct sweeping *sweeping = context;
    struct signalling killing = {.family = sweeping->family, .signal = SIGKILL};

    if (nr_family_reap_child(sweeping->family, pid))
        sweeping->reaped++;
    else
        signal_child(&killing, pid);
}

bool nr_stop_sweep(struct nr_family *family)
{
    for (int pass = 0; pass < SWEEP_PASSES; pass++) {
        struct sweeping sweeping = {.family = family};
        if (nr_children_each(&family->children, sweep_child, &sweeping) < 0) {
            sweeping.reaped = nr_family_reap_others(family);
            signal_family(family, SIGKILL); /* the group is all of it that has a name */
        }
        (void)nr_family_leader_ended(family);
        if (!nr_family_alive(family))
            return false;
        if (sweeping.reaped == 0)
            return true;
    }
    return true;
}
