/* See spread.h. */
#include "spread.h"

#include "base/error.h"
#include "spread_os.h"

#include <stdalign.h>
#include <stdatomic.h>

/* Who was seen on a processor so long ago may have left it: two and a half ticks of the usual kernel's clock (CONFIG_HZ=250), after one of
 * which a thread lets another go on. */
#define LATELY_US 10000

/* Who came by so long ago has slept since. Who shares its processor with other programs as well is back after several time slices. */
#define AWAY_US 50000

/* A thread moves once in so many at most: a hundredth of its time, and seldom (docs/decisions/0021). */
#define REST_US 1000

/* Who was seen last: THREAD_BITS for the thread, 0 is nobody, the rest for the time. ERTS has 1,024 schedulers at most. */
#define THREAD_BITS 16U
#define THREADS_MAX ((1U << THREAD_BITS) - 1U)

static struct {
    alignas(64) _Atomic uint64_t seen; /* a cache line each: only who runs there writes it */
} places[NR_PROCESSORS];

static _Atomic unsigned threads;
static _Atomic unsigned long moves;

unsigned long nr_spread_moves(void)
{
    return atomic_load(&moves);
}

static uint64_t seen(const struct nr_spread *spread, uint64_t now)
{
    return now << THREAD_BITS | spread->thread;
}

static bool is_free(unsigned processor, uint64_t now)
{
    uint64_t last = atomic_load_explicit(&places[processor].seen, memory_order_relaxed);
    uint64_t age = (now << THREAD_BITS) - (last & ~(uint64_t)THREADS_MAX);
    bool was_used = (last & THREADS_MAX) != 0;
    return !was_used || age >= (uint64_t)LATELY_US << THREAD_BITS;
}

/* Whether another was here since this thread was. */
static bool shares(struct nr_spread *spread, int processor, uint64_t now)
{
    uint64_t last =
        atomic_exchange_explicit(&places[processor].seen, seen(spread, now), memory_order_relaxed);
    bool stayed = processor == spread->processor && now - spread->looked < AWAY_US;
    spread->processor = processor;
    spread->looked = now;
    return stayed && (last & THREADS_MAX) != 0 && (last & THREADS_MAX) != spread->thread;
}

static void move(struct nr_spread *spread, uint64_t now)
{
    int from = spread->processor;
    spread->moved = now;
    int to = nr_os_move(is_free, now);
    /* EINVAL: what it may run on has just changed. */
    spread->refused = to < 0 && to != -ESRCH && to != -EINVAL;
    if (to < 0 || to >= NR_PROCESSORS || to == from)
        return;
    /* The other one is to find itself alone, and not to move as well. */
    uint64_t mine = seen(spread, now);
    (void)atomic_compare_exchange_strong(&places[from].seen, &mine, 0);
    atomic_store(&places[to].seen, seen(spread, now));
    spread->processor = to;
    (void)atomic_fetch_add(&moves, 1);
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
