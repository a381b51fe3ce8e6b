/*
 * The BEAM as a guardian sees it: the other end of the control socket, and the process behind the
 * pidfd. It sends frames (and worse), stops reading, hangs up, dies; and it judges each frame it gets:
 * STARTED or FAILED first and once, EXITED once, last and true, an answer for each KILL. Of a guardian that
 * rests it orders another command.
 */
#ifndef NR_FUZZ_BEAM_H
#define NR_FUZZ_BEAM_H

#include "codec.h"
#include "kernel.h"

#define NR_BEAM_ID       9
#define NR_BEAM_MESSAGES 16

struct nr_beam {
    int control; /* the guardian's end */
    uint64_t id; /* of the order */
    bool keep;   /* orphans: :keep was ordered */
    bool hung_up;
    bool dead;
    bool blocked; /* it does not read */
    bool reset;   /* ECONNRESET is due */
    bool shut;    /* the guardian reads no more */

    struct {
        size_t length;
        uint8_t bytes[128];
        unsigned gifts; /* descriptors that come along */
        bool blocking;  /* they are not O_NONBLOCK */
    } queue[NR_BEAM_MESSAGES];
    unsigned first, count;

    struct {
        uint64_t id;
        struct nr_kill kill;
        unsigned kills;        /* kill(2) calls before it was read */
    } asked[NR_BEAM_MESSAGES]; /* KILLs read and not answered */
    unsigned asked_count;

    bool started, failed, exited;
    bool may_rest; /* it was asked to */
    bool rests;    /* EXITED said that it does; until it has read another SPAWN */
    unsigned unkillable;
    bool stop_read;
    uint64_t stop_due; /* the earliest end of a grace that a STOP gave */
};

extern struct nr_beam nr_beam;

void nr_beam_begin(bool keep);
/* Queues a message with so many descriptors. */
void nr_beam_send(const void *bytes, size_t length, unsigned gifts, bool blocking);
void nr_beam_send_frame(enum nr_frame_type type, uint64_t id, const void *payload, size_t length);
/* poll(2)'s answer for the guardian's end. */
short nr_beam_ready(short events);
/* Whether anybody listens to the guardian. */
bool nr_beam_listens(void);

#endif
