/* The codec: golden frames byte by byte, every malformed frame refused, no byte read past the end. */
#include "check_support.h"

#include "codec.h"
#include "golden.h"

#include <sys/mman.h>
#include <unistd.h>

static size_t read_file(const char *name, unsigned char *bytes, size_t room)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s.bin", NR_TEST_WIRE, name);
    FILE *file = fopen(path, "rbe");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    size_t length = fread(bytes, 1, room, file);
    (void)fclose(file);
    return length;
}

/* Decodes whatever the frame is. 0 if some decoder takes it. */
static int decode(const void *bytes, size_t length)
{
    struct nr_frame frame;
    struct nr_spawn spawn;
    const char *strings;
    unsigned char payload[128];

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

    int r = nr_codec_open(bytes, length, &frame);
    if (r != 0)
        return r;
    if (nr_codec_spawn(&frame, &spawn, &strings) == 0)
        return 0;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (nr_codec_payload(&frame, fixed[i].type, payload, fixed[i].size) == 0)
            return 0;
    return NR_FRAME_MALFORMED;
}

START_TEST(every_golden_file_is_what_the_codec_writes)
{
    struct nr_golden golden;
    unsigned char bytes[1024];
    unsigned i;
    for (i = 0; nr_golden_get(i, &golden); i++) {
        ck_assert_uint_gt(golden.length, 0);
        size_t length = read_file(golden.name, bytes, sizeof(bytes));
        ck_assert_msg(length == golden.length && memcmp(bytes, golden.bytes, length) == 0,
                      "%s.bin is not what the codec writes: run wire_generate, read the diff",
                      golden.name);
        ck_assert_msg(decode(bytes, length) == 0, "%s is refused", golden.name);
    }
    ck_assert_uint_gt(i, 20);
}
END_TEST

START_TEST(every_malformed_file_is_refused)
{
    struct nr_golden golden;
    unsigned char bytes[1024];
    for (unsigned i = 0; nr_golden_bad(i, &golden); i++) {
        size_t length = read_file(golden.name, bytes, sizeof(bytes));
        ck_assert_msg(length == golden.length && memcmp(bytes, golden.bytes, length) == 0,
                      "%s.bin is stale: run wire_generate", golden.name);
        ck_assert_msg(decode(bytes, length) != 0, "%s is accepted", golden.name);
    }
}
END_TEST

START_TEST(a_spawn_decodes_to_its_fields)
{
    struct nr_frame frame;
    struct nr_spawn spawn;
    const char *strings;
    unsigned char bytes[1024];
    size_t length = read_file("spawn_inline", bytes, sizeof(bytes));

    ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
    ck_assert_uint_eq(frame.id, 0x1122334455667788U);
    ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings), 0);
    ck_assert_uint_eq(spawn.flags, 0x400f);
    ck_assert_uint_eq(spawn.stop_signal, 15);
    ck_assert_uint_eq(spawn.kill_timeout_ms, 5000);
    ck_assert_uint_eq(spawn.drain_timeout_ms, 1000);
    ck_assert_uint_eq(spawn.argc, 3);
    ck_assert_uint_eq(spawn.envc, 3);
    ck_assert_str_eq(strings, "/bin/sh");
    ck_assert_str_eq(strings + 8, "/tmp");

    length = read_file("spawn_files", bytes, sizeof(bytes));
    ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
    ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings), 0);
    ck_assert_uint_eq(spawn.flags, 0x4788);
    ck_assert_uint_eq(spawn.stdout_mode, 0644);
    ck_assert_uint_eq(spawn.stderr_mode, 0600);
    ck_assert_uint_eq(nr_codec_spawn_strings(&spawn), 6);
    ck_assert_str_eq(strings + 10, "in");

    length = read_file("spawn_memfd", bytes, sizeof(bytes));
    ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
    ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings), 0);
    ck_assert_ptr_null(strings);
    ck_assert_uint_eq(spawn.strings_length, 70000);
}
END_TEST

START_TEST(settings_and_a_cgroup_decode_to_their_fields)
{
    struct nr_frame frame;
    struct nr_spawn spawn;
    const char *strings;
    unsigned char bytes[1024];
    size_t length = read_file("spawn_settings", bytes, sizeof(bytes));

    ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
    ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings), 0);
    ck_assert_uint_eq(spawn.flags, 0x3008);
    ck_assert_uint_eq(spawn.settings, 7);
    ck_assert_uint_eq(spawn.cgroup_files, 1);
    ck_assert_uint_eq(nr_codec_spawn_strings(&spawn), 6);
    ck_assert_str_eq(strings, "/bin/id");
    ck_assert_str_eq(strings + 9, "/sys/fs/cgroup/a");

    struct nr_setting nice = nr_codec_setting(&frame, 1);
    ck_assert_uint_eq(nice.what, NR_SETTING_NICE);
    ck_assert_int_eq((int64_t)nice.value, -5);
    struct nr_setting limit = nr_codec_setting(&frame, 2);
    ck_assert_uint_eq(limit.what, NR_SETTING_RLIMIT);
    ck_assert_uint_eq(limit.which, 7);
    ck_assert_uint_eq(limit.value, 1024);
    ck_assert_uint_eq(limit.hard, UINT64_MAX);
    ck_assert_uint_eq(nr_codec_setting(&frame, 6).what, NR_SETTING_NO_NEW_PRIVS);
}
END_TEST

/* With all settings and all inline strings that there may be. */
START_TEST(the_largest_spawn_fits)
{
    static unsigned char bytes[NR_WIRE_FRAME_MAX];
    static unsigned char payload[NR_WIRE_FRAME_MAX];
    struct nr_spawn spawn = {.stop_signal = 15, .argc = 1, .strings_length = NR_WIRE_INLINE_MAX};
    struct nr_setting setting = {.what = NR_SETTING_GROUP, .value = 1};
    struct nr_frame frame;
    const char *strings;

    for (unsigned count = NR_SETTINGS_MAX; count <= NR_SETTINGS_MAX + 1; count++) {
        size_t settings = count * sizeof(setting);
        spawn.settings = (uint16_t)count;
        memset(payload, 'a', sizeof(payload));
        memcpy(payload, &spawn, sizeof(spawn));
        setting.what = NR_SETTING_GROUP;
        for (unsigned i = 0; i < count; i++, setting.what = NR_SETTING_MEMBER)
            memcpy(payload + sizeof(spawn) + i * sizeof(setting), &setting, sizeof(setting));
        memcpy(payload + sizeof(spawn) + settings, "/x\0", 4);
        payload[sizeof(spawn) + settings + NR_WIRE_INLINE_MAX - 1] = '\0';
        size_t length = nr_codec_write(bytes, sizeof(bytes), NR_SPAWN, 1, payload,
                                       sizeof(spawn) + settings + NR_WIRE_INLINE_MAX);
        ck_assert_uint_gt(length, 0);
        ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
        ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings),
                         count == NR_SETTINGS_MAX ? 0 : NR_FRAME_MALFORMED);
    }
}
END_TEST

START_TEST(the_flags_say_how_many_descriptors_travel)
{
    ck_assert_uint_eq(nr_codec_spawn_fds(0), 1);
    ck_assert_uint_eq(nr_codec_spawn_fds(NR_SPAWN_MERGE | NR_SPAWN_KEEP), 1);
    ck_assert_uint_eq(nr_codec_spawn_fds(NR_SPAWN_FILES_ALL | NR_SPAWN_STDOUT_APPEND), 1);
    ck_assert_uint_eq(nr_codec_spawn_fds(NR_SPAWN_STDIN | NR_SPAWN_STDOUT), 3);
    ck_assert_uint_eq(nr_codec_spawn_fds(NR_SPAWN_FLAGS_ALL), NR_SPAWN_FDS_MAX);
}
END_TEST

START_TEST(the_id_survives_a_wrong_length_but_not_a_wrong_header)
{
    struct nr_frame frame;
    unsigned char bytes[1024];

    size_t length = read_file("bad/length_long", bytes, sizeof(bytes));
    ck_assert_int_eq(nr_codec_open(bytes, length, &frame), NR_FRAME_MALFORMED);
    ck_assert_uint_eq(frame.id, 9);
    ck_assert_uint_eq(frame.type, NR_STARTED);
    static const char *const unreadable[] = {"bad/empty", "bad/short_header", "bad/magic",
                                             "bad/version"};
    for (size_t i = 0; i < 4; i++) {
        length = read_file(unreadable[i], bytes, sizeof(bytes));
        ck_assert_int_eq(nr_codec_open(bytes, length, &frame), NR_FRAME_UNREADABLE);
        ck_assert_uint_eq(frame.id, 0);
    }
}
END_TEST

START_TEST(a_frame_that_does_not_fit_is_not_written)
{
    struct nr_killed killed = {0};
    unsigned char bytes[32];
    ck_assert_uint_eq(nr_codec_write(bytes, 20, NR_KILLED, 1, &killed, sizeof(killed)), 20);
    ck_assert_uint_eq(nr_codec_write(bytes, 19, NR_KILLED, 1, &killed, sizeof(killed)), 0);
    ck_assert_uint_eq(nr_codec_write(bytes, SIZE_MAX, NR_KILLED, 1, &killed, SIZE_MAX - 8), 0);
    ck_assert_uint_eq(nr_codec_write(bytes, 16, NR_ESCALATE, 1, NULL, 0), 16);
}
END_TEST

START_TEST(the_inline_limit_is_exact)
{
    static unsigned char bytes[NR_WIRE_FRAME_MAX + 4096];
    static unsigned char payload[NR_WIRE_FRAME_MAX];
    struct nr_spawn spawn = {.stop_signal = 15, .argc = 1};
    struct nr_frame frame;
    const char *strings;

    for (uint32_t size = NR_WIRE_INLINE_MAX; size <= NR_WIRE_INLINE_MAX + 1; size++) {
        spawn.strings_length = size;
        memset(payload, 'a', sizeof(payload));
        memcpy(payload, &spawn, sizeof(spawn));
        memcpy(payload + sizeof(spawn), "/x\0", 4); /* exe and an empty cd */
        payload[sizeof(spawn) + size - 1] = '\0';
        size_t length =
            nr_codec_write(bytes, sizeof(bytes), NR_SPAWN, 1, payload, sizeof(spawn) + size);
        ck_assert_uint_gt(length, 0);
        ck_assert_int_eq(nr_codec_open(bytes, length, &frame), 0);
        ck_assert_int_eq(nr_codec_spawn(&frame, &spawn, &strings),
                         size == NR_WIRE_INLINE_MAX ? 0 : NR_FRAME_MALFORMED);
    }
}
END_TEST

START_TEST(the_largest_frame_is_exact)
{
    static unsigned char bytes[NR_WIRE_FRAME_MAX + 1];
    struct nr_header header = {
        .magic = NR_WIRE_MAGIC, .version = NR_WIRE_VERSION, .type = NR_SPAWN};
    struct nr_frame frame;

    for (uint32_t length = NR_WIRE_FRAME_MAX; length <= sizeof(bytes); length++) {
        header.length = length - (uint32_t)sizeof(header);
        memcpy(bytes, &header, sizeof(header));
        ck_assert_int_eq(nr_codec_open(bytes, length, &frame),
                         length == NR_WIRE_FRAME_MAX ? 0 : NR_FRAME_MALFORMED);
    }
}
END_TEST

/* Before a byte of the memfd is looked at, and before memory is asked for. */
START_TEST(strings_in_a_memfd_have_limits_too)
{
    static const struct {
        uint32_t argc;
        uint32_t length;
        int result;
    } cases[] = {
        {1, NR_WIRE_STRINGS_MAX, 0},
        {1, NR_WIRE_STRINGS_MAX + 1, NR_FRAME_MALFORMED},
        {NR_WIRE_STRINGS_MAX - 2, NR_WIRE_STRINGS_MAX, 0},
        {NR_WIRE_STRINGS_MAX - 1, NR_WIRE_STRINGS_MAX, NR_FRAME_MALFORMED},
        {UINT32_MAX, NR_WIRE_STRINGS_MAX, NR_FRAME_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct nr_spawn spawn = {.flags = NR_SPAWN_STRINGS,
                                 .stop_signal = 15,
                                 .argc = cases[i].argc,
                                 .strings_length = cases[i].length};
        struct nr_frame frame = {
            .type = NR_SPAWN, .payload = (void *)&spawn, .length = sizeof(spawn)};
        struct nr_spawn decoded;
        const char *strings;
        ck_assert_int_eq(nr_codec_spawn(&frame, &decoded, &strings), cases[i].result);
    }
}
END_TEST

/* A frame that ends at the end of a page, the next one forbidden: a byte too far is a SIGSEGV. Cut
 * without and with a header that knows of it. */
START_TEST(nothing_is_read_past_the_end)
{
    struct nr_golden golden;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *pages =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(pages, MAP_FAILED);
    ck_assert_sys(mprotect(pages + page, page, PROT_NONE));

    for (unsigned bad = 0; bad < 2; bad++) {
        for (unsigned i = 0; bad ? nr_golden_bad(i, &golden) : nr_golden_get(i, &golden); i++) {
            for (size_t length = 0; length <= golden.length; length++) {
                unsigned char *at = pages + page - length;
                memcpy(at, golden.bytes, length);
                (void)decode(at, length);
                struct nr_header header;
                if (length < sizeof(header))
                    continue;
                memcpy(&header, at, sizeof(header));
                header.length = (uint32_t)(length - sizeof(header));
                memcpy(at, &header, sizeof(header));
                (void)decode(at, length);
            }
        }
    }
    (void)munmap(pages, 2 * page);
}
END_TEST

/* SPAWNs with random bytes changed, at the end of a page: whatever is accepted must be what it
 * says. */
START_TEST(changed_frames_are_refused_or_consistent)
{
    struct nr_golden golden;
    unsigned seed = getenv("NR_SEED") != NULL ? (unsigned)atoi(getenv("NR_SEED")) : 1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *pages =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(pages, MAP_FAILED);
    ck_assert_sys(mprotect(pages + page, page, PROT_NONE));
    printf("seed %u\n", seed);

    for (unsigned round = 0; round < 200000; round++) {
        ck_assert(nr_golden_get(2 + round % 6, &golden));
        unsigned char *at = pages + page - golden.length;
        memcpy(at, golden.bytes, golden.length);
        for (int change = rand_r(&seed) % 4; change >= 0; change--)
            at[(size_t)rand_r(&seed) % golden.length] = (unsigned char)rand_r(&seed);

        struct nr_frame frame;
        struct nr_spawn spawn;
        const char *strings;
        if (nr_codec_open(at, golden.length, &frame) != 0 ||
            nr_codec_spawn(&frame, &spawn, &strings) != 0)
            continue;
        ck_assert_uint_eq(spawn.flags & ~NR_SPAWN_FLAGS_ALL, 0);
        ck_assert_uint_ge(spawn.stop_signal, 1);
        ck_assert_uint_le(spawn.stop_signal, 64);
        ck_assert_uint_ge(spawn.argc, 1);
        if (strings == NULL)
            continue;
        ck_assert_ptr_eq((const unsigned char *)strings + spawn.strings_length, pages + page);
        const char *end = strings + spawn.strings_length;
        uint64_t count = 0;
        for (const char *s = strings; s < end; s += strlen(s) + 1)
            count++;
        ck_assert_uint_eq(count, nr_codec_spawn_strings(&spawn));
    }
    (void)munmap(pages, 2 * page);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");
    TCase *tcase = tcase_create("codec");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_golden_file_is_what_the_codec_writes);
    tcase_add_test(tcase, every_malformed_file_is_refused);
    tcase_add_test(tcase, a_spawn_decodes_to_its_fields);
    tcase_add_test(tcase, settings_and_a_cgroup_decode_to_their_fields);
    tcase_add_test(tcase, the_largest_spawn_fits);
    tcase_add_test(tcase, the_flags_say_how_many_descriptors_travel);
    tcase_add_test(tcase, the_id_survives_a_wrong_length_but_not_a_wrong_header);
    tcase_add_test(tcase, a_frame_that_does_not_fit_is_not_written);
    tcase_add_test(tcase, the_inline_limit_is_exact);
    tcase_add_test(tcase, the_largest_frame_is_exact);
    tcase_add_test(tcase, strings_in_a_memfd_have_limits_too);
    tcase_add_test(tcase, nothing_is_read_past_the_end);
    tcase_add_test(tcase, changed_frames_are_refused_or_consistent);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
