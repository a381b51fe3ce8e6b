/*
 * Arbitrary text to the reader of cassettes. Each event that it gives has its bytes (AddressSanitizer sees one too many) and
 * is within what cassette.h promises; no more comes out than went in. What was read, written down again, is read as the
 * same events: text and base64 mean the same bytes. What is refused has a reason and a line.
 */
#include "cassette.h"
#include "invariant.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_end(const struct nr_event *event)
{
    return event->kind == NR_EVENT_EXIT || event->kind == NR_EVENT_SIGNAL;
}

static bool has_bytes(const struct nr_event *event)
{
    return !event->summed && (event->kind == NR_EVENT_STDIN || event->kind == NR_EVENT_STDOUT ||
                              event->kind == NR_EVENT_STDERR);
}

static void event_holds(const struct nr_event *event, unsigned last_line, size_t size)
{
    INVARIANT(event->line > last_line && event->line <= size, "line %u after %u of %zu bytes",
              event->line, last_line, size);
    INVARIANT(!event->stopped || is_end(event), "kind %d has stopped", event->kind);
    INVARIANT(!event->summed || event->kind == NR_EVENT_STDIN, "kind %d is summed", event->kind);
    INVARIANT(event->summed || event->crc == 0, "a sum of bytes that are there");
    INVARIANT(event->kind != NR_EVENT_EXIT || (event->number >= 0 && event->number <= 255),
              "exit code %d", event->number);
    INVARIANT(event->kind != NR_EVENT_SIGNAL || (event->number >= 1 && event->number <= 64),
              "signal %d", event->number);
    INVARIANT(is_end(event) || event->number == 0, "kind %d has number %d", event->kind,
              event->number);
    INVARIANT(event->summed || event->size <= size, "%zu bytes from %zu", event->size, size);
    INVARIANT(event->size == 0 || event->summed || has_bytes(event), "kind %d has bytes",
              event->kind);
}

/* ---- written down again -------------------------------------------------------------------------- */

static void write_text(FILE *file, const unsigned char *bytes, size_t size)
{
    (void)fputs("  \"", file);
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < ' ' || bytes[i] == '"' || bytes[i] == '\\' || bytes[i] > '~')
            (void)fprintf(file, "\\x%02X", bytes[i]);
        else
            (void)fputc(bytes[i], file);
    }
    (void)fputs("\"\n", file);
}

static void write_base64(FILE *file, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (void)fputs("  base64 ", file);
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= left > 2 ? bytes[i + 2] : 0;
        (void)fputc(digits[group >> 18], file);
        (void)fputc(digits[group >> 12 & 63], file);
        (void)fputc(left > 1 ? digits[group >> 6 & 63] : '=', file);
        (void)fputc(left > 2 ? digits[group & 63] : '=', file);
    }
    (void)fputc('\n', file);
}

/* The first half as text, the second as base64. */
static void write_bytes(FILE *file, const unsigned char *bytes, size_t size)
{
    (void)fputc('\n', file);
    if (size > 0)
        write_text(file, bytes, size / 2);
    if (size > 0)
        write_base64(file, bytes + size / 2, size - size / 2);
}

static void write_event(FILE *file, const struct nr_event *event, const unsigned char *bytes)
{
    static const char *const words[] = {
        [NR_EVENT_STDIN] = "stdin",   [NR_EVENT_STDIN_END] = "stdin end",
        [NR_EVENT_STDOUT] = "stdout", [NR_EVENT_STDERR] = "stderr",
        [NR_EVENT_EXIT] = "exit",     [NR_EVENT_SIGNAL] = "signal",
    };
    (void)fprintf(file, "at %" PRIu64 " %s%s", event->at_us, event->stopped ? "stopped " : "",
                  words[event->kind]);
    if (has_bytes(event))
        write_bytes(file, bytes, event->size);
    else if (event->summed)
        (void)fprintf(file, " %zu crc32 %08" PRIx32 "\n", event->size, event->crc);
    else if (is_end(event))
        (void)fprintf(file, " %d (its name)\n", event->number);
    else
        (void)fputc('\n', file);
}

/* ---- read ---------------------------------------------------------------------------------------- */

static void same_event(const struct nr_event *event, const struct nr_event *again)
{
    INVARIANT(event->kind == again->kind && event->at_us == again->at_us &&
                  event->size == again->size && event->summed == again->summed &&
                  event->crc == again->crc && event->number == again->number &&
                  event->stopped == again->stopped,
              "kind %d at %" PRIu64 " is read again as kind %d at %" PRIu64, event->kind,
              event->at_us, again->kind, again->at_us);
}

/* One event, as the only one but an end, is what it was. */
static void is_read_again(const struct nr_event *event, const unsigned char *bytes)
{
    struct nr_cassette cassette;
    struct nr_event again;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return;
    (void)fputs("net_runner cassette 1\n", out);
    write_event(out, event, bytes);
    if (!is_end(event))
        (void)fputs("at 0 exit 0\n", out);
    (void)fclose(out);

    FILE *in = fmemopen(text, size, "r");
    nr_cassette_init(&cassette, in);
    int r = in == NULL ? -1 : nr_cassette_next(&cassette, &again);
    if (r >= 0) {
        INVARIANT(r == 0, "line %u of what was written: %s", cassette.wrong_line, cassette.wrong);
        same_event(event, &again);
        INVARIANT(!has_bytes(event) || event->size == 0 ||
                      memcmp(bytes, cassette.bytes, event->size) == 0,
                  "other bytes are read again");
    }
    nr_cassette_free(&cassette);
    if (in != NULL)
        (void)fclose(in);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nr_cassette cassette;
    struct nr_event event = {.kind = NR_EVENT_STDIN};
    unsigned last_line = 1;
    size_t all = 0;
    int r;
    FILE *file = size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
    if (file == NULL)
        return 0;

    nr_cassette_init(&cassette, file);
    while ((r = nr_cassette_next(&cassette, &event)) == 0) {
        nr_tell("line %u: kind %d, %zu bytes", event.line, event.kind, event.size);
        event_holds(&event, last_line, size);
        last_line = event.line;
        if (has_bytes(&event))
            all += event.size;
        INVARIANT(all <= size, "%zu bytes from %zu", all, size);
        is_read_again(&event, cassette.bytes);
        if (is_end(&event))
            break;
    }
    INVARIANT(r >= 0, "result %d", r);
    INVARIANT(r == 0 || (cassette.wrong != NULL && cassette.wrong_line >= 1 &&
                         cassette.wrong_line <= size + 1),
              "refused without a reason, or at line %u", cassette.wrong_line);
    nr_cassette_free(&cassette);
    (void)fclose(file);
    return 0;
}
