/*
 * The system calls of the rooms under test, answered by the simulated world: kernel.c holds their
 * __wrap_ functions (the linker's --wrap, see CMakeLists.txt) and the simulated descriptors. Calls on
 * real descriptors, and all calls while no input is running, go to the real kernel.
 */
#ifndef NR_FUZZ_KERNEL_H
#define NR_FUZZ_KERNEL_H

#include "world.h"

#include <stddef.h>

/* Simulated descriptors begin here, above all real ones. */
#define NR_KERNEL_FIRST 700
#define NR_KERNEL_FDS   48

enum nr_fd_kind {
    NR_FD_NONE = 0,
    NR_FD_CONTROL,
    NR_FD_BEAM,
    NR_FD_SIGNALS,
    NR_FD_PIDFD,
    NR_FD_EXEC_READ,
    NR_FD_EXEC_WRITE,
    NR_FD_CHILDREN,
    NR_FD_PROC,
    NR_FD_GIVEN, /* of the order: the command's ends, the working directory */
    NR_FD_GIFT,  /* came with a message */
    NR_FD_KINDS,
};

/* The exec pipe: what the child did with its end. */
enum nr_exec_state {
    NR_EXEC_OPEN = 0,
    NR_EXEC_CLOSED,  /* exec succeeded */
    NR_EXEC_BROUGHT, /* stage and errno are in it */
    NR_EXEC_TOLD,    /* and were read */
};

/* What this machine refuses, and what it fails at. */
struct nr_refusals {
    bool no_subreaper;
    bool no_clone3;
    bool no_pidfd;
    bool no_children; /* /proc/thread-self/children */
    bool no_proc;
    bool no_fork;
    bool no_signalfd;
    bool no_pipe;
    uint8_t short_reads; /* of the list of children: at most so many bytes at once; 0: no limit */
};

struct nr_kernel {
    bool running; /* an input is being run: calls are the simulated world's */
    struct nr_refusals refusals;
    struct nr_temper leader; /* of the next child that we fork */
    struct {
        enum nr_fd_kind kind;
        uint64_t birth; /* pidfd: whose */
        bool read;      /* the folder was read to its end */
        bool blocking;  /* a gift without O_NONBLOCK */
        bool ended;     /* a gift at whose other end nobody is */
        size_t holds;   /* bytes in a gift */
    } fds[NR_KERNEL_FDS];
    enum nr_exec_state exec;
    uint32_t exec_failed[3]; /* stage, errno and detail */
    bool forked;
};

extern struct nr_kernel nr_kernel;

/* A fresh world and kernel, in which the input runs. */
void nr_kernel_begin(void);
/* The input is over. */
void nr_kernel_end(void);
/* The next child that we fork is another command. */
void nr_kernel_next_command(void);
/* What processes under test allocated for their life is given back: theirs is over. */
void nr_kernel_free_heap(void);

/* A descriptor of this kind, or -1. */
int nr_kernel_open(enum nr_fd_kind kind);
unsigned nr_kernel_count(enum nr_fd_kind kind);
/* The kind of a descriptor that must be open. */
enum nr_fd_kind nr_kernel_kind(int fd);
/* poll(2)'s answer for descriptors that are no socket. */
short nr_kernel_ready(int fd, short events, bool beam_dead);

#endif
