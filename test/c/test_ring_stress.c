/*
 * The ring core under threads: readers and writers whose owners arm, disarm, read(2) and write(2)
 * at random, two threads that harvest when the eventfd says so, owners that harvest in passing. Every
 * byte of every stream is checked at its place, so that one lost, doubled or moved is seen at once.
 *
 * This is also the ThreadSanitizer test of the ring core. NR_SEED repeats a run, NR_STRESS (a
 * number, 1) makes it longer.
 */
#include "check_support.h"

#include "ring_support.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#define OWNERS            4U
#define STREAMS_PER_OWNER 10U /* of which the last two write through the ring */
#define STREAMS           (OWNERS * STREAMS_PER_OWNER)
#define FEEDERS           3U
#define CHUNK_MAX         20000U /* above the slot size */
#define LITTLE            100U

static uint64_t seed;
static uint64_t bytes_per_stream;

/* Byte `position` of stream `number`: any thread can make or check any byte. */
static unsigned char byte_at(unsigned number, uint64_t position)
{
    uint64_t x = ((uint64_t)number << 40 ^ position / 8 ^ seed) * 0x9e3779b97f4a7c15U;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9U;
    x ^= x >> 32;
    return (unsigned char)(x >> position % 8 * 8);
}

static void make_bytes(unsigned char *out, size_t length, unsigned number, uint64_t position)
{
    for (size_t i = 0; i < length; i++)
        out[i] = byte_at(number, position + i);
}

/* Check's own assertions may only be used by the main thread. */
static void must(bool true_, const char *what, unsigned number)
{
    if (true_)
        return;
    fprintf(stderr, "FAILED: %s (stream %u, seed %llu)\n", what, number, (unsigned long long)seed);
    abort();
}

static void check_bytes(const unsigned char *got, size_t length, unsigned number, uint64_t position)
{
    for (size_t i = 0; i < length; i++)
        must(got[i] == byte_at(number, position + i), "a byte is not the one sent", number);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static unsigned below(uint64_t *state, unsigned limit)
{
    return (unsigned)(next_random(state) >> 33) % limit;
}

/* --- streams and their owners -------------------------------------------------------------- */

struct owner;

struct wire {
    struct nr_stream stream;
    struct owner *owner;
    unsigned number;
    int peer; /* blocking; the feeder's or the eater's */

    /* The owner's alone. */
    uint64_t position;
    unsigned char *out;
    bool waiting; /* for an event */
    bool ended;
    bool removed; /* GONE is awaited */

    /* Under the owner's mutex. */
    bool delivered;
    bool gone;
    enum nr_event_kind kind;
    int result;
    size_t late_length;
    unsigned char late[16384];
};

struct owner {
    struct wire *wires[STREAMS_PER_OWNER];
    uint64_t random;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned events; /* not yet looked at */
};

static struct nr_ring *ring;
static struct wire wires[STREAMS];
static struct owner owners[OWNERS];
static _Atomic bool stopping;
static _Atomic unsigned counts[4]; /* events by kind */
static _Atomic unsigned late_disarms;
static _Atomic unsigned early_disarms;
static _Atomic unsigned refused_arms;
static _Atomic unsigned wakes;

static void on_stress_event(void *context, const struct nr_event *event)
{
    (void)context;
    struct wire *wire = event->stream->owner;
    struct owner *owner = wire->owner;
    atomic_fetch_add(&counts[event->kind], 1U);
    pthread_mutex_lock(&owner->mutex);
    must(!wire->gone, "an event after GONE", wire->number);
    if (event->kind == NR_EVENT_GONE) {
        wire->gone = true;
    } else {
        must(!wire->delivered, "two events for one demand", wire->number);
        wire->delivered = true;
        wire->kind = event->kind;
        wire->result = event->result;
        wire->late_length = event->length;
        if (event->length > 0)
            memcpy(wire->late, event->data, event->length);
    }
    owner->events++;
    pthread_cond_signal(&owner->changed);
    pthread_mutex_unlock(&owner->mutex);
}

static void harvest(uint64_t *random)
{
    int r;
    do
        r = nr_ring_harvest(ring, 1 + below(random, 40), on_stress_event, NULL);
    while (r == NR_RING_MORE && below(random, 4) > 0);
    must(r >= 0, "harvest", 0);
}

static void leave(struct wire *wire)
{
    must(nr_ring_remove(ring, &wire->stream) == 0, "remove", wire->number);
    wire->removed = true;
}

static void finish(struct wire *wire)
{
    wire->ended = true;
    must(wire->position == bytes_per_stream, "bytes are missing", wire->number);
    if (!wire->removed)
        leave(wire);
}

/* Takes the event of a wait, if it has come. */
static bool take_event(struct wire *wire)
{
    struct owner *owner = wire->owner;
    pthread_mutex_lock(&owner->mutex);
    bool came = wire->delivered;
    wire->delivered = false;
    pthread_mutex_unlock(&owner->mutex);
    if (!came)
        return false;
    wire->waiting = false;
    if (wire->kind == NR_EVENT_DATA) {
        check_bytes(wire->late, wire->late_length, wire->number, wire->position);
        wire->position += wire->late_length;
        if (wire->late_length == 0)
            finish(wire);
    }
    if (wire->kind == NR_EVENT_WRITTEN) {
        must(wire->result > 0, "a write failed", wire->number);
        wire->position += (uint64_t)wire->result;
    }
    return true;
}

static void arm(struct wire *wire)
{
    if (!nr_stream_arm(&wire->stream)) {
        atomic_fetch_add(&refused_arms, 1U);
        return;
    }
    wire->waiting = true;
    if (nr_stream_is_asleep(&wire->stream)) {
        atomic_fetch_add(&wakes, 1U);
        nr_ring_wake(ring, &wire->stream);
    }
}

/* Many edges, of which its reader seldom has to wait for one: it falls asleep, and is woken. */
static bool is_fed_little(const struct wire *wire)
{
    return wire->number % 4 == 0;
}

static void step_reader(struct wire *wire, uint64_t *random)
{
    unsigned char bytes[CHUNK_MAX];
    unsigned most = is_fed_little(wire) ? LITTLE : CHUNK_MAX;
    for (unsigned i = 1 + below(random, 4); i > 0; i--) {
        nr_stream_begin(&wire->stream);
        ssize_t n = read(wire->stream.fd, bytes, 1 + below(random, most));
        if (n > 0) {
            check_bytes(bytes, (size_t)n, wire->number, wire->position);
            wire->position += (uint64_t)n;
            continue;
        }
        if (n == 0) {
            finish(wire);
            return;
        }
        must(errno == EAGAIN, "read", wire->number);
        arm(wire);
        return;
    }
}

static void step_writer(struct wire *wire, uint64_t *random)
{
    for (unsigned i = 1 + below(random, 4); i > 0; i--) {
        uint64_t left = bytes_per_stream - wire->position;
        if (left == 0) {
            finish(wire);
            return;
        }
        size_t length = 1 + below(random, CHUNK_MAX);
        if (length > left)
            length = (size_t)left;
        make_bytes(wire->out, length, wire->number, wire->position);
        nr_stream_begin(&wire->stream);
        ssize_t n = write(wire->stream.fd, wire->out, length);
        if (n > 0) {
            wire->position += (uint64_t)n;
            continue;
        }
        must(errno == EAGAIN, "write", wire->number);
        wire->stream.out = wire->out;
        wire->stream.out_length = below(random, 10) == 0 ? 0 : length;
        arm(wire);
        return;
    }
}

/* After GONE: what came before it counts; then the stream comes back, if it has not ended. */
static void step_gone(struct wire *wire)
{
    if (wire->waiting && !take_event(wire))
        wire->waiting = false; /* GONE ended the demand */
    if (wire->ended)
        return;
    wire->gone = false;
    wire->removed = false;
    must(nr_ring_add(ring, &wire->stream) == 0, "add again", wire->number);
}

/* One look at one stream. Returns whether it has nothing to do but wait. */
static bool step(struct wire *wire, uint64_t *random)
{
    if (wire->removed)
        return true;
    if (wire->waiting && !take_event(wire)) {
        if (below(random, 32) == 0) {
            leave(wire);
            return true;
        }
        if (below(random, 16) > 0)
            return true;
        /* A time-out, or another reader: take the demand back. */
        if (!nr_stream_disarm(&wire->stream)) {
            atomic_fetch_add(&late_disarms, 1U);
            return true;
        }
        atomic_fetch_add(&early_disarms, 1U);
        wire->waiting = false;
    }
    if (wire->ended)
        return true;
    if (wire->stream.direction == NR_READ)
        step_reader(wire, random);
    else
        step_writer(wire, random);
    return false;
}

static bool is_over(struct wire *wire)
{
    pthread_mutex_lock(&wire->owner->mutex);
    bool over = wire->gone;
    pthread_mutex_unlock(&wire->owner->mutex);
    return over;
}

static void *own(void *argument)
{
    struct owner *owner = argument;
    for (unsigned i = 0; i < STREAMS_PER_OWNER; i++)
        must(nr_ring_add(ring, &owner->wires[i]->stream) == 0, "add", i);
    for (unsigned over = 0; over < STREAMS_PER_OWNER;) {
        pthread_mutex_lock(&owner->mutex);
        owner->events = 0;
        pthread_mutex_unlock(&owner->mutex);
        bool idle = true;
        over = 0;
        for (unsigned i = 0; i < STREAMS_PER_OWNER; i++) {
            struct wire *wire = owner->wires[i];
            if (wire->removed && is_over(wire))
                step_gone(wire);
            if (wire->removed && wire->ended && is_over(wire)) {
                /* GONE: nobody has the descriptor any more. */
                wire->stream.fd = nr_fd_close(wire->stream.fd);
                over++;
            } else if (!step(wire, &owner->random)) {
                idle = false;
            }
        }
        if (nr_ring_pending(ring) && below(&owner->random, 4) == 0)
            harvest(&owner->random);
        pthread_mutex_lock(&owner->mutex);
        while (idle && over < STREAMS_PER_OWNER && owner->events == 0)
            pthread_cond_wait(&owner->changed, &owner->mutex);
        pthread_mutex_unlock(&owner->mutex);
    }
    return NULL;
}

/* --- the other ends ------------------------------------------------------------------------ */

/* Feeds the readers' pipes that fall to it, a piece here and a piece there. */
static void *feed(void *argument)
{
    unsigned which = (unsigned)(uintptr_t)argument;
    uint64_t random = seed * 77 + which + 1;
    uint64_t sent[STREAMS] = {0};
    unsigned char bytes[CHUNK_MAX];
    for (unsigned open = 1; open > 0;) {
        open = 0;
        for (unsigned i = 0; i < STREAMS; i++) {
            struct wire *wire = &wires[i];
            if (i % FEEDERS != which || wire->stream.direction != NR_READ || wire->peer < 0)
                continue;
            open++;
            if (below(&random, 3) > 0)
                continue;
            uint64_t left = bytes_per_stream - sent[i];
            unsigned sizes[] = {1, 100, 5000, CHUNK_MAX};
            size_t length =
                1 + below(&random, is_fed_little(wire) ? LITTLE : sizes[below(&random, 4)]);
            if (length > left)
                length = (size_t)left;
            make_bytes(bytes, length, wire->number, sent[i]);
            if (length > 0)
                must(write(wire->peer, bytes, length) == (ssize_t)length, "feed", i);
            sent[i] += length;
            if (sent[i] == bytes_per_stream)
                wire->peer = nr_fd_close(wire->peer);
        }
    }
    return NULL;
}

/* Eats what one writer sends. */
static void *eat(void *argument)
{
    struct wire *wire = argument;
    uint64_t random = seed * 99 + wire->number + 1;
    uint64_t position = 0;
    unsigned char bytes[CHUNK_MAX];
    for (;;) {
        ssize_t n = read(wire->peer, bytes, 1 + below(&random, CHUNK_MAX));
        must(n >= 0, "eat", wire->number);
        if (n == 0)
            break;
        check_bytes(bytes, (size_t)n, wire->number, position);
        position += (uint64_t)n;
    }
    must(position == bytes_per_stream, "written bytes are missing", wire->number);
    return NULL;
}

/* A reaper: waits on the eventfd, harvests. */
static void *reap(void *argument)
{
    uint64_t random = seed * 55 + (uintptr_t)argument + 1;
    while (!atomic_load(&stopping)) {
        struct pollfd eventfd = {.fd = nr_ring_eventfd(ring), .events = POLLIN};
        int ready = poll(&eventfd, 1, WAIT_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        must(ready > 0, "the eventfd stays silent", 0);
        if (!atomic_load(&stopping))
            harvest(&random);
    }
    /* The last harvest may have read the word to stop, which was for both. */
    must(eventfd_write(nr_ring_eventfd(ring), 1) == 0, "eventfd_write", 0);
    return NULL;
}

/* ------------------------------------------------------------------------------------------- */

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    ck_assert_int_eq(pthread_create(thread, NULL, run, argument), 0);
}

static void make_wire(unsigned number)
{
    struct wire *wire = &wires[number];
    int fds[2];
    ck_assert_int_eq(nr_fd_pipe(fds), 0);
    bool writes = number % STREAMS_PER_OWNER >= STREAMS_PER_OWNER - 2;
    wire->number = number;
    wire->stream.direction = writes ? NR_WRITE : NR_READ;
    wire->stream.owner = wire;
    wire->stream.fd = writes ? fds[1] : fds[0];
    wire->peer = writes ? fds[0] : fds[1];
    wire->out = malloc(CHUNK_MAX);
    wire->owner = &owners[number / STREAMS_PER_OWNER];
    wire->owner->wires[number % STREAMS_PER_OWNER] = wire;
    ck_assert_ptr_nonnull(wire->out);
    ck_assert_int_eq(nr_fd_nonblock(wire->stream.fd, true), 0);
}

static const struct nr_ring_options variants[] = {
    {.entries = 0},
    {.cq_entries = 64, .entries = 16, .slots = 4},
    {.no_register = true},
    {.coop_taskrun = true},
};

START_TEST(every_byte_arrives_once_and_in_order)
{
    /* Whatever owners, harvesters and pipes do at the same time, each stream's bytes arrive exactly,
     * each demand ends once, and nothing stays in the ring. */
    pthread_t feeders[FEEDERS];
    pthread_t eaters[STREAMS];
    pthread_t owning[OWNERS];
    pthread_t reapers[2];
    ck_assert_int_ge(nr_ring_new(&ring, &variants[_i]), 0);
    for (unsigned i = 0; i < OWNERS; i++) {
        owners[i].random = seed * 33 + i + 1;
        pthread_mutex_init(&owners[i].mutex, NULL);
        pthread_cond_init(&owners[i].changed, NULL);
    }
    for (unsigned i = 0; i < STREAMS; i++)
        make_wire(i);

    for (uintptr_t i = 0; i < 2; i++)
        start(&reapers[i], reap, (void *)i);
    for (unsigned i = 0; i < OWNERS; i++)
        start(&owning[i], own, &owners[i]);
    for (uintptr_t i = 0; i < FEEDERS; i++)
        start(&feeders[i], feed, (void *)i);
    for (unsigned i = 0; i < STREAMS; i++)
        if (wires[i].stream.direction == NR_WRITE)
            start(&eaters[i], eat, &wires[i]);

    for (unsigned i = 0; i < FEEDERS; i++)
        pthread_join(feeders[i], NULL);
    for (unsigned i = 0; i < OWNERS; i++)
        pthread_join(owning[i], NULL);
    for (unsigned i = 0; i < STREAMS; i++)
        if (wires[i].stream.direction == NR_WRITE)
            pthread_join(eaters[i], NULL);
    atomic_store(&stopping, true);
    ck_assert_int_eq(eventfd_write(nr_ring_eventfd(ring), 1), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(reapers[i], NULL);

    struct nr_ring_info info;
    nr_ring_get_info(ring, &info);
    printf(
        "variant %d, seed %llu: %u READY, %u DATA, %u WRITTEN, %u GONE, %u/%u disarms in time/too "
        "late, %u arms refused, %u wakes, %llu harvests, %llu enters, %llu overflows\n",
        _i, (unsigned long long)seed, counts[NR_EVENT_READY], counts[NR_EVENT_DATA],
        counts[NR_EVENT_WRITTEN], counts[NR_EVENT_GONE], early_disarms, late_disarms, refused_arms,
        wakes, (unsigned long long)info.harvests, (unsigned long long)info.enters,
        (unsigned long long)info.overflows);
    fflush(stdout);
    ck_assert_uint_ge(counts[NR_EVENT_GONE], (unsigned long)STREAMS);
    if (info.nowait_pipes) { /* before Linux 6.5 a ring moves nothing */
        ck_assert_uint_gt(counts[NR_EVENT_DATA], 0);
        ck_assert_uint_gt(counts[NR_EVENT_WRITTEN], 0);
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        nr_fd_close(wires[i].stream.fd);
        nr_fd_close(wires[i].peer);
        free(wires[i].out);
    }
    ring_end(ring);
}
END_TEST

int main(void)
{
    int skipped = skip_without_ring();
    if (skipped != 0)
        return skipped;
    (void)signal(SIGPIPE, SIG_IGN);
    const char *text = getenv("NR_SEED");
    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    text = getenv("NR_STRESS");
    bytes_per_stream = (text != NULL ? strtoull(text, NULL, 10) : 1) * 300000;

    Suite *suite = suite_create("ring under threads");
    TCase *tcase = tcase_create("stress");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, every_byte_arrives_once_and_in_order, 0,
                        (int)(sizeof(variants) / sizeof(variants[0])));
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
