/* See spread_os.h. A thread is moved by being allowed elsewhere only, and then everywhere again (sched_setaffinity(2)). */
#include "spread_os.h"

#include "base/error.h"

#include <sched.h>
#include <string.h>

/* CPU_SETSIZE says so, too, but for 128 in some versions of musl. */
_Static_assert(NR_PROCESSORS == 8 * sizeof(cpu_set_t), "as many as fit in a cpu_set_t");

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

int nr_os_move(int from, bool (*take)(unsigned processor, void *context), void *context)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return errno == EINVAL ? -ENOSYS : nr_errno();
    for (unsigned i = 1; i < NR_PROCESSORS; i++) {
        unsigned to = ((unsigned)from + i) % NR_PROCESSORS;
        if (!CPU_ISSET(to, &allowed) || !take(to, context))
            continue;
        cpu_set_t target;
        CPU_ZERO(&target);
        CPU_SET(to, &target);
        if (sched_setaffinity(0, sizeof(target), &target) < 0)
            return nr_errno();
        give_back(&allowed);
        return (int)to;
    }
    return -ESRCH;
}
