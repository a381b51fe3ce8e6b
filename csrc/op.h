/*
 * What travels through the kernel with each request of a ring: which kind of request it was, and
 * the place it belongs to, with a generation so that a completion that arrives late is known for
 * what it is. Never a pointer: a completion must not be able to reach freed memory.
 *
 *     63..62 kind   61..32 generation   31..0 index
 *
 * Pure functions, any thread.
 */
#ifndef NR_OP_H
#define NR_OP_H

#include <stdint.h>

enum nr_op_kind {
    NR_OP_IGNORED = 0, /* nobody waits for this completion */
    NR_OP_POLL = 1,    /* index: a place in the stream table */
    NR_OP_MOVE = 2,    /* index: a slot */
    /* 3 is left out: all ones is the user_data of liburing's own time-outs. */
};

#define NR_OP_GENERATION_MASK 0x3fffffffU

struct nr_op_tag {
    enum nr_op_kind kind;
    uint32_t generation;
    uint32_t index;
};

static inline uint64_t nr_op_encode(enum nr_op_kind kind, uint32_t generation, uint32_t index)
{
    return (uint64_t)kind << 62 | (uint64_t)(generation & NR_OP_GENERATION_MASK) << 32 | index;
}

static inline struct nr_op_tag nr_op_decode(uint64_t user_data)
{
    return (struct nr_op_tag){
        .kind = (enum nr_op_kind)(user_data >> 62),
        .generation = (uint32_t)(user_data >> 32) & NR_OP_GENERATION_MASK,
        .index = (uint32_t)user_data,
    };
}

#endif
