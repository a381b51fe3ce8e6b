/* See reap.h: who lives, who ended, and the reaping of those. Must never signal or block. */
#include "reap.h"

#include "error.h"
#include "sys.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

bool nr_family_leader_ended(struct nr_family *family)
{
    siginfo_t end = {0};

    if (family->leader_ended || family->leader.pid <= 1)
        return true;
    if (waitid(P_PID, (id_t)family->leader.pid, &end, WEXITED | WNOHANG | WNOWAIT | NR_WAIT_ALL) <
            0 ||
        end.si_pid == family->leader.pid)
        family->leader_ended = true;
    return family->leader_ended;
}

bool nr_family_alive(const struct nr_family *family)
{
    return !family->leader_ended || nr_sys_children_alive();
}

bool nr_family_reap_child(struct nr_family *family, pid_t pid)
{
    siginfo_t end = {0};

    if (pid == family->leader.pid ||
        waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | NR_WAIT_ALL) < 0 || end.si_pid != pid)
        return false;
    if (family->condemned && end.si_code == CLD_KILLED && end.si_status == SIGKILL)
        family->killed++;
    return true;
}

struct reaping {
    struct nr_family *family;
    unsigned count;
};

static void reap_listed(void *context, pid_t pid)
{
    struct reaping *reaping = context;
    if (nr_family_reap_child(reaping->family, pid))
        reaping->count++;
}

unsigned nr_family_reap_others(struct nr_family *family)
{
    struct reaping reaping = {.family = family};

    while (reaping.count < NR_REAP_MAX) {
        siginfo_t end = {0};
        if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT | NR_WAIT_ALL) < 0 ||
            end.si_pid == 0)
            return reaping.count;
        if (end.si_pid == family->leader.pid) {
            /* The leader's zombie comes first and hides the others: ask for each by name. Those
             * that cannot be listed are reaped once the leader is. */
            family->leader_ended = true;
            (void)nr_children_each(&family->children, reap_listed, &reaping);
            break;
        }
        if (nr_family_reap_child(family, end.si_pid))
            reaping.count++;
    }
    return reaping.count;
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000U + (uint64_t)time.tv_usec;
}

int nr_family_reap_leader(struct nr_family *family, struct nr_exited *end)
{
    int status = 0;
    struct rusage usage;
    memset(&usage, 0, sizeof(usage));

    pid_t pid;
    do {
        pid = wait4(family->leader.pid, &status, NR_WAIT_ALL, &usage);
    } while (pid < 0 && errno == EINTR);
    int r = pid < 0 ? nr_errno() : 0;
    nr_pidref_close(&family->leader);
    if (r < 0)
        return r;

    end->how = WIFSIGNALED(status) ? NR_EXIT_SIGNAL : NR_EXIT_CODE;
    end->value = (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    end->rusage = (struct nr_rusage){
        .user_us = microseconds(usage.ru_utime),
        .system_us = microseconds(usage.ru_stime),
        .max_rss_kb = (uint64_t)usage.ru_maxrss,
        .minflt = (uint64_t)usage.ru_minflt,
        .majflt = (uint64_t)usage.ru_majflt,
        .nvcsw = (uint64_t)usage.ru_nvcsw,
        .nivcsw = (uint64_t)usage.ru_nivcsw,
    };
    return 0;
}

struct naming {
    uint32_t *pids;
    uint32_t room;
    uint32_t count;
};

static void name_living(void *context, pid_t pid)
{
    struct naming *naming = context;
    siginfo_t end = {0};

    if (waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT | NR_WAIT_ALL) < 0 ||
        end.si_pid != 0)
        return;
    if (naming->count < naming->room)
        naming->pids[naming->count] = (uint32_t)pid;
    naming->count++;
}

uint32_t nr_family_survivors(struct nr_family *family, uint32_t *pids, uint32_t room)
{
    struct naming naming = {.pids = pids, .room = room};
    if (nr_children_each(&family->children, name_living, &naming) < 0 && family->leader.pid > 1)
        name_living(&naming, family->leader.pid);
    return naming.count;
}

void nr_family_close(struct nr_family *family)
{
    nr_pidref_close(&family->leader);
    nr_children_close(&family->children);
}
