/*
 * Pipes that outlive their readers: under orphans: :keep the BEAM hands over the reading ends it has no
 * use for any more (HOLD), so that who was kept neither gets SIGPIPE nor meets a full pipe. Called by
 * guardian.c, which polls them; what they bring is read away, a bounded piece at a time. It never
 * blocks.
 */
#ifndef NR_HELD_H
#define NR_HELD_H

#include "channel.h"

#include <errno.h>

/* stdout and stderr. */
#define NR_HELD_MAX 2

struct nr_held {
    int fds[NR_HELD_MAX]; /* -EBADF: none */
};

#define NR_HELD_NONE ((struct nr_held){.fds = {-EBADF, -EBADF}})

/* Takes the message's descriptors, as far as there is room, out of it; the rest stays the message's.
 * They must not block (O_NONBLOCK): those that do are left too. */
void nr_held_take(struct nr_held *held, struct nr_message *message);

/* Reads away what the end number i has, at most NR_HELD_BURST bytes; closes it at its end. */
#define NR_HELD_BURST ((size_t)1024 * 1024)
void nr_held_empty(struct nr_held *held, unsigned i);

void nr_held_close(struct nr_held *held);

#endif
