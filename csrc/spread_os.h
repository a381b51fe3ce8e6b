/* What spread.c needs and that differs between Linux and other POSIX systems: twin files spread_os_linux.c and
 * spread_os_posix.c, picked by the build. */
#ifndef NR_SPREAD_OS_H
#define NR_SPREAD_OS_H

#include <stdbool.h>

/* CPU_SETSIZE: with more processors, sched_getaffinity(2) has no room for its answer, and nobody is moved. */
#define NR_PROCESSORS 1024

/* Where the calling thread runs, or -errno. */
int nr_os_processor(void);

/* Moves the calling thread from one processor to the first behind it that it may run on and that `take` takes. Which ones it may run on is
 * afterwards what it was before. Where it runs then; -ESRCH: there is none; -EINVAL: what it may run on has just changed; -errno. */
int nr_os_move(int from, bool (*take)(unsigned processor, void *context), void *context);

#endif
