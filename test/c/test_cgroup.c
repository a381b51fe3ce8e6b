/*
 * The leaf (cgroup.c, usage.c, and the child's way into it) and what zygote and guardian do with it. Each
 * test works below a parent of its own in the machine's cgroup2; no controller is needed. Where there is
 * none that we may write to, the program says so and skips.
 */
#include "shepherd_support.h"

#include "cgroup.h"
#include "fd.h"
#include "sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDER(...) ((struct order){.kill_timeout_ms = 300, .drain_timeout_ms = 1000, __VA_ARGS__})

#ifdef NR_PORTABLE
START_TEST(there_are_none_and_nothing_runs)
{
    struct shepherd shepherd = shepherd_start(NULL);
    struct order order =
        ORDER(.argv = ARGV("/bin/true"), .cgroup = "/sys/fs/cgroup", .leaf = "nr_test");
    struct nr_failed failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_CGROUP);
    ck_assert_uint_eq(failed.detail, NR_CGROUP_PARENT);
    ck_assert_uint_eq(failed.error, ENOSYS);
    expect_alive(&shepherd);
    shepherd_end(&shepherd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cgroup");
    TCase *tcase = tcase_create("portable");
    tcase_add_test(tcase, there_are_none_and_nothing_runs);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
#else

#include "refuse.h"
#include "usage.h"

static const char *root;   /* of all tests */
static const char *parent; /* of this test */
static struct nr_cgroup cgroup;
static struct nr_cgroup_claim *claim;
static struct shepherd shepherd;
static int alive[2]; /* the write end is inherited by whoever is to die */

/* ---- the ground ----------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", parent, name);
    return path;
}

static bool is_there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static void make_parent(void)
{
    parent = cgroup_make_parent();
    cgroup = NR_CGROUP_NONE;
    claim = NULL;
    ck_assert_int_eq(nr_fd_pipe(alive), 0);
    become_subreaper();
}

static void remove_parent(void)
{
    nr_cgroup_close(&cgroup);
    nr_cgroup_claim_free(claim);
    cgroup_remove_parent();
    expect_no_children();
}

static void start_shepherd(void)
{
    make_parent();
    shepherd = shepherd_start(NULL);
}

static void end_shepherd(void)
{
    shepherd_end(&shepherd);
    remove_parent();
}

static int make_at(const char *where, const char *const *files, unsigned count, uint32_t *detail)
{
    nr_cgroup_claim_free(claim);
    ck_assert_int_eq(nr_cgroup_claim_new(&claim, where, "leaf"), 0);
    return nr_cgroup_make(&cgroup, claim, files, count, detail);
}

static void make(void)
{
    uint32_t detail;
    ck_assert_int_eq(make_at(parent, NULL, 0, &detail), 0);
}

static _Noreturn void pause_for_ever_here(void)
{
    for (;;)
        (void)pause();
}

static void move_into(const char *name, pid_t pid)
{
    char text[16];
    char file[1100];
    (void)snprintf(file, sizeof(file), "%s/cgroup.procs", path_of(name));
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    ck_assert_sys(fd);
    int length = snprintf(text, sizeof(text), "%d", pid);
    ck_assert_int_eq(write(fd, text, (size_t)length), length);
    (void)close(fd);
}

/* A process of ours in this cgroup: `depth` more below it, each in a session of its own. */
static pid_t member(const char *name, int depth)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(nr_fd_pipe(ready), 0);
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0) {
        char step;
        (void)read(ready[0], &step, 1);
        for (; depth > 0 && fork() == 0; depth--)
            (void)setsid();
        (void)close(alive[0]);
        pause_for_ever_here();
    }
    move_into(name, pid);
    (void)close(ready[0]);
    byte = 'x';
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(write(ready[1], &byte, 1), 1);
    (void)close(ready[1]);
    return pid;
}

static bool holds(int fd)
{
    struct pollfd look = {.fd = fd};
    return poll(&look, 1, 0) == 0;
}

static void reap_all(void)
{
    while (waitpid(-1, NULL, __WALL) > 0)
        ;
}

/* In which cgroup2 a process lives, below the mount. */
static const char *home_of(pid_t pid)
{
    static char line[1024];
    char file[64];
    (void)snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
    FILE *lines = fopen(file, "re");
    ck_assert_msg(lines != NULL, "%s: %s", file, strerror(errno));
    while (fgets(line, sizeof(line), lines) != NULL && strncmp(line, "0::", 3) != 0)
        ;
    (void)fclose(lines);
    line[strcspn(line, "\n")] = '\0';
    return line + 3;
}

static bool lives_in(pid_t pid, const char *name)
{
    char wanted[1100];
    (void)snprintf(wanted, sizeof(wanted), "%s/%s", strrchr(parent, '/'), name);
    const char *home = home_of(pid);
    size_t length = strlen(home);
    size_t tail = strlen(wanted);
    return length >= tail && strcmp(home + length - tail, wanted) == 0;
}

/* ---- making --------------------------------------------------------------------------------- */

START_TEST(a_leaf_is_made_and_removed)
{
    make();
    ck_assert(nr_cgroup_is_made(&cgroup));
    ck_assert(is_there("leaf"));
    ck_assert(!nr_cgroup_populated(&cgroup));
    const int fds[] = {cgroup.parent, cgroup.leaf, cgroup.events};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    ck_assert(!is_there("leaf"));
    ck_assert(!nr_cgroup_is_made(&cgroup));
    ck_assert(nr_cgroup_claim_settle(claim));
}
END_TEST

START_TEST(a_leaf_that_is_there_already_is_not_taken_over)
{
    uint32_t detail;
    ck_assert_sys(mkdir(path_of("leaf"), 0755));
    pid_t stranger = member("leaf", 0);
    ck_assert_int_eq(make_at(parent, NULL, 0, &detail), -EEXIST);
    ck_assert_uint_eq(detail, NR_CGROUP_LEAF);
    ck_assert(!nr_cgroup_is_made(&cgroup));
    /* Neither by the zygote, should the guardian be killed now. */
    ck_assert(nr_cgroup_claim_settle(claim));
    ck_assert(is_there("leaf"));
    ck_assert(lives_in(stranger, "leaf"));
    ck_assert_sys(kill(stranger, SIGKILL));
    reap_all();
    ck_assert_sys(rmdir(path_of("leaf")));
}
END_TEST

static void expect_refused(const char *where, int error)
{
    uint32_t detail = 0;
    int r = make_at(where, NULL, 0, &detail);
    ck_assert_msg(r == -error, "%s: %s instead of %s", where, strerror(-r), strerror(error));
    ck_assert_uint_eq(detail, NR_CGROUP_PARENT);
    ck_assert(!nr_cgroup_is_made(&cgroup));
}

/* Looping: 0 by openat2(2), 1 and 2 where it is refused. */
static void refuse_openat2(int i)
{
    const unsigned number = SYS_openat2;
    if (i == 0)
        return;
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", i == 1 ? "38" : "1", 1));
    refuse(&number, 1);
}

START_TEST(only_a_directory_of_cgroup2_is_a_parent)
{
    char link[TEMPORARY_MAX];
    char path[1100];

    make_folder(link);
    refuse_openat2(_i);
    expect_refused(link, EOPNOTSUPP);
    expect_refused("/", EOPNOTSUPP);
    expect_refused("/proc", EOPNOTSUPP);
    expect_refused(path_of("nothing"), ENOENT);
    expect_refused(path_of("cgroup.procs"), ENOTDIR);
    expect_refused(path_of("cgroup.procs/below"), ENOTDIR);
    if (access("/sys/fs/cgroup/freezer", F_OK) == 0) /* version 1 */
        expect_refused("/sys/fs/cgroup/freezer", EOPNOTSUPP);

    (void)snprintf(path, sizeof(path), "%s/link", link);
    ck_assert_sys(symlink(parent, path));
    expect_refused(path, ELOOP);
    ck_assert_sys(unlink(path));
    ck_assert_sys(symlink(root, path));
    (void)snprintf(path, sizeof(path), "%s/link/%s", link, strrchr(parent, '/') + 1);
    expect_refused(path, ELOOP);
}
END_TEST

START_TEST(a_path_with_dots_or_without_a_root_is_refused)
{
    char path[1100];
    refuse_openat2(_i);
    (void)snprintf(path, sizeof(path), "%s/..", parent);
    expect_refused(path, EINVAL);
    (void)snprintf(path, sizeof(path), "%s/./", parent);
    expect_refused(path, EINVAL);
    (void)snprintf(path, sizeof(path), "%s/../%s", parent, strrchr(parent, '/') + 1);
    expect_refused(path, EINVAL);
    ck_assert_sys(chdir(root));
    expect_refused(strrchr(parent, '/') + 1, EINVAL);
}
END_TEST

START_TEST(slashes_and_names_that_begin_with_dots_are_fine)
{
    char path[1100];
    uint32_t detail;
    refuse_openat2(_i);
    ck_assert_sys(mkdir(path_of("..a"), 0755));
    (void)snprintf(path, sizeof(path), "/%s//..a/", parent);
    ck_assert_int_eq(make_at(path, NULL, 0, &detail), 0);
    ck_assert(is_there("..a/leaf"));
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    ck_assert_sys(rmdir(path_of("..a")));
}
END_TEST

START_TEST(limits_are_written_in_order_and_the_one_that_fails_is_named)
{
    char text[16] = {0};
    uint32_t detail;
    int r = make_at(parent, ARGV("cgroup.max.depth=7", "cgroup.max.descendants=max"), 2, &detail);
    ck_assert_int_eq(r, 0);
    int fd = open(path_of("leaf/cgroup.max.depth"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, text, sizeof(text) - 1), 2);
    ck_assert_str_eq(text, "7\n");
    (void)close(fd);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);

    r = make_at(parent, ARGV("cgroup.max.depth=7", "no.such=1", "cgroup.max.depth=x"), 3, &detail);
    ck_assert_int_eq(r, -ENOENT);
    ck_assert_uint_eq(detail, NR_CGROUP_FILE + 1);
    ck_assert(!is_there("leaf"));
    ck_assert(!nr_cgroup_is_made(&cgroup));
    r = make_at(parent, ARGV("cgroup.max.depth=x"), 1, &detail);
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_uint_eq(detail, NR_CGROUP_FILE);
    ck_assert(!is_there("leaf"));
}
END_TEST

START_TEST(a_user_to_whom_nothing_was_delegated_cannot_make_one)
{
    int status;
    if (getuid() != 0)
        skip("only root can become somebody else");
    pid_t user = fork();
    ck_assert_sys(user);
    if (user == 0) {
        uint32_t detail;
        if (setresgid(61065, 61065, 61065) < 0 || setresuid(61065, 61065, 61065) < 0)
            _exit(1);
        int r = make_at(parent, NULL, 0, &detail);
        _exit(r == -EACCES && detail == NR_CGROUP_LEAF ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(user, &status, 0), user);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- joining -------------------------------------------------------------------------------- */

/* 0: clone3(2); 1, 2: refused, and the child is held. */
static void refuse_clone3(int i)
{
    const unsigned number = SYS_clone3;
    if (i == 0)
        return;
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", i == 1 ? "38" : "1", 1));
    refuse(&number, 1);
}

START_TEST(a_child_is_in_its_cgroup_from_its_first_instruction_on)
{
    struct nr_pidref child;
    int status;
    make();
    refuse_clone3(_i);
    /* That often, because a child that got there later would look fine now and then. */
    for (int i = 0; i < 50; i++) {
        int r = nr_sys_fork(&child, cgroup.leaf);
        if (r == NR_SYS_CHILD) {
            char text[1024];
            int fd = open("/proc/self/cgroup", O_RDONLY);
            ssize_t got = read(fd, text, sizeof(text) - 1);
            text[got > 0 ? got : 0] = '\0';
            _exit(strstr(text, "/leaf\n") != NULL ? 0 : 1);
        }
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(waitpid(child.pid, &status, 0), child.pid);
        ck_assert_int_eq(status, 0);
        nr_pidref_close(&child);
    }
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
}
END_TEST

START_TEST(a_child_that_cannot_be_put_there_does_not_run)
{
    struct nr_pidref child;
    make();
    refuse_clone3(_i);
    int leaf = dup(cgroup.leaf);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    int r = nr_sys_fork(&child, leaf);
    if (r == NR_SYS_CHILD) {
        (void)!write(alive[1], "ran", 3);
        _exit(0);
    }
    ck_assert_int_lt(r, 0);
    ck_assert(nr_sys_fork_cgroup_refused(r));
    ck_assert_int_eq(child.pid, 0);
    ck_assert(holds(alive[0]));
    (void)close(leaf);
}
END_TEST

/* A directory that is no cgroup, whose cgroup.procs is a FIFO nobody reads: putting the child there takes for
 * ever, and its parent is killed meanwhile. */
START_TEST(a_held_child_ends_with_its_parent)
{
    char folder[TEMPORARY_MAX];
    char fifo[BELOW_MAX];
    struct nr_pidref child;

    make_folder(folder);
    (void)snprintf(fifo, sizeof(fifo), "%s/cgroup.procs", folder);
    ck_assert_sys(mkfifo(fifo, 0600));
    pid_t guardian = fork();
    ck_assert_sys(guardian);
    if (guardian == 0) {
        (void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        refuse_clone3(1);
        if (nr_sys_fork(&child, fd) == NR_SYS_CHILD)
            (void)!write(alive[1], "ran", 3);
        _exit(0);
    }
    (void)close(alive[1]);
    while (count_children(guardian) == 0)
        (void)poll(NULL, 0, 1);
    ck_assert(holds(alive[0]));
    ck_assert_sys(kill(guardian, SIGKILL));
    reap_all(); /* both: the child came to us */
    char byte;
    ck_assert_int_eq(read(alive[0], &byte, 1), 0);
}
END_TEST

static bool has_pidfds(void)
{
    int pidfd = nr_sys_watch(getpid());
    (void)nr_fd_close(pidfd);
    return pidfd >= 0;
}

/* ---- looking, killing, removing ------------------------------------------------------------- */

START_TEST(poll_says_when_the_last_has_left)
{
    make();
    struct pollfd wait = {.fd = cgroup.events, .events = POLLPRI};
    ck_assert(!nr_cgroup_populated(&cgroup));
    ck_assert_int_eq(poll(&wait, 1, 0), 0);
    pid_t pid = member("leaf", 0);
    ck_assert_int_eq(poll(&wait, 1, WAIT_MS), 1);
    ck_assert(nr_cgroup_populated(&cgroup));
    ck_assert_int_eq(poll(&wait, 1, 0), 0); /* the look silenced it */
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), -EBUSY);
    ck_assert(nr_cgroup_is_made(&cgroup));
    ck_assert_sys(kill(pid, SIGKILL));
    ck_assert_int_eq(poll(&wait, 1, WAIT_MS), 1);
    ck_assert(!nr_cgroup_populated(&cgroup)); /* a zombie lives nowhere */
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    reap_all();
}
END_TEST

START_TEST(everybody_in_it_and_below_is_killed_and_all_of_it_removed)
{
    uint32_t pids[2] = {0};
    uint64_t limit = now_ms() + WAIT_MS;

    make();
    cgroup.by_freezer = _i == 1;
    if (cgroup.by_freezer && !has_pidfds()) {
        (void)nr_cgroup_remove(&cgroup);
        skip("pidfd_open(2) is refused");
    }
    ck_assert_sys(mkdir(path_of("leaf/a"), 0755));
    ck_assert_sys(mkdir(path_of("leaf/a/b"), 0755));
    ck_assert_sys(mkdir(path_of("leaf/c"), 0755));
    (void)member("leaf", 5);
    (void)member("leaf/a/b", 5);
    pid_t outside = fork();
    if (outside == 0)
        pause_for_ever_here();
    for (int i = 0; i < 100; i++) /* more than one batch */
        if (fork() == 0) {
            move_into("leaf/c", getpid());
            (void)signal(SIGTERM, SIG_IGN);
            pause_for_ever_here();
        }
    (void)close(alive[1]);
    while (nr_cgroup_members(&cgroup, pids, 2) < 112) {
        ck_assert(now_ms() < limit);
        (void)poll(NULL, 0, 1);
    }
    ck_assert_uint_gt(pids[1], 1);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), -EBUSY);

    nr_cgroup_kill(&cgroup);
    struct pollfd wait = {.fd = cgroup.events, .events = POLLPRI};
    while (nr_cgroup_populated(&cgroup))
        ck_assert_int_gt(poll(&wait, 1, WAIT_MS), 0);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    ck_assert(!is_there("leaf"));
    ck_assert_int_eq(waitpid(outside, NULL, WNOHANG), 0); /* lives */
    ck_assert_sys(kill(outside, SIGKILL));
    reap_all();
    char byte;
    ck_assert_int_eq(read(alive[0], &byte, 1), 0);
}
END_TEST

/* A FIFO in place of cgroup.procs: who reads it first is told a pid, who reads it then is told nobody. */
START_TEST(who_is_no_member_any_more_is_not_signalled)
{
    char folder[TEMPORARY_MAX];
    char fifo[BELOW_MAX];

    if (!has_pidfds())
        skip("pidfd_open(2) is refused");
    make_folder(folder);
    (void)snprintf(fifo, sizeof(fifo), "%s/cgroup.procs", folder);
    ck_assert_sys(mkfifo(fifo, 0600));
    pid_t stranger = fork();
    ck_assert_sys(stranger);
    if (stranger == 0)
        pause_for_ever_here();
    pid_t writer = fork();
    ck_assert_sys(writer);
    if (writer == 0) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%d\n", stranger);
        for (bool first = true;; first = false) {
            int fd = open(fifo, O_WRONLY | O_CLOEXEC);
            if (first)
                (void)!write(fd, text, (size_t)length);
            (void)close(fd);
            (void)poll(NULL, 0, 5); /* who reads sees the end, and does not read on */
        }
    }
    struct nr_cgroup fake = NR_CGROUP_NONE;
    fake.by_freezer = true;
    fake.leaf = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_sys(fake.leaf);
    nr_cgroup_kill(&fake);
    nr_cgroup_close(&fake);
    ck_assert_int_eq(waitpid(stranger, NULL, WNOHANG), 0);
    ck_assert_sys(kill(writer, SIGKILL));
    ck_assert_sys(kill(stranger, SIGTERM));
    int status;
    ck_assert_int_eq(waitpid(stranger, &status, 0), stranger);
    ck_assert_int_eq(WTERMSIG(status), SIGTERM); /* and not SIGKILL, a moment ago */
    reap_all();
}
END_TEST

START_TEST(endless_fork_chains_are_killed)
{
    make();
    cgroup.by_freezer = _i == 1;
    if (cgroup.by_freezer && !has_pidfds()) {
        (void)nr_cgroup_remove(&cgroup);
        skip("pidfd_open(2) is refused");
    }
    (void)signal(SIGCHLD, SIG_IGN); /* nobody reaps what comes to us */
    for (int i = 0; i < 8; i++)
        if (fork() == 0) {
            move_into("leaf", getpid());
            uint64_t end = now_ms() + 30000;
            while (now_ms() < end) {
                (void)poll(NULL, 0, 1);
                if (fork() > 0)
                    _exit(0);
                (void)setsid();
            }
            _exit(0);
        }
    (void)close(alive[1]);
    struct pollfd wait = {.fd = cgroup.events, .events = POLLPRI};
    while (!nr_cgroup_populated(&cgroup))
        ck_assert_int_gt(poll(&wait, 1, WAIT_MS), 0);
    uint64_t limit = now_ms() + WAIT_MS;
    char byte;
    struct pollfd ended = {.fd = alive[0], .events = POLLIN};
    do { /* as the guardian does */
        ck_assert(now_ms() < limit);
        nr_cgroup_kill(&cgroup);
    } while (poll(&ended, 1, 5) == 0);
    ck_assert_int_eq(read(alive[0], &byte, 1), 0);
    while (nr_cgroup_populated(&cgroup))
        ck_assert_int_gt(poll(&wait, 1, WAIT_MS), 0);
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    (void)signal(SIGCHLD, SIG_DFL);
}
END_TEST

START_TEST(a_member_is_signalled_by_its_descriptor_or_not_at_all)
{
    if (!has_pidfds())
        skip("pidfd_open(2) is refused");
    pid_t pid = fork();
    ck_assert_sys(pid);
    if (pid == 0)
        pause_for_ever_here();
    int pidfd = nr_sys_watch(pid);
    ck_assert_sys(pidfd);
    ck_assert_int_eq(nr_pidref_signal_member(pid, -EBADF, SIGKILL), -EINVAL);
    ck_assert_int_eq(nr_pidref_signal_member(1, pidfd, SIGKILL), -EINVAL);
    ck_assert_int_eq(nr_pidref_signal_member(0, pidfd, SIGKILL), -EINVAL);
    ck_assert_int_eq(nr_pidref_signal_member(getpid(), pidfd, SIGKILL), -EINVAL);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
    ck_assert_int_eq(nr_pidref_signal_member(pid, pidfd, SIGKILL), 0);
    reap_all();
    /* Whoever has the number now: the descriptor means who had it then. */
    ck_assert_int_eq(nr_pidref_signal_member(pid, pidfd, SIGKILL), -ESRCH);
    (void)close(pidfd);
}
END_TEST

START_TEST(a_leaf_that_somebody_else_has_removed_and_made_again_is_theirs)
{
    make();
    ck_assert_sys(rmdir(path_of("leaf")));
    struct pollfd wait = {.fd = cgroup.events, .events = POLLPRI};
    ck_assert_int_eq(poll(&wait, 1, WAIT_MS), 1);
    ck_assert(!nr_cgroup_populated(&cgroup));
    ck_assert_int_eq(cgroup.events, -EBADF); /* poll(2) would say it for ever */
    ck_assert(!nr_cgroup_populated(&cgroup));
    ck_assert_sys(mkdir(path_of("leaf"), 0755));
    pid_t stranger = member("leaf", 0);
    nr_cgroup_kill(&cgroup);
    ck_assert(nr_cgroup_claim_settle(claim)); /* of a guardian killed at this moment */
    ck_assert_int_eq(nr_cgroup_remove(&cgroup), 0);
    ck_assert(lives_in(stranger, "leaf"));
    ck_assert_sys(kill(stranger, SIGKILL));
    reap_all();
    ck_assert_sys(rmdir(path_of("leaf")));
}
END_TEST

START_TEST(what_a_killed_guardian_has_made_is_removed_with_who_lives_there)
{
    uint64_t limit = now_ms() + WAIT_MS;
    uint32_t detail;
    int ready[2];
    char byte;

    ck_assert_int_eq(nr_fd_pipe(ready), 0);
    ck_assert_int_eq(nr_cgroup_claim_new(&claim, parent, "leaf"), 0);
    ck_assert(nr_cgroup_claim_settle(claim)); /* nothing made yet */
    pid_t guardian = fork();
    ck_assert_sys(guardian);
    if (guardian == 0) {
        if (nr_cgroup_make(&cgroup, claim, NULL, 0, &detail) == 0)
            (void)!write(ready[1], "r", 1);
        pause_for_ever_here();
    }
    nr_cgroup_claim_forked(claim);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_sys(kill(guardian, SIGKILL));
    ck_assert_sys(mkdir(path_of("leaf/below"), 0755));
    (void)member("leaf", 3);
    (void)member("leaf/below", 0);
    while (!nr_cgroup_claim_settle(claim)) {
        ck_assert(now_ms() < limit);
        (void)poll(NULL, 0, 2);
    }
    ck_assert(!is_there("leaf"));
    reap_all();
}
END_TEST

/* ---- what it has used ----------------------------------------------------------------------- */

static uint64_t sum(const char *text, const char *key)
{
    return nr_usage_sum(text, strlen(text), key);
}

START_TEST(figures_are_found_by_their_whole_names)
{
    ck_assert_uint_eq(sum("123\n", ""), 123);
    ck_assert_uint_eq(sum("max\n", ""), UINT64_MAX);
    ck_assert_uint_eq(sum("", ""), UINT64_MAX);
    ck_assert_uint_eq(sum("oom 1\noom_kill 2\noom_group_kill 4\n", "oom_kill "), 2);
    ck_assert_uint_eq(sum("xoom_kill 2\n", "oom_kill "), UINT64_MAX);
    ck_assert_uint_eq(sum("usage_usec 9\nuser_usec 5\n", "user_usec "), 5);
    const char *io = "8:0 rbytes=1 wbytes=20 rios=3\n8:16 rbytes=300 wbytes=4000 rios=9\n";
    ck_assert_uint_eq(sum(io, "rbytes="), 301);
    ck_assert_uint_eq(sum(io, "wbytes="), 4020);
    ck_assert_uint_eq(sum(io, "dbytes="), UINT64_MAX);
}
END_TEST

START_TEST(figures_of_a_file_longer_than_the_buffer_are_summed)
{
    char folder[TEMPORARY_MAX];
    char path[BELOW_MAX];
    struct nr_usage usage;

    make_folder(folder);
    (void)snprintf(path, sizeof(path), "%s/io.stat", folder);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 1000; i++)
        (void)fprintf(file, "8:%d rbytes=%d wbytes=3 rios=1 wios=1 dbytes=0 dios=0\n", i, i);
    (void)fclose(file);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    nr_usage_read(fd, &usage);
    (void)close(fd);
    ck_assert_uint_eq(usage.read_bytes, 499500);
    ck_assert_uint_eq(usage.written_bytes, 3000);
    ck_assert_uint_eq(usage.memory_peak, UINT64_MAX);
    ck_assert_uint_eq(usage.user_us, UINT64_MAX);
}
END_TEST

/* ---- through zygote and guardian ------------------------------------------------------------ */

static struct nr_started begin(struct command *command, const struct order *order)
{
    struct nr_started started;
    *command = spawn(&shepherd, order);
    expect_frame(command->control, NR_STARTED, command->id, &started, sizeof(started));
    command->pid = (pid_t)started.pid;
    command->guardian = (pid_t)started.guardian_pid;
    return started;
}

static struct nr_usage expect_usage(struct command *command)
{
    struct nr_usage usage;
    expect_frame(command->control, NR_USAGE, command->id, &usage, sizeof(usage));
    return usage;
}

static void await_removal(const char *name)
{
    uint64_t limit = now_ms() + WAIT_MS;
    while (is_there(name)) {
        ck_assert_msg(now_ms() < limit, "%s is not removed", name);
        (void)poll(NULL, 0, 2);
    }
}

START_TEST(a_command_lives_in_it_and_its_guardian_does_not)
{
    struct command command;
    struct order order =
        ORDER(.argv = ARGV("/bin/sh", "-c",
                           "cat /proc/self/cgroup; echo ready; i=0; while [ $i -lt 20000 ]; do "
                           "i=$((i+1)); done; read x; exit 7"),
              .env = ARGV("PATH=/usr/bin:/bin"), .flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT,
              .cgroup = parent, .leaf = "leaf", .limits = ARGV("cgroup.max.depth=3"),
              .memfd = _i == 1);
    struct nr_started started = begin(&command, &order);
    ck_assert_uint_eq(started.containment, NR_CONTAINED_CGROUP);
    bool said = false;
    for (const char *line = read_line(command.out); strcmp(line, "ready") != 0;
         line = read_line(command.out)) {
        size_t length = strlen(line);
        said = said || (strncmp(line, "0::", 3) == 0 && length > 5 &&
                        strcmp(line + length - 5, "/leaf") == 0);
    }
    ck_assert(said);
    ck_assert(lives_in(command.pid, "leaf"));
    ck_assert_str_eq(home_of(command.guardian), home_of(getpid()));
    (void)close(command.in);
    command.in = -1;
    struct nr_usage usage = expect_usage(&command);
    ck_assert_uint_ne(usage.user_us, UINT64_MAX);
    ck_assert_uint_gt(usage.user_us + usage.system_us, 0);
    struct nr_exited exited = expect_exited(&command);
    ck_assert(!is_there("leaf"));
    ck_assert_uint_eq(exited.value, 7);
    expect_hangup(command.control);
    drop(&command);
    expect_baseline(&shepherd, count_fds(shepherd.pid));
}
END_TEST

START_TEST(a_step_that_fails_is_named_and_leaves_nothing)
{
    struct nr_failed failed;
    struct order order = ORDER(.argv = ARGV("/bin/true"), .cgroup = "/proc", .leaf = "leaf");
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_CGROUP);
    ck_assert_uint_eq(failed.detail, NR_CGROUP_PARENT);
    ck_assert_uint_eq(failed.error, EOPNOTSUPP);

    order.cgroup = parent;
    order.limits = ARGV("cgroup.max.depth=1", "cgroup.max.descendants=x");
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_CGROUP);
    ck_assert_uint_eq(failed.detail, NR_CGROUP_FILE + 1);
    ck_assert_uint_eq(failed.error, EINVAL);
    await_removal("leaf");

    /* The leaf is there, exec fails. */
    order.limits = NULL;
    order.argv = ARGV("/usr/bin/there is no such program");
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_EXEC);
    ck_assert_uint_eq(failed.error, ENOENT);
    ck_assert_uint_eq(failed.detail, 0);
    await_removal("leaf");

    /* A leaf that nobody can be put into: a threaded cgroup's (cgroup-v2.rst, "threaded"). */
    int fd = open(path_of("cgroup.type"), O_WRONLY | O_CLOEXEC);
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, "threaded", 8), 8);
    (void)close(fd);
    order.argv = ARGV("/bin/true");
    failed = start_and_fail(&shepherd, &order);
    ck_assert_uint_eq(failed.stage, NR_STAGE_CGROUP);
    ck_assert_uint_eq(failed.detail, NR_CGROUP_JOIN);
    ck_assert_uint_eq(failed.error, EOPNOTSUPP);
    await_removal("leaf");
    expect_alive(&shepherd);
}
END_TEST

START_TEST(where_clone3_is_refused_it_is_joined_before_exec_too)
{
    ck_assert_sys(setenv("NR_REFUSE_ERRNO", "38", 1));
    make_parent();
    shepherd = shepherd_start(ARGV(FIXTURE("refuse_calls"), "clone3,openat2"));
    struct order order = ORDER(.argv = ARGV("/bin/cat", "/proc/self/cgroup"),
                               .flags = NR_SPAWN_STDOUT, .cgroup = parent, .leaf = "leaf");
    struct command command;
    (void)begin(&command, &order);
    ck_assert_ptr_nonnull(strstr(read_all(command.out), "/leaf\n"));
    (void)expect_usage(&command);
    expect_exit(&command, NR_EXIT_CODE, 0);
    ck_assert(!is_there("leaf"));
    end_shepherd();
}
END_TEST

START_TEST(who_was_moved_into_it_is_waited_for_and_then_killed_with_it)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"), .cgroup = parent, .leaf = "leaf",
                               .drain_timeout_ms = 200);
    struct command command;
    (void)begin(&command, &order);
    pid_t moved = member("leaf", 1);
    uint64_t begun = now_ms();
    ck_assert_uint_eq(signal_command(&command, SIGTERM, NR_SCOPE_LEADER), 0);
    (void)expect_usage(&command);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGTERM);
    ck_assert_uint_ge(now_ms() - begun, 200);
    ck_assert_uint_le(now_ms() - begun, 2200);
    ck_assert(!is_there("leaf"));
    int status;
    ck_assert_int_eq(waitpid(moved, &status, 0), moved);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    expect_baseline(&shepherd, count_fds(shepherd.pid));
    (void)waitpid(-1, NULL, WNOHANG); /* its child, that came to us */
}
END_TEST

START_TEST(a_killed_guardians_leaf_is_removed_by_the_zygote)
{
    const char *lock = lock_file();
    struct order order = ORDER(.argv = ARGV(FIXTURE("daemonize"), lock), .flags = NR_SPAWN_STDOUT,
                               .cgroup = parent, .leaf = "leaf", .memfd = _i == 1);
    struct command command;
    (void)begin(&command, &order);
    expect_ready(&command);
    ck_assert_sys(mkdir(path_of("leaf/below"), 0755));
    ck_assert_sys(kill(command.guardian, SIGKILL));
    expect_hangup(command.control);
    (void)await_unlocked(lock, 1000);
    await_removal("leaf");
    drop(&command);
    expect_alive(&shepherd);
}
END_TEST

START_TEST(an_idle_guardian_in_a_cgroup_sleeps)
{
    struct order order = ORDER(.argv = ARGV("/bin/sleep", "100"), .cgroup = parent, .leaf = "leaf");
    struct command command;
    (void)begin(&command, &order);
    uint64_t before = cpu_ms(command.guardian);
    ck_assert(
        !has_frame(command.control, 1000)); /* who turns round burns a third of that, or more */
    uint64_t burnt = cpu_ms(command.guardian) - before;
    ck_assert_msg(burnt < 100, "%llu ms of processor time", (unsigned long long)burnt);
    send_stop(&command, 1000);
    (void)expect_usage(&command);
    expect_exit(&command, NR_EXIT_SIGNAL, SIGTERM);
}
END_TEST

START_TEST(kept_orphans_keep_it_until_the_last_has_ended)
{
    const char *lock = lock_file();
    struct order order =
        ORDER(.argv = ARGV(FIXTURE("daemonize"), lock, "exit"),
              .flags = NR_SPAWN_STDOUT | NR_SPAWN_KEEP, .cgroup = parent, .leaf = "leaf");
    struct command command;
    (void)begin(&command, &order);
    struct nr_usage usage = expect_usage(&command);
    ck_assert_uint_ne(usage.user_us, UINT64_MAX);
    struct nr_exited exited = expect_exited(&command);
    ck_assert_uint_eq(exited.value, 0);
    ck_assert(is_there("leaf"));
    ck_assert(is_locked(lock));
    uint32_t pid = 0;
    FILE *file = fopen(path_of("leaf/cgroup.procs"), "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%u", &pid), 1);
    (void)fclose(file);
    ck_assert_sys(kill((pid_t)pid, SIGTERM));
    await_removal("leaf");
    expect_hangup(command.control);
    drop(&command);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cgroup");
    root = cgroup_begin();
    if (root == NULL) {
        printf("SKIP test_cgroup: no cgroup2 is mounted here that we may write to\n");
        return 77;
    }
    TCase *tcase = tcase_create("the leaf");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_parent, remove_parent);
    tcase_add_test(tcase, a_leaf_is_made_and_removed);
    tcase_add_test(tcase, a_leaf_that_is_there_already_is_not_taken_over);
    tcase_add_loop_test(tcase, only_a_directory_of_cgroup2_is_a_parent, 0, 3);
    tcase_add_loop_test(tcase, a_path_with_dots_or_without_a_root_is_refused, 0, 3);
    tcase_add_loop_test(tcase, slashes_and_names_that_begin_with_dots_are_fine, 0, 3);
    tcase_add_test(tcase, limits_are_written_in_order_and_the_one_that_fails_is_named);
    tcase_add_test(tcase, a_user_to_whom_nothing_was_delegated_cannot_make_one);
    tcase_add_loop_test(tcase, a_child_is_in_its_cgroup_from_its_first_instruction_on, 0, 3);
    tcase_add_loop_test(tcase, a_child_that_cannot_be_put_there_does_not_run, 0, 3);
    tcase_add_test(tcase, a_held_child_ends_with_its_parent);
    tcase_add_test(tcase, poll_says_when_the_last_has_left);
    tcase_add_loop_test(tcase, everybody_in_it_and_below_is_killed_and_all_of_it_removed, 0, 2);
    tcase_add_test(tcase, who_is_no_member_any_more_is_not_signalled);
    tcase_add_loop_test(tcase, endless_fork_chains_are_killed, 0, 2);
    tcase_add_test(tcase, a_member_is_signalled_by_its_descriptor_or_not_at_all);
    tcase_add_test(tcase, a_leaf_that_somebody_else_has_removed_and_made_again_is_theirs);
    tcase_add_test(tcase, what_a_killed_guardian_has_made_is_removed_with_who_lives_there);
    tcase_add_test(tcase, figures_are_found_by_their_whole_names);
    tcase_add_test(tcase, figures_of_a_file_longer_than_the_buffer_are_summed);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("commands");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, start_shepherd, end_shepherd);
    tcase_add_loop_test(tcase, a_command_lives_in_it_and_its_guardian_does_not, 0, 2);
    tcase_add_test(tcase, a_step_that_fails_is_named_and_leaves_nothing);
    tcase_add_test(tcase, who_was_moved_into_it_is_waited_for_and_then_killed_with_it);
    tcase_add_loop_test(tcase, a_killed_guardians_leaf_is_removed_by_the_zygote, 0, 2);
    tcase_add_test(tcase, an_idle_guardian_in_a_cgroup_sleeps);
    tcase_add_test(tcase, kept_orphans_keep_it_until_the_last_has_ended);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("refused");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, where_clone3_is_refused_it_is_joined_before_exec_too);
    suite_add_tcase(suite, tcase);
    int r = run_suite(suite);
    cgroup_end();
    return r;
}
#endif
