/* See launch_os.h. Linux: O_PATH (no read permission needed on the directory) and memfd seals. */
#include "base/cleanup.h"
#include "base/error.h"
#include "launch_os.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int nr_os_open_cwd(void)
{
    int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

int nr_os_sealed_file(const void *data, size_t size)
{
    NR_CLEANUP_FD int fd = memfd_create("net_runner", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return nr_errno();
    int r = nr_fd_write_all(fd, data, size);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return nr_errno();
    return nr_fd_take(&fd);
}

int nr_os_open_master(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

int nr_os_open_slave(int master)
{
    const int flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    char name[64];

    /* By the master itself (Linux 4.13): it need not have a name here, as where the devpts it came
     * from is mounted somewhere else. */
    int fd = ioctl(master, TIOCGPTPEER, flags);
    if (fd >= 0)
        return fd;
    int r = ptsname_r(master, name, sizeof(name));
    if (r != 0)
        return -r;
    fd = open(name, flags);
    return fd < 0 ? nr_errno() : fd;
}

int nr_os_kill_peer(int fd, int pid)
{
    if (pid <= 1)
        return -EINVAL;
    NR_CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return nr_errno();
    /* In this order: a socket that is open now was held by the pid when its pidfd was made. */
    struct pollfd peer = {.fd = fd, .events = 0};
    if (poll(&peer, 1, 0) < 0)
        return nr_errno();
    if (peer.revents & (POLLHUP | POLLERR | POLLNVAL))
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 ? nr_errno() : 0;
}
