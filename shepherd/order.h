/*
 * One order: what a SPAWN asks for and the descriptors it brought, as one owned value. Made by the
 * zygote from a message it checked, handed to the guardian by fork, used up by exec.c.
 */
#ifndef NR_ORDER_H
#define NR_ORDER_H

#include "cgroup.h"
#include "channel.h"
#include "codec.h"
#include "sys.h"

#include <limits.h>

struct nr_order {
    uint64_t id;
    struct nr_spawn spawn;
    int control;
    int stdio[3]; /* -EBADF: a file of the strings, or /dev/null */
    int cwd;      /* -EBADF: stay where we are */
    int pty;      /* a terminal's slave; -EBADF: none */
    int strings_fd;
    struct nr_frame frame; /* with the settings (borrowed from the request's buffer) */
    int oom_score_adj;     /* that the command gets back; NR_OOM_UNCHANGED: as its guardian's */
    const char *strings;   /* inline strings (borrowed from the request's buffer), or once loaded */
    struct nr_cgroup_claim *claim; /* on the leaf, if it wants one (borrowed from the zygote) */
    int cgroup; /* the leaf's directory, once there is one (borrowed from the guardian) */
};

#define NR_ORDER_NONE                                                                              \
    ((struct nr_order){.control = -EBADF,                                                          \
                       .stdio = {-EBADF, -EBADF, -EBADF},                                          \
                       .cwd = -EBADF,                                                              \
                       .pty = -EBADF,                                                              \
                       .strings_fd = -EBADF,                                                       \
                       .oom_score_adj = NR_OOM_UNCHANGED,                                          \
                       .cgroup = -EBADF})

/* What execve(2) wants, built from the strings. */
struct nr_program {
    const char *exe;
    const char *cd;                                /* "": none */
    const char *files[3];                          /* stdin's, stdout's, stderr's; NULL: none */
    const char *cgroup_files[NR_CGROUP_FILES_MAX]; /* "file=content", as many as the order says */
    char **argv;
    char **envp;
};

/* Makes an order of a SPAWN frame and takes the message's descriptors. 0, or -errno to reject it
 * with: -EBADMSG (anything malformed), -EMFILE (descriptors were lost for want of room), -ENOTSOCK.
 * On failure *order is empty; what is left in the message is its holder's to close. */
int nr_order_take(struct nr_order *order, const struct nr_frame *frame, struct nr_message *message);

/* The same for a guardian that rests, whose control socket brought the frame and is the order's: the message has one
 * descriptor less. On failure *order has nothing but its id. */
int nr_order_next(struct nr_order *order, int control, const struct nr_frame *frame,
                  struct nr_message *message);

/* Finds the names of the leaf's parent and of the leaf, of an order that wants one, without loading its
 * strings: they stay where they are, or are copied to `buffer`. 0 or -errno: -EBADMSG where they cannot
 * be found, which includes paths that no system call would take. */
#define NR_ORDER_NAMES_ROOM ((size_t)7 * PATH_MAX)
int nr_order_cgroup(const struct nr_order *order, char buffer[static NR_ORDER_NAMES_ROOM],
                    const char **parent, const char **leaf);

/* Loads the strings if a memfd carries them, checks those, and builds the vectors, on the heap. 0
 * or -errno. */
int nr_order_program(struct nr_order *order, struct nr_program *program);

/* Gives the vectors back. */
void nr_program_free(struct nr_program *program);

/* Closes what the order holds. Twice is fine. */
void nr_order_close(struct nr_order *order);

#endif
