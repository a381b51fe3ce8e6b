/*
 * The golden frames: for each file in this folder its name and the frame it must hold, made by the C
 * codec from the values that README.md lists. Used by generate.c, which writes them, and by
 * test_codec.c, which holds the files to them.
 */
#ifndef NR_GOLDEN_H
#define NR_GOLDEN_H

#include <stddef.h>

struct nr_golden {
    const char *name; /* without ".bin" */
    size_t length;
    unsigned char bytes[512];
};

/* The frame number `index`; false past the last one. */
_Bool nr_golden_get(unsigned index, struct nr_golden *golden);

/* The same for the malformed frames in bad/. */
_Bool nr_golden_bad(unsigned index, struct nr_golden *golden);

#endif
