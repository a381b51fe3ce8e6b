/*
 * ring_probe: finds out by doing whether this machine lets us use io_uring, in a process of its own,
 * because a seccomp filter may answer with a signal.
 *
 * Prints one line and exits 0 or 1:
 *
 *     ok registered=1 nowait=1
 *     error <step> <errno name or number>
 *
 * Steps, in order: new pipe add-read read add-write write remove. registered=0: slots could not be
 * registered (the moves went through plain ones); nowait=0: pipes refuse RWF_NOWAIT (the moves were
 * readiness only). Killed by a signal, or silent: io_uring is not for us.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "ring.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* All of this takes under a millisecond; a kernel that lets us wait this long is broken. */
#define LIMIT_MS 5000

struct seen {
    struct nr_event event; /* the last one */
    char data[8];
    unsigned gone;
};

static void on_event(void *context, const struct nr_event *event)
{
    struct seen *seen = context;
    if (event->kind == NR_EVENT_GONE) {
        seen->gone++;
        return;
    }
    seen->event = *event;
    if (event->kind == NR_EVENT_DATA && event->length <= sizeof(seen->data))
        memcpy(seen->data, event->data, event->length);
}

/* Harvests until the stream has an event (or `gone` registrations have ended). */
static int wait_event(struct nr_ring *ring, struct seen *seen, unsigned gone)
{
    seen->event.stream = NULL;
    for (;;) {
        int r = nr_ring_harvest(ring, 0, on_event, seen);
        if (r < 0)
            return r;
        if (gone > 0 ? seen->gone == gone : seen->event.stream != NULL)
            return 0;
        struct pollfd eventfd = {.fd = nr_ring_eventfd(ring), .events = POLLIN};
        int ready = poll(&eventfd, 1, LIMIT_MS);
        if (ready == 0)
            return -ETIME;
        if (ready < 0 && errno != EINTR)
            return nr_errno();
    }
}

static int do_read(struct nr_ring *ring, struct nr_stream *stream, int writer, bool nowait)
{
    struct seen seen = {.gone = 0};
    if (!nr_stream_arm(stream))
        return -EBADE; /* an edge from an empty pipe */
    if (write(writer, "probe", 5) != 5)
        return nr_errno();
    int r = wait_event(ring, &seen, 0);
    if (r < 0)
        return r;
    if (!nowait)
        return seen.event.kind == NR_EVENT_READY ? 0 : -EBADE;
    if (seen.event.kind != NR_EVENT_DATA)
        return seen.event.result < 0 ? seen.event.result : -EBADE;
    return seen.event.length == 5 && memcmp(seen.data, "probe", 5) == 0 ? 0 : -EBADMSG;
}

static int do_write(struct nr_ring *ring, struct nr_stream *stream, int reader, bool nowait)
{
    struct seen seen = {.gone = 0};
    stream->out = "eborp";
    stream->out_length = 5;
    /* The pipe is writable from the start, so the edge may already be known. */
    while (!nr_stream_arm(stream))
        nr_stream_begin(stream);
    int r = wait_event(ring, &seen, 0);
    if (r < 0)
        return r;
    if (!nowait)
        return seen.event.kind == NR_EVENT_READY ? 0 : -EBADE;
    if (seen.event.kind != NR_EVENT_WRITTEN || seen.event.result != 5)
        return seen.event.result < 0 ? seen.event.result : -EBADE;
    char data[6];
    if (read(reader, data, sizeof(data)) != 5 || memcmp(data, "eborp", 5) != 0)
        return -EBADMSG;
    return 0;
}

static int fail(const char *step, int error)
{
#ifdef __GLIBC__
    const char *name = strerrorname_np(-error);
    if (name != NULL) {
        printf("error %s %s\n", step, name);
        return 1;
    }
#endif
    printf("error %s %d\n", step, -error);
    return 1;
}

static int probe(struct nr_ring *ring)
{
    int in[2];
    int out[2] = {-EBADF, -EBADF};
    int r = nr_fd_pipe(in);
    NR_CLEANUP_FD int in_reader = nr_fd_take(&in[0]);
    NR_CLEANUP_FD int in_writer = nr_fd_take(&in[1]);
    if (r == 0)
        r = nr_fd_pipe(out);
    NR_CLEANUP_FD int out_reader = nr_fd_take(&out[0]);
    NR_CLEANUP_FD int out_writer = nr_fd_take(&out[1]);
    if (r == 0)
        r = nr_fd_nonblock(in_reader, true);
    if (r == 0)
        r = nr_fd_nonblock(out_writer, true);
    if (r < 0)
        return fail("pipe", r);

    struct nr_ring_info info;
    nr_ring_get_info(ring, &info);
    struct nr_stream reading = {.fd = in_reader, .direction = NR_READ};
    struct nr_stream writing = {.fd = out_writer, .direction = NR_WRITE};
    r = nr_ring_add(ring, &reading);
    if (r < 0)
        return fail("add-read", r);
    r = do_read(ring, &reading, in_writer, info.nowait_pipes);
    if (r < 0)
        return fail("read", r);
    r = nr_ring_add(ring, &writing);
    if (r < 0)
        return fail("add-write", r);
    r = do_write(ring, &writing, out_reader, info.nowait_pipes);
    if (r < 0)
        return fail("write", r);

    struct seen seen = {.gone = 0};
    r = nr_ring_remove(ring, &reading);
    if (r == 0)
        r = nr_ring_remove(ring, &writing);
    if (r == 0)
        r = wait_event(ring, &seen, 2);
    if (r < 0)
        return fail("remove", r);
    printf("ok registered=%d nowait=%d\n", info.registered, info.nowait_pipes);
    return 0;
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    alarm(2 * LIMIT_MS / 1000);
    struct nr_ring *ring;
    const struct nr_ring_options options = {.entries = 0};
    int r = nr_ring_new(&ring, &options);
    if (r < 0)
        return fail("new", r);
    r = probe(ring); /* after a failure streams may be registered: the exit ends them */
    if (r == 0)
        nr_ring_free(ring);
    return r;
}
