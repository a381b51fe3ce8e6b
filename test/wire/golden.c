/* See golden.h. */
#include "golden.h"

#include "codec.h"

#include <string.h>

/* The compiler adds the last NUL of each. */
static const char inline_strings[] = "/bin/sh\0"
                                     "/tmp\0"
                                     "sh\0-c\0exit 3\0"
                                     "PATH=/bin\0EMPTY=\0UTF8=\xc3\xa9";
static const char small_strings[] = "/bin/true\0"
                                    "\0"
                                    "true";
static const char file_strings[] = "/bin/cat\0"
                                   "\0"
                                   "in\0/tmp/out\0err\0"
                                   "cat";

/* The settings come first. */
static const struct {
    struct nr_setting settings[7];
    char strings[45];
} settled = {
    {{.what = NR_SETTING_UMASK, .value = 027},
     {.what = NR_SETTING_NICE, .value = (uint64_t)-5},
     {.what = NR_SETTING_RLIMIT, .which = 7, .value = 1024, .hard = UINT64_MAX},
     {.what = NR_SETTING_USER, .value = 1000},
     {.what = NR_SETTING_GROUP, .value = 100},
     {.what = NR_SETTING_MEMBER, .value = 27},
     {.what = NR_SETTING_NO_NEW_PRIVS}},
    "/bin/id\0"
    "\0"
    "/sys/fs/cgroup/a\0leaf\0pids.max=9\0"
    "id",
};
static_assert(sizeof(settled) == 7 * 24 + 48, "settings and strings are next to each other");

struct source {
    const char *name;
    enum nr_frame_type type;
    uint64_t id;
    size_t size;
    union {
        struct nr_hello hello;
        struct nr_spawn spawn;
        struct nr_rejected rejected;
        struct nr_started started;
        struct nr_failed failed;
        struct nr_exited exited;
        struct nr_unkillable unkillable;
        struct nr_kill kill;
        struct nr_killed killed;
        struct nr_stop stop;
        struct nr_usage usage;
    } payload;
    const void *follow; /* after the payload: payload.spawn's settings, and strings_length bytes */
};

/* clang-format off */
static const struct source sources[] = {
    {"hello", NR_HELLO, 0, sizeof(struct nr_hello),
     {.hello = {.pid = 4711, .features = NR_FEATURE_SUBREAPER | NR_FEATURE_PIDFD | NR_FEATURE_CHILDREN}}, NULL},
    {"hello_portable", NR_HELLO, 0, sizeof(struct nr_hello),
     {.hello = {.pid = 4711, .features = 0}}, NULL},

    {"spawn_inline", NR_SPAWN, 0x1122334455667788U, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR | NR_SPAWN_CWD | NR_SPAWN_REST,
                .stop_signal = 15, .kill_timeout_ms = 5000, .drain_timeout_ms = 1000,
                .argc = 3, .envc = 3, .strings_length = sizeof(inline_strings)}}, inline_strings},
    {"spawn_minimal", NR_SPAWN, 1, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_REST, .stop_signal = 9, .kill_timeout_ms = 0, .drain_timeout_ms = 0,
                .argc = 1, .envc = 0, .strings_length = sizeof(small_strings)}}, small_strings},
    {"spawn_merge_keep", NR_SPAWN, 2, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_STDOUT | NR_SPAWN_CWD | NR_SPAWN_MERGE | NR_SPAWN_KEEP,
                .stop_signal = 2, .kill_timeout_ms = 250, .drain_timeout_ms = 4294967295U,
                .argc = 1, .envc = 0, .strings_length = sizeof(small_strings)}}, small_strings},
    {"spawn_memfd", NR_SPAWN, 3, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_CWD | NR_SPAWN_STRINGS,
                .stop_signal = 15, .kill_timeout_ms = 5000, .drain_timeout_ms = 1000,
                .argc = 2, .envc = 1, .strings_length = 70000}}, NULL},

    {"spawn_files", NR_SPAWN, 4, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_CWD | NR_SPAWN_FILES_ALL | NR_SPAWN_STDOUT_APPEND | NR_SPAWN_REST,
                .stop_signal = 15, .kill_timeout_ms = 5000, .drain_timeout_ms = 1000,
                .argc = 1, .envc = 0, .strings_length = sizeof(file_strings),
                .stdout_mode = 0644, .stderr_mode = 0600}}, file_strings},

    {"spawn_settings", NR_SPAWN, 5, sizeof(struct nr_spawn),
     {.spawn = {.flags = NR_SPAWN_CWD | NR_SPAWN_PTY | NR_SPAWN_CGROUP, .stop_signal = 1,
                .kill_timeout_ms = 5000, .drain_timeout_ms = 1000, .argc = 1, .envc = 0,
                .strings_length = 45, .settings = 7, .cgroup_files = 1}}, &settled},

    {"rejected", NR_REJECTED, 9, sizeof(struct nr_rejected),
     {.rejected = {.error = 74}}, NULL},
    {"rejected_unreadable", NR_REJECTED, 0, sizeof(struct nr_rejected),
     {.rejected = {.error = 74}}, NULL},
    {"escalate", NR_ESCALATE, 0x1122334455667788U, 0, {{0, 0}}, NULL},

    {"started", NR_STARTED, 9, sizeof(struct nr_started),
     {.started = {.pid = 4713, .guardian_pid = 4712, .containment = NR_CONTAINED_SUBREAPER}}, NULL},
    {"started_cgroup", NR_STARTED, 9, sizeof(struct nr_started),
     {.started = {.pid = 4713, .guardian_pid = 4712, .containment = NR_CONTAINED_CGROUP}}, NULL},
    {"failed_exec", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_EXEC, .error = 2}}, NULL},
    {"failed_cd", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_CD, .error = 13}}, NULL},
    {"failed_fork", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_FORK, .error = 11}}, NULL},
    {"failed_file", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_STDOUT_FILE, .error = 21}}, NULL},
    {"failed_rlimit", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_RLIMIT, .error = 1, .detail = 7}}, NULL},
    {"failed_cgroup", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_CGROUP, .error = 2, .detail = NR_CGROUP_FILE + 1}}, NULL},
    {"failed_stopped", NR_FAILED, 9, sizeof(struct nr_failed),
     {.failed = {.stage = NR_STAGE_SETUP, .error = 125}}, NULL},

    {"usage", NR_USAGE, 9, sizeof(struct nr_usage),
     {.usage = {.memory_peak = 1048576, .oom_kills = 1, .user_us = 1500, .system_us = 250, .throttled_us = 0,
                .pids_peak = UINT64_MAX, .read_bytes = 4096, .written_bytes = 8192}}, NULL},
    {"exited_code", NR_EXITED, 9, sizeof(struct nr_exited),
     {.exited = {.how = NR_EXIT_CODE, .value = 3, .orphans_killed = 0, .flags = NR_EXITED_RESTS,
                 .rusage = {.user_us = 1500000, .system_us = 250000, .max_rss_kb = 4096, .minflt = 100,
                            .majflt = 1, .nvcsw = 7, .nivcsw = 5}}}, NULL},
    {"exited_signal", NR_EXITED, 9, sizeof(struct nr_exited),
     {.exited = {.how = NR_EXIT_SIGNAL, .value = 15, .orphans_killed = 2, .flags = NR_EXITED_STOPPED,
                 .rusage = {.user_us = 0x100000000U, .system_us = 0, .max_rss_kb = 0, .minflt = 0,
                            .majflt = 0, .nvcsw = 0, .nivcsw = 0}}}, NULL},
    {"unkillable", NR_UNKILLABLE, 9, sizeof(struct nr_unkillable),
     {.unkillable = {.count = 2, .pids = {4713, 4720}}}, NULL},
    {"unkillable_many", NR_UNKILLABLE, 9, sizeof(struct nr_unkillable),
     {.unkillable = {.count = 40, .pids = {101, 102, 103, 104, 105, 106, 107, 108,
                                           109, 110, 111, 112, 113, 114, 115, 116}}}, NULL},

    {"kill_leader", NR_KILL, 42, sizeof(struct nr_kill),
     {.kill = {.signal = 10, .scope = NR_SCOPE_LEADER}}, NULL},
    {"kill_group", NR_KILL, 43, sizeof(struct nr_kill),
     {.kill = {.signal = 64, .scope = NR_SCOPE_GROUP}}, NULL},
    {"killed_ok", NR_KILLED, 42, sizeof(struct nr_killed),
     {.killed = {.error = 0}}, NULL},
    {"killed_esrch", NR_KILLED, 43, sizeof(struct nr_killed),
     {.killed = {.error = 3}}, NULL},
    {"stop", NR_STOP, 0, sizeof(struct nr_stop),
     {.stop = {.grace_ms = 5000}}, NULL},
    {"stop_now", NR_STOP, 0, sizeof(struct nr_stop),
     {.stop = {.grace_ms = 0}}, NULL},
    {"hold", NR_HOLD, 0, 0, {{0, 0}}, NULL},
};
/* clang-format on */

_Bool nr_golden_get(unsigned index, struct nr_golden *golden)
{
    if (index >= sizeof(sources) / sizeof(sources[0]))
        return 0;

    const struct source *source = &sources[index];
    unsigned char payload[512];
    const struct nr_spawn *spawn = &source->payload.spawn;
    size_t follow = 0;
    memcpy(payload, &source->payload, source->size);
    if (source->follow != NULL) {
        follow = spawn->settings * sizeof(struct nr_setting) + spawn->strings_length;
        memcpy(payload + source->size, source->follow, follow);
    }

    golden->name = source->name;
    golden->length = nr_codec_write(golden->bytes, sizeof(golden->bytes), source->type, source->id,
                                    payload, source->size + follow);
    return 1;
}

/* A malformed frame is a good one with up to two numbers overwritten, then cut or grown by zeros. */
struct mutation {
    const char *name;
    const char *base;
    int grow;
    struct {
        unsigned offset, size;
        uint32_t value;
    } patch[2];
};

enum offset {
    MAGIC = 0,
    VERSION = 2,
    TYPE = 3,
    LENGTH = 4,
    PAYLOAD = sizeof(struct nr_header),
    FLAGS = PAYLOAD + offsetof(struct nr_spawn, flags),
    STOP_SIGNAL = PAYLOAD + offsetof(struct nr_spawn, stop_signal),
    ARGC = PAYLOAD + offsetof(struct nr_spawn, argc),
    ENVC = PAYLOAD + offsetof(struct nr_spawn, envc),
    STRINGS_LENGTH = PAYLOAD + offsetof(struct nr_spawn, strings_length),
    STDOUT_MODE = PAYLOAD + offsetof(struct nr_spawn, stdout_mode),
    STDERR_MODE = PAYLOAD + offsetof(struct nr_spawn, stderr_mode),
    SETTINGS = PAYLOAD + offsetof(struct nr_spawn, settings),
    CGROUP_FILES = PAYLOAD + offsetof(struct nr_spawn, cgroup_files),
    STRINGS = PAYLOAD + sizeof(struct nr_spawn),
    LAST_BYTE = STRINGS + sizeof(small_strings) - 1,
    /* Of spawn_settings: its settings in their order, then its strings. */
    UMASK = STRINGS,
    NICE = UMASK + sizeof(struct nr_setting),
    RLIMIT = NICE + sizeof(struct nr_setting),
    USER = RLIMIT + sizeof(struct nr_setting),
    GROUP = USER + sizeof(struct nr_setting),
    MEMBER = GROUP + sizeof(struct nr_setting),
    NO_NEW_PRIVS = MEMBER + sizeof(struct nr_setting),
    CGROUP_PARENT = NO_NEW_PRIVS + sizeof(struct nr_setting) + sizeof("/bin/id") + 1,
    CGROUP_LEAF = CGROUP_PARENT + sizeof("/sys/fs/cgroup/a"),
    CGROUP_FILE = CGROUP_LEAF + sizeof("leaf"),
    WHICH = offsetof(struct nr_setting, which),
    VALUE = offsetof(struct nr_setting, value),
    HARD = offsetof(struct nr_setting, hard),
};

/* clang-format off */
static const struct mutation mutations[] = {
    {"bad/empty",                   "started",       -28, {{0}}},
    {"bad/short_header",            "started",       -13, {{0}}},
    {"bad/magic",                   "started",         0, {{MAGIC, 2, 0x4e52}}},
    {"bad/version",                 "started",         0, {{VERSION, 1, 1}}},
    {"bad/length_short",            "started",         0, {{LENGTH, 4, 4}}},
    {"bad/length_long",             "started",         0, {{LENGTH, 4, 16}}},
    {"bad/type",                    "escalate",        0, {{TYPE, 1, 200}}},
    {"bad/started_size",            "started",        -4, {{LENGTH, 4, 8}}},
    {"bad/spawn_flags",             "spawn_minimal",   0, {{FLAGS, 4, 0x8000}}},
    {"bad/spawn_rest_and_keep",     "spawn_minimal",   0, {{FLAGS, 4, NR_SPAWN_REST | NR_SPAWN_KEEP}}},
    {"bad/spawn_rest_and_memfd",    "spawn_memfd",     0, {{FLAGS, 4, NR_SPAWN_REST | NR_SPAWN_STRINGS}}},
    {"bad/spawn_merge_and_stderr",  "spawn_minimal",   0, {{FLAGS, 4, NR_SPAWN_MERGE | NR_SPAWN_STDERR}}},
    {"bad/spawn_signal_0",          "spawn_minimal",   0, {{STOP_SIGNAL, 4, 0}}},
    {"bad/spawn_signal_65",         "spawn_minimal",   0, {{STOP_SIGNAL, 4, 65}}},
    {"bad/spawn_argc_0",            "spawn_minimal",   0, {{ARGC, 4, 0}, {ENVC, 4, 1}}},
    {"bad/spawn_mode_and_no_file",  "spawn_minimal",   0, {{STDOUT_MODE, 2, 1}}},
    {"bad/spawn_append_no_file",    "spawn_minimal",   0, {{FLAGS, 4, NR_SPAWN_STDERR_APPEND}}},
    {"bad/spawn_mode",              "spawn_files",     0, {{STDERR_MODE, 2, 010000}}},
    {"bad/spawn_file_and_stdin",    "spawn_files",     0, {{FLAGS, 4, 0x788 | NR_SPAWN_STDIN}}},
    {"bad/spawn_file_and_stdout",   "spawn_files",     0, {{FLAGS, 4, 0x788 | NR_SPAWN_STDOUT}}},
    {"bad/spawn_file_and_stderr",   "spawn_files",     0, {{FLAGS, 4, 0x788 | NR_SPAWN_STDERR}}},
    {"bad/spawn_file_and_merge",    "spawn_files",     0, {{FLAGS, 4, 0x788 | NR_SPAWN_MERGE}}},
    {"bad/spawn_file_few",          "spawn_files",     0, {{ARGC, 4, 2}}},
    {"bad/spawn_settings_many",     "spawn_minimal",   0, {{SETTINGS, 2, 1}}},
    {"bad/spawn_settings_few",      "spawn_settings",  0, {{SETTINGS, 2, 6}}},
    {"bad/spawn_setting_unknown",   "spawn_settings",  0, {{UMASK, 4, 9}}},
    {"bad/spawn_setting_0",         "spawn_settings",  0, {{UMASK, 4, 0}}},
    {"bad/spawn_setting_twice",     "spawn_settings",  0, {{UMASK, 4, NR_SETTING_NO_NEW_PRIVS}, {UMASK + VALUE, 4, 0}}},
    {"bad/spawn_setting_which",     "spawn_settings",  0, {{UMASK + WHICH, 4, 1}}},
    {"bad/spawn_setting_hard",      "spawn_settings",  0, {{GROUP + HARD, 4, 1}}},
    {"bad/spawn_umask",             "spawn_settings",  0, {{UMASK + VALUE, 4, 01000}}},
    {"bad/spawn_nice",              "spawn_settings",  0, {{NICE + VALUE, 4, 20}, {NICE + VALUE + 4, 4, 0}}},
    {"bad/spawn_rlimit",            "spawn_settings",  0, {{RLIMIT + WHICH, 4, 16}}},
    {"bad/spawn_rlimit_above_hard", "spawn_settings",  0, {{RLIMIT + HARD, 4, 1023}, {RLIMIT + HARD + 4, 4, 0}}},
    {"bad/spawn_user_root",         "spawn_settings",  0, {{USER + VALUE, 4, 0}}},
    {"bad/spawn_user_minus_1",      "spawn_settings",  0, {{USER + VALUE, 4, UINT32_MAX}}},
    {"bad/spawn_user_wide",         "spawn_settings",  0, {{USER + VALUE + 4, 4, 1}}},
    {"bad/spawn_group_minus_1",     "spawn_settings",  0, {{GROUP + VALUE, 4, UINT32_MAX}}},
    {"bad/spawn_member_minus_1",    "spawn_settings",  0, {{MEMBER + VALUE, 4, UINT32_MAX}}},
    {"bad/spawn_user_no_group",     "spawn_settings",  0, {{GROUP, 4, NR_SETTING_MEMBER}}},
    {"bad/spawn_cgroup_files",      "spawn_minimal",   0, {{CGROUP_FILES, 2, 1}}},
    {"bad/spawn_cgroup_few",        "spawn_settings",  0, {{CGROUP_FILES, 2, 2}}},
    {"bad/spawn_cgroup_parent",     "spawn_settings",  0, {{CGROUP_PARENT, 1, 'x'}}},
    {"bad/spawn_cgroup_leaf",       "spawn_settings",  0, {{CGROUP_LEAF, 1, '.'}}},
    {"bad/spawn_cgroup_leaf_path",  "spawn_settings",  0, {{CGROUP_LEAF + 1, 1, '/'}}},
    {"bad/spawn_cgroup_file_path",  "spawn_settings",  0, {{CGROUP_FILE + 2, 1, '/'}}},
    {"bad/spawn_cgroup_file_none",  "spawn_settings",  0, {{CGROUP_FILE + 8, 1, 'x'}}},
    {"bad/spawn_nul_few",           "spawn_minimal",   0, {{ARGC, 4, 2}}},
    {"bad/spawn_nul_many",          "spawn_inline",    0, {{ENVC, 4, 2}}},
    {"bad/spawn_unterminated",      "spawn_minimal",   0, {{LAST_BYTE, 1, 'x'}}},
    {"bad/spawn_relative",          "spawn_minimal",   0, {{STRINGS, 1, 'x'}}},
    {"bad/spawn_strings_length",    "spawn_minimal",   0, {{STRINGS_LENGTH, 4, sizeof(small_strings) + 1}}},
    {"bad/spawn_counts_overflow",   "spawn_minimal",   0, {{ARGC, 4, UINT32_MAX}, {ENVC, 4, UINT32_MAX}}},
    {"bad/spawn_memfd_and_inline",  "spawn_minimal",   0, {{FLAGS, 4, NR_SPAWN_STRINGS}}},
};
/* clang-format on */

_Bool nr_golden_bad(unsigned index, struct nr_golden *golden)
{
    if (index >= sizeof(mutations) / sizeof(mutations[0]))
        return 0;

    const struct mutation *mutation = &mutations[index];
    for (unsigned i = 0; nr_golden_get(i, golden); i++)
        if (strcmp(golden->name, mutation->base) == 0)
            break;
    for (unsigned i = 0; i < 2; i++)
        memcpy(golden->bytes + mutation->patch[i].offset, &mutation->patch[i].value,
               mutation->patch[i].size);
    golden->name = mutation->name;
    golden->length = (size_t)((long)golden->length + mutation->grow);
    return 1;
}
