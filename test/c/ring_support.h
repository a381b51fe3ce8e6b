/*
 * What the tests of the ring core share: a pipe with one end on a ring, and waiting for events
 * without sleeping. Include after <check.h>. Single-threaded; the stress test has its own.
 */
#ifndef NR_RING_SUPPORT_H
#define NR_RING_SUPPORT_H

#include "base/error.h"
#include "base/fd.h"
#include "ring.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 20000

/* A stream and what happened to it. */
struct end {
    struct nr_stream stream;
    int peer; /* the other end of the pipe, non-blocking too */
    unsigned ready;
    unsigned data;
    unsigned written;
    unsigned gone;
    unsigned events;
    int result; /* of the last event */
    bool fixed;
    bool more;     /* of the last DATA event */
    size_t length; /* of all DATA events */
    unsigned char bytes[1 << 17];
    void (*react)(struct end *end, const struct nr_event *event); /* within the callback */
    struct nr_ring *ring;
};

static unsigned total_events;

static void on_event(void *context, const struct nr_event *event)
{
    (void)context;
    struct end *end = event->stream->owner;
    ck_assert_msg(end->gone == 0, "an event came after GONE");
    ck_assert_uint_eq(atomic_load(&event->stream->demand), NR_DEMAND_IDLE);
    total_events++;
    end->events++;
    end->result = event->result;
    end->fixed = event->fixed;
    switch (event->kind) {
    case NR_EVENT_READY:
        end->ready++;
        break;
    case NR_EVENT_DATA:
        end->data++;
        end->more = event->more;
        ck_assert_int_eq(event->result, (int)event->length);
        ck_assert_uint_le(end->length + event->length, sizeof(end->bytes));
        memcpy(end->bytes + end->length, event->data, event->length);
        end->length += event->length;
        break;
    case NR_EVENT_WRITTEN:
        end->written++;
        break;
    case NR_EVENT_GONE:
        end->gone++;
        break;
    }
    if (end->react != NULL)
        end->react(end, event);
}

static inline struct end *end_new(struct nr_ring *ring, enum nr_direction direction)
{
    int fds[2];
    ck_assert_int_eq(nr_fd_pipe(fds), 0);
    ck_assert_int_eq(nr_fd_nonblock(fds[0], true), 0);
    ck_assert_int_eq(nr_fd_nonblock(fds[1], true), 0);
    struct end *end = calloc(1, sizeof(*end));
    ck_assert_ptr_nonnull(end);
    end->stream.fd = direction == NR_READ ? fds[0] : fds[1];
    end->peer = direction == NR_READ ? fds[1] : fds[0];
    end->stream.direction = direction;
    end->stream.owner = end;
    end->ring = ring;
    return end;
}

static inline struct end *end_add(struct nr_ring *ring, enum nr_direction direction)
{
    struct end *end = end_new(ring, direction);
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    return end;
}

static inline void end_free(struct end *end)
{
    nr_fd_close(end->stream.fd);
    nr_fd_close(end->peer);
    free(end);
}

/* Whether the ring's eventfd is readable now. */
static inline bool is_announced(const struct nr_ring *ring)
{
    struct pollfd eventfd = {.fd = nr_ring_eventfd(ring), .events = POLLIN};
    return poll(&eventfd, 1, 0) == 1;
}

static inline void wait_announced(const struct nr_ring *ring)
{
    struct pollfd eventfd = {.fd = nr_ring_eventfd(ring), .events = POLLIN};
    ck_assert_msg(poll(&eventfd, 1, WAIT_MS) == 1, "the eventfd stays silent");
}

/* Harvests, waiting on the eventfd in between, until *count is `wanted`. */
static inline void harvest_until(struct nr_ring *ring, const unsigned *count, unsigned wanted)
{
    for (;;) {
        int r = nr_ring_harvest(ring, 0, on_event, NULL);
        ck_assert_int_ge(r, 0);
        if (*count >= wanted)
            break;
        wait_announced(ring);
    }
    ck_assert_uint_eq(*count, wanted);
}

/* One harvest that must find nothing more than what is already there. */
static inline void harvest_once(struct nr_ring *ring)
{
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), 0);
}

static inline void end_remove(struct end *end)
{
    ck_assert_int_eq(nr_ring_remove(end->ring, &end->stream), 0);
    harvest_until(end->ring, &end->gone, 1);
    end_free(end);
}

static inline void put(int fd, const void *data, size_t length)
{
    ck_assert_int_eq((int)write(fd, data, length), (int)length);
}

/* Fills a pipe through its non-blocking writing end; the bytes that went in. */
static inline size_t fill(int fd)
{
    static const char zeros[4096];
    size_t total = 0;
    for (;;) {
        ssize_t n = write(fd, zeros, sizeof(zeros));
        if (n < 0)
            break;
        total += (size_t)n;
    }
    ck_assert_int_eq(errno, EAGAIN);
    return total;
}

static inline void take(int fd, size_t length)
{
    static char sink[4096];
    while (length > 0) {
        ssize_t n = read(fd, sink, length < sizeof(sink) ? length : sizeof(sink));
        ck_assert_int_gt((int)n, 0);
        length -= (size_t)n;
    }
}

/* Readers: begin, read(2) to EAGAIN, arm, as an owner does. */
static inline void settle_and_arm(struct end *end)
{
    char byte;
    do {
        nr_stream_begin(&end->stream);
        ck_assert_int_eq((int)read(end->stream.fd, &byte, 1), -1);
        ck_assert_int_eq(errno, EAGAIN);
    } while (!nr_stream_arm(&end->stream));
}

/* Writers: the registration's own first edge (an empty pipe is writable) is taken, the pipe is
 * filled, and the demand placed. */
static inline void fill_and_arm(struct end *end, const void *out, size_t length)
{
    harvest_once(end->ring);
    end->stream.out = out;
    end->stream.out_length = length;
    do {
        nr_stream_begin(&end->stream);
        fill(end->stream.fd);
        harvest_once(end->ring);
    } while (!nr_stream_arm(&end->stream));
}

/* Ends a test: nothing of it may be left in the ring. */
static inline void ring_end(struct nr_ring *ring)
{
    struct nr_ring_info info;
    nr_ring_get_info(ring, &info);
    ck_assert_uint_eq(info.slots_in_use, 0);
    ck_assert_uint_eq(info.streams, 0);
    nr_ring_free(ring);
}

/* An unprivileged user's rings are counted against RLIMIT_MEMLOCK, slots and (kernel 6.18) queues, and
 * the kernel takes the queues off some time after a ring's end. */
static inline int ring_new_in_time(struct nr_ring **made, const struct nr_ring_options *options)
{
    int r = nr_ring_new(made, options);
    for (unsigned i = 0; r == -ENOMEM && i < 1000; i++) {
        (void)poll(NULL, 0, 5);
        r = nr_ring_new(made, options);
    }
    return r;
}

/* 0, or the exit status that says "skipped", with the reason printed. */
static inline int skip_without_ring(void)
{
    struct nr_ring *ring;
    const struct nr_ring_options options = {.entries = 0};
    int r = ring_new_in_time(&ring, &options);
    if (r < 0) {
        printf("SKIP: no io_uring here: %s\n", strerror(-r));
        return 77;
    }
    nr_ring_free(ring);
    return 0;
}

#endif
