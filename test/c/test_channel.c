/*
 * The channel: one message in, one out; every received descriptor is either handed over or closed;
 * nothing blocks and nothing raises SIGPIPE.
 */
#include "check_support.h"

#include "channel.h"
#include "codec.h"
#include "fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int ends[2];
static unsigned char buffer[4096];
static struct nr_message message;

static void open_pair(void)
{
    ck_assert_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
}

static void close_pair(void)
{
    ends[0] = nr_fd_close(ends[0]);
    ends[1] = nr_fd_close(ends[1]);
}

static int count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    (void)closedir(directory);
    return count;
}

static void send_fds(int socket, const void *bytes, size_t length, const int *fds, unsigned count)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(sizeof(int) * FDS_MOST)];
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = (socklen_t)CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = (socklen_t)CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    }
    ck_assert_int_eq(sendmsg(socket, &header, MSG_NOSIGNAL), (ssize_t)length);
}

START_TEST(a_message_arrives_whole_and_alone)
{
    ck_assert_int_eq(nr_channel_send(ends[0], "one", 3), 0);
    ck_assert_int_eq(nr_channel_send(ends[0], "three", 5), 0);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.length, 3);
    ck_assert_mem_eq(buffer, "one", 3);
    ck_assert_uint_eq(message.fds_count, 0);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.length, 5);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message),
                     NR_CHANNEL_WAIT);
    ck_assert_uint_eq(message.length, 0);
}
END_TEST

START_TEST(a_message_longer_than_the_buffer_says_so)
{
    static char big[200];
    ck_assert_int_eq(nr_channel_send(ends[0], big, sizeof(big)), 0);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, 100, &message), 0);
    ck_assert(message.truncated);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, 100, &message), NR_CHANNEL_WAIT);
}
END_TEST

START_TEST(descriptors_arrive_in_order_and_close_on_exec)
{
    int pipes[4];
    ck_assert_int_eq(nr_fd_pipe(pipes), 0);
    ck_assert_int_eq(nr_fd_pipe(pipes + 2), 0);
    send_fds(ends[0], "x", 1, (int[]){pipes[0], pipes[3]}, 2);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.fds_count, 2);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(fcntl(message.fds[i], F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(write(pipes[1], "a", 1), 1);
    ck_assert_int_eq(read(message.fds[0], buffer, 10), 1);
    ck_assert_int_eq(write(message.fds[1], "b", 1), 1);
    ck_assert_int_eq(read(pipes[2], buffer, 10), 1);
    nr_message_close(&message);
    nr_message_close(&message);
    ck_assert_uint_eq(message.fds_count, 0);
}
END_TEST

START_TEST(more_descriptors_than_allowed_are_seen_and_closed)
{
    int many[FDS_MOST];
    for (unsigned i = 0; i < FDS_MOST; i++)
        many[i] = STDIN_FILENO;
    int before = count_fds();
    static const unsigned counts[] = {NR_SPAWN_FDS_MAX + 1, NR_CHANNEL_FDS_MAX,
                                      NR_CHANNEL_FDS_MAX + 1, FDS_MOST};
    for (size_t i = 0; i < 4; i++) {
        send_fds(ends[0], "x", 1, many, counts[i]);
        ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
        ck_assert_int_eq(message.fds_lost, counts[i] > NR_CHANNEL_FDS_MAX);
        ck_assert_uint_eq(message.fds_count,
                          counts[i] > NR_CHANNEL_FDS_MAX ? NR_CHANNEL_FDS_MAX : counts[i]);
        nr_message_close(&message);
        ck_assert_int_eq(count_fds(), before);
    }
}
END_TEST

START_TEST(out_of_descriptors_is_told_apart_and_leaks_nothing)
{
    int before = count_fds();
    send_fds(ends[0], "x", 1, (int[]){0, 1, 2, 0}, 4);
    int spare[1024];
    int spares = 0;
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    ck_assert_sys(setrlimit(RLIMIT_NOFILE, &limit));
    while (spares < 1024 && (spare[spares] = dup(0)) >= 0)
        spares++;
    (void)close(spare[--spares]); /* room for one of the four */
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert(message.fds_lost);
    ck_assert_uint_le(message.fds_count, 1);
    ck_assert_uint_eq(message.length, 1);
    nr_message_close(&message);
    while (spares > 0)
        (void)close(spare[--spares]);
    ck_assert_int_eq(count_fds(), before);
}
END_TEST

START_TEST(the_end_is_a_hangup_after_what_was_sent)
{
    ck_assert_int_eq(nr_channel_send(ends[0], "last", 4), 0);
    ends[0] = nr_fd_close(ends[0]);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.length, 4);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message),
                     NR_CHANNEL_HANGUP);
    ck_assert_int_eq(nr_channel_send(ends[1], "x", 1), NR_CHANNEL_HANGUP);
}
END_TEST

START_TEST(a_reset_does_not_hide_what_was_sent)
{
    /* The other end goes with a message of ours unread: ECONNRESET comes first. */
    ck_assert_int_eq(nr_channel_send(ends[1], "unread", 6), 0);
    ck_assert_int_eq(nr_channel_send(ends[0], "last", 4), 0);
    ends[0] = nr_fd_close(ends[0]);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.length, 4);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message),
                     NR_CHANNEL_HANGUP);
}
END_TEST

#ifndef NR_PORTABLE
START_TEST(an_empty_message_is_no_hangup)
{
    ck_assert_int_eq(send(ends[0], "", 0, 0), 0);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_uint_eq(message.length, 0);
    ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message),
                     NR_CHANNEL_WAIT);
}
END_TEST
#endif

START_TEST(a_full_socket_is_a_wait)
{
    static char block[1024];
    int sent = 0;
    int r;
    while ((r = nr_channel_send(ends[0], block, sizeof(block))) == 0)
        ck_assert_int_lt(++sent, 100000);
    ck_assert_int_eq(r, NR_CHANNEL_WAIT);
}
END_TEST

START_TEST(the_outbox_keeps_order_while_the_other_end_does_not_read)
{
    static char block[1024];
    struct nr_outbox outbox = {0};
    int blocks = 0;
    while (nr_channel_send(ends[0], block, sizeof(block)) == 0)
        blocks++;

    for (uint32_t i = 0; i < NR_OUTBOX_SLOTS; i++) {
        struct nr_killed killed = {.error = i};
        ck_assert_int_eq(nr_outbox_post(&outbox, NR_KILLED, i, &killed, sizeof(killed)), 0);
    }
    ck_assert_int_eq(nr_outbox_post(&outbox, NR_KILLED, 0, &(struct nr_killed){0}, 4), -ENOBUFS);
    ck_assert_int_eq(nr_outbox_flush(&outbox, ends[0]), NR_CHANNEL_WAIT);
    ck_assert_uint_eq(outbox.count, NR_OUTBOX_SLOTS);

    /* One that comes when some have gone is still the last. */
    uint32_t posted = NR_OUTBOX_SLOTS;
    while (outbox.count == NR_OUTBOX_SLOTS) {
        ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
        blocks--;
        (void)nr_outbox_flush(&outbox, ends[0]);
    }
    struct nr_killed late = {.error = posted};
    ck_assert_int_eq(nr_outbox_post(&outbox, NR_KILLED, posted, &late, sizeof(late)), 0);
    posted++;

    while (blocks-- > 0)
        ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
    ck_assert_int_eq(nr_outbox_flush(&outbox, ends[0]), 0);
    for (uint32_t i = 0; i < posted; i++) {
        struct nr_frame frame;
        ck_assert_int_eq(nr_channel_receive(ends[1], buffer, sizeof(buffer), &message), 0);
        ck_assert_int_eq(nr_codec_open(buffer, message.length, &frame), 0);
        ck_assert_uint_eq(frame.id, i);
    }
}
END_TEST

START_TEST(the_outbox_is_emptied_by_a_hangup)
{
    struct nr_outbox outbox = {0};
    struct nr_killed killed = {0};
    ck_assert_int_eq(nr_outbox_post(&outbox, NR_KILLED, 1, &killed, sizeof(killed)), 0);
    ends[1] = nr_fd_close(ends[1]);
    ck_assert_int_eq(nr_outbox_flush(&outbox, ends[0]), NR_CHANNEL_HANGUP);
    ck_assert_uint_eq(outbox.count, 0);
    ck_assert_int_eq(nr_outbox_flush(&outbox, ends[0]), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel");
    TCase *tcase = tcase_create("channel");
    tcase_add_checked_fixture(tcase, open_pair, close_pair);
    tcase_add_test(tcase, a_message_arrives_whole_and_alone);
    tcase_add_test(tcase, a_message_longer_than_the_buffer_says_so);
    tcase_add_test(tcase, descriptors_arrive_in_order_and_close_on_exec);
    tcase_add_test(tcase, more_descriptors_than_allowed_are_seen_and_closed);
    tcase_add_test(tcase, out_of_descriptors_is_told_apart_and_leaks_nothing);
    tcase_add_test(tcase, the_end_is_a_hangup_after_what_was_sent);
    tcase_add_test(tcase, a_reset_does_not_hide_what_was_sent);
#ifndef NR_PORTABLE
    tcase_add_test(tcase, an_empty_message_is_no_hangup);
#endif
    tcase_add_test(tcase, a_full_socket_is_a_wait);
    tcase_add_test(tcase, the_outbox_keeps_order_while_the_other_end_does_not_read);
    tcase_add_test(tcase, the_outbox_is_emptied_by_a_hangup);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
