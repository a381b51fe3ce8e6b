/* See table.h: the streams of a ring, by index and generation. */
#include "table.h"

#include "base/error.h"
#include "op.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64U

void nr_table_init(struct nr_table *table)
{
    *table = (struct nr_table){.free = NR_PLACE_NONE};
}

void nr_table_end(struct nr_table *table)
{
    free(table->places);
    nr_table_init(table);
}

static int grow(struct nr_table *table)
{
    uint32_t capacity = table->capacity == 0 ? FIRST_CAPACITY : table->capacity * 2;
    if (capacity <= table->capacity)
        return -ENOMEM;
    struct nr_place *places = reallocarray(table->places, capacity, sizeof(*places));
    if (places == NULL)
        return -ENOMEM;
    table->places = places;
    table->capacity = capacity;
    return 0;
}

int nr_table_take(struct nr_table *table, struct nr_stream *stream, uint32_t *index)
{
    uint32_t taken = table->free;
    if (taken != NR_PLACE_NONE) {
        table->free = table->places[taken].next[0];
    } else {
        if (table->count == table->capacity) {
            int r = grow(table);
            if (r < 0)
                return r;
        }
        taken = table->count++;
        table->places[taken] = (struct nr_place){.generation = 0};
    }
    struct nr_place *place = &table->places[taken];
    *place = (struct nr_place){.stream = stream, .generation = place->generation};
    *index = taken;
    return 0;
}

static void chain(struct nr_table *table, uint32_t index)
{
    table->places[index].next[0] = table->free;
    table->free = index;
}

void nr_table_return(struct nr_table *table, uint32_t index)
{
    struct nr_place *place = &table->places[index];
    place->stream = NULL;
    place->generation = (place->generation + 1) & NR_OP_GENERATION_MASK;
    if (!place->queued[NR_QUEUE_READY] && !place->queued[NR_QUEUE_WORK])
        chain(table, index);
}

struct nr_place *nr_table_find(const struct nr_table *table, uint32_t index, uint32_t generation)
{
    if (index >= table->count)
        return NULL;
    struct nr_place *place = &table->places[index];
    return place->stream != NULL && place->generation == generation ? place : NULL;
}

void nr_queue_init(struct nr_queue *queue, enum nr_queue_kind kind)
{
    *queue = (struct nr_queue){.kind = kind, .head = NR_PLACE_NONE, .tail = NR_PLACE_NONE};
}

void nr_queue_put(struct nr_queue *queue, struct nr_table *table, uint32_t index)
{
    struct nr_place *place = &table->places[index];
    if (place->queued[queue->kind])
        return;
    place->queued[queue->kind] = true;
    place->next[queue->kind] = NR_PLACE_NONE;
    if (queue->head == NR_PLACE_NONE)
        queue->head = index;
    else
        table->places[queue->tail].next[queue->kind] = index;
    queue->tail = index;
}

uint32_t nr_queue_get(struct nr_queue *queue, struct nr_table *table)
{
    uint32_t index = queue->head;
    if (index == NR_PLACE_NONE)
        return index;
    struct nr_place *place = &table->places[index];
    queue->head = place->next[queue->kind];
    place->queued[queue->kind] = false;
    /* A place that was freed while it stood here is used again only from now on. */
    if (place->stream == NULL && !place->queued[NR_QUEUE_READY] && !place->queued[NR_QUEUE_WORK])
        chain(table, index);
    return index;
}
