/*
 * wire_verdict: the C codec as a filter, so that the Elixir side can be held to it. Reads frames from
 * standard input, each behind its length (four bytes, big-endian), and answers each in the same manner
 * with one line: "unreadable", "malformed", or the type, the id and the fields as numbers; a SPAWN's
 * settings follow as what:which:value:hard, then its inline strings in hexadecimal.
 */
#include "codec.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MOST ((size_t)1024 * 1024)

/* A payload as numbers: so many of 32 bits, then so many of 64. */
static const struct {
    enum nr_frame_type type;
    size_t size;
    unsigned narrow;
    unsigned wide;
} fixed[] = {
    {NR_HELLO, sizeof(struct nr_hello), 2, 0},
    {NR_REJECTED, sizeof(struct nr_rejected), 1, 0},
    {NR_ESCALATE, 0, 0, 0},
    {NR_STARTED, sizeof(struct nr_started), 3, 0},
    {NR_FAILED, sizeof(struct nr_failed), 3, 0},
    {NR_USAGE, sizeof(struct nr_usage), 0, 8},
    {NR_EXITED, sizeof(struct nr_exited), 4, 7},
    {NR_UNKILLABLE, sizeof(struct nr_unkillable), 1 + NR_UNKILLABLE_MAX, 0},
    {NR_KILL, sizeof(struct nr_kill), 2, 0},
    {NR_KILLED, sizeof(struct nr_killed), 1, 0},
    {NR_STOP, sizeof(struct nr_stop), 1, 0},
    {NR_HOLD, 0, 0, 0},
};

static void say_fixed(FILE *out, const struct nr_frame *frame, unsigned narrow, unsigned wide)
{
    unsigned char payload[128];
    const unsigned char *at = payload;

    if (nr_codec_payload(frame, (enum nr_frame_type)frame->type, payload, frame->length) != 0)
        abort();
    (void)fprintf(out, "%u %llu", frame->type, (unsigned long long)frame->id);
    for (unsigned i = 0; i < narrow; i++, at += sizeof(uint32_t)) {
        uint32_t number;
        memcpy(&number, at, sizeof(number));
        (void)fprintf(out, " %u", number);
    }
    for (unsigned i = 0; i < wide; i++, at += sizeof(uint64_t)) {
        uint64_t number;
        memcpy(&number, at, sizeof(number));
        (void)fprintf(out, " %llu", (unsigned long long)number);
    }
}

static bool fixed_verdict(FILE *out, const struct nr_frame *frame)
{
    unsigned char payload[128];
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (nr_codec_payload(frame, fixed[i].type, payload, fixed[i].size) == 0) {
            say_fixed(out, frame, fixed[i].narrow, fixed[i].wide);
            return true;
        }
    }
    return false;
}

static bool spawn_verdict(FILE *out, const struct nr_frame *frame)
{
    struct nr_spawn s;
    const char *strings;
    if (nr_codec_spawn(frame, &s, &strings) != 0)
        return false;
    (void)fprintf(out, "%u %llu %u %u %u %u %u %u %u %u %u %u %u ", frame->type,
                  (unsigned long long)frame->id, s.flags, s.stop_signal, s.kill_timeout_ms,
                  s.drain_timeout_ms, s.argc, s.envc, s.strings_length, s.stdout_mode,
                  s.stderr_mode, s.settings, s.cgroup_files);
    for (unsigned i = 0; i < s.settings; i++) {
        struct nr_setting setting = nr_codec_setting(frame, i);
        (void)fprintf(out, "%u:%u:%llu:%llu ", setting.what, setting.which,
                      (unsigned long long)setting.value, (unsigned long long)setting.hard);
    }
    for (uint32_t i = 0; strings != NULL && i < s.strings_length; i++)
        (void)fprintf(out, "%02x", (unsigned char)strings[i]);
    return true;
}

static void verdict(FILE *out, const void *bytes, size_t length)
{
    struct nr_frame frame;
    int r = nr_codec_open(bytes, length, &frame);
    if (r == NR_FRAME_UNREADABLE)
        (void)fputs("unreadable", out);
    else if (r != 0 || (!spawn_verdict(out, &frame) && !fixed_verdict(out, &frame)))
        (void)fputs("malformed", out);
}

static bool read_length(size_t *length)
{
    unsigned char bytes[4];
    if (fread(bytes, 1, sizeof(bytes), stdin) != sizeof(bytes))
        return false;
    *length = (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
    return true;
}

static void answer(const char *line, size_t length)
{
    unsigned char bytes[4] = {(unsigned char)(length >> 24), (unsigned char)(length >> 16),
                              (unsigned char)(length >> 8), (unsigned char)length};
    (void)fwrite(bytes, 1, sizeof(bytes), stdout);
    (void)fwrite(line, 1, length, stdout);
}

/* The frame is in memory of exactly its size: a sanitizer sees what reads beyond. */
int main(void)
{
    size_t length;
    while (read_length(&length)) {
        unsigned char *frame = malloc(length > 0 ? length : 1);
        char *line = NULL;
        size_t said = 0;
        FILE *out = open_memstream(&line, &said);
        if (length > FRAME_MOST || frame == NULL || out == NULL ||
            fread(frame, 1, length, stdin) != length)
            return 1;
        verdict(out, frame, length);
        (void)fclose(out);
        answer(line, said);
        (void)fflush(stdout);
        free(line);
        free(frame);
    }
    return 0;
}
