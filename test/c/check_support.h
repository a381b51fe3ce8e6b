/* What every Check program here shares: its main, and assertions that name the errno. */
#ifndef NR_CHECK_SUPPORT_H
#define NR_CHECK_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
