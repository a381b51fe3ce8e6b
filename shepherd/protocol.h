/*
 * The wire format between the BEAM, the zygote and the guardians: the one source of it.
 *
 * Two kinds of SOCK_SEQPACKET socket carry frames, one frame per message:
 *
 *   request socket   BEAM <-> zygote, one per zygote:      HELLO, SPAWN, REJECTED, ESCALATE
 *   control socket   BEAM <-> guardian, one per guardian:  STARTED, FAILED, USAGE, EXITED, UNKILLABLE,
 *                                                          KILL, KILLED, STOP, HOLD, SPAWN
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
#define NR_WIRE_VERSION 3U

/* The largest frame either side sends or accepts, header included. unix(7) SEQPACKET carries a
 * bit under 208 KiB by default and a message above 128 KiB needs contiguous kernel memory;
 * strings above NR_WIRE_INLINE_MAX travel in a sealed memfd instead. */
#define NR_WIRE_INLINE_MAX (64U * 1024U)
#define NR_WIRE_FRAME_MAX  (NR_WIRE_INLINE_MAX + 26U * 1024U)

/* The largest strings area in a memfd: ARG_MAX cannot exceed 6 MiB of argv and env (exec checks
 * 3/4 of _STK_LIM, fs/exec.c), so more than this can never be executed. */
#define NR_WIRE_STRINGS_MAX (16U * 1024U * 1024U)

enum nr_frame_type {
    NR_HELLO = 1,      /* zygote -> BEAM: ready                                                 */
    NR_SPAWN = 2,      /* BEAM -> zygote: start a guardian and its command; or the command of a
                        * guardian that rests                                                   */
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
    NR_USAGE = 13,     /* guardian -> BEAM: what the command's cgroup has used, before EXITED   */
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
 * stdout, stderr, cwd, pty, strings. A stdin, stdout or stderr that is neither carried nor a file is
 * the terminal if there is one, else /dev/null. */
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

    NR_SPAWN_PTY = 1U << 12,    /* a pseudo-terminal's slave: becomes the controlling terminal */
    NR_SPAWN_CGROUP = 1U << 13, /* the command lives in a cgroup of its own: its strings follow */

    /* After a command that ended by itself the guardian may rest, as EXITED then says, and take another SPAWN from its
     * control socket (without a control among the descriptors) until that hangs up. Excludes KEEP and CGROUP, whose ends leave
     * more to do, and STRINGS, whose memory it keeps. */
    NR_SPAWN_REST = 1U << 14,
};
#define NR_SPAWN_FLAGS_ALL 0x7fffU
#define NR_SPAWN_FDS_MAX   7
#define NR_SPAWN_FILES_ALL (NR_SPAWN_STDIN_FILE | NR_SPAWN_STDOUT_FILE | NR_SPAWN_STDERR_FILE)

/*
 * What the child makes of itself before it executes the command, one after the other as exec.c says.
 * A value that is not named is 0.
 */
enum nr_setting_what {
    NR_SETTING_UMASK = 1,         /* value: 0..0777 */
    NR_SETTING_NICE = 2,          /* value: -20..19, as an int64_t */
    NR_SETTING_OOM_SCORE_ADJ = 3, /* value: -1000..1000, as an int64_t */
    NR_SETTING_RLIMIT = 4,        /* which: RLIMIT_*; value: soft, hard: hard; UINT64_MAX: none */
    NR_SETTING_USER = 5,          /* value: uid, neither 0 nor -1; goes with GROUP */
    NR_SETTING_GROUP = 6,         /* value: gid, not -1; also replaces the supplementary groups */
    NR_SETTING_MEMBER = 7,        /* value: gid, not -1; one supplementary group; goes with GROUP */
    NR_SETTING_NO_NEW_PRIVS = 8,
};

struct nr_setting {
    uint32_t what; /* enum nr_setting_what; each at most once but for RLIMIT and MEMBER */
    uint32_t which;
    uint64_t value;
    uint64_t hard;
};
static_assert(sizeof(struct nr_setting) == 24, "setting");

/* RLIMIT_CPU..RLIMIT_RTTIME (asm-generic/resource.h). */
#define NR_RLIMITS 16U
/* Of one SPAWN: more supplementary groups than any user has; NGROUPS_MAX is 65536. */
#define NR_SETTINGS_MAX 1024U
/* The files of a cgroup that are written: fewer than there are. */
#define NR_CGROUP_FILES_MAX 16U

/*
 * After this struct: `settings` x struct nr_setting. Then (or in the memfd) strings_length bytes, made of
 * NUL-terminated strings:
 *   exe (absolute path), cd ("" = stay in cwd), the paths of stdin's, stdout's and stderr's file (those
 *   whose flags are set), if NR_SPAWN_CGROUP the parent (absolute path), the leaf's name and
 *   cgroup_files x "file=content", argc x argv (argv[0] included), envc x "NAME=value".
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
    uint16_t settings;
    uint16_t cgroup_files;
};
static_assert(sizeof(struct nr_spawn) == 36, "spawn");
static_assert(NR_WIRE_FRAME_MAX >= sizeof(struct nr_header) + sizeof(struct nr_spawn) +
                                       NR_SETTINGS_MAX * sizeof(struct nr_setting) +
                                       NR_WIRE_INLINE_MAX,
              "the largest SPAWN fits");

struct nr_rejected {
    uint32_t error; /* errno */
};
static_assert(sizeof(struct nr_rejected) == 4, "rejected");

/* What a command's family is held by. */
enum nr_containment {
    NR_CONTAINED_GROUP = 0,     /* its process group: what leaves that is lost */
    NR_CONTAINED_SUBREAPER = 1, /* its guardian, to which orphans of any depth come */
    NR_CONTAINED_CGROUP = 2,    /* a cgroup, and its guardian */
};

struct nr_started {
    uint32_t pid;
    uint32_t guardian_pid;
    uint32_t containment; /* enum nr_containment */
};
static_assert(sizeof(struct nr_started) == 12, "started");

/* Where a start failed. The BEAM turns the files into {:file, path, posix}, REQUEST, FORK, SETUP, STDIO and
 * EXEC into the bare atom, the others into {option, posix} with what `detail` says. */
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
    NR_STAGE_PTY = 10,
    NR_STAGE_NICE = 11,
    NR_STAGE_OOM_SCORE_ADJ = 12,
    NR_STAGE_RLIMIT = 13, /* detail: RLIMIT_* */
    NR_STAGE_USER = 14,
    NR_STAGE_NO_NEW_PRIVS = 15,
    NR_STAGE_CGROUP =
        16, /* detail: enum nr_cgroup_step, or from NR_CGROUP_FILE on the file's place */
    NR_STAGES_END,
};

enum nr_cgroup_step {
    NR_CGROUP_PARENT =
        1, /* opening the parent: it must be a cgroup2 directory, no symlink on the way */
    NR_CGROUP_LEAF = 2,  /* making the leaf */
    NR_CGROUP_JOIN = 3,  /* putting the child into it */
    NR_CGROUP_FILE = 16, /* writing its first file */
};

struct nr_failed {
    uint32_t stage;  /* enum nr_stage */
    uint32_t error;  /* errno */
    uint32_t detail; /* 0 where the stage has none */
};
static_assert(sizeof(struct nr_failed) == 12, "failed");

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

/* EXITED is the last frame of its command, but not under NR_SPAWN_KEEP: there it comes as soon as the leader
 * has ended, and a KILL or STOP that crosses it is still heeded. */
enum nr_exit_how {
    NR_EXIT_CODE = 1,   /* value is the exit code */
    NR_EXIT_SIGNAL = 2, /* value is the signal number */
};

enum nr_exited_flag {
    NR_EXITED_STOPPED = 1U << 0, /* the stop ladder had begun before the leader ended */
    NR_EXITED_RESTS =
        1U << 1, /* the guardian waits for another SPAWN, or the hang-up: NR_SPAWN_REST */
};

struct nr_exited {
    uint32_t how; /* enum nr_exit_how */
    uint32_t value;
    uint32_t orphans_killed; /* members of the family that did not end by themselves */
    uint32_t flags;          /* enum nr_exited_flag */
    struct nr_rusage rusage; /* of the leader and the children it waited for: getrusage(2) units */
};
static_assert(sizeof(struct nr_exited) == 72, "exited");

/* UINT64_MAX: this kernel, or this cgroup, does not tell. */
struct nr_usage {
    uint64_t memory_peak; /* bytes: memory.peak */
    uint64_t oom_kills;   /* memory.events */
    uint64_t user_us;     /* cpu.stat */
    uint64_t system_us;
    uint64_t throttled_us;
    uint64_t pids_peak;
    uint64_t read_bytes; /* io.stat, all devices */
    uint64_t written_bytes;
};
static_assert(sizeof(struct nr_usage) == 64, "usage");

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
