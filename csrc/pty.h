/*
 * Pseudo-terminals: made for a command by launch.c, spoken to by terminal.c. What of them differs
 * between systems is launch_os.h's. Knows no BEAM; never blocks, and never makes a terminal our own
 * controlling one. Thread: any.
 */
#ifndef NR_PTY_H
#define NR_PTY_H

#include <stdbool.h>

struct nr_pty_options {
    unsigned short rows;
    unsigned short cols;
    bool echo;
    bool raw; /* no processing at all, so no echo either */
};

/* A new terminal with these settings, both ends close-on-exec, the master non-blocking. 0 or -errno with
 * both fields -EBADF. Fields are the caller's to close: until the last copy of the slave is closed, the
 * master's reader waits; closing the last copy of the master hangs up the session that lives in it. */
int nr_pty_open(const struct nr_pty_options *options, int *master, int *slave);

/* The window's size from now on; who lives in it gets SIGWINCH if it changed. 0 or -errno. */
int nr_pty_resize(int master, unsigned short rows, unsigned short cols);

/* Whether nobody has the slave open any more: what is written then is kept for whoever opens it next, most
 * of the time for nobody. */
bool nr_pty_left(int master);

/* What has to be written after the byte `last` (-1: nothing was written yet) so that a reader who reads
 * by lines sees the end of its input: VEOF, twice if a line was begun, because the first one only
 * hands that over. The number of bytes (0: the terminal has no such character), or -errno. */
#define NR_PTY_EOF_MAX 2
int nr_pty_eof(int master, int last, unsigned char bytes[NR_PTY_EOF_MAX]);

#endif
