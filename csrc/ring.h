/*
 * The ring core: one io_uring instance with a pool of registered slots and a table of streams.
 *
 * A stream is one pipe end of ours (non-blocking, one direction). It is registered once, by one
 * multishot POLL_ADD for as long as somebody waits for it now and then; nothing is armed again per wait. A wait is a *demand*, an atomic
 * in the stream. The harvest drains the completion queue, and for every ready stream that has
 * demand does one READ_FIXED | RWF_NOWAIT (or WRITE_FIXED | RWF_NOWAIT) between the pipe and a
 * registered slot, all of them in one io_uring_enter, which completes inline.
 *
 * Whoever wants the BEAM's view looks in backend_ring.c: this room never includes erl_nif.h, and
 * its tests run without a BEAM.
 *
 * Threads. nr_ring_add, _remove, _wake, _harvest: any thread, they take the ring's short mutex. _arm,
 * _disarm, _begin: the thread that runs the stream's one reader or writer; lock-free. Events are
 * delivered by nr_ring_harvest on its caller's thread, one harvest at a time per ring, with no
 * mutex held, so that a callback may send messages and free memory (but must not call _harvest of
 * the same ring; it may call _add, _remove, _arm, _disarm).
 *
 * Ownership. A stream is embedded in its owner and stays valid and unmoved from nr_ring_add until
 * its NR_EVENT_GONE. The descriptor stays open that long too: whoever gets GONE closes it.
 */
#ifndef NR_RING_H
#define NR_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nr_ring;

enum nr_direction {
    NR_READ = 0,
    NR_WRITE = 1,
};

/* The states of nr_stream.demand. The owner moves IDLE -> WANTED (arm), WANTED -> IDLE (disarm),
 * TAKEN -> LEAVING (disarm, too late); the harvest moves WANTED -> TAKEN, TAKEN -> IDLE (an event
 * was made), TAKEN -> WANTED (the pipe was not ready after all), LEAVING -> IDLE (an event was
 * made: always, so that the owner's wait for it ends). */
enum nr_demand {
    NR_DEMAND_IDLE = 0,
    NR_DEMAND_WANTED = 1,
    NR_DEMAND_TAKEN = 2,
    NR_DEMAND_LEAVING = 3,
};

struct nr_stream {
    int fd; /* borrowed */
    enum nr_direction direction;
    void *owner; /* the caller's */

    /* For a write demand: the bytes that wait, borrowed from arm until the event or a successful
     * disarm. Length 0, or above the slot size: only readiness is wanted (NR_EVENT_READY). */
    const void *out;
    size_t out_length;

    _Atomic unsigned demand; /* enum nr_demand */
    _Atomic unsigned ready;  /* an edge came that no system call has looked at since */
    _Atomic unsigned hung; /* an edge told of the other side's end: no edge need ever come again */
    _Atomic unsigned asleep; /* its poll was ended, as nobody waited: who arms wakes it */

    uint32_t index;      /* place in the ring's table; the ring's */
    uint32_t generation; /* the ring's */
    unsigned flags;      /* the ring's */
};

enum nr_event_kind {
    NR_EVENT_READY, /* do your own system call: no slot was free, nothing fits, or an error */
    NR_EVENT_DATA, /* a read: `length` bytes at `data` (a slot, valid during the callback); 0 = EOF */
    NR_EVENT_WRITTEN, /* a write: result is the bytes taken (may be short), or -errno */
    NR_EVENT_GONE,    /* the registration ended; the last event of a stream. result: 0, or -errno
                       * when the kernel refuses to poll, or the whole ring, for good */
};

struct nr_event {
    struct nr_stream *stream;
    enum nr_event_kind kind;
    int result; /* bytes or -errno */
    const void *data;
    size_t length;
    bool more;  /* a read: the pipe may hold more, of which no edge tells */
    bool fixed; /* through a registered slot, rather than an unregistered one */
};

typedef void nr_event_fn(void *context, const struct nr_event *event);

struct nr_ring_options {
    size_t slot_size;    /* bytes, 0: 16384 */
    unsigned entries;    /* submission queue, 0: 128 */
    unsigned cq_entries; /* completion queue, 0: 4096 */
    unsigned slots;      /* 0: 64 */
    bool coop_taskrun;   /* IORING_SETUP_COOP_TASKRUN | TASKRUN_FLAG where the kernel knows them */
    bool no_register;    /* tests: behave as if buffer registration had been refused */
};

struct nr_ring_info {
    unsigned slots;
    unsigned slots_in_use;
    unsigned streams;  /* registered, GONE not yet delivered */
    bool registered;   /* slots are registered buffers */
    bool nowait_pipes; /* pipes accept RWF_NOWAIT; else every event is READY */
    uint64_t harvests;
    uint64_t enters;    /* io_uring_enter calls */
    uint64_t fixed;     /* reads and writes through registered slots; -EAGAIN is not counted */
    uint64_t unfixed;   /* through unregistered ones */
    uint64_t overflows; /* completion queue overflows seen */
    uint64_t events;    /* delivered */
};

/* Makes a ring, its eventfd (non-blocking, close-on-exec) and its slots (mmap'd, MADV_DONTFORK),
 * and finds out by doing whether pipes accept RWF_NOWAIT. Call on a thread that may block (slot
 * registration pins memory). 0; NR_RING_UNREGISTERED when the ring works but the slots could not be
 * registered (EPERM, ENOMEM under RLIMIT_MEMLOCK); or -errno, with *out NULL and nothing left. */
#define NR_RING_UNREGISTERED 1
int nr_ring_new(struct nr_ring **out, const struct nr_ring_options *options);

/* Ends the ring. No stream may be registered. Accepts NULL. */
void nr_ring_free(struct nr_ring *ring);

/* The eventfd that becomes readable when completions wait. Owned by the ring. */
int nr_ring_eventfd(const struct nr_ring *ring);

/* Whether the eventfd is left alone: for who comes by the clock, and to whom it says nothing. Back again, it is readable if completions wait.
 * Called by who harvests, not within a harvest. */
void nr_ring_set_quiet(struct nr_ring *ring, bool quiet);

/* Cheap look (no system call): completions wait, or a harvest was cut short. */
bool nr_ring_pending(const struct nr_ring *ring);

/* Registers a stream whose fd, direction and owner are set; sets the rest. Arm only afterwards.
 * 0 or -errno (nothing registered). */
int nr_ring_add(struct nr_ring *ring, struct nr_stream *stream);

/* Cancels the registration: GONE follows from a harvest; a demand that is not taken by then ends
 * without another event. A second call does nothing. 0, or -ENOENT: not registered. */
int nr_ring_remove(struct nr_ring *ring, struct nr_stream *stream);

/* A stream that is read without waiting makes edges that nobody wants, each of them a wake and a harvest. After 16 harvests in a
 * row that found one it falls asleep: its poll ends. This makes the poll again, which tells of what is there. Does nothing to who is awake. */
void nr_ring_wake(struct nr_ring *ring, struct nr_stream *stream);

/* Before the owner's own read(2) or write(2): forgets the edge that made it look. Without this, an
 * arm after EAGAIN would find a stale edge. */
static inline void nr_stream_begin(struct nr_stream *stream)
{
    atomic_store(&stream->ready, 0U);
}

/* Whether nr_ring_wake is due: to be asked after each arm that gave true. */
static inline bool nr_stream_is_asleep(struct nr_stream *stream)
{
    return atomic_load(&stream->asleep) != 0;
}

/* Whether an edge, and with it an event for who has armed, will tell of the next bytes in a pipe that was found empty. */
static inline bool nr_stream_will_tell(struct nr_stream *stream)
{
    return atomic_load(&stream->hung) == 0 && !nr_stream_is_asleep(stream);
}

/* After EAGAIN: places a demand. true: armed (or already taken), one event will come. false: an
 * edge came since nr_stream_begin, no demand is left, try the system call again. */
bool nr_stream_arm(struct nr_stream *stream);

/* Takes the demand back. true: no event will come. false: one is on its way (it comes without
 * anybody's help), or was delivered already. */
bool nr_stream_disarm(struct nr_stream *stream);

/* Drains the completion queue and serves ready streams that have demand, calling `fn` for each
 * event. Returns at once if another thread harvests (that thread looks again before it leaves).
 * Also reads the eventfd. At most `limit` events (0: 256), then NR_RING_MORE: call again soon; the
 * eventfd is made readable too, so that who merely passed by may leave it at that.
 * 0, NR_RING_MORE or -errno: the kernel refused the ring for good. Then every stream has had its GONE,
 * nr_ring_add gives that errno, and no harvest does anything any more. */
#define NR_RING_MORE 1
int nr_ring_harvest(struct nr_ring *ring, unsigned limit, nr_event_fn *fn, void *context);

void nr_ring_get_info(struct nr_ring *ring, struct nr_ring_info *info);

#endif
