/*
 * Arbitrary bytes to the codec, as every frame type of both directions. Whatever is accepted must be
 * what it says, lie inside the bytes given (the copy is exact: AddressSanitizer sees one too many),
 * and be written back to the same bytes.
 */
#include "codec.h"
#include "invariant.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    enum nr_frame_type type;
    size_t size;
} fixed[] = {
    {NR_HELLO, sizeof(struct nr_hello)},
    {NR_REJECTED, sizeof(struct nr_rejected)},
    {NR_ESCALATE, 0},
    {NR_STARTED, sizeof(struct nr_started)},
    {NR_FAILED, sizeof(struct nr_failed)},
    {NR_EXITED, sizeof(struct nr_exited)},
    {NR_UNKILLABLE, sizeof(struct nr_unkillable)},
    {NR_KILL, sizeof(struct nr_kill)},
    {NR_KILLED, sizeof(struct nr_killed)},
    {NR_STOP, sizeof(struct nr_stop)},
    {NR_HOLD, 0},
    {NR_USAGE, sizeof(struct nr_usage)},
};

static void written_back(const struct nr_frame *frame, const void *payload, const uint8_t *bytes,
                         size_t length)
{
    unsigned char *again = malloc(length);
    if (again == NULL)
        return;
    INVARIANT(nr_codec_write(again, length, frame->type, frame->id, payload, frame->length) ==
                      length &&
                  memcmp(again, bytes, length) == 0,
              "a frame of type %u is not written back to its bytes", frame->type);
    INVARIANT(nr_codec_write(again, length - 1, frame->type, frame->id, payload, frame->length) ==
                  0,
              "a frame of type %u is written into too little room", frame->type);
    free(again);
}

static void as_fixed(const struct nr_frame *frame, const uint8_t *bytes, size_t length)
{
    unsigned accepted = 0;

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        unsigned char *payload = malloc(fixed[i].size);
        if (payload == NULL && fixed[i].size > 0)
            return;
        if (nr_codec_payload(frame, fixed[i].type, payload, fixed[i].size) == 0) {
            accepted++;
            INVARIANT(frame->type == fixed[i].type && frame->length == fixed[i].size,
                      "type %u of %zu bytes is taken for type %u of %zu", frame->type,
                      frame->length, fixed[i].type, fixed[i].size);
            written_back(frame, payload, bytes, length);
        }
        free(payload);
    }
    INVARIANT(accepted <= 1, "one frame is taken for %u", accepted);
}

/* Counted another way. */
static uint64_t strings_promised(const struct nr_spawn *spawn)
{
    uint64_t count = 2 + (uint64_t)spawn->argc + spawn->envc;
    count += (spawn->flags & NR_SPAWN_STDIN_FILE) != 0;
    count += (spawn->flags & NR_SPAWN_STDOUT_FILE) != 0;
    count += (spawn->flags & NR_SPAWN_STDERR_FILE) != 0;
    if (spawn->flags & NR_SPAWN_CGROUP)
        count += 2U + spawn->cgroup_files;
    INVARIANT(nr_codec_spawn_strings(spawn) == count, "%llu strings, counted as %llu",
              (unsigned long long)count, (unsigned long long)nr_codec_spawn_strings(spawn));
    return count;
}

/* The strings once more. */
static void strings_hold(const struct nr_spawn *spawn, const char *strings)
{
    uint64_t nuls = 0;

    INVARIANT(strings[0] == '/', "the executable is no absolute path");
    INVARIANT(strings[spawn->strings_length - 1] == '\0', "the last string has no end");
    for (uint32_t i = 0; i < spawn->strings_length; i++)
        nuls += strings[i] == '\0';
    INVARIANT(nuls == strings_promised(spawn), "%llu strings, %llu promised",
              (unsigned long long)nuls, (unsigned long long)strings_promised(spawn));
}

/* A file has a mode of open(2) and may be appended to; without a file there is neither. */
static void file_holds(const struct nr_spawn *spawn, uint32_t given, uint32_t file, uint32_t append,
                       unsigned mode)
{
    INVARIANT(!(spawn->flags & file) || !(spawn->flags & given), "flags %#x: given and a file",
              spawn->flags);
    INVARIANT((spawn->flags & file) || (!(spawn->flags & append) && mode == 0),
              "flags %#x, mode %#o, and no file", spawn->flags, mode);
    INVARIANT(mode <= 07777, "mode %#o", mode);
}

/* Nobody becomes root, or anybody without groups being said. */
static void settings_hold(const struct nr_frame *frame, const struct nr_spawn *spawn)
{
    unsigned users = 0, groups = 0, members = 0;

    INVARIANT(spawn->settings <= NR_SETTINGS_MAX, "%u settings", spawn->settings);
    INVARIANT((spawn->flags & NR_SPAWN_CGROUP) || spawn->cgroup_files == 0, "files of no cgroup");
    for (unsigned i = 0; i < spawn->settings; i++) {
        struct nr_setting setting = nr_codec_setting(frame, i);
        users += setting.what == NR_SETTING_USER;
        groups += setting.what == NR_SETTING_GROUP;
        members += setting.what == NR_SETTING_MEMBER;
        INVARIANT(setting.what >= NR_SETTING_UMASK && setting.what <= NR_SETTING_NO_NEW_PRIVS,
                  "setting %u", setting.what);
        INVARIANT(setting.what != NR_SETTING_USER ||
                      (setting.value != 0 && setting.value < UINT32_MAX),
                  "user %llu", (unsigned long long)setting.value);
        INVARIANT(setting.what != NR_SETTING_RLIMIT || setting.which < NR_RLIMITS, "limit %u",
                  setting.which);
    }
    INVARIANT(users <= 1 && groups <= 1 && (groups == 1 || users + members == 0),
              "%u users, %u groups, %u members", users, groups, members);
}

static void as_spawn(const struct nr_frame *frame, const uint8_t *bytes, size_t length)
{
    struct nr_spawn spawn;
    const char *strings;

    if (nr_codec_spawn(frame, &spawn, &strings) != 0) {
        INVARIANT(strings == NULL, "a refused SPAWN has strings");
        return;
    }
    INVARIANT(frame->type == NR_SPAWN, "type %u is taken for a SPAWN", frame->type);
    INVARIANT((spawn.flags & ~NR_SPAWN_FLAGS_ALL) == 0, "flags %#x", spawn.flags);
    INVARIANT(!(spawn.flags & NR_SPAWN_MERGE) || !(spawn.flags & NR_SPAWN_STDERR),
              "stderr is merged and given");
    INVARIANT(spawn.stop_signal >= 1 && spawn.stop_signal <= 64, "stop_signal %u",
              spawn.stop_signal);
    INVARIANT(spawn.argc >= 1, "no argv[0]");
    INVARIANT(strings_promised(&spawn) <= spawn.strings_length, "%llu strings in %u bytes",
              (unsigned long long)strings_promised(&spawn), spawn.strings_length);
    file_holds(&spawn, NR_SPAWN_STDIN, NR_SPAWN_STDIN_FILE, 0, 0);
    file_holds(&spawn, NR_SPAWN_STDOUT, NR_SPAWN_STDOUT_FILE, NR_SPAWN_STDOUT_APPEND,
               spawn.stdout_mode);
    file_holds(&spawn, NR_SPAWN_STDERR | NR_SPAWN_MERGE, NR_SPAWN_STDERR_FILE,
               NR_SPAWN_STDERR_APPEND, spawn.stderr_mode);
    settings_hold(frame, &spawn);
    unsigned fds = nr_codec_spawn_fds(spawn.flags);
    INVARIANT(fds >= 1 && fds <= NR_SPAWN_FDS_MAX, "%u descriptors", fds);

    if (spawn.flags & NR_SPAWN_STRINGS) {
        INVARIANT(strings == NULL &&
                      frame->length == sizeof(spawn) + spawn.settings * sizeof(struct nr_setting),
                  "strings in the frame and in a memfd");
        INVARIANT(spawn.strings_length <= NR_WIRE_STRINGS_MAX, "%u bytes of strings",
                  spawn.strings_length);
    } else {
        const char *end = (const char *)bytes + length;
        INVARIANT(strings > (const char *)bytes && strings + spawn.strings_length == end,
                  "the strings do not end with the frame");
        strings_hold(&spawn, strings);
    }
    written_back(frame, frame->payload, bytes, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nr_frame frame;
    uint8_t *bytes = malloc(size > 0 ? size : 1);

    if (bytes == NULL)
        return 0;
    if (size > 0)
        memcpy(bytes, data, size);

    int r = nr_codec_open(bytes, size, &frame);
    if (r == 0) {
        INVARIANT(frame.payload == bytes + sizeof(struct nr_header) &&
                      frame.length == size - sizeof(struct nr_header),
                  "the payload is not what follows the header");
        as_fixed(&frame, bytes, size);
        as_spawn(&frame, bytes, size);
    } else {
        INVARIANT(r == NR_FRAME_UNREADABLE || r == NR_FRAME_MALFORMED, "result %d", r);
        INVARIANT(frame.payload == NULL && frame.length == 0, "a refused frame has a payload");
        INVARIANT(r == NR_FRAME_MALFORMED || (frame.id == 0 && frame.type == 0),
                  "an unreadable header is believed");
    }
    free(bytes);
    return 0;
}
