/*
 * The family rooms (reap.c, stop.c, children.c) with real process trees: this test is the guardian.
 * A tree is dead when the pipe whose write end all of it inherited is at its end, and when wait(2)
 * says ECHILD.
 */
#include "check_support.h"

#include "clock.h"
#include "fd.h"
#include "reap.h"
#include "stop.h"
#include "sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nr_family family;
static int alive[2]; /* write end: inherited by all of the family */
static int ready[2]; /* a byte from each member that is in place */

static void open_pipes(void)
{
    ck_assert_int_eq(nr_fd_pipe(alive), 0);
    ck_assert_int_eq(nr_fd_pipe(ready), 0);
    family = NR_FAMILY_NONE;
    (void)nr_sys_subreaper();
    (void)signal(SIGTERM, SIG_DFL); /* Check's handler would spread it to our group */
}

static _Noreturn void pause_for_ever(void)
{
    for (;;)
        (void)pause();
}

static void in_place(void)
{
    (void)!write(ready[1], "r", 1);
}

static void await_members(int count)
{
    char byte;
    while (count-- > 0)
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
}

/* Forks the leader; in it, 0 is returned. */
static pid_t fork_leader(void)
{
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0) {
        (void)setsid();
        return 0;
    }
    family.leader = (struct nr_pidref){.pid = pid, .pidfd = -EBADF};
    return pid;
}

static void await_leader_end(void)
{
    siginfo_t end;
    int pidfd = nr_sys_watch(family.leader.pid);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    if (pidfd >= 0) /* a leader that lives on is a failure at once, not Check's time-out */
        ck_assert_int_eq(poll(&ended, 1, 10000), 1);
    (void)nr_fd_close(pidfd);
    ck_assert_sys(waitid(P_PID, (id_t)family.leader.pid, &end, WEXITED | WNOWAIT));
}

START_TEST(a_living_leader_is_not_taken_for_ended)
{
    if (fork_leader() == 0)
        pause_for_ever();
    ck_assert(!nr_family_leader_ended(&family));
    ck_assert(nr_family_alive(&family));
    ck_assert_uint_eq(nr_family_reap_others(&family), 0);
    nr_stop_kill(&family);
    await_leader_end();
    ck_assert(nr_family_leader_ended(&family));
    ck_assert(!nr_family_alive(&family));
    /* Seen, not reaped. */
    ck_assert_int_eq(kill(family.leader.pid, 0), 0);
}
END_TEST

START_TEST(the_leaders_end_is_told_exactly)
{
    for (int code = 0; code < 256; code++) {
        struct nr_exited end = {0};
        if (fork_leader() == 0)
            _exit(code);
        await_leader_end();
        ck_assert_int_eq(nr_family_reap_leader(&family, &end), 0);
        ck_assert_uint_eq(end.how, NR_EXIT_CODE);
        ck_assert_uint_eq(end.value, (uint32_t)code);
        ck_assert_uint_gt(end.rusage.max_rss_kb, 0);
        ck_assert_int_eq(family.leader.pid, 0);
        family = NR_FAMILY_NONE;
    }
    static const int signals[] = {SIGTERM, SIGKILL, SIGUSR1};
    for (size_t i = 0; i < 3; i++) {
        struct nr_exited end = {0};
        if (fork_leader() == 0)
            pause_for_ever();
        ck_assert_sys(kill(family.leader.pid, signals[i]));
        await_leader_end();
        ck_assert_int_eq(nr_family_reap_leader(&family, &end), 0);
        ck_assert_uint_eq(end.how, NR_EXIT_SIGNAL);
        ck_assert_uint_eq(end.value, (uint32_t)signals[i]);
        family = NR_FAMILY_NONE;
    }
}
END_TEST

START_TEST(reaping_nobody_is_an_error_and_blocks_nowhere)
{
    struct nr_exited end = {0};
    ck_assert(nr_family_leader_ended(&family));
    ck_assert_int_lt(nr_family_reap_leader(&family, &end), 0);
    nr_family_close(&family);
    nr_family_close(&family);
}
END_TEST

START_TEST(the_polite_stop_continues_who_is_stopped)
{
    struct nr_exited end = {0};
    if (fork_leader() == 0) {
        in_place();
        pause_for_ever();
    }
    await_members(1);
    siginfo_t info;
    ck_assert_sys(kill(family.leader.pid, SIGSTOP));
    ck_assert_sys(waitid(P_PID, (id_t)family.leader.pid, &info, WSTOPPED));
    nr_stop_ask(&family, SIGTERM);
    await_leader_end();
    ck_assert_int_eq(nr_family_reap_leader(&family, &end), 0);
    ck_assert_uint_eq(end.value, SIGTERM);
}
END_TEST

START_TEST(a_leader_without_a_group_yet_is_still_reached)
{
    struct nr_exited end = {0};
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0)
        pause_for_ever(); /* no setsid: the moment after fork */
    family.leader = (struct nr_pidref){.pid = pid, .pidfd = -EBADF};
    nr_stop_kill(&family);
    await_leader_end();
    ck_assert_int_eq(nr_family_reap_leader(&family, &end), 0);
    ck_assert_uint_eq(end.value, SIGKILL);
}
END_TEST

#ifndef NR_PORTABLE

static bool tree_is_dead(int ms)
{
    alive[1] = nr_fd_close(alive[1]);
    struct pollfd end = {.fd = alive[0], .events = POLLIN};
    return poll(&end, 1, ms) == 1;
}

static bool by_pids;

/* A fork of a sanitized process is ten times a fork. */
#ifdef __SANITIZE_ADDRESS__
#define CHAINS_MS 10000
#else
#define CHAINS_MS 2000
#endif

/* Sweeps until nobody lives; the milliseconds it took, or more than the limit. */
static uint64_t sweep_all(uint64_t limit_ms)
{
    uint64_t start = nr_clock_ms();
    while (nr_stop_sweep(&family)) {
        if (nr_clock_ms() - start > limit_ms)
            break;
        (void)poll(NULL, 0, 1);
    }
    return nr_clock_ms() - start;
}

static void expect_nobody_left(void)
{
    struct nr_exited end;
    (void)nr_family_reap_leader(&family, &end);
    (void)nr_family_reap_others(&family);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    ck_assert_int_eq(errno, ECHILD);
    ck_assert(tree_is_dead(0));
    nr_family_close(&family);
}

static void use_pids(void)
{
    by_pids = true;
}

static void count_child(void *context, pid_t pid)
{
    int *counts = context;
    counts[0]++;
    if (pid == family.leader.pid)
        counts[1]++;
}

START_TEST(children_are_listed_both_ways)
{
    if (fork_leader() == 0)
        pause_for_ever();
    for (int i = 0; i < 3000; i += 1000) {
        for (int way = 0; way < 2; way++) {
            int counts[2] = {0, 0};
            struct nr_children children = NR_CHILDREN_NONE;
            children.by_pids = way == 1;
            ck_assert_int_eq(nr_children_each(&children, count_child, counts), 0);
            ck_assert_int_eq(nr_children_each(&children, NULL, NULL), 0);
            ck_assert_int_eq(counts[0], 1 + i / 1000);
            ck_assert_int_eq(counts[1], 1);
            nr_children_close(&children);
            nr_children_close(&children);
        }
        pid_t more = fork();
        ck_assert_sys(more);
        if (more == 0)
            pause_for_ever();
    }
    family.children.by_pids = by_pids;
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(a_list_longer_than_the_buffer_is_read_whole)
{
    for (int i = 0; i < 1000; i++) {
        pid_t pid = fork();
        ck_assert_sys(pid);
        if (pid == 0)
            pause_for_ever();
    }
    int counts[2] = {0, 0};
    family.children.by_pids = by_pids;
    ck_assert_int_eq(nr_children_each(&family.children, count_child, counts), 0);
    ck_assert_int_eq(counts[0], 1000);
    family.leader_ended = true;
    family.condemned = true;
    ck_assert_uint_le(sweep_all(5000), 5000);
    while (nr_family_reap_others(&family) > 0) /* dead is not reaped yet */
        ;
    ck_assert_uint_eq(family.killed, 1000);
    expect_nobody_left();
}
END_TEST

START_TEST(others_are_seen_behind_the_leaders_zombie)
{
    if (fork_leader() == 0) {
        if (fork() == 0) {
            in_place();
            pause_for_ever();
        }
        _exit(0);
    }
    await_leader_end();
    await_members(1);
    family.children.by_pids = by_pids;
    ck_assert(nr_family_leader_ended(&family));
    ck_assert(nr_family_alive(&family));
    ck_assert_uint_eq(nr_family_reap_others(&family), 0);
    nr_stop_kill(&family);
    ck_assert_uint_le(sweep_all(2000), 2000);
    ck_assert(!nr_family_alive(&family));
    (void)nr_family_reap_others(&family);
    ck_assert_uint_eq(family.killed, 1);
    /* The leader is still there to be reaped. */
    ck_assert_int_eq(kill(family.leader.pid, 0), 0);
    expect_nobody_left();
}
END_TEST

START_TEST(zombies_behind_the_leaders_are_reaped)
{
    if (fork_leader() == 0) {
        for (int i = 0; i < 10; i++)
            if (fork() == 0)
                _exit(0);
        in_place();
        _exit(0);
    }
    await_members(1);
    await_leader_end();
    family.children.by_pids = by_pids;
    unsigned reaped = 0;
    uint64_t limit = nr_clock_ms() + 5000;
    while (nr_family_alive(&family) || reaped < 10) {
        ck_assert_msg(nr_clock_ms() < limit, "%u of 10 reaped", reaped);
        (void)nr_family_leader_ended(&family);
        reaped += nr_family_reap_others(&family);
    }
    ck_assert_uint_eq(reaped, 10);
    ck_assert_uint_eq(family.killed, 0);
    expect_nobody_left();
}
END_TEST

START_TEST(one_turn_of_reaping_has_an_end)
{
    enum { MORE = 10 };
    if (fork_leader() == 0)
        pause_for_ever();
    for (unsigned i = 0; i < NR_REAP_MAX + MORE; i++) {
        pid_t pid = fork();
        ck_assert_sys(pid);
        if (pid == 0)
            _exit(0);
        siginfo_t end;
        ck_assert_sys(waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT));
    }
    family.children.by_pids = by_pids;
    ck_assert_uint_eq(nr_family_reap_others(&family), NR_REAP_MAX);
    ck_assert_uint_eq(nr_family_reap_others(&family), MORE);
    nr_stop_kill(&family);
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(a_daemon_is_swept)
{
    if (fork_leader() == 0) {
        if (fork() == 0) {
            (void)setsid();
            if (fork() == 0) {
                (void)signal(SIGTERM, SIG_IGN);
                in_place();
                pause_for_ever();
            }
            _exit(0);
        }
        in_place();
        pause_for_ever();
    }
    await_members(2);
    family.children.by_pids = by_pids;
    nr_stop_kill(&family);
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(a_deep_tree_of_sessions_is_swept)
{
    if (fork_leader() == 0) {
        for (int depth = 0; depth < 50; depth++) {
            pid_t pid = fork();
            if (pid != 0) {
                in_place();
                pause_for_ever();
            }
            (void)setsid();
        }
        in_place();
        pause_for_ever();
    }
    await_members(51);
    family.children.by_pids = by_pids;
    nr_stop_kill(&family);
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(a_group_within_the_family_is_killed_with_its_leader)
{
    if (fork_leader() == 0) {
        if (fork() == 0) {
            (void)setpgid(0, 0);
            for (int i = 0; i < 5; i++)
                if (fork() == 0) {
                    in_place();
                    pause_for_ever();
                }
            pause_for_ever();
        }
        pause_for_ever();
    }
    await_members(5);
    family.children.by_pids = by_pids;
    nr_stop_kill(&family);
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

/* As another user, with a group that has this leader, unless it is 0. */
static _Noreturn void pause_as(uid_t user, pid_t group)
{
    (void)setpgid(0, group);
    (void)setresuid(user, user, user);
    in_place();
    pause_for_ever();
}

/* A child of somebody whom we may not kill never comes to us; its group's leader does. */
START_TEST(a_member_dies_though_its_parent_cannot_be_killed)
{
    enum { US = 65534, OTHER = 65533 };
    if (geteuid() != 0)
        skip("needs root, to be several users");
    int untouchable[2];
    ck_assert_sys(pipe(untouchable));
    if (fork_leader() == 0) {
        pid_t leading = fork();
        if (leading == 0)
            pause_as(US, 0);
        (void)setpgid(leading, leading);
        pid_t parent = fork();
        if (parent == 0) {
            if (fork() == 0)
                pause_as(US, leading);
            alive[1] = nr_fd_close(alive[1]);
            pause_as(OTHER, 0);
        }
        (void)!write(untouchable[1], &parent, sizeof(parent));
        pause_as(US, 0);
    }
    pid_t parent;
    ck_assert_int_eq(read(untouchable[0], &parent, sizeof(parent)), (ssize_t)sizeof(parent));
    await_members(4);
    family.children.by_pids = by_pids;
    ck_assert_sys(setresuid(US, US, 0));
    nr_stop_kill(&family);
    uint64_t took = sweep_all(200); /* the parent lives on */
    ck_assert_uint_gt(took, 200);
    ck_assert_msg(tree_is_dead(2000), "the member lives");
    ck_assert_sys(setresuid(0, 0, 0));
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(endless_fork_chains_are_swept)
{
    /* The way by pids is the fallback's fallback: it must win too, though not as fast. */
    int chains = by_pids ? 16 : 64;
    uint64_t fuse = nr_clock_ms() + 20000; /* a sweep that fails must not cost the machine */
    if (fork_leader() == 0) {
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN);
        for (int i = 0; i < chains; i++) {
            if (fork() == 0) {
                in_place();
                /* At full speed they fill the table of pids before a busy machine lets us reap. */
                const struct timespec pause = {.tv_nsec = 5000000};
                while (nr_clock_ms() < fuse) {
                    (void)nanosleep(&pause, NULL);
                    pid_t pid = fork();
                    if (pid > 0)
                        _exit(0);
                    if (pid == 0)
                        (void)setsid();
                }
                _exit(0);
            }
        }
        pause_for_ever();
    }
    await_members(chains);
    family.children.by_pids = by_pids;
    nr_stop_kill(&family);
    uint64_t took = sweep_all(by_pids ? 20000 : CHAINS_MS);
    printf("%d chains swept %s in %llu ms\n", chains, by_pids ? "by pids" : "by the list",
           (unsigned long long)took);
    ck_assert_uint_le(took, by_pids ? 20000 : CHAINS_MS);
    expect_nobody_left();
}
END_TEST

START_TEST(survivors_are_named)
{
    uint32_t pids[2] = {0};
    if (fork_leader() == 0)
        pause_for_ever();
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            pause_for_ever();
    pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    siginfo_t end;
    ck_assert_sys(waitid(P_PID, (id_t)dead, &end, WEXITED | WNOWAIT));
    family.children.by_pids = by_pids;
    ck_assert_uint_eq(nr_family_survivors(&family, pids, 2), 3);
    ck_assert_uint_gt(pids[0], 1);
    ck_assert_uint_gt(pids[1], 1);
    ck_assert_uint_ne(pids[0], (uint32_t)dead);

    /* The leader is none of them once it has ended, and is still there to be reaped. */
    nr_stop_kill(&family);
    await_leader_end();
    ck_assert_uint_eq(nr_family_survivors(&family, pids, 2), 2);
    ck_assert_int_eq(kill(family.leader.pid, 0), 0);
    ck_assert_uint_le(sweep_all(2000), 2000);
    expect_nobody_left();
}
END_TEST

START_TEST(without_the_leader_each_child_is_asked)
{
    struct nr_exited end;
    if (fork_leader() == 0) {
        for (int i = 0; i < 2; i++)
            if (fork() == 0) {
                if (i == 1)
                    (void)setsid();
                in_place();
                pause_for_ever();
            }
        _exit(0);
    }
    await_members(2);
    await_leader_end();
    ck_assert_int_eq(nr_family_reap_leader(&family, &end), 0);
    family.leader_ended = true;
    family.children.by_pids = by_pids;
    nr_stop_ask(&family, SIGTERM);
    for (int i = 0; i < 2; i++) {
        int status;
        ck_assert_int_gt(waitpid(-1, &status, __WALL), 0);
        ck_assert_int_eq(WTERMSIG(status), SIGTERM);
    }
    expect_nobody_left();
}
END_TEST

static void add_tree_tests(TCase *tcase)
{
    tcase_add_test(tcase, others_are_seen_behind_the_leaders_zombie);
    tcase_add_test(tcase, zombies_behind_the_leaders_are_reaped);
    tcase_add_test(tcase, one_turn_of_reaping_has_an_end);
    tcase_add_test(tcase, a_daemon_is_swept);
    tcase_add_test(tcase, a_deep_tree_of_sessions_is_swept);
    tcase_add_test(tcase, a_group_within_the_family_is_killed_with_its_leader);
    tcase_add_test(tcase, a_member_dies_though_its_parent_cannot_be_killed);
    tcase_add_test(tcase, endless_fork_chains_are_swept);
    tcase_add_test(tcase, survivors_are_named);
    tcase_add_test(tcase, without_the_leader_each_child_is_asked);
    tcase_add_test(tcase, children_are_listed_both_ways);
    tcase_add_test(tcase, a_list_longer_than_the_buffer_is_read_whole);
}
#endif

int main(void)
{
    Suite *suite = suite_create("reap and stop");
    TCase *tcase = tcase_create("the leader");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, open_pipes, NULL);
    tcase_add_test(tcase, a_living_leader_is_not_taken_for_ended);
    tcase_add_test(tcase, the_leaders_end_is_told_exactly);
    tcase_add_test(tcase, reaping_nobody_is_an_error_and_blocks_nowhere);
    tcase_add_test(tcase, the_polite_stop_continues_who_is_stopped);
    tcase_add_test(tcase, a_leader_without_a_group_yet_is_still_reached);
    suite_add_tcase(suite, tcase);
#ifndef NR_PORTABLE
    tcase = tcase_create("the family, by the children file");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, open_pipes, NULL);
    add_tree_tests(tcase);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("the family, by asking wait about every pid");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, open_pipes, NULL);
    tcase_add_checked_fixture(tcase, use_pids, NULL);
    add_tree_tests(tcase);
    suite_add_tcase(suite, tcase);
#endif
    return run_suite(suite);
}
