/*
 * The system-call seam of the failing builds: the shepherd and the NIF once more, linked with
 * --wrap, so that a test picks one kind of call, in one role, and lets the n-th of it fail. What is to
 * fail stands in a page of memory that the test and the program share through a file named in
 * NR_FAILING: a program that serves many requests is told anew before each. Never part of the product.
 */
#ifndef NR_FAILING_H
#define NR_FAILING_H

#include <stdbool.h>
#include <stdint.h>

#define FAILING_FILE "NR_FAILING"

/* Little-endian, no padding: the Elixir tests write it, too. */
struct failing {
    _Atomic uint32_t first; /* calls from this one on fail; 0: none does, and nothing is counted */
    _Atomic uint32_t last;  /* and up to this one */
    _Atomic uint32_t error;
    _Atomic uint32_t seen;      /* calls of this kind since it was armed */
    _Atomic uint32_t failed;    /* how many of them failed */
    _Atomic uint32_t strangers; /* signals to everybody, or to somebody who is no child */
    char role[16];
    char call[32]; /* its name, or several with commas between */
};
_Static_assert(sizeof(struct failing) == 72, "the Elixir tests write it by hand");

/* The page of the file, made if need be. NULL: it cannot be had. */
struct failing *failing_open(const char *path);

/* Lets the calls first..last of this kind fail. */
void failing_arm(struct failing *failing, const char *role, const char *call, uint32_t first,
                 uint32_t last, int error);
void failing_disarm(struct failing *failing);

/* ---- for the wrapped calls ---- */

/* Who this process is; a fork may change it. */
extern const char *failing_role;

/* Whether this call is to fail; errno is set then. */
bool failing_now(const char *call);
/* The same as a number: 0 or -errno. */
int failing_error(const char *call);
void failing_note_stranger(void);

/*
 * FAILING_CALL(type, refusal, name, (parameters), (arguments)) defines the wrapper of one call, for
 * the linker's --wrap=name.
 */
#define FAILING_CALL(type, refusal, name, parameters, arguments)                                   \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return failing_now(#name) ? (refusal) : __real_##name arguments;                           \
    }

#endif
