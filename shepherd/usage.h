/*
 * What a cgroup has used, read from its files. Called by cgroup.c at the end of a command. Every figure may be missing: the controller may not be there, the kernel may
 * be too old; then it is UINT64_MAX. Must never fail for one that is.
 */
#ifndef NR_USAGE_H
#define NR_USAGE_H

#include "protocol.h"

/* `folder`: the cgroup's directory. */
void nr_usage_read(int folder, struct nr_usage *usage);

/* The sum of the numbers that stand right behind `key` ("oom_kill ", "rbytes=", or "" for a lone number)
 * where a line or a word begins; UINT64_MAX if there is none. `length` bytes, whole lines, no NUL needed. */
uint64_t nr_usage_sum(const char *text, size_t length, const char *key);

#endif
