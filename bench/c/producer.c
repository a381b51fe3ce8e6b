/*
 * What the benchmarks read from:
 *
 *     bench_producer stream BYTES BLOCK       stamped data in writes of BLOCK bytes
 *     bench_producer lines BLOCKS             blocks of 1024 lines, 96 KiB each
 *     bench_producer paced SIZE EVERY_US      SIZE bytes every EVERY_US, until nobody reads
 */
#include "stamp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LINES_PER_BLOCK 1024U
#define LINES_BLOCK     (96U * 1024U)

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

static int stream(uint64_t bytes, size_t block)
{
    unsigned char *data = aligned_alloc(STAMP_EVERY, block);
    if (data == NULL)
        return 1;
    memset(data, 'x', block);
    for (uint64_t position = 0; position < bytes; position += block) {
        size_t length = bytes - position < block ? (size_t)(bytes - position) : block;
        stamp_write(data, length, position);
        if (!write_all(data, length))
            return 1;
    }
    return 0;
}

/* Lines of 64 and 128 bytes in turn, newline included. */
static int lines(uint64_t blocks)
{
    static unsigned char data[LINES_BLOCK];
    size_t at = 0;
    for (unsigned i = 0; i < LINES_PER_BLOCK; i++) {
        size_t length = i % 2 == 0 ? 64 : 128;
        memset(data + at, 'a' + (int)(i % 26), length - 1);
        data[at + length - 1] = '\n';
        at += length;
    }
    for (uint64_t i = 0; i < blocks; i++)
        if (!write_all(data, at))
            return 1;
    return 0;
}

static int paced(size_t size, uint64_t every_us)
{
    unsigned char *data = calloc(1, size);
    if (data == NULL)
        return 1;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (write_all(data, size)) {
        uint64_t ns = (uint64_t)next.tv_nsec + every_us * 1000;
        next.tv_sec += (time_t)(ns / 1000000000);
        next.tv_nsec = (long)(ns % 1000000000);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
            ;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t second = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (strcmp(mode, "lines") == 0)
        return lines(first);
    if (strcmp(mode, "stream") == 0 && second > 0 && second % STAMP_EVERY == 0)
        return stream(first, (size_t)second);
    if (strcmp(mode, "paced") == 0 && first > 0 && second > 0)
        return paced((size_t)first, second);
    fputs("usage: bench_producer stream BYTES BLOCK | lines BLOCKS | paced SIZE EVERY_US\n",
          stderr);
    return 2;
}
