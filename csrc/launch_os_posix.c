/* See launch_os.h. POSIX: the directory is opened for reading, the file is an unlinked shm object. */
#include "base/cleanup.h"
#include "base/error.h"
#include "launch_os.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int nr_os_open_cwd(void)
{
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

int nr_os_sealed_file(const void *data, size_t size)
{
    static _Atomic unsigned counter;
    char name[64];
    snprintf(name, sizeof(name), "/net_runner-%ld-%u", (long)getpid(),
             atomic_fetch_add(&counter, 1U));
    NR_CLEANUP_FD int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return nr_errno();
    (void)shm_unlink(name);
    int r = nr_fd_cloexec(fd, true);
    if (r == 0)
        r = nr_fd_write_all(fd, data, size);
    if (r < 0)
        return r;
    return nr_fd_take(&fd);
}

int nr_os_open_master(void)
{
    NR_CLEANUP_FD int fd = posix_openpt(O_RDWR | O_NOCTTY);
    if (fd < 0)
        return nr_errno();
    int r = nr_fd_cloexec(fd, true);
    return r < 0 ? r : nr_fd_take(&fd);
}

int nr_os_open_slave(int master)
{
    char name[64];
    int r = ptsname_r(master, name, sizeof(name)); /* POSIX 2024; ptsname(3) is not for threads */
    if (r != 0)
        return r > 0 ? -r : nr_errno();
    int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

int nr_os_kill_peer(int fd, int pid)
{
    (void)fd;
    (void)pid;
    return -ENOSYS; /* a bare pid may be somebody else's by now */
}
