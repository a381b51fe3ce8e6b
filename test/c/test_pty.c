/*
 * Pseudo-terminals (csrc/pty.c): nobody else gets an end of one, it is set up before it is used, and what ends
 * an input is typed as often as the line discipline needs it.
 */
#include "check_support.h"

#include "fd.h"
#include "pty.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define OPTIONS(rows_, cols_, echo_, raw_)                                                         \
    (&(struct nr_pty_options){.rows = rows_, .cols = cols_, .echo = echo_, .raw = raw_})
#define USUAL OPTIONS(24, 80, true, false)

static int master;
static int slave;

static void make(const struct nr_pty_options *options)
{
    ck_assert_int_eq(nr_pty_open(options, &master, &slave), 0);
}

static void unmake(void)
{
    master = nr_fd_close(master);
    slave = nr_fd_close(slave);
}

START_TEST(both_ends_are_close_on_exec_and_only_ours_does_not_block)
{
    make(USUAL);
    ck_assert_int_eq(fcntl(master, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(slave, F_GETFD), FD_CLOEXEC);
    ck_assert_int_ne(fcntl(master, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(isatty(slave), 1);
    unmake();
}
END_TEST

START_TEST(who_makes_it_does_not_live_in_it)
{
    int status;
    pid_t leader = fork();
    ck_assert_sys(leader);
    if (leader == 0) {
        if (setsid() < 0 || nr_pty_open(USUAL, &master, &slave) < 0)
            _exit(2);
        _exit(open("/dev/tty", O_RDWR | O_CLOEXEC) >= 0 ? 1 : errno == ENXIO ? 0 : 3);
    }
    ck_assert_int_eq(waitpid(leader, &status, 0), leader);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(its_size_is_set_and_can_be_changed)
{
    struct winsize size;
    make(OPTIONS(1, 65535, true, false));
    ck_assert_sys(ioctl(slave, TIOCGWINSZ, &size));
    ck_assert_uint_eq(size.ws_row, 1);
    ck_assert_uint_eq(size.ws_col, 65535);
    ck_assert_int_eq(nr_pty_resize(master, 50, 132), 0);
    ck_assert_sys(ioctl(slave, TIOCGWINSZ, &size));
    ck_assert_uint_eq(size.ws_row, 50);
    ck_assert_uint_eq(size.ws_col, 132);
    unmake();
    ck_assert_int_eq(nr_pty_resize(master, 1, 1), -EBADF);
}
END_TEST

START_TEST(its_modes_are_set)
{
    struct termios modes;
    make(USUAL);
    ck_assert_sys(tcgetattr(slave, &modes));
    ck_assert_uint_eq(modes.c_lflag & (ICANON | ISIG | ECHO), ICANON | ISIG | ECHO);
    unmake();
    make(OPTIONS(24, 80, false, false));
    ck_assert_sys(tcgetattr(slave, &modes));
    ck_assert_uint_eq(modes.c_lflag & (ICANON | ISIG | ECHO), ICANON | ISIG);
    unmake();
    make(OPTIONS(24, 80, true, true));
    ck_assert_sys(tcgetattr(slave, &modes));
    ck_assert_uint_eq(modes.c_lflag & (ICANON | ISIG | ECHO), 0);
    ck_assert_uint_eq(modes.c_oflag & OPOST, 0);
    unmake();
}
END_TEST

START_TEST(it_is_left_when_the_last_slave_is_closed)
{
    make(USUAL);
    int another = dup(slave);
    ck_assert_sys(another);
    ck_assert(!nr_pty_left(master));
    slave = nr_fd_close(slave);
    ck_assert(!nr_pty_left(master));
    (void)close(another);
    ck_assert(nr_pty_left(master));
    unmake();
}
END_TEST

static int eof_after(int last)
{
    unsigned char bytes[NR_PTY_EOF_MAX] = {0};
    int count = nr_pty_eof(master, last, bytes);
    for (int i = 0; i < count; i++)
        ck_assert_uint_eq(bytes[i], 4);
    return count;
}

START_TEST(an_end_of_input_is_typed_twice_behind_a_line_that_was_begun)
{
    make(USUAL);
    ck_assert_int_eq(eof_after('x'), 2);
    ck_assert_int_eq(eof_after(0), 2);
    ck_assert_int_eq(eof_after(255), 2);
    ck_assert_int_eq(eof_after(-1), 1);
    static const int over[] = {'\n', '\r', 4, 21 /* ^U */, 3 /* ^C */, 26 /* ^Z */, 28 /* ^\ */};
    for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++)
        ck_assert_int_eq(eof_after(over[i]), 1);
    unmake();
}
END_TEST

START_TEST(an_end_of_input_follows_the_modes_that_are_set_now)
{
    struct termios modes;
    make(USUAL);
    ck_assert_sys(tcgetattr(slave, &modes));
    modes.c_iflag &= ~(tcflag_t)ICRNL;
    modes.c_lflag &= ~(tcflag_t)ISIG;
    modes.c_cc[VEOL] = ';';
    ck_assert_sys(tcsetattr(slave, TCSANOW, &modes));
    ck_assert_int_eq(eof_after('\r'), 2);
    ck_assert_int_eq(eof_after(3), 2);
    ck_assert_int_eq(eof_after(';'), 1);

    modes.c_lflag &= ~(tcflag_t)ICANON; /* each byte is read as it is */
    ck_assert_sys(tcsetattr(slave, TCSANOW, &modes));
    ck_assert_int_eq(eof_after('x'), 1);

    modes.c_lflag |= ICANON;
    modes.c_cc[VEOF] = _POSIX_VDISABLE;
    ck_assert_sys(tcsetattr(slave, TCSANOW, &modes));
    ck_assert_int_eq(eof_after('x'), 0);
    unmake();
    unsigned char bytes[NR_PTY_EOF_MAX];
    ck_assert_int_eq(nr_pty_eof(master, 'x', bytes), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pty");
    TCase *tcase = tcase_create("pty");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, both_ends_are_close_on_exec_and_only_ours_does_not_block);
    tcase_add_test(tcase, who_makes_it_does_not_live_in_it);
    tcase_add_test(tcase, its_size_is_set_and_can_be_changed);
    tcase_add_test(tcase, its_modes_are_set);
    tcase_add_test(tcase, it_is_left_when_the_last_slave_is_closed);
    tcase_add_test(tcase, an_end_of_input_is_typed_twice_behind_a_line_that_was_begun);
    tcase_add_test(tcase, an_end_of_input_follows_the_modes_that_are_set_now);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
