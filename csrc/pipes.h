/*
 * The memory of pipes: how much one may hold, and how much all of ours do. A bigger pipe is the biggest lever of
 * throughput (design.md, section 4), but a normal user has 64 MiB for all pipes together (pipe(7),
 * pipe-user-pages-soft), and past that every new pipe, of any program of that user, is made with two pages.
 */
#ifndef NR_PIPES_H
#define NR_PIPES_H

#include <stdint.h>

/* As large as they get: pipe-max-size, which a normal user cannot pass. */
#define NR_PIPE_MAX ((uint64_t)1024 * 1024)

/* What a pipe holds of it, in bytes; all zeros: none. */
struct nr_pipe_memory {
    uint64_t made; /* its capacity as it was made, which may be two pages already */
    uint64_t now;
};

/* Of a new pipe, which counts from now on. */
struct nr_pipe_memory nr_pipes_enter(int fd);

#define NR_PIPE_LARGE   1 /* it is as large as it gets */
#define NR_PIPE_REFUSED 2 /* there is no room for more */

/* The next size, 256 KiB or 1 MiB, of a pipe that keeps coming back full. 0, NR_PIPE_LARGE or NR_PIPE_REFUSED. Any
 * thread. */
int nr_pipes_grow(int fd, struct nr_pipe_memory *memory);

/* Our end is closed. Twice is fine. */
void nr_pipes_leave(struct nr_pipe_memory *memory);

#endif
