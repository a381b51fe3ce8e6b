/*
 * Schedulers that share a processor while another has none of them. The kernel evens out how much there is to run, not of what: two
 * scheduler threads that never sleep on one processor, and the commands that they read from on the other, are even, and it may stay so
 * for as long as they run. Then one scheduler waits a time slice for the other, all commands wait for both, and whoever
 * else runs on the BEAM waits for milliseconds (docs/decisions/0021).
 *
 * A scheduler that comes by here, and finds that another was here between its own last visit and this one, on the same processor, moves to
 * one where none was seen lately. It only moves: what it may run on stays what it was, and where the kernel puts it next is the
 * kernel's business. Who is bound to its processor (+sbt, taskset(1)) has nowhere to go, and stays.
 *
 * No lock: each processor has one word that says who was last seen there, and when.
 */
#ifndef NR_SPREAD_H
#define NR_SPREAD_H

#include <stdbool.h>
#include <stdint.h>

/* A scheduler's thread; its own, nobody else's. All zeros at first. */
struct nr_spread {
    unsigned thread; /* its number here, from 1 on; 0: it has none yet */
    int processor;   /* where it was, */
    uint64_t looked; /* when it came by, in microseconds, */
    uint64_t moved;  /* and when it last moved, or tried to */
    bool refused;    /* the system does not let it */
};

/* The calling thread, a scheduler that has much to do, comes by; it may be moved to another processor. `now`: microseconds of
 * any monotonic clock, the same for all threads. */
void nr_spread_look(struct nr_spread *spread, uint64_t now);

/* So many times a scheduler was moved. */
unsigned long nr_spread_moves(void);

#endif
