/*
 * A fuzzer's input, read from its beginning: each target makes a script of it and takes choices from
 * it one by one. A script that is used up goes on giving zeros, so that every input is a valid one.
 */
#ifndef NR_FUZZ_SCRIPT_H
#define NR_FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct nr_script {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t nr_script_byte(struct nr_script *script)
{
    if (script->left == 0)
        return 0;
    script->left--;
    return *script->at++;
}

static inline uint32_t nr_script_u16(struct nr_script *script)
{
    uint32_t low = nr_script_byte(script);
    return low | (uint32_t)nr_script_byte(script) << 8;
}

/* At most `wanted` of the bytes that follow; *given says how many. */
static inline const uint8_t *nr_script_bytes(struct nr_script *script, size_t wanted, size_t *given)
{
    const uint8_t *bytes = script->at;
    *given = wanted < script->left ? wanted : script->left;
    script->at += *given;
    script->left -= *given;
    return bytes;
}

#endif
