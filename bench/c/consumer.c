/*
 * What the benchmarks write to: reads BYTES bytes of stamped data from stdin, looks at the stamps,
 * and says "BYTES WRONG" (bytes read, chunks that were not what they should be).
 *
 * It stops after BYTES bytes because a Port cannot close a command's stdin and still read from it.
 */
#include "stamp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK (256U * 1024U)

int main(int argc, char **argv)
{
    static unsigned char chunk[CHUNK];
    uint64_t expected = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t position = 0;
    uint64_t wrong = 0;

    if (expected == 0) {
        fputs("usage: bench_consumer BYTES\n", stderr);
        return 2;
    }
    while (position < expected) {
        ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (!stamp_check(chunk, (size_t)n, position))
            wrong++;
        position += (uint64_t)n;
    }
    printf("%" PRIu64 " %" PRIu64 "\n", position, wrong);
    return position == expected && wrong == 0 ? 0 : 1;
}
