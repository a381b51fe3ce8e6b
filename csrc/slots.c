/* See slots.h: a ring's pool of registered buffers. */
#include "slots.h"

#include "base/error.h"

#include <liburing.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

int nr_slots_init(struct nr_slots *slots, unsigned count, size_t size)
{
    *slots = (struct nr_slots){.memory = NULL};
    size_t length;
    if (count == 0 || size == 0 || __builtin_mul_overflow((size_t)count, size, &length))
        return -EINVAL;

    uint32_t *free_slots = calloc(count, sizeof(*free_slots));
    if (free_slots == NULL)
        return -ENOMEM;
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        int r = nr_errno();
        free(free_slots);
        return r;
    }
    /* Pinned pages under a fork: the parent's next write would land in a copy while the kernel goes
     * on using the original. */
    if (madvise(memory, length, MADV_DONTFORK) < 0) {
        int r = nr_errno();
        munmap(memory, length);
        free(free_slots);
        return r;
    }
    for (unsigned i = 0; i < count; i++)
        free_slots[i] = count - 1 - i;

    *slots = (struct nr_slots){
        .memory = memory,
        .mapped = length,
        .size = size,
        .count = count,
        .free_count = count,
        .free = free_slots,
    };
    return 0;
}

int nr_slots_register(struct nr_slots *slots, struct io_uring *uring)
{
    struct iovec *vectors = calloc(slots->count, sizeof(*vectors));
    if (vectors == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < slots->count; i++)
        vectors[i] = (struct iovec){.iov_base = nr_slots_at(slots, i), .iov_len = slots->size};

    int r = io_uring_register_buffers(uring, vectors, slots->count);
    free(vectors);
    if (r == -EPERM || r == -ENOMEM)
        return NR_SLOTS_REFUSED;
    if (r < 0)
        return r;
    slots->registered = true;
    return 0;
}

void nr_slots_end(struct nr_slots *slots, struct io_uring *uring)
{
    /* The kernel takes a ring down later, on its own time; what we had pinned would count against
     * RLIMIT_MEMLOCK until then. */
    if (slots->registered)
        (void)io_uring_unregister_buffers(uring);
    if (slots->memory != NULL)
        munmap(slots->memory, slots->mapped);
    free(slots->free);
    *slots = (struct nr_slots){.memory = NULL};
}

uint32_t nr_slots_take(struct nr_slots *slots)
{
    return slots->free_count > 0 ? slots->free[--slots->free_count] : NR_SLOTS_NONE;
}

void nr_slots_return(struct nr_slots *slots, uint32_t index)
{
    slots->free[slots->free_count++] = index;
}

void nr_slots_return_all(struct nr_slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        slots->free[i] = i;
    slots->free_count = slots->count;
}
