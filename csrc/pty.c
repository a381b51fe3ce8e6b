/* See pty.h. Everything is set before anybody can run in the terminal. */
#include "pty.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "launch_os.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int set_modes(int slave, const struct nr_pty_options *options)
{
    struct termios modes;

    if (tcgetattr(slave, &modes) < 0)
        return nr_errno();
    if (options->raw)
        cfmakeraw(&modes);
    if (!options->echo)
        modes.c_lflag &= ~(tcflag_t)ECHO;
#ifdef IUTF8
    /* Erasing a character takes all its bytes, as every terminal emulator has it today. */
    if (!options->raw)
        modes.c_iflag |= IUTF8;
#endif
    return tcsetattr(slave, TCSANOW, &modes) < 0 ? nr_errno() : 0;
}

int nr_pty_open(const struct nr_pty_options *options, int *master, int *slave)
{
    *master = -EBADF;
    *slave = -EBADF;
    NR_CLEANUP_FD int ours = nr_os_open_master();
    if (ours < 0)
        return ours;
    if (grantpt(ours) < 0 || unlockpt(ours) < 0)
        return nr_errno();
    NR_CLEANUP_FD int theirs = nr_os_open_slave(ours);
    if (theirs < 0)
        return theirs;
    int r = set_modes(theirs, options);
    if (r == 0)
        r = nr_pty_resize(ours, options->rows, options->cols);
    if (r == 0)
        r = nr_fd_nonblock(ours, true);
    if (r < 0)
        return r;
    *master = nr_fd_take(&ours);
    *slave = nr_fd_take(&theirs);
    return 0;
}

int nr_pty_resize(int master, unsigned short rows, unsigned short cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};
    return ioctl(master, TIOCSWINSZ, &size) < 0 ? nr_errno() : 0;
}

bool nr_pty_left(int master)
{
    struct pollfd look = {.fd = master};
    return poll(&look, 1, 0) == 1 && (look.revents & POLLHUP);
}

static bool is_set(const struct termios *modes, size_t place, cc_t byte)
{
    return modes->c_cc[place] == byte && byte != _POSIX_VDISABLE;
}

/* Whether the byte ends a line, or throws away the one that was begun (termios(3)). */
static bool line_is_over(const struct termios *modes, cc_t last)
{
    if (last == '\n' || is_set(modes, VEOF, last) || is_set(modes, VEOL, last) ||
        is_set(modes, VEOL2, last) || is_set(modes, VKILL, last))
        return true;
    if (last == '\r' && (modes->c_iflag & ICRNL) && !(modes->c_iflag & IGNCR))
        return true;
    return (modes->c_lflag & ISIG) && !(modes->c_lflag & NOFLSH) &&
           (is_set(modes, VINTR, last) || is_set(modes, VQUIT, last) || is_set(modes, VSUSP, last));
}

int nr_pty_eof(int master, int last, unsigned char bytes[NR_PTY_EOF_MAX])
{
    struct termios modes;

    if (tcgetattr(master, &modes) < 0)
        return nr_errno();
    cc_t eof = modes.c_cc[VEOF];
    if (eof == _POSIX_VDISABLE)
        return 0;
    memset(bytes, eof, NR_PTY_EOF_MAX);
    /* Who does not read by lines (an editor of the line, as bash's) gets each byte as it is. */
    bool begun = (modes.c_lflag & ICANON) && last >= 0 && !line_is_over(&modes, (cc_t)last);
    return begun ? 2 : 1;
}
