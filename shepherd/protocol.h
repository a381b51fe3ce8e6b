/*
 * The wire format between the BEAM, the zygote and the guardians: the one source of it.
 *
 * Two kinds of SOCK_SEQPACKET socket carry frames, one frame per message:
 *
 *   request socket   BEAM <-> zygote, one per zygote:     HELLO, SPAWN, REJECTED, ESCALATE
 *   control socket   BEAM <-> guardian, one per command:  STARTED, FAILED, EXITED, UNKILLABLE,
 *                                                         KILL, KILLED, STOP, HOLD
 *
 * A frame is a 16-byte header and a payload. All numbers are little-endian and the structs below
 * have no padding, so on the machines we support (checked here) a frame is the struct. The Elixir
 * side is NetRunner.Protocol; the golden frames in test/wire/ are read by both sides' tests.
 *
 * Both ends are always of the same build: a change of format raises NR_WIRE_VERSION and needs no
 * compatibility code.
 */
#ifndef NR_PROTOCOL_H
#define NR_PROTOCOL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire format is little-endian");

#define NR_WIRE_MAGIC   0x524eU /* "NR" */
#define NR_WIRE_VERSION 1U

/* The largest frame either side sends or accepts, header included. unix(7) SEQPACKET carries a
 * bit under 208 KiB by default and a message above 128 KiB needs contiguous kernel memory;
 * strings above NR_WIRE_INLINE_MAX travel in a sealed memfd instead. */
#define NR_WIRE_INLINE_MAX (64U * 1024U)
#define NR_WIRE_FRAME_MAX  (NR_WIRE_INLINE_MAX + 1024U)

/* The largest strings area in a memfd: ARG_MAX cannot exceed 6 MiB of argv and env (exec checks
 * 3/4 of _STK_LIM, fs/exec.c), so more than this can never be executed. */
#define NR_WIRE_STRINGS_MAX (16U * 1024U * 1024U)

enum nr_frame_type {
    NR_HELLO = 1,      /* zygote -> BEAM: ready                                                 */
    NR_SPAWN = 2,      /* BEAM -> zygote: start a guardian and its command                      */
    NR_REJECTED = 3,   /* zygote -> BEAM: the request with this id was malformed                */
    NR_ESCALATE = 4,   /* BEAM -> zygote: kill the guardian of the request with this id         */
    NR_STARTED = 5,    /* guardian -> BEAM: exec succeeded                                      */
    NR_FAILED = 6,     /* guardian (or zygote, if fork failed) -> BEAM: nothing runs            */
    NR_EXITED = 7,     /* guardian -> BEAM: the leader's end, after the family's; see below     */
    NR_UNKILLABLE = 8, /* guardian -> BEAM: survivors of SIGKILL, before EXITED                 */
    NR_KILL = 9,       /* BEAM -> guardian: one signal                                          */
    NR_KILLED = 10,    /* guardian -> BEAM: the answer to KILL, same id                         */
    NR_STOP = 11,      /* BEAM -> guardian: run the stop ladder                                 */
    NR_HOLD = 12,      /* BEAM -> guardian: reading ends to keep open and empty (orphans: :keep) */
};

struct nr_header {
    uint16_t magic;
    uint8_t version;
    uint8_t type;
    uint32_t length; /* bytes of payload that follow */
    uint64_t id;     /* of the request (SPAWN and its answers) or of the KILL */
};
static_assert(sizeof(struct nr_header) == 16, "header");

struct nr_hello {
    uint32_t pid;
    uint32_t features; /* enum nr_feature */
};
static_assert(sizeof(struct nr_hello) == 8, "hello");

enum nr_feature {
    NR_FEATURE_SUBREAPER = 1U << 0, /* orphans of any depth come to the guardian */
    NR_FEATURE_PIDFD = 1U << 1,
    NR_FEATURE_CHILDREN = 1U << 2, /* /proc/<pid>/task/<tid>/children can be read */
};

/* Which descriptors a SPAWN carries in SCM_RIGHTS, always in this order: control (always), stdin,
 * stdout, stderr, cwd, strings. A stdin, stdout or stderr that is neither carried nor a file is
 * /dev/null. */
enum nr_spawn_flag {
    NR_SPAWN_STDIN = 1U << 0,
    NR_SPAWN_STDOUT = 1U << 1,
    NR_SPAWN_STDERR = 1U << 2,
    NR_SPAWN_CWD = 1U << 3,     /* O_PATH descriptor of the BEAM's working directory */
    NR_SPAWN_STRINGS = 1U << 4, /* the strings are in a sealed memfd, none follow the payload */
    NR_SPAWN_MERGE = 1U << 5,   /* stderr is stdout's descriptor; excludes NR_SPAWN_STDERR */
    NR_SPAWN_KEEP = 1U << 6,    /* orphans: :keep */

    /* The child opens them itself, from its cwd descriptor, as a shell's redirections: whatever open(2)
     * waits for (a FIFO, a slow file system), it waits in the child. Each excludes the descriptor of
     * the same name, STDERR_FILE also NR_SPAWN_MERGE. */
    NR_SPAWN_STDIN_FILE = 1U << 7,
    NR_SPAWN_STDOUT_FILE = 1U << 8,
    NR_SPAWN_STDERR_FILE = 1U << 9,
    NR_SPAWN_STDOUT_APPEND = 1U << 10, /* O_APPEND; without it the file is truncated */
    NR_SPAWN_STDERR_APPEND = 1U << 11,
};
#define NR_SPAWN_FLAGS_ALL 0xfffU
#define NR_SPAWN_FDS_MAX   6
#define NR_SPAWN_FILES_ALL (NR_SPAWN_STDIN_FILE | NR_SPAWN_STDOUT_FILE | NR_SPAWN_STDERR_FILE)

/*
 * After this struct (or in the memfd): strings_length bytes, made of NUL-terminated strings:
 *   exe (absolute path), cd ("" = stay in cwd), the paths of stdin's, stdout's and stderr's file (those
 *   whose flags are set), argc x argv (argv[0] included), envc x "NAME=value".
 * There are exactly as many NULs as strings and the last byte is one of them.
 */
struct nr_spawn {
    uint32_t flags; /* enum nr_spawn_flag */
    uint32_t stop_signal;
    uint32_t kill_timeout_ms;
    uint32_t drain_timeout_ms;
    uint32_t argc; /* >= 1 */
    uint32_t envc;
    uint32_t strings_length;
    uint16_t stdout_mode; /* permission bits (open(2), before the umask) should the file be made; */
    uint16_t stderr_mode; /* 0 where there is no such file */
};
static_assert(sizeof(struct nr_spawn) == 32, "spawn");

struct nr_rejected {
    uint32_t error; /* errno */
};
static_assert(sizeof(struct nr_rejected) == 4, "rejected");

struct nr_started {
    uint32_t pid;
    uint32_t guardian_pid;
};
static_assert(sizeof(struct nr_started) == 8, "started");

/* Where a start failed. The BEAM turns CD into {:cd, posix}, the files into {:file, path, posix}, the
 * others into the bare atom. */
enum nr_stage {
    NR_STAGE_REQUEST = 1, /* reading the strings of the request */
    NR_STAGE_FORK = 2,    /* fork of guardian or child */
    NR_STAGE_SETUP = 3,   /* pipes, prctl, pidfd */
    NR_STAGE_STDIO = 4,
    NR_STAGE_CD = 5,
    NR_STAGE_EXEC = 6,
    NR_STAGE_STDIN_FILE = 7, /* these three in the order of the descriptors */
    NR_STAGE_STDOUT_FILE = 8,
    NR_STAGE_STDERR_FILE = 9,
};

struct nr_failed {
    uint32_t stage; /* enum nr_stage */
    uint32_t error; /* errno */
};
static_assert(sizeof(struct nr_failed) == 8, "failed");

struct nr_rusage {
    uint64_t user_us;
    uint64_t system_us;
    uint64_t max_rss_kb;
    uint64_t minflt;
    uint64_t majflt;
    uint64_t nvcsw;
    uint64_t nivcsw;
};
static_assert(sizeof(struct nr_rusage) == 56, "rusage");

/* EXITED is the guardian's last frame, but not under NR_SPAWN_KEEP: there it comes as soon as the leader
 * has ended, and a KILL or STOP that crosses it is still heeded. */
enum nr_exit_how {
    NR_EXIT_CODE = 1,   /* value is the exit code */
    NR_EXIT_SIGNAL = 2, /* value is the signal number */
};

struct nr_exited {
    uint32_t how; /* enum nr_exit_how */
    uint32_t value;
    uint32_t orphans_killed; /* members of the family that did not end by themselves */
    uint32_t stopped;        /* 1: the stop ladder had begun before the leader ended */
    struct nr_rusage rusage; /* of the leader and the children it waited for: getrusage(2) units */
};
static_assert(sizeof(struct nr_exited) == 72, "exited");

#define NR_UNKILLABLE_MAX 16

struct nr_unkillable {
    uint32_t count; /* of all survivors; at most NR_UNKILLABLE_MAX are named */
    uint32_t pids[NR_UNKILLABLE_MAX];
};
static_assert(sizeof(struct nr_unkillable) == 68, "unkillable");

enum nr_scope {
    NR_SCOPE_LEADER = 0,
    NR_SCOPE_GROUP = 1,
};

struct nr_kill {
    uint32_t signal; /* 1..64 */
    uint32_t scope;  /* enum nr_scope */
};
static_assert(sizeof(struct nr_kill) == 8, "kill");

struct nr_killed {
    uint32_t error; /* 0 or errno; ESRCH: the leader has ended */
};
static_assert(sizeof(struct nr_killed) == 4, "killed");

struct nr_stop {
    uint32_t grace_ms; /* between stop_signal and SIGKILL; 0: SIGKILL at once */
};
static_assert(sizeof(struct nr_stop) == 4, "stop");

/* HOLD has no payload. It carries one or two descriptors in SCM_RIGHTS, O_NONBLOCK, and is heeded only
 * under NR_SPAWN_KEEP. */

#endif
