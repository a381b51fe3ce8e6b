/* See spread_os.h. A thread is moved by being allowed elsewhere only, and then everywhere again (sched_setaffinity(2)). */
#include "spread_os.h"

#include "base/error.h"

#include <sched.h>
#include <string.h>

_Static_assert(NR_PROCESSORS == CPU_SETSIZE, "as many as fit in a cpu_set_t");

int nr_os_processor(void)
{
    int processor = sched_getcpu();
    return processor < 0 ? nr_errno() : processor;
}

/* The thread may run on `allowed` again. A mask that was set is kept by the kernel as a wish, and outlives a cpuset that grows (`docker
 * update --cpuset-cpus`); most threads have none. So it is asked for all processors, which is as good as no wish; if that gives more than
 * it had, it did have one. */
static void give_back(const cpu_set_t *allowed)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof(all));
    if (sched_setaffinity(0, sizeof(all), &all) == 0 &&
        sched_getaffinity(0, sizeof(all), &all) == 0 && CPU_EQUAL(&all, allowed))
        return;
    (void)sched_setaffinity(0, sizeof(*allowed), allowed);
}

int nr_os_move(bool (*is_free)(unsigned processor, uint64_t now), uint64_t now)
{
    cpu_set_t allowed;
    cpu_set_t free;
    CPU_ZERO(&free);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return nr_errno();
    for (unsigned i = 0; i < NR_PROCESSORS; i++)
        if (CPU_ISSET(i, &allowed) && is_free(i, now))
            CPU_SET(i, &free);
    if (CPU_COUNT(&free) == 0)
        return -ESRCH;
    if (sched_setaffinity(0, sizeof(free), &free) < 0)
        return nr_errno();
    int processor = nr_os_processor();
    give_back(&allowed);
    return processor;
}
