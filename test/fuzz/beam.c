/* See beam.h. */
#include "beam.h"

#include "invariant.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Who came so recently may have been missed by the last sweep (survivors are tried again each second). */
#define RECENT_MS 1020

struct nr_beam nr_beam;

void nr_beam_begin(bool keep)
{
    memset(&nr_beam, 0, sizeof(nr_beam));
    nr_beam.keep = keep;
    nr_beam.id = NR_BEAM_ID;
    nr_beam.control = nr_kernel_open(NR_FD_CONTROL);
}

bool nr_beam_listens(void)
{
    return !nr_beam.hung_up && !nr_beam.dead;
}

/* ---- to the guardian ------------------------------------------------------------------------ */

void nr_beam_send(const void *bytes, size_t length, unsigned gifts, bool blocking)
{
    if (nr_beam.hung_up || nr_beam.count == NR_BEAM_MESSAGES)
        return;
    unsigned at = (nr_beam.first + nr_beam.count++) % NR_BEAM_MESSAGES;
    if (length > sizeof(nr_beam.queue[at].bytes))
        length = sizeof(nr_beam.queue[at].bytes);
    memset(nr_beam.queue[at].bytes, 0, sizeof(nr_beam.queue[at].bytes));
    if (length > 0)
        memcpy(nr_beam.queue[at].bytes, bytes, length);
    nr_beam.queue[at].length = length;
    nr_beam.queue[at].gifts = gifts;
    nr_beam.queue[at].blocking = blocking;
}

void nr_beam_send_frame(enum nr_frame_type type, uint64_t id, const void *payload, size_t length)
{
    uint8_t bytes[64];
    nr_beam_send(bytes, nr_codec_write(bytes, sizeof(bytes), type, id, payload, length), 0, false);
}

short nr_beam_ready(short events)
{
    short ready = 0;
    if (nr_beam.count > 0 || nr_beam.hung_up || nr_beam.shut)
        ready |= POLLIN;
    if (nr_beam.hung_up || nr_beam.shut)
        ready |= POLLRDHUP;
    if (!nr_beam.blocked || nr_beam.hung_up)
        ready |= POLLOUT;
    ready &= events;
    return nr_beam.hung_up ? ready | POLLHUP : ready;
}

/* The order is read. */
static void next_command(const struct nr_frame *frame)
{
    struct nr_spawn spawn;
    const char *strings;

    nr_tell("%8llu: another SPAWN is read", (unsigned long long)nr_world.now);
    nr_beam.started = nr_beam.failed = nr_beam.exited = nr_beam.rests = nr_beam.stop_read = false;
    nr_beam.unkillable = 0;
    nr_beam.asked_count = 0;
    nr_beam.id = frame->id;
    nr_beam.may_rest =
        nr_codec_spawn(frame, &spawn, &strings) == 0 && (spawn.flags & NR_SPAWN_REST);
    nr_kernel_next_command();
}

/* What the message asks for, if the guardian heeds it. */
static void note(const void *bytes, size_t length)
{
    struct nr_frame frame;
    struct nr_stop stop;
    struct nr_kill kill;

    int r = nr_codec_open(bytes, length, &frame);
    if (nr_beam.rests) {
        if (r != NR_FRAME_UNREADABLE && frame.type == NR_SPAWN)
            next_command(&frame);
        return; /* what else it reads was meant for the command before */
    }
    if (r != 0)
        return;
    if (nr_codec_payload(&frame, NR_STOP, &stop, sizeof(stop)) == 0) {
        uint64_t due = nr_world.now + stop.grace_ms;
        if (!nr_beam.stop_read || due < nr_beam.stop_due)
            nr_beam.stop_due = due;
        nr_beam.stop_read = true;
        nr_tell("%8llu: STOP %u is read", (unsigned long long)nr_world.now, stop.grace_ms);
    } else if (!nr_beam.hung_up && nr_codec_payload(&frame, NR_KILL, &kill, sizeof(kill)) == 0) {
        /* Nobody waits for the answers to what was sent before a hang-up; it is obeyed all the same. */
        INVARIANT(nr_beam.asked_count < NR_BEAM_MESSAGES, "KILLs are read and not answered");
        nr_beam.asked[nr_beam.asked_count].id = frame.id;
        nr_beam.asked[nr_beam.asked_count].kill = kill;
        nr_beam.asked[nr_beam.asked_count++].kills = nr_world.kills;
    }
}

static void give(struct msghdr *header, unsigned gifts, bool blocking)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    if (gifts == 0 || c == NULL) {
        header->msg_controllen = 0;
        return;
    }
    for (unsigned i = 0; i < gifts; i++) {
        int fd = nr_kernel_open(NR_FD_GIFT);
        nr_kernel.fds[fd - NR_KERNEL_FIRST].blocking = blocking;
        memcpy(CMSG_DATA(c) + i * sizeof(fd), &fd, sizeof(fd));
    }
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(gifts * sizeof(int));
    header->msg_controllen = CMSG_SPACE(gifts * sizeof(int));
}

ssize_t __real_recvmsg(int fd, struct msghdr *header, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *header, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *header, int flags)
{
    if (!nr_kernel.running)
        return __real_recvmsg(fd, header, flags);
    INVARIANT(nr_kernel_kind(fd) == NR_FD_CONTROL && (flags & MSG_DONTWAIT), "a read that blocks");

    header->msg_flags = 0;
    if (nr_beam.reset) {
        nr_beam.reset = false;
        errno = ECONNRESET;
        return -1;
    }
    if (nr_beam.count == 0) {
        give(header, 0, false);
        errno = EAGAIN;
        return nr_beam.hung_up || nr_beam.shut ? 0 : -1;
    }
    unsigned at = nr_beam.first;
    nr_beam.first = (nr_beam.first + 1) % NR_BEAM_MESSAGES;
    nr_beam.count--;
    size_t length = nr_beam.queue[at].length;
    if (length > header->msg_iov[0].iov_len) {
        length = header->msg_iov[0].iov_len;
        header->msg_flags |= MSG_TRUNC;
    }
    memcpy(header->msg_iov[0].iov_base, nr_beam.queue[at].bytes, length);
    give(header, nr_beam.queue[at].gifts, nr_beam.queue[at].blocking);
    if (!nr_beam.shut && !(header->msg_flags & MSG_TRUNC))
        note(nr_beam.queue[at].bytes, length);
    return (ssize_t)length;
}

int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
    if (!nr_kernel.running)
        return __real_shutdown(fd, how);
    INVARIANT(nr_kernel_kind(fd) == NR_FD_CONTROL, "descriptor %d is shut down", fd);
    nr_beam.shut = true;
    return 0;
}

/* ---- from the guardian ---------------------------------------------------------------------- */

static void judge_started(const struct nr_started *started)
{
    const struct nr_creature *leader = nr_world_born(nr_world.watched);
    INVARIANT(!nr_beam.started && !nr_beam.failed && !nr_beam.exited, "STARTED comes late");
    INVARIANT(started->guardian_pid == NR_WORLD_SELF, "STARTED names another guardian");
    INVARIANT(leader == NULL || started->pid == (uint32_t)leader->pid, "STARTED names another pid");
    INVARIANT(nr_kernel.exec == NR_EXEC_CLOSED || nr_world.watched_ended,
              "STARTED comes before exec");
    nr_beam.started = true;
}

static void judge_failed(const struct nr_failed *failed)
{
    INVARIANT(!nr_beam.started && !nr_beam.failed && !nr_beam.exited, "FAILED comes late");
    INVARIANT(failed->stage >= NR_STAGE_REQUEST && failed->stage < NR_STAGES_END &&
                  failed->error != 0,
              "FAILED says stage %u, error %u", failed->stage, failed->error);
    nr_beam.failed = true;
}

static void judge_exited(const struct nr_exited *exited)
{
    int status = nr_world.watched_status;

    INVARIANT(nr_beam.started && !nr_beam.exited, "EXITED without STARTED, or twice");
    INVARIANT(nr_world.watched_ended, "EXITED while the leader lives");
    INVARIANT(nr_beam.keep || nr_world_family() == 0, "EXITED while %u of the family live",
              nr_world_family());
    INVARIANT(exited->how == (WIFSIGNALED(status) ? NR_EXIT_SIGNAL : NR_EXIT_CODE) &&
                  exited->value ==
                      (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)),
              "EXITED says %u %u, the status is %#x", exited->how, exited->value, (unsigned)status);
    INVARIANT(exited->orphans_killed <= nr_world.by_sigkill,
              "EXITED counts %u killed, %u ended by SIGKILL", exited->orphans_killed,
              nr_world.by_sigkill);
    if (exited->flags & NR_EXITED_RESTS)
        INVARIANT(nr_beam.may_rest && !(exited->flags & NR_EXITED_STOPPED) && nr_world.subreaper &&
                      nr_world_family() == 0,
                  "a guardian rests that must not");
    nr_beam.rests = exited->flags & NR_EXITED_RESTS;
    nr_beam.exited = true;
}

static void judge_unkillable(const struct nr_unkillable *unkillable)
{
    unsigned named = unkillable->count < NR_UNKILLABLE_MAX ? unkillable->count : NR_UNKILLABLE_MAX;
    bool listed = !nr_kernel.refusals.no_proc;

    INVARIANT(!nr_beam.exited || nr_beam.keep, "UNKILLABLE comes after EXITED");
    INVARIANT(unkillable->count > 0 || !listed, "UNKILLABLE names nobody");
    /* It was alive when the frame was made; meanwhile it may have ended. */
    for (unsigned i = 0; i < named; i++)
        INVARIANT(unkillable->pids[i] < NR_WORLD_PIDS && nr_world.ours[unkillable->pids[i]],
                  "UNKILLABLE names %u, which was never a living child", unkillable->pids[i]);
    INVARIANT(!listed || nr_world_spared(RECENT_MS) == NULL,
              "UNKILLABLE, and somebody was sent no SIGKILL");
    nr_beam.unkillable++;
}

static void judge_killed(uint64_t id, const struct nr_killed *killed)
{
    INVARIANT(nr_beam.asked_count > 0, "KILLED answers nothing");
    INVARIANT(id == nr_beam.asked[0].id, "KILLED answers another KILL");
    const struct nr_kill *kill = &nr_beam.asked[0].kill;
    if (killed->error == 0)
        INVARIANT(nr_world.kills > nr_beam.asked[0].kills && kill->signal >= 1 &&
                      kill->signal <= 64 && kill->scope <= NR_SCOPE_GROUP,
                  "KILLED says done, and no signal %u was sent", kill->signal);
    if (killed->error == 0 && nr_world.kills == nr_beam.asked[0].kills + 1)
        INVARIANT(nr_world.last_signal == (int)kill->signal &&
                      (nr_world.last_kill < 0) == (kill->scope == NR_SCOPE_GROUP),
                  "KILLED says done, and what was sent is signal %d to %d", nr_world.last_signal,
                  nr_world.last_kill);
    memmove(&nr_beam.asked[0], &nr_beam.asked[1], sizeof(nr_beam.asked) - sizeof(nr_beam.asked[0]));
    nr_beam.asked_count--;
}

static void judge(const void *bytes, size_t length)
{
    struct nr_frame frame;
    union {
        struct nr_started started;
        struct nr_failed failed;
        struct nr_exited exited;
        struct nr_unkillable unkillable;
        struct nr_killed killed;
    } is;

    INVARIANT(nr_codec_open(bytes, length, &frame) == 0, "a frame that cannot be read");
    nr_tell("%8llu: the guardian says type %u: %u %u", (unsigned long long)nr_world.now, frame.type,
            frame.length >= 4 ? frame.payload[0] : 0, frame.length >= 8 ? frame.payload[4] : 0);
    INVARIANT(!nr_beam.failed, "type %u after FAILED", frame.type);
    INVARIANT(!nr_beam.exited || nr_beam.keep, "type %u after EXITED", frame.type);
    if (nr_codec_payload(&frame, NR_KILLED, &is.killed, sizeof(is.killed)) == 0) {
        judge_killed(frame.id, &is.killed);
        return;
    }
    INVARIANT(frame.id == nr_beam.id, "the id of another request");
    if (nr_codec_payload(&frame, NR_STARTED, &is.started, sizeof(is.started)) == 0)
        judge_started(&is.started);
    else if (nr_codec_payload(&frame, NR_FAILED, &is.failed, sizeof(is.failed)) == 0)
        judge_failed(&is.failed);
    else if (nr_codec_payload(&frame, NR_EXITED, &is.exited, sizeof(is.exited)) == 0)
        judge_exited(&is.exited);
    else if (nr_codec_payload(&frame, NR_UNKILLABLE, &is.unkillable, sizeof(is.unkillable)) == 0)
        judge_unkillable(&is.unkillable);
    else
        nr_broken("a frame of type %u from a guardian", frame.type);
}

ssize_t __real_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags)
{
    if (!nr_kernel.running)
        return __real_send(fd, bytes, length, flags);
    INVARIANT(nr_kernel_kind(fd) == NR_FD_CONTROL && (flags & MSG_DONTWAIT) &&
                  (flags & MSG_NOSIGNAL),
              "a write that blocks, or raises SIGPIPE");
    if (nr_beam.hung_up || nr_beam.blocked) {
        errno = nr_beam.hung_up ? EPIPE : EAGAIN;
        return -1;
    }
    judge(bytes, length);
    return (ssize_t)length;
}
