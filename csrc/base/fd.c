/* See fd.h: descriptors as owned values. */
#include "fd.h"

#include "error.h"

#include <fcntl.h>
#include <unistd.h>

int nr_fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
    }
    return -EBADF;
}

int nr_fd_take(int *fd)
{
    int taken = *fd;
    *fd = -EBADF;
    return taken;
}

int nr_fd_pipe(int fds[2])
{
    fds[0] = -EBADF;
    fds[1] = -EBADF;
#ifdef NR_PORTABLE
    int made[2];
    if (pipe(made) < 0)
        return nr_errno();
    for (int i = 0; i < 2; i++) {
        int r = nr_fd_cloexec(made[i], true);
        if (r < 0) {
            nr_fd_close(made[0]);
            nr_fd_close(made[1]);
            return r;
        }
    }
    fds[0] = made[0];
    fds[1] = made[1];
    return 0;
#else
    if (pipe2(fds, O_CLOEXEC) < 0) {
        fds[0] = -EBADF;
        fds[1] = -EBADF;
        return nr_errno();
    }
    return 0;
#endif
}

int nr_fd_write_all(int fd, const void *data, size_t size)
{
    const char *from = data;
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, from + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nr_errno();
        done += (size_t)n;
    }
    return 0;
}

int nr_fd_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return nr_errno();
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0)
        return nr_errno();
    return 0;
}

int nr_fd_cloexec(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return nr_errno();
    int wanted = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
    if (wanted != flags && fcntl(fd, F_SETFD, wanted) < 0)
        return nr_errno();
    return 0;
}
