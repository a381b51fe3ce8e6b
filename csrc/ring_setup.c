/*
 * See ring.h: how a ring is made and ended.
 *
 * Nothing is decided by a kernel version. A new ring does, on a pipe of its own, what it will be
 * asked to do later: one multishot poll with an edge and a cancellation, one write and one read
 * through a slot, one read of an empty pipe. What the kernel answers is what the ring believes.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "op.h"
#include "ring_core.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_ENTRIES    128U
#define DEFAULT_CQ_ENTRIES 4096U
#define MODEST_ENTRIES     32U /* about 16 KiB of memory */
#define MODEST_CQ_ENTRIES  512U
#define DEFAULT_SLOTS      64U
#define DEFAULT_SLOT_SIZE  16384U

/* Flags of younger kernels go first when one is refused: 5.19, then 5.18. */
static int queue_init(struct nr_ring *ring, unsigned entries, unsigned cq_entries, bool coop)
{
    const unsigned base = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    const unsigned attempts[] = {
        base | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        base | IORING_SETUP_SUBMIT_ALL,
        base,
    };
    int r = -EINVAL;
    for (unsigned i = coop ? 0 : 1; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        struct io_uring_params params = {.flags = attempts[i], .cq_entries = cq_entries};
        r = io_uring_queue_init_params(entries, &ring->uring, &params);
        if (r == -EINVAL)
            continue;
        if (r < 0)
            return r;
        /* Without it a full completion queue loses completions: no byte may hang on that. */
        if (!(params.features & IORING_FEAT_NODROP)) {
            io_uring_queue_exit(&ring->uring);
            return -EOPNOTSUPP;
        }
        ring->coop_taskrun = (attempts[i] & IORING_SETUP_COOP_TASKRUN) != 0;
        unsigned half = params.cq_entries / 2;
        ring->polls_per_round = half > 0 ? half : 1;
        return 0;
    }
    return r;
}

/* Submits what was prepared and gives back the completion of `user_data`, which must have come
 * within the call (an operation that waits is a failed trial: -ETIME). Others are dropped. */
static int trial_result(struct io_uring *uring, uint64_t user_data, struct io_uring_cqe *result)
{
    int r = io_uring_submit(uring);
    if (r < 0)
        return r;
    r = io_uring_get_events(uring);
    if (r < 0)
        return r;
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(uring, &cqe) == 0) {
        bool found = cqe->user_data == user_data;
        *result = *cqe;
        io_uring_cqe_seen(uring, cqe);
        if (found)
            return 0;
    }
    return -ETIME;
}

static int trial_move(struct nr_ring *ring, enum nr_direction direction, int fd, size_t length)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL)
        return -EBUSY;
    uint64_t tag = nr_op_encode(NR_OP_MOVE, 0, 0);
    nr_ring_prepare_move(ring, sqe, direction, fd, 0, length);
    io_uring_sqe_set_data64(sqe, tag);
    struct io_uring_cqe cqe = {.res = 0};
    int r = trial_result(&ring->uring, tag, &cqe);
    return r < 0 ? r : cqe.res;
}

static int trial_poll(struct nr_ring *ring, const int pipe_fds[2])
{
    uint64_t tag = nr_op_encode(NR_OP_POLL, 0, 0);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL)
        return -EBUSY;
    io_uring_prep_poll_multishot(sqe, pipe_fds[0], POLLIN);
    io_uring_sqe_set_data64(sqe, tag);
    int r = io_uring_submit(&ring->uring);
    if (r < 0)
        return r;
    if (write(pipe_fds[1], "p", 1) != 1)
        return nr_errno();
    struct io_uring_cqe cqe = {.res = 0};
    r = trial_result(&ring->uring, tag, &cqe);
    if (r < 0)
        return r;
    if (cqe.res < 0)
        return cqe.res; /* EINVAL before 5.13: no multishot poll */
    if (!(cqe.flags & IORING_CQE_F_MORE))
        return -EOPNOTSUPP;

    sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL)
        return -EBUSY;
    io_uring_prep_cancel64(sqe, tag, 0);
    io_uring_sqe_set_data64(sqe, nr_op_encode(NR_OP_IGNORED, 0, 0));
    r = trial_result(&ring->uring, tag, &cqe);
    if (r < 0)
        return r;
    return cqe.flags & IORING_CQE_F_MORE ? -EOPNOTSUPP : 0;
}

/* Sets nowait_pipes. 0 or -errno: the ring cannot be used at all. */
static int trial(struct nr_ring *ring)
{
    int fds[2];
    int r = nr_fd_pipe(fds);
    if (r < 0)
        return r;
    NR_CLEANUP_FD int reader = nr_fd_take(&fds[0]);
    NR_CLEANUP_FD int writer = nr_fd_take(&fds[1]);
    const int both[2] = {reader, writer};
    r = nr_fd_nonblock(reader, true);
    if (r == 0)
        r = nr_fd_nonblock(writer, true);
    if (r == 0)
        r = trial_poll(ring, both); /* leaves one byte in the pipe */
    if (r < 0)
        return r;

    int written = trial_move(ring, NR_WRITE, writer, 1);
    if (written == -EOPNOTSUPP || written == -EINVAL)
        return 0; /* before 6.5 pipes refuse RWF_NOWAIT: readiness only */
    if (written != 1)
        return written < 0 ? written : -EIO;
    int got = trial_move(ring, NR_READ, reader, 2);
    if (got == -EOPNOTSUPP || got == -EINVAL)
        return 0;
    if (got != 2)
        return got < 0 ? got : -EIO;
    int empty = trial_move(ring, NR_READ, reader, 1);
    if (empty != -EAGAIN)
        return empty < 0 ? empty : -EIO;
    ring->nowait_pipes = true;
    return 0;
}

static int make_eventfd(struct nr_ring *ring)
{
    ring->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ring->eventfd < 0) {
        ring->eventfd = -EBADF;
        return nr_errno();
    }
    return io_uring_register_eventfd(&ring->uring, ring->eventfd);
}

static int make_tables(struct nr_ring *ring, unsigned slots, size_t slot_size)
{
    int r = nr_slots_init(&ring->slots, slots, slot_size);
    if (r < 0)
        return r;
    ring->moves = calloc(slots, sizeof(*ring->moves));
    ring->done = calloc(slots, sizeof(*ring->done));
    return ring->moves != NULL && ring->done != NULL ? 0 : -ENOMEM;
}

/* Everything of a ring except the queues and the mutex; half-built rings are fine. */
static void release(struct nr_ring *ring, struct io_uring *uring)
{
    nr_slots_end(&ring->slots, uring);
    nr_table_end(&ring->table);
    free(ring->moves);
    free(ring->done);
    ring->eventfd = nr_fd_close(ring->eventfd);
}

int nr_ring_new(struct nr_ring **out, const struct nr_ring_options *options)
{
    *out = NULL;
    unsigned entries = options->entries > 0 ? options->entries : DEFAULT_ENTRIES;
    unsigned cq_entries = options->cq_entries > 0 ? options->cq_entries : DEFAULT_CQ_ENTRIES;
    unsigned slots = options->slots > 0 ? options->slots : DEFAULT_SLOTS;
    size_t slot_size = options->slot_size > 0 ? options->slot_size : DEFAULT_SLOT_SIZE;
    bool refused = options->no_register;
    if (cq_entries < entries)
        cq_entries = entries; /* the kernel insists */

    struct nr_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL)
        return -ENOMEM;
    ring->eventfd = -EBADF;
    nr_table_init(&ring->table);
    nr_queue_init(&ring->ready, NR_QUEUE_READY);
    nr_queue_init(&ring->work, NR_QUEUE_WORK);

    struct io_uring *uring = NULL;
    int r = -pthread_mutex_init(&ring->mutex, NULL);
    if (r < 0)
        goto fail_early;
    r = make_tables(ring, slots, slot_size);
    if (r < 0)
        goto fail;
    r = queue_init(ring, entries, cq_entries, options->coop_taskrun);
    if (r == -ENOMEM) /* 6.18 counts the queues against RLIMIT_MEMLOCK, too */
        r = queue_init(ring, MODEST_ENTRIES, MODEST_CQ_ENTRIES, options->coop_taskrun);
    if (r < 0)
        goto fail;
    uring = &ring->uring;
    r = nr_fd_cloexec(uring->ring_fd, true);
    if (r < 0)
        goto fail;
    (void)io_uring_ring_dontfork(uring);
    if (!refused) {
        r = nr_slots_register(&ring->slots, uring);
        if (r < 0)
            goto fail;
        refused = r == NR_SLOTS_REFUSED;
    }
    r = trial(ring);
    if (r < 0)
        goto fail;
    r = make_eventfd(ring); /* after the trial: nothing of it is announced */
    if (r < 0)
        goto fail;
    *out = ring;
    return refused ? NR_RING_UNREGISTERED : 0;

fail:
    pthread_mutex_destroy(&ring->mutex);
fail_early:
    release(ring, uring);
    if (uring != NULL)
        io_uring_queue_exit(uring);
    free(ring);
    return r;
}

void nr_ring_free(struct nr_ring *ring)
{
    if (ring == NULL)
        return;
    (void)io_uring_unregister_eventfd(&ring->uring);
    release(ring, &ring->uring);
    io_uring_queue_exit(&ring->uring);
    pthread_mutex_destroy(&ring->mutex);
    free(ring);
}
