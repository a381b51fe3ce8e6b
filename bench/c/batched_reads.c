/*
 * Whether a ring reads pipes for less CPU time than read(2) does, many of them with one system call
 * (docs/decisions/0018, 0010):
 *
 *     bench_batched_reads BYTES ROUNDS
 *
 * PIPES pipes hold BYTES each, in writes of 4 KiB, and are read to their last byte: each by read(2); 16 at a time by
 * one io_uring_enter(2) into registered buffers; the same into others. In turns, ROUNDS times. It prints nanoseconds of CPU time for
 * each pipe, and the ratios. Files are registered, the ring is its thread's own and its work deferred: the cheapest there is.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIPES 64U
#define BATCH 16U
#define PIECE 4096U
#define ROOM  65536U

enum way { BY_READ, BY_FIXED, BY_RING, WAYS };

static int ours[PIPES];
static int theirs[PIPES];
static unsigned char *room[PIPES];
static struct io_uring ring;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_batched_reads: %s failed\n", what);
    exit(1);
}

static double cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void prepare(void)
{
    struct iovec buffers[PIPES];
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    };
    if (io_uring_queue_init_params(PIPES, &ring, &params) < 0)
        die("io_uring_queue_init_params");
    for (unsigned i = 0; i < PIPES; i++) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK) < 0)
            die("pipe2");
        ours[i] = ends[0];
        theirs[i] = ends[1];
        room[i] = aligned_alloc(PIECE, ROOM);
        if (room[i] == NULL)
            die("aligned_alloc");
        memset(room[i], 1, ROOM);
        buffers[i] = (struct iovec){.iov_base = room[i], .iov_len = ROOM};
    }
    if (io_uring_register_buffers(&ring, buffers, PIPES) < 0 ||
        io_uring_register_files(&ring, ours, PIPES) < 0)
        die("io_uring_register");
}

static void fill(unsigned bytes)
{
    static const unsigned char piece[PIECE];
    for (unsigned i = 0; i < PIPES; i++)
        for (unsigned done = 0; done < bytes; done += PIECE)
            if (write(theirs[i], piece, PIECE) != PIECE)
                die("write");
}

static void by_ring(enum way way, unsigned first, unsigned bytes)
{
    for (unsigned i = first; i < first + BATCH; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        if (way == BY_FIXED)
            io_uring_prep_read_fixed(sqe, (int)i, room[i], ROOM, (__u64)-1, (int)i);
        else
            io_uring_prep_read(sqe, (int)i, room[i], ROOM, (__u64)-1);
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    if (io_uring_submit_and_wait(&ring, BATCH) < 0)
        die("io_uring_submit_and_wait");
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(&ring, head, cqe)
    {
        if (cqe->res != (int)bytes)
            die("a read of the ring's");
        count++;
    }
    if (count != BATCH)
        die("completions");
    io_uring_cq_advance(&ring, count);
}

static double empty(enum way way, unsigned bytes)
{
    double begin = cpu_ns();
    for (unsigned i = 0; i < PIPES; i += way == BY_READ ? 1 : BATCH) {
        if (way != BY_READ)
            by_ring(way, i, bytes);
        else if (read(ours[i], room[i], ROOM) != (ssize_t)bytes)
            die("read");
    }
    return (cpu_ns() - begin) / PIPES;
}

int main(int argc, char **argv)
{
    unsigned bytes = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) / PIECE * PIECE : 0;
    unsigned rounds = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (bytes == 0 || bytes > ROOM || rounds == 0) {
        fprintf(stderr, "usage: %s BYTES (4096 to 65536) ROUNDS\n", argv[0]);
        return 2;
    }
    double spent[WAYS] = {0};
    prepare();
    for (unsigned i = 0; i < rounds; i++)
        for (enum way way = BY_READ; way < WAYS; way++) {
            fill(bytes);
            spent[way] += empty(way, bytes) / rounds;
        }
    printf("%u bytes: read(2) %.0f ns, registered buffers %.0f (%.2f), others %.0f (%.2f)\n", bytes,
           spent[BY_READ], spent[BY_FIXED], spent[BY_FIXED] / spent[BY_READ], spent[BY_RING],
           spent[BY_RING] / spent[BY_READ]);
    return 0;
}
