/*
 * Time as the shepherd knows it: milliseconds of CLOCK_MONOTONIC, so that a changed wall clock moves
 * no deadline. Called by zygote and guardian; it must never be compared with wall-clock time.
 */
#ifndef NR_CLOCK_H
#define NR_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NR_NEVER UINT64_MAX

static inline uint64_t nr_clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

/* The deadline `ms` from now. One more millisecond than asked, because nr_clock_ms rounds down: a
 * grace is never shorter than promised. 0 stays "at once". */
static inline uint64_t nr_clock_after(uint64_t ms)
{
    return nr_clock_ms() + ms + (ms > 0 ? 1U : 0U);
}

/* The poll(2) time-out that reaches `deadline`; -1 for NR_NEVER. */
static inline int nr_clock_poll_ms(uint64_t deadline)
{
    if (deadline == NR_NEVER)
        return -1;
    uint64_t now = nr_clock_ms();
    if (deadline <= now)
        return 0;
    uint64_t left = deadline - now;
    return left > 1000000000U ? 1000000000 : (int)left;
}

#endif
