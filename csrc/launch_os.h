/* What launch.c and control.c need and that differs between Linux and other POSIX systems: twin files
 * launch_os_linux.c and launch_os_posix.c, picked by the build. */
#ifndef NR_LAUNCH_OS_H
#define NR_LAUNCH_OS_H

#include <stddef.h>

/* A descriptor of this process's working directory, to fchdir to. fd or -errno. */
int nr_os_open_cwd(void);

/* A close-on-exec descriptor of a file without a name that holds these bytes and cannot be changed
 * any more, as far as the system can promise that. fd or -errno. */
int nr_os_sealed_file(const void *data, size_t size);

/* A new pseudo-terminal's master, close-on-exec, not yet unlocked. fd or -errno. */
int nr_os_open_master(void);

/* Its slave once it is unlocked, close-on-exec, never our controlling terminal. fd or -errno. */
int nr_os_open_slave(int master);

/* SIGKILL to the process `pid`, provided that it still holds the other end of the connected socket
 * fd, which only it has: that is what makes the pid the right one. 0, -ESRCH if it has gone, -ENOSYS
 * where that cannot be known, -errno. */
int nr_os_kill_peer(int fd, int pid);

#endif
