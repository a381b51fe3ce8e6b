/*
 * One message at a time over a SOCK_SEQPACKET socket, with descriptors. Called by zygote (request
 * socket) and guardian (control socket). It never blocks, never raises SIGPIPE, and never lets a
 * received descriptor go unseen: each is handed to the caller or closed here.
 */
#ifndef NR_CHANNEL_H
#define NR_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

/* The named conditions of a channel. */
#define NR_CHANNEL_WAIT   1 /* nothing to read, or no room to write, now */
#define NR_CHANNEL_HANGUP 2 /* the other end is gone */
#define NR_CHANNEL_LATER  3 /* no memory to read with, which poll(2) does not know: it says "now" */

/* How long to leave the socket alone after NR_CHANNEL_LATER. */
#define NR_CHANNEL_LATER_MS 10

/* Far above NR_SPAWN_FDS_MAX: a request with too many descriptors must be seen to have them. */
#define NR_CHANNEL_FDS_MAX 32

struct nr_message {
    size_t length;      /* bytes in the buffer */
    bool truncated;     /* the message was longer than the buffer */
    bool fds_lost;      /* MSG_CTRUNC: there were more descriptors than we could take */
    unsigned fds_count; /* filled entries of fds; owned by whoever holds the message */
    int fds[NR_CHANNEL_FDS_MAX];
};

/* Receives one message into `buffer`. 0, NR_CHANNEL_WAIT, NR_CHANNEL_LATER, NR_CHANNEL_HANGUP or
 * -errno; *message is valid (and empty) in every case. Received descriptors are close-on-exec. */
int nr_channel_receive(int socket, void *buffer, size_t room, struct nr_message *message);

/* Closes the descriptors that are still in the message. */
void nr_message_close(struct nr_message *message);

/* Sends one message. 0, NR_CHANNEL_WAIT, NR_CHANNEL_HANGUP or -errno. */
int nr_channel_send(int socket, const void *bytes, size_t length);

/*
 * Frames on their way out, for when the other end does not read (a stopped BEAM). Whoever has frames
 * waiting takes no more commands, so the few slots are enough: see guardian.c.
 */
#define NR_OUTBOX_SLOTS 8
#define NR_OUTBOX_FRAME (sizeof(struct nr_header) + sizeof(struct nr_exited))

struct nr_outbox {
    unsigned first;
    unsigned count;
    struct {
        size_t length;
        unsigned char bytes[NR_OUTBOX_FRAME];
    } slots[NR_OUTBOX_SLOTS];
};

/* Queues a frame. 0 or -ENOBUFS. */
int nr_outbox_post(struct nr_outbox *outbox, enum nr_frame_type type, uint64_t id,
                   const void *payload, size_t length);

/* Sends what is queued. 0 (all sent), NR_CHANNEL_WAIT, NR_CHANNEL_HANGUP (the queue is emptied). */
int nr_outbox_flush(struct nr_outbox *outbox, int socket);

#endif
