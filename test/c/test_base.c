/* Descriptors as owned values: closed once, empty fields harmless, errno kept. */
#include "check_support.h"

#include "cleanup.h"
#include "error.h"
#include "fd.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

START_TEST(closing_empties_the_field_and_keeps_errno)
{
    int fds[2];
    ck_assert_int_eq(nr_fd_pipe(fds), 0);
    int fd = fds[0];
    errno = ENOENT;
    fds[0] = nr_fd_close(fds[0]);
    ck_assert_int_eq(fds[0], -EBADF);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert(!is_open(fd));
    errno = ENOENT;
    ck_assert_int_eq(nr_fd_close(fds[0]), -EBADF);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(nr_fd_close(fd), -EBADF); /* close(2) fails */
    ck_assert_int_eq(errno, ENOENT);
    (void)nr_fd_close(fds[1]);
}
END_TEST

START_TEST(taking_leaves_nothing_behind)
{
    int fd = 17;
    ck_assert_int_eq(nr_fd_take(&fd), 17);
    ck_assert_int_eq(fd, -EBADF);
    ck_assert_int_eq(nr_fd_take(&fd), -EBADF);
}
END_TEST

START_TEST(a_pipe_is_close_on_exec_and_blocking)
{
    int fds[2];
    ck_assert_int_eq(nr_fd_pipe(fds), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        ck_assert_int_eq(fcntl(fds[i], F_GETFL) & O_NONBLOCK, 0);
        (void)nr_fd_close(fds[i]);
    }
}
END_TEST

START_TEST(a_pipe_that_cannot_be_made_leaves_empty_fields)
{
    int fds[2] = {5, 6};
    struct rlimit before;
    ck_assert_sys(getrlimit(RLIMIT_NOFILE, &before));
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    ck_assert_sys(setrlimit(RLIMIT_NOFILE, &none));
    ck_assert_int_eq(nr_fd_pipe(fds), -EMFILE);
    ck_assert_sys(setrlimit(RLIMIT_NOFILE, &before));
    ck_assert_int_eq(fds[0], -EBADF);
    ck_assert_int_eq(fds[1], -EBADF);
}
END_TEST

START_TEST(flags_can_be_set_and_cleared)
{
    int fds[2];
    ck_assert_int_eq(nr_fd_pipe(fds), 0);
    ck_assert_int_eq(nr_fd_nonblock(fds[0], true), 0);
    ck_assert(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    ck_assert(!(fcntl(fds[1], F_GETFL) & O_NONBLOCK));
    ck_assert_int_eq(nr_fd_nonblock(fds[0], false), 0);
    ck_assert(!(fcntl(fds[0], F_GETFL) & O_NONBLOCK));
    ck_assert_int_eq(nr_fd_cloexec(fds[0], false), 0);
    ck_assert_int_eq(fcntl(fds[0], F_GETFD), 0);
    ck_assert_int_eq(nr_fd_cloexec(fds[0], true), 0);
    ck_assert_int_eq(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(nr_fd_nonblock(-EBADF, true), -EBADF);
    ck_assert_int_eq(nr_fd_cloexec(-EBADF, true), -EBADF);
}
END_TEST

START_TEST(a_scope_closes_and_frees_what_it_owns)
{
    int seen[2];
    {
        int fds[2];
        ck_assert_int_eq(nr_fd_pipe(fds), 0);
        NR_CLEANUP_FD int first = fds[0];
        NR_CLEANUP_FD int second = fds[1];
        NR_CLEANUP_FD int empty = -EBADF;
        NR_CLEANUP_FREE char *memory = malloc(16);
        ck_assert_ptr_nonnull(memory);
        ck_assert_int_lt(empty, 0);
        seen[0] = first;
        seen[1] = nr_fd_take(&second);
    }
    ck_assert(!is_open(seen[0]));
    ck_assert(is_open(seen[1]));
}
END_TEST

START_TEST(an_errno_is_never_forwarded_as_success)
{
    errno = 0;
    ck_assert_int_eq(nr_errno(), -EIO);
    errno = ENOSPC;
    ck_assert_int_eq(nr_errno(), -ENOSPC);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tcase = tcase_create("base");
    tcase_add_test(tcase, closing_empties_the_field_and_keeps_errno);
    tcase_add_test(tcase, taking_leaves_nothing_behind);
    tcase_add_test(tcase, a_pipe_is_close_on_exec_and_blocking);
    tcase_add_test(tcase, a_pipe_that_cannot_be_made_leaves_empty_fields);
    tcase_add_test(tcase, flags_can_be_set_and_cleared);
    tcase_add_test(tcase, a_scope_closes_and_frees_what_it_owns);
    tcase_add_test(tcase, an_errno_is_never_forwarded_as_success);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
