/*
 * See ring.h: streams, demands and the harvest. How a ring is made is in ring_setup.c.
 *
 * Edges. A multishot poll tells of a change, once. So an edge is kept (stream->ready) until a
 * system call looked at the pipe after it, and demand meets it in a handshake where both sides
 * first write their own word and then read the other's, all sequentially consistent:
 *
 *     owner     demand = WANTED; then looks at ready      (nr_stream_arm)
 *     harvest   ready = 1;       then looks at demand     (note_edge, take_demand)
 *
 * At least one of them sees the other. If both do, the exchange of WANTED decides. Only the harvest
 * sets ready, and it clears it before its own system call, so that an edge that comes later counts.
 *
 * Rounds. A round of the harvest drains the completion queue into two queues of places (ready,
 * work), turns them into requests and events, submits all requests in one enter, drains again (the
 * moves completed within it: RWF_NOWAIT), and delivers the events with no mutex held. A place has
 * at most one move and one undelivered event; GONE is made only when it has neither.
 *
 * Nothing here trusts that a move completes within its enter: one that does not is simply found by
 * a later drain.
 */
#include "ring.h"

#include "base/error.h"
#include "op.h"
#include "ring_core.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* Events between two looks at the completion queue; bounds the stack. */
#define BATCH 64U
/* Rounds of one harvest: then it says NR_RING_MORE, so that a flood of edges cannot hold a thread. */
#define ROUNDS 64U
/* Attempts at an enter that the kernel refuses for the moment, and at emptying an overflow. */
#define ATTEMPTS 16U
/* Polls of one stream in a row that the kernel may end unasked before we give the stream up. */
#define STRIKES 64U
/* Harvests in a row that find an edge of one stream, and nobody who waits for it, before it falls asleep. To fall asleep and to
 * wake costs two harvests and two requests. */
#define UNHEEDED 16U

/* --- demands: the owner's side ------------------------------------------------------------- */

static bool demand_move(struct nr_stream *stream, enum nr_demand from, enum nr_demand to)
{
    unsigned expected = from;
    return atomic_compare_exchange_strong(&stream->demand, &expected, (unsigned)to);
}

bool nr_stream_arm(struct nr_stream *stream)
{
    if (!demand_move(stream, NR_DEMAND_IDLE, NR_DEMAND_WANTED))
        return true;
    if (atomic_load(&stream->ready) == 0)
        return true;
    return !demand_move(stream, NR_DEMAND_WANTED, NR_DEMAND_IDLE);
}

bool nr_stream_disarm(struct nr_stream *stream)
{
    for (;;) {
        if (demand_move(stream, NR_DEMAND_WANTED, NR_DEMAND_IDLE))
            return true;
        if (demand_move(stream, NR_DEMAND_TAKEN, NR_DEMAND_LEAVING))
            return false;
        /* Between the two looks the harvest may have put the demand back. */
        if (atomic_load(&stream->demand) != NR_DEMAND_WANTED)
            return false;
    }
}

/* --- requests ------------------------------------------------------------------------------ */

static void drain(struct nr_ring *ring);

/* A refusal that passes by itself, or once completions were taken. */
static bool is_passing(int error)
{
    return error == -EAGAIN || error == -EBUSY || error == -EINTR || error == -ENOMEM;
}

/* Hands all prepared requests to the kernel. 0 or -errno: some are still prepared. */
static int flush(struct nr_ring *ring)
{
    for (unsigned refusals = 0; io_uring_sq_ready(&ring->uring) > 0;) {
        ring->enters++;
        int r = io_uring_submit(&ring->uring);
        if (r > 0)
            continue;
        if (r < 0 && !is_passing(r))
            return r;
        if (++refusals == ATTEMPTS)
            return r < 0 ? r : -EAGAIN;
        drain(ring); /* EBUSY: the kernel wants overflowed completions taken first */
    }
    return 0;
}

static struct io_uring_sqe *get_sqe(struct nr_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL && flush(ring) == 0)
        sqe = io_uring_get_sqe(&ring->uring);
    return sqe;
}

void nr_ring_prepare_move(const struct nr_ring *ring, struct io_uring_sqe *sqe,
                          enum nr_direction direction, int fd, uint32_t slot, size_t length)
{
    void *data = nr_slots_at(&ring->slots, slot);
    const uint64_t offset = UINT64_MAX; /* a pipe has none */
    if (ring->slots.registered && direction == NR_READ)
        io_uring_prep_read_fixed(sqe, fd, data, (unsigned)length, offset, (int)slot);
    else if (ring->slots.registered)
        io_uring_prep_write_fixed(sqe, fd, data, (unsigned)length, offset, (int)slot);
    else if (direction == NR_READ)
        io_uring_prep_read(sqe, fd, data, (unsigned)length, offset);
    else
        io_uring_prep_write(sqe, fd, data, (unsigned)length, offset);
    /* O_NONBLOCK on the pipe would not do: the kernel then waits for the pipe on our behalf, and
     * takes bytes when we no longer want them. */
    sqe->rw_flags = RWF_NOWAIT;
}

static void prepare_poll(struct nr_ring *ring, struct io_uring_sqe *sqe, uint32_t index)
{
    struct nr_place *place = &ring->table.places[index];
    const struct nr_stream *stream = place->stream;
    io_uring_prep_poll_multishot(sqe, stream->fd, stream->direction == NR_READ ? POLLIN : POLLOUT);
    io_uring_sqe_set_data64(sqe, nr_op_encode(NR_OP_POLL, place->generation, index));
    place->polling = true;
}

static void prepare_cancel(struct nr_ring *ring, struct io_uring_sqe *sqe, uint32_t index)
{
    struct nr_place *place = &ring->table.places[index];
    /* Not POLL_REMOVE: that one gives up (EALREADY) when an edge is just being handled. */
    io_uring_prep_cancel64(sqe, nr_op_encode(NR_OP_POLL, place->generation, index), 0);
    io_uring_sqe_set_data64(sqe, nr_op_encode(NR_OP_IGNORED, 0, 0));
    place->cancel_due = false;
}

static void prepare_nothing(struct io_uring_sqe *sqe)
{
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data64(sqe, nr_op_encode(NR_OP_IGNORED, 0, 0));
}

/* Something waits that no completion will announce: make a harvest come. One that is under way
 * looks at the note after letting go, as in nr_ring_harvest. */
static void kick(struct nr_ring *ring)
{
    atomic_store(&ring->cut_short, 1U);
    atomic_store(&ring->again, 1U);
    if (atomic_load(&ring->harvesting) == 0)
        (void)eventfd_write(ring->eventfd, 1); /* EAGAIN: it is readable already */
}

/* --- completions --------------------------------------------------------------------------- */

static void note_edge(struct nr_ring *ring, uint32_t index)
{
    atomic_store(&ring->table.places[index].stream->ready, 1U);
    nr_queue_put(&ring->ready, &ring->table, index);
}

static void on_poll(struct nr_ring *ring, struct nr_op_tag tag, const struct io_uring_cqe *cqe)
{
    struct nr_place *place = nr_table_find(&ring->table, tag.index, tag.generation);
    if (place == NULL)
        return;
    if (cqe->res > 0) {
        if (cqe->res & (POLLHUP | POLLERR))
            atomic_store(&place->stream->hung, 1U);
        note_edge(ring, tag.index);
    }
    if (cqe->flags & IORING_CQE_F_MORE) {
        place->strikes = 0;
        return;
    }
    /* The poll has ended: we cancelled it, the completion queue was full, or an edge came after the
     * thread that made it had exited (ECANCELED, too). */
    place->polling = false;
    place->cancel_due = false;
    if (cqe->res != -ECANCELED && ++place->strikes == STRIKES && !place->removing) {
        place->removing = true;
        place->error = cqe->res < 0 ? cqe->res : -EIO;
    }
    nr_queue_put(&ring->work, &ring->table, tag.index);
}

static void on_move(struct nr_ring *ring, struct nr_op_tag tag, const struct io_uring_cqe *cqe)
{
    if (tag.index >= ring->slots.count || ring->moves[tag.index].generation != tag.generation)
        return;
    ring->moves[tag.index].result = cqe->res;
    ring->done[ring->done_count++] = tag.index;
    ring->in_flight--;
}

static bool has_overflow(const struct nr_ring *ring)
{
    return io_uring_cq_has_overflow(&ring->uring);
}

/* Takes every completion there is, those that did not fit into the queue included. */
static void drain(struct nr_ring *ring)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        unsigned head;
        unsigned seen = 0;
        const struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&ring->uring, head, cqe)
        {
            struct nr_op_tag tag = nr_op_decode(cqe->user_data);
            if (tag.kind == NR_OP_POLL)
                on_poll(ring, tag, cqe);
            else if (tag.kind == NR_OP_MOVE)
                on_move(ring, tag, cqe);
            seen++;
        }
        io_uring_cq_advance(&ring->uring, seen);
        if (!has_overflow(ring))
            return;
        ring->overflows++;
        ring->enters++;
        (void)io_uring_get_events(&ring->uring);
    }
}

/* --- registration -------------------------------------------------------------------------- */

/* A poll that the kernel refuses completes within its enter: looks for that among the completions
 * that wait, without taking any. */
static int refusal(struct nr_ring *ring, uint64_t user_data)
{
    unsigned head;
    const struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        if (cqe->user_data == user_data && cqe->res < 0)
            return cqe->res;
    }
    return 0;
}

static int add_locked(struct nr_ring *ring, struct nr_stream *stream)
{
    uint32_t index;
    int r = atomic_load(&ring->broken);
    if (r < 0)
        return r;
    r = nr_table_take(&ring->table, stream, &index);
    if (r < 0)
        return r;
    uint32_t generation = ring->table.places[index].generation;
    stream->index = index;
    stream->generation = generation;
    stream->flags = 0;

    struct io_uring_sqe *sqe = get_sqe(ring);
    if (sqe == NULL) {
        nr_table_return(&ring->table, index);
        return -EBUSY;
    }
    prepare_poll(ring, sqe, index);
    r = flush(ring);
    if (r < 0) {
        /* Requests are consumed in order, so ours, the last, still lies there: blank it. */
        prepare_nothing(sqe);
    } else {
        r = refusal(ring, nr_op_encode(NR_OP_POLL, generation, index));
    }
    if (r < 0) {
        nr_table_return(&ring->table, index);
        return r;
    }
    ring->streams++;
    return 0;
}

/* The queues filled outside a harvest (a flush had to drain), or prepared requests were left. */
static bool has_work(const struct nr_ring *ring)
{
    return !nr_queue_empty(&ring->ready) || !nr_queue_empty(&ring->work) || ring->done_count > 0 ||
           io_uring_sq_ready(&ring->uring) > 0;
}

int nr_ring_add(struct nr_ring *ring, struct nr_stream *stream)
{
    atomic_store(&stream->demand, (unsigned)NR_DEMAND_IDLE);
    atomic_store(&stream->ready, 0U);
    atomic_store(&stream->hung, 0U);
    atomic_store(&stream->asleep, 0U);
    pthread_mutex_lock(&ring->mutex);
    int r = add_locked(ring, stream);
    if (has_work(ring))
        kick(ring);
    pthread_mutex_unlock(&ring->mutex);
    return r;
}

int nr_ring_remove(struct nr_ring *ring, struct nr_stream *stream)
{
    pthread_mutex_lock(&ring->mutex);
    uint32_t index = stream->index;
    struct nr_place *place = nr_table_find(&ring->table, index, stream->generation);
    int r = place != NULL && place->stream == stream ? 0 : -ENOENT;
    if (r == 0 && !place->removing && atomic_load(&ring->broken) == 0) {
        place->removing = true;
        place->cancel_due = place->polling;
        struct io_uring_sqe *sqe = place->polling ? get_sqe(ring) : NULL;
        if (sqe != NULL && place->cancel_due) {
            prepare_cancel(ring, sqe, index);
            (void)flush(ring); /* what cannot go now goes with the next harvest */
        } else {
            if (sqe != NULL)
                prepare_nothing(sqe); /* the poll ended while get_sqe made room */
            nr_queue_put(&ring->work, &ring->table, index);
        }
    }
    if (has_work(ring))
        kick(ring);
    pthread_mutex_unlock(&ring->mutex);
    return r;
}

void nr_ring_wake(struct nr_ring *ring, struct nr_stream *stream)
{
    pthread_mutex_lock(&ring->mutex);
    struct nr_place *place = nr_table_find(&ring->table, stream->index, stream->generation);
    if (place != NULL && place->stream == stream && atomic_exchange(&stream->asleep, 0U) != 0 &&
        !place->removing) {
        /* A cancel that was sent already: its completion brings the place back. */
        place->cancel_due = false;
        nr_queue_put(&ring->work, &ring->table, stream->index);
    }
    if (has_work(ring))
        kick(ring);
    pthread_mutex_unlock(&ring->mutex);
}

/* --- the harvest --------------------------------------------------------------------------- */

struct batch {
    struct nr_event events[BATCH];
    uint32_t slots[BATCH]; /* the slot an event lies in, or NR_SLOTS_NONE */
    unsigned count;
    unsigned expected; /* events that moves in flight will make */
    unsigned room;     /* at most BATCH */
    unsigned gone;
};

static void put_event(struct batch *batch, const struct nr_event *event, uint32_t slot)
{
    batch->slots[batch->count] = slot;
    batch->events[batch->count++] = *event;
}

static bool is_full(const struct batch *batch)
{
    return batch->count + batch->expected >= batch->room;
}

static bool sleeps(const struct nr_place *place)
{
    return !place->removing && atomic_load(&place->stream->asleep) != 0;
}

/* Whether a poll is to be made, or to be cancelled. */
static bool wants_request(const struct nr_place *place)
{
    return place->polling ? place->cancel_due : !place->removing && !sleeps(place);
}

/* Makes registrations again, cancels, reports the end of them. */
static void do_work(struct nr_ring *ring, struct batch *batch)
{
    for (unsigned polls = 0; !is_full(batch) && !nr_queue_empty(&ring->work);) {
        uint32_t index = nr_queue_get(&ring->work, &ring->table);
        struct nr_place *place = &ring->table.places[index];
        struct nr_stream *stream = place->stream;
        if (stream == NULL)
            continue;

        if (wants_request(place)) {
            struct io_uring_sqe *sqe = polls < ring->polls_per_round ? get_sqe(ring) : NULL;
            if (sqe == NULL) {
                nr_queue_put(&ring->work, &ring->table, index);
                return;
            }
            if (!wants_request(place))
                prepare_nothing(
                    sqe); /* the poll ended while get_sqe made room, and is here again */
            else if (place->polling)
                prepare_cancel(ring, sqe, index);
            else
                prepare_poll(ring, sqe, index);
            polls++;
            continue;
        }
        if (place->polling || place->moving || sleeps(place))
            continue; /* the completion, the delivery or the owner brings it back */

        /* A registration that nobody asked to end: whoever waits must look for himself. */
        if (place->error < 0 && demand_move(stream, NR_DEMAND_WANTED, NR_DEMAND_TAKEN)) {
            const struct nr_event event = {
                .stream = stream, .kind = NR_EVENT_READY, .result = place->error};
            put_event(batch, &event, NR_SLOTS_NONE);
            nr_queue_put(&ring->work, &ring->table, index);
            continue;
        }
        const struct nr_event event = {
            .stream = stream, .kind = NR_EVENT_GONE, .result = place->error};
        put_event(batch, &event, NR_SLOTS_NONE);
        batch->gone++;
        nr_table_return(&ring->table, index);
    }
}

/* Whether the ring can do the stream's system call. */
static bool can_move(const struct nr_ring *ring, const struct nr_place *place)
{
    const struct nr_stream *stream = place->stream;
    if (!ring->nowait_pipes || place->plain)
        return false;
    return stream->direction == NR_READ ||
           (stream->out_length > 0 && stream->out_length <= ring->slots.size);
}

static bool start_move(struct nr_ring *ring, uint32_t index)
{
    struct nr_place *place = &ring->table.places[index];
    struct nr_stream *stream = place->stream;
    uint32_t slot = nr_slots_take(&ring->slots);
    if (slot == NR_SLOTS_NONE)
        return false;
    struct io_uring_sqe *sqe = get_sqe(ring);
    if (sqe == NULL) {
        nr_slots_return(&ring->slots, slot);
        return false;
    }
    size_t length = ring->slots.size;
    if (stream->direction == NR_WRITE) {
        length = stream->out_length;
        memcpy(nr_slots_at(&ring->slots, slot), stream->out, length);
    }
    atomic_store(&stream->ready, 0U); /* before the system call: a later edge counts */
    struct nr_move *move = &ring->moves[slot];
    move->place = index;
    move->generation = (move->generation + 1) & NR_OP_GENERATION_MASK;
    nr_ring_prepare_move(ring, sqe, stream->direction, stream->fd, slot, length);
    io_uring_sqe_set_data64(sqe, nr_op_encode(NR_OP_MOVE, move->generation, slot));
    place->moving = true;
    ring->in_flight++;
    return true;
}

/* An edge that was not served. Where nobody waits, nor did when those before it came, the poll ends. The owner writes its demand and then reads
 * `asleep`, so one of us sees the other; a demand that is taken may be put back, by which nobody is woken. */
static void note_unheeded(struct nr_ring *ring, struct nr_place *place, uint32_t index)
{
    struct nr_stream *stream = place->stream;
    if (!place->polling || place->cancel_due || atomic_load(&stream->demand) != NR_DEMAND_IDLE ||
        ++place->unheeded < UNHEEDED)
        return;
    place->unheeded = 0;
    atomic_store(&stream->asleep, 1U);
    if (atomic_load(&stream->demand) != NR_DEMAND_IDLE) {
        atomic_store(&stream->asleep, 0U);
        return;
    }
    place->cancel_due = true;
    nr_queue_put(&ring->work, &ring->table, index);
}

/* Serves the streams that are ready and have demand. Those without keep their edge. */
static void take_demand(struct nr_ring *ring, struct batch *batch)
{
    while (!is_full(batch) && !nr_queue_empty(&ring->ready)) {
        /* More ready streams than slots are served in turns: these slots come back this round. */
        if (nr_slots_in_use(&ring->slots) == ring->slots.count && batch->expected > 0)
            return;
        uint32_t index = nr_queue_get(&ring->ready, &ring->table);
        struct nr_place *place = &ring->table.places[index];
        struct nr_stream *stream = place->stream;
        if (stream == NULL || place->removing)
            continue;
        if (!demand_move(stream, NR_DEMAND_WANTED, NR_DEMAND_TAKEN)) {
            note_unheeded(ring, place, index);
            continue;
        }
        place->unheeded = 0;
        if (can_move(ring, place) && start_move(ring, index)) {
            batch->expected++;
            continue;
        }
        const struct nr_event event = {.stream = stream, .kind = NR_EVENT_READY};
        put_event(batch, &event, NR_SLOTS_NONE);
    }
}

/* Whether the pipe may still be ready although no new edge will tell: the slot was the limit, or
 * the end of the pipe was met, or the call failed. */
static bool may_be_ready(const struct nr_ring *ring, const struct nr_stream *stream, int result)
{
    if (result <= 0)
        return true;
    size_t limit = stream->direction == NR_READ ? ring->slots.size : stream->out_length;
    return (size_t)result >= limit;
}

/* The event that a finished move makes. */
static struct nr_event move_event(const struct nr_ring *ring, const struct nr_place *place,
                                  uint32_t slot)
{
    struct nr_stream *stream = place->stream;
    int result = ring->moves[slot].result;
    struct nr_event event = {
        .stream = stream,
        .kind = NR_EVENT_READY,
        .result = result,
    };
    if (result >= 0 && stream->direction == NR_READ) {
        event.kind = NR_EVENT_DATA;
        event.fixed = ring->slots.registered;
        event.data = nr_slots_at(&ring->slots, slot);
        event.length = (size_t)result;
        event.more = may_be_ready(ring, stream, result);
    } else if (stream->direction == NR_WRITE && (result >= 0 || result == -EPIPE)) {
        event.kind = NR_EVENT_WRITTEN;
        event.fixed = ring->slots.registered;
    }
    return event;
}

/* Turns finished moves into events; those that found nothing put their demand back. */
static void finish_moves(struct nr_ring *ring, struct batch *batch)
{
    unsigned taken = 0;
    while (taken < ring->done_count && batch->count < batch->room) {
        uint32_t slot = ring->done[taken++];
        uint32_t index = ring->moves[slot].place;
        struct nr_place *place = &ring->table.places[index];
        struct nr_stream *stream = place->stream;
        int result = ring->moves[slot].result;
        place->moving = false;
        if (!place->polling)
            nr_queue_put(&ring->work, &ring->table, index); /* GONE may have waited for this */
        if (result == -EAGAIN && demand_move(stream, NR_DEMAND_TAKEN, NR_DEMAND_WANTED)) {
            nr_slots_return(&ring->slots, slot);
            if (atomic_load(&stream->ready) != 0)
                nr_queue_put(&ring->ready, &ring->table, index);
            continue;
        }
        if (result == -EOPNOTSUPP)
            place->plain = true;
        if (result != -EAGAIN && may_be_ready(ring, stream, result))
            atomic_store(&stream->ready, 1U);
        if (result >= 0)
            (*(ring->slots.registered ? &ring->fixed : &ring->unfixed))++;
        const struct nr_event event = move_event(ring, place, slot);
        put_event(batch, &event, slot);
    }
    ring->done_count -= taken;
    memmove(ring->done, ring->done + taken, ring->done_count * sizeof(*ring->done));
}

static int submit_and_collect(struct nr_ring *ring)
{
    int r = flush(ring);
    drain(ring);
    for (unsigned i = 0; r == 0 && ring->in_flight > 0 && i < ATTEMPTS; i++) {
        ring->enters++;
        (void)io_uring_get_events(&ring->uring);
        drain(ring);
    }
    return r;
}

/* Called with the mutex held; lets go of it meanwhile. */
static void deliver(struct nr_ring *ring, const struct batch *batch, nr_event_fn *fn, void *context)
{
    if (batch->count == 0)
        return;
    ring->events += batch->count;
    pthread_mutex_unlock(&ring->mutex);
    for (unsigned i = 0; i < batch->count; i++) {
        const struct nr_event *event = &batch->events[i];
        atomic_store(&event->stream->demand, (unsigned)NR_DEMAND_IDLE);
        fn(context, event);
    }
    pthread_mutex_lock(&ring->mutex);
    for (unsigned i = 0; i < batch->count; i++)
        if (batch->slots[i] != NR_SLOTS_NONE)
            nr_slots_return(&ring->slots, batch->slots[i]);
    ring->streams -= batch->gone;
}

/* One round; the number of events delivered, or -errno. */
static int do_round(struct nr_ring *ring, unsigned room, nr_event_fn *fn, void *context)
{
    struct batch batch;
    batch.count = 0;
    batch.expected = 0;
    batch.gone = 0;
    batch.room = room < BATCH ? room : BATCH;

    drain(ring);
    do_work(ring, &batch);
    take_demand(ring, &batch);
    int r =
        io_uring_sq_ready(&ring->uring) > 0 || ring->in_flight > 0 ? submit_and_collect(ring) : 0;
    finish_moves(ring, &batch);
    deliver(ring, &batch, fn, context);
    return r < 0 ? r : (int)batch.count;
}

/* The kernel refuses this ring for good: every stream gets its last event, and its owner waits
 * otherwise from now on. A move that was prepared and never submitted took nothing from its pipe. */
static int give_up(struct nr_ring *ring, int error, nr_event_fn *fn, void *context)
{
    struct batch batch = {.room = BATCH};
    atomic_store(&ring->broken, error);
    while (ring->done_count > 0) {
        batch.count = 0;
        finish_moves(ring, &batch);
        deliver(ring, &batch, fn, context);
    }
    nr_slots_return_all(&ring->slots);
    ring->in_flight = 0;
    batch.count = 0;
    for (uint32_t index = 0; index < ring->table.count; index++) {
        struct nr_stream *stream = ring->table.places[index].stream;
        if (stream != NULL) {
            const struct nr_event event = {
                .stream = stream, .kind = NR_EVENT_GONE, .result = error};
            put_event(&batch, &event, NR_SLOTS_NONE);
            batch.gone++;
            nr_table_return(&ring->table, index);
        }
        if (batch.count == BATCH || index + 1 == ring->table.count) {
            deliver(ring, &batch, fn, context);
            batch.count = 0;
            batch.gone = 0;
        }
    }
    return error;
}

static bool has_completions(const struct nr_ring *ring)
{
    unsigned tail = __atomic_load_n(ring->uring.cq.ktail, __ATOMIC_ACQUIRE);
    return tail != __atomic_load_n(ring->uring.cq.khead, __ATOMIC_RELAXED) || has_overflow(ring);
}

/* Orders our store that unmutes the eventfd before our look at the completion queue, against the
 * kernel's store of a completion before its look at the mute flag. */
static void full_fence(void)
{
#ifdef __SANITIZE_THREAD__
    /* ThreadSanitizer does not know fences; it does not know the kernel's accesses either. */
    static _Atomic unsigned word;
    atomic_fetch_add(&word, 1U);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static void mute(struct nr_ring *ring)
{
    if (ring->quiet)
        return;
    (void)io_uring_cq_eventfd_toggle(&ring->uring, false); /* before 5.8: only more wakes */
    eventfd_t value;
    (void)eventfd_read(ring->eventfd, &value);
}

static void unmute(struct nr_ring *ring)
{
    if (ring->quiet)
        return;
    (void)io_uring_cq_eventfd_toggle(&ring->uring, true);
    full_fence();
}

/* With the mutex held. 0, NR_RING_MORE or -errno. */
static int harvest_locked(struct nr_ring *ring, unsigned *budget, nr_event_fn *fn, void *context)
{
    int result = atomic_load(&ring->broken);
    bool muted = false;
    if (result < 0)
        return result;
    ring->harvests++;
    for (unsigned rounds = 0; rounds<ROUNDS && * budget> 0; rounds++) {
        if (!muted)
            mute(ring);
        muted = true;
        int r = do_round(ring, *budget, fn, context);
        if (r < 0 && !is_passing(r))
            return give_up(ring, r, fn, context);
        if (r < 0) {
            result = NR_RING_MORE;
            break;
        }
        *budget -= (unsigned)r;
        if (has_work(ring) || has_completions(ring))
            continue;
        unmute(ring);
        muted = false;
        if (!has_completions(ring))
            break;
    }
    if (muted)
        unmute(ring);
    if (result == 0 && (has_work(ring) || has_completions(ring)))
        result = NR_RING_MORE;
    atomic_store(&ring->cut_short, result != 0 ? 1U : 0U);
    /* A caller that only passed by may ignore NR_RING_MORE: whoever watches the eventfd comes. */
    if (result == NR_RING_MORE)
        (void)eventfd_write(ring->eventfd, 1);
    return result;
}

int nr_ring_harvest(struct nr_ring *ring, unsigned limit, nr_event_fn *fn, void *context)
{
    unsigned budget = limit > 0 ? limit : 256U;
    for (;;) {
        /* Who comes second leaves a note before trying: if the try fails, whoever holds the harvest
         * reads the note after letting go. */
        atomic_store(&ring->again, 1U);
        if (atomic_exchange(&ring->harvesting, 1U) != 0)
            return 0;
        atomic_store(&ring->again, 0U);
        pthread_mutex_lock(&ring->mutex);
        int r = harvest_locked(ring, &budget, fn, context);
        pthread_mutex_unlock(&ring->mutex);
        atomic_store(&ring->harvesting, 0U);
        if (r != 0)
            return r;
        if (atomic_load(&ring->again) == 0)
            return 0;
    }
}

void nr_ring_set_quiet(struct nr_ring *ring, bool quiet)
{
    pthread_mutex_lock(&ring->mutex);
    if (quiet && !ring->quiet) {
        mute(ring);
        ring->quiet = true;
    } else if (!quiet && ring->quiet) {
        ring->quiet = false;
        unmute(ring);
        if (has_work(ring) || has_completions(ring))
            (void)eventfd_write(ring->eventfd, 1);
    }
    pthread_mutex_unlock(&ring->mutex);
}

/* --- looks --------------------------------------------------------------------------------- */

int nr_ring_eventfd(const struct nr_ring *ring)
{
    return ring->eventfd;
}

bool nr_ring_pending(const struct nr_ring *ring)
{
    if (atomic_load(&ring->broken) < 0)
        return false;
    if (has_completions(ring) || atomic_load(&ring->cut_short) != 0)
        return true;
    return ring->coop_taskrun &&
           (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

void nr_ring_get_info(struct nr_ring *ring, struct nr_ring_info *info)
{
    pthread_mutex_lock(&ring->mutex);
    *info = (struct nr_ring_info){
        .slots = ring->slots.count,
        .slots_in_use = nr_slots_in_use(&ring->slots),
        .streams = ring->streams,
        .registered = ring->slots.registered,
        .nowait_pipes = ring->nowait_pipes,
        .harvests = ring->harvests,
        .enters = ring->enters,
        .fixed = ring->fixed,
        .unfixed = ring->unfixed,
        .overflows = ring->overflows,
        .events = ring->events,
    };
    pthread_mutex_unlock(&ring->mutex);
}
