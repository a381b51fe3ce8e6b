/*
 * The ring core, one behaviour a test. What needs the kernel to answer something in particular, or
 * something to happen at one particular moment, goes through the linker's --wrap (ring.cmake).
 */
#include "check_support.h"

#include "op.h"
#include "ring_core.h"
#include "ring_support.h"
#include "slots.h"
#include "table.h"

#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

/* --- the seam ------------------------------------------------------------------------------ */

int __real_io_uring_submit(struct io_uring *uring);
int __wrap_io_uring_submit(struct io_uring *uring);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *uring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring,
                                      struct io_uring_params *params);
int __real_io_uring_register_buffers(struct io_uring *uring, const struct iovec *vectors,
                                     unsigned count);
int __wrap_io_uring_register_buffers(struct io_uring *uring, const struct iovec *vectors,
                                     unsigned count);
int __real_io_uring_register_eventfd(struct io_uring *uring, int fd);
int __wrap_io_uring_register_eventfd(struct io_uring *uring, int fd);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_reallocarray(void *pointer, size_t count, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size);
void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_madvise(void *address, size_t length, int advice);
int __wrap_madvise(void *address, size_t length, int advice);
int __real_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags);
int __real_pipe2(int fds[2], int flags);
int __wrap_pipe2(int fds[2], int flags);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static struct {
    bool counting;      /* fail the call that brings `countdown` to 0 */
    unsigned countdown; /* over all wrapped calls that make something */
    int error;
    bool failed;

    unsigned missing_features; /* of io_uring_setup */
    int register_error; /* what io_uring_register_buffers says, every time; 0: the kernel's own */

    int submit_error;        /* what io_uring_submit says ... */
    unsigned submit_refused; /* ... so many times */
    void (*before_submit)(void);
    void (*after_submit)(void);
} seam;

/* After the next time this thread unlocks a mutex. */
static _Thread_local void (*after_unlock)(void);

static bool fails(void)
{
    if (!seam.counting || seam.countdown == 0 || --seam.countdown > 0)
        return false;
    seam.failed = true;
    return true;
}

int __wrap_io_uring_submit(struct io_uring *uring)
{
    if (seam.submit_refused > 0) {
        seam.submit_refused--;
        return seam.submit_error;
    }
    void (*before)(void) = seam.before_submit;
    void (*after)(void) = seam.after_submit;
    seam.before_submit = NULL;
    seam.after_submit = NULL;
    if (before != NULL)
        before();
    int r = __real_io_uring_submit(uring);
    if (after != NULL)
        after();
    return r;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int r = __real_pthread_mutex_unlock(mutex);
    void (*after)(void) = after_unlock;
    after_unlock = NULL;
    if (after != NULL)
        after();
    return r;
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring,
                                      struct io_uring_params *params)
{
    int r = fails() ? -seam.error : __real_io_uring_queue_init_params(entries, uring, params);
    params->features &= ~seam.missing_features;
    return r;
}

int __wrap_io_uring_register_buffers(struct io_uring *uring, const struct iovec *vectors,
                                     unsigned count)
{
    if (seam.register_error != 0)
        return seam.register_error;
    return fails() ? -seam.error : __real_io_uring_register_buffers(uring, vectors, count);
}

int __wrap_io_uring_register_eventfd(struct io_uring *uring, int fd)
{
    return fails() ? -seam.error : __real_io_uring_register_eventfd(uring, fd);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_reallocarray(void *pointer, size_t count, size_t size)
{
    return fails() ? NULL : __real_reallocarray(pointer, count, size);
}

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (!fails())
        return __real_mmap(address, length, protection, flags, fd, offset);
    errno = seam.error;
    return MAP_FAILED;
}

static int fail_call(void)
{
    errno = seam.error;
    return -1;
}

int __wrap_madvise(void *address, size_t length, int advice)
{
    return fails() ? fail_call() : __real_madvise(address, length, advice);
}

int __wrap_eventfd(unsigned value, int flags)
{
    return fails() ? fail_call() : __real_eventfd(value, flags);
}

int __wrap_pipe2(int fds[2], int flags)
{
    return fails() ? fail_call() : __real_pipe2(fds, flags);
}

/* --- the ring every test has --------------------------------------------------------------- */

static struct nr_ring *ring;
static bool coop;

static struct nr_ring *ring_new(struct nr_ring_options options)
{
    options.coop_taskrun = coop;
    struct nr_ring *made;
    ck_assert_int_ge(ring_new_in_time(&made, &options), 0);
    return made;
}

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    total_events = 0;
    ring = ring_new((struct nr_ring_options){.entries = 0});
}

static void setup_coop(void)
{
    coop = true;
    setup();
}

static void teardown(void)
{
    ring_end(ring);
}

static struct nr_ring_info info_of(struct nr_ring *of)
{
    struct nr_ring_info info;
    nr_ring_get_info(of, &info);
    return info;
}

static unsigned count_fds(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* --- reading ------------------------------------------------------------------------------- */

START_TEST(read_is_byte_exact)
{
    /* A demand that meets data gives exactly the bytes of the pipe, through a registered slot. */
    struct end *end = end_add(ring, NR_READ);
    unsigned char bytes[5000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 31 + i / 256);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, bytes, sizeof(bytes));
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, sizeof(bytes));
    ck_assert_int_eq(memcmp(end->bytes, bytes, sizeof(bytes)), 0);
    ck_assert(end->fixed == info_of(ring).registered);
    ck_assert_uint_eq(end->events, 1);
    end_remove(end);
}
END_TEST

START_TEST(one_demand_is_one_event)
{
    /* Data without demand stays in the pipe: a harvest takes what was asked for, once. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "one", 3);
    harvest_until(ring, &end->data, 1);
    put(end->peer, "two", 3);
    harvest_once(ring);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 1);
    char rest[8];
    ck_assert_int_eq((int)read(end->stream.fd, rest, sizeof(rest)), 3);
    ck_assert_int_eq(memcmp(rest, "two", 3), 0);
    end_remove(end);
}
END_TEST

START_TEST(eof_is_data_of_length_zero)
{
    /* The last writer leaves: the demand is met by DATA of length 0. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    end->peer = nr_fd_close(end->peer);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 0);
    ck_assert_int_eq(end->result, 0);
    end_remove(end);
}
END_TEST

START_TEST(eof_after_data_comes_second)
{
    /* Data and the end of the pipe at once: data first, then the end, none lost. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "last words", 10);
    end->peer = nr_fd_close(end->peer);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 10);
    nr_stream_begin(&end->stream);
    char byte;
    ck_assert_int_eq((int)read(end->stream.fd, &byte, 1), 0);
    end_remove(end);
}
END_TEST

START_TEST(a_read_says_whether_there_may_be_more)
{
    /* Who got less than a slot may arm without a look of his own: an edge will tell. Not so after a full slot, and not
     * once the other side has left: the end of a pipe is told of once, perhaps together with the last bytes. */
    struct end *end = end_add(ring, NR_READ);
    static char bytes[16384];
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "some", 4);
    harvest_until(ring, &end->data, 1);
    ck_assert(!end->more);
    ck_assert(nr_stream_will_tell(&end->stream));

    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, bytes, sizeof(bytes));
    harvest_until(ring, &end->data, 2);
    ck_assert(end->more);

    nr_stream_begin(&end->stream);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "last", 4);
    end->peer = nr_fd_close(end->peer);
    harvest_until(ring, &end->data, 3);
    ck_assert(!end->more);
    ck_assert(!nr_stream_will_tell(&end->stream));
    end_remove(end);
}
END_TEST

START_TEST(arm_after_eof_does_not_wait)
{
    /* The end of a pipe makes no further edge, so a demand placed after it must not be left waiting. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    end->peer = nr_fd_close(end->peer);
    harvest_until(ring, &end->data, 1);
    ck_assert(!nr_stream_arm(&end->stream));
    end_remove(end);
}
END_TEST

START_TEST(arm_after_a_full_slot_does_not_wait)
{
    /* A read that filled its slot may have left bytes that no edge will announce. */
    struct end *end = end_add(ring, NR_READ);
    static char bytes[20000];
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, bytes, sizeof(bytes));
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 16384);
    ck_assert(!nr_stream_arm(&end->stream));
    take(end->stream.fd, sizeof(bytes) - end->length);
    end_remove(end);
}
END_TEST

START_TEST(data_before_add_is_found)
{
    /* What was in the pipe at registration counts as an edge. */
    struct end *end = end_new(ring, NR_READ);
    put(end->peer, "early", 5);
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    ck_assert(nr_stream_arm(&end->stream));
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 5);
    end_remove(end);
}
END_TEST

/* --- writing ------------------------------------------------------------------------------- */

START_TEST(write_is_byte_exact)
{
    /* A write demand is met when the reader makes room, with exactly the borrowed bytes. */
    struct end *end = end_add(ring, NR_WRITE);
    unsigned char bytes[3000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7 + 1);
    fill_and_arm(end, bytes, sizeof(bytes));
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 0);
    int piped = fcntl(end->peer, F_GETPIPE_SZ);
    take(end->peer, (size_t)piped);
    harvest_until(ring, &end->written, 1);
    ck_assert_int_eq(end->result, (int)sizeof(bytes));
    ck_assert(end->fixed == info_of(ring).registered);
    unsigned char got[sizeof(bytes) + 1];
    ck_assert_int_eq((int)read(end->peer, got, sizeof(got)), (int)sizeof(bytes));
    ck_assert_int_eq(memcmp(got, bytes, sizeof(bytes)), 0);
    end_remove(end);
}
END_TEST

START_TEST(short_write_says_how_much)
{
    /* Room for a part of the bytes: the event tells how many were taken. */
    struct end *end = end_add(ring, NR_WRITE);
    static const char bytes[10000];
    fill_and_arm(end, bytes, sizeof(bytes));
    take(end->peer, 4096);
    harvest_until(ring, &end->written, 1);
    ck_assert_int_eq(end->result, 4096);
    end_remove(end);
}
END_TEST

START_TEST(write_above_the_slot_is_ready)
{
    /* Bytes that fit into no slot are the owner's own to write. */
    struct end *end = end_add(ring, NR_WRITE);
    static const char bytes[16385];
    fill_and_arm(end, bytes, sizeof(bytes));
    take(end->peer, 4096);
    harvest_until(ring, &end->ready, 1);
    ck_assert_uint_eq(end->events, 1);
    end_remove(end);
}
END_TEST

START_TEST(write_of_a_whole_slot_goes)
{
    /* The slot size itself still fits. */
    struct end *end = end_add(ring, NR_WRITE);
    static const char bytes[16384];
    fill_and_arm(end, bytes, sizeof(bytes));
    take(end->peer, (size_t)fcntl(end->peer, F_GETPIPE_SZ));
    harvest_until(ring, &end->written, 1);
    ck_assert_int_eq(end->result, (int)sizeof(bytes));
    end_remove(end);
}
END_TEST

START_TEST(write_of_nothing_is_ready)
{
    /* Length 0 asks for readiness only. */
    struct end *end = end_add(ring, NR_WRITE);
    fill_and_arm(end, NULL, 0);
    take(end->peer, 4096);
    harvest_until(ring, &end->ready, 1);
    ck_assert_uint_eq(end->events, 1);
    end_remove(end);
}
END_TEST

START_TEST(write_without_a_reader_is_epipe)
{
    /* The reader leaves while bytes wait: the write ends with -EPIPE. */
    struct end *end = end_add(ring, NR_WRITE);
    fill_and_arm(end, "lost", 4);
    end->peer = nr_fd_close(end->peer);
    harvest_until(ring, &end->written, 1);
    ck_assert_int_eq(end->result, -EPIPE);
    ck_assert(!nr_stream_arm(&end->stream));
    end_remove(end);
}
END_TEST

/* --- arm and disarm ------------------------------------------------------------------------ */

START_TEST(arm_after_an_edge_says_try_again)
{
    /* An edge that came since begin makes arm refuse, and leave no demand. */
    struct end *end = end_add(ring, NR_READ);
    nr_stream_begin(&end->stream);
    put(end->peer, "x", 1);
    wait_announced(ring);
    harvest_once(ring);
    ck_assert(!nr_stream_arm(&end->stream));
    ck_assert_uint_eq(atomic_load(&end->stream.demand), NR_DEMAND_IDLE);
    take(end->stream.fd, 1);
    settle_and_arm(end);
    put(end->peer, "y", 1);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->bytes[0], 'y');
    end_remove(end);
}
END_TEST

START_TEST(arm_twice_is_one_demand)
{
    /* Arming an armed stream changes nothing. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    harvest_until(ring, &end->data, 1);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 1);
    end_remove(end);
}
END_TEST

START_TEST(disarm_in_time_means_no_event)
{
    /* A demand taken back leaves the bytes in the pipe for the next reader. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    ck_assert(nr_stream_disarm(&end->stream));
    put(end->peer, "kept", 4);
    wait_announced(ring);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 0);
    take(end->stream.fd, 4);
    end_remove(end);
}
END_TEST

START_TEST(disarm_after_the_event_is_too_late)
{
    /* Once an event was made, disarm says so. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    harvest_until(ring, &end->data, 1);
    ck_assert(!nr_stream_disarm(&end->stream));
    end_remove(end);
}
END_TEST

static struct end *hooked;
static bool disarmed;

static void hook_disarm(void)
{
    disarmed = nr_stream_disarm(&hooked->stream);
}

static void hook_steal(void)
{
    char bytes[16];
    ck_assert_int_gt((int)read(hooked->stream.fd, bytes, sizeof(bytes)), 0);
}

static void hook_steal_and_disarm(void)
{
    hook_steal();
    hook_disarm();
}

static void hook_put(void)
{
    put(hooked->peer, "new", 3);
}

START_TEST(disarm_of_a_taken_demand_still_gives_the_event)
{
    /* While the harvest reads for it, a demand cannot be taken back: the bytes come. */
    struct end *end = end_add(ring, NR_READ);
    hooked = end;
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "too late", 8);
    disarmed = true;
    seam.before_submit = hook_disarm;
    harvest_until(ring, &end->data, 1);
    ck_assert(!disarmed);
    ck_assert_uint_eq(end->length, 8);
    end_remove(end);
}
END_TEST

START_TEST(disarm_of_a_taken_demand_that_finds_nothing_ends_in_ready)
{
    /* LEAVING always ends in an event, also when another reader was faster. */
    struct end *end = end_add(ring, NR_READ);
    hooked = end;
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "gone", 4);
    disarmed = true;
    seam.before_submit = hook_steal_and_disarm;
    harvest_until(ring, &end->ready, 1);
    ck_assert(!disarmed);
    ck_assert_uint_eq(end->events, 1);
    end_remove(end);
}
END_TEST

START_TEST(demand_is_put_back_when_the_pipe_is_empty_after_all)
{
    /* -EAGAIN makes no event: the demand waits for the next edge, and gets it. */
    struct end *end = end_add(ring, NR_READ);
    hooked = end;
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "stolen", 6);
    wait_announced(ring);
    seam.before_submit = hook_steal;
    harvest_once(ring);
    ck_assert_ptr_null((void *)(uintptr_t)seam.before_submit);
    ck_assert_uint_eq(end->events, 0);
    ck_assert_uint_eq(atomic_load(&end->stream.demand), NR_DEMAND_WANTED);
    ck_assert_uint_eq(info_of(ring).slots_in_use, 0);
    put(end->peer, "mine", 4);
    harvest_until(ring, &end->data, 1);
    ck_assert_int_eq(memcmp(end->bytes, "mine", 4), 0);
    end_remove(end);
}
END_TEST

START_TEST(edge_during_the_read_is_not_lost)
{
    /* Stolen before the read, new bytes right after it: the same harvest delivers those. */
    struct end *end = end_add(ring, NR_READ);
    hooked = end;
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "stolen", 6);
    wait_announced(ring);
    seam.before_submit = hook_steal;
    seam.after_submit = hook_put;
    harvest_once(ring);
    ck_assert_uint_eq(end->data, 1);
    ck_assert_int_eq(memcmp(end->bytes, "new", 3), 0);
    end_remove(end);
}
END_TEST

/* --- asleep, and quiet -------------------------------------------------------------------- */

/* One edge of which its owner hears nothing: it reads without waiting. */
static void edge_unheeded(struct end *end)
{
    put(end->peer, "x", 1);
    wait_announced(ring);
    harvest_once(ring);
    nr_stream_begin(&end->stream);
    take(end->stream.fd, 1);
}

static struct end *end_asleep(void)
{
    struct end *end = end_add(ring, NR_READ);
    for (unsigned i = 0; i < 16; i++) {
        ck_assert(!nr_stream_is_asleep(&end->stream));
        edge_unheeded(end);
    }
    ck_assert(nr_stream_is_asleep(&end->stream));
    return end;
}

/* Its next harvest finds the edge that makes it fall asleep. */
static struct end *end_nearly_asleep(void)
{
    struct end *end = end_add(ring, NR_READ);
    for (unsigned i = 0; i < 15; i++)
        edge_unheeded(end);
    put(end->peer, "x", 1);
    wait_announced(ring);
    return end;
}

/* The byte that it waits for, its n-th event of this kind. */
static void wait_for_byte(struct end *end, const char *byte, unsigned n)
{
    settle_and_arm(end);
    put(end->peer, byte, 1);
    harvest_until(ring, &end->data, n);
}

static void settle_arm_and_wake(struct end *end)
{
    settle_and_arm(end);
    ck_assert(nr_stream_is_asleep(&end->stream));
    nr_ring_wake(ring, &end->stream);
    ck_assert(!nr_stream_is_asleep(&end->stream));
}

START_TEST(edges_that_nobody_waits_for_end)
{
    /* Who reads without waiting costs a few harvests, and then none. */
    struct end *end = end_asleep();
    uint64_t harvests = info_of(ring).harvests;
    for (unsigned i = 0; i < 100; i++) {
        put(end->peer, "x", 1);
        ck_assert(!is_announced(ring));
        ck_assert(!nr_ring_pending(ring));
        take(end->stream.fd, 1);
    }
    ck_assert_uint_eq(info_of(ring).harvests, harvests);
    ck_assert_uint_eq(end->events, 0);
    end_remove(end);
}
END_TEST

START_TEST(who_waits_now_and_then_stays_awake)
{
    /* Each wait that is served begins the count anew. */
    struct end *end = end_add(ring, NR_READ);
    for (unsigned i = 1; i <= 4; i++) {
        for (unsigned j = 0; j < 15; j++)
            edge_unheeded(end);
        wait_for_byte(end, "x", i);
        ck_assert(!nr_stream_is_asleep(&end->stream));
    }
    end_remove(end);
}
END_TEST

START_TEST(who_arms_and_wakes_is_told)
{
    /* Again and again, of each next byte. */
    struct end *end = end_asleep();
    settle_arm_and_wake(end);
    put(end->peer, "a", 1);
    harvest_until(ring, &end->data, 1);
    wait_for_byte(end, "b", 2);
    ck_assert_int_eq(memcmp(end->bytes, "ab", 2), 0);
    end_remove(end);
}
END_TEST

START_TEST(bytes_of_before_the_wake_are_told)
{
    /* They came after the owner's look, while no poll was there that would have told. */
    struct end *end = end_asleep();
    settle_and_arm(end);
    put(end->peer, "between", 7);
    ck_assert(!is_announced(ring));
    nr_ring_wake(ring, &end->stream);
    harvest_until(ring, &end->data, 1);
    ck_assert_int_eq(memcmp(end->bytes, "between", 7), 0);
    end_remove(end);
}
END_TEST

START_TEST(hang_up_while_asleep_is_told)
{
    struct end *end = end_asleep();
    nr_fd_close(end->peer);
    end->peer = -1;
    nr_stream_begin(&end->stream);
    ck_assert(nr_stream_arm(&end->stream));
    nr_ring_wake(ring, &end->stream);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 0);
    end_remove(end);
}
END_TEST

START_TEST(wake_of_who_is_awake_does_nothing)
{
    struct end *end = end_add(ring, NR_READ);
    settle_and_arm(end);
    nr_ring_wake(ring, &end->stream);
    ck_assert(!is_announced(ring));
    put(end->peer, "x", 1);
    harvest_until(ring, &end->data, 1);
    end_remove(end);
}
END_TEST

START_TEST(quiet_eventfd_says_nothing_until_it_is_loud_again)
{
    /* Who comes by the clock finds all there is; who waits again is told of what came meanwhile. */
    struct end *end = end_add(ring, NR_READ);
    nr_ring_set_quiet(ring, true);
    settle_and_arm(end);
    put(end->peer, "a", 1);
    ck_assert(!is_announced(ring));
    harvest_once(ring);
    ck_assert_uint_eq(end->data, 1);
    settle_and_arm(end);
    put(end->peer, "b", 1);
    ck_assert(!is_announced(ring));
    nr_ring_set_quiet(ring, false);
    ck_assert(is_announced(ring));
    harvest_until(ring, &end->data, 2);
    wait_for_byte(end, "c", 3);
    ck_assert_int_eq(memcmp(end->bytes, "abc", 3), 0);
    end_remove(end);
}
END_TEST

START_TEST(remove_while_asleep)
{
    struct end *end = end_asleep();
    end_remove(end);
}
END_TEST

START_TEST(wake_before_the_poll_has_ended)
{
    /* The cancellation could not go. It goes later, beside the wake, and the poll is made again. */
    struct end *end = end_nearly_asleep();
    seam.submit_error = -EAGAIN;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), NR_RING_MORE);
    seam.submit_refused = 0;
    take(end->stream.fd, 1);
    settle_arm_and_wake(end);
    harvest_once(ring);
    for (unsigned i = 1; i <= 3; i++) {
        put(end->peer, "y", 1);
        harvest_until(ring, &end->data, i);
        settle_and_arm(end);
    }
    end_remove(end);
}
END_TEST

static void hook_arm(void)
{
    nr_stream_begin(&hooked->stream);
    ck_assert(nr_stream_arm(&hooked->stream));
}

START_TEST(demand_placed_while_it_falls_asleep_is_served)
{
    struct end *end = end_nearly_asleep();
    hooked = end;
    take(end->stream.fd, 1);
    seam.before_submit = hook_arm; /* of the cancellation */
    harvest_once(ring);
    ck_assert(nr_stream_is_asleep(&end->stream));
    nr_ring_wake(ring, &end->stream);
    put(end->peer, "y", 1);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->bytes[0], 'y');
    end_remove(end);
}
END_TEST

/* --- the end of a registration ------------------------------------------------------------- */

START_TEST(remove_before_any_event)
{
    /* GONE comes for a stream that never had an event, once, and last. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->events, 1);
    ck_assert_int_eq(end->result, 0);
    harvest_once(ring);
    end_free(end);
}
END_TEST

START_TEST(remove_ends_a_waiting_demand)
{
    /* With demand armed, GONE is the only event. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->events, 1);
    end_free(end);
}
END_TEST

START_TEST(remove_swallows_no_bytes)
{
    /* Bytes that arrive at a stream being removed stay in the pipe, demand or not. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    put(end->peer, "for the next", 12);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->data, 0);
    take(end->stream.fd, 12);
    end_free(end);
}
END_TEST

START_TEST(remove_after_hang_up)
{
    /* A pipe whose other end has gone is removed like any other. */
    struct end *end = end_add(ring, NR_READ);
    end->peer = nr_fd_close(end->peer);
    wait_announced(ring);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 0);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    end_free(end);
}
END_TEST

START_TEST(remove_with_an_edge_unseen)
{
    /* An edge and a removal in the same completion queue: only GONE. */
    struct end *end = end_add(ring, NR_READ);
    put(end->peer, "x", 1);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->events, 1);
    end_free(end);
}
END_TEST

START_TEST(remove_twice_is_one_gone)
{
    /* A second remove changes nothing. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), -ENOENT);
    harvest_once(ring);
    end_free(end);
}
END_TEST

static void react_remove(struct end *end, const struct nr_event *event)
{
    if (event->kind == NR_EVENT_DATA)
        ck_assert_int_eq(nr_ring_remove(end->ring, &end->stream), 0);
}

START_TEST(remove_inside_a_callback)
{
    /* A callback may remove its own stream; GONE comes after the event it is in. */
    struct end *end = end_add(ring, NR_READ);
    end->react = react_remove;
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->data, 1);
    ck_assert_uint_eq(end->events, 2);
    end_free(end);
}
END_TEST

static struct end *fresh;

static void react_replace(struct end *end, const struct nr_event *event)
{
    if (event->kind != NR_EVENT_GONE)
        return;
    fresh = end_new(end->ring, NR_READ);
    ck_assert_int_eq(nr_ring_add(end->ring, &fresh->stream), 0);
    ck_assert(nr_stream_arm(&fresh->stream));
    put(fresh->peer, "fresh", 5);
    /* The owner may free the stream here: the ring must not touch it again. */
    memset(&end->stream, 0xa5, sizeof(end->stream));
}

START_TEST(add_inside_a_callback)
{
    /* GONE is the moment to free a stream and to register another, which works at once. */
    struct end *end = end_add(ring, NR_READ);
    int fd = end->stream.fd;
    end->react = react_replace;
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    harvest_until(ring, &fresh->data, 1);
    ck_assert_uint_eq(fresh->length, 5);
    end->stream.fd = fd;
    end_free(end);
    end_remove(fresh);
}
END_TEST

START_TEST(places_are_used_again)
{
    /* A thousand registrations, one after the other, need one place. */
    struct end *end = end_new(ring, NR_READ);
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
        ck_assert_uint_eq(end->stream.index, 0);
        ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
        harvest_until(ring, &end->gone, 1);
        end->gone = 0;
    }
    ck_assert_uint_eq(end->stream.generation, 999);
    end_free(end);
}
END_TEST

START_TEST(bad_descriptor_is_refused)
{
    /* What the kernel will not poll is an error of add, with nothing registered. */
    struct end *end = end_new(ring, NR_READ);
    int fd = end->stream.fd;
    end->stream.fd = 999;
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), -EBADF);
    ck_assert_uint_eq(info_of(ring).streams, 0);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 0);
    end->stream.fd = fd;
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    end_remove(end);
}
END_TEST

static void *thread_add(void *argument)
{
    struct end *end = argument;
    return (void *)(intptr_t)nr_ring_add(end->ring, &end->stream);
}

static void add_on_a_thread_that_exits(struct end *end)
{
    pthread_t thread;
    void *result;
    ck_assert_int_eq(pthread_create(&thread, NULL, thread_add, end), 0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_null(result);
}

START_TEST(registration_outlives_its_thread)
{
    /* At the first edge after its thread exited the kernel cancels a poll instead of telling the
     * edge; the stream must not notice. */
    struct end *end = end_new(ring, NR_READ);
    add_on_a_thread_that_exits(end);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "alive", 5);
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 5);
    end_remove(end);
}
END_TEST

START_TEST(remove_of_a_registration_that_just_ended)
{
    /* The poll's last completion waits unseen in the queue when the stream is removed: one GONE. */
    struct end *end = end_new(ring, NR_READ);
    add_on_a_thread_that_exits(end);
    put(end->peer, "x", 1);
    wait_announced(ring);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 1);
    end_free(end);
}
END_TEST

START_TEST(registration_that_cannot_be_kept_is_given_up)
{
    /* The kernel refuses to poll again and again: the waiter is told, then GONE with the reason.
     * (Here: the descriptor was closed under the ring, which the contract forbids.) */
    struct end *end = end_new(ring, NR_READ);
    add_on_a_thread_that_exits(end);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    wait_announced(ring);
    end->stream.fd = nr_fd_close(end->stream.fd);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->ready, 1);
    ck_assert_int_eq(end->result, -EBADF);
    end_free(end);
}
END_TEST

/* --- many ---------------------------------------------------------------------------------- */

START_TEST(more_streams_than_slots)
{
    /* With 4 slots 100 ready streams are served in turns; each gets its own bytes. */
    struct nr_ring *small = ring_new((struct nr_ring_options){.slots = 4, .slot_size = 64});
    struct end *ends[100];
    for (unsigned i = 0; i < 100; i++) {
        ends[i] = end_add(small, NR_READ);
        ck_assert(nr_stream_arm(&ends[i]->stream));
    }
    for (unsigned i = 0; i < 100; i++)
        put(ends[i]->peer, &i, sizeof(i));
    harvest_until(small, &total_events, 100);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(ends[i]->data, 1);
        ck_assert_int_eq(memcmp(ends[i]->bytes, &i, sizeof(i)), 0);
    }
    for (unsigned i = 0; i < 100; i++)
        end_remove(ends[i]);
    ring_end(small);
}
END_TEST

START_TEST(limit_is_kept_and_nothing_is_lost)
{
    /* A harvest of 3 at a time says MORE, stays announced, and finds all 10. */
    struct end *ends[10];
    for (unsigned i = 0; i < 10; i++) {
        ends[i] = end_add(ring, NR_READ);
        ck_assert(nr_stream_arm(&ends[i]->stream));
        put(ends[i]->peer, "x", 1);
    }
    wait_announced(ring);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(nr_ring_harvest(ring, 3, on_event, NULL), NR_RING_MORE);
        ck_assert_uint_eq(total_events, 3UL * i);
        ck_assert(nr_ring_pending(ring));
        ck_assert(is_announced(ring));
    }
    ck_assert_int_eq(nr_ring_harvest(ring, 3, on_event, NULL), 0);
    ck_assert_uint_eq(total_events, 10);
    ck_assert(!nr_ring_pending(ring));
    for (unsigned i = 0; i < 10; i++)
        end_remove(ends[i]);
}
END_TEST

START_TEST(overflowed_completion_queue_loses_nothing)
{
    /* A thousand streams on a completion queue of 64 entries: every byte of every stream arrives. */
    enum { STREAMS = 1000, MESSAGES = 5 };
    const struct rlimit files = {.rlim_cur = 4096, .rlim_max = 4096};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    struct nr_ring *small =
        ring_new((struct nr_ring_options){.entries = 16, .cq_entries = 64, .slots = 16});
    static struct end *ends[STREAMS];
    for (unsigned i = 0; i < STREAMS; i++) {
        ends[i] = end_add(small, NR_READ);
        settle_and_arm(ends[i]);
    }
    for (unsigned message = 0; message < MESSAGES; message++) {
        for (unsigned i = 0; i < STREAMS; i++) {
            unsigned value = i * MESSAGES + message;
            put(ends[i]->peer, &value, sizeof(value));
        }
        total_events = 0;
        harvest_until(small, &total_events, STREAMS);
        for (unsigned i = 0; i < STREAMS; i++) {
            unsigned value = i * MESSAGES + message;
            ck_assert_uint_eq(ends[i]->data, message + 1);
            ck_assert_uint_eq(ends[i]->length, sizeof(value));
            ck_assert_int_eq(memcmp(ends[i]->bytes, &value, sizeof(value)), 0);
            ends[i]->length = 0;
            settle_and_arm(ends[i]);
        }
    }
    ck_assert_uint_gt(info_of(small).overflows, 0);
    for (unsigned i = 0; i < STREAMS; i++)
        ck_assert_int_eq(nr_ring_remove(small, &ends[i]->stream), 0);
    total_events = 0;
    harvest_until(small, &total_events, STREAMS);
    for (unsigned i = 0; i < STREAMS; i++) {
        ck_assert_uint_eq(ends[i]->gone, 1);
        end_free(ends[i]);
    }
    ring_end(small);
}
END_TEST

START_TEST(submission_queue_of_one)
{
    /* Every request needs its own enter: slow, and right. */
    struct nr_ring *small =
        ring_new((struct nr_ring_options){.entries = 1, .cq_entries = 2, .slots = 8});
    struct end *ends[8];
    for (unsigned i = 0; i < 8; i++) {
        ends[i] = end_add(small, NR_READ);
        ck_assert(nr_stream_arm(&ends[i]->stream));
        put(ends[i]->peer, &i, sizeof(i));
    }
    harvest_until(small, &total_events, 8);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_eq(ends[i]->data, 1);
        ck_assert_int_eq(memcmp(ends[i]->bytes, &i, sizeof(i)), 0);
        end_remove(ends[i]);
    }
    ring_end(small);
}
END_TEST

/* --- announcing ---------------------------------------------------------------------------- */

START_TEST(pending_is_true_exactly_while_completions_wait)
{
    /* Idle: false. An edge: true, and the eventfd says so too. Harvested: false, and silent. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    ck_assert(!nr_ring_pending(ring));
    ck_assert(!is_announced(ring));
    put(end->peer, "x", 1);
    wait_announced(ring);
    ck_assert(nr_ring_pending(ring));
    harvest_once(ring);
    ck_assert_uint_eq(end->data, 1);
    ck_assert(!nr_ring_pending(ring));
    ck_assert_msg(!is_announced(ring), "the harvest's own completions reached the eventfd");
    end_remove(end);
}
END_TEST

static void *thread_harvest(void *argument)
{
    struct end *other = argument;
    put(other->peer, "x", 1);
    return (void *)(intptr_t)nr_ring_harvest(other->ring, 0, on_event, NULL);
}

static struct end *second;

static void react_second_harvester(struct end *end, const struct nr_event *event)
{
    (void)end;
    if (event->kind != NR_EVENT_DATA)
        return;
    pthread_t thread;
    void *result;
    ck_assert_int_eq(pthread_create(&thread, NULL, thread_harvest, second), 0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_null(result);
    ck_assert_uint_eq(second->events, 0);
}

START_TEST(second_harvester_leaves_its_work_to_the_first)
{
    /* Who finds the ring being harvested returns at once; what he came for is served by the other. */
    struct end *first = end_add(ring, NR_READ);
    second = end_add(ring, NR_READ);
    first->react = react_second_harvester;
    ck_assert(nr_stream_arm(&first->stream));
    ck_assert(nr_stream_arm(&second->stream));
    put(first->peer, "x", 1);
    wait_announced(ring);
    harvest_once(ring);
    ck_assert_uint_eq(first->data, 1);
    ck_assert_uint_eq(second->data, 1);
    end_remove(first);
    end_remove(second);
}
END_TEST

static void hook_put_and_harvest(void)
{
    hook_put();
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), 0);
    ck_assert_uint_eq(hooked->events, 0);
}

START_TEST(harvest_that_came_a_moment_too_early_is_repeated)
{
    /* Someone finds the ring being harvested when the harvester has looked for the last time but not
     * let go yet: the harvester looks once more. */
    struct end *end = end_add(ring, NR_READ);
    hooked = end;
    ck_assert(nr_stream_arm(&end->stream));
    after_unlock = hook_put_and_harvest; /* an idle harvest unlocks once, at its end */
    harvest_once(ring);
    ck_assert_uint_eq(end->data, 1);
    end_remove(end);
}
END_TEST

/* --- refusals ------------------------------------------------------------------------------ */

/* The same events, both ways, but not through fixed buffers; and the ring says so. */
static void expect_unregistered(struct nr_ring *plain)
{
    ck_assert(!info_of(plain).registered);
    struct end *reading = end_add(plain, NR_READ);
    ck_assert(nr_stream_arm(&reading->stream));
    put(reading->peer, "bytes", 5);
    harvest_until(plain, &reading->data, 1);
    ck_assert_int_eq(memcmp(reading->bytes, "bytes", 5), 0);
    ck_assert(!reading->fixed);
    struct end *writing = end_add(plain, NR_WRITE);
    fill_and_arm(writing, "out", 3);
    take(writing->peer, (size_t)fcntl(writing->peer, F_GETPIPE_SZ));
    harvest_until(plain, &writing->written, 1);
    ck_assert_int_eq(writing->result, 3);
    ck_assert_uint_eq(info_of(plain).fixed, 0);
    ck_assert_uint_eq(info_of(plain).unfixed, 2);
    end_remove(reading);
    end_remove(writing);
}

START_TEST(unregistered_slots_work_too)
{
    struct nr_ring *plain;
    const struct nr_ring_options options = {.no_register = true};
    ck_assert_int_eq(nr_ring_new(&plain, &options), NR_RING_UNREGISTERED);
    expect_unregistered(plain);
    ring_end(plain);
}
END_TEST

static const int refused_registrations[] = {EPERM, ENOMEM};

START_TEST(refused_registration_means_unregistered)
{
    /* The kernel takes rings, but no buffers. */
    struct nr_ring *plain;
    const struct nr_ring_options options = {.entries = 0};
    seam.register_error = -refused_registrations[_i];
    int r = ring_new_in_time(&plain, &options);
    seam.register_error = 0;
    ck_assert_int_eq(r, NR_RING_UNREGISTERED);
    expect_unregistered(plain);
    ring_end(plain);
}
END_TEST

START_TEST(any_other_error_of_registration_is_one_of_the_ring)
{
    struct nr_ring *none = ring;
    const struct nr_ring_options options = {.entries = 0};
    unsigned before = count_fds();
    seam.register_error = -EINVAL;
    int r = ring_new_in_time(&none, &options);
    seam.register_error = 0;
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

/* A user's rings, slots and queues, are counted together: none but the test's own here. Root can be
 * somebody else; others may have processes that they do not share the limit with. */
static void be_unprivileged(uid_t uid, rlim_t locked)
{
    struct rlimit limit;
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (locked < limit.rlim_max)
        limit.rlim_max = locked;
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(setresuid(uid, uid, uid), 0);
}

static const rlim_t limits[] = {64 << 10, 256 << 10};

START_TEST(small_memlock_limit_means_unregistered)
{
    /* An unprivileged user whose RLIMIT_MEMLOCK is too small for the slots gets the other mode. */
    struct nr_ring *plain;
    const struct nr_ring_options options = {.slots = 64};
    be_unprivileged(65534 - (uid_t)_i, limits[_i]);
    int r = ring_new_in_time(&plain, &options);
    if (r == -ENOMEM)
        skip("other processes of this user have locked memory");
    ck_assert_int_eq(r, NR_RING_UNREGISTERED);
    expect_unregistered(plain);
    ring_end(plain);
}
END_TEST

START_TEST(no_memlock_at_all_means_unregistered_or_no_ring)
{
    /* Older kernels do not count the queues; younger ones say no, and nothing is left. */
    struct nr_ring *plain;
    const struct nr_ring_options options = {.slots = 64};
    unsigned before = count_fds();
    be_unprivileged(65529, 0);
    int r = nr_ring_new(&plain, &options);
    if (r == NR_RING_UNREGISTERED)
        ring_end(plain);
    else
        ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

START_TEST(freed_slots_are_not_counted_any_more)
{
    /* Pinned memory returns to RLIMIT_MEMLOCK with nr_ring_free, not some time later. */
    struct rlimit may;
    ck_assert_int_eq(getrlimit(RLIMIT_MEMLOCK, &may), 0);
    if (may.rlim_max < 3 << 20)
        skip("the hard limit is below 3 MiB");
    be_unprivileged(65530, 3 << 20);
    for (unsigned i = 0; i < 10; i++) { /* 15 MiB of slots; the queues' memory returns later */
        struct nr_ring *one;
        const struct nr_ring_options options = {.slots = 96};
        int r = nr_ring_new(&one, &options);
        if (i == 0 && r != 0)
            skip("other processes of this user have locked memory");
        ck_assert_int_eq(r, 0);
        nr_ring_free(one);
    }
}
END_TEST

static const int refusals[] = {EPERM, ENOSYS, ENFILE, EMFILE};

START_TEST(refused_ring_leaves_nothing)
{
    /* io_uring_setup says no: that errno, no ring, no descriptor left. */
    unsigned before = count_fds();
    struct nr_ring *none = ring;
    seam.error = refusals[_i];
    const struct nr_ring_options options = {.entries = 0};
    /* The calls before the setup: ring, slot stack, mapping, advice, moves, done. */
    seam.countdown = 7;
    seam.counting = true;
    int r = nr_ring_new(&none, &options);
    seam.counting = false;
    ck_assert(seam.failed);
    ck_assert_int_eq(r, -refusals[_i]);
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

START_TEST(every_failing_call_leaves_nothing)
{
    /* The n-th call that makes something fails, for every n: an error, or a ring with less (smaller
     * queues, unregistered slots), and nothing left. */
    unsigned before = count_fds();
    unsigned unregistered = 0;
    for (unsigned n = 1;; n++) {
        struct nr_ring *made = NULL;
        const struct nr_ring_options options = {.entries = 0};
        seam.failed = false;
        seam.error = ENOMEM;
        seam.countdown = n;
        seam.counting = true;
        int r = nr_ring_new(&made, &options);
        seam.counting = false;
        if (!seam.failed && r == -ENOMEM) { /* for real, and not for long: see ring_new_in_time */
            (void)poll(NULL, 0, 5);
            n--;
            continue;
        }
        if (!seam.failed) {
            ck_assert_int_ge(r, 0);
            nr_ring_free(made);
            ck_assert_uint_gt(n, 9);
            break;
        }
        unregistered += r == NR_RING_UNREGISTERED;
        if (r >= 0) {
            nr_ring_free(made);
        } else {
            ck_assert_int_eq(r, -ENOMEM);
            ck_assert_ptr_null(made);
        }
        ck_assert_uint_eq(count_fds(), before);
    }
    ck_assert_uint_ge(unregistered, 1); /* registration is among these calls */
}
END_TEST

START_TEST(full_table_is_an_error_of_add)
{
    /* No memory for a place: -ENOMEM, nothing registered, and the next try works. */
    struct end *end = end_new(ring, NR_READ);
    seam.error = ENOMEM;
    seam.countdown = 1;
    seam.counting = true;
    int r = nr_ring_add(ring, &end->stream);
    seam.counting = false;
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(info_of(ring).streams, 0);
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    end_remove(end);
}
END_TEST

static const int passing[] = {-EINTR, -EAGAIN, -EBUSY, -ENOMEM, 0};

START_TEST(refused_enter_is_repeated)
{
    /* An enter that is refused for the moment is repeated; nobody notices. */
    seam.submit_error = passing[_i];
    seam.submit_refused = 3;
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    seam.submit_refused = 3;
    harvest_until(ring, &end->data, 1);
    seam.submit_refused = 3;
    end_remove(end);
}
END_TEST

START_TEST(enter_refused_for_long_fails_add)
{
    /* If the enter stays refused, add says so and nothing is registered, then or later. */
    struct end *end = end_new(ring, NR_READ);
    seam.submit_error = -EAGAIN;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), -EAGAIN);
    seam.submit_refused = 0;
    ck_assert_uint_eq(info_of(ring).streams, 0);
    harvest_once(ring);
    put(end->peer, "x", 1);
    ck_assert_msg(!is_announced(ring), "the refused poll was registered later");
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    ck_assert(nr_stream_arm(&end->stream));
    harvest_until(ring, &end->data, 1);
    ck_assert_uint_eq(end->length, 1);
    end_remove(end);
}
END_TEST

START_TEST(enter_refused_for_good_ends_every_stream)
{
    /* One waits, one has a read taken, one is being removed: each gets its last event, no slot stays
     * taken, and nobody is registered any more. */
    struct end *waiting = end_add(ring, NR_READ);
    struct end *taken = end_add(ring, NR_READ);
    struct end *leaving = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&waiting->stream));
    ck_assert(nr_stream_arm(&taken->stream));
    put(taken->peer, "x", 1);
    wait_announced(ring);
    seam.submit_error = -EPERM;
    seam.submit_refused = 1000000;
    ck_assert_int_eq(nr_ring_remove(ring, &leaving->stream), 0);
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), -EPERM);
    struct end *ends[] = {waiting, taken, leaving};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(ends[i]->gone, 1);
        ck_assert_uint_eq(ends[i]->events, 1);
        ck_assert_int_eq(ends[i]->result, -EPERM);
    }
    ck_assert_uint_eq(info_of(ring).streams, 0);
    ck_assert_uint_eq(info_of(ring).slots_in_use, 0);
    ck_assert(!nr_ring_pending(ring));
    ck_assert_int_eq(nr_ring_add(ring, &waiting->stream), -EPERM);
    ck_assert_int_eq(nr_ring_remove(ring, &waiting->stream), -ENOENT);
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), -EPERM);
    take(taken->stream.fd, 1);
    for (size_t i = 0; i < 3; i++)
        end_free(ends[i]);
}
END_TEST

START_TEST(hundreds_of_streams_end_with_their_ring)
{
    struct end *ends[200];
    for (size_t i = 0; i < 200; i++) {
        ends[i] = end_add(ring, NR_READ);
        ck_assert(nr_stream_arm(&ends[i]->stream));
        put(ends[i]->peer, "x", 1);
    }
    wait_announced(ring);
    seam.submit_error = -EINVAL;
    seam.submit_refused = 1000000;
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), -EINVAL);
    for (size_t i = 0; i < 200; i++) {
        ck_assert_uint_eq(ends[i]->gone, 1);
        take(ends[i]->stream.fd, 1);
        end_free(ends[i]);
    }
    ck_assert_uint_eq(info_of(ring).streams, 0);
}
END_TEST

START_TEST(enter_refused_for_long_delays_a_read)
{
    /* If the enter stays refused the harvest says MORE, and what it had taken comes later. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    wait_announced(ring);
    seam.submit_error = -EBUSY;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), NR_RING_MORE);
    ck_assert_uint_eq(end->events, 0);
    ck_assert(nr_ring_pending(ring));
    ck_assert(is_announced(ring));
    seam.submit_refused = 0;
    harvest_until(ring, &end->data, 1);
    end_remove(end);
}
END_TEST

START_TEST(enter_refused_for_long_delays_a_removal)
{
    /* A cancellation that cannot go now goes with the next harvest, which is announced. */
    struct end *end = end_add(ring, NR_READ);
    seam.submit_error = -EAGAIN;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    seam.submit_refused = 0;
    ck_assert(is_announced(ring));
    harvest_until(ring, &end->gone, 1);
    end_free(end);
}
END_TEST

START_TEST(removal_that_is_delayed_swallows_no_bytes)
{
    /* Once remove was called nothing more is read, even while the poll lives on. */
    struct end *end = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "for the next", 12);
    seam.submit_error = -EAGAIN;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    seam.submit_refused = 0;
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->events, 1);
    take(end->stream.fd, 12);
    end_free(end);
}
END_TEST

/* Leaves a read of the stream prepared and not submitted. */
static void delay_a_read(struct end *end)
{
    ck_assert(nr_stream_arm(&end->stream));
    put(end->peer, "x", 1);
    wait_announced(ring);
    seam.submit_error = -EAGAIN;
    seam.submit_refused = 1000;
    ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), NR_RING_MORE);
    seam.submit_refused = 0;
    ck_assert_uint_eq(end->events, 0);
}

START_TEST(bytes_of_a_delayed_read_come_before_gone)
{
    /* A registration that ends while a read of it is under way waits for that: bytes, then GONE. */
    struct end *end = end_add(ring, NR_READ);
    delay_a_read(end);
    ck_assert_uint_eq(info_of(ring).slots_in_use, 1);
    ck_assert_int_eq(nr_ring_remove(ring, &end->stream), 0);
    harvest_until(ring, &end->gone, 1);
    ck_assert_uint_eq(end->data, 1);
    ck_assert_uint_eq(end->events, 2);
    end_free(end);
}
END_TEST

START_TEST(edges_beside_a_delayed_read_put_nobody_to_sleep)
{
    /* Its demand is taken, and is put back when the read finds nothing: somebody waits all the time. */
    struct end *end = end_add(ring, NR_READ);
    delay_a_read(end);
    seam.submit_refused = 10000;
    for (unsigned i = 0; i < 20; i++) {
        put(end->peer, "x", 1);
        (void)is_announced(ring); /* enters the kernel, which COOP_TASKRUN waits for */
        ck_assert_int_eq(nr_ring_harvest(ring, 0, on_event, NULL), NR_RING_MORE);
    }
    seam.submit_refused = 0;
    take(end->stream.fd, 21);
    harvest_once(ring);
    ck_assert_uint_eq(end->events, 0);
    put(end->peer, "new", 3);
    harvest_until(ring, &end->data, 1);
    ck_assert_int_eq(memcmp(end->bytes, "new", 3), 0);
    end_remove(end);
}
END_TEST

START_TEST(edge_beside_a_delayed_empty_read_is_not_lost)
{
    /* A delayed read finds nothing; new bytes come before anybody looks at that: they are read. */
    struct end *end = end_add(ring, NR_READ);
    delay_a_read(end);
    take(end->stream.fd, 1);
    struct end *other = end_add(ring, NR_READ); /* its enter takes the read along */
    put(end->peer, "new", 3);
    harvest_until(ring, &end->data, 1);
    ck_assert_int_eq(memcmp(end->bytes, "new", 3), 0);
    end_remove(end);
    end_remove(other);
}
END_TEST

START_TEST(pipe_that_refuses_nowait_is_the_owners)
{
    /* A named FIFO need not take RWF_NOWAIT (here it does not, where pipe2's do): readiness only,
     * every time, and no byte is touched. */
    char folder[TEMPORARY_MAX];
    make_folder(folder);
    char name[BELOW_MAX];
    snprintf(name, sizeof(name), "%s/fifo", folder);
    ck_assert_int_eq(mkfifo(name, 0600), 0);
    struct end *end = end_new(ring, NR_READ);
    nr_fd_close(end->stream.fd);
    nr_fd_close(end->peer);
    end->stream.fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    end->peer = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(end->stream.fd, 0);
    ck_assert_int_ge(end->peer, 0);
    ck_assert_int_eq(nr_ring_add(ring, &end->stream), 0);
    for (unsigned i = 1; i <= 3; i++) {
        settle_and_arm(end);
        put(end->peer, "x", 1);
        harvest_until(ring, &end->events, i);
        if (end->ready == i)
            take(end->stream.fd, 1);
    }
    ck_assert_uint_eq(end->data + end->ready, 3);
    ck_assert_msg(end->data == 0 || end->ready == 0, "its mind changed on the way");
    end_remove(end);
}
END_TEST

START_TEST(kernel_without_nowait_pipes_gives_readiness)
{
    /* Where pipes refuse RWF_NOWAIT the ring only polls: each demand ends in READY, both ways. */
    ring->nowait_pipes = false;
    struct end *reading = end_add(ring, NR_READ);
    ck_assert(nr_stream_arm(&reading->stream));
    put(reading->peer, "mine", 4);
    harvest_until(ring, &reading->ready, 1);
    take(reading->stream.fd, 4);
    struct end *writing = end_add(ring, NR_WRITE);
    fill_and_arm(writing, "out", 3);
    take(writing->peer, 4096);
    harvest_until(ring, &writing->ready, 1);
    ck_assert_uint_eq(reading->events + writing->events, 2);
    end_remove(reading);
    end_remove(writing);
}
END_TEST

START_TEST(descriptors_do_not_reach_children)
{
    /* The ring and its eventfd are close-on-exec, and the eventfd never blocks. */
    unsigned checked = 0;
    for (int fd = 3; fd < 64; fd++) {
        int flags = fcntl(fd, F_GETFD);
        char link[64];
        char target[64] = "";
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (flags < 0 || readlink(link, target, sizeof(target) - 1) < 0)
            continue;
        if (strstr(target, "io_uring") == NULL && strstr(target, "eventfd") == NULL)
            continue;
        ck_assert(flags & FD_CLOEXEC);
        checked++;
    }
    ck_assert_uint_eq(checked, 2);
    ck_assert(fcntl(nr_ring_eventfd(ring), F_GETFL) & O_NONBLOCK);
}
END_TEST

START_TEST(slots_do_not_reach_children)
{
    /* Pinned pages that a fork shared would be copied at our next write, and the kernel would go on
     * with the others. */
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        unsigned char in_core;
        _exit(mincore(ring->slots.memory, 1, &in_core) < 0 && errno == ENOMEM ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(kernel_that_drops_completions_is_refused)
{
    /* Before 5.5, without IORING_FEAT_NODROP, a full completion queue loses completions. */
    unsigned before = count_fds();
    struct nr_ring *none = NULL;
    const struct nr_ring_options options = {.entries = 0};
    seam.missing_features = IORING_FEAT_NODROP;
    int r = ring_new_in_time(&none, &options);
    seam.missing_features = 0;
    ck_assert_int_eq(r, -EOPNOTSUPP);
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

START_TEST(free_of_nothing)
{
    /* nr_ring_free accepts NULL. */
    nr_ring_free(NULL);
}
END_TEST

/* --- parts --------------------------------------------------------------------------------- */

START_TEST(tag_survives_the_kernel)
{
    /* Kind, generation and index come back as they went in, at their extremes too. */
    const struct nr_op_tag tags[] = {
        {NR_OP_IGNORED, 0, 0},
        {NR_OP_POLL, NR_OP_GENERATION_MASK, UINT32_MAX},
        {NR_OP_MOVE, 1, 63},
        {NR_OP_MOVE, NR_OP_GENERATION_MASK, 0},
    };
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        uint64_t word = nr_op_encode(tags[i].kind, tags[i].generation, tags[i].index);
        ck_assert_uint_ne(word, UINT64_MAX);
        struct nr_op_tag back = nr_op_decode(word);
        ck_assert_uint_eq(back.kind, tags[i].kind);
        ck_assert_uint_eq(back.generation, tags[i].generation);
        ck_assert_uint_eq(back.index, tags[i].index);
    }
}
END_TEST

START_TEST(stale_generation_finds_nothing)
{
    /* A place that changed hands is not found by its old generation, nor an index never used. */
    struct nr_table table;
    struct nr_stream one;
    uint32_t index;
    nr_table_init(&table);
    ck_assert_int_eq(nr_table_take(&table, &one, &index), 0);
    ck_assert_ptr_nonnull(nr_table_find(&table, index, 0));
    nr_table_return(&table, index);
    ck_assert_ptr_null(nr_table_find(&table, index, 0));
    ck_assert_ptr_null(nr_table_find(&table, index, 1));
    uint32_t again;
    ck_assert_int_eq(nr_table_take(&table, &one, &again), 0);
    ck_assert_uint_eq(again, index);
    ck_assert_ptr_null(nr_table_find(&table, index, 0));
    ck_assert_ptr_nonnull(nr_table_find(&table, index, 1));
    ck_assert_ptr_null(nr_table_find(&table, 7, 0));
    nr_table_end(&table);
}
END_TEST

START_TEST(queued_place_is_not_used_again)
{
    /* A place freed while it stands in a queue is handed out only after it left both queues. */
    struct nr_table table;
    struct nr_queue ready;
    struct nr_queue work;
    struct nr_stream one;
    uint32_t index;
    uint32_t other;
    nr_table_init(&table);
    nr_queue_init(&ready, NR_QUEUE_READY);
    nr_queue_init(&work, NR_QUEUE_WORK);
    ck_assert_int_eq(nr_table_take(&table, &one, &index), 0);
    nr_queue_put(&ready, &table, index);
    nr_queue_put(&ready, &table, index);
    nr_queue_put(&work, &table, index);
    nr_table_return(&table, index);
    ck_assert_int_eq(nr_table_take(&table, &one, &other), 0);
    ck_assert_uint_ne(other, index);
    ck_assert_uint_eq(nr_queue_get(&ready, &table), index);
    ck_assert(nr_queue_empty(&ready));
    ck_assert_int_eq(nr_table_take(&table, &one, &other), 0);
    ck_assert_uint_ne(other, index);
    ck_assert_uint_eq(nr_queue_get(&work, &table), index);
    ck_assert_int_eq(nr_table_take(&table, &one, &other), 0);
    ck_assert_uint_eq(other, index);
    nr_table_end(&table);
}
END_TEST

START_TEST(slots_run_out_and_come_back)
{
    /* As many slots as were asked for, each its own bytes, then none; a returned one is had again. */
    struct nr_slots slots;
    ck_assert_int_eq(nr_slots_init(&slots, 3, 100), 0);
    uint32_t taken[3];
    for (unsigned i = 0; i < 3; i++) {
        taken[i] = nr_slots_take(&slots);
        ck_assert_uint_lt(taken[i], 3);
        memset(nr_slots_at(&slots, taken[i]), (int)taken[i], slots.size);
    }
    ck_assert_uint_eq(nr_slots_take(&slots), NR_SLOTS_NONE);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(((unsigned char *)nr_slots_at(&slots, taken[i]))[99], taken[i]);
    nr_slots_return(&slots, taken[1]);
    ck_assert_uint_eq(nr_slots_in_use(&slots), 2);
    ck_assert_uint_eq(nr_slots_take(&slots), taken[1]);
    nr_slots_end(&slots, NULL);
    nr_slots_end(&slots, NULL);
}
END_TEST

/* --- a look at the cost -------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

START_TEST(enters_per_message)
{
    /* Printed, not judged: system calls for the ring, per message, at 100 streams. */
    enum { STREAMS = 100, ROUNDS = 200 };
    struct end *ends[STREAMS];
    for (unsigned i = 0; i < STREAMS; i++) {
        ends[i] = end_add(ring, NR_READ);
        settle_and_arm(ends[i]);
    }
    const unsigned together[] = {1, 3, 10, 100};
    for (size_t t = 0; t < sizeof(together) / sizeof(together[0]); t++) {
        struct nr_ring_info before = info_of(ring);
        unsigned messages = 0;
        double spent = 0;
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned i = 0; i < together[t]; i++)
                put(ends[i]->peer, "0123456789abcdef", 16);
            total_events = 0;
            double start = now();
            harvest_until(ring, &total_events, together[t]);
            spent += now() - start;
            messages += together[t];
            for (unsigned i = 0; i < together[t]; i++) {
                ends[i]->length = 0;
                settle_and_arm(ends[i]);
            }
        }
        struct nr_ring_info after = info_of(ring);
        printf(
            "%3u of %d streams ready per wake: %.3f enters, %.3f harvests, %.2f us per message\n",
            together[t], STREAMS, (double)(after.enters - before.enters) / messages,
            (double)(after.harvests - before.harvests) / messages, spent * 1e6 / messages);
    }
    fflush(stdout);
    for (unsigned i = 0; i < STREAMS; i++)
        end_remove(ends[i]);
}
END_TEST

/* ------------------------------------------------------------------------------------------- */

/* On a kernel whose pipes refuse RWF_NOWAIT (before 6.5) the ring moves no bytes, and tests of that have nothing to see:
 * they are left out, and counted. What it does there is kernel_without_nowait_pipes_gives_readiness. */
static bool moves;
static unsigned left_out;

#define add_moving_loop_test(tcase, test, first, end)                                              \
    do {                                                                                           \
        if (moves)                                                                                 \
            tcase_add_loop_test(tcase, test, first, end);                                          \
        else                                                                                       \
            left_out++;                                                                            \
    } while (0)
#define add_moving_test(tcase, test) add_moving_loop_test(tcase, test, 0, 1)

/* The kernel is asked, not the ring: what the ring finds out wrongly must fail. */
static bool pipes_take_nowait(void)
{
    int fds[2];
    char byte;
    const struct iovec one = {.iov_base = &byte, .iov_len = 1};
    ck_assert_sys(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    bool refused = preadv2(fds[0], &one, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
    (void)close(fds[0]);
    (void)close(fds[1]);
    return !refused;
}

static void add_behaviour(TCase *tcase)
{
    tcase_set_timeout(tcase, 120);
    add_moving_test(tcase, read_is_byte_exact);
    add_moving_test(tcase, one_demand_is_one_event);
    add_moving_test(tcase, eof_is_data_of_length_zero);
    add_moving_test(tcase, eof_after_data_comes_second);
    add_moving_test(tcase, a_read_says_whether_there_may_be_more);
    add_moving_test(tcase, arm_after_eof_does_not_wait);
    add_moving_test(tcase, arm_after_a_full_slot_does_not_wait);
    add_moving_test(tcase, data_before_add_is_found);
    add_moving_test(tcase, write_is_byte_exact);
    add_moving_test(tcase, short_write_says_how_much);
    tcase_add_test(tcase, write_above_the_slot_is_ready);
    add_moving_test(tcase, write_of_a_whole_slot_goes);
    tcase_add_test(tcase, write_of_nothing_is_ready);
    add_moving_test(tcase, write_without_a_reader_is_epipe);
    add_moving_test(tcase, arm_after_an_edge_says_try_again);
    add_moving_test(tcase, arm_twice_is_one_demand);
    tcase_add_test(tcase, disarm_in_time_means_no_event);
    add_moving_test(tcase, disarm_after_the_event_is_too_late);
    add_moving_test(tcase, disarm_of_a_taken_demand_still_gives_the_event);
    add_moving_test(tcase, disarm_of_a_taken_demand_that_finds_nothing_ends_in_ready);
    add_moving_test(tcase, demand_is_put_back_when_the_pipe_is_empty_after_all);
    add_moving_test(tcase, edge_during_the_read_is_not_lost);
    tcase_add_test(tcase, edges_that_nobody_waits_for_end);
    add_moving_test(tcase, who_waits_now_and_then_stays_awake);
    add_moving_test(tcase, who_arms_and_wakes_is_told);
    add_moving_test(tcase, bytes_of_before_the_wake_are_told);
    add_moving_test(tcase, hang_up_while_asleep_is_told);
    add_moving_test(tcase, wake_of_who_is_awake_does_nothing);
    add_moving_test(tcase, quiet_eventfd_says_nothing_until_it_is_loud_again);
    tcase_add_test(tcase, remove_while_asleep);
    add_moving_test(tcase, wake_before_the_poll_has_ended);
    add_moving_test(tcase, demand_placed_while_it_falls_asleep_is_served);
    tcase_add_test(tcase, remove_before_any_event);
    tcase_add_test(tcase, remove_ends_a_waiting_demand);
    tcase_add_test(tcase, remove_swallows_no_bytes);
    tcase_add_test(tcase, remove_after_hang_up);
    tcase_add_test(tcase, remove_with_an_edge_unseen);
    tcase_add_test(tcase, remove_twice_is_one_gone);
    add_moving_test(tcase, remove_inside_a_callback);
    add_moving_test(tcase, add_inside_a_callback);
    tcase_add_test(tcase, places_are_used_again);
    tcase_add_test(tcase, bad_descriptor_is_refused);
    add_moving_test(tcase, registration_outlives_its_thread);
    tcase_add_test(tcase, remove_of_a_registration_that_just_ended);
    tcase_add_test(tcase, registration_that_cannot_be_kept_is_given_up);
    add_moving_test(tcase, more_streams_than_slots);
    tcase_add_test(tcase, limit_is_kept_and_nothing_is_lost);
    add_moving_test(tcase, overflowed_completion_queue_loses_nothing);
    add_moving_test(tcase, submission_queue_of_one);
    add_moving_test(tcase, pending_is_true_exactly_while_completions_wait);
    add_moving_test(tcase, second_harvester_leaves_its_work_to_the_first);
    add_moving_test(tcase, harvest_that_came_a_moment_too_early_is_repeated);
    add_moving_test(tcase, enters_per_message);
}

static void add_refusals(TCase *tcase)
{
    tcase_set_timeout(tcase, 120);
    add_moving_test(tcase, unregistered_slots_work_too);
    add_moving_loop_test(tcase, refused_registration_means_unregistered, 0, 2);
    tcase_add_test(tcase, any_other_error_of_registration_is_one_of_the_ring);
    tcase_add_loop_test(tcase, refused_ring_leaves_nothing, 0, 4);
    tcase_add_test(tcase, every_failing_call_leaves_nothing);
    tcase_add_test(tcase, full_table_is_an_error_of_add);
    add_moving_loop_test(tcase, refused_enter_is_repeated, 0, 5);
    add_moving_test(tcase, enter_refused_for_long_fails_add);
    add_moving_test(tcase, enter_refused_for_good_ends_every_stream);
    add_moving_test(tcase, hundreds_of_streams_end_with_their_ring);
    add_moving_test(tcase, enter_refused_for_long_delays_a_read);
    tcase_add_test(tcase, enter_refused_for_long_delays_a_removal);
    tcase_add_test(tcase, removal_that_is_delayed_swallows_no_bytes);
    add_moving_test(tcase, bytes_of_a_delayed_read_come_before_gone);
    add_moving_test(tcase, edges_beside_a_delayed_read_put_nobody_to_sleep);
    add_moving_test(tcase, edge_beside_a_delayed_empty_read_is_not_lost);
    tcase_add_test(tcase, pipe_that_refuses_nowait_is_the_owners);
    tcase_add_test(tcase, kernel_without_nowait_pipes_gives_readiness);
    tcase_add_test(tcase, descriptors_do_not_reach_children);
    tcase_add_test(tcase, slots_do_not_reach_children);
    tcase_add_test(tcase, kernel_that_drops_completions_is_refused);
    tcase_add_test(tcase, free_of_nothing);
}

int main(void)
{
    int skipped = skip_without_ring();
    if (skipped != 0)
        return skipped;
    moves = pipes_take_nowait();

    Suite *suite = suite_create("ring");
    TCase *behaviour = tcase_create("behaviour");
    tcase_add_checked_fixture(behaviour, setup, teardown);
    add_behaviour(behaviour);
    suite_add_tcase(suite, behaviour);

    TCase *cooperative = tcase_create("behaviour, COOP_TASKRUN");
    tcase_add_checked_fixture(cooperative, setup_coop, teardown);
    add_behaviour(cooperative);
    suite_add_tcase(suite, cooperative);

    TCase *refused = tcase_create("refusals");
    tcase_add_checked_fixture(refused, setup, teardown);
    add_refusals(refused);
    suite_add_tcase(suite, refused);

    TCase *limited = tcase_create("limits");
    tcase_set_timeout(limited, 30);
    add_moving_loop_test(limited, small_memlock_limit_means_unregistered, 0, 2);
    tcase_add_test(limited, no_memlock_at_all_means_unregistered_or_no_ring);
    tcase_add_test(limited, freed_slots_are_not_counted_any_more);
    suite_add_tcase(suite, limited);

    TCase *parts = tcase_create("parts");
    tcase_add_test(parts, tag_survives_the_kernel);
    tcase_add_test(parts, stale_generation_finds_nothing);
    tcase_add_test(parts, queued_place_is_not_used_again);
    tcase_add_test(parts, slots_run_out_and_come_back);
    suite_add_tcase(suite, parts);

    if (left_out > 0)
        printf("SKIP %u tests of what the ring moves: pipes refuse RWF_NOWAIT here\n", left_out);
    return run_suite(suite);
}
