/* See spread_os.h. POSIX knows no processors. */
#include "spread_os.h"

#include "base/error.h"

int nr_os_processor(void)
{
    return -ENOSYS;
}

int nr_os_move(bool (*is_free)(unsigned processor, uint64_t now), uint64_t now)
{
    (void)is_free;
    (void)now;
    return -ENOSYS;
}
