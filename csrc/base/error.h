/*
 * The error law of every C room in this project.
 *
 * A function that can fail returns int:
 *
 *     0          it worked;
 *    -errno      a system call failed; the number is forwarded unchanged, never translated, never
 *                printed (library code does not log);
 *    > 0         a named condition of that function, listed in its header, which the caller must
 *                handle. It is not a failure.
 *
 * Functions that give back a count or a descriptor return it as a value >= 0 and use the same
 * negative range for failures.
 */
#ifndef NR_BASE_ERROR_H
#define NR_BASE_ERROR_H

#include <errno.h>

/* The result of a call that returned -1, as the error law wants it. */
static inline int nr_errno(void)
{
    return errno > 0 ? -errno : -EIO;
}

#endif
