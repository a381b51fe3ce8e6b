/*
 * The calls that the shepherd makes by their number (syscall(2)), in one list: the seam knows them by it, and
 * test_failing.c sees to it that each fails somewhere. One that is not in it ends the failing build at once.
 */
#ifndef NR_FAILING_SYSCALLS_H
#define NR_FAILING_SYSCALLS_H

#define FAILING_SYSCALLS(CALL)                                                                     \
    CALL(capget)                                                                                   \
    CALL(capset)                                                                                   \
    CALL(clone3)                                                                                   \
    CALL(close_range)                                                                              \
    CALL(getdents64)                                                                               \
    CALL(keyctl)                                                                                   \
    CALL(openat2)                                                                                  \
    CALL(pidfd_open)                                                                               \
    CALL(pidfd_send_signal)                                                                        \
    CALL(rt_sigaction)                                                                             \
    CALL(rt_sigprocmask)

#endif
