/* See rest.h. */
#include "rest.h"

#include "clock.h"
#include "codec.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* What nr_rest goes on after. */
#define NOTHING 5

/* A message that is no order is one that crossed the end of the command before. */
static int take(struct nr_order *order, int control, const unsigned char *bytes,
                struct nr_message *message)
{
    struct nr_frame frame;
    int r = nr_codec_open(bytes, message->length, &frame);
    if (r == NR_FRAME_UNREADABLE || frame.type != NR_SPAWN)
        return NOTHING;
    if (r == 0 && !message->truncated)
        return nr_order_next(order, control, &frame, message);
    *order = NR_ORDER_NONE;
    order->id = frame.id;
    return -EBADMSG;
}

/* poll(2) says that there is something, and whether (`hung_up`) it is the last. */
static int hear(struct nr_order *order, int control, bool hung_up, unsigned char *frame,
                uint64_t *listen)
{
    struct nr_message message;
    int r = nr_channel_receive(control, frame, NR_WIRE_FRAME_MAX, &message);
    if (r == 0) {
        r = take(order, control, frame, &message);
        nr_message_close(&message);
        return r;
    }
    if (r == NR_CHANNEL_LATER && !hung_up)
        *listen = nr_clock_after(NR_CHANNEL_LATER_MS);
    else if (r != NR_CHANNEL_WAIT)
        return NR_REST_OVER;
    return NOTHING;
}

int nr_rest(struct nr_order *order, int control, int beam, struct nr_outbox *outbox,
            unsigned char frame[static NR_WIRE_FRAME_MAX], size_t used)
{
    uint64_t listen = NR_NEVER; /* the control socket is left alone until then */
    memset(frame, 0, used);     /* no environment of one command is in the guardian of another */
    int r = NOTHING;

    while (r == NOTHING) {
        int said = nr_outbox_flush(outbox, control);
        if (said == NR_CHANNEL_HANGUP)
            return NR_REST_OVER;
        if (listen <= nr_clock_ms())
            listen = NR_NEVER;

        struct pollfd watched[] = {
            {.fd = listen == NR_NEVER ? control : -1,
             .events = said == NR_CHANNEL_WAIT ? POLLOUT : POLLIN},
            {.fd = beam, .events = POLLIN},
        };
        if (poll(watched, 2, nr_clock_poll_ms(listen)) < 0)
            continue;
        if (watched[1].revents)
            return NR_REST_OVER;
        if (said == 0 && watched[0].revents)
            r = hear(order, control, watched[0].revents & POLLHUP, frame, &listen);
    }
    return r;
}
