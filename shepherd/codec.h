/*
 * Frames to bytes and back: the C half of the wire format in protocol.h (NetRunner.Protocol is the
 * other). Pure: no system call, no allocation, no state. Called by zygote and guardian with whatever
 * a socket gave them, and by the tests with the golden frames of test/wire/; it must never read
 * beyond the length it was given, nor believe a field before its bounds were checked.
 */
#ifndef NR_CODEC_H
#define NR_CODEC_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The named conditions of decoding. */
#define NR_FRAME_UNREADABLE 1 /* no header of ours: not even the id can be believed */
#define NR_FRAME_MALFORMED  2 /* the header (and its id) is fine, the rest is not */

struct nr_frame {
    uint8_t type;
    uint64_t id;
    const unsigned char *payload; /* borrowed from the bytes given */
    size_t length;
};

/* Splits one message into header and payload. 0, NR_FRAME_UNREADABLE, or NR_FRAME_MALFORMED (the
 * length does not match: type and id are set). */
int nr_codec_open(const void *bytes, size_t length, struct nr_frame *frame);

/* Copies a payload of fixed size. 0, or NR_FRAME_MALFORMED when type or size differ. */
int nr_codec_payload(const struct nr_frame *frame, enum nr_frame_type type, void *payload,
                     size_t size);

/* Decodes and checks a SPAWN: known flags, ranges, lengths, settings, and (when inline) the strings area,
 * at which *strings then points. *strings is NULL when a memfd carries them. 0 or NR_FRAME_MALFORMED. */
int nr_codec_spawn(const struct nr_frame *frame, struct nr_spawn *spawn, const char **strings);

/* The setting in this place (< spawn.settings) of a SPAWN that nr_codec_spawn took. */
struct nr_setting nr_codec_setting(const struct nr_frame *frame, unsigned place);

/* How many descriptors a SPAWN with these flags carries, the control socket included. */
unsigned nr_codec_spawn_fds(uint32_t flags);

/* How many strings a SPAWN carries: exe, cd, files, the cgroup's, argv, env. */
uint64_t nr_codec_spawn_strings(const struct nr_spawn *spawn);

/* Whether the strings area is what the counts in `spawn` promise, exe is an absolute path and the cgroup's
 * strings are what they must be. */
bool nr_codec_strings_valid(const struct nr_spawn *spawn, const char *strings);

/* Writes header and payload to `out`. The bytes written, or 0 if they do not fit in `room`. */
size_t nr_codec_write(void *out, size_t room, enum nr_frame_type type, uint64_t id,
                      const void *payload, size_t length);

#endif
