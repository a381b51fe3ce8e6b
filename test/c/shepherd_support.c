/* See shepherd_support.h. */
#include "shepherd_support.h"

#include "clock.h"
#include "codec.h"
#include "fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t last_id = 100;

uint64_t now_ms(void)
{
    return nr_clock_ms();
}

/* ---- the zygote ----------------------------------------------------------------------------- */

const char *shepherd_path = NR_TEST_SHEPHERD;

struct shepherd shepherd_launch(const char *const *wrapper)
{
    struct shepherd shepherd = {0};
    int ends[2];
    char beam[16];
    const char *argv[16];
    unsigned argc = 0;

    (void)snprintf(beam, sizeof(beam), "%d", getpid());
    while (wrapper != NULL && wrapper[argc] != NULL) {
        argv[argc] = wrapper[argc];
        argc++;
    }
    argv[argc++] = shepherd_path;
    argv[argc++] = beam;
    argv[argc] = NULL;

    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    shepherd.pid = fork();
    ck_assert_sys(shepherd.pid);
    if (shepherd.pid == 0) {
        (void)setsid();
        /* A careless starter: what the zygote and its children must not keep. */
        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGPIPE, SIG_IGN);
        if (dup2(ends[1], 3) < 0 || dup2(2, CARELESS_FD) < 0)
            _exit(99);
        if (ends[1] == 3)
            (void)nr_fd_cloexec(3, false);
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(98);
    }
    (void)close(ends[1]);
    shepherd.socket = ends[0];
    return shepherd;
}

struct shepherd shepherd_start(const char *const *wrapper)
{
    struct shepherd shepherd = shepherd_launch(wrapper);
    uint64_t id;
    ck_assert_int_eq(next_frame(shepherd.socket, &id, &shepherd.hello, sizeof(shepherd.hello)),
                     NR_HELLO);
    ck_assert_uint_eq(id, 0);
    ck_assert_uint_eq(shepherd.hello.pid, (uint32_t)shepherd.pid);
    return shepherd;
}

struct shepherd shepherd_begin(const char *const *wrapper)
{
    become_subreaper();
    return shepherd_start(wrapper);
}

void shepherd_finish(struct shepherd *shepherd)
{
    shepherd_end(shepherd);
    expect_no_children();
}

int shepherd_await_end(struct shepherd *shepherd)
{
    int status;
    uint64_t limit = now_ms() + WAIT_MS;
    pid_t pid;
    while ((pid = waitpid(shepherd->pid, &status, WNOHANG)) == 0 && now_ms() < limit)
        (void)poll(NULL, 0, 1);
    ck_assert_msg(pid == shepherd->pid, "the zygote does not end");
    return status;
}

void shepherd_end(struct shepherd *shepherd)
{
    shepherd->socket = nr_fd_close(shepherd->socket);
    ck_assert_int_eq(shepherd_await_end(shepherd), 0);
}

unsigned count_fds(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    ck_assert_msg(directory != NULL, "%s: %s", path, strerror(errno));
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (entry->d_name[0] != '.')
            count++;
    (void)closedir(directory);
    return count;
}

unsigned count_children(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    int child;
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    while (fscanf(file, "%d", &child) == 1)
        count++;
    (void)fclose(file);
    return count;
}

/* ---- orders --------------------------------------------------------------------------------- */

static size_t append(unsigned char *strings, size_t at, size_t room, const char *string)
{
    size_t length = strlen(string) + 1;
    ck_assert_uint_le(at + length, room);
    memcpy(strings + at, string, length);
    return at + length;
}

static size_t spawn_strings(const struct order *order, struct nr_spawn *spawn,
                            unsigned char *strings, size_t room)
{
    size_t at = append(strings, 0, room, order->exe != NULL ? order->exe : order->argv[0]);
    at = append(strings, at, room, order->cd != NULL ? order->cd : "");
    for (int i = 0; i < 3; i++)
        if (order->files[i] != NULL)
            at = append(strings, at, room, order->files[i]);
    if (order->cgroup != NULL) {
        at = append(strings, at, room, order->cgroup);
        at = append(strings, at, room, order->leaf);
    }
    for (; order->limits != NULL && order->limits[spawn->cgroup_files] != NULL;
         spawn->cgroup_files++)
        at = append(strings, at, room, order->limits[spawn->cgroup_files]);
    for (spawn->argc = 0; order->argv[spawn->argc] != NULL; spawn->argc++)
        at = append(strings, at, room, order->argv[spawn->argc]);
    for (spawn->envc = 0; order->env != NULL && order->env[spawn->envc] != NULL; spawn->envc++)
        at = append(strings, at, room, order->env[spawn->envc]);
    spawn->strings_length = (uint32_t)at;
    return at;
}

static struct nr_spawn spawn_header(const struct order *order)
{
    return (struct nr_spawn){
        .flags = order->flags | (order->cwd > 0 ? NR_SPAWN_CWD : 0) |
                 (order->pty > 0 ? NR_SPAWN_PTY : 0) | (order->memfd ? NR_SPAWN_STRINGS : 0) |
                 (order->cgroup != NULL ? NR_SPAWN_CGROUP : 0),
        .stop_signal = order->stop_signal != 0 ? order->stop_signal : SIGTERM,
        .kill_timeout_ms = order->kill_timeout_ms,
        .drain_timeout_ms = order->drain_timeout_ms,
        .stdout_mode = order->flags & NR_SPAWN_STDOUT_FILE ? 0640 : 0,
        .stderr_mode = order->flags & NR_SPAWN_STDERR_FILE ? 0600 : 0,
        .settings = order->settings_count,
    };
}

size_t spawn_frame(const struct order *order, uint64_t id, unsigned char *out, size_t room)
{
    static unsigned char payload[NR_WIRE_FRAME_MAX];
    struct nr_spawn spawn = spawn_header(order);
    size_t length = sizeof(spawn) + order->settings_count * sizeof(struct nr_setting);
    if (order->settings_count > 0)
        memcpy(payload + sizeof(spawn), order->settings, length - sizeof(spawn));
    length += spawn_strings(order, &spawn, payload + length, sizeof(payload) - length);
    memcpy(payload, &spawn, sizeof(spawn));
    length = nr_codec_write(out, room, NR_SPAWN, id, payload, length);
    ck_assert_uint_gt(length, 0);
    return length;
}

void send_message(int socket, const void *bytes, size_t length, const int *fds, unsigned count)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(sizeof(int) * FDS_MOST)];
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        memset(&control, 0, sizeof(control));
        header.msg_control = control.bytes;
        header.msg_controllen = (socklen_t)CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = (socklen_t)CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    }
    ck_assert_int_eq(sendmsg(socket, &header, MSG_NOSIGNAL), (ssize_t)length);
}

static int sealed_strings(const unsigned char *strings, size_t length)
{
#ifdef NR_PORTABLE
    char path[TEMPORARY_MAX];
    int fd = make_file_open(path);
    ck_assert_int_eq(write(fd, strings, length), (ssize_t)length);
#else
    int fd = memfd_create("strings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_sys(fd);
    ck_assert_int_eq(write(fd, strings, length), (ssize_t)length);
    ck_assert_sys(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
#endif
    return fd;
}

/* A pipe whose end number `theirs` travels. */
static int make_pipe(int *fds, unsigned *count, int theirs)
{
    int ends[2];
    ck_assert_int_eq(nr_fd_pipe(ends), 0);
    fds[(*count)++] = ends[theirs];
    return ends[1 - theirs];
}

/* Sends the order over `socket`; `control`: the end of the control socket that travels, -1 where the guardian has it. */
static struct command send_order(int socket, int control, const struct order *order)
{
    static unsigned char bytes[NR_WIRE_FRAME_MAX];
    struct command command = {.id = ++last_id, .control = -1, .in = -1, .out = -1, .err = -1};
    int fds[NR_SPAWN_FDS_MAX];
    unsigned count = 0;
    int ours = -1; /* the one we keep */
    size_t length;

    if (control >= 0)
        fds[count++] = control;
    if (order->flags & NR_SPAWN_STDIN)
        command.in = make_pipe(fds, &count, 0);
    if (order->flags & NR_SPAWN_STDOUT)
        command.out = make_pipe(fds, &count, 1);
    if (order->flags & NR_SPAWN_STDERR)
        command.err = make_pipe(fds, &count, 1);
    if (order->cwd > 0) {
        ours = order->cwd;
        fds[count++] = order->cwd;
    }
    if (order->pty > 0) {
        fds[count] = fcntl(order->pty, F_DUPFD_CLOEXEC, 3);
        ck_assert_sys(fds[count]);
        count++;
    }
    if (order->memfd) {
        struct nr_spawn header = spawn_header(order);
        size_t room = 4U * 1024 * 1024;
        unsigned char *strings = malloc(room);
        ck_assert_ptr_nonnull(strings);
        size_t size = spawn_strings(order, &header, strings, room);
        fds[count++] = sealed_strings(strings, size);
        free(strings);
        length =
            nr_codec_write(bytes, sizeof(bytes), NR_SPAWN, command.id, &header, sizeof(header));
    } else {
        length = spawn_frame(order, command.id, bytes, sizeof(bytes));
    }
    send_message(socket, bytes, length, fds, count);
    for (unsigned i = 0; i < count; i++)
        if (fds[i] != ours)
            (void)close(fds[i]);
    return command;
}

struct command spawn(struct shepherd *shepherd, const struct order *order)
{
    int control[2];
    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control));
    struct command command = send_order(shepherd->socket, control[1], order);
    command.control = control[0];
    return command;
}

struct command spawn_again(struct command *rested, const struct order *order)
{
    struct command command = send_order(rested->control, -1, order);
    command.control = rested->control;
    rested->control = -1;
    drop(rested);
    return command;
}

static void expect_started(struct command *command)
{
    struct nr_started started;
    expect_frame(command->control, NR_STARTED, command->id, &started, sizeof(started));
    command->pid = (pid_t)started.pid;
    command->guardian = (pid_t)started.guardian_pid;
}

struct command start(struct shepherd *shepherd, const struct order *order)
{
    struct command command = spawn(shepherd, order);
    expect_started(&command);
    return command;
}

struct command start_again(struct command *rested, const struct order *order)
{
    struct command command = spawn_again(rested, order);
    expect_started(&command);
    return command;
}

struct nr_failed start_and_fail(struct shepherd *shepherd, const struct order *order)
{
    struct command command = spawn(shepherd, order);
    struct nr_failed failed;
    expect_frame(command.control, NR_FAILED, command.id, &failed, sizeof(failed));
    expect_hangup(command.control);
    drop(&command);
    return failed;
}

void expect_alive(struct shepherd *shepherd)
{
    struct order order = {
        .argv = ARGV("/bin/echo", "alive"),
        .flags = NR_SPAWN_STDOUT,
        .kill_timeout_ms = 300,
        .drain_timeout_ms = 1000,
    };
    struct command command = start(shepherd, &order);
    ck_assert_str_eq(read_all(command.out), "alive\n");
    expect_exit(&command, NR_EXIT_CODE, 0);
}

void expect_baseline(struct shepherd *shepherd, unsigned fds)
{
    uint64_t limit = now_ms() + WAIT_MS;
    while (count_children(shepherd->pid) > 0 || count_fds(shepherd->pid) != fds) {
        ck_assert_msg(now_ms() < limit, "%u children, %u descriptors instead of %u",
                      count_children(shepherd->pid), count_fds(shepherd->pid), fds);
        (void)poll(NULL, 0, 1);
    }
}

void drop(struct command *command)
{
    command->control = nr_fd_close(command->control);
    command->in = nr_fd_close(command->in);
    command->out = nr_fd_close(command->out);
    command->err = nr_fd_close(command->err);
}

/* ---- frames --------------------------------------------------------------------------------- */

bool has_frame(int socket, int ms)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    return poll(&wait, 1, ms) == 1;
}

uint8_t next_frame(int socket, uint64_t *id, void *payload, size_t size)
{
    unsigned char bytes[4096];
    struct nr_frame frame;

    ck_assert_msg(has_frame(socket, WAIT_MS), "no frame, no hang-up");
    ssize_t got = recv(socket, bytes, sizeof(bytes), 0);
    ck_assert_msg(got >= 0, "recv: %s", strerror(errno));
    if (got == 0)
        return 0;
    ck_assert_int_eq(nr_codec_open(bytes, (size_t)got, &frame), 0);
    *id = frame.id;
    memcpy(payload, frame.payload, frame.length < size ? frame.length : size);
    return frame.type;
}

void expect_frame(int socket, enum nr_frame_type type, uint64_t id, void *payload, size_t size)
{
    unsigned char bytes[256] = {0};
    uint64_t got_id = 0;
    uint32_t words[2];
    uint8_t got = next_frame(socket, &got_id, bytes, sizeof(bytes));
    memcpy(words, bytes, sizeof(words));
    ck_assert_msg(got == type, "frame %u (%u, %u) instead of %u", got, words[0], words[1], type);
    ck_assert_uint_eq(got_id, id);
    memcpy(payload, bytes, size);
}

struct nr_exited expect_exited(struct command *command)
{
    struct nr_exited exited;
    expect_frame(command->control, NR_EXITED, command->id, &exited, sizeof(exited));
    return exited;
}

void expect_exit(struct command *command, enum nr_exit_how how, uint32_t value)
{
    struct nr_exited exited = expect_exited(command);
    ck_assert_uint_eq(exited.how, how);
    ck_assert_uint_eq(exited.value, value);
    expect_hangup(command->control);
    drop(command);
}

void expect_hangup(int socket)
{
    uint64_t id;
    unsigned char bytes[256];
    ck_assert_uint_eq(next_frame(socket, &id, bytes, sizeof(bytes)), 0);
}

void expect_rejected(struct shepherd *shepherd, uint64_t id, int error)
{
    struct nr_rejected rejected;
    expect_frame(shepherd->socket, NR_REJECTED, id, &rejected, sizeof(rejected));
    ck_assert_msg(rejected.error == (uint32_t)error, "rejected with %s instead of errno %d",
                  strerror((int)rejected.error), error);
}

static void send_frame(int socket, enum nr_frame_type type, uint64_t id, const void *payload,
                       size_t size)
{
    unsigned char bytes[128];
    size_t length = nr_codec_write(bytes, sizeof(bytes), type, id, payload, size);
    send_message(socket, bytes, length, NULL, 0);
}

void send_stop(struct command *command, uint32_t grace_ms)
{
    struct nr_stop stop = {.grace_ms = grace_ms};
    send_frame(command->control, NR_STOP, 0, &stop, sizeof(stop));
}

void send_kill(struct command *command, uint64_t id, uint32_t signal_number, uint32_t scope)
{
    struct nr_kill kill_frame = {.signal = signal_number, .scope = scope};
    send_frame(command->control, NR_KILL, id, &kill_frame, sizeof(kill_frame));
}

uint32_t signal_command(struct command *command, uint32_t signal_number, uint32_t scope)
{
    struct nr_killed killed;
    uint64_t id = ++last_id;
    send_kill(command, id, signal_number, scope);
    expect_frame(command->control, NR_KILLED, id, &killed, sizeof(killed));
    return killed.error;
}

void escalate(struct shepherd *shepherd, uint64_t id)
{
    send_frame(shepherd->socket, NR_ESCALATE, id, NULL, 0);
}

uint64_t cpu_ms(pid_t pid)
{
    char path[64];
    unsigned long long user;
    unsigned long long system;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL &&
                      fscanf(file,
                             "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                             &user, &system) == 2,
                  "%s", path);
    (void)fclose(file);
    return (user + system) * 1000U / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* ---- cgroups -------------------------------------------------------------------------------- */

static char cgroup_root[TEMPORARY_MAX];
static char cgroup_parent[352];

static bool find_cgroup_mount(char path[256])
{
    char device[256], kind[64];
    bool found = false;
    FILE *mounts = fopen("/proc/mounts", "re");
    while (!found && mounts != NULL &&
           fscanf(mounts, "%255s %255s %63s %*[^\n]", device, path, kind) == 3)
        found = strcmp(kind, "cgroup2") == 0 && access(path, W_OK) == 0;
    if (mounts != NULL)
        (void)fclose(mounts);
    return found;
}

/* Not by its pid: where there are pid namespaces, others have the same. */
const char *cgroup_begin(void)
{
    char mount[256];
    if (!find_cgroup_mount(mount))
        return NULL;
    return make_folder_in(cgroup_root, mount) == 0 && chmod(cgroup_root, 0755) == 0 ? cgroup_root
                                                                                    : NULL;
}

static int remove_cgroup(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)where;
    if (type == FTW_DP)
        (void)rmdir(path);
    return 0;
}

void cgroup_end(void)
{
    char file[352];
    (void)snprintf(file, sizeof(file), "%s/cgroup.kill", cgroup_root);
    for (int i = 0; i < 100 && access(cgroup_root, F_OK) == 0; i++) {
        (void)nftw(cgroup_root, remove_cgroup, 8, FTW_DEPTH | FTW_PHYS);
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)!write(fd, "1", 1);
        (void)nr_fd_close(fd);
        (void)poll(NULL, 0, i > 0 ? 5 : 0);
    }
}

const char *cgroup_make_parent(void)
{
    (void)snprintf(cgroup_parent, sizeof(cgroup_parent), "%s/%d", cgroup_root, getpid());
    ck_assert_sys(mkdir(cgroup_parent, 0755));
    return cgroup_parent;
}

void cgroup_remove_parent(void)
{
    uint64_t limit = now_ms() + WAIT_MS;
    while (rmdir(cgroup_parent) < 0) {
        ck_assert_msg(errno == EBUSY && now_ms() < limit, "%s is not empty at the end",
                      cgroup_parent);
        (void)poll(NULL, 0, 2);
    }
}

/* ---- output --------------------------------------------------------------------------------- */

static ssize_t read_some(int fd, char *bytes, size_t room)
{
    ck_assert_msg(has_frame(fd, WAIT_MS), "no output, no end");
    ssize_t got = read(fd, bytes, room);
    ck_assert_sys(got);
    return got;
}

const char *read_line(int fd)
{
    static char line[1024];
    size_t length = 0;
    while (length < sizeof(line) - 1 && read_some(fd, line + length, 1) == 1 &&
           line[length] != '\n')
        length++;
    line[length] = '\0';
    return line;
}

const char *read_all(int fd)
{
    static char text[1 << 20];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof(text) - 1 &&
           (got = read_some(fd, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    return text;
}

const char *state_line(const char *text, const char *name)
{
    static char found[512];
    const char *at = strstr(text, name);
    ck_assert_msg(at != NULL, "no %s in:\n%s", name, text);
    (void)snprintf(found, sizeof(found), "%.*s", (int)strcspn(at, "\n"), at);
    return found;
}

void expect_broken(int fd)
{
    struct pollfd wait = {.fd = fd};
    ck_assert_msg(poll(&wait, 1, WAIT_MS) == 1 && (wait.revents & POLLERR),
                  "somebody still holds the reading end");
}

void expect_ready(struct command *command)
{
    ck_assert_str_eq(read_line(command->out), "ready");
}

/* ---- who is dead ---------------------------------------------------------------------------- */

const char *lock_file(void)
{
    static char path[TEMPORARY_MAX];
    (void)close(make_file_open(path));
    return path;
}

bool is_locked(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_sys(fd);
    ck_assert_sys(fcntl(fd, F_OFD_GETLK, &lock));
    (void)close(fd);
    return lock.l_type != F_UNLCK;
}

uint64_t await_unlocked(const char *path, uint64_t limit_ms)
{
    uint64_t begin = now_ms();
    while (is_locked(path)) {
        ck_assert_msg(now_ms() - begin < limit_ms, "somebody still holds the lock");
        (void)poll(NULL, 0, 2);
    }
    return now_ms() - begin;
}

static bool runs(pid_t pid)
{
    char path[64];
    char state = 'X';
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'X';
    (void)fclose(file);
    return state != 'Z' && state != 'X';
}

void await_gone(pid_t pid, uint64_t limit_ms)
{
    uint64_t limit = now_ms() + limit_ms;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 && (errno == ENOSYS || errno == EPERM)) { /* these tests run without it, too */
        while (runs(pid)) {
            ck_assert_msg(now_ms() < limit, "process %d is still there", pid);
            (void)poll(NULL, 0, 1);
        }
        return;
    }
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    if (pidfd < 0 && (errno == ESRCH || errno == EINVAL)) /* EINVAL: it is being reaped (6.1) */
        return;
    ck_assert_sys(pidfd);
    ck_assert_msg(poll(&wait, 1, (int)limit_ms) == 1, "process %d is still there", pid);
    (void)close(pidfd);
}

void become_subreaper(void)
{
    ck_assert_sys(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    (void)signal(SIGTERM, SIG_DFL); /* Check's handler would spread it to our group */
}

void expect_no_children(void)
{
#ifdef NR_PORTABLE
    /* Without subreapers, the killed members of a group end with us. */
    uint64_t limit = now_ms() + 1000;
    while (waitpid(-1, NULL, WNOHANG) >= 0 && now_ms() < limit)
        (void)poll(NULL, 0, 1);
#endif
    pid_t pid = waitpid(-1, NULL, WNOHANG);
    ck_assert_msg(pid < 0 && errno == ECHILD, pid == 0 ? "somebody was left behind, alive"
                                                       : "somebody was left behind, a zombie");
}
