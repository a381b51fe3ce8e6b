/* See spread_os.h. POSIX knows no processors. */
#include "spread_os.h"

#include "base/error.h"

int nr_os_processor(void)
{
    return -ENOSYS;
}

int nr_os_move(int from, bool (*take)(unsigned processor, void *context), void *context)
{
    (void)from;
    (void)take;
    (void)context;
    return -ENOSYS;
}
