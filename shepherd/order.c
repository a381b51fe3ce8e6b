/* See order.h: a checked request and its descriptors. Must never let one of them leak. */
#include "order.h"

#include "error.h"
#include "fd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int take_next(struct nr_message *message, unsigned *next)
{
    return nr_fd_take(&message->fds[(*next)++]);
}

static bool is_seqpacket(int fd)
{
    int type = 0;
    socklen_t size = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* `next`: the place of the first descriptor that is not the control socket. */
static int take(struct nr_order *order, const struct nr_frame *frame, struct nr_message *message,
                unsigned next)
{
    struct nr_spawn spawn;
    const char *strings;

    if (nr_codec_spawn(frame, &spawn, &strings) != 0)
        return -EBADMSG;
    /* Descriptors lost with room left in our table for them: the process was out of descriptors. */
    if (message->fds_lost)
        return message->fds_count < NR_CHANNEL_FDS_MAX ? -EMFILE : -EBADMSG;
    if (message->fds_count != nr_codec_spawn_fds(spawn.flags) - 1 + next)
        return -EBADMSG;
    if (next > 0 && !is_seqpacket(message->fds[0]))
        return -ENOTSOCK;
    if (spawn.flags & NR_SPAWN_STRINGS) {
        int r = nr_sys_strings_check(message->fds[message->fds_count - 1], spawn.strings_length);
        if (r < 0)
            return r;
    }

    order->id = frame->id;
    order->spawn = spawn;
    order->frame = *frame;
    order->strings = strings;
    if (next > 0)
        order->control = nr_fd_take(&message->fds[0]);
    if (spawn.flags & NR_SPAWN_STDIN)
        order->stdio[0] = take_next(message, &next);
    if (spawn.flags & NR_SPAWN_STDOUT)
        order->stdio[1] = take_next(message, &next);
    if (spawn.flags & NR_SPAWN_STDERR)
        order->stdio[2] = take_next(message, &next);
    if (spawn.flags & NR_SPAWN_CWD)
        order->cwd = take_next(message, &next);
    if (spawn.flags & NR_SPAWN_PTY)
        order->pty = take_next(message, &next);
    if (spawn.flags & NR_SPAWN_STRINGS)
        order->strings_fd = take_next(message, &next);
    message->fds_count = 0;
    return 0;
}

int nr_order_take(struct nr_order *order, const struct nr_frame *frame, struct nr_message *message)
{
    *order = NR_ORDER_NONE;
    return take(order, frame, message, 1);
}

int nr_order_next(struct nr_order *order, int control, const struct nr_frame *frame,
                  struct nr_message *message)
{
    *order = NR_ORDER_NONE;
    order->id = frame->id;
    int r = take(order, frame, message, 0);
    if (r == 0 && order->spawn.flags & NR_SPAWN_CGROUP) {
        nr_order_close(order);
        r = -EBADMSG; /* its zygote would have to know of it, to clean up behind us */
    }
    if (r == 0)
        order->control = control;
    return r;
}

/* The string after the one at `*at`, NULL where the bytes end before it does. */
static const char *skip_string(const char **at, const char *end)
{
    const char *string = *at;
    const char *nul = memchr(string, '\0', (size_t)(end - string));
    if (nul == NULL)
        return NULL;
    *at = nul + 1;
    return string;
}

int nr_order_cgroup(const struct nr_order *order, char buffer[static NR_ORDER_NAMES_ROOM],
                    const char **parent, const char **leaf)
{
    const struct nr_spawn *spawn = &order->spawn;
    const char *at = order->strings;
    const char *end;

    if (at == NULL) {
        ssize_t got = pread(order->strings_fd, buffer, NR_ORDER_NAMES_ROOM, 0);
        if (got < 0)
            return nr_errno();
        at = buffer;
        end = buffer + got;
    } else {
        end = at + spawn->strings_length;
    }
    /* exe, cd, files. */
    int before = 2 + __builtin_popcount(spawn->flags & NR_SPAWN_FILES_ALL);
    for (int i = 0; i < before; i++)
        if (skip_string(&at, end) == NULL)
            return -EBADMSG;
    *parent = skip_string(&at, end);
    *leaf = *parent == NULL ? NULL : skip_string(&at, end);
    return *leaf == NULL ? -EBADMSG : 0;
}

static char *next_string(const char **at)
{
    /* execve(2) takes char *const[] and changes nothing. */
    char *string = (char *)(uintptr_t)*at;
    *at += strlen(string) + 1;
    return string;
}

int nr_order_program(struct nr_order *order, struct nr_program *program)
{
    static const uint32_t file_flags[3] = {NR_SPAWN_STDIN_FILE, NR_SPAWN_STDOUT_FILE,
                                           NR_SPAWN_STDERR_FILE};
    const struct nr_spawn *spawn = &order->spawn;

    if (order->strings == NULL) {
        int r = nr_sys_strings_load(order->strings_fd, spawn->strings_length, &order->strings);
        order->strings_fd = nr_fd_close(order->strings_fd);
        if (r < 0)
            return r;
        if (!nr_codec_strings_valid(spawn, order->strings))
            return -EBADMSG;
    }

    size_t pointers = (size_t)spawn->argc + 1 + (size_t)spawn->envc + 1;
    char **vectors = malloc(pointers * sizeof(*vectors));
    if (vectors == NULL)
        return -ENOMEM;

    const char *at = order->strings;
    program->exe = next_string(&at);
    program->cd = next_string(&at);
    for (int i = 0; i < 3; i++)
        program->files[i] = spawn->flags & file_flags[i] ? next_string(&at) : NULL;
    if (spawn->flags & NR_SPAWN_CGROUP) { /* the zygote has found these by nr_order_cgroup */
        (void)next_string(&at);
        (void)next_string(&at);
    }
    for (uint32_t i = 0; i < spawn->cgroup_files; i++)
        program->cgroup_files[i] = next_string(&at);
    program->argv = vectors;
    for (uint32_t i = 0; i < spawn->argc; i++)
        *vectors++ = next_string(&at);
    *vectors++ = NULL;
    program->envp = vectors;
    for (uint32_t i = 0; i < spawn->envc; i++)
        *vectors++ = next_string(&at);
    *vectors = NULL;
    return 0;
}

void nr_program_free(struct nr_program *program)
{
    free(program->argv); /* one piece: envp is in it */
    program->argv = NULL;
    program->envp = NULL;
}

void nr_order_close(struct nr_order *order)
{
    order->control = nr_fd_close(order->control);
    for (int i = 0; i < 3; i++)
        order->stdio[i] = nr_fd_close(order->stdio[i]);
    order->cwd = nr_fd_close(order->cwd);
    order->pty = nr_fd_close(order->pty);
    order->strings_fd = nr_fd_close(order->strings_fd);
}
