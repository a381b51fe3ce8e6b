/* What spread.c needs and that differs between Linux and other POSIX systems: twin files spread_os_linux.c and
 * spread_os_posix.c, picked by the build. */
#ifndef NR_SPREAD_OS_H
#define NR_SPREAD_OS_H

#include <stdbool.h>
#include <stdint.h>

/* CPU_SETSIZE: with more processors, sched_getaffinity(2) has no room for its answer. */
#define NR_PROCESSORS 1024

/* Where the calling thread runs, or -errno. */
int nr_os_processor(void);

/* Moves the calling thread to one of those processors that it may run on and of which `is_free` says so at `now`. Which ones it may run on is
 * afterwards what it was before. Where it runs then; -ESRCH: there is none; -errno. */
int nr_os_move(bool (*is_free)(unsigned processor, uint64_t now), uint64_t now);

#endif
