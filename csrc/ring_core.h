/*
 * What ring.c and ring_setup.c share, and nobody else includes: the inside of a ring.
 */
#ifndef NR_RING_CORE_H
#define NR_RING_CORE_H

#include "ring.h"
#include "slots.h"
#include "table.h"

#include <liburing.h>
#include <pthread.h>

/* A read or write in flight, or done and not yet delivered; one for each slot. */
struct nr_move {
    uint32_t place;
    uint32_t generation; /* of the move: counts up with each use of the slot */
    int result;
};

struct nr_ring {
    /* Set once by nr_ring_new. */
    int eventfd;
    bool nowait_pipes;
    bool coop_taskrun;
    unsigned polls_per_round; /* polls made again between two looks at the completion queue */

    /* One harvest at a time: nr_ring_harvest. */
    _Atomic unsigned harvesting;
    _Atomic unsigned again;
    /* Something waits inside the ring that no completion announces. */
    _Atomic unsigned cut_short;
    /* -errno once the kernel refused an enter for good: the ring serves nobody any more. */
    _Atomic int broken;

    pthread_mutex_t mutex; /* covers everything below; never held over a callback */
    struct io_uring uring;
    struct nr_slots slots;
    struct nr_move *moves;
    uint32_t *done; /* slots whose moves completed, oldest first; room for all of them */
    unsigned done_count;
    unsigned in_flight; /* moves that did not complete yet */
    struct nr_table table;
    struct nr_queue ready;
    struct nr_queue work;
    bool quiet; /* the eventfd stays muted: nr_ring_set_quiet */
    unsigned streams;
    uint64_t harvests;
    uint64_t enters;
    uint64_t fixed;
    uint64_t unfixed;
    uint64_t overflows;
    uint64_t events;
};

/* Prepares one read or write between a pipe and a slot that never waits. */
void nr_ring_prepare_move(const struct nr_ring *ring, struct io_uring_sqe *sqe,
                          enum nr_direction direction, int fd, uint32_t slot, size_t length);

#endif
