/*
 * The guardian: one command's keeper, a fork of the zygote. It makes the command, reports over the
 * control socket, and does not leave before the whole family has ended (or, with nobody listening any
 * more, cannot be ended). Then it may rest, and keep another. Called by zygote.c in the forked child; never returns.
 */
#ifndef NR_GUARDIAN_H
#define NR_GUARDIAN_H

#include "order.h"

/* Exit codes the zygote understands: anything but CLEAN makes it look for strays. */
#define NR_GUARDIAN_CLEAN 0
#define NR_GUARDIAN_LEFT  3 /* somebody could not be killed */

/* Takes the order; borrows `beam`, the descriptor that becomes readable when the BEAM has ended
 * (negative where there is none: then only the control socket's hang-up tells), and `frame`, the buffer that the order
 * is in, for those that may follow. */
_Noreturn void nr_guardian_run(struct nr_order *order, int beam,
                               unsigned char frame[static NR_WIRE_FRAME_MAX]);

#endif
