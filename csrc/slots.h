/*
 * The slot pool of a ring: buffers of one size in one mapping, registered with the kernel where
 * that is allowed. A slot is taken for one read or write and returned as soon as its bytes were
 * copied out: slots never leave the ring core.
 *
 * One kernel buffer per slot (not one for the mapping), so that the kernel itself refuses an
 * operation that would run over into a neighbour.
 *
 * Thread: the caller serialises (the ring's mutex).
 */
#ifndef NR_SLOTS_H
#define NR_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io_uring;

struct nr_slots {
    unsigned char *memory; /* NULL: empty */
    size_t mapped;
    size_t size; /* of one slot, bytes */
    unsigned count;
    unsigned free_count;
    uint32_t *free; /* a stack of indices */
    bool registered;
};

#define NR_SLOTS_NONE UINT32_MAX

/* Maps `count` slots of `size` bytes, not inherited by fork(2). 0 or -errno (*slots empty). */
int nr_slots_init(struct nr_slots *slots, unsigned count, size_t size);

/* Registers the slots with the ring: pins their memory, may block. 0; NR_SLOTS_REFUSED when the
 * kernel does not let us pin memory (EPERM, or ENOMEM: RLIMIT_MEMLOCK); or -errno. */
#define NR_SLOTS_REFUSED 1
int nr_slots_register(struct nr_slots *slots, struct io_uring *uring);

/* Undoes both. `uring` may be NULL if the slots were never registered. Accepts an empty pool. */
void nr_slots_end(struct nr_slots *slots, struct io_uring *uring);

/* The index of a free slot, or NR_SLOTS_NONE. */
uint32_t nr_slots_take(struct nr_slots *slots);

void nr_slots_return(struct nr_slots *slots, uint32_t index);

/* Every slot is free again, whoever had it. */
void nr_slots_return_all(struct nr_slots *slots);

static inline void *nr_slots_at(const struct nr_slots *slots, uint32_t index)
{
    return slots->memory + (size_t)index * slots->size;
}

static inline unsigned nr_slots_in_use(const struct nr_slots *slots)
{
    return slots->count - slots->free_count;
}

#endif
