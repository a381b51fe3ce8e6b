/*
 * The rest of a guardian whose command has ended by itself and left nobody behind: it waits at its control socket for
 * another order, which then needs no fork of the zygote and no socket of its own (docs/decisions/0016). How long is
 * the BEAM's to say, by hanging up. Called by guardian.c, between two commands. It must never lose the last frames
 * of the one before.
 */
#ifndef NR_REST_H
#define NR_REST_H

#include "channel.h"
#include "order.h"

/* Nobody will order anything any more. */
#define NR_REST_OVER 4 /* no condition of a channel */

/* Sends what `outbox` has, and waits for a SPAWN on `control`; `beam` as nr_guardian_run's, `frame` is where the
 * order's settings and strings will be; of the one before, its first `used` bytes, nothing is left. What was sent to the guardian of the command before (KILL, STOP) is read away. 0;
 * NR_REST_OVER; or -errno where the order is refused, as nr_order_next says: then it has no more than its id. */
int nr_rest(struct nr_order *order, int control, int beam, struct nr_outbox *outbox,
            unsigned char frame[static NR_WIRE_FRAME_MAX], size_t used);

#endif
