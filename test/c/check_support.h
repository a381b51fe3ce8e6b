/* What every Check program here shares: its main, and assertions that name the errno.
 * NET_RUNNER_TEST=name,name runs these tests alone, NET_RUNNER_TEST=!name,name all the others: Check itself can
 * only pick whole cases. */
#ifndef NR_CHECK_SUPPORT_H
#define NR_CHECK_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As many descriptors as one message carries: 253 by the kernel's rule, and control data of a KiB by musl's. */
#define FDS_MOST 252

#define ck_assert_sys(call)                                                                        \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            ck_abort_msg("%s: %s", #call, strerror(errno));                                        \
    } while (0)

/* Tests that cannot run here return through this; the reason is printed once per test. */
#define skip(...)                                                                                  \
    do {                                                                                           \
        printf("SKIP %s: ", __func__);                                                             \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        (void)fflush(stdout);                                                                      \
        return;                                                                                    \
    } while (0)

/* A pseudo-terminal, its slave's name as ptsname(3) gives it; the master. */
static inline int open_master(const char **name)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_sys(master);
    ck_assert_sys(grantpt(master));
    ck_assert_sys(unlockpt(master));
    *name = ptsname(master);
    return master;
}

/* Both ends of one, close-on-exec. */
static inline void open_terminal(int *master, int *slave)
{
    const char *name;
    *master = open_master(&name);
    *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_sys(*slave);
}

/* Whether the name is one of those between the commas. */
static inline bool is_listed(const char *name, const char *names)
{
    while (*names != '\0') {
        size_t length = strcspn(names, ",");
        if (length == strlen(name) && memcmp(names, name, length) == 0)
            return true;
        names += length;
        names += strspn(names, ",");
    }
    return false;
}

static inline bool is_wanted(const TTest *test)
{
    const char *only = getenv("NET_RUNNER_TEST");
    if (only != NULL && only[0] == '!')
        return !is_listed(test->name, only + 1);
    return only == NULL || is_listed(test->name, only);
}

#undef tcase_add_loop_test
#define tcase_add_loop_test(tcase, test, first, end)                                               \
    do {                                                                                           \
        if (is_wanted(test))                                                                       \
            _tcase_add_test(tcase, test, 0, 0, first, end);                                        \
    } while (0)
#undef tcase_add_test
#define tcase_add_test(tcase, test) tcase_add_loop_test(tcase, test, 0, 1)

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    if (run == 0)
        (void)fprintf(stderr, "no test ran: is NET_RUNNER_TEST the name of one?\n");
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
