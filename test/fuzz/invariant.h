/*
 * What a target holds the product to, and how it tells. A broken invariant aborts: that is the crash
 * libFuzzer reports, with the input that led to it. With NR_FUZZ_TELL in the environment each step of
 * the simulated world is printed too: how to read a crash.
 */
#ifndef NR_FUZZ_INVARIANT_H
#define NR_FUZZ_INVARIANT_H

/* Prints the sentence and aborts. */
_Noreturn void nr_broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The sentence says what was seen instead of what must hold. */
#define INVARIANT(holds, ...)                                                                      \
    do {                                                                                           \
        if (!(holds))                                                                              \
            nr_broken(__VA_ARGS__);                                                                \
    } while (0)

/* Prints one step, if asked to. */
void nr_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
