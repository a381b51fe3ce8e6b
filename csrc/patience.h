/*
 * Whether an empty pipe is worth another look before it is waited for. A wait costs an enif_select, a turn of the poll
 * thread and a message: a program that answers within microseconds has answered before that is over (64 bytes through cat
 * and back: 19 to 50 us with waits, 15 without). Learned for each pipe: who once answered that fast is looked at for about as long
 * as a wait would take; who then does not answer, is not for a while. Who looks is to let others go first in between, and
 * waits where there are others: then nobody's processor would be idle meanwhile. Pure: no system call, no clock of its own.
 */
#ifndef NR_PATIENCE_H
#define NR_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* All zeros at first. */
struct nr_patience {
    bool quick;       /* the last answer that was waited for came fast */
    bool looking;     /* at this empty pipe, since `since`, last at `looked` */
    bool waiting;     /* since `since` */
    bool in_company;  /* and others were there */
    unsigned penance; /* waits to come before it may be quick again */
    uint64_t since;   /* microseconds */
    uint64_t looked;
};

/* The pipe is empty. True: look again, after others had their turn. False: wait for it. `now`: microseconds of any
 * monotonic clock. */
bool nr_patience_look_again(struct nr_patience *patience, uint64_t now);

/* Something came. */
void nr_patience_answered(struct nr_patience *patience, uint64_t now);

#endif
