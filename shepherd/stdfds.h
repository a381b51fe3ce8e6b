/*
 * The child's 0, 1 and 2. Called by exec.c in the child, between fork and exec: async-signal-safe
 * calls only.
 */
#ifndef NR_STDFDS_H
#define NR_STDFDS_H

#include <stdbool.h>

/* Places given[0..2] (-EBADF: /dev/null) on 0, 1, 2, without close-on-exec; with `merge`, 2 is 1's
 * open file. Whatever numbers the given descriptors have, 0, 1 and 2 included, none is overwritten
 * before it was placed. 0 or -errno. */
int nr_stdfds_place(const int given[3], bool merge);

#endif
