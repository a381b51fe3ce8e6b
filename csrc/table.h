/*
 * The streams of a ring, by index: the kernel knows a stream by index and generation only. The
 * table grows without bound and uses places again.
 *
 * A place can stand in two queues of the ring at once: `ready` (an edge came that the harvest has
 * not served) and `work` (its registration wants something: to be made again, to be cancelled, to
 * be reported gone). The links live in the place, so queueing never allocates.
 *
 * Thread: the caller serialises (the ring's mutex). Pointers to places are valid until the next
 * nr_table_take.
 */
#ifndef NR_TABLE_H
#define NR_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct nr_stream;

#define NR_PLACE_NONE UINT32_MAX

enum nr_queue_kind {
    NR_QUEUE_READY = 0,
    NR_QUEUE_WORK = 1,
    NR_QUEUE_KINDS,
};

struct nr_place {
    struct nr_stream *stream; /* NULL: free */
    uint32_t generation;
    uint32_t next[NR_QUEUE_KINDS];
    bool queued[NR_QUEUE_KINDS];

    bool polling;      /* the kernel has our poll: its last completion was not seen yet */
    bool removing;     /* GONE is due once the poll has ended */
    bool cancel_due;   /* the poll must be cancelled, and was not yet */
    bool moving;       /* a slot is in flight for it, or its result is not delivered */
    bool plain;        /* this descriptor refuses RWF_NOWAIT: READY events only */
    unsigned strikes;  /* polls in a row that the kernel ended without being asked */
    unsigned unheeded; /* harvests in a row that found an edge and nobody who waits */
    int error;         /* why a registration was given up */
};

struct nr_table {
    struct nr_place *places;
    uint32_t count;    /* places ever used */
    uint32_t capacity; /* places allocated */
    uint32_t free;     /* chain of free places, through next[0] */
};

struct nr_queue {
    enum nr_queue_kind kind;
    uint32_t head;
    uint32_t tail;
};

void nr_table_init(struct nr_table *table);
void nr_table_end(struct nr_table *table);

/* Gives the stream a place and writes it to *index. 0 or -ENOMEM. */
int nr_table_take(struct nr_table *table, struct nr_stream *stream, uint32_t *index);

/* Frees a place. It may still stand in a queue; whoever takes it out finds no stream. */
void nr_table_return(struct nr_table *table, uint32_t index);

/* The place, or NULL when that generation of it is over. */
struct nr_place *nr_table_find(const struct nr_table *table, uint32_t index, uint32_t generation);

void nr_queue_init(struct nr_queue *queue, enum nr_queue_kind kind);

static inline bool nr_queue_empty(const struct nr_queue *queue)
{
    return queue->head == NR_PLACE_NONE;
}

/* Puts a place at the end, once: does nothing if it already stands in this queue. */
void nr_queue_put(struct nr_queue *queue, struct nr_table *table, uint32_t index);

/* The first place, taken out, or NR_PLACE_NONE. */
uint32_t nr_queue_get(struct nr_queue *queue, struct nr_table *table);

#endif
