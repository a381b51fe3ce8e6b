/* See codec.h: pure encoding and decoding of frames. Must never do I/O or allocate. */
#include "codec.h"

#include <string.h>

int nr_codec_open(const void *bytes, size_t length, struct nr_frame *frame)
{
    struct nr_header header;
    *frame = (struct nr_frame){0};

    if (length < sizeof(header))
        return NR_FRAME_UNREADABLE;
    memcpy(&header, bytes, sizeof(header));
    if (header.magic != NR_WIRE_MAGIC || header.version != NR_WIRE_VERSION)
        return NR_FRAME_UNREADABLE;

    frame->type = header.type;
    frame->id = header.id;
    if (length > NR_WIRE_FRAME_MAX || header.length != length - sizeof(header))
        return NR_FRAME_MALFORMED;
    frame->payload = (const unsigned char *)bytes + sizeof(header);
    frame->length = header.length;
    return 0;
}

int nr_codec_payload(const struct nr_frame *frame, enum nr_frame_type type, void *payload,
                     size_t size)
{
    if (frame->type != type || frame->length != size)
        return NR_FRAME_MALFORMED;
    if (size > 0)
        memcpy(payload, frame->payload, size);
    return 0;
}

static unsigned files(const struct nr_spawn *spawn)
{
    return (unsigned)__builtin_popcount(spawn->flags & NR_SPAWN_FILES_ALL);
}

static unsigned cgroup_strings(const struct nr_spawn *spawn)
{
    return spawn->flags & NR_SPAWN_CGROUP ? 2U + spawn->cgroup_files : 0;
}

/* Both flags at once. */
static bool both(const struct nr_spawn *spawn, uint32_t one, uint32_t other)
{
    return (spawn->flags & one) && (spawn->flags & other);
}

/* What belongs to a file comes with one only. */
static bool file_valid(const struct nr_spawn *spawn, uint32_t file, uint32_t append, uint32_t mode)
{
    return spawn->flags & file ? mode <= 07777 : !(spawn->flags & append) && mode == 0;
}

static bool stdio_valid(const struct nr_spawn *spawn)
{
    return !both(spawn, NR_SPAWN_MERGE, NR_SPAWN_STDERR) &&
           !both(spawn, NR_SPAWN_MERGE, NR_SPAWN_STDERR_FILE) &&
           !both(spawn, NR_SPAWN_STDIN, NR_SPAWN_STDIN_FILE) &&
           !both(spawn, NR_SPAWN_STDOUT, NR_SPAWN_STDOUT_FILE) &&
           !both(spawn, NR_SPAWN_STDERR, NR_SPAWN_STDERR_FILE) &&
           file_valid(spawn, NR_SPAWN_STDOUT_FILE, NR_SPAWN_STDOUT_APPEND, spawn->stdout_mode) &&
           file_valid(spawn, NR_SPAWN_STDERR_FILE, NR_SPAWN_STDERR_APPEND, spawn->stderr_mode);
}

static bool cgroup_valid(const struct nr_spawn *spawn)
{
    return spawn->flags & NR_SPAWN_CGROUP ? spawn->cgroup_files <= NR_CGROUP_FILES_MAX
                                          : spawn->cgroup_files == 0;
}

static bool spawn_valid(const struct nr_spawn *spawn)
{
    uint64_t strings = nr_codec_spawn_strings(spawn);
    uint32_t most = spawn->flags & NR_SPAWN_STRINGS ? NR_WIRE_STRINGS_MAX : NR_WIRE_INLINE_MAX;

    if ((spawn->flags & ~NR_SPAWN_FLAGS_ALL) != 0)
        return false;
    if ((spawn->flags & NR_SPAWN_REST) &&
        (spawn->flags & (NR_SPAWN_KEEP | NR_SPAWN_CGROUP | NR_SPAWN_STRINGS)))
        return false;
    if (!stdio_valid(spawn) || !cgroup_valid(spawn) || spawn->settings > NR_SETTINGS_MAX)
        return false;
    if (spawn->stop_signal < 1 || spawn->stop_signal > 64 || spawn->argc < 1)
        return false;
    return spawn->strings_length <= most && strings <= spawn->strings_length;
}

static bool in_range(uint64_t value, int64_t least, int64_t most)
{
    int64_t number = (int64_t)value;
    return number >= least && number <= most;
}

/* A setting by itself. */
static bool setting_valid(const struct nr_setting *setting)
{
    bool simple = setting->which == 0 && setting->hard == 0;

    switch (setting->what) {
    case NR_SETTING_UMASK:
        return simple && setting->value <= 0777;
    case NR_SETTING_NICE:
        return simple && in_range(setting->value, -20, 19);
    case NR_SETTING_OOM_SCORE_ADJ:
        return simple && in_range(setting->value, -1000, 1000);
    case NR_SETTING_RLIMIT:
        return setting->which < NR_RLIMITS && setting->value <= setting->hard;
    case NR_SETTING_USER:
        return simple && setting->value >= 1 && setting->value < UINT32_MAX;
    case NR_SETTING_GROUP:
    case NR_SETTING_MEMBER:
        return simple && setting->value < UINT32_MAX;
    case NR_SETTING_NO_NEW_PRIVS:
        return simple && setting->value == 0;
    default:
        return false;
    }
}

static bool settings_valid(const struct nr_frame *frame, unsigned count)
{
    unsigned seen[NR_SETTING_NO_NEW_PRIVS + 1] = {0};
    unsigned limits[NR_RLIMITS] = {0};

    for (unsigned i = 0; i < count; i++) {
        struct nr_setting setting = nr_codec_setting(frame, i);
        if (!setting_valid(&setting))
            return false;
        if (setting.what == NR_SETTING_RLIMIT
                ? limits[setting.which]++ > 0
                : seen[setting.what]++ > 0 && setting.what != NR_SETTING_MEMBER)
            return false;
    }
    return seen[NR_SETTING_GROUP] || (!seen[NR_SETTING_USER] && !seen[NR_SETTING_MEMBER]);
}

/* No file but one right in the leaf, no leaf but one right in the parent. */
static bool is_name(const char *name, size_t length)
{
    return length > 0 && name[0] != '.' && memchr(name, '/', length) == NULL;
}

static bool cgroup_string_valid(uint64_t place, const char *string, size_t length)
{
    if (place == 0)
        return length > 0 && string[0] == '/';
    if (place == 1)
        return is_name(string, length);
    const char *equals = memchr(string, '=', length);
    return equals != NULL && is_name(string, (size_t)(equals - string));
}

bool nr_codec_strings_valid(const struct nr_spawn *spawn, const char *strings)
{
    uint64_t wanted = nr_codec_spawn_strings(spawn);
    uint64_t cgroup = 2U + files(spawn);
    uint64_t cgroup_end = cgroup + cgroup_strings(spawn);
    uint64_t found = 0;
    const char *at = strings;
    const char *end = strings + spawn->strings_length;

    if (spawn->strings_length == 0 || strings[0] != '/' || end[-1] != '\0')
        return false;
    while (at < end) {
        const char *nul = memchr(at, '\0', (size_t)(end - at));
        if (found >= cgroup && found < cgroup_end &&
            !cgroup_string_valid(found - cgroup, at, (size_t)(nul - at)))
            return false;
        found++;
        at = nul + 1;
    }
    return found == wanted;
}

int nr_codec_spawn(const struct nr_frame *frame, struct nr_spawn *spawn, const char **strings)
{
    *strings = NULL;
    *spawn = (struct nr_spawn){0};

    if (frame->type != NR_SPAWN || frame->length < sizeof(*spawn))
        return NR_FRAME_MALFORMED;
    memcpy(spawn, frame->payload, sizeof(*spawn));
    if (!spawn_valid(spawn))
        return NR_FRAME_MALFORMED;

    size_t settings = spawn->settings * sizeof(struct nr_setting);
    if (frame->length - sizeof(*spawn) < settings || !settings_valid(frame, spawn->settings))
        return NR_FRAME_MALFORMED;

    size_t follow = frame->length - sizeof(*spawn) - settings;
    if (spawn->flags & NR_SPAWN_STRINGS)
        return follow == 0 ? 0 : NR_FRAME_MALFORMED;
    if (follow != spawn->strings_length)
        return NR_FRAME_MALFORMED;

    const char *area = (const char *)frame->payload + sizeof(*spawn) + settings;
    if (!nr_codec_strings_valid(spawn, area))
        return NR_FRAME_MALFORMED;
    *strings = area;
    return 0;
}

struct nr_setting nr_codec_setting(const struct nr_frame *frame, unsigned place)
{
    struct nr_setting setting;
    memcpy(&setting, frame->payload + sizeof(struct nr_spawn) + place * sizeof(setting),
           sizeof(setting));
    return setting;
}

unsigned nr_codec_spawn_fds(uint32_t flags)
{
    unsigned carried = flags & (NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR | NR_SPAWN_CWD |
                                NR_SPAWN_PTY | NR_SPAWN_STRINGS);
    return 1U + (unsigned)__builtin_popcount(carried);
}

uint64_t nr_codec_spawn_strings(const struct nr_spawn *spawn)
{
    return 2U + files(spawn) + cgroup_strings(spawn) + (uint64_t)spawn->argc +
           (uint64_t)spawn->envc;
}

size_t nr_codec_write(void *out, size_t room, enum nr_frame_type type, uint64_t id,
                      const void *payload, size_t length)
{
    struct nr_header header = {
        .magic = NR_WIRE_MAGIC,
        .version = NR_WIRE_VERSION,
        .type = (uint8_t)type,
        .length = (uint32_t)length,
        .id = id,
    };

    if (length > NR_WIRE_FRAME_MAX - sizeof(header) || room < sizeof(header) + length)
        return 0;
    memcpy(out, &header, sizeof(header));
    if (length > 0)
        memcpy((unsigned char *)out + sizeof(header), payload, length);
    return sizeof(header) + length;
}
