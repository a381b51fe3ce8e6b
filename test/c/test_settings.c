/*
 * What the child makes of itself (settings.c, and its order in exec.c). This test is the guardian; it
 * becomes whoever the BEAM may be, so each test needs the process of its own that Check gives it.
 */
#include "check_support.h"

#include "exec.h"
#include "fd.h"
#include "order.h"
#include "sys.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Nobody's: a container's user namespace may end at 65,535. */
#define UID 61061U
#define GID 61062U

/* As on the wire, where nothing is aligned. */
static unsigned char payload[sizeof(struct nr_spawn) + NR_SETTINGS_MAX * sizeof(struct nr_setting)];
static struct nr_order order;
static int out[2];

static void prepare(void)
{
    order = NR_ORDER_NONE;
    order.frame.payload = payload;
    ck_assert_int_eq(nr_fd_pipe(out), 0);
    order.stdio[1] = out[1];
}

static void ask_limit(enum nr_setting_what what, uint32_t which, uint64_t value, uint64_t hard)
{
    const struct nr_setting setting = {.what = what, .which = which, .value = value, .hard = hard};
    memcpy(payload + sizeof(struct nr_spawn) + order.spawn.settings++ * sizeof(setting), &setting,
           sizeof(setting));
}

static void ask(enum nr_setting_what what, int64_t value)
{
    ask_limit(what, 0, (uint64_t)value, 0);
}

static void ask_to_be(unsigned uid, unsigned gid)
{
    ask(NR_SETTING_USER, uid);
    ask(NR_SETTING_GROUP, gid);
}

#define SHOWS "/bin/cat", "/proc/self/status"
#define STAYS "/bin/sleep", "100"

/* Starts it and waits for the exec pipe. 0: it runs; else `failed`. */
static int start(const char *exe, const char *argument, const char *cd, pid_t *pid,
                 struct nr_failed *failed)
{
    char *argv[] = {(char *)(uintptr_t)exe, (char *)(uintptr_t)argument, NULL};
    char *envp[] = {NULL};
    struct nr_program program = {.exe = exe, .cd = cd, .argv = argv, .envp = envp};
    struct nr_pidref child;
    enum nr_stage stage;
    int pipe;
    int r;

    ck_assert_int_eq(nr_exec(&order, &program, &child, &pipe, &stage), 0);
    while ((r = nr_exec_result(pipe, failed)) == NR_EXEC_WAIT) {
        struct pollfd wait = {.fd = pipe, .events = POLLIN};
        ck_assert_int_eq(poll(&wait, 1, 10000), 1);
    }
    (void)close(pipe);
    *pid = child.pid;
    nr_pidref_close(&child);
    return r;
}

static void expect_failure_in(const char *cd, enum nr_stage stage, unsigned detail, int error)
{
    struct nr_failed failed = {0};
    pid_t pid;
    ck_assert_int_eq(start(SHOWS, cd, &pid, &failed), NR_EXEC_FAILED);
    ck_assert_msg(failed.stage == (uint32_t)stage && failed.error == (uint32_t)error &&
                      failed.detail == detail,
                  "stage %u, detail %u, %s; wanted %u, %u, errno %d", failed.stage, failed.detail,
                  strerror((int)failed.error), (unsigned)stage, detail, error);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void expect_failure(enum nr_stage stage, unsigned detail, int error)
{
    expect_failure_in("", stage, detail, error);
}

/* The command's own /proc/self/status. */
static const char *status_of_command(void)
{
    static char text[16384];
    struct nr_failed failed = {0};
    size_t length = 0;
    ssize_t got;
    pid_t pid;
    int r = start(SHOWS, "", &pid, &failed);
    ck_assert_msg(r == 0, "stage %u: %s", failed.stage, strerror((int)failed.error));
    out[1] = nr_fd_close(out[1]);
    while ((got = read(out[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    return text;
}

static void expect_line(const char *status, const char *wanted)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "\n%s\n", wanted);
    ck_assert_msg(strstr(status, line) != NULL, "no line %s in:\n%.1500s", wanted, status);
}

/* As a BEAM of a normal user is, with these groups. */
static void become_normal(unsigned count, const gid_t groups[])
{
    ck_assert_sys(setgroups(count, groups));
    ck_assert_sys(setresgid(GID, GID, GID));
    ck_assert_sys(setresuid(UID, UID, UID));
}

static bool is_root(void)
{
    return geteuid() == 0;
}

/* ---- limits --------------------------------------------------------------------------------- */

START_TEST(the_umask_is_the_commands)
{
    ask(NR_SETTING_UMASK, 0127);
    expect_line(status_of_command(), "Umask:\t0127");
}
END_TEST

START_TEST(niceness_is_absolute)
{
    struct nr_failed failed;
    pid_t pid;
    ck_assert_sys(setpriority(PRIO_PROCESS, 0, 3));
    ask(NR_SETTING_NICE, 7);
    ck_assert_int_eq(start(STAYS, "", &pid, &failed), 0);
    ck_assert_int_eq(getpriority(PRIO_PROCESS, (id_t)pid), 7);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}
END_TEST

/* Not even root may have more descriptors than fs.nr_open says. */
START_TEST(a_limit_that_cannot_be_had_is_named)
{
    ask_limit(NR_SETTING_RLIMIT, RLIMIT_CORE, 0, 0);
    ask_limit(NR_SETTING_RLIMIT, RLIMIT_NOFILE, UINT64_MAX, UINT64_MAX);
    expect_failure(NR_STAGE_RLIMIT, RLIMIT_NOFILE, EPERM);
}
END_TEST

START_TEST(what_needs_a_privilege_fails_without)
{
    if (!is_root())
        skip("only root can become somebody else");
    become_normal(0, NULL);
    ask(NR_SETTING_NICE, -1);
    expect_failure(NR_STAGE_NICE, 0, EACCES);
    order.spawn.settings = 0;
    ask(NR_SETTING_OOM_SCORE_ADJ, -1000);
#ifdef NR_PORTABLE
    expect_failure(NR_STAGE_OOM_SCORE_ADJ, 0, ENOSYS);
#else
    expect_failure(NR_STAGE_OOM_SCORE_ADJ, 0, EACCES);
#endif
}
END_TEST

/* What the child needs it has before the limit, and it opens nothing after. */
START_TEST(a_limit_of_few_descriptors_does_not_hinder_the_start)
{
    struct nr_failed failed = {0};
    pid_t pid;
    order.cwd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    ask_limit(NR_SETTING_RLIMIT, RLIMIT_NOFILE, (uint64_t)_i, (uint64_t)_i);
    int r = start(SHOWS, "/usr", &pid, &failed);
    ck_assert_msg(r == 0, "stage %u: %s", failed.stage, strerror((int)failed.error));
    (void)waitpid(pid, NULL, 0);
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(each_limit_is_exact)
{
    struct nr_failed failed = {0};
    pid_t pid;
    struct rlimit before[NR_RLIMITS];
    for (unsigned i = 0; i < NR_RLIMITS; i++) {
        ck_assert_sys(prlimit(0, (unsigned char)i, NULL, &before[i]));
        /* The stack and the address space must be enough for a program; the rest is any number. */
        rlim_t soft =
            i == RLIMIT_AS || i == RLIMIT_DATA || i == RLIMIT_STACK ? 512U << 20 : 100 + i;
        if (i == RLIMIT_NICE || i == RLIMIT_RTPRIO)
            soft = before[i].rlim_cur;
        ck_assert_msg(soft <= before[i].rlim_max, "limit %u is %llu here", i,
                      (unsigned long long)before[i].rlim_max);
        ask_limit(NR_SETTING_RLIMIT, i, soft, before[i].rlim_max);
    }
    int r = start(STAYS, "", &pid, &failed);
    ck_assert_msg(r == 0, "stage %u %u: %s", failed.stage, failed.detail,
                  strerror((int)failed.error));
    for (unsigned i = 0; i < NR_RLIMITS; i++) {
        struct rlimit limit;
        ck_assert_sys(prlimit(pid, (unsigned char)i, NULL, &limit));
        struct nr_setting asked = nr_codec_setting(&order.frame, i);
        ck_assert_uint_eq(limit.rlim_cur, asked.value);
        ck_assert_uint_eq(limit.rlim_max, asked.hard);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}
END_TEST

/* In place of what its guardian was given to be the last that is taken. */
START_TEST(oom_score_adj_is_what_the_order_says)
{
    struct nr_failed failed = {0};
    char path[64], text[16] = "";
    pid_t pid;
    order.oom_score_adj = 500;
    ask(NR_SETTING_OOM_SCORE_ADJ, 700);
    ck_assert_int_eq(start(STAYS, "", &pid, &failed), 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(file, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "700\n");
    (void)close(file);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}
END_TEST

/* ---- identity ------------------------------------------------------------------------------- */

static void expect_no_capabilities(const char *status)
{
    expect_line(status, "CapInh:\t0000000000000000");
    expect_line(status, "CapPrm:\t0000000000000000");
    expect_line(status, "CapEff:\t0000000000000000");
    expect_line(status, "CapAmb:\t0000000000000000");
}

static void expect_all_ids(const char *status, unsigned uid, unsigned gid)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "Uid:\t%u\t%u\t%u\t%u", uid, uid, uid, uid);
    expect_line(status, line);
    (void)snprintf(line, sizeof(line), "Gid:\t%u\t%u\t%u\t%u", gid, gid, gid, gid);
    expect_line(status, line);
}

START_TEST(the_command_is_somebody_else_altogether)
{
    const gid_t ours[] = {4, 5};
    if (!is_root())
        skip("only root can become somebody else");
    ck_assert_sys(setgroups(2, ours));
    ask_to_be(UID, GID);
    ask(NR_SETTING_MEMBER, 7);
    ask(NR_SETTING_MEMBER, 60001);
    const char *status = status_of_command();
    expect_all_ids(status, UID, GID);
    expect_line(status, "Groups:\t7 60001 ");
    expect_no_capabilities(status);
}
END_TEST

START_TEST(no_group_of_ours_is_left)
{
    const gid_t ours[] = {4, 5};
    if (!is_root())
        skip("only root can become somebody else");
    ck_assert_sys(setgroups(2, ours));
    ask_to_be(UID, GID);
    expect_line(status_of_command(), "Groups:\t ");
}
END_TEST

START_TEST(as_many_groups_as_there_can_be)
{
    if (!is_root())
        skip("only root can become somebody else");
    ask_to_be(UID, GID);
    while (order.spawn.settings < NR_SETTINGS_MAX)
        ask(NR_SETTING_MEMBER, 1000 + order.spawn.settings);
    const char *status = status_of_command();
    expect_all_ids(status, UID, GID);
    const char *groups = strstr(status, "Groups:\t");
    unsigned count = 0;
    for (const char *at = groups; *at != '\n'; at++)
        count += *at == ' ';
    ck_assert_uint_eq(count, NR_SETTINGS_MAX - 2);
}
END_TEST

/* Whoever came with more than can be asked for. */
START_TEST(more_groups_than_there_can_be_are_left_behind)
{
    gid_t ours[NR_SETTINGS_MAX + 100];
    if (!is_root())
        skip("only root can become somebody else");
    for (unsigned i = 0; i < NR_SETTINGS_MAX + 100; i++)
        ours[i] = 1000 + i;
    ck_assert_sys(setgroups(NR_SETTINGS_MAX + 100, ours));
    ask_to_be(UID, GID);
    ask(NR_SETTING_MEMBER, 1000);
    expect_line(status_of_command(), "Groups:\t1000 ");
}
END_TEST

START_TEST(groups_without_a_user_leave_the_user_and_what_it_may)
{
    if (!is_root())
        skip("only root has anything to keep");
    ask(NR_SETTING_GROUP, GID);
    ask(NR_SETTING_MEMBER, 7);
    const char *status = status_of_command();
    expect_line(status, "Uid:\t0\t0\t0\t0");
    expect_line(status, "Groups:\t7 ");
    ck_assert_ptr_null(strstr(status, "CapEff:\t0000000000000000"));
}
END_TEST

START_TEST(who_one_is_already_needs_no_privilege)
{
    const gid_t ours[] = {GID, 7};
    if (!is_root())
        skip("only root can become somebody else");
    become_normal(2, ours);
    ask_to_be(UID, GID);
    ask(NR_SETTING_MEMBER, 7);
    ask(NR_SETTING_MEMBER, GID);
    const char *status = status_of_command();
    expect_all_ids(status, UID, GID);
    expect_line(status, "Groups:\t7 61062 ");
}
END_TEST

START_TEST(nobody_else_is_to_be_had_without)
{
    const gid_t ours[] = {GID, 7};
    if (!is_root())
        skip("only root can become somebody else");
    become_normal(2, ours);
    ask_to_be(_i == 0 ? UID + 5 : UID, _i == 1 ? GID + 5 : GID);
    if (_i != 2) /* fewer groups are others */
        ask(NR_SETTING_MEMBER, 7);
    ask(NR_SETTING_MEMBER, _i == 3 ? GID + 5 : GID);
    if (_i == 4)
        ask(NR_SETTING_MEMBER, GID + 5);
    expect_failure(NR_STAGE_USER, 0, EPERM);
}
END_TEST

static void set_capabilities(uint32_t effective, uint32_t permitted, uint32_t inheritable)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct words[2] = {
        {.effective = effective, .permitted = permitted, .inheritable = inheritable}};
    ck_assert_sys(syscall(SYS_capset, &header, words));
}

#define IDS_AND_KILL (1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_KILL)

/* As a service with AmbientCapabilities=. */
static void become_capable(uint32_t ambient)
{
    ck_assert_sys(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    become_normal(0, NULL);
    set_capabilities(ambient, ambient, ambient);
    for (unsigned i = 0; i < 32; i++)
        if (ambient & 1U << i)
            ck_assert_sys(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0));
}

/* The kernel leaves them alone when somebody without root's id becomes somebody else. */
START_TEST(no_capability_outlives_the_change_of_user)
{
    if (!is_root())
        skip("only root has any");
    become_capable(IDS_AND_KILL);
    if (_i == 0)
        ask_to_be(UID + 5, GID + 5);
    else
        ask_to_be(UID, GID);
    const char *status = status_of_command();
    expect_all_ids(status, _i == 0 ? UID + 5 : UID, _i == 0 ? GID + 5 : GID);
    expect_no_capabilities(status);
}
END_TEST

START_TEST(nor_do_roots_whatever_the_securebits)
{
    if (!is_root())
        skip("only root has any");
    ck_assert_sys(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
    set_capabilities(IDS_AND_KILL, IDS_AND_KILL, IDS_AND_KILL);
    ck_assert_sys(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0));
    ask_to_be(UID, GID);
    expect_no_capabilities(status_of_command());
}
END_TEST

START_TEST(who_could_not_be_signalled_does_not_start)
{
    if (!is_root())
        skip("only root can become somebody else");
    become_capable(1U << CAP_SETUID | 1U << CAP_SETGID);
    ask_to_be(UID + 5, GID + 5);
    expect_failure(NR_STAGE_USER, 0, EPERM);
}
END_TEST

/* From now on the call says 0 and does nothing; `second`: only if that is its second argument. */
static void let_lie(unsigned number, bool only, uint32_t second)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | (only ? BPF_JEQ : BPF_JGE) | BPF_K, second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    ck_assert_sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    ck_assert_sys(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static const struct {
    const char *name;
    unsigned call;
    bool only;
} lies[] = {
    {"setgroups", SYS_setgroups, false},    {"setresgid", SYS_setresgid, false},
    {"setresuid", SYS_setresuid, false},    {"capset", SYS_capset, false},
    {"becoming root", SYS_setresuid, true},
};

START_TEST(a_call_that_lies_is_not_believed)
{
    const gid_t ours[] = {4};
    if (!is_root())
        skip("only root can become somebody else");
    ck_assert_sys(setgroups(1, ours));
    ask_to_be(UID, GID);
    /* What the change of user leaves to somebody who was root. */
    set_capabilities(IDS_AND_KILL, IDS_AND_KILL, 1U << CAP_KILL);
    let_lie(lies[_i].call, lies[_i].only, 0);
    printf("%s\n", lies[_i].name);
    expect_failure(NR_STAGE_USER, 0, EPERM);
}
END_TEST

/* The kernel clears PDEATHSIG when ids change, of the group alone, too. */
START_TEST(who_became_somebody_else_dies_with_its_guardian)
{
    struct nr_failed failed = {0};
    pid_t pid = 0;
    int ends[2];
    int status;
    if (!is_root())
        skip("only root can become somebody else");
    if (_i == 0)
        ask(NR_SETTING_USER, UID);
    ask(NR_SETTING_GROUP, GID);
    ck_assert_int_eq(nr_sys_subreaper(), 0);
    ck_assert_int_eq(nr_fd_pipe(ends), 0);
    pid_t guardian = fork();
    ck_assert_sys(guardian);
    if (guardian == 0) {
        if (start(STAYS, "", &pid, &failed) != 0 ||
            write(ends[1], &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
            _exit(1);
        (void)raise(SIGKILL);
    }
    ck_assert_int_eq(read(ends[0], &pid, sizeof(pid)), (ssize_t)sizeof(pid));
    ck_assert_int_eq(waitpid(guardian, &status, 0), guardian);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%x", (unsigned)status);
}
END_TEST

START_TEST(it_goes_only_where_its_user_may)
{
    char folder[TEMPORARY_MAX];
    if (!is_root())
        skip("only root may go anywhere");
    make_folder(folder);
    ask_to_be(UID, GID);
    expect_failure_in(folder, NR_STAGE_CD, 0, EACCES);
    order.cwd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_sys(order.cwd);
    expect_failure(NR_STAGE_CD, 0, EACCES);
    expect_failure_in("relative", NR_STAGE_CD, 0, EACCES);
    ck_assert_sys(chown(folder, UID, GID));
    expect_all_ids(status_of_command(), UID, GID);
}
END_TEST

START_TEST(no_new_privs_is_for_good)
{
    ask(NR_SETTING_NO_NEW_PRIVS, 0);
    expect_line(status_of_command(), "NoNewPrivs:\t1");
}
END_TEST
#else
START_TEST(what_cannot_be_had_here_fails)
{
    if (!is_root())
        skip("only root can become somebody else");
    ask_to_be(UID, GID);
    expect_failure(NR_STAGE_USER, 0, ENOSYS);
    order.spawn.settings = 0;
    ask(NR_SETTING_NO_NEW_PRIVS, 0);
    expect_failure(NR_STAGE_NO_NEW_PRIVS, 0, ENOSYS);
    order.spawn.settings = 0;
    ask(NR_SETTING_OOM_SCORE_ADJ, 500);
    expect_failure(NR_STAGE_OOM_SCORE_ADJ, 0, ENOSYS);
    order.spawn.settings = 0;
    ask_limit(NR_SETTING_RLIMIT, 6, 100, 100); /* nproc */
    expect_failure(NR_STAGE_RLIMIT, 6, ENOSYS);
}
END_TEST

START_TEST(groups_can_be_had_here_too)
{
    if (!is_root())
        skip("only root can change them");
    ask(NR_SETTING_GROUP, GID);
    ask(NR_SETTING_MEMBER, 7);
    const char *status = status_of_command();
    expect_line(status, "Uid:\t0\t0\t0\t0");
    expect_line(status, "Groups:\t7 ");
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *tcase = tcase_create("settings");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, prepare, NULL);
    tcase_add_test(tcase, the_umask_is_the_commands);
    tcase_add_test(tcase, niceness_is_absolute);
    tcase_add_test(tcase, a_limit_that_cannot_be_had_is_named);
    tcase_add_test(tcase, what_needs_a_privilege_fails_without);
    tcase_add_loop_test(tcase, a_limit_of_few_descriptors_does_not_hinder_the_start, 0, 11);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, each_limit_is_exact);
    tcase_add_test(tcase, oom_score_adj_is_what_the_order_says);
    tcase_add_test(tcase, the_command_is_somebody_else_altogether);
    tcase_add_test(tcase, no_group_of_ours_is_left);
    tcase_add_test(tcase, as_many_groups_as_there_can_be);
    tcase_add_test(tcase, more_groups_than_there_can_be_are_left_behind);
    tcase_add_test(tcase, groups_without_a_user_leave_the_user_and_what_it_may);
    tcase_add_test(tcase, who_one_is_already_needs_no_privilege);
    tcase_add_loop_test(tcase, nobody_else_is_to_be_had_without, 0, 5);
    tcase_add_loop_test(tcase, no_capability_outlives_the_change_of_user, 0, 2);
    tcase_add_test(tcase, nor_do_roots_whatever_the_securebits);
    tcase_add_test(tcase, who_could_not_be_signalled_does_not_start);
    tcase_add_loop_test(tcase, a_call_that_lies_is_not_believed, 0, 5);
    tcase_add_loop_test(tcase, who_became_somebody_else_dies_with_its_guardian, 0, 2);
    tcase_add_test(tcase, it_goes_only_where_its_user_may);
    tcase_add_test(tcase, no_new_privs_is_for_good);
#else
    tcase_add_test(tcase, what_cannot_be_had_here_fails);
    tcase_add_test(tcase, groups_can_be_had_here_too);
#endif
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
