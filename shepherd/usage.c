/* See usage.h: the figures of a cgroup. */
#include "usage.h"

#include "fd.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define UNKNOWN UINT64_MAX

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add(uint64_t *sum, uint64_t number)
{
    *sum = *sum == UNKNOWN ? number : *sum + number;
}

uint64_t nr_usage_sum(const char *text, size_t length, const char *key)
{
    size_t size = strlen(key);
    uint64_t sum = UNKNOWN;

    for (size_t at = 0; at + size < length; at++) {
        bool begins = at == 0 || text[at - 1] == '\n' || text[at - 1] == ' ';
        if (!begins || memcmp(text + at, key, size) != 0 || !is_digit(text[at + size]))
            continue;
        uint64_t number = 0;
        for (at += size; at < length && is_digit(text[at]); at++)
            number = number * 10 + (uint64_t)(text[at] - '0');
        add(&sum, number);
    }
    return sum;
}

struct figure {
    const char *key;
    uint64_t *to;
};

static size_t whole_lines(const char *text, size_t length)
{
    while (length > 0 && text[length - 1] != '\n')
        length--;
    return length;
}

/* Sums up the figures over the whole file, which may be longer than the buffer (io.stat has a line for each
 * device). A line that does not fit is no line of the kernel's. */
static void read_figures(int folder, const char *name, const struct figure *figures, unsigned count)
{
    char text[4096];
    size_t have = 0;
    ssize_t got;

    int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return;
    while (have < sizeof(text) && (got = read(file, text + have, sizeof(text) - have)) > 0) {
        have += (size_t)got;
        size_t lines = whole_lines(text, have);
        for (unsigned i = 0; i < count; i++) {
            uint64_t sum = nr_usage_sum(text, lines, figures[i].key);
            if (sum != UNKNOWN)
                add(figures[i].to, sum);
        }
        have -= lines;
        memmove(text, text + lines, have);
    }
    (void)nr_fd_close(file);
}

#define READ(folder, name, ...)                                                                    \
    read_figures(folder, name, (const struct figure[]){__VA_ARGS__},                               \
                 sizeof((const struct figure[]){__VA_ARGS__}) / sizeof(struct figure))

void nr_usage_read(int folder, struct nr_usage *usage)
{
    *usage =
        (struct nr_usage){UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN};
    READ(folder, "memory.peak", {"", &usage->memory_peak});
    READ(folder, "memory.events", {"oom_kill ", &usage->oom_kills});
    READ(folder, "cpu.stat", {"user_usec ", &usage->user_us}, {"system_usec ", &usage->system_us},
         {"throttled_usec ", &usage->throttled_us});
    READ(folder, "pids.peak", {"", &usage->pids_peak});
    READ(folder, "io.stat", {"rbytes=", &usage->read_bytes}, {"wbytes=", &usage->written_bytes});
}
