/* See channel.h: messages and descriptors over SEQPACKET. Must never block or drop a descriptor. */
#include "channel.h"

#include "codec.h"
#include "error.h"
#include "fd.h"

#include <assert.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#ifdef NR_PORTABLE
#define RECEIVE_FLAGS MSG_DONTWAIT
#define HANGUP_EVENTS 0
#else
#define RECEIVE_FLAGS (MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
#define HANGUP_EVENTS POLLRDHUP
#endif

void nr_message_close(struct nr_message *message)
{
    for (unsigned i = 0; i < message->fds_count; i++)
        message->fds[i] = nr_fd_close(message->fds[i]);
    message->fds_count = 0;
}

/* A SEQPACKET socket gives 0 for its end and for an empty message alike. */
static bool hung_up(int socket)
{
    struct pollfd look = {.fd = socket, .events = HANGUP_EVENTS};
#ifdef NR_PORTABLE
    (void)look;
    return true;
#else
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL));
#endif
}

/* CMSG_SPACE rounds up, and into what is left over the kernel would put one more. */
static_assert(CMSG_SPACE(sizeof(int) * NR_CHANNEL_FDS_MAX) ==
                  CMSG_LEN(sizeof(int) * NR_CHANNEL_FDS_MAX),
              "the buffer takes no more descriptors than the message");

static void take_fds(const struct msghdr *header, struct nr_message *message)
{
    struct msghdr *walk = (struct msghdr *)(uintptr_t)header;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(walk); c != NULL; c = CMSG_NXTHDR(walk, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
#ifdef NR_PORTABLE
            (void)nr_fd_cloexec(fd, true);
#endif
            message->fds[message->fds_count++] = fd;
        }
    }
}

int nr_channel_receive(int socket, void *buffer, size_t room, struct nr_message *message)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(sizeof(int) * NR_CHANNEL_FDS_MAX)];
    } control;
    struct iovec part = {.iov_base = buffer, .iov_len = room};
    struct msghdr header = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    message->length = 0;
    message->truncated = false;
    message->fds_lost = false;
    message->fds_count = 0;

    ssize_t got;
    do {
        got = recvmsg(socket, &header, RECEIVE_FLAGS);
        /* ECONNRESET: the other end closed with messages of ours unread; what it sent us before
         * is still queued behind this error. It is reported once. */
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));

    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return NR_CHANNEL_WAIT;
    if (got < 0)
        return errno == ENOMEM || errno == ENOBUFS ? NR_CHANNEL_LATER : nr_errno();

    take_fds(&header, message);
    message->length = (size_t)got;
    message->truncated = (header.msg_flags & MSG_TRUNC) != 0;
    if (header.msg_flags & MSG_CTRUNC)
        message->fds_lost = true;
    if (got == 0 && message->fds_count == 0 && hung_up(socket))
        return NR_CHANNEL_HANGUP;
    return 0;
}

int nr_channel_send(int socket, const void *bytes, size_t length)
{
    ssize_t sent;
    do {
        sent = send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);

    if (sent >= 0)
        return 0;
    switch (errno) {
    case EAGAIN:
    case ENOBUFS:
        return NR_CHANNEL_WAIT;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        return NR_CHANNEL_HANGUP;
    default:
        return nr_errno();
    }
}

int nr_outbox_post(struct nr_outbox *outbox, enum nr_frame_type type, uint64_t id,
                   const void *payload, size_t length)
{
    if (outbox->count == NR_OUTBOX_SLOTS)
        return -ENOBUFS;
    unsigned slot = (outbox->first + outbox->count) % NR_OUTBOX_SLOTS;
    size_t written =
        nr_codec_write(outbox->slots[slot].bytes, NR_OUTBOX_FRAME, type, id, payload, length);
    if (written == 0)
        return -ENOBUFS;
    outbox->slots[slot].length = written;
    outbox->count++;
    return 0;
}

int nr_outbox_flush(struct nr_outbox *outbox, int socket)
{
    while (outbox->count > 0) {
        int r = nr_channel_send(socket, outbox->slots[outbox->first].bytes,
                                outbox->slots[outbox->first].length);
        if (r == NR_CHANNEL_WAIT)
            return r;
        if (r != 0) {
            outbox->count = 0;
            return NR_CHANNEL_HANGUP;
        }
        outbox->first = (outbox->first + 1) % NR_OUTBOX_SLOTS;
        outbox->count--;
    }
    return 0;
}
