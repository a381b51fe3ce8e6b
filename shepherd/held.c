/* See held.h: reading ends nobody reads. Must never block. */
#include "held.h"

#include "fd.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/* Static: a guardian that never holds anything never touches these pages. */
static unsigned char away[(size_t)64 * 1024];

static bool never_blocks(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

void nr_held_take(struct nr_held *held, struct nr_message *message)
{
    unsigned next = 0;

    for (unsigned i = 0; i < NR_HELD_MAX; i++) {
        while (next < message->fds_count && !never_blocks(message->fds[next]))
            next++;
        if (held->fds[i] < 0 && next < message->fds_count)
            held->fds[i] = nr_fd_take(&message->fds[next++]);
    }
}

void nr_held_empty(struct nr_held *held, unsigned i)
{
    for (size_t taken = 0; taken < NR_HELD_BURST;) {
        ssize_t n = read(held->fds[i], away, sizeof(away));
        if (n > 0) {
            taken += (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            held->fds[i] = nr_fd_close(held->fds[i]);
        return;
    }
}

void nr_held_close(struct nr_held *held)
{
    for (unsigned i = 0; i < NR_HELD_MAX; i++)
        held->fds[i] = nr_fd_close(held->fds[i]);
}
