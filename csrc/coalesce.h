/*
 * Whether the pieces that a program writes are let come together before they are read: interrupt coalescing (ethtool(8),
 * adaptive-rx), for a pipe. What goes through stdio comes in pieces of 4 KiB, ten and a hundred of them in a millisecond. Each of them
 * wakes whoever waits for it, and keeps a scheduler from its sleep: `jq`'s output cost 4 to 44 ms of the BEAM's CPU time per MB, a
 * port's 3.5. Looked at each two milliseconds it costs 1 to 8, and the program, which wakes nobody, is faster for it
 * (docs/decisions/0020).
 *
 * Throughput is not to be lost. A program that answers says nothing until it is asked, and one that is faster than its pipe is large would
 * wait for us. So it is tried, and given up where less came than without, for longer each time. The price is that what is
 * written is read up to two milliseconds later, or one, where the pipe does not hold what comes in two.
 *
 * Pure: no system call, no clock of its own. Times are microseconds of any monotonic clock.
 */
#ifndef NR_COALESCE_H
#define NR_COALESCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zeros at first, for a program that is not asked; else nr_coalesce_may_answer. */
struct nr_coalesce {
    unsigned pause; /* milliseconds; 0: it is off */
    bool may_answer;
    uint64_t came;    /* bytes read since the pipe was last found empty */
    unsigned pieces;  /* so often something had come and no more was there, in this window */
    unsigned windows; /* with it on */
    unsigned fulls;   /* so often the pipe was, or nearly, in this window */
    unsigned looks;   /* at what comes without, for that reason */
    unsigned penance; /* windows to come before the next try */
    unsigned doubts;  /* tries that failed, one after the other */
    unsigned silent;  /* pauses in which nothing came, one after the other */
    uint64_t paused;  /* when the last pause began */
    uint64_t since;   /* when this window began; 0: not yet */
    uint64_t bytes;   /* read in it */
    uint64_t rate;    /* bytes per ms in the last window without */
};

/* The program has a stdin that is ours: it may say nothing unless it is asked, and is not tried so soon. */
void nr_coalesce_may_answer(struct nr_coalesce *coalesce);

/* A read gave so many bytes. */
void nr_coalesce_read(struct nr_coalesce *coalesce, size_t bytes);

/* Whether a pause goes on, for who comes by because of something else. */
bool nr_coalesce_pauses(const struct nr_coalesce *coalesce, uint64_t now);

/* The pipe, which has room for so many bytes, is empty. Come back in so many milliseconds, and wait for nothing; 0: wait for it. */
unsigned nr_coalesce_empty(struct nr_coalesce *coalesce, uint64_t now, uint64_t capacity);

/* What may come until then, in bytes: the pipe needs so much room. */
uint64_t nr_coalesce_room(const struct nr_coalesce *coalesce);

/* It has less, and gets no more: a shorter pause, or, where there is none, it is given up. */
void nr_coalesce_shorten(struct nr_coalesce *coalesce, uint64_t now);

#endif
