/*
 * What the benchmarks read from:
 *
 *     bench_producer stream BYTES BLOCK [GATE]    stamped data in writes of BLOCK bytes
 *     bench_producer lines BLOCKS                 blocks of lines, see lines.h
 *     bench_producer paced SIZE EVERY_US [GATE]   SIZE bytes every EVERY_US, or, if that is 0, without
 *                                                 a pause, until nobody reads
 *
 * GATE is a FIFO that somebody holds open for writing: until nobody does any more, only a first piece is
 * written. So many producers begin at once, and nobody is started beside those who run already.
 */
#include "lines.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool write_all(const unsigned char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(STDOUT_FILENO, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        length -= (size_t)n;
    }
    return true;
}

/* -1 if there is none. It is opened before anything is written: who sees the first piece may let go. */
static int open_gate(const char *path)
{
    int gate = path == NULL ? -1 : open(path, O_RDONLY);
    if (path != NULL && gate < 0) {
        perror(path);
        exit(1);
    }
    return gate;
}

static void await_gate(int gate)
{
    unsigned char byte;
    while (read(gate, &byte, 1) < 0 && errno == EINTR)
        ;
    (void)close(gate);
}

static int stream(uint64_t bytes, size_t block, int gate)
{
    unsigned char *data = aligned_alloc(STAMP_EVERY, block);
    uint64_t position = 0;
    if (data == NULL)
        return 1;
    memset(data, 'x', block);
    while (position < bytes) {
        size_t length = gate >= 0 ? STAMP_EVERY : block;
        if (bytes - position < length)
            length = (size_t)(bytes - position);
        stamp_write(data, length, position);
        if (!write_all(data, length))
            return 1;
        position += length;
        if (gate >= 0)
            await_gate(gate);
        gate = -1;
    }
    return 0;
}

static int lines(uint64_t blocks)
{
    static unsigned char data[LINES_PER_BLOCK * LINE_BYTES];
    for (unsigned i = 0; i < LINES_PER_BLOCK; i++) {
        unsigned char *line = data + (size_t)i * LINE_BYTES;
        memset(line, 'a' + (int)(i % 26), LINE_BYTES - 1);
        if (i % NEEDLE_EVERY == 0)
            memcpy(line + LINE_BYTES / 2, NEEDLE, strlen(NEEDLE));
        line[LINE_BYTES - 1] = '\n';
    }
    for (uint64_t i = 0; i < blocks; i++)
        if (!write_all(data, sizeof(data)))
            return 1;
    return 0;
}

/* Who is late does not sleep at all: to ask for a time that has passed sets a timer all the same, which under a hypervisor took
 * 17 us, three quarters of two cores beside 1,000 producers that were all late. */
static void sleep_until(struct timespec *next, uint64_t us)
{
    struct timespec now;
    uint64_t ns = (uint64_t)next->tv_nsec + us * 1000;
    next->tv_sec += (time_t)(ns / 1000000000);
    next->tv_nsec = (long)(ns % 1000000000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > next->tv_sec || (now.tv_sec == next->tv_sec && now.tv_nsec >= next->tv_nsec))
        return;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR)
        ;
}

static int paced(size_t size, uint64_t every_us, int gate)
{
    unsigned char *data = calloc(1, size);
    struct timespec next;
    if (data == NULL)
        return 1;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (write_all(data, size)) {
        uint64_t pause = every_us;
        if (gate >= 0) {
            await_gate(gate);
            clock_gettime(CLOCK_MONOTONIC, &next);
            /* Those that the gate lets go at once shall not write at once ever after. */
            pause = every_us > 0 ? (uint64_t)getpid() * 7919 % every_us : 0;
        }
        gate = -1;
        if (pause > 0)
            sleep_until(&next, pause);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t second = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    const char *gate = argc > 4 ? argv[4] : NULL;
    if (strcmp(mode, "lines") == 0)
        return lines(first);
    if (strcmp(mode, "stream") == 0 && second > 0 && second % STAMP_EVERY == 0)
        return stream(first, (size_t)second, open_gate(gate));
    if (strcmp(mode, "paced") == 0 && first > 0 && argc > 3)
        return paced((size_t)first, second, open_gate(gate));
    fputs("usage: see the first lines of bench/c/producer.c\n", stderr);
    return 2;
}
