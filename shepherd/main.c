/*
 * The executable `shepherd`: the NIF starts it as ["shepherd", "<pid of the BEAM>"] with the request
 * socket as descriptor 3. This file makes sure of that and cuts every tie to whoever started the
 * BEAM: directory, terminal, descriptors. The rest is zygote.c.
 */
#include "fd.h"
#include "sys.h"
#include "zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_SOCKET 3
#define EXIT_USAGE     64

static pid_t parse_pid(const char *text)
{
    char *end;
    errno = 0;
    long pid = strtol(text, &end, 10);
    return errno == 0 && *end == '\0' && end != text && pid > 0 && pid <= INT32_MAX ? (pid_t)pid
                                                                                    : 0;
}

static int on_dev_null(void)
{
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        if (fd != null && dup2(null, fd) < 0)
            return -1;
    if (null > 2)
        (void)nr_fd_close(null);
    return 0;
}

/* A request socket: of the right type, and made by the BEAM that we are told of. */
static bool is_request_socket(int fd, pid_t beam)
{
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET)
        return false;
    pid_t maker = nr_sys_peer(fd);
    return maker == -ENOSYS || maker == beam;
}

int main(int argc, char **argv)
{
    pid_t beam = argc == 2 ? parse_pid(argv[1]) : 0;

    if (beam == 0 || !is_request_socket(REQUEST_SOCKET, beam)) {
        static const char sentence[] =
            "shepherd: this program is started by NetRunner and is of no use by itself.\n";
        (void)!write(STDERR_FILENO, sentence, sizeof(sentence) - 1);
        return EXIT_USAGE;
    }
    if (chdir("/") < 0 || on_dev_null() < 0 || nr_fd_cloexec(REQUEST_SOCKET, true) < 0 ||
        nr_sys_close_from(REQUEST_SOCKET + 1) < 0)
        return 1;
    nr_sys_signals_default();
    return nr_zygote_run(REQUEST_SOCKET, beam);
}
