/*
 * A cassette: how one command went, as text that people read, compare and edit. lib/net_runner/replay/cassette.ex
 * writes and checks it, and says what each line means to a user; this room reads it for the program `replay`, one
 * event after the other. Single thread. It never prints.
 *
 *     net_runner cassette 1                 the first line
 *     command "git" "log"                   what was run; cd, env and unset stand there, too. Not looked at here
 *     at 0 stdin end                        microseconds since the start, and what was: stdin had ended,
 *     at 120 stdin                          it was given these bytes,
 *       "yes\n"                               a line of bytes: text, with \n \r \t \e \" \\ and \xHH,
 *       base64 AP8=                           or any bytes
 *     at 130 stdin 70000 crc32 1c291ca3     these, of which only that is known,
 *     at 812 stdout                         it wrote these bytes (or stderr)
 *       "a\n"
 *     at 950 exit 0                         it ended. Or: signal 15; behind both may stand a name in parentheses.
 *                                           Or: stopped exit 0, stopped signal 15: it ran until it was told to end
 *
 * The last event is an end, nothing follows it. Empty lines, and those that begin with #, are nothing.
 */
#ifndef NR_CASSETTE_H
#define NR_CASSETTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum nr_event_kind {
    NR_EVENT_STDIN,
    NR_EVENT_STDIN_END,
    NR_EVENT_STDOUT,
    NR_EVENT_STDERR,
    NR_EVENT_EXIT,
    NR_EVENT_SIGNAL
};

struct nr_event {
    enum nr_event_kind kind;
    uint64_t at_us;
    size_t size;   /* STDIN, STDOUT, STDERR: how many bytes */
    bool summed;   /* STDIN: the bytes are not there, only ... */
    uint32_t crc;  /* ... what nr_crc32 gives of them */
    int number;    /* EXIT: 0..255; SIGNAL: 1..64 */
    bool stopped;  /* EXIT, SIGNAL: it would have gone on */
    unsigned line; /* where it stands */
};

struct nr_cassette {
    FILE *file;           /* borrowed */
    unsigned char *bytes; /* those of the event that was read last */
    const char *wrong;    /* a static text, and ... */
    unsigned wrong_line;  /* ... where */

    size_t capacity;
    char *text; /* a line, as getline(3) keeps it */
    size_t text_capacity;
    unsigned line;
    bool held; /* `text` is the line to be read next */
    bool begun;
};

/* nr_cassette_next: this is no cassette; see wrong and wrong_line. */
#define NR_CASSETTE_WRONG 1

/* For a cassette that nothing was read of. The file is the caller's, and is read to its end at most. */
void nr_cassette_init(struct nr_cassette *cassette, FILE *file);

/* Also of one of which nothing was read. */
void nr_cassette_free(struct nr_cassette *cassette);

/* The next event; the one before it has no bytes any more. Not to be called behind an end. 0, -errno or
 * NR_CASSETTE_WRONG. */
int nr_cassette_next(struct nr_cassette *cassette, struct nr_event *event);

/* CRC-32 as zlib and erlang:crc32/1 have it, of bytes behind others whose sum is `before`; 0 for none. */
uint32_t nr_crc32(uint32_t before, const unsigned char *bytes, size_t size);

#endif
