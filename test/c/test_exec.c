/*
 * Making the command (exec.c, stdfds.c, order.c): where a start fails and with which errno, what the
 * child inherits and what not. This test is the guardian.
 */
#include "check_support.h"

#include "channel.h"
#include "exec.h"
#include "fd.h"
#include "order.h"
#include "stdfds.h"
#include "sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXTURE(name) NR_TEST_FIXTURES "/fixture_" name

static struct nr_order order;
static int out[2];
static char folder[TEMPORARY_MAX];
static const char *files[3]; /* of the next start's stdin, stdout, stderr */

static void prepare(void)
{
    make_folder(folder);
    order = NR_ORDER_NONE;
    memset(files, 0, sizeof(files));
    ck_assert_int_eq(nr_fd_pipe(out), 0);
    order.stdio[1] = out[1];
}

static const char *in_folder(const char *name)
{
    static char path[BELOW_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void make_file(const char *name, const char *content, mode_t mode)
{
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    ck_assert_sys(fchmod(fd, mode));
    (void)close(fd);
}

/* Starts exe and waits for the exec pipe. 0: it runs; else `failed`. */
static int start(const char *exe, const char *cd, char **argv, char **envp, pid_t *pid,
                 struct nr_failed *failed)
{
    struct nr_pidref child;
    struct nr_program program = {
        .exe = exe, .cd = cd, .files = {files[0], files[1], files[2]}, .argv = argv, .envp = envp};
    enum nr_stage stage;
    int pipe;

    ck_assert_int_eq(nr_exec(&order, &program, &child, &pipe, &stage), 0);
    ck_assert_int_gt(child.pid, 1);
    ck_assert(fcntl(pipe, F_GETFL) & O_NONBLOCK); /* an exec may hang */
    int r;
    while ((r = nr_exec_result(pipe, failed)) == NR_EXEC_WAIT) {
        struct pollfd wait = {.fd = pipe, .events = POLLIN};
        ck_assert_int_eq(poll(&wait, 1, 5000), 1);
    }
    (void)close(pipe);
    *pid = child.pid;
    nr_pidref_close(&child);
    return r;
}

static void expect_failure(const char *exe, const char *cd, enum nr_stage stage, int error)
{
    struct nr_failed failed = {0};
    pid_t pid;
    int status;
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};

    ck_assert_int_eq(start(exe, cd, argv, envp, &pid, &failed), NR_EXEC_FAILED);
    ck_assert_msg(failed.stage == (uint32_t)stage && failed.error == (uint32_t)error,
                  "%s: stage %u, %s; wanted %u, errno %d", exe, failed.stage,
                  strerror((int)failed.error), (unsigned)stage, error);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 127);
}

static char *output(void)
{
    static char text[65536];
    size_t length = 0;
    ssize_t got;
    out[1] = nr_fd_close(out[1]);
    while ((got = read(out[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    return text;
}

static const char *run(const char *exe, const char *cd, char **argv, char **envp)
{
    struct nr_failed failed = {0};
    pid_t pid;
    int status;
    int r = start(exe, cd, argv, envp, &pid, &failed);
    ck_assert_msg(r == 0, "%s: stage %u: %s", exe, failed.stage, strerror((int)failed.error));
    const char *text = output();
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    return text;
}

static const char *line(const char *text, const char *name)
{
    static char found[512];
    size_t length = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0';
         at = strchr(at, '\n') != NULL ? strchr(at, '\n') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && at[length] == ' ') {
            size_t size = strcspn(at + length + 1, "\n");
            (void)snprintf(found, sizeof(found), "%.*s", (int)size, at + length + 1);
            return found;
        }
    }
    ck_abort_msg("no line %s in:\n%s", name, text);
    return NULL;
}

START_TEST(each_exec_error_arrives_as_itself)
{
    make_file("plain", "#!/bin/sh\n", 0644);
    make_file("no_format", "neither ELF nor script", 0755);
    make_file("no_interpreter", "#!/nonexistent/interpreter\n", 0755);
    make_file("busy", "#!/bin/sh\n", 0755);
    ck_assert_sys(symlink("loop", in_folder("loop")));

    expect_failure("/nonexistent/program", "", NR_STAGE_EXEC, ENOENT);
    expect_failure(in_folder("plain"), "", NR_STAGE_EXEC, EACCES);
    expect_failure(folder, "", NR_STAGE_EXEC, EACCES);
    expect_failure(in_folder("no_format"), "", NR_STAGE_EXEC, ENOEXEC);
    expect_failure(in_folder("no_interpreter"), "", NR_STAGE_EXEC, ENOENT);
    expect_failure(in_folder("plain/below"), "", NR_STAGE_EXEC, ENOTDIR);
    expect_failure(in_folder("loop"), "", NR_STAGE_EXEC, ELOOP);

    int writer = open(in_folder("busy"), O_WRONLY | O_CLOEXEC);
    ck_assert_sys(writer);
    expect_failure(in_folder("busy"), "", NR_STAGE_EXEC, ETXTBSY);
    (void)close(writer);
}
END_TEST

START_TEST(an_argument_list_too_long_is_e2big)
{
    struct nr_failed failed = {0};
    pid_t pid;
    char *argv[128];
    char *envp[] = {NULL};
    char *big = malloc(128 * 1024);
    ck_assert_ptr_nonnull(big);
    memset(big, 'a', 128 * 1024);
    big[128 * 1024 - 1] = '\0'; /* 131,071 bytes: the longest string that passes */
    for (int i = 0; i < 127; i++)
        argv[i] = big;
    argv[127] = NULL;
    ck_assert_int_eq(start("/bin/true", "", argv, envp, &pid, &failed), NR_EXEC_FAILED);
    ck_assert_uint_eq(failed.stage, NR_STAGE_EXEC);
    ck_assert_uint_eq(failed.error, E2BIG);
    (void)waitpid(pid, NULL, 0);
    argv[1] = NULL;
    ck_assert_int_eq(start("/bin/true", "", argv, envp, &pid, &failed), 0);
    (void)waitpid(pid, NULL, 0);
    free(big);
}
END_TEST

START_TEST(a_directory_that_cannot_be_entered_is_the_cd_stage)
{
    make_file("file", "", 0644);
    expect_failure("/bin/true", "/nonexistent", NR_STAGE_CD, ENOENT);
    expect_failure("/bin/true", in_folder("file"), NR_STAGE_CD, ENOTDIR);

    order.cwd = open(in_folder("file"), O_PATH | O_CLOEXEC);
    expect_failure("/bin/true", "", NR_STAGE_CD, ENOTDIR);
    (void)close(order.cwd);
}
END_TEST

START_TEST(cd_is_relative_to_the_given_directory)
{
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    ck_assert_sys(mkdir(in_folder("below"), 0755));
    order.cwd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_sys(order.cwd);
    const char *text = run(FIXTURE("show_state"), "below", argv, envp);
    ck_assert_str_eq(line(text, "cwd"), in_folder("below"));
    (void)close(order.cwd);
}
END_TEST

START_TEST(the_given_directory_alone_is_entered)
{
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    order.cwd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_str_eq(line(run(FIXTURE("show_state"), "", argv, envp), "cwd"), folder);
    (void)close(order.cwd);
}
END_TEST

/* Its number may be one that the child has a use for itself. */
START_TEST(the_given_directory_is_entered_whatever_its_descriptor)
{
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    int status;
    pid_t guardian = fork();
    ck_assert_sys(guardian);
    if (guardian == 0) { /* where descriptors may be closed that Check has a use for */
        struct nr_pidref child;
        struct nr_program program = {
            .exe = FIXTURE("show_state"), .cd = "", .argv = argv, .envp = envp};
        enum nr_stage stage;
        int pipe;
        int given = fcntl(open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), F_DUPFD_CLOEXEC, 30);
        order.stdio[1] = fcntl(out[1], F_DUPFD_CLOEXEC, 20);
        for (int fd = 3; fd < 9; fd++)
            (void)close(fd);
        order.cwd = dup2(given, 3 + _i);
        if (order.cwd < 0 || nr_exec(&order, &program, &child, &pipe, &stage) < 0 ||
            waitpid(child.pid, &status, 0) != child.pid)
            _exit(1);
        _exit(WEXITSTATUS(status));
    }
    const char *text = output();
    ck_assert_int_eq(waitpid(guardian, &status, 0), guardian);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(line(text, "cwd"), folder);
    ck_assert_str_eq(line(text, "fds"), "0 1 2");
}
END_TEST

START_TEST(the_child_starts_clean)
{
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    /* Everything a careless parent leaves behind: ignored and blocked signals, open descriptors. */
    for (int signal_number = 1; signal_number <= 64; signal_number++)
        if (signal_number != SIGCHLD)
            (void)signal(signal_number, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    ck_assert_sys(sigprocmask(SIG_BLOCK, &all, NULL));
    for (int i = 0; i < 20; i++)
        (void)!dup(0);
    ck_assert_int_eq(dup2(0, 200), 200);

    const char *text = run(FIXTURE("show_state"), "", argv, envp);
    ck_assert_str_eq(line(text, "SigIgn"), "0000000000000000");
    ck_assert_str_eq(line(text, "SigBlk"), "0000000000000000");
    ck_assert_str_eq(line(text, "SigCgt"), "0000000000000000");
    ck_assert_str_eq(line(text, "fds"), "0 1 2");
    int pid = atoi(line(text, "pid"));
    ck_assert_int_eq(atoi(line(text, "sid")), pid);
    ck_assert_int_eq(atoi(line(text, "pgid")), pid);
    ck_assert_int_eq(atoi(line(text, "ppid")), getpid());
}
END_TEST

START_TEST(arguments_and_environment_are_exact)
{
    char *argv[] = {(char *)(uintptr_t) "name", (char *)(uintptr_t) "",
                    (char *)(uintptr_t) "two words\nand a line", NULL};
    char *envp[] = {(char *)(uintptr_t) "A=1", (char *)(uintptr_t) "EMPTY=", NULL};
    ck_assert_str_eq(run(FIXTURE("show_exec"), "", argv, envp),
                     "argc 3\n4:name\n0:\n20:two words\nand a line\nenvc 2\n3:A=1\n6:EMPTY=\n");
}
END_TEST

START_TEST(no_environment_is_none)
{
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    ck_assert_str_eq(run(FIXTURE("show_exec"), "", argv, envp), "argc 1\n1:x\nenvc 0\n");
}
END_TEST

START_TEST(missing_descriptors_are_dev_null)
{
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t) "readlink /proc/self/fd/0; readlink /proc/$$/fd/2; cat",
                    NULL};
    char *envp[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};
    ck_assert_str_eq(run("/bin/sh", "", argv, envp), "/dev/null\n/dev/null\n");
}
END_TEST

static void expect_content(const char *name, const char *content)
{
    char text[256] = "";
    int fd = open(in_folder(name), O_RDONLY | O_CLOEXEC);
    ck_assert_sys(fd);
    ssize_t got = read(fd, text, sizeof(text) - 1);
    ck_assert_sys(got);
    ck_assert_str_eq(text, content);
    (void)close(fd);
}

/* As /bin/sh with this script, from `folder`, with the files given. */
static void run_there(const char *script)
{
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script,
                    NULL};
    char *envp[] = {NULL};
    order.cwd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_sys(order.cwd);
    (void)run("/bin/sh", "/", argv, envp);
    order.cwd = nr_fd_close(order.cwd);
}

/* From where the caller is, not from where the command goes to. */
START_TEST(files_are_opened_by_the_child)
{
    struct stat made;
    make_file("in", "from a file\n", 0600);
    make_file("longer", "what was there before\n", 0600);
    files[0] = "in";
    files[1] = "out";
    files[2] = "longer";
    order.stdio[1] = -EBADF;
    order.spawn.stdout_mode = 0640;
    mode_t mask = umask(022);
    run_there("cat; echo error >&2");
    (void)umask(mask);
    expect_content("out", "from a file\n");
    expect_content("longer", "error\n");
    ck_assert_sys(stat(in_folder("out"), &made));
    ck_assert_uint_eq(made.st_mode & 07777, 0640);

    order.spawn.flags = NR_SPAWN_STDOUT_APPEND;
    run_there("cat");
    expect_content("out", "from a file\nfrom a file\n");
}
END_TEST

START_TEST(merged_stderr_is_stdout_also_where_that_is_a_file)
{
    files[1] = "out";
    order.stdio[1] = -EBADF;
    order.spawn.stdout_mode = 0600;
    order.spawn.flags = NR_SPAWN_MERGE;
    run_there("echo 1; echo 2 >&2; echo 3");
    expect_content("out", "1\n2\n3\n");
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_has_a_stage_of_its_own)
{
    static const int errors[3] = {ENOENT, EISDIR, ENOTDIR};
    make_file("file", "", 0600);
    for (int i = 0; i < 3; i++) {
        char path[BELOW_MAX];
        (void)snprintf(path, sizeof(path), "%s%s", folder,
                       i == 0   ? "/missing"
                       : i == 1 ? ""
                                : "/file/below");
        memset(files, 0, sizeof(files));
        files[i] = path;
        order.stdio[1] = i == 1 ? -EBADF : out[1];
        expect_failure("/bin/true", "", NR_STAGE_STDIN_FILE + (unsigned)i, errors[i]);
    }
}
END_TEST

/* The child leads a session without a terminal: opening one must not make it the controlling one. */
START_TEST(a_terminal_as_a_file_is_not_the_controlling_one)
{
    int master = open_master(&files[0]);
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t) "test -t 0 && (: </dev/tty) 2>&- || echo none", NULL};
    char *envp[] = {NULL};
    ck_assert_str_eq(run("/bin/sh", "", argv, envp), "none\n");
    (void)close(master);
}
END_TEST

/* proc(5): the fields 5, 6 and 8 of stat are the process's group, its session and its terminal's group in the
 * foreground. */
#define CONTROLS                                                                                   \
    "read -r x </proc/$$/stat; set -- $x; test $5 = $$ && test $6 = $$ && test $8 = $$ && "        \
    ": </dev/tty && "

START_TEST(a_given_terminal_is_the_controlling_one_and_whatever_was_not_given)
{
    int master;
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t)CONTROLS "test -t 0 && ! test -t 1 && test -t 2 && echo so",
                    NULL};
    char *envp[] = {NULL};
    open_terminal(&master, &order.pty);
    ck_assert_str_eq(run("/bin/sh", "", argv, envp), "so\n");
    (void)close(order.pty);
    (void)close(master);
}
END_TEST

START_TEST(a_terminal_gives_way_to_files_and_to_a_merged_stderr)
{
    int master;
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t)CONTROLS
                    "! test -t 0 && ! test -t 1 && ! test -t 2 && echo so >&2",
                    NULL};
    char *envp[] = {NULL};
    open_terminal(&master, &order.pty);
    files[0] = "/dev/null";
    order.spawn.flags = NR_SPAWN_STDIN_FILE | NR_SPAWN_STDOUT | NR_SPAWN_MERGE | NR_SPAWN_PTY;
    ck_assert_str_eq(run("/bin/sh", "", argv, envp), "so\n");
    (void)close(order.pty);
    (void)close(master);
}
END_TEST

START_TEST(a_terminal_that_cannot_be_taken_is_the_pty_stage)
{
    order.pty = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_sys(order.pty);
    expect_failure("/bin/true", "", NR_STAGE_PTY, ENOTTY);
    (void)close(order.pty);
}
END_TEST

START_TEST(merged_stderr_is_stdout)
{
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t) "echo out; echo err >&2; echo again", NULL};
    char *envp[] = {NULL};
    order.spawn.flags = NR_SPAWN_STDOUT | NR_SPAWN_MERGE;
    ck_assert_str_eq(run("/bin/sh", "", argv, envp), "out\nerr\nagain\n");
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(a_child_that_is_not_ready_dies_with_its_guardian)
{
    char path[BELOW_MAX];
    int status;
    ck_assert_int_eq(nr_sys_subreaper(), 0);
    (void)snprintf(path, sizeof(path), "%s", in_folder("fifo"));
    ck_assert_sys(mkfifo(path, 0600));
    files[0] = path; /* nobody ever opens its other end */
    pid_t guardian = fork();
    ck_assert_sys(guardian);
    if (guardian == 0) {
        struct nr_pidref child;
        struct nr_program program = {.exe = "/bin/true", .cd = "", .files = {path}};
        enum nr_stage stage;
        char stat[64], text[256];
        int pipe;
        if (nr_exec(&order, &program, &child, &pipe, &stage) < 0)
            _exit(1);
        (void)snprintf(stat, sizeof(stat), "/proc/%d/stat", child.pid);
        for (;;) { /* until it sleeps, waiting for the FIFO: nothing tells of it */
            int fd = open(stat, O_RDONLY | O_CLOEXEC);
            ssize_t got = read(fd, text, sizeof(text) - 1);
            (void)close(fd);
            text[got > 0 ? got : 0] = '\0';
            if (strstr(text, ") S ") != NULL)
                break;
            (void)poll(NULL, 0, 1);
        }
        (void)raise(SIGKILL);
    }
    ck_assert_int_eq(waitpid(guardian, &status, 0), guardian);
    pid_t child = waitpid(-1, &status, 0);
    ck_assert_int_gt(child, 0);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%x", (unsigned)status);
}
END_TEST

/* Waits for any child's end, but not for ever; SIGCHLD must be blocked. */
static pid_t await_any(int *status)
{
    const struct timespec limit = {.tv_sec = 10};
    sigset_t child;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    for (;;) {
        pid_t pid = waitpid(-1, status, WNOHANG);
        if (pid != 0)
            return pid;
        ck_assert_msg(sigtimedwait(&child, NULL, &limit) == SIGCHLD, "a child runs on");
    }
}

START_TEST(a_guardian_that_dies_while_it_forks_leaves_no_command)
{
    /* PDEATHSIG is set in the child, after its parent may already be dead: each child must end by
     * the signal or by seeing a new parent, never run. */
    sigset_t child_signal;
    (void)sigemptyset(&child_signal);
    (void)sigaddset(&child_signal, SIGCHLD);
    ck_assert_sys(sigprocmask(SIG_BLOCK, &child_signal, NULL));
    char *argv[] = {(char *)(uintptr_t) "x", NULL};
    char *envp[] = {NULL};
    ck_assert_int_eq(nr_sys_subreaper(), 0);
    for (int i = 0; i < 300; i++) {
        pid_t guardian = fork();
        ck_assert_sys(guardian);
        if (guardian == 0) {
            struct nr_pidref child;
            struct nr_program program = {
                .exe = FIXTURE("ignore_term"), .cd = "", .argv = argv, .envp = envp};
            enum nr_stage stage;
            int pipe;
            _exit(nr_exec(&order, &program, &child, &pipe, &stage) < 0 ? 1 : 0);
        }
        for (int k = 0; k < 2; k++) {
            int status;
            pid_t pid = await_any(&status);
            ck_assert_int_gt(pid, 0);
            if (pid == guardian)
                ck_assert_int_eq(status, 0);
            else
                ck_assert_msg((WIFEXITED(status) && WEXITSTATUS(status) == 127) ||
                                  (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
                              "status %x", (unsigned)status);
        }
    }
}
END_TEST
#endif

/* Each permutation of where the given descriptors lie, targets and exec pipe's place included. */
START_TEST(descriptors_are_placed_wherever_they_come_from)
{
    for (int seed = 0; seed < 4 * 4 * 4; seed++) {
        int at[3] = {seed % 4, seed / 4 % 4, seed / 16};
        if (at[0] == at[1] || at[1] == at[2] || at[0] == at[2])
            continue;
        pid_t pid = fork();
        ck_assert_sys(pid);
        if (pid == 0) {
            int given[3];
            struct stat before[3];
            struct stat after;
            for (int i = 0; i < 3; i++) {
                int ends[2];
                if (nr_fd_pipe(ends) < 0 || fstat(ends[0], &before[i]) < 0)
                    _exit(1);
                given[i] = fcntl(ends[0], F_DUPFD, 100);
            }
            for (int i = 0; i < 3; i++)
                if (dup2(given[i], at[i]) < 0)
                    _exit(2);
            for (int fd = 0; fd < 4; fd++) /* what is free must not be taken for staging */
                if (fd != at[0] && fd != at[1] && fd != at[2])
                    (void)close(fd);
            const struct nr_stdfd from[3] = {{.fd = at[0]}, {.fd = at[1]}, {.fd = at[2]}};
            int file;
            if (nr_stdfds_place(from, false, AT_FDCWD, &file) < 0)
                _exit(3);
            for (int i = 0; i < 3; i++)
                if (fstat(i, &after) < 0 || after.st_ino != before[i].st_ino ||
                    fcntl(i, F_GETFD) != 0)
                    _exit(4 + i);
            _exit(0);
        }
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(status == 0, "from %d %d %d: %d", at[0], at[1], at[2], WEXITSTATUS(status));
    }
}
END_TEST

START_TEST(out_of_descriptors_fails_in_the_parent)
{
    struct nr_pidref child;
    struct nr_program program = {.exe = "/bin/true", .cd = ""};
    enum nr_stage stage;
    int pipe;
    struct rlimit before;
    ck_assert_sys(getrlimit(RLIMIT_NOFILE, &before));
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    ck_assert_sys(setrlimit(RLIMIT_NOFILE, &none));
    int r = nr_exec(&order, &program, &child, &pipe, &stage);
    ck_assert_sys(setrlimit(RLIMIT_NOFILE, &before));
    ck_assert_int_eq(r, -EMFILE);
    ck_assert_int_eq(stage, NR_STAGE_SETUP);
    ck_assert_int_eq(child.pid, 0);
    ck_assert_int_eq(pipe, -EBADF);
}
END_TEST

#ifndef NR_PORTABLE
static int strings_file(const char *bytes, size_t length, int seals)
{
    int fd = memfd_create("strings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, bytes, length), (ssize_t)length);
    ck_assert_sys(fcntl(fd, F_ADD_SEALS, seals));
    return fd;
}

START_TEST(strings_are_believed_only_from_a_sealed_memfd_of_the_right_size)
{
    int fd = strings_file("/x\0\0x", 6, F_SEAL_SHRINK | F_SEAL_WRITE);
    ck_assert_int_eq(nr_sys_strings_check(fd, 6), 0);
    ck_assert_int_eq(nr_sys_strings_check(fd, 5), -EBADMSG);
    ck_assert_int_eq(nr_sys_strings_check(fd, 7), -EBADMSG);
    (void)close(fd);
    fd = strings_file("/x\0\0x", 6, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE);
    ck_assert_int_eq(nr_sys_strings_check(fd, 6), 0);
    (void)close(fd);
    fd = strings_file("/x\0\0x", 6, F_SEAL_SHRINK);
    ck_assert_int_eq(nr_sys_strings_check(fd, 6), -EBADMSG);
    (void)close(fd);
    fd = strings_file("/x\0\0x", 6, F_SEAL_WRITE);
    ck_assert_int_eq(nr_sys_strings_check(fd, 6), -EBADMSG);
    (void)close(fd);

    make_file("file", "123456", 0644);
    fd = open(in_folder("file"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(nr_sys_strings_check(fd, 6), -EBADMSG);
    (void)close(fd);
    ck_assert_int_eq(nr_sys_strings_check(out[0], 6), -EBADMSG);
    ck_assert_int_eq(nr_sys_strings_check(-EBADF, 6), -EBADF);
}
END_TEST

START_TEST(a_program_is_built_from_the_memfd)
{
    static const char strings[] = "/x\0cd\0a0\0a1\0E=1";
    struct nr_program program;
    order.spawn.argc = 2;
    order.spawn.envc = 1;
    order.spawn.strings_length = sizeof(strings);
    order.strings_fd = strings_file(strings, sizeof(strings), F_SEAL_SHRINK | F_SEAL_WRITE);
    ck_assert_int_eq(nr_order_program(&order, &program), 0);
    ck_assert_str_eq(program.exe, "/x");
    ck_assert_str_eq(program.cd, "cd");
    ck_assert_str_eq(program.argv[0], "a0");
    ck_assert_str_eq(program.argv[1], "a1");
    ck_assert_ptr_null(program.argv[2]);
    ck_assert_str_eq(program.envp[0], "E=1");
    ck_assert_ptr_null(program.envp[1]);
    ck_assert_int_eq(order.strings_fd, -EBADF);
    free(program.argv); /* the one vector; a guardian keeps it for life */

    order = NR_ORDER_NONE;
    order.spawn.argc = 3; /* one string too few */
    order.spawn.envc = 1;
    order.spawn.strings_length = sizeof(strings);
    order.strings_fd = strings_file(strings, sizeof(strings), F_SEAL_SHRINK | F_SEAL_WRITE);
    ck_assert_int_eq(nr_order_program(&order, &program), -EBADMSG);
    nr_order_close(&order);
    nr_order_close(&order);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("exec");
    TCase *tcase = tcase_create("exec");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, prepare, NULL);
    tcase_add_test(tcase, each_exec_error_arrives_as_itself);
    tcase_add_test(tcase, an_argument_list_too_long_is_e2big);
    tcase_add_test(tcase, a_directory_that_cannot_be_entered_is_the_cd_stage);
    tcase_add_test(tcase, cd_is_relative_to_the_given_directory);
    tcase_add_test(tcase, the_given_directory_alone_is_entered);
    tcase_add_loop_test(tcase, the_given_directory_is_entered_whatever_its_descriptor, 0, 4);
    tcase_add_test(tcase, the_child_starts_clean);
    tcase_add_test(tcase, arguments_and_environment_are_exact);
    tcase_add_test(tcase, no_environment_is_none);
    tcase_add_test(tcase, missing_descriptors_are_dev_null);
    tcase_add_test(tcase, merged_stderr_is_stdout);
    tcase_add_test(tcase, files_are_opened_by_the_child);
    tcase_add_test(tcase, merged_stderr_is_stdout_also_where_that_is_a_file);
    tcase_add_test(tcase, a_file_that_cannot_be_opened_has_a_stage_of_its_own);
    tcase_add_test(tcase, a_terminal_as_a_file_is_not_the_controlling_one);
    tcase_add_test(tcase, a_given_terminal_is_the_controlling_one_and_whatever_was_not_given);
    tcase_add_test(tcase, a_terminal_gives_way_to_files_and_to_a_merged_stderr);
    tcase_add_test(tcase, a_terminal_that_cannot_be_taken_is_the_pty_stage);
    tcase_add_test(tcase, descriptors_are_placed_wherever_they_come_from);
    tcase_add_test(tcase, out_of_descriptors_fails_in_the_parent);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, a_child_that_is_not_ready_dies_with_its_guardian);
    tcase_add_test(tcase, a_guardian_that_dies_while_it_forks_leaves_no_command);
    tcase_add_test(tcase, strings_are_believed_only_from_a_sealed_memfd_of_the_right_size);
    tcase_add_test(tcase, a_program_is_built_from_the_memfd);
#endif
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
