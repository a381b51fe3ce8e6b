/* See tee_copy.h: with a buffer. stdout first, then the copy gets what stdout took. */
#include "tee_copy.h"

#include "base/error.h"

#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

static char buffer[256 * 1024];

int nr_tee_await(int fd, short events)
{
    struct pollfd waited = {.fd = fd, .events = events};
    int r;
    do {
        r = poll(&waited, 1, -1);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? nr_errno() : waited.revents;
}

/* After a call that failed: 0 where it is worth another one, -errno. */
static int again(int fd, short events)
{
    if (errno == EINTR)
        return 0;
    if (errno != EAGAIN)
        return nr_errno();
    int r = nr_tee_await(fd, events);
    return r < 0 ? r : 0;
}

/* Some bytes, at most `size`; 0 at the end, or -errno. */
static ssize_t read_some(int fd, size_t size)
{
    for (;;) {
        ssize_t n = read(fd, buffer, size < sizeof(buffer) ? size : sizeof(buffer));
        if (n >= 0)
            return n;
        int r = again(fd, POLLIN);
        if (r < 0)
            return r;
    }
}

/* The first `size` bytes of the buffer. 0 or -errno; *taken of them were written. */
static int write_all(int fd, size_t size, size_t *taken)
{
    for (*taken = 0; *taken < size;) {
        ssize_t n = write(fd, buffer + *taken, size - *taken);
        int r = n < 0 ? again(fd, POLLOUT) : 0;
        if (r < 0)
            return r;
        if (n > 0)
            *taken += (size_t)n;
    }
    return 0;
}

static void write_copy(struct nr_tee *stream, size_t size)
{
    size_t taken;
    if (stream->lost == 0)
        stream->lost = write_all(stream->copy, size, &taken);
}

int nr_tee_catch_up(struct nr_tee *stream, size_t size)
{
    while (size > 0) {
        ssize_t n = read_some(stream->in, size);
        if (n <= 0)
            return (int)n;
        write_copy(stream, (size_t)n);
        size -= (size_t)n;
    }
    return 0;
}

static int read_and_write(struct nr_tee *stream)
{
    for (;;) {
        ssize_t n = read_some(stream->in, sizeof(buffer));
        if (n <= 0)
            return (int)n;
        size_t taken;
        int r = write_all(stream->out, (size_t)n, &taken);
        write_copy(stream, taken);
        if (r < 0)
            return r;
    }
}

int nr_tee_run(struct nr_tee *stream)
{
    int r = nr_tee_pipes(stream);
    return r == NR_TEE_NO_PIPES ? read_and_write(stream) : r;
}
