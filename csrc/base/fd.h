/*
 * File descriptors as owned values, shared by the NIF and the shepherd.
 *
 * An empty descriptor field holds -EBADF, so that using it by mistake fails with the right errno.
 * A function whose name ends in _take or _consume becomes the owner of what it is given, also when
 * it fails; everything else borrows.
 *
 * Thread: any. Nothing here keeps state.
 */
#ifndef NR_BASE_FD_H
#define NR_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>

/* Closes fd if it is one. Returns -EBADF, so that `fd = nr_fd_close(fd)` empties the field.
 * errno is kept. EINTR is not retried: on Linux the descriptor is gone (close(2)). */
int nr_fd_close(int fd);

/* Moves *fd out of its field and leaves -EBADF behind. */
int nr_fd_take(int *fd);

/* pipe2(2) with O_CLOEXEC on both ends; fds[0] reads, fds[1] writes. 0 or -errno; on failure both
 * fields hold -EBADF. */
int nr_fd_pipe(int fds[2]);

/* Writes all of it to a descriptor that blocks or is a file. 0 or -errno. */
int nr_fd_write_all(int fd, const void *data, size_t size);

/* Sets or clears O_NONBLOCK on the open file description. 0 or -errno. */
int nr_fd_nonblock(int fd, bool on);

/* Sets or clears FD_CLOEXEC. 0 or -errno. */
int nr_fd_cloexec(int fd, bool on);

#endif
