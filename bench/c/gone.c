/*
 * From a kill to nobody left: for each line "PID LOCKFILE [PID...]" on stdin sends SIGKILL to the first
 * PID and answers "DEAD GONE", the nanoseconds from then until its pidfd says that it is dead, and until
 * the lock is free (fixture.h: nobody who inherited it lives) and the other PIDs are dead, too. All of it is
 * waited for by events, nothing is looked for. "held" if the lock was free before the kill, or if somebody
 * is left 30 s after it: that is no measurement.
 */
#include "../../test/fixtures/fixture.h"

#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>

#define LIMIT_S    30
#define FAMILY_MAX 64

static long long now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void on_alarm(int signal_number)
{
    (void)signal_number; /* it interrupts */
}

/* 0 when the lock was taken, which nobody else then holds. */
static int take(int fd, int command)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, command, &lock);
}

static bool await_death(int pidfd)
{
    struct pollfd watched = {.fd = pidfd, .events = POLLIN};
    return poll(&watched, 1, LIMIT_S * 1000) == 1;
}

static int watch(int pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static bool measure(int pid, const char *path, const int *family, int members, long long *dead,
                    long long *gone)
{
    int lock = open(path, O_RDWR | O_CLOEXEC);
    int pidfd = watch(pid);
    bool ended = false;

    if (lock >= 0 && pidfd >= 0 && take(lock, F_OFD_SETLK) < 0) {
        long long begin = now_ns();
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        ended = await_death(pidfd);
        *dead = now_ns() - begin;
        (void)alarm(LIMIT_S);
        ended = take(lock, F_OFD_SETLKW) == 0 && ended;
        (void)alarm(0);
        for (int i = 0; i < members; i++)
            ended = await_death(family[i]) && ended;
        *gone = now_ns() - begin;
    }
    if (lock >= 0)
        (void)close(lock);
    if (pidfd >= 0)
        (void)close(pidfd);
    return ended;
}

/* The pidfds of those of the line's last words that are still there; a chain's member need not be. */
static int watch_family(const char *words, int *family)
{
    char *end = NULL;
    int members = 0;

    for (long pid = strtol(words, &end, 10); end != words && members < FAMILY_MAX;
         pid = strtol(words, &end, 10)) {
        int pidfd = watch((int)pid);
        if (pidfd >= 0)
            family[members++] = pidfd;
        words = end;
    }
    return members;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    char line[8192];

    (void)sigaction(SIGALRM, &action, NULL);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        int family[FAMILY_MAX];
        char path[4096];
        char answer[64] = "held\n";
        int pid = 0;
        int rest = 0;
        long long dead = 0;
        long long gone = 0;

        if (sscanf(line, "%d %4095s%n", &pid, path, &rest) != 2)
            return 1;
        int members = watch_family(line + rest, family);
        if (measure(pid, path, family, members, &dead, &gone))
            (void)snprintf(answer, sizeof(answer), "%lld %lld\n", dead, gone);
        for (int i = 0; i < members; i++)
            (void)close(family[i]);
        say(STDOUT_FILENO, answer);
    }
    return 0;
}
