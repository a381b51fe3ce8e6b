/*
 * The lines that bench_producer writes and bench_reference finds; bench/lib/bench/scenarios/lines.ex knows
 * the same numbers. Each is one letter again and again; one in NEEDLE_EVERY has a word in its middle.
 */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#define LINE_BYTES      100U /* the newline included */
#define LINES_PER_BLOCK 1024U
#define NEEDLE          "needle"
#define NEEDLE_EVERY    32U /* divides LINES_PER_BLOCK */

#endif
