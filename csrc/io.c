/*
 * See io.h. The order in nr_nif_read is the contract with the ring: bytes that a ring read come
 * before anything read(2) gives, and read(2) is never called while a ring may be reading for us.
 */
#include "io.h"

#include "atoms.h"
#include "backend.h"
#include "base/error.h"
#include "handle.h"
#include "pty.h"
#include "term.h"
#include "turns.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* One call reads at most this much. Larger ones fall out of the nearest caches before anybody has looked at them: a lone
 * stream read 0.98 of what C did, with 256 KiB 0.91 (docs/decisions/0008). */
#define READ_MAX  ((size_t)64 * 1024)
#define WRITE_MAX ((size_t)1024 * 1024)

/* So many full reads in a row, and the pipe is given more room. */
#define FULL_READS 4

/* Below this, a fresh binary of READ_MAX would waste memory: the bytes are copied instead. */
#define COPY_MAX ((size_t)8 * 1024)

/* The slot size of a ring: a rest that fits is written by the ring itself. */
#define RING_WRITE_MAX ((size_t)16 * 1024)

/* Below this a full pipe says that the reader is slow, not that the pipe is small. */
#define BULK_WRITE ((size_t)32 * 1024)

#define IOVEC_MAX 64

/* A readiness that turns out stale (another edge came between the system call and the arm) is
 * looked at again this often before the process is sent round through its mailbox. */
#define RETRIES 8

/* Without charging, a process that streams kept its scheduler for milliseconds: a 1 ms timer's p99 was 10 ms instead of 2
 * (numbers.md). A time slice is over after 256 KiB: beside 100 streams at full speed, on two cores, the timer's p99 is 6.3 ms at
 * 1.42 of a port's throughput; after 128 KiB 4.0 ms and 1.05, after 64 KiB 2.8 ms and 1.02 (docs/decisions/0008). */
#define SLICE ((size_t)256 * 1024)

static void charge(ErlNifEnv *env, size_t bytes)
{
    size_t percent = 1 + bytes * 100 / SLICE;
    (void)enif_consume_timeslice(env, percent > 100 ? 100 : (int)percent);
}

static bool is_self(ErlNifEnv *env, const ErlNifPid *pid)
{
    ErlNifPid self;
    return enif_self(env, &self) != NULL && enif_compare_pids(&self, pid) == 0;
}

/* The caller is who waits; mutex held. */
static void become_waiter(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM ref)
{
    (void)enif_self(env, &handle->waiter);
    enif_clear_env(handle->wait_env);
    handle->wait_ref = enif_make_copy(handle->wait_env, ref);
}

/* Decides whether the caller may use the handle now; mutex held. 0: yes. NR_PENDING: a ring's
 * result is on its way, the caller has become its waiter. -EBUSY, -EBADF. */
static int enter(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM ref)
{
    if (atomic_load(&handle->state) != NR_HANDLE_OPEN)
        return -EBADF;
    if (!handle->waiting)
        return 0;
    bool self = is_self(env, &handle->waiter);
    if (!self && enif_is_process_alive(env, &handle->waiter))
        return -EBUSY;
    if (handle->in_queue) {
        /* Its turn has come, or the waiter died. */
        (void)nr_turns_leave(&handle->turn);
        handle->waiting = handle->in_queue = false;
        handle->emptied = handle->unseen = false;
        return 0;
    }
    bool ring = handle->backend == &nr_backend_ring;
    /* A waiter of poll's that comes back has had its message: nothing is armed any more. */
    if ((ring || !self) && handle->backend->cancel(env, handle) == NR_PENDING && ring) {
        /* The waiter died with a ring's read in flight: its bytes are the next reader's. */
        become_waiter(env, handle, ref);
        return NR_PENDING;
    }
    handle->waiting = false;
    /* Who comes back was told that there is something. */
    if (self)
        handle->emptied = handle->unseen = false;
    return 0;
}

/* Places a wait for the caller; mutex held. 0, NR_RETRY or -errno. */
static int wait_for(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM ref, const void *out,
                    size_t out_length)
{
    become_waiter(env, handle, ref);
    handle->waiting = true;
    /* Whose bytes a ring's write takes. It may be another than the one who waits when it ends. */
    handle->writer = handle->waiter;
    nr_backend_choose(handle);
    int r = handle->backend->arm(env, handle, out, out_length);
    if (r < 0 && handle->backend == &nr_backend_ring) {
        /* No memory or descriptors for a registration: ERTS's poll set can still wait. */
        handle->backend = &nr_backend_poll;
        r = handle->backend->arm(env, handle, out, out_length);
    }
    if (r != 0)
        handle->waiting = false;
    return r;
}

static ERL_NIF_TERM failure(ErlNifEnv *env, int r)
{
    if (r == -EBADF)
        return enif_make_tuple2(env, nr_atoms.error_, nr_atoms.closed_);
    if (r == -EBUSY)
        return enif_make_tuple2(env, nr_atoms.error_, nr_atoms.busy_);
    return nr_term_error(env, r);
}

/* Beside the results of wait_for: others go first, for one round of the run queue or until the caller's turn comes; or more is
 * to come together first. */
#define SOON      4
#define NEXT_TURN 5
#define LATER     6

/* The answer after the last try at a wait, r: a pipe that was ready each time is looked at again
 * through the caller's mailbox, so that a call stays short. */
static ERL_NIF_TERM waits(ErlNifEnv *env, struct nr_handle *handle, int r, ERL_NIF_TERM ref)
{
    ErlNifPid self;
    if (r < 0)
        return failure(env, r);
    if (r == SOON)
        return nr_atoms.soon_;
    if (r == NEXT_TURN)
        return nr_atoms.turn_;
    if (r == LATER)
        return enif_make_tuple2(env, nr_atoms.later_, enif_make_uint(env, handle->coalesce.pause));
    if (r == NR_RETRY)
        nr_handle_notify(env, enif_self(env, &self), ref);
    return nr_atoms.again_;
}

/* Hands out up to max of the late bytes as the start of `binary`, which has room for max. */
static size_t take_late(struct nr_handle *handle, unsigned char *data, size_t max)
{
    size_t left = handle->late.size - handle->late_offset;
    size_t n = left < max ? left : max;
    memcpy(data, handle->late.data + handle->late_offset, n);
    handle->late_offset += n;
    if (handle->late_offset == handle->late.size) {
        enif_release_binary(&handle->late);
        handle->has_late = false;
    }
    return n;
}

/* read(2). Bytes, 0 at the end, or -errno. A master's end is EIO: nobody has the slave open any more (Linux; elsewhere
 * it is 0), and all they wrote was read. */
static ssize_t read_some(struct nr_handle *handle, void *data, size_t size)
{
    ssize_t n;
    bool missed = handle->unseen && !nr_backend_ring_tells(handle);
    nr_stream_begin(&handle->stream);
    do {
        n = read(handle->fd, data, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EIO && handle->terminal)
        return 0;
    if (n > 0 && missed)
        handle->surprised = true;
    handle->unseen = false;
    handle->emptied = n < 0 ? errno == EAGAIN : n > 0 && (size_t)n < size;
    return n < 0 ? nr_errno() : n;
}

static uint64_t now_us(void)
{
    return (uint64_t)enif_monotonic_time(ERL_NIF_USEC);
}

/* How much will come, and when; a larger pipe for a stream that keeps coming back full. */
static void learn_from_read(struct nr_handle *handle, size_t asked, size_t got)
{
    handle->small = got < COPY_MAX;
    nr_coalesce_read(&handle->coalesce, got);
    /* The clock is asked where it says something. */
    nr_patience_answered(&handle->patience, handle->patience.waiting ? now_us() : 0);
    if (got < asked || got < READ_MAX) {
        handle->fulls = 0;
        return;
    }
    if (++handle->fulls < FULL_READS)
        return;
    handle->fulls = 0;
    (void)nr_handle_grow_pipe(handle);
}

static ERL_NIF_TERM copied(ErlNifEnv *env, const void *data, size_t n)
{
    ERL_NIF_TERM term;
    memcpy(enif_make_new_binary(env, n, &term), data, n);
    return term;
}

/* The answer of a read: a binary of n bytes, counted and charged for. */
static ERL_NIF_TERM given(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM binary, size_t n,
                          struct nr_after_read *after)
{
    handle->stats.bytes += n;
    handle->stats.ops++;
    if (after != NULL)
        nr_turns_read(&handle->turn, n, handle->emptied && !handle->has_late, after);
    charge(env, n);
    return nr_term_ok(env, binary);
}

static ERL_NIF_TERM give(ErlNifEnv *env, struct nr_handle *handle, ErlNifBinary *binary, size_t n,
                         struct nr_after_read *after)
{
    ERL_NIF_TERM term;
    if (n <= COPY_MAX) {
        term = copied(env, binary->data, n);
        enif_release_binary(binary);
    } else {
        if (n < binary->size)
            (void)enif_realloc_binary(binary, n); /* shrinking: keeps the bytes if it fails */
        term = enif_make_binary(env, binary);
        if (n < binary->size)
            term = enif_make_sub_binary(env, term, 0, n);
    }
    return given(env, handle, term, n, after);
}

/* What a ring read, and the pipe held no more. */
static ERL_NIF_TERM give_late(ErlNifEnv *env, struct nr_handle *handle, size_t max,
                              struct nr_after_read *after)
{
    ERL_NIF_TERM term;
    size_t n = handle->late.size - handle->late_offset;
    if (n <= max && n > COPY_MAX && handle->late_offset == 0) {
        term = enif_make_binary(env, &handle->late);
        handle->has_late = false;
    } else {
        n = n < max ? n : max;
        (void)take_late(handle, enif_make_new_binary(env, n, &term), n);
    }
    learn_from_read(handle, READ_MAX, n);
    return given(env, handle, term, n, after);
}

/* The pipe was empty when it was last looked at, and whatever comes ends a wait: another look would most likely be in vain. A
 * poll set looks when a wait is placed; a ring tells of what came after (docs/decisions/0009). */
static bool is_known_empty(struct nr_handle *handle)
{
    if (!handle->emptied || handle->surprised || handle->has_late || handle->unread != NULL ||
        handle->eof || handle->finished || handle->terminal)
        return false;
    return handle->backend == &nr_backend_ring ? nr_stream_will_tell(&handle->stream)
                                               : !handle->patience.quick;
}

/* What a caller is prepared for, beside a wait for the pipe. */
enum manner {
    LOOKS,       /* nothing: it looks, and waits */
    COALESCES,   /* that it is to come back in a millisecond */
    TAKES_TURNS, /* and that others go first, and that it waits without having looked */
};

/* In a crowd, whether others go first: 0, SOON or NEXT_TURN. That costs less than a wait for the pipe, and finds more there. */
static int give_way(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM ref, bool is_empty,
                    struct nr_after_read *after)
{
    if (after == NULL || handle->has_late || handle->unread != NULL || handle->eof ||
        handle->finished)
        return 0;
    switch (nr_turns_ask(&handle->turn, is_empty)) {
    case NR_TURNS_GO_ON:
        break;
    case NR_TURNS_LOOK_AGAIN:
        handle->emptied = false;
        return SOON;
    case NR_TURNS_WAIT:
        become_waiter(env, handle, ref);
        if (!nr_turns_wait(env, &handle->turn, &handle->waiter, handle->wait_ref, after))
            break;
        handle->waiting = handle->in_queue = true;
        return NEXT_TURN;
    }
    return 0;
}

/* Whether a fast stream's pieces come together first, in a pipe that has room for them. */
static bool comes_later(struct nr_handle *handle, uint64_t now)
{
    if (handle->terminal || handle->finished ||
        nr_coalesce_empty(&handle->coalesce, now, handle->pipe.now) == 0)
        return false;
    while (handle->pipe.now < nr_coalesce_room(&handle->coalesce))
        if (!nr_handle_grow_pipe(handle))
            nr_coalesce_shorten(&handle->coalesce, now);
    if (handle->coalesce.pause == 0)
        return false;
    nr_turns_ends(&handle->turn);
    handle->emptied = handle->small = false;
    return true;
}

/* The pipe is empty. SOON (no ring's stream is, unless there is a crowd: those have their own way of being found ready), NEXT_TURN, LATER, or as
 * wait_for. */
static int empty(ErlNifEnv *env, struct nr_handle *handle, ERL_NIF_TERM ref, enum manner manner,
                 struct nr_after_read *after)
{
    int r = give_way(env, handle, ref, true, after);
    if (r != 0)
        return r;
    if (manner != LOOKS) {
        uint64_t now = now_us();
        if (comes_later(handle, now))
            return LATER;
        if (manner == TAKES_TURNS && handle->backend == &nr_backend_poll &&
            nr_patience_look_again(&handle->patience, now))
            return SOON;
    }
    nr_turns_ends(&handle->turn);
    return wait_for(env, handle, ref, NULL, 0);
}

/* Reads a pipe whose messages are small, without a binary of READ_MAX. Bytes, -EAGAIN: it is empty, or 0: there is more to
 * know than that. */
static ssize_t read_few(struct nr_handle *handle, unsigned char few[static COPY_MAX], size_t max)
{
    if (!handle->small || max < COPY_MAX || handle->unread != NULL || handle->has_late ||
        handle->eof || handle->finished)
        return 0;
    ssize_t n = read_some(handle, few, COPY_MAX);
    if (n > 0)
        learn_from_read(handle, COPY_MAX, (size_t)n);
    return n > 0 || n == -EAGAIN ? n : 0;
}

/* `after`: of one that takes turns, else NULL. */
static ERL_NIF_TERM read_locked(ErlNifEnv *env, struct nr_handle *handle, size_t max,
                                ERL_NIF_TERM ref, enum manner manner, struct nr_after_read *after)
{
    int r = enter(env, handle, ref);
    if (r == NR_PENDING)
        return nr_atoms.again_;
    if (r < 0)
        return failure(env, r);

    nr_turns_comes(&handle->turn);
    if (handle->lost < 0 && handle->unread == NULL)
        return failure(env, handle->lost);

    r = give_way(env, handle, ref, handle->emptied, after);
    if (r != 0)
        return waits(env, handle, r, ref);
    /* It is here for another pipe. */
    if (manner == COALESCES && !handle->finished && handle->unread == NULL &&
        handle->coalesce.pause > 0 && nr_coalesce_pauses(&handle->coalesce, now_us()))
        return waits(env, handle, LATER, ref);
    if (handle->has_late && handle->emptied && handle->unread == NULL)
        return give_late(env, handle, max, after);
    if (after != NULL && is_known_empty(handle)) {
        r = empty(env, handle, ref, manner, after);
        handle->unseen = r == 0 && handle->backend == &nr_backend_ring;
        if (handle->unseen)
            return nr_atoms.unsure_;
        if (r != NR_RETRY)
            return r == 0 ? nr_atoms.unseen_ : waits(env, handle, r, ref);
    }

    unsigned char few[COPY_MAX];
    ssize_t got_few = read_few(handle, few, max);
    if (got_few > 0)
        return given(env, handle, copied(env, few, (size_t)got_few), (size_t)got_few, after);
    if (got_few < 0) {
        r = empty(env, handle, ref, manner, after);
        if (r != NR_RETRY)
            return waits(env, handle, r, ref);
    }

    ErlNifBinary binary;
    size_t size = max < READ_MAX ? max : READ_MAX;
    if (!enif_alloc_binary(size, &binary))
        return failure(env, -ENOMEM);

    size_t have = nr_handle_take_unread(handle, binary.data, size);
    if (handle->has_late && have < size)
        have += take_late(handle, binary.data + have, size - have);
    if (have == size || (have > 0 && handle->lost < 0))
        return give(env, handle, &binary, have, after);
    if (handle->eof) {
        if (have > 0)
            return give(env, handle, &binary, have, after);
        enif_release_binary(&binary);
        return nr_atoms.eof_;
    }

    for (int i = 0; i < RETRIES; i++) {
        ssize_t n = read_some(handle, binary.data + have, size - have);
        if (n >= 0 || have > 0) {
            /* A terminal may be opened again, by its name. */
            if (n == 0 && !handle->terminal)
                handle->eof = true;
            size_t got = have + (n > 0 ? (size_t)n : 0);
            if (got > 0) {
                learn_from_read(handle, size, got);
                return give(env, handle, &binary, got, after);
            }
            enif_release_binary(&binary);
            return nr_atoms.eof_;
        }
        if (n != -EAGAIN || handle->finished) {
            enif_release_binary(&binary);
            return n == -EAGAIN ? nr_atoms.eof_ : failure(env, (int)n);
        }
        r = empty(env, handle, ref, manner, after);
        if (r != NR_RETRY)
            break;
    }
    enif_release_binary(&binary);
    return waits(env, handle, r, ref);
}

static ERL_NIF_TERM read_call(ErlNifEnv *env, const ERL_NIF_TERM argv[], enum manner manner)
{
    ErlNifUInt64 max;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || handle->direction != NR_READ || !enif_get_uint64(env, argv[1], &max) ||
        max == 0 || !enif_is_ref(env, argv[2]))
        return enif_make_badarg(env);
    struct nr_after_read after = {.lets_in = false};
    enif_mutex_lock(handle->mutex);
    ERL_NIF_TERM result = read_locked(env, handle, max < READ_MAX ? (size_t)max : READ_MAX, argv[2],
                                      manner, manner == TAKES_TURNS ? &after : NULL);
    enif_mutex_unlock(handle->mutex);
    nr_turns_after_read(env, &after);
    nr_backend_ring_pass(env, handle);
    return result;
}

ERL_NIF_TERM nr_nif_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return read_call(env, argv, LOOKS);
}

ERL_NIF_TERM nr_nif_read_coalescing(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return read_call(env, argv, COALESCES);
}

ERL_NIF_TERM nr_nif_read_patiently(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return read_call(env, argv, TAKES_TURNS);
}

static ERL_NIF_TERM wrote(ErlNifEnv *env, struct nr_handle *handle, size_t n)
{
    handle->stats.ops++;
    charge(env, n);
    return nr_term_ok(env, enif_make_uint64(env, n));
}

/* The n-th byte (n >= 1), or -1 if there are not so many. */
static int nth_byte(const struct iovec *parts, int count, size_t n)
{
    for (int i = 0; i < count; i++) {
        if (n <= parts[i].iov_len)
            return ((const unsigned char *)parts[i].iov_base)[n - 1];
        n -= parts[i].iov_len;
    }
    return -1;
}

/* A larger pipe for who keeps finding it full with much to write. True: there is room now. */
static bool learn_from_full(struct nr_handle *handle, size_t wanted)
{
    if (wanted < BULK_WRITE || ++handle->fulls < 2)
        return false;
    handle->fulls = 0;
    return nr_handle_grow_pipe(handle);
}

/* The iovec cut to what one call moves. */
static int cut_iovec(struct iovec *cut, const ErlNifIOVec *whole, size_t *bytes)
{
    int count = 0;
    *bytes = 0;
    for (int i = 0; i < whole->iovcnt && count < IOVEC_MAX && *bytes < WRITE_MAX; i++) {
        size_t length = whole->iov[i].iov_len;
        if (length > WRITE_MAX - *bytes)
            length = WRITE_MAX - *bytes;
        if (length == 0)
            continue;
        cut[count++] = (struct iovec){.iov_base = whole->iov[i].iov_base, .iov_len = length};
        *bytes += length;
    }
    return count;
}

static ERL_NIF_TERM write_locked(ErlNifEnv *env, struct nr_handle *handle, const ErlNifIOVec *whole,
                                 ERL_NIF_TERM ref)
{
    int r = enter(env, handle, ref);
    if (r == NR_PENDING)
        return nr_atoms.again_;
    if (r < 0)
        return failure(env, r);

    if (handle->has_written) {
        /* A ring wrote while somebody waited. If it was the caller, this is its answer. */
        handle->has_written = false;
        if (is_self(env, &handle->writer))
            return handle->written < 0 ? failure(env, handle->written)
                                       : wrote(env, handle, (size_t)handle->written);
    }

    struct iovec cut[IOVEC_MAX];
    size_t bytes;
    int count = cut_iovec(cut, whole, &bytes);
    if (count == 0)
        return wrote(env, handle, 0);

    for (int i = 0; i < RETRIES; i++) {
        ssize_t n;
        /* As for a pipe that nobody reads any more. Once it is full, it would never have room again. */
        if (handle->terminal && nr_pty_left(handle->fd))
            return failure(env, -EPIPE);
        nr_stream_begin(&handle->stream);
        do {
            n = writev(handle->fd, cut, count);
        } while (n < 0 && errno == EINTR);
        if (n >= 0) {
            handle->stats.bytes += (uint64_t)n;
            if (n > 0)
                handle->last_written = nth_byte(cut, count, (size_t)n);
            return wrote(env, handle, (size_t)n);
        }
        r = nr_errno();
        if (r != -EAGAIN)
            return failure(env, r);
        if (learn_from_full(handle, bytes)) {
            r = NR_RETRY;
            continue;
        }
        /* A small rest is given to the mechanism: a ring writes it itself from a slot. */
        unsigned char rest[RING_WRITE_MAX];
        size_t rest_length = 0;
        if (bytes <= RING_WRITE_MAX) {
            for (int j = 0; j < count; j++) {
                memcpy(rest + rest_length, cut[j].iov_base, cut[j].iov_len);
                rest_length += cut[j].iov_len;
            }
        }
        r = wait_for(env, handle, ref, rest, rest_length);
        if (r != NR_RETRY)
            break;
    }
    return waits(env, handle, r, ref);
}

ERL_NIF_TERM nr_nif_write(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ERL_NIF_TERM tail;
    ErlNifIOVec *iovec = NULL;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || handle->direction != NR_WRITE || !enif_is_ref(env, argv[2]) ||
        !enif_inspect_iovec(env, IOVEC_MAX, argv[1], &tail, &iovec))
        return enif_make_badarg(env);
    enif_mutex_lock(handle->mutex);
    ERL_NIF_TERM result = write_locked(env, handle, iovec, argv[2]);
    enif_mutex_unlock(handle->mutex);
    nr_backend_ring_pass(env, handle);
    return result;
}

ERL_NIF_TERM nr_nif_cancel(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL)
        return enif_make_badarg(env);
    ERL_NIF_TERM result = nr_atoms.pending_;
    enif_mutex_lock(handle->mutex);
    if (handle->waiting && is_self(env, &handle->waiter)) {
        int r = nr_handle_cancel_wait(env, handle);
        if (r == 0)
            result = nr_atoms.cancelled_;
        /* The message is not to come, or is sent. Only a ring may still be about to. */
        if (r == 0 || handle->in_queue || handle->backend == &nr_backend_poll)
            handle->waiting = handle->in_queue = false;
    }
    enif_mutex_unlock(handle->mutex);
    nr_backend_ring_pass(env, handle);
    return result;
}

ERL_NIF_TERM nr_nif_take_written(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL)
        return enif_make_badarg(env);
    int taken = 0;
    enif_mutex_lock(handle->mutex);
    if (handle->has_written && is_self(env, &handle->writer)) {
        taken = handle->written > 0 ? handle->written : 0;
        handle->has_written = false;
    }
    enif_mutex_unlock(handle->mutex);
    return enif_make_int(env, taken);
}

ERL_NIF_TERM nr_nif_unread(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifPid pid;
    ERL_NIF_TERM ref = 0;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || handle->direction != NR_READ || !enif_is_binary(env, argv[1]))
        return enif_make_badarg(env);
    enif_mutex_lock(handle->mutex);
    int r =
        atomic_load(&handle->state) == NR_HANDLE_OPEN ? nr_handle_unread(handle, argv[1]) : -EBADF;
    /* Who began to read meanwhile need not wait for more. */
    bool notify = r == 0 && nr_handle_end_wait(env, handle, &pid, &ref);
    enif_mutex_unlock(handle->mutex);
    if (notify)
        nr_handle_notify(env, &pid, ref);
    return r < 0 ? failure(env, r) : nr_atoms.ok_;
}

ERL_NIF_TERM nr_nif_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL)
        return enif_make_badarg(env);
    nr_handle_close(env, handle);
    return nr_atoms.ok_;
}

ERL_NIF_TERM nr_nif_finish(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL || handle->direction != NR_READ)
        return enif_make_badarg(env);
    nr_handle_finish(env, handle);
    return nr_atoms.ok_;
}

ERL_NIF_TERM nr_nif_handle_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct nr_handle *handle = nr_handle_get(env, argv[0]);
    if (handle == NULL)
        return enif_make_badarg(env);
    enif_mutex_lock(handle->mutex);
    struct nr_handle_stats stats = handle->stats;
    const struct nr_backend *backend = handle->backend;
    enif_mutex_unlock(handle->mutex);
    const ERL_NIF_TERM keys[] = {
        nr_atoms.bytes_,          nr_atoms.ops_,        nr_atoms.waits_poll_,
        nr_atoms.waits_io_uring_, nr_atoms.fixed_,      nr_atoms.unfixed_,
        nr_atoms.moves_,          nr_atoms.moves_back_, nr_atoms.pipe_bytes_,
        nr_atoms.pipe_refused_,   nr_atoms.poll_,
    };
    const ERL_NIF_TERM values[] = {
        enif_make_uint64(env, stats.bytes),        enif_make_uint64(env, stats.ops),
        enif_make_uint64(env, stats.waits_poll),   enif_make_uint64(env, stats.waits_io_uring),
        enif_make_uint64(env, stats.fixed),        enif_make_uint64(env, stats.unfixed),
        enif_make_uint64(env, stats.moves),        enif_make_uint64(env, stats.moves_back),
        enif_make_uint64(env, stats.pipe_bytes),   enif_make_uint64(env, stats.pipe_refused),
        nr_term_bool(backend == &nr_backend_poll),
    };
    return nr_term_map(env, keys, values, sizeof(keys) / sizeof(keys[0]));
}
