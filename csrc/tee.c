/*
 * tee: a stage of a pipeline. Copies its stdin to stdout and to descriptor 2, which is no place for
 * messages here but the second output: whoever starts this opens a file there, or a pipe to another
 * command. No arguments; nothing is ever said. tee_copy.c copies; this file decides how it ends.
 *
 * stdout is the stream, descriptor 2 the copy, and whatever becomes of the copy the stream goes on:
 *
 *     stdin ends                       exit 0, once both have every byte (closing them included)
 *     nobody reads stdout any more     killed by SIGPIPE, like any stage of a pipeline, so that what
 *                                      writes stdin ends too. Only where there was a byte to write.
 *     nobody reads the copy any more   who wanted it wants no more: the stream goes on alone, exit 0
 *     the copy fails otherwise         the stream goes on alone, and is whole. The copy is not, and
 *                                      that is said at the end: exit with the errno (ENOSPC, EFBIG,
 *                                      EDQUOT, EIO, ...), also where stdout fails later or loses its
 *                                      reader
 *     stdin or stdout fails otherwise  exit with 133 + the errno, at once
 *     descriptor 2 is closed           exit EBADF, before anything is read
 *
 * 133 is the last errno of Linux. A byte has room for 122 more, and EDQUOT is the 122nd: what is beyond, or
 * larger elsewhere, is told as EIO. lib/net_runner/running.ex reads it.
 *
 * To stop at the copy's failure instead would give stdout's reader an end of file like any other, in
 * the middle of a stream that nothing is wrong with. The copy has every byte that stdout took.
 *
 * Slow readers hold up: the slower of the two decides how fast stdin is read.
 */
#include "base/error.h"
#include "tee_copy.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

enum { STREAM = 133, COPY_MAX = STREAM, STREAM_MAX = 255 - STREAM };

/* Some file systems say only now what became of what was written. */
static int end_of(int fd)
{
    return close(fd) < 0 && errno != EINTR ? nr_errno() : 0;
}

/* As if SIGPIPE had never been ignored, or blocked by whoever started us. Returns where it has no effect: for
 * the first process of a pid namespace. */
static void end_by_sigpipe(void)
{
    sigset_t mask;
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGPIPE);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &mask, NULL);
    (void)raise(SIGPIPE);
}

int main(void)
{
    struct nr_tee stream = {.in = STDIN_FILENO, .out = STDOUT_FILENO, .copy = STDERR_FILENO};

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is EFBIG */
    if (fcntl(stream.copy, F_GETFD) < 0)
        return EBADF;
    int r = nr_tee_run(&stream);
    if (r == 0)
        r = end_of(stream.out);
    if (stream.lost == 0)
        stream.lost = end_of(stream.copy);

    if (stream.lost != 0 && stream.lost != -EPIPE)
        return -stream.lost <= COPY_MAX ? -stream.lost : EIO;
    if (r == -EPIPE)
        end_by_sigpipe();
    if (r == 0)
        return 0;
    return STREAM + (-r <= STREAM_MAX ? -r : EIO);
}
