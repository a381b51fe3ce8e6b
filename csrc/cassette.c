/* See cassette.h: lines, then what stands in them. */
#include "cassette.h"

#include "base/error.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

void nr_cassette_init(struct nr_cassette *cassette, FILE *file)
{
    *cassette = (struct nr_cassette){.file = file};
}

void nr_cassette_free(struct nr_cassette *cassette)
{
    free(cassette->bytes);
    free(cassette->text);
    *cassette = (struct nr_cassette){.file = cassette->file};
}

uint32_t nr_crc32(uint32_t before, const unsigned char *bytes, size_t size)
{
    uint32_t crc = ~before;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320U & (0U - (crc & 1U)));
    }
    return ~crc;
}

static int wrong(struct nr_cassette *cassette, const char *what)
{
    cassette->wrong = what;
    cassette->wrong_line = cassette->line;
    return NR_CASSETTE_WRONG;
}

/* ---- lines --------------------------------------------------------------------------------------- */

/* The next line, without its end, in `text`. 0, -errno, or NR_CASSETTE_WRONG at the end of the file. */
static int next_line(struct nr_cassette *cassette)
{
    if (cassette->held) {
        cassette->held = false;
        return 0;
    }
    errno = 0;
    ssize_t size = getline(&cassette->text, &cassette->text_capacity, cassette->file);
    if (size < 0 && !feof(cassette->file))
        return nr_errno();
    cassette->line++;
    if (size < 0)
        return wrong(cassette, "it has no end");
    if (strlen(cassette->text) != (size_t)size)
        return wrong(cassette, "a NUL");
    if (cassette->text[size - 1] != '\n')
        return wrong(cassette, "the line has no end");
    cassette->text[size - 1] = '\0';
    return 0;
}

static bool is_nothing(const char *text)
{
    return *text == '\0' || *text == '#';
}

/* Whether it begins with the word, which is then behind *text. */
static bool took(const char **text, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(*text, word, size) != 0)
        return false;
    *text += size;
    return true;
}

static bool took_number(const char **text, uint64_t most, uint64_t *number)
{
    if (!isdigit((unsigned char)**text))
        return false;
    for (*number = 0; isdigit((unsigned char)**text); (*text)++) {
        uint64_t digit = (uint64_t)(**text - '0');
        if (*number > (most - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- bytes --------------------------------------------------------------------------------------- */

/* Room for as many more. 0 or -errno. */
static int reserve(struct nr_cassette *cassette, size_t used, size_t more)
{
    if (cassette->capacity - used >= more)
        return 0;
    size_t capacity = cassette->capacity > more ? cassette->capacity * 2 : used + more;
    unsigned char *bytes = realloc(cassette->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    cassette->bytes = bytes;
    cassette->capacity = capacity;
    return 0;
}

/* One character behind a backslash: its byte, or -1. */
static int escaped(const char **text)
{
    static const char letters[] = "nrte\"\\";
    static const char meant[] = "\n\r\t\033\"\\";
    char letter = *(*text)++;
    const char *found = letter == '\0' ? NULL : strchr(letters, letter);
    if (found != NULL)
        return meant[found - letters];
    if (letter != 'x')
        return -1;
    int high = hex_digit((*text)[0]);
    int low = high < 0 ? -1 : hex_digit((*text)[1]);
    *text += 2;
    return low < 0 ? -1 : high * 16 + low;
}

/* The rest of a line "..." , of which there is room for. 0 or NR_CASSETTE_WRONG. */
static int add_text(struct nr_cassette *cassette, const char *text, size_t *size)
{
    while (*text != '"') {
        int byte = (unsigned char)*text++;
        if (byte == '\\')
            byte = escaped(&text);
        if (byte < 0)
            return wrong(cassette, "no such escape");
        if (byte == '\0' && text[-1] == '\0')
            return wrong(cassette, "a text without its \"");
        cassette->bytes[(*size)++] = (unsigned char)byte;
    }
    return text[1] == '\0' ? 0 : wrong(cassette, "something behind a text");
}

/* As add_text. */
static int add_base64(struct nr_cassette *cassette, const char *text, size_t *size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = strlen(text);
    size_t padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    if (length == 0 || length % 4 != 0)
        return wrong(cassette, "no base64");
    uint32_t group = 0;
    for (size_t i = 0; i < length; i++) {
        const char *found = i < length - padding ? strchr(digits, text[i]) : digits;
        if (found == NULL)
            return wrong(cassette, "no base64");
        group = group << 6 | (uint32_t)(found - digits);
        if (i % 4 < 3)
            continue;
        size_t bytes = i + 1 == length ? 3 - padding : 3;
        for (size_t byte = 0; byte < bytes; byte++)
            cassette->bytes[(*size)++] = (unsigned char)(group >> (16 - 8 * byte));
    }
    return 0;
}

/* The lines of bytes that follow. 0, -errno or NR_CASSETTE_WRONG. */
static int read_bytes(struct nr_cassette *cassette, size_t *size)
{
    for (*size = 0;;) {
        int r = next_line(cassette);
        if (r != 0)
            return r;
        const char *text = cassette->text;
        if (is_nothing(text))
            continue;
        if (!took(&text, "  ")) {
            cassette->held = true;
            return 0;
        }
        r = reserve(cassette, *size, strlen(text));
        if (r == 0 && took(&text, "\""))
            r = add_text(cassette, text, size);
        else if (r == 0 && took(&text, "base64 "))
            r = add_base64(cassette, text, size);
        else if (r == 0)
            r = wrong(cassette, "neither a text nor base64");
        if (r != 0)
            return r;
    }
}

/* ---- events -------------------------------------------------------------------------------------- */

/* Of stdin what stands behind that word. */
static int read_stdin(struct nr_cassette *cassette, const char *text, struct nr_event *event)
{
    uint64_t number;
    event->kind = NR_EVENT_STDIN;
    if (*text == '\0')
        return read_bytes(cassette, &event->size);
    if (strcmp(text, " end") == 0) {
        event->kind = NR_EVENT_STDIN_END;
        return 0;
    }
    if (!took(&text, " ") || !took_number(&text, SIZE_MAX, &number) || !took(&text, " crc32 "))
        return wrong(cassette, "no such event");
    event->size = (size_t)number;
    event->summed = true;
    for (int i = 0; i < 8; i++, text++) {
        int digit = hex_digit(*text);
        if (digit < 0)
            return wrong(cassette, "crc32 needs eight digits");
        event->crc = event->crc << 4 | (uint32_t)digit;
    }
    return *text == '\0' ? 0 : wrong(cassette, "crc32 needs eight digits");
}

static int read_end(struct nr_cassette *cassette, const char *text, struct nr_event *event)
{
    uint64_t number;
    event->stopped = took(&text, "stopped ");
    bool exits = took(&text, "exit ");
    if (!exits && !took(&text, "signal "))
        return wrong(cassette, "no such event");
    event->kind = exits ? NR_EVENT_EXIT : NR_EVENT_SIGNAL;
    if (!took_number(&text, exits ? 255 : 64, &number) || (!exits && number == 0))
        return wrong(cassette, "no such exit code or signal");
    event->number = (int)number;
    if (*text != '\0' && (!took(&text, " (") || strcspn(text, ")") + 1 != strlen(text)))
        return wrong(cassette, "something behind the end");
    return 0;
}

static int read_event(struct nr_cassette *cassette, const char *text, struct nr_event *event)
{
    *event = (struct nr_event){.line = cassette->line};
    if (!took_number(&text, UINT64_MAX, &event->at_us) || !took(&text, " "))
        return wrong(cassette, "no such time");
    if (took(&text, "stdin"))
        return read_stdin(cassette, text, event);
    event->kind = NR_EVENT_STDOUT;
    if (strcmp(text, "stdout") == 0)
        return read_bytes(cassette, &event->size);
    event->kind = NR_EVENT_STDERR;
    if (strcmp(text, "stderr") == 0)
        return read_bytes(cassette, &event->size);
    return read_end(cassette, text, event);
}

static int begin(struct nr_cassette *cassette)
{
    int r = next_line(cassette);
    if (r < 0)
        return r;
    if (r > 0 || strcmp(cassette->text, "net_runner cassette 1") != 0) {
        cassette->line = 1;
        return wrong(cassette, "its first line is not: net_runner cassette 1");
    }
    cassette->begun = true;
    return 0;
}

int nr_cassette_next(struct nr_cassette *cassette, struct nr_event *event)
{
    if (!cassette->begun) {
        int r = begin(cassette);
        if (r != 0)
            return r;
    }
    for (;;) {
        int r = next_line(cassette);
        if (r != 0)
            return r;
        const char *text = cassette->text;
        if (took(&text, "at "))
            return read_event(cassette, text, event);
        if (!is_nothing(text) && !took(&text, "command ") && !took(&text, "cd ") &&
            !took(&text, "env ") && !took(&text, "unset "))
            return wrong(cassette, "no such line");
    }
}
