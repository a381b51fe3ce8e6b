/*
 * The BEAM's part, played in C: starts the built `shepherd`, sends it orders, reads what guardians
 * say. Every wait has an end (WAIT_MS), so that a lost frame is a failed assertion and not a hang.
 */
#ifndef NR_SHEPHERD_SUPPORT_H
#define NR_SHEPHERD_SUPPORT_H

#include "check_support.h"

#include "protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FIXTURE(name) NR_TEST_FIXTURES "/fixture_" name

/* Generous, because sanitized builds run beside others; what must be quick is measured apart. */
#define WAIT_MS 10000

/* A descriptor that shepherd_launch leaves open, without close-on-exec. */
#define CARELESS_FD 77

struct shepherd {
    pid_t pid;
    int socket;
    struct nr_hello hello;
};

/* What shepherd_start executes: the built one, or a copy that another user can reach. */
extern const char *shepherd_path;

/* Starts a zygote whose BEAM is the calling process, and does not wait for its HELLO. `wrapper`: NULL,
 * or arguments to put before the program (a fixture that refuses system calls), NULL-terminated. */
struct shepherd shepherd_launch(const char *const *wrapper);

/* shepherd_launch() and HELLO. */
struct shepherd shepherd_start(const char *const *wrapper);

/* Hangs up and waits until the zygote has ended; asserts that it was with 0. */
void shepherd_end(struct shepherd *shepherd);

/* The two with become_subreaper() and expect_no_children(): what a test begins and ends with. */
struct shepherd shepherd_begin(const char *const *wrapper);
void shepherd_finish(struct shepherd *shepherd);

/* Waits for the zygote's end. Its wait status. */
int shepherd_await_end(struct shepherd *shepherd);

/* The numbers of open descriptors of a process. */
unsigned count_fds(pid_t pid);
unsigned count_children(pid_t pid);

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

struct order {
    const char *exe; /* NULL: argv[0] */
    const char *const *argv;
    const char *const *env; /* NULL: none */
    const char *cd;         /* NULL: "" */
    const char *files[3];   /* NULL: none; the flags say it too */
    const struct nr_setting *settings;
    uint16_t settings_count;
    uint32_t flags; /* of nr_spawn, without STRINGS, CWD and PTY, which follow from the rest */
    int cwd;        /* 0: none */
    int pty;        /* 0: none; a slave, which stays ours, too */
    uint32_t stop_signal; /* 0: TERM */
    uint32_t kill_timeout_ms;
    uint32_t drain_timeout_ms;
    bool memfd;         /* strings travel apart */
    const char *cgroup; /* its parent; NULL: none */
    const char *leaf;
    const char *const *limits; /* "file=content"; NULL: none */
};

struct command {
    uint64_t id;
    int control;
    int in;
    int out;
    int err;
    pid_t pid;
    pid_t guardian;
};

/* Sends the order; the pipes are made after the flags. */
struct command spawn(struct shepherd *shepherd, const struct order *order);

/* spawn() and STARTED. */
struct command start(struct shepherd *shepherd, const struct order *order);

/* The same of the guardian of a command that has ended, which rests; the control socket changes hands. */
struct command spawn_again(struct command *rested, const struct order *order);
struct command start_again(struct command *rested, const struct order *order);

/* spawn() and FAILED; asserts that a hang-up follows. */
struct nr_failed start_and_fail(struct shepherd *shepherd, const struct order *order);

/* Serves the next command as ever. */
void expect_alive(struct shepherd *shepherd);

/* Waits until all guardians have left and the zygote holds as many descriptors as these. */
void expect_baseline(struct shepherd *shepherd, unsigned fds);

/* Closes our ends: the control socket's hang-up is what a killed owner looks like. */
void drop(struct command *command);

/* A raw message with descriptors. */
void send_message(int socket, const void *bytes, size_t length, const int *fds, unsigned count);

/* The bytes of a SPAWN frame for `order`, in `out`; the length. */
size_t spawn_frame(const struct order *order, uint64_t id, unsigned char *out, size_t room);

/* The next frame. Its type; 0 at the end of the socket. ECONNRESET is an assertion. */
uint8_t next_frame(int socket, uint64_t *id, void *payload, size_t size);

/* The next frame must be this one. */
void expect_frame(int socket, enum nr_frame_type type, uint64_t id, void *payload, size_t size);
struct nr_exited expect_exited(struct command *command);
void expect_exit(struct command *command, enum nr_exit_how how, uint32_t value);
void expect_hangup(int socket);
void expect_rejected(struct shepherd *shepherd, uint64_t id, int error);
bool has_frame(int socket, int ms);

void send_stop(struct command *command, uint32_t grace_ms);
void send_kill(struct command *command, uint64_t id, uint32_t signal, uint32_t scope);
uint32_t signal_command(struct command *command, uint32_t signal, uint32_t scope);
void escalate(struct shepherd *shepherd, uint64_t id);

/* One line, without its newline; "" at the end. */
const char *read_line(int fd);
/* All that comes until the end. */
const char *read_all(int fd);
/* The line of this name in what the fixture show_state printed. */
const char *state_line(const char *text, const char *name);
/* Waits until nobody holds the reading end of this pipe. */
void expect_broken(int fd);
void expect_ready(struct command *command);

/* A lock file of this test. */
const char *lock_file(void);
/* Waits until nobody holds the lock. The milliseconds; fails the test after `limit_ms`. */
uint64_t await_unlocked(const char *path, uint64_t limit_ms);
bool is_locked(const char *path);

/* Waits until this process, which need not be our child, has ended. */
void await_gone(pid_t pid, uint64_t limit_ms);

uint64_t now_ms(void);

/* User and system time of a process, in milliseconds. */
uint64_t cpu_ms(pid_t pid);

/* For main(), around run_suite(): a cgroup for all of this program's, wherever cgroup version 2 is mounted and
 * ours to write to (NULL: nowhere); and its end, with whatever tests that failed have left in it. */
const char *cgroup_begin(void);
void cgroup_end(void);

/* A cgroup of this test's, below which it makes others. */
const char *cgroup_make_parent(void);
/* Asserts that it is empty, or soon is, and removes it. */
void cgroup_remove_parent(void);

/* Makes us the subreaper and asserts, at the end, that nobody was left behind. */
void become_subreaper(void);
void expect_no_children(void);

#endif
