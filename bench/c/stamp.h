/*
 * Stamped data: every 4096 bytes, eight bytes say where in the stream they lie (little-endian,
 * modulo 1 MiB). One look per chunk finds lost, doubled and swapped bytes while a benchmark runs, at
 * a price that no contestant feels. bench/lib/bench/stamp.ex is the same in Elixir.
 */
#ifndef BENCH_STAMP_H
#define BENCH_STAMP_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define STAMP_EVERY 4096U
#define STAMP_WRAP  (1024U * 1024U)

/* Stamps a block that starts at `position`, which is a multiple of STAMP_EVERY. */
static inline void stamp_write(unsigned char *block, size_t length, uint64_t position)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= length; at += STAMP_EVERY) {
        uint64_t stamp = htole64((position + at) % STAMP_WRAP);
        memcpy(block + at, &stamp, sizeof(stamp));
    }
}

/* Whether the first whole stamp in a chunk that starts at `position` is right. */
static inline bool stamp_check(const unsigned char *chunk, size_t length, uint64_t position)
{
    size_t at = (STAMP_EVERY - position % STAMP_EVERY) % STAMP_EVERY;
    if (at + sizeof(uint64_t) > length)
        return true;
    uint64_t stamp;
    memcpy(&stamp, chunk + at, sizeof(stamp));
    return le64toh(stamp) == (position + at) % STAMP_WRAP;
}

#endif
