/*
 * A whole guardian, policy and mechanism, in a simulated world: the input says what the machine
 * refuses, what was ordered, and then event by event what happens: the command execs or fails to,
 * forks, exits, becomes a daemon, ignores SIGKILL for a while or for ever; the BEAM sends STOP, KILL
 * or garbage, stops reading, hangs up, dies; time passes. When the input is used up the BEAM ends
 * too, and the guardian must.
 *
 * The invariants sit where they can be broken: those about signals and waiting in world.c, about
 * descriptors in kernel.c, about frames in beam.c; here those about the end:
 *
 *   - with nobody listening it ends within the grace and the sweep's limit;
 *   - a STOP ends the family within its grace and that limit, or the survivors are reported;
 *   - it waits for nothing once nobody of the family lives, unless it rests, and then for another order;
 *   - it leaves with CLEAN only then, and with LEFT only if nobody listens and somebody lives;
 *   - it never turns round and round without waiting;
 *   - none of the command's descriptors is open in it while it waits.
 *
 * No order here wants a cgroup: the simulated kernel has none. test_cgroup.c and test_failing.c ("in a cgroup") have
 * the real one.
 */
#include "beam.h"
#include "guardian.h"
#include "held.h"
#include "invariant.h"
#include "kernel.h"
#include "pidref.h"
#include "script.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SWEEP_LIMIT_MS 2000
#define RETRY_TICK_MS  1000
/* A tick of the sweep, and the milliseconds that rounding adds. */
#define SLACK_MS 20
/* Between the STOP and the BEAM's end, once the input is used up. */
#define FINALE_MS 4000
/* Turns without waiting and without anything new. */
#define SPIN_MAX 200

static const char strings[] = "/bin/true\0\0true\0A=1";
static const uint32_t spans[] = {0, 1, 10, 100, 1000, 5000, 60000, UINT32_MAX};

/* How a run ends. */
enum {
    LEFT_BY_ITSELF = 1,
    KILLED_BY_ZYGOTE = 2,
};

struct run {
    struct nr_script script;
    struct nr_order order;
    jmp_buf end;
    int exit_status;

    unsigned finale;    /* how far the end of the input has come */
    uint64_t finale_at; /* when its next step is due, at the latest */
    uint64_t late_next; /* the next wake is so late */
    uint64_t silent_at; /* since when nobody listens, by the guardian's time */
    unsigned spins;
    uint64_t spin_at;
};

static struct run run;
static unsigned char frame[NR_WIRE_FRAME_MAX];

/* ---- what happens --------------------------------------------------------------------------- */

static struct nr_creature *leader(void)
{
    return nr_world_born(nr_world.watched);
}

static bool before_exec(const struct nr_creature *creature)
{
    return creature == leader() && nr_kernel.exec != NR_EXEC_CLOSED;
}

/* A member of the family, NULL if there is none. */
static struct nr_creature *member(void)
{
    unsigned count = nr_world_family();
    uint8_t which = nr_script_byte(&run.script);
    return count > 0 ? nr_world_member(which % count) : NULL;
}

static struct nr_temper temper(uint8_t byte)
{
    static const uint32_t lingers[] = {0, 0, 0, 1, 3, 30, 1500, 2500};
    return (struct nr_temper){
        .ignores = byte & 1,
        .parental = byte & 2,
        .foreign = (byte & 0x1c) == 0x1c,
        .immortal = (byte & 0xf8) == 0xe8,
        .linger = lingers[byte >> 5],
        .traced = (byte & 0x1c) == 0x18 ? (byte & 1 ? 20000 : 700) : 0,
    };
}

static void it_execs(void)
{
    struct nr_creature *who = leader();
    if (who != NULL && who->life == NR_ALIVE && nr_kernel.exec == NR_EXEC_OPEN) {
        nr_world_setsid(who);
        nr_kernel.exec = NR_EXEC_CLOSED;
    }
}

static void it_fails(void)
{
    uint8_t how = nr_script_byte(&run.script);
    struct nr_creature *who = leader();
    if (who == NULL || who->life != NR_ALIVE || nr_kernel.exec != NR_EXEC_OPEN)
        return;
    if (how & 1)
        nr_world_setsid(who);
    nr_kernel.exec = NR_EXEC_BROUGHT;
    nr_kernel.exec_failed[0] = NR_STAGE_SETUP + how % (NR_STAGES_END - NR_STAGE_SETUP);
    nr_kernel.exec_failed[1] = 1U + (how >> 2);
    who->temper.traced = 0; /* nobody traces a command that does not run yet */
    nr_world_leave(who, how & 2 ? 3 : 0, 127 << 8);
    nr_world_pass(0);
}

static void it_forks(void)
{
    struct nr_creature *who = member();
    uint8_t byte = nr_script_byte(&run.script);
    if (who == NULL || before_exec(who))
        return;
    struct nr_creature *child = nr_world_birth(who->pid, temper(byte));
    if (child != NULL && (byte & 4))
        nr_world_setsid(child);
}

static void it_ends(bool by_signal)
{
    struct nr_creature *who = member();
    uint8_t byte = nr_script_byte(&run.script);
    if (who != NULL)
        nr_world_death(who, by_signal ? 1 + byte % 31 : byte << 8);
}

static void garbage(void)
{
    size_t given;
    const uint8_t *bytes = nr_script_bytes(&run.script, nr_script_byte(&run.script), &given);
    nr_beam_send(bytes, given, 0, false);
}

static void message_with_gifts(void)
{
    uint8_t byte = nr_script_byte(&run.script);
    struct nr_kill kill = {.signal = 1 + byte % 70U, .scope = byte % 3U};
    uint8_t bytes[24];
    bool hold = byte & 128;
    size_t length = hold ? nr_codec_write(bytes, sizeof(bytes), NR_HOLD, 0, NULL, 0)
                         : nr_codec_write(bytes, sizeof(bytes), NR_KILL, byte, &kill, sizeof(kill));
    nr_beam_send(bytes, byte & 64 ? 0 : length, 1 + byte % 4U, byte & 32);
}

/* The pipes that the guardian may hold: something is written, or the last writer is gone. */
static void pipes_move(uint8_t byte)
{
    for (int i = 0; i < NR_KERNEL_FDS; i++) {
        if (nr_kernel.fds[i].kind != NR_FD_GIFT || (byte & 3) == 0)
            continue;
        nr_kernel.fds[i].holds += (size_t)byte << 12;
        nr_kernel.fds[i].ended = nr_kernel.fds[i].ended || byte & 1;
    }
}

static void stop_order(void)
{
    struct nr_stop stop = {.grace_ms = spans[nr_script_byte(&run.script) % 8]};
    nr_beam_send_frame(NR_STOP, 0, &stop, sizeof(stop));
}

/* Another command, of a guardian that rests: the same but for its descriptors, of which there may be one too many. */
static void another_order(void)
{
    uint8_t byte = nr_script_byte(&run.script);
    uint8_t bytes[128];
    uint8_t payload[sizeof(struct nr_spawn) + sizeof(strings)];
    struct nr_spawn spawn = run.order.spawn;

    spawn.flags = byte & (NR_SPAWN_STDIN | NR_SPAWN_STDOUT | NR_SPAWN_STDERR | NR_SPAWN_CWD);
    if (byte & 16)
        spawn.flags |= NR_SPAWN_REST;
    memcpy(payload, &spawn, sizeof(spawn));
    memcpy(payload + sizeof(spawn), strings, sizeof(strings));
    nr_kernel.leader = temper(nr_script_byte(&run.script));
    size_t length = nr_codec_write(bytes, sizeof(bytes), NR_SPAWN, byte, payload, sizeof(payload));
    nr_beam_send(bytes, length, nr_codec_spawn_fds(spawn.flags) - 1 + (byte >= 248), false);
}

static void kill_order(void)
{
    if (nr_beam.rests) {
        another_order();
        return;
    }

    uint8_t signal = nr_script_byte(&run.script);
    uint8_t byte = nr_script_byte(&run.script);
    struct nr_kill kill = {.signal = signal % 66U, .scope = byte % 3U};
    nr_beam_send_frame(NR_KILL, byte, &kill, sizeof(kill));
}

static void falls_silent(void)
{
    if (run.silent_at == NR_WORLD_NEVER)
        run.silent_at = nr_world_its_time();
}

/* Under orphans: :keep a hang-up alone need not end anything: the BEAM may still live. */
static void hang_up(bool reset)
{
    nr_tell("%8llu: the BEAM hangs up", (unsigned long long)nr_world.now);
    nr_beam.hung_up = true;
    nr_beam.reset = reset;
    if (!nr_beam.keep)
        falls_silent();
}

/* Without a pidfd of the BEAM only the hang-up tells; and whoever is kept then is the zygote's to end. */
static void beam_dies(void)
{
    nr_tell("%8llu: the BEAM dies", (unsigned long long)nr_world.now);
    if (nr_kernel_count(NR_FD_BEAM) == 0) {
        hang_up(false);
        return;
    }
    nr_beam.dead = true;
    falls_silent();
}

/* The room that signals, asked for any pid at all: it refuses what is not ours (world.c holds it to that). */
static void any_pid(void)
{
    uint8_t byte = nr_script_byte(&run.script);
    struct nr_pidref ref = {.pid = (pid_t)(byte & 63) - 2, .pidfd = -EBADF};
    unsigned kills = nr_world.kills;

    int r = byte & 64 ? nr_pidref_signal(&ref, SIGWINCH) : nr_pidref_signal_group(&ref, SIGWINCH);
    if (ref.pid <= 1)
        INVARIANT(r == -EINVAL && nr_world.kills == kills, "a signal to %d gives %d", ref.pid, r);
}

static void something_else(void)
{
    uint8_t what = nr_script_byte(&run.script);
    struct nr_creature *who;

    switch (what % 7) {
    case 0:
        run.late_next = what;
        break;
    case 1:
        nr_world_stranger();
        break;
    case 2:
        if ((who = member()) != NULL)
            nr_world_reap(who);
        break;
    case 3: /* it comes to its senses */
        if ((who = member()) != NULL)
            who->temper = (struct nr_temper){0};
        break;
    case 4:
        pipes_move(what);
        break;
    case 5:
        any_pid();
        break;
    default: /* somebody else kills it */
        if ((who = member()) != NULL)
            nr_world_signal(who, SIGKILL);
        break;
    }
}

static void time_passes(uint64_t most)
{
    uint64_t byte = nr_script_byte(&run.script);
    uint64_t ms = byte * byte / 4;
    nr_world_pass(ms < most ? ms : most);
}

/* One event. False: the guardian has its turn. `most`: how long it sleeps. */
static bool happen(uint64_t most)
{
    uint8_t what = nr_script_byte(&run.script) % 16;
    struct nr_creature *who;

    switch (what) {
    case 1:
        it_execs();
        return true;
    case 2:
        it_fails();
        return true;
    case 3:
    case 4:
        it_ends(what == 4);
        return true;
    case 5:
        it_forks();
        return true;
    case 6:
        if ((who = member()) != NULL)
            nr_world_setsid(who);
        return true;
    case 7:
        stop_order();
        return true;
    case 8:
        kill_order();
        return true;
    case 9:
        garbage();
        return true;
    case 10:
        message_with_gifts();
        return true;
    case 11:
        hang_up(nr_script_byte(&run.script) & 1);
        return true;
    case 12:
        beam_dies();
        return true;
    case 13:
        nr_beam.blocked = !nr_beam.blocked;
        return true;
    case 14:
        time_passes(most);
        return true;
    case 15:
        something_else();
        return true;
    default:
        return false;
    }
}

/* The input is used up: first a STOP (to those who still listen), then the BEAM's end. */
static void conclude(void)
{
    struct nr_stop stop = {.grace_ms = 100};

    run.finale_at = nr_world.now + FINALE_MS;
    switch (run.finale++) {
    case 0:
        nr_beam.blocked = false;
        nr_beam_send_frame(NR_STOP, 0, &stop, sizeof(stop));
        break;
    case 1:
        beam_dies();
        hang_up(false);
        if (nr_beam.keep && !nr_beam.dead)
            longjmp(run.end, KILLED_BY_ZYGOTE);
        break;
    default:
        nr_broken("it waits for ever, and nobody listens");
    }
}

/* ---- what must hold ------------------------------------------------------------------------- */

static void bounds_hold(void)
{
    uint64_t now = nr_world_its_time();
    uint64_t limit = SWEEP_LIMIT_MS + SLACK_MS;

    if (run.silent_at != NR_WORLD_NEVER)
        INVARIANT(now <= run.silent_at + run.order.spawn.kill_timeout_ms + limit,
                  "nobody listens since %llu ms, and it is still there",
                  (unsigned long long)(now - run.silent_at));
    if (nr_beam.stop_read && nr_beam.unkillable == 0 && !nr_beam.blocked && nr_beam_listens())
        INVARIANT(now <= nr_beam.stop_due + limit || nr_world_family() == 0,
                  "a STOP is over since %llu ms, and no survivors were reported",
                  (unsigned long long)(now - nr_beam.stop_due));
}

static void it_does_not_spin(void)
{
    if (run.spin_at != nr_world.now) {
        run.spin_at = nr_world.now;
        run.spins = 0;
    }
    INVARIANT(run.spins++ < SPIN_MAX, "%d turns without waiting", SPIN_MAX);
}

static void waiting_is_right(void)
{
    INVARIANT(nr_kernel_count(NR_FD_GIVEN) == 0, "it waits with descriptors of the command open");
    INVARIANT(nr_kernel_count(NR_FD_GIFT) <= (nr_beam.keep ? NR_HELD_MAX : 0),
              "it waits with %u descriptors that it was sent", nr_kernel_count(NR_FD_GIFT));
    INVARIANT(nr_world_family() > 0 || ((nr_beam.blocked || nr_beam.rests) && nr_beam_listens()),
              "it waits, and nobody of the family lives");
}

static void the_end_is_right(void)
{
    pid_t children[NR_WORLD_MAX];
    bool listens = nr_beam_listens();

    nr_tell("%8llu: it leaves with %d", (unsigned long long)nr_world.now, run.exit_status);
    for (int kind = NR_FD_GIVEN; kind <= NR_FD_GIFT; kind++)
        INVARIANT(nr_kernel_count((enum nr_fd_kind)kind) == 0, "it forgot to close a descriptor");
    if (run.exit_status == NR_GUARDIAN_LEFT) {
        INVARIANT(!listens, "it leaves survivors although the BEAM listens");
        INVARIANT(nr_world_family() > 0, "it leaves survivors, and nobody lives");
        INVARIANT(nr_kernel.refusals.no_proc || nr_world_spared(RETRY_TICK_MS + SLACK_MS) == NULL,
                  "it leaves somebody whom it sent no SIGKILL");
        return;
    }
    INVARIANT(run.exit_status == NR_GUARDIAN_CLEAN, "exit status %d", run.exit_status);
    INVARIANT(nr_world_family() == 0, "it leaves %u alive", nr_world_family());
    INVARIANT(nr_world_children(children, NR_WORLD_MAX) == 0, "it leaves a zombie");
    INVARIANT(!nr_beam.rests || !listens, "it said that it rests, and leaves");
    if (listens)
        INVARIANT(nr_beam.failed || (nr_beam.started && nr_beam.exited),
                  "it leaves without FAILED or EXITED");
}

/* ---- the guardian's poll(2), in which everything happens ------------------------------------ */

static int look(struct pollfd *fds, nfds_t count)
{
    int ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        fds[i].revents = 0;
        if (fds[i].fd < 0)
            continue;
        fds[i].revents = nr_kernel_kind(fds[i].fd) == NR_FD_CONTROL
                             ? nr_beam_ready(fds[i].events)
                             : nr_kernel_ready(fds[i].fd, fds[i].events, nr_beam.dead);
        ready += fds[i].revents != 0;
    }
    return ready;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    if (!nr_kernel.running)
        return __real_poll(fds, count, timeout);
    bounds_hold();
    it_does_not_spin();

    uint64_t until = timeout < 0 ? NR_WORLD_NEVER : nr_world.now + (uint64_t)timeout;
    int ready;
    for (;;) {
        while (run.script.left > 0 && (nr_world.now < until || timeout == 0)) {
            bool ready_before = look(fds, count) > 0;
            uint64_t before = nr_world.now;
            if (!happen(timeout == 0 ? 0 : until - nr_world.now))
                break;
            run.spins = 0;
            if (ready_before) /* it could have been awake by now */
                nr_world.late += nr_world.now - before;
        }
        if (run.script.left == 0 && run.finale < 2 && nr_world.now >= run.finale_at)
            conclude();
        ready = look(fds, count);
        if (ready > 0 || nr_world.now >= until)
            break;
        waiting_is_right();
        uint64_t next = least(until, nr_world_next_death());
        if (next != NR_WORLD_NEVER)
            nr_world_pass(next - nr_world.now);
        else if (run.script.left == 0)
            conclude();
    }
    nr_world.late += run.late_next;
    nr_world_pass(run.late_next);
    run.late_next = 0;
    return ready;
}

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status)
{
    if (!nr_kernel.running)
        __real__exit(status);
    run.exit_status = status;
    longjmp(run.end, LEFT_BY_ITSELF);
}

/* ---- one input ------------------------------------------------------------------------------ */

static struct nr_refusals refusals(uint8_t byte, uint8_t fault)
{
    return (struct nr_refusals){
        .no_subreaper = byte & 1,
        .no_clone3 = byte & 2,
        .no_pidfd = byte & 4,
        .no_children = byte & 8,
        .no_proc = (byte & 24) == 24,
        .short_reads = byte >> 5,
        .no_fork = fault == 1,
        .no_signalfd = fault == 2,
        .no_pipe = fault == 3,
    };
}

static void place_order(uint8_t byte)
{
    static const uint32_t signals[] = {SIGTERM, SIGINT, SIGKILL, SIGWINCH};
    struct nr_order *order = &run.order;

    *order = NR_ORDER_NONE;
    order->id = NR_BEAM_ID;
    order->strings = strings;
    order->spawn = (struct nr_spawn){
        .flags = byte & 1     ? NR_SPAWN_KEEP
                 : byte & 128 ? NR_SPAWN_REST
                              : 0,
        .stop_signal = signals[(byte >> 1) % 4],
        .kill_timeout_ms = spans[nr_script_byte(&run.script) % 8],
        .drain_timeout_ms = spans[nr_script_byte(&run.script) % 8],
        .argc = 1,
        .envc = 1,
        .strings_length = sizeof(strings),
    };
    for (int i = 0; i < 3; i++)
        if (byte & (8 << i))
            order->stdio[i] = nr_kernel_open(NR_FD_GIVEN);
    if (byte & 64)
        order->cwd = nr_kernel_open(NR_FD_GIVEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&run, 0, sizeof(run));
    run.script = (struct nr_script){.at = data, .left = size};
    run.silent_at = NR_WORLD_NEVER;

    nr_kernel_begin();
    uint8_t refused = nr_script_byte(&run.script);
    uint8_t fault = nr_script_byte(&run.script);
    nr_kernel.refusals = refusals(refused, fault % 32);
    nr_kernel.leader = temper(nr_script_byte(&run.script));
    place_order(nr_script_byte(&run.script));
    nr_beam_begin(run.order.spawn.flags & NR_SPAWN_KEEP);
    nr_beam.may_rest = run.order.spawn.flags & NR_SPAWN_REST;
    run.order.control = nr_beam.control;
    int beam = fault & 32 ? -EBADF : nr_kernel_open(NR_FD_BEAM);

    switch (setjmp(run.end)) {
    case 0:
        nr_guardian_run(&run.order, beam, frame);
    case LEFT_BY_ITSELF:
        the_end_is_right();
        break;
    default:
        break;
    }
    nr_kernel_end();
    return 0;
}
