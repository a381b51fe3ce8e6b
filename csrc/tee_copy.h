/*
 * One stream to two descriptors: what the program `tee` does, apart from how it ends (tee.c). Single
 * thread, one stream per process: the buffer is static. Blocks; expects SIGPIPE to be ignored.
 *
 * tee_copy.c reads and writes, whatever the descriptors are. What pipes can do without that is in
 * twin files, picked by the build: tee_pipes_linux.c and tee_pipes_posix.c.
 */
#ifndef NR_TEE_COPY_H
#define NR_TEE_COPY_H

#include <stddef.h>
#include <sys/types.h>

struct nr_tee {
    int in, out, copy; /* borrowed; each may block or not */
    int lost;          /* 0; or the copy gets nothing more: -EPIPE, its reader left; -errno */
};

/* Copies until `in` ends. 0, or -errno of `in` or `out`. Either way the copy has got every byte that
 * `out` took, or `lost` says why not. */
int nr_tee_run(struct nr_tee *stream);

/* ---- for the twins ------------------------------------------------------------------------------- */

/* nr_tee_pipes: the descriptors are not for it. Nothing is half done: go on with read(2) and write(2). */
#define NR_TEE_NO_PIPES 1

/* The same as nr_tee_run, between pipes, inside the kernel. 0, -errno or NR_TEE_NO_PIPES. */
int nr_tee_pipes(struct nr_tee *stream);

/* Waits for some of poll(2)'s events; what has come (POLLHUP and POLLERR come unasked), or -errno. */
int nr_tee_await(int fd, short events);

/* Reads `size` bytes that `in` holds and `out` has got, and writes them to the copy; where that is
 * lost, they are away. 0, also at an end before that, or -errno of `in`. */
int nr_tee_catch_up(struct nr_tee *stream, size_t size);

#endif
