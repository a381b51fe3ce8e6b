/*
 * The zygote: one per BEAM, small, single-threaded, so that a fork costs 0.1 ms. It takes requests,
 * forks a guardian for each good one, answers each bad one, and cleans up behind guardians that were
 * killed. Called by main.c. It must never block, and never signal anything but its own children.
 */
#ifndef NR_ZYGOTE_H
#define NR_ZYGOTE_H

#include <sys/types.h>

/* Serves on `socket` (taken) until the BEAM or the socket's other end is gone and with them all
 * guardians. The exit code. */
int nr_zygote_run(int socket, pid_t beam);

#endif
