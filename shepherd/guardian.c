/*
 * See guardian.h. One poll over {control, BEAM, leader, signals, exec pipe, cgroup, held pipes}, but between two
 * commands, which is rest.c's; what it finds becomes events, policy.c says which step follows, the steps are the functions below. It never sleeps, never
 * blocks in a call that a frozen BEAM or a hung child could hold, and keeps no policy of its own.
 */
#include "guardian.h"

#include "cgroup.h"
#include "clock.h"
#include "codec.h"
#include "error.h"
#include "exec.h"
#include "fd.h"
#include "held.h"
#include "policy.h"
#include "reap.h"
#include "rest.h"
#include "stop.h"
#include "sys.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* S: how long SIGKILL and the sweep may take before the survivors are reported. */
#define SWEEP_LIMIT_MS 2000
/* While sweeping, look again this often even if no SIGCHLD comes: a new orphan raises none. */
#define SWEEP_TICK_MS 5
/* Survivors of SIGKILL are tried again this often. */
#define RETRY_TICK_MS 1000
/* How many commands one turn takes in: a flood of them must not keep us from the family. */
#define COMMANDS_MAX 64

struct guardian {
    struct nr_order order;
    struct nr_family family;
    struct nr_outbox outbox;
    struct nr_held held;
    struct nr_cgroup cgroup;
    struct nr_usage usage; /* of the cgroup, once nobody is in it */

    enum nr_policy_state state;
    uint64_t deadline; /* of the state */
    uint64_t tick;     /* of the next sweep */
    uint64_t listen;   /* the control socket is left alone until then */

    int beam;
    int signals;
    int exec_pipe;
    struct nr_failed failed; /* what the exec pipe brought */

    uint32_t grace_ms;
    bool contained; /* orphans come to us */
    bool deaf;      /* nobody listens any more */
    bool started;
    bool leader_told; /* its end was put to the policy */
    bool leader_seen; /* its pidfd was readable, as it then is for ever */
    bool stopped;     /* the ladder began before the leader ended */
    bool published;
    bool unreaped;  /* more of the family have ended than one turn reaps */
    bool confined;  /* the command lives, or has lived, in a cgroup of its own */
    bool survivors; /* somebody, or the cgroup, is left behind at the exit */
    bool rests;     /* the BEAM was told that it may order another command */
};

/* ---- steps ---------------------------------------------------------------------------------- */

static void post(struct guardian *g, enum nr_frame_type type, uint64_t id, const void *payload,
                 size_t length)
{
    if (g->deaf)
        return;
    /* Cannot fill: at most STARTED or FAILED, UNKILLABLE, USAGE, EXITED and one answer wait at once. */
    (void)nr_outbox_post(&g->outbox, type, id, payload, length);
}

/* The cgroup goes with the last who lived in it. False: somebody does. What it has used is asked just before;
 * a directory that cannot be removed for any other reason is the zygote's to try again. */
static bool leave_cgroup(struct guardian *g)
{
    if (!nr_cgroup_is_made(&g->cgroup))
        return true;
    if (nr_cgroup_populated(&g->cgroup))
        return false;
    if (!g->published)
        nr_cgroup_usage(&g->cgroup, &g->usage);
    int r = nr_cgroup_remove(&g->cgroup);
    if (r < 0 && r != -EBUSY)
        g->survivors = true;
    return r != -EBUSY;
}

/* Whether anybody lives: a child of ours, or somebody in the cgroup who need not be one. */
static bool family_lives(struct guardian *g)
{
    return nr_family_alive(&g->family) || !leave_cgroup(g);
}

/* After a command that ended by itself, with all of its family: who had more to do with one leaves with it. */
static bool may_rest(const struct guardian *g)
{
    return (g->order.spawn.flags & NR_SPAWN_REST) && g->contained && !g->stopped &&
           !g->family.condemned && !nr_sys_children_alive();
}

static void publish(struct guardian *g)
{
    struct nr_exited exited = {0};

    if (g->published)
        return;
    g->published = true;
    int r = nr_family_reap_leader(&g->family, &exited);
    while (nr_family_reap_others(&g->family) >= NR_REAP_MAX && !nr_family_alive(&g->family))
        ;
    if (!g->started) {
        struct nr_failed failed = {.stage = NR_STAGE_SETUP, .error = ECANCELED};
        post(g, NR_FAILED, g->order.id, &failed, sizeof(failed));
        return;
    }
    if (r < 0) /* nobody else can have reaped it */
        return;
    exited.orphans_killed = g->family.killed;
    if (g->stopped)
        exited.flags |= NR_EXITED_STOPPED;
    g->rests = may_rest(g);
    if (g->rests)
        exited.flags |= NR_EXITED_RESTS;
    if (nr_cgroup_is_made(&g->cgroup)) /* of those who are kept */
        nr_cgroup_usage(&g->cgroup, &g->usage);
    if (g->confined)
        post(g, NR_USAGE, g->order.id, &g->usage, sizeof(g->usage));
    post(g, NR_EXITED, g->order.id, &exited, sizeof(exited));
}

static void report_started(struct guardian *g)
{
    struct nr_started started = {
        .pid = (uint32_t)g->family.leader.pid,
        .guardian_pid = (uint32_t)getpid(),
        .containment = g->confined    ? NR_CONTAINED_CGROUP
                       : g->contained ? NR_CONTAINED_SUBREAPER
                                      : NR_CONTAINED_GROUP,
    };
    g->started = true;
    post(g, NR_STARTED, g->order.id, &started, sizeof(started));
}

static void report_failed(struct guardian *g)
{
    struct nr_exited unused;

    post(g, NR_FAILED, g->order.id, &g->failed, sizeof(g->failed));
    g->published = true;
    if (g->family.leader.pid > 0) { /* it is on its way out; nobody may keep it from that */
        nr_stop_kill(&g->family);
        (void)nr_family_reap_leader(&g->family, &unused);
    }
    if (!leave_cgroup(g)) {
        nr_cgroup_kill(&g->cgroup);
        g->survivors = true;
    }
}

static void begin_stop(struct guardian *g)
{
    g->stopped = g->stopped || !g->family.leader_ended;
    nr_stop_ask(&g->family, (int)g->order.spawn.stop_signal);
    g->deadline = nr_clock_after(g->grace_ms);
}

static void hasten(struct guardian *g)
{
    uint64_t deadline = nr_clock_after(g->grace_ms);
    if (deadline < g->deadline)
        g->deadline = deadline;
}

static void begin_kill(struct guardian *g)
{
    g->stopped = g->stopped || !g->family.leader_ended;
    nr_cgroup_kill(&g->cgroup);
    nr_stop_kill(&g->family);
    g->deadline = nr_clock_after(SWEEP_LIMIT_MS);
    g->tick = 0;
}

static void report_survivors(struct guardian *g)
{
    struct nr_unkillable unkillable = {0};
    unkillable.count = nr_family_survivors(&g->family, unkillable.pids, NR_UNKILLABLE_MAX);
    if (unkillable.count == 0)
        unkillable.count = nr_cgroup_members(&g->cgroup, unkillable.pids, NR_UNKILLABLE_MAX);
    post(g, NR_UNKILLABLE, g->order.id, &unkillable, sizeof(unkillable));
}

static void finish(struct guardian *g)
{
    /* Without a subreaper nobody comes to us: the group is all we know of the family. */
    if (!g->contained && !(g->order.spawn.flags & NR_SPAWN_KEEP) && g->family.leader.pid > 1)
        (void)nr_pidref_signal_group(&g->family.leader, SIGKILL);
    publish(g);
    (void)nr_family_reap_others(&g->family);
}

static void take_step(struct guardian *g, enum nr_policy_event event)
{
    struct nr_policy_cell cell = nr_policy(g->state, event);
    if (cell.step == NR_STEP_STAY)
        return;

    g->state = cell.next;
    if (cell.step != NR_STEP_HASTEN)
        g->deadline = NR_NEVER;

    switch (cell.step) {
    case NR_STEP_REPORT_STARTED:
        report_started(g);
        break;
    case NR_STEP_REPORT_FAILED:
        report_failed(g);
        break;
    case NR_STEP_BEGIN_DRAIN:
        g->deadline = nr_clock_after(g->order.spawn.drain_timeout_ms);
        break;
    case NR_STEP_BEGIN_STOP:
        begin_stop(g);
        break;
    case NR_STEP_HASTEN:
        hasten(g);
        break;
    case NR_STEP_BEGIN_KILL:
        begin_kill(g);
        break;
    case NR_STEP_BEGIN_KEEP:
        publish(g);
        break;
    case NR_STEP_REPORT_SURVIVORS:
        report_survivors(g);
        break;
    case NR_STEP_FINISH:
        finish(g);
        break;
    case NR_STEP_LEAVE:
        g->survivors = true;
        break;
    case NR_STEP_STAY:
    case NR_STEP_COUNT:
        break;
    }
}

/* HANGUP or BEAM_GONE. */
static void become_deaf(struct guardian *g, enum nr_policy_event event)
{
    g->deaf = true;
    g->outbox.count = 0;
    g->grace_ms = g->order.spawn.kill_timeout_ms;
    take_step(g, event);
}

/* ---- what happened -------------------------------------------------------------------------- */

static void look_at_exec_pipe(struct guardian *g)
{
    int r = nr_exec_result(g->exec_pipe, &g->failed);
    if (r == NR_EXEC_WAIT)
        return;
    g->exec_pipe = nr_fd_close(g->exec_pipe);
    take_step(g, r == NR_EXEC_FAILED ? NR_EVENT_EXEC_FAILED : NR_EVENT_EXECED);
}

static void look_at_family(struct guardian *g)
{
    (void)nr_family_leader_ended(&g->family);
    bool alive = family_lives(g);
    if (alive)
        g->unreaped = nr_family_reap_others(&g->family) >= NR_REAP_MAX;

    /* A child that ends has closed the exec pipe before: how the start went comes first. Only now, because
     * the reaping, too, may find that it has ended. */
    if (g->family.leader_ended && g->exec_pipe >= 0)
        look_at_exec_pipe(g);
    if (g->state == NR_STATE_GONE)
        return;

    if (!alive) {
        take_step(g, NR_EVENT_FAMILY_GONE);
    } else if (g->family.leader_ended && !g->leader_told) {
        g->leader_told = true;
        take_step(g, g->order.spawn.flags & NR_SPAWN_KEEP ? NR_EVENT_LEADER_KEPT
                                                          : NR_EVENT_LEADER_LEFT);
    }
}

static void answer_kill(struct guardian *g, uint64_t id, const struct nr_kill *kill)
{
    int r = -EINVAL;

    if (g->family.leader_ended)
        r = -ESRCH;
    else if (kill->signal >= 1 && kill->signal <= 64 && kill->scope == NR_SCOPE_LEADER)
        r = nr_pidref_signal(&g->family.leader, (int)kill->signal);
    else if (kill->signal >= 1 && kill->signal <= 64 && kill->scope == NR_SCOPE_GROUP)
        r = nr_pidref_signal_group(&g->family.leader, (int)kill->signal);

    struct nr_killed killed = {.error = (uint32_t)-r};
    post(g, NR_KILLED, id, &killed, sizeof(killed));
}

static void obey(struct guardian *g, const struct nr_frame *frame, struct nr_message *message)
{
    struct nr_kill kill;
    struct nr_stop stop;

    if (nr_codec_payload(frame, NR_KILL, &kill, sizeof(kill)) == 0) {
        answer_kill(g, frame->id, &kill);
    } else if (nr_codec_payload(frame, NR_STOP, &stop, sizeof(stop)) == 0) {
        g->grace_ms = stop.grace_ms;
        take_step(g, NR_EVENT_STOP);
    } else if (frame->type == NR_HOLD && frame->length == 0 &&
               (g->order.spawn.flags & NR_SPAWN_KEEP)) {
        nr_held_take(&g->held, message);
    }
}

/* Reads one command. False when there is none, or none that can be had now. `ready`: poll(2)'s word on
 * the socket, whose hang-up is believed when there is no memory to read up to it. */
static bool read_command(struct guardian *g, short ready, bool heed)
{
    unsigned char bytes[sizeof(struct nr_header) + 64];
    struct nr_message message;
    struct nr_frame frame;

    int r = nr_channel_receive(g->order.control, bytes, sizeof(bytes), &message);
    if (r == NR_CHANNEL_WAIT)
        return false;
    if (r == NR_CHANNEL_LATER && !(ready & POLLHUP)) {
        g->listen = nr_clock_after(NR_CHANNEL_LATER_MS);
        return false;
    }
    if (r != 0) {
        if (heed)
            become_deaf(g, NR_EVENT_HANGUP);
        return false;
    }
    if (heed && !message.truncated && nr_codec_open(bytes, message.length, &frame) == 0)
        obey(g, &frame, &message);
    nr_message_close(&message);
    return true;
}

static void look_at_control(struct guardian *g, short ready)
{
    if (g->deaf)
        return;
    if (g->outbox.count > 0) /* a hang-up shows below, too */
        (void)nr_outbox_flush(&g->outbox, g->order.control);
    if (!(ready & (POLLIN | POLLHUP | POLLERR | POLLNVAL)))
        return;
    /* One answer at a time: who does not read its answers is not asked for more commands. */
    for (int i = 0; i < COMMANDS_MAX && !g->deaf && g->state != NR_STATE_GONE &&
                    g->outbox.count == 0 && read_command(g, ready, true);
         i++)
        (void)nr_outbox_flush(&g->outbox, g->order.control);
}

/* Whether anybody still lives. */
static bool sweep(struct guardian *g)
{
    nr_cgroup_kill(&g->cgroup); /* who was moved into it, or escaped by a fork */
    return nr_stop_sweep(&g->family) || family_lives(g);
}

static void look_at_time(struct guardian *g)
{
    uint64_t now = nr_clock_ms();

    if (g->deadline <= now) {
        g->deadline = NR_NEVER;
        take_step(g, NR_EVENT_DEADLINE);
        /* The new state may be one that only stays for a listener. */
        if (g->deaf)
            take_step(g, NR_EVENT_HANGUP);
    }
    if ((g->state == NR_STATE_KILLING || g->state == NR_STATE_REAPING) && g->tick <= now) {
        if (!sweep(g))
            take_step(g, NR_EVENT_FAMILY_GONE);
        g->tick = now + (g->state == NR_STATE_KILLING ? SWEEP_TICK_MS : RETRY_TICK_MS);
    }
}

/* ---- the loop ------------------------------------------------------------------------------- */

enum watched {
    CONTROL,
    BEAM,
    SIGNALS,
    LEADER,
    EXEC_PIPE,
    CGROUP,
    HELD,
    WATCHED = HELD + NR_HELD_MAX,
};

static bool sweeping(const struct guardian *g)
{
    return g->state == NR_STATE_KILLING || g->state == NR_STATE_REAPING;
}

static bool listens(struct guardian *g)
{
    if (g->listen <= nr_clock_ms())
        g->listen = NR_NEVER;
    return !g->deaf && g->listen == NR_NEVER;
}

static void turn(struct guardian *g)
{
    int control = listens(g) ? g->order.control : -1;
    uint64_t until = g->deadline;
    if (sweeping(g) && g->tick < until)
        until = g->tick;
    if (g->listen < until)
        until = g->listen;
    if (g->unreaped)
        until = 0;

    /* poll(2) passes over negative descriptors. */
    struct pollfd watched[WATCHED] = {
        [CONTROL] = {.fd = control, .events = g->outbox.count > 0 ? POLLOUT : POLLIN},
        [BEAM] = {.fd = g->beam, .events = POLLIN},
        [SIGNALS] = {.fd = g->signals, .events = POLLIN},
        [LEADER] = {.fd = g->leader_seen ? -1 : g->family.leader.pidfd, .events = POLLIN},
        [EXEC_PIPE] = {.fd = g->exec_pipe, .events = POLLIN},
        [CGROUP] = {.fd = g->cgroup.events, .events = POLLPRI},
    };
    for (unsigned i = 0; i < NR_HELD_MAX; i++)
        watched[HELD + i] = (struct pollfd){.fd = g->held.fds[i], .events = POLLIN};
    if (poll(watched, WATCHED, nr_clock_poll_ms(until)) < 0)
        for (int i = 0; i < WATCHED; i++)
            watched[i].revents = 0;

    /* Dead need not be ended: a tracer keeps the zombie from us. SIGCHLD comes when it lets go. */
    if (watched[LEADER].revents)
        g->leader_seen = true;
    if (watched[CGROUP].revents) /* or poll(2) goes on saying it */
        (void)nr_cgroup_populated(&g->cgroup);
    if (watched[SIGNALS].revents || watched[LEADER].revents || watched[CGROUP].revents ||
        g->unreaped) {
        g->unreaped = false;
        nr_sys_signals_drain(g->signals);
        g->tick = 0;
        look_at_family(g);
    }
    if (g->exec_pipe >= 0 && watched[EXEC_PIPE].revents)
        look_at_exec_pipe(g);
    if (watched[BEAM].revents) {
        g->beam = -EBADF; /* readable for ever: borrowed, so only forgotten */
        become_deaf(g, NR_EVENT_BEAM_GONE);
    }
    for (unsigned i = 0; i < NR_HELD_MAX; i++)
        if (watched[HELD + i].revents)
            nr_held_empty(&g->held, i);
    look_at_control(g, watched[CONTROL].revents);
    look_at_time(g);
}

/* The BEAM may be stopped: EXITED waits for it, a hang-up ends the wait. Commands it sent meanwhile
 * are read away, because closing a socket with unread messages gives the other end ECONNRESET
 * before what we sent. */
static void say_goodbye(struct guardian *g)
{
    while (!g->deaf && nr_outbox_flush(&g->outbox, g->order.control) == NR_CHANNEL_WAIT) {
        struct pollfd watched[] = {
            {.fd = g->order.control, .events = POLLOUT},
            {.fd = g->beam, .events = POLLIN},
        };
        if (poll(watched, 2, -1) > 0 && watched[1].revents)
            break;
    }
    (void)shutdown(g->order.control, SHUT_RD);
    while (read_command(g, 0, false))
        ;
    g->order.control = nr_fd_close(g->order.control);
}

static int make_cgroup(struct guardian *g, const struct nr_program *program, uint32_t *detail)
{
    const struct nr_order *order = &g->order;
    int r = nr_cgroup_make(&g->cgroup, order->claim, program->cgroup_files,
                           order->spawn.cgroup_files, detail);
    if (r < 0)
        return r;
    *detail = NR_CGROUP_JOIN;
    g->confined = true;
    g->order.cgroup = g->cgroup.leaf;
    return 0;
}

/* What is made once, before its first command. */
static int settle_in(struct guardian *g)
{
    if (g->signals >= 0)
        return 0;
    g->signals = nr_sys_signals_open();
    if (g->signals < 0)
        return g->signals;
    int r = nr_sys_subreaper();
    if (r < 0 && r != -ENOSYS && r != -EINVAL)
        return r;
    g->contained = r == 0;
    return 0;
}

static int start_program(struct guardian *g, const struct nr_program *program, enum nr_stage *stage,
                         uint32_t *detail)
{
    /* A request that waited while the zygote was stopped, or its BEAM dying, is not worth a fork. */
    struct pollfd listening[] = {{.fd = g->order.control}, {.fd = g->beam, .events = POLLIN}};
    if (poll(listening, 2, 0) > 0) {
        g->deaf = true;
        return -ECANCELED;
    }
    if (g->order.spawn.flags & NR_SPAWN_CGROUP) {
        *stage = NR_STAGE_CGROUP;
        int r = make_cgroup(g, program, detail);
        if (r < 0)
            return r;
    }
    return nr_exec(&g->order, program, &g->family.leader, &g->exec_pipe, stage);
}

static int start(struct guardian *g, enum nr_stage *stage, uint32_t *detail)
{
    *stage = NR_STAGE_SETUP;
    int r = settle_in(g);
    if (r < 0)
        return r;

    *stage = NR_STAGE_REQUEST;
    struct nr_program program = {0};
    r = nr_order_program(&g->order, &program);
    if (r < 0)
        return r;
    r = start_program(g, &program, stage, detail);
    nr_program_free(&program);
    return r;
}

/* All that belongs to one command, in the place of the one before. */
static void begin(struct guardian *g, const struct nr_order *order)
{
    *g = (struct guardian){
        .order = *order,
        .family = NR_FAMILY_NONE,
        .held = NR_HELD_NONE,
        .cgroup = NR_CGROUP_NONE,
        .state = NR_STATE_STARTING,
        .deadline = NR_NEVER,
        .tick = NR_NEVER,
        .listen = NR_NEVER,
        .beam = g->beam,
        .signals = g->signals,
        .exec_pipe = -EBADF,
        .grace_ms = order->spawn.kill_timeout_ms,
        .contained = g->contained,
    };
}

/* From the order to the end of its family. */
static void keep_command(struct guardian *g)
{
    enum nr_stage stage;
    uint32_t detail = 0;

    int r = start(g, &stage, &detail);
    if (r < 0) {
        g->failed = (struct nr_failed){.stage = (uint32_t)stage,
                                       .error = (uint32_t)-r,
                                       .detail = stage == NR_STAGE_CGROUP ? detail : 0};
        take_step(g, NR_EVENT_EXEC_FAILED);
    }

    int control = nr_fd_take(&g->order.control);
    nr_order_close(&g->order); /* the child's ends: a pipe's end must not wait for us */
    g->order.control = control;

    while (g->state != NR_STATE_GONE)
        turn(g);

    nr_held_close(&g->held);
    nr_cgroup_close(&g->cgroup);
    nr_family_close(&g->family);
}

/* Another order, once there is one. */
static bool rest(struct guardian *g, unsigned char *frame)
{
    if (!g->rests || g->deaf)
        return false;

    struct nr_order next;
    int oom_score_adj = g->order.oom_score_adj;
    size_t used = sizeof(struct nr_header) + g->order.frame.length;
    int r = nr_rest(&next, g->order.control, g->beam, &g->outbox, frame, used);
    if (r < 0) {
        struct nr_failed failed = {.stage = NR_STAGE_REQUEST, .error = (uint32_t)-r};
        post(g, NR_FAILED, next.id, &failed, sizeof(failed));
    }
    if (r != 0)
        return false;
    next.oom_score_adj = oom_score_adj;
    begin(g, &next);
    return true;
}

_Noreturn void nr_guardian_run(struct nr_order *order, int beam,
                               unsigned char frame[static NR_WIRE_FRAME_MAX])
{
    struct guardian g = {.beam = beam, .signals = -EBADF};

    nr_sys_name("nr_guardian");
    begin(&g, order);
    do
        keep_command(&g);
    while (rest(&g, frame));

    say_goodbye(&g);
    _exit(g.survivors ? NR_GUARDIAN_LEFT : NR_GUARDIAN_CLEAN);
}
