/*
 * The one place that signals: what it refuses. A signal that got through to a stranger shows on the
 * stranger, a pipe's end held by a process that dies of it.
 */
#include "check_support.h"

#include "pidref.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nr_pidref ref(pid_t pid)
{
    return (struct nr_pidref){.pid = pid, .pidfd = -EBADF};
}

static pid_t pausing_child(bool group)
{
    int ready[2];
    ck_assert_sys(pipe(ready));
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0) {
        if (group)
            (void)setpgid(0, 0);
        (void)close(ready[0]);
        (void)close(ready[1]);
        for (;;)
            (void)pause();
    }
    (void)close(ready[1]);
    char byte;
    (void)!read(ready[0], &byte, 1);
    (void)close(ready[0]);
    return pid;
}

static int reap(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void no_handler(void)
{
    (void)signal(SIGTERM, SIG_DFL); /* Check's would spread it to our group */
}

START_TEST(pids_that_mean_everybody_are_refused)
{
    static const pid_t bad[] = {1, 0, -1, -2, INT32_MIN};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct nr_pidref everybody = ref(bad[i]);
        ck_assert_int_eq(nr_pidref_signal(&everybody, SIGKILL), -EINVAL);
        ck_assert_int_eq(nr_pidref_signal_group(&everybody, SIGKILL), -EINVAL);
        ck_assert(!nr_pidref_leads(&everybody));
    }
}
END_TEST

START_TEST(a_stranger_is_refused)
{
    struct nr_pidref parent = ref(getppid());
    struct nr_pidref self = ref(getpid());
    ck_assert_int_eq(nr_pidref_signal(&parent, 0), -ESRCH);
    ck_assert_int_eq(nr_pidref_signal_group(&parent, 0), -ESRCH);
    ck_assert_int_eq(nr_pidref_signal(&self, 0), -ESRCH);
    ck_assert_int_eq(nr_pidref_signal_group(&self, 0), -ESRCH);
}
END_TEST

START_TEST(a_grandchild_is_a_stranger)
{
    int tell[2];
    pid_t grandchild = 0;
    ck_assert_sys(pipe(tell));
    pid_t child = fork();
    ck_assert_sys(child);
    if (child == 0) {
        pid_t pid = fork();
        if (pid > 0)
            (void)!write(tell[1], &pid, sizeof(pid));
        for (;;)
            (void)pause();
    }
    ck_assert_int_eq(read(tell[0], &grandchild, sizeof(grandchild)), (ssize_t)sizeof(grandchild));
    struct nr_pidref stranger = ref(grandchild);
    ck_assert_int_eq(nr_pidref_signal(&stranger, SIGKILL), -ESRCH);
    ck_assert_int_eq(kill(grandchild, 0), 0);
    ck_assert_sys(kill(grandchild, SIGKILL));
    ck_assert_sys(kill(child, SIGKILL));
    (void)reap(child);
}
END_TEST

START_TEST(a_child_is_signalled_until_it_has_ended)
{
    struct nr_pidref child = ref(pausing_child(true));
    ck_assert_int_eq(nr_pidref_signal(&child, 0), 0);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGTERM), 0);
    siginfo_t end;
    ck_assert_sys(waitid(P_PID, (id_t)child.pid, &end, WEXITED | WNOWAIT));
    /* kill(2) would still find the zombie. */
    ck_assert_int_eq(kill(child.pid, 0), 0);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGKILL), -ESRCH);
    ck_assert_int_eq(WTERMSIG(reap(child.pid)), SIGTERM);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGKILL), -ESRCH);
    ck_assert_int_eq(nr_pidref_signal_group(&child, SIGKILL), -ESRCH);
}
END_TEST

START_TEST(a_group_is_signalled_as_long_as_its_leader_is_unreaped)
{
    struct nr_pidref leader = ref(pausing_child(true));
    pid_t member = fork();
    ck_assert_sys(member);
    if (member == 0) {
        (void)setpgid(0, leader.pid);
        for (;;)
            (void)pause();
    }
    (void)setpgid(member, leader.pid);

    ck_assert(nr_pidref_leads(&leader));
    struct nr_pidref as_group = ref(member);
    ck_assert(!nr_pidref_leads(&as_group));

    ck_assert_int_eq(nr_pidref_signal(&leader, SIGKILL), 0);
    siginfo_t end;
    ck_assert_sys(waitid(P_PID, (id_t)leader.pid, &end, WEXITED | WNOWAIT));
    ck_assert_int_eq(nr_pidref_signal_group(&leader, SIGTERM), 0);
    ck_assert_int_eq(WTERMSIG(reap(member)), SIGTERM);

    member = fork();
    ck_assert_sys(member);
    if (member == 0)
        for (;;)
            (void)pause();
    ck_assert_sys(setpgid(member, leader.pid));
    (void)reap(leader.pid);
    /* The group exists, its leader is reaped: its number could be anybody's. */
    ck_assert_int_eq(kill(-leader.pid, 0), 0);
    ck_assert_int_eq(nr_pidref_signal_group(&leader, SIGKILL), -ESRCH);
    ck_assert_sys(kill(member, SIGKILL));
    (void)reap(member);
}
END_TEST

START_TEST(a_child_that_leads_no_group_is_not_signalled_as_one)
{
    struct nr_pidref child = ref(pausing_child(false));
    ck_assert(!nr_pidref_leads(&child));
    ck_assert_int_eq(nr_pidref_signal_group(&child, SIGKILL), -ESRCH);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGKILL), 0);
    (void)reap(child.pid);
}
END_TEST

START_TEST(a_bad_signal_is_an_error)
{
    struct nr_pidref child = ref(pausing_child(true));
    ck_assert_int_eq(nr_pidref_signal(&child, 65), -EINVAL);
    ck_assert_int_eq(nr_pidref_signal(&child, -1), -EINVAL);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGKILL), 0);
    (void)reap(child.pid);
}
END_TEST

START_TEST(closing_forgets_the_pid)
{
    struct nr_pidref child = ref(pausing_child(true));
    pid_t pid = child.pid;
    nr_pidref_close(&child);
    nr_pidref_close(&child);
    ck_assert_int_eq(child.pid, 0);
    ck_assert_int_eq(nr_pidref_signal(&child, SIGKILL), -EINVAL);
    ck_assert_sys(kill(pid, SIGKILL));
    (void)reap(pid);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pidref");
    TCase *tcase = tcase_create("pidref");
    tcase_add_checked_fixture(tcase, no_handler, NULL);
    tcase_add_test(tcase, pids_that_mean_everybody_are_refused);
    tcase_add_test(tcase, a_stranger_is_refused);
    tcase_add_test(tcase, a_grandchild_is_a_stranger);
    tcase_add_test(tcase, a_child_is_signalled_until_it_has_ended);
    tcase_add_test(tcase, a_group_is_signalled_as_long_as_its_leader_is_unreaped);
    tcase_add_test(tcase, a_child_that_leads_no_group_is_not_signalled_as_one);
    tcase_add_test(tcase, a_bad_signal_is_an_error);
    tcase_add_test(tcase, closing_forgets_the_pid);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
