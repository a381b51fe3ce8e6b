/*
 * Whether an empty pipe is worth another look before it is waited for. A wait costs an enif_select, a turn of the poll
 * thread and a message: a program that answers within microseconds has answered before that is over (64 bytes through cat
 * and back: 28 us with waits, 9 without). Learned for each pipe: who once answered that fast is looked at a few times; who
 * then does not, is not for a while. Pure: no system call, no clock of its own.
 */
#ifndef NR_PATIENCE_H
#define NR_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* All zeros at first. */
struct nr_patience {
    bool quick;       /* the last answer that was waited for came fast */
    bool waiting;     /* since `since` */
    unsigned looks;   /* taken at this empty pipe */
    unsigned penance; /* waits to come before it may be quick again */
    uint64_t since;   /* microseconds */
};

/* The pipe is empty. True: look again, after others had their turn. False: wait for it. `now`: microseconds of any
 * monotonic clock. */
bool nr_patience_look_again(struct nr_patience *patience, uint64_t now);

/* Something came. */
void nr_patience_answered(struct nr_patience *patience, uint64_t now);

#endif
