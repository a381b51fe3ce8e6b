/*
 * spread_probe: finds out by doing whether a thread may be moved to another processor (spread_os.h), in a process of its own,
 * because a seccomp filter may answer with a signal (systemd's @resources holds sched_setaffinity(2)).
 *
 * Prints "ok" and exits 0, or "error <number>" and exits 1. Killed by a signal: nobody is to be moved.
 */
#include "base/error.h"
#include "spread_os.h"

#include <stddef.h>
#include <stdio.h>

static bool take(unsigned processor, void *context)
{
    (void)processor;
    (void)context;
    return true;
}

int main(void)
{
    int processor = nr_os_processor();
    /* As if it were elsewhere: who has one processor only moves to that. */
    int r = processor < 0 ? processor : nr_os_move((processor + 1) % NR_PROCESSORS, take, NULL);
    if (r < 0)
        printf("error %d\n", -r);
    else
        puts("ok");
    return r < 0;
}
