/*
 * Waiting through io_uring: one ring per normal scheduler thread, each with a NetRunner.Reaper that
 * ERTS tells (enif_select on the ring's eventfd) when completions wait.
 *
 * The rings are made once, by NetRunner.Backend at start, on a dirty scheduler (registering slots
 * pins memory). They live until the node ends, with one resource each that never is collected.
 *
 * A handle registers its stream at its first wait, on the ring of the scheduler that runs it, and
 * stays there; in :auto it goes back to enif_select if that ring does not pay. What a harvest finds is kept in the handle (`late` bytes, `written`, `eof`) and its
 * waiter gets {ref, :ready}; the next read or write call picks it up.
 */
#include "atoms.h"
#include "backend.h"
#include "base/error.h"
#include "ring.h"
#include "term.h"

#include <erl_nif.h>
#include <stdlib.h>
#include <string.h>

#define RINGS_MAX 1024

/* :auto moves a handle to the ring when this many different handles wait again within the window
 * on one scheduler: design.md, "The rule for :auto". */
#define AUTO_STREAMS   3
#define AUTO_WINDOW_US 256

/* A wake of a reaper is a message, a process's turn and four system calls, where enif_select has two per
 * stream: a ring whose wakes find fewer events than this does not pay (docs/decisions/0005), and in :auto
 * nothing waits on it for a while, longer each time. */
#define THIN_EVENTS   4
#define THIN_WAKES    64 /* the mean is taken over so many */
#define THIN_FIRST_US 1000000
#define THIN_LAST_US  64000000

/* A ring ticks, its reaper comes each millisecond and nothing wakes it in between, where that serves so many events each time and nobody waits
 * who is in a hurry: whose waits are less than HURRY_US apart, which is who answers (docs/decisions/0019). Looked at once in so long. */
#define TICK_EVENTS    2 /* in a millisecond */
#define HURRY_US       4000
#define PACE_US        1000000 /* longer pauses say no more */
#define TICK_WINDOW_US 16000

/* In :auto all who have time move to the ring of a scheduler that sees so many of their waits, for so long after that a ring is not thin. */
#define CROWD_US 100000

struct nr_ring_resource {
    struct nr_ring *ring;

    /* The reaper's, as nothing else comes for a ring's messages. */
    unsigned wakes;
    uint64_t events; /* when they were counted last */
    ErlNifTime rest_us;
    ErlNifTime window;      /* when it began */
    uint64_t window_events; /* before it */

    _Atomic bool ticks;
    _Atomic ErlNifTime hurried_at; /* microseconds: somebody in a hurry waited on it last */
    _Atomic ErlNifTime crowded_at; /* its scheduler last saw as many waits as make it tick */

    _Atomic ErlNifTime thin_until; /* enif_monotonic_time, microseconds */
};

static ErlNifResourceType *ring_type;
static struct nr_ring_resource *rings[RINGS_MAX];
static _Atomic unsigned rings_made; /* written once, after the array */
static _Atomic unsigned next_thread;

/* What a scheduler thread has seen of waits lately, for :auto. */
struct recent {
    ErlNifTime since;
    const struct nr_handle *handles[AUTO_STREAMS];
    unsigned count;
    ErlNifTime window; /* of waits of those who have time */
    unsigned waits;
    bool is_crowded; /* the last window was */
};

static _Thread_local int thread_index = -1;
static _Thread_local struct recent recent;

static struct nr_ring_resource *my_ring(void)
{
    unsigned made = atomic_load(&rings_made);
    if (made == 0)
        return NULL;
    /* A dirty scheduler never submits on its own account: it shares the first ring. */
    if (enif_thread_type() != ERL_NIF_THR_NORMAL_SCHEDULER)
        return rings[0];
    if (thread_index < 0)
        thread_index = (int)(atomic_fetch_add(&next_thread, 1U) % RINGS_MAX);
    return rings[(unsigned)thread_index % made];
}

static void on_data(struct nr_handle *handle, const struct nr_event *event)
{
    if (event->result < 0)
        return; /* the reader's own read(2) will meet the error */
    if (event->length == 0) {
        handle->eof = true;
        return;
    }
    if (!enif_alloc_binary(event->length, &handle->late)) {
        handle->lost = -ENOMEM; /* bytes taken from the pipe cannot be given back */
        return;
    }
    memcpy(handle->late.data, event->data, event->length);
    handle->emptied = !event->more;
    handle->late_offset = 0;
    handle->has_late = true;
}

/* Ends the wait in progress, mutex held: true if its message is to be sent after unlocking. */
static bool take_waiter(ErlNifEnv *env, struct nr_handle *handle, ErlNifPid *pid, ERL_NIF_TERM *ref)
{
    if (!handle->waiting || handle->in_queue)
        return false;
    *pid = handle->waiter;
    *ref = enif_make_copy(env, handle->wait_ref);
    handle->waiting = false;
    return true;
}

static void on_gone(ErlNifEnv *env, struct nr_handle *handle)
{
    ErlNifPid pid;
    ERL_NIF_TERM ref = 0;
    enif_mutex_lock(handle->mutex);
    bool open = atomic_load(&handle->state) == NR_HANDLE_OPEN;
    bool notify = false;
    if (open && handle->leaving) {
        handle->leaving = false;
        atomic_fetch_and(&handle->holders, ~(unsigned)NR_HOLDER_RING);
    } else if (open) {
        /* Unasked: the kernel gave the poll up. An open handle goes on without a ring. */
        notify = take_waiter(env, handle, &pid, &ref);
        handle->backend = &nr_backend_poll;
        handle->mode = NR_MODE_POLL;
        atomic_fetch_and(&handle->holders, ~(unsigned)NR_HOLDER_RING);
    }
    enif_mutex_unlock(handle->mutex);
    if (notify)
        nr_handle_notify(env, &pid, ref);
    if (!open)
        nr_handle_release(handle, NR_HOLDER_RING);
    enif_release_resource(handle); /* the registration's reference */
}

static void on_event(void *context, const struct nr_event *event)
{
    ErlNifEnv *env = context;
    struct nr_handle *handle = event->stream->owner;

    if (event->kind == NR_EVENT_GONE) {
        on_gone(env, handle);
        return;
    }

    ErlNifPid pid;
    ERL_NIF_TERM ref = 0;
    enif_mutex_lock(handle->mutex);
    handle->unseen = false;
    handle->emptied = false;
    if (event->kind == NR_EVENT_DATA && atomic_load(&handle->state) == NR_HANDLE_OPEN)
        on_data(handle, event);
    if (event->kind == NR_EVENT_WRITTEN) {
        handle->has_written = true;
        handle->written = event->result;
        if (event->result > 0)
            handle->stats.bytes += (uint64_t)event->result;
    }
    if (event->kind != NR_EVENT_READY) {
        if (event->fixed)
            handle->stats.fixed++;
        else
            handle->stats.unfixed++;
    }
    bool notify = take_waiter(env, handle, &pid, &ref);
    enif_mutex_unlock(handle->mutex);
    if (notify)
        nr_handle_notify(env, &pid, ref);
}

static bool is_hurried(const struct nr_handle *handle)
{
    return handle->pace < HURRY_US;
}

static int ring_arm(ErlNifEnv *env, struct nr_handle *handle, const void *out, size_t out_length)
{
    (void)env;
    if (!(atomic_load(&handle->holders) & NR_HOLDER_RING)) {
        struct nr_ring_resource *mine = my_ring();
        if (mine == NULL)
            return -ENOSYS;
        atomic_store(&handle->ring, mine);
        enif_keep_resource(handle); /* the registration's reference, released at GONE */
        atomic_fetch_or(&handle->holders, NR_HOLDER_RING);
        nr_stream_begin(&handle->stream);
        int r = nr_ring_add(mine->ring, &handle->stream);
        if (r < 0) {
            atomic_fetch_and(&handle->holders, ~(unsigned)NR_HOLDER_RING);
            enif_release_resource(handle);
            return r;
        }
    }
    handle->stream.out = NULL;
    handle->stream.out_length = 0;
    if (out_length > 0) {
        if (handle->out_capacity < out_length) {
            void *grown = realloc(handle->out, out_length);
            if (grown == NULL)
                return -ENOMEM;
            handle->out = grown;
            handle->out_capacity = out_length;
        }
        memcpy(handle->out, out, out_length);
        handle->stream.out = handle->out;
        handle->stream.out_length = out_length;
    }
    if (!nr_stream_arm(&handle->stream))
        return NR_RETRY;
    if (nr_stream_is_asleep(&handle->stream))
        nr_ring_wake(atomic_load(&handle->ring)->ring, &handle->stream);
    if (is_hurried(handle))
        atomic_store_explicit(&atomic_load(&handle->ring)->hurried_at,
                              (ErlNifTime)handle->waited_at, memory_order_relaxed);
    handle->stats.waits_io_uring++;
    return 0;
}

static int ring_cancel(ErlNifEnv *env, struct nr_handle *handle)
{
    (void)env;
    return nr_stream_disarm(&handle->stream) ? 0 : NR_PENDING;
}

/* What somebody else than the reaper does for it. */
static void harvest_pending(ErlNifEnv *env, struct nr_ring *ring)
{
    if (nr_ring_pending(ring))
        (void)nr_ring_harvest(ring, 64, on_event, env);
}

static void ring_close(ErlNifEnv *env, struct nr_handle *handle)
{
    /* A pending read is not closed under, it would swallow bytes: GONE comes after the last
     * completion, and only then is the descriptor closed. Fails only if GONE is already on its way. */
    struct nr_ring *ring = atomic_load(&handle->ring)->ring;
    (void)nr_ring_remove(ring, &handle->stream);
    harvest_pending(env, ring);
}

const struct nr_backend nr_backend_ring = {
    .name = "io_uring",
    .arm = ring_arm,
    .cancel = ring_cancel,
    .close = ring_close,
};

bool nr_backend_ring_usable(void)
{
    return atomic_load(&rings_made) > 0;
}

bool nr_backend_ring_tells(struct nr_handle *handle)
{
    const struct nr_ring_resource *resource = atomic_load(&handle->ring);
    return atomic_load(&handle->stream.ready) != 0 ||
           (resource != NULL && nr_ring_pending(resource->ring));
}

void nr_backend_ring_pass(ErlNifEnv *env, struct nr_handle *handle)
{
    const struct nr_ring_resource *resource = atomic_load(&handle->ring);
    /* The next tick finds more. */
    if (resource != NULL && !atomic_load_explicit(&resource->ticks, memory_order_relaxed))
        harvest_pending(env, resource->ring);
}

static bool is_busy_scheduler(const struct nr_handle *handle, ErlNifTime now)
{
    /* Erlang's monotonic time is negative at first, `since` is 0: that is no window either. */
    if (now - recent.since > AUTO_WINDOW_US || now < recent.since) {
        recent.since = now;
        recent.count = 0;
    }
    for (unsigned i = 0; i < recent.count; i++)
        if (recent.handles[i] == handle)
            return false;
    if (recent.count < AUTO_STREAMS)
        recent.handles[recent.count++] = handle;
    return recent.count == AUTO_STREAMS;
}

static bool is_thin(const struct nr_ring_resource *resource, ErlNifTime now)
{
    return now < atomic_load(&resource->thin_until);
}

/* Whether so many in so long are worth a tick. */
static bool are_many(uint64_t events, ErlNifTime us)
{
    return events * 1000 >= (uint64_t)TICK_EVENTS * (uint64_t)us;
}

/* How long after the last one its waits come. */
static void note_pace(struct nr_handle *handle, ErlNifTime time)
{
    uint64_t now = (uint64_t)time;
    if (handle->waited_at != 0) {
        uint64_t pause = now - handle->waited_at;
        pause = pause < PACE_US ? pause : PACE_US;
        handle->pace = handle->pace == 0 ? pause : (7 * handle->pace + pause) / 8;
    }
    handle->waited_at = now;
}

/* Whether this scheduler sees so many waits of those who have time that its ring would tick. */
static bool is_crowded(struct nr_ring_resource *mine, bool has_time, ErlNifTime now)
{
    ErlNifTime age = now - recent.window;
    if (age < 0 || age >= TICK_WINDOW_US) {
        recent.is_crowded = age > 0 && are_many(recent.waits, age);
        recent.window = now;
        recent.waits = 0;
        if (recent.is_crowded) {
            atomic_store(&mine->crowded_at, now);
            atomic_store(&mine->thin_until, INT64_MIN);
        }
    }
    recent.waits += has_time;
    return recent.is_crowded;
}

static void leave_ring(struct nr_handle *handle)
{
    /* No demand is placed: of this stream only GONE can come now. */
    handle->backend = &nr_backend_poll;
    handle->leaving = nr_ring_remove(atomic_load(&handle->ring)->ring, &handle->stream) == 0;
    handle->stats.moves_back++;
}

void nr_backend_choose(struct nr_handle *handle)
{
    if (handle->mode == NR_MODE_POLL || !nr_backend_ring_usable())
        return;
    ErlNifTime now = enif_monotonic_time(ERL_NIF_USEC);
    note_pace(handle, now);
    if (handle->mode != NR_MODE_AUTO)
        return;
    struct nr_ring_resource *mine = my_ring();
    bool has_time = !is_hurried(handle);
    bool crowded = is_crowded(mine, has_time, now);
    if (handle->backend == &nr_backend_ring) {
        const struct nr_ring_resource *resource = atomic_load(&handle->ring);
        if (resource != NULL && (is_thin(resource, now) || (crowded && !has_time)))
            leave_ring(handle);
    } else if (handle->stats.waits_poll > 0 && !handle->leaving && !is_thin(mine, now) &&
               (crowded ? has_time : is_busy_scheduler(handle, now))) {
        handle->backend = &nr_backend_ring;
        handle->stats.moves++;
    }
}

/* Whether a tick would find enough, by what came since this window began, and nobody is in a hurry. */
static bool may_tick(const struct nr_ring_resource *resource, uint64_t events, ErlNifTime now)
{
    ErlNifTime calm = now - atomic_load_explicit(&resource->hurried_at, memory_order_relaxed);
    return calm > TICK_WINDOW_US &&
           are_many(events - resource->window_events, now - resource->window);
}

/* Whether those who have time are only on their way to it, perhaps. */
static bool was_crowded(const struct nr_ring_resource *resource, ErlNifTime now)
{
    return now - atomic_load(&resource->crowded_at) < CROWD_US;
}

/* Once in a while: whether the ring ticks from now on. */
static void set_ticking(struct nr_ring_resource *resource, ErlNifTime now)
{
    struct nr_ring_info info;
    if (now - resource->window < TICK_WINDOW_US)
        return;
    nr_ring_get_info(resource->ring, &info);
    bool ticks = may_tick(resource, info.events, now);
    resource->window = now;
    resource->window_events = info.events;
    if (ticks == atomic_load(&resource->ticks))
        return;
    atomic_store(&resource->ticks, ticks);
    nr_ring_set_quiet(resource->ring, ticks);
}

/* How many events the last wakes of this ring's reaper were for; those that a passer-by served count, too:
 * they are what a ring is for. */
static void weigh(struct nr_ring_resource *resource, ErlNifTime now)
{
    struct nr_ring_info info;
    if (++resource->wakes < THIN_WAKES)
        return;
    nr_ring_get_info(resource->ring, &info);
    bool thin = info.events - resource->events < (uint64_t)THIN_WAKES * THIN_EVENTS &&
                !may_tick(resource, info.events, now) && !was_crowded(resource, now);
    resource->wakes = 0;
    resource->events = info.events;
    if (!thin) {
        resource->rest_us = 0;
        return;
    }
    resource->rest_us = resource->rest_us == 0 ? THIN_FIRST_US : 2 * resource->rest_us;
    if (resource->rest_us > THIN_LAST_US)
        resource->rest_us = THIN_LAST_US;
    atomic_store(&resource->thin_until, now + resource->rest_us);
}

const struct nr_backend *nr_backend_first(enum nr_mode mode)
{
    return mode == NR_MODE_RING && nr_backend_ring_usable() ? &nr_backend_ring : &nr_backend_poll;
}

int nr_backend_ring_type_open(ErlNifEnv *env)
{
    /* No destructor: rings live as long as the node, see the paragraph above. */
    const ErlNifResourceTypeInit callbacks = {.members = 0};
    ring_type = enif_init_resource_type(env, "net_runner_ring", &callbacks,
                                        ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return ring_type != NULL ? 0 : -ENOMEM;
}

/* rings_open(count, coop_taskrun) -> {:ok, [ring]} | {:error, posix}. Once per node: a second call
 * gives the same rings. Dirty I/O. Only NetRunner.Backend calls it, so it never runs twice at once. */
ERL_NIF_TERM nr_nif_rings_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    unsigned count;
    if (!enif_get_uint(env, argv[0], &count) || count == 0 || count > RINGS_MAX)
        return enif_make_badarg(env);
    const struct nr_ring_options options = {
        .coop_taskrun = enif_is_identical(argv[1], nr_atoms.true_),
    };

    unsigned made = atomic_load(&rings_made);
    if (made == 0) {
        for (; made < count; made++) {
            struct nr_ring *ring;
            struct nr_ring_resource *resource = enif_alloc_resource(ring_type, sizeof(*resource));
            int r = resource != NULL ? nr_ring_new(&ring, &options) : -ENOMEM;
            if (r < 0 && resource != NULL)
                enif_release_resource(resource);
            if (r < 0 && made == 0)
                return nr_term_error(env, r);
            if (r < 0)
                break; /* fewer rings than schedulers (descriptors, memory): shared, not lost */
            resource->ring = ring;
            resource->wakes = 0;
            resource->events = 0;
            resource->rest_us = 0;
            resource->window = enif_monotonic_time(ERL_NIF_USEC);
            resource->window_events = 0;
            atomic_init(&resource->ticks, false);
            atomic_init(&resource->hurried_at, resource->window);
            atomic_init(&resource->crowded_at, resource->window - CROWD_US);
            atomic_init(&resource->thin_until, INT64_MIN);
            rings[made] = resource; /* this reference is never released */
        }
        atomic_store(&rings_made, made);
    }
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (unsigned i = made; i-- > 0;)
        list = enif_make_list_cell(env, enif_make_resource(env, rings[i]), list);
    return nr_term_ok(env, list);
}

/* When the module was deleted, purged and loaded, rings keep their type of before (nif.c). Whoever
 * waits on them must still be told. */
static struct nr_ring_resource *get_ring(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;
    if (enif_get_resource(env, term, ring_type, &object))
        return object;
    for (unsigned i = 0; i < atomic_load(&rings_made); i++)
        if (enif_is_identical(term, enif_make_resource(env, rings[i])))
            return rings[i];
    return NULL;
}

/* ring_harvest(ring) -> :ok | :more | :soon | :again | {:error, posix}. Called by the ring's reaper, which will
 * get {:select, ring, :undefined, :ready_input} when there is more to do; :more asks it to come again
 * without waiting, :soon at the next tick, :again (ERTS could not watch the eventfd) in a moment. After an error there is
 * nothing to come for: the ring is broken, its streams wait by enif_select. */
ERL_NIF_TERM nr_nif_ring_harvest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_ring_resource *resource = get_ring(env, argv[0]);
    if (resource == NULL)
        return enif_make_badarg(env);
    int r = nr_ring_harvest(resource->ring, 256, on_event, env);
    ErlNifTime now = enif_monotonic_time(ERL_NIF_USEC);
    weigh(resource, now);
    (void)enif_consume_timeslice(env, 10);
    if (r == NR_RING_MORE)
        return nr_atoms.more_;
    if (r < 0)
        return nr_term_error(env, r);
    set_ticking(resource, now);
    if (atomic_load(&resource->ticks))
        return nr_atoms.soon_;
    if (enif_select(env, nr_ring_eventfd(resource->ring), ERL_NIF_SELECT_READ, resource, NULL,
                    nr_atoms.undefined_) < 0)
        return nr_atoms.again_;
    return nr_atoms.ok_;
}

/* rings_info() -> %{rings:, slots:, slots_in_use:, streams:, registered:, nowait_pipes:, harvests:,
 * enters:, fixed:, unfixed:, overflows:, ticking:}, summed over the rings; ticking: how many tick. */
ERL_NIF_TERM nr_nif_rings_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    unsigned made = atomic_load(&rings_made);
    struct nr_ring_info sum = {.registered = made > 0, .nowait_pipes = made > 0};
    unsigned ticking = 0;
    for (unsigned i = 0; i < made; i++) {
        struct nr_ring_info one;
        ticking += atomic_load(&rings[i]->ticks);
        nr_ring_get_info(rings[i]->ring, &one);
        sum.slots += one.slots;
        sum.slots_in_use += one.slots_in_use;
        sum.streams += one.streams;
        sum.registered = sum.registered && one.registered;
        sum.nowait_pipes = sum.nowait_pipes && one.nowait_pipes;
        sum.harvests += one.harvests;
        sum.enters += one.enters;
        sum.fixed += one.fixed;
        sum.unfixed += one.unfixed;
        sum.overflows += one.overflows;
    }
    const ERL_NIF_TERM keys[] = {
        nr_atoms.rings_,      nr_atoms.slots_,        nr_atoms.slots_in_use_, nr_atoms.streams_,
        nr_atoms.registered_, nr_atoms.nowait_pipes_, nr_atoms.harvests_,     nr_atoms.enters_,
        nr_atoms.fixed_,      nr_atoms.unfixed_,      nr_atoms.overflows_,    nr_atoms.ticking_,
    };
    const ERL_NIF_TERM values[] = {
        enif_make_uint(env, made),
        enif_make_uint(env, sum.slots),
        enif_make_uint(env, sum.slots_in_use),
        enif_make_uint(env, sum.streams),
        nr_term_bool(sum.registered),
        nr_term_bool(sum.nowait_pipes),
        enif_make_uint64(env, sum.harvests),
        enif_make_uint64(env, sum.enters),
        enif_make_uint64(env, sum.fixed),
        enif_make_uint64(env, sum.unfixed),
        enif_make_uint64(env, sum.overflows),
        enif_make_uint(env, ticking),
    };
    return nr_term_map(env, keys, values, sizeof(keys) / sizeof(keys[0]));
}
