/* See spread.h. */
#include "spread.h"

#include "base/error.h"
#include "spread_os.h"

#include <stdalign.h>
#include <stdatomic.h>

/* Who came by so long ago may have slept since, or done something else. Who shares its processor with other programs, too, is back after several
 * time slices of 4 ms (CONFIG_HZ=250). */
#define LATELY_US 50000

/* A thread moves once in so many at most: a hundredth of its time, and seldom (docs/decisions/0021). */
#define REST_US 1000

/* Who was seen last: THREAD_BITS for the thread, the rest for the time. ERTS has 1,024 schedulers at most; threads are numbered from 1 on. */
#define THREAD_BITS 16U
#define THREADS_MAX ((1U << THREAD_BITS) - 1U)
#define NOBODY      ((uint64_t)0)

static struct {
    alignas(64) _Atomic uint64_t seen; /* a cache line each: who runs there writes it */
} places[NR_PROCESSORS];

static _Atomic unsigned threads;
static _Atomic unsigned long moves;

unsigned long nr_spread_moves(void)
{
    return atomic_load(&moves);
}

/* Its mark, as of its last visit. */
static uint64_t mark(const struct nr_spread *spread)
{
    return spread->looked << THREAD_BITS | spread->thread;
}

/* Where it was, it is no more. */
static void leave(const struct nr_spread *spread)
{
    uint64_t mine = mark(spread);
    (void)atomic_compare_exchange_strong(&places[spread->processor].seen, &mine, NOBODY);
}

/* A processor on which nobody was seen lately; nobody else takes it then. Who was seen there after this thread looked at its clock is not of long ago. */
static bool take(unsigned processor, void *context)
{
    const struct nr_spread *spread = context;
    uint64_t last = atomic_load(&places[processor].seen);
    uint64_t mine = mark(spread);
    int64_t age = (int64_t)((mine & ~(uint64_t)THREADS_MAX) - (last & ~(uint64_t)THREADS_MAX));
    if (last != NOBODY && age < (int64_t)((uint64_t)LATELY_US << THREAD_BITS))
        return false;
    return atomic_compare_exchange_strong(&places[processor].seen, &last, mine);
}

/* Whether another was here since this thread was. */
static bool shares(struct nr_spread *spread, int processor, uint64_t now)
{
    bool stayed = processor == spread->processor && now - spread->looked < LATELY_US;
    if (processor != spread->processor)
        leave(spread);
    spread->processor = processor;
    spread->looked = now;
    uint64_t last = atomic_exchange(&places[processor].seen, mark(spread));
    return stayed && last != NOBODY && (last & THREADS_MAX) != spread->thread;
}

static void move(struct nr_spread *spread, uint64_t now)
{
    spread->moved = now;
    /* Before it goes: the other one runs at once, is to find itself alone, and not to go as well. */
    leave(spread);
    int from = spread->processor;
    int to = nr_os_move(from, take, spread);
    /* EINVAL: what it may run on has just changed. */
    spread->refused = to < 0 && to != -ESRCH && to != -EINVAL;
    if (to >= 0) {
        spread->processor = to;
        (void)atomic_fetch_add(&moves, 1);
        return;
    }
    uint64_t nobody = NOBODY;
    (void)atomic_compare_exchange_strong(&places[from].seen, &nobody, mark(spread));
}

void nr_spread_look(struct nr_spread *spread, uint64_t now)
{
    if (spread->refused)
        return;
    if (spread->thread == 0)
        spread->thread = atomic_fetch_add(&threads, 1) % THREADS_MAX + 1;
    int processor = nr_os_processor();
    spread->refused = processor < 0;
    if (processor < 0 || processor >= NR_PROCESSORS)
        return;
    if (shares(spread, processor, now) && now - spread->moved >= REST_US)
        move(spread, now);
}
