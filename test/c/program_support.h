/*
 * What the tests of a program with three descriptors share (tee, replay): this process has the other end of each, and is all
 * that is around it. -EBADF is no descriptor.
 */
#ifndef NR_PROGRAM_SUPPORT_H
#define NR_PROGRAM_SUPPORT_H

#include "check_support.h"

#include "fd.h"

#include <sys/wait.h>
#include <unistd.h>

/* This process's end and the program's, of each. */
static int ours[3];
static int theirs[3];
static pid_t program;

/* Gives it `fd` in place of a pipe. */
static inline void give_take(int which, int fd)
{
    ours[which] = nr_fd_close(ours[which]);
    (void)nr_fd_close(theirs[which]);
    theirs[which] = fd;
}

/* In the child that becomes it: its ends are 0, 1 and 2. */
static inline void take_descriptors(void)
{
    for (int i = 0; i < 3; i++)
        if (theirs[i] >= 0)
            theirs[i] = fcntl(theirs[i], F_DUPFD_CLOEXEC, 10);
    for (int i = 0; i < 3; i++) {
        if (theirs[i] < 0)
            (void)close(i);
        else if (dup2(theirs[i], i) < 0)
            _exit(99);
    }
}

/* In this process, once the child has them. */
static inline void leave_descriptors(void)
{
    for (int i = 0; i < 3; i++)
        theirs[i] = nr_fd_close(theirs[i]);
}

/* Its exit code, or minus the signal that killed it. */
static inline int exit_of_program(void)
{
    int status;
    ck_assert_int_eq(waitpid(program, &status, 0), program);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

#endif
