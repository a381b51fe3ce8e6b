/* What every Check program here shares: its main, its folder of temporary files, and assertions that name the errno.
 * NET_RUNNER_TEST=name,name runs these tests alone, NET_RUNNER_TEST=!name,name all the others: Check itself can
 * only pick whole cases. */
#ifndef NR_CHECK_SUPPORT_H
#define NR_CHECK_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- temporary files ------------------------------------------------------------------------ */

/* Room for the path of a temporary folder or file, and for the path of what a test makes in such a folder. */
#define TEMPORARY_MAX 256
#define BELOW_MAX     (TEMPORARY_MAX + 64)

/* The name of what is to be made: its last six letters are still to be chosen. -1 with errno. */
static inline int name_temporary(char path[TEMPORARY_MAX], const char *where)
{
    int length = snprintf(path, TEMPORARY_MAX, "%s/nr_test_XXXXXX", where);
    if (length < TEMPORARY_MAX)
        return 0;
    errno = ENAMETOOLONG;
    return -1;
}

/* -1 with errno. */
static inline int make_folder_in(char path[TEMPORARY_MAX], const char *where)
{
    return name_temporary(path, where) == 0 && mkdtemp(path) != NULL ? 0 : -1;
}

/* In a test, the folder that run_suite() removes: a test that fails is not there to remove what it made. */
static inline const char *temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder != NULL && folder[0] == '/' ? folder : "/tmp";
}

static inline void make_folder(char path[TEMPORARY_MAX])
{
    ck_assert_sys(make_folder_in(path, temporary_folder()));
}

/* An empty file, open for reading and writing. */
static inline int make_file_open(char path[TEMPORARY_MAX])
{
    ck_assert_sys(name_temporary(path, temporary_folder()));
    int file = mkostemp(path, O_CLOEXEC);
    ck_assert_sys(file);
    return file;
}

/* What is made in another way, a test that fails leaves behind. */
#pragma GCC poison mkdtemp mkstemp mkostemp mkstemps mktemp tmpfile tmpnam tempnam

static inline int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

/* With all that is in it. Who outlived a test that failed may still put something there. */
static inline bool remove_folder(const char *path)
{
    int r = -1;
    for (int i = 0; r < 0 && i < 1000; i++)
        r = nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return r == 0;
}

/* ---- terminals ------------------------------------------------------------------------------ */

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

/* ---- running -------------------------------------------------------------------------------- */

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
    char folder[TEMPORARY_MAX];
    if (make_folder_in(folder, temporary_folder()) < 0 || setenv("TMPDIR", folder, 1) < 0 ||
        chmod(folder, 01777) < 0) { /* some tests become another user */
        perror("no folder for temporary files");
        return EXIT_FAILURE;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    if (!remove_folder(folder)) {
        (void)fprintf(stderr, "%s is left behind: %s\n", folder, strerror(errno));
        return EXIT_FAILURE;
    }
    if (run == 0)
        (void)fprintf(stderr, "no test ran: is NET_RUNNER_TEST the name of one?\n");
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
