/*
 * The first process of the machine that ci/cgroup-vm or ci/aarch64 boots, from an initramfs that holds all there is. It makes
 * the machine such as programs expect one, with its controllers in one cgroup2 tree, runs the file COMMAND, writes
 * how that ended to the second serial line, where the host reads it, and switches the machine off. What it
 * cannot make ready it says on the console, and runs nothing. It must never exit: the kernel would panic.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define COMMAND "/command"
#ifndef STATUS_LINE
#define STATUS_LINE "/dev/ttyS1"
#endif
#define CONTROLLERS "+memory +pids +cpu +io +cpuset"

/* Whoever reads a line on the host gets its bytes as they were written. */
static void as_written(int line)
{
    struct termios how;

    if (tcgetattr(line, &how) == 0) {
        how.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(line, TCSANOW, &how);
    }
}

__attribute__((noreturn)) static void switch_off(const char *last_words)
{
    int fd = open(STATUS_LINE, O_WRONLY | O_NOCTTY | O_CLOEXEC);

    as_written(fd);
    if (fd < 0 || write(fd, last_words, strlen(last_words)) < 0) {
        printf("init: %s: %m\n", STATUS_LINE);
    }
    /* The line is slow, and power off does not wait for it. */
    if (fd >= 0) {
        tcdrain(fd);
    }
    tcdrain(STDOUT_FILENO);
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
    }
}

__attribute__((noreturn)) static void give_up(const char *what)
{
    printf("init: %s: %m\n", what);
    switch_off("not ready\n");
}

static void mounted(const char *type, const char *where, unsigned long flags, const char *options)
{
    if ((mkdir(where, 0755) < 0 && errno != EEXIST) ||
        mount(type, where, type, flags, options) < 0) {
        give_up(where);
    }
}

static void written(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        give_up(path);
    }
    close(fd);
}

static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
        give_up("lo");
    }
    close(fd);
}

static void machine_ready(void)
{
    umask(022);
    mounted("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mounted("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mounted("devtmpfs", "/dev", MS_NOSUID, NULL);
    mounted("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mounted("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, NULL);
    mounted("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    /* Tests freeze with version 1's freezer whom not even SIGKILL shall get through. */
    mounted("cgroup", "/sys/fs/cgroup/freezer", MS_NOSUID | MS_NODEV | MS_NOEXEC, "freezer");
    /* Of all cgroups only the root may have both processes and controllers for its children. */
    written("/sys/fs/cgroup/cgroup.subtree_control", CONTROLLERS);
    written("/proc/sys/kernel/hostname", "cgroup-vm");
    if (symlink("/proc/self/fd", "/dev/fd") < 0) {
        give_up("/dev/fd");
    }
    loopback_up();
}

static pid_t command_started(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        char *const argv[] = {COMMAND, NULL};
        char *const envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                              NULL};

        /* Not as its controlling terminal: the end of a session's leader throws away what its terminal has
         * not sent yet. */
        setsid();
        execve(COMMAND, argv, envp);
        printf("init: %s: %m\n", COMMAND);
        _exit(127);
    }
    return pid;
}

/* Orphans come to the first process, whose duty it is to reap them. */
static int status_of(pid_t command)
{
    for (;;) {
        int status;
        pid_t pid = wait(&status);

        if (pid == command) {
            return status;
        }
        if (pid < 0 && errno != EINTR) {
            give_up("wait");
        }
    }
}

int main(void)
{
    char last_words[32];
    pid_t command;
    int status;

    setvbuf(stdout, NULL, _IOLBF, 0);
    as_written(STDOUT_FILENO);
    machine_ready();
    command = command_started();
    if (command < 0) {
        give_up("fork");
    }
    status = status_of(command);
    snprintf(last_words, sizeof(last_words), "exit %d\n",
             WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    switch_off(last_words);
}
