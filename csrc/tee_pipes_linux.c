/*
 * See tee_copy.h: Linux. tee(2) gives stdout the pages that stdin holds, and leaves them there; as many
 * bytes as it gave are then moved to the copy, whatever number of calls that takes, before tee(2) is called
 * again: what is still in stdin would be given a second time.
 *
 * A copy that is no pipe is read and written, after a tee(2) as well: into a file splice(2) copies, too, and was no
 * faster (ext4, tmpfs), and it refuses O_APPEND.
 */
#include "tee_copy.h"

#include "base/error.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than pipes hold, as a rule: the pipes say how much it is. */
#define AT_ONCE ((size_t)1024 * 1024)

#define ENDED (NR_TEE_NO_PIPES + 1)

static bool is_pipe(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/* The kernel will not, whatever the bytes: one pipe at both ends, or a filter of system calls. */
static bool is_refusal(int error)
{
    return error == EINVAL || error == ENOSYS || error == EPERM;
}

/* The next `size` bytes of stdin, which stdout has got, to the copy. 0 or -errno of stdin. */
static int catch_up(struct nr_tee *stream, size_t size, bool *splices)
{
    while (size > 0 && *splices && stream->lost == 0) {
        ssize_t n = splice(stream->in, NULL, stream->copy, NULL, size, 0);
        if (n == 0)
            return 0; /* somebody else has read them, and stdin has ended */
        if (n > 0)
            size -= (size_t)n;
        else if (errno == EAGAIN)
            (void)nr_tee_await(stream->copy, POLLOUT);
        else if (is_refusal(errno))
            *splices = false;
        else if (errno != EINTR)
            stream->lost = nr_errno();
    }
    return nr_tee_catch_up(stream, size);
}

/* What to do where nothing was given to stdout, for that reason: 0, try again; ENDED; -errno;
 * NR_TEE_NO_PIPES. Only poll(2) knows stdin's end: EAGAIN, and 0 as well, may be that of a stdout that is
 * full, and who has nothing to write need not care that nobody reads. */
static int after_none(const struct nr_tee *stream, int error)
{
    if (is_refusal(error))
        return NR_TEE_NO_PIPES;
    if (error != EAGAIN && error != EPIPE)
        return -error;
    int r = nr_tee_await(stream->in, POLLIN);
    if (r < 0)
        return r;
    if (!(r & POLLIN))
        return ENDED;
    if (error == EPIPE)
        return -EPIPE;
    r = nr_tee_await(stream->out, POLLOUT);
    return r < 0 ? r : 0;
}

/* Neither call waits for room: with stdin at its end, tee(2) would do so with nothing to put there, and
 * who reads the copy to its end first, and stdout then, would wait for ever. */
int nr_tee_pipes(struct nr_tee *stream)
{
    const unsigned flags = SPLICE_F_NONBLOCK;
    bool splices = is_pipe(stream->copy);
    int r = 0;

    if (!is_pipe(stream->in) || !is_pipe(stream->out))
        return NR_TEE_NO_PIPES;
    while (r == 0) {
        bool alone = stream->lost != 0;
        ssize_t n = alone ? splice(stream->in, NULL, stream->out, NULL, AT_ONCE, flags)
                          : tee(stream->in, stream->out, AT_ONCE, flags);
        if (n > 0)
            r = alone ? 0 : catch_up(stream, (size_t)n, &splices);
        else if (n == 0 || errno != EINTR)
            r = after_none(stream, n == 0 ? EAGAIN : errno);
    }
    return r == ENDED ? 0 : r;
}
