/*
 * See zygote.h. One poll over {request socket, BEAM, signals}. Three stages of life: SERVING; CLOSED
 * (the request socket hung up, the BEAM lives: stay as subreaper for the guardians that run);
 * LEAVING (the BEAM is dead: see the guardians out, kill those that outstay their time).
 */
#include "zygote.h"

#include "cgroup.h"
#include "channel.h"
#include "children.h"
#include "clock.h"
#include "codec.h"
#include "error.h"
#include "fd.h"
#include "guardian.h"
#include "order.h"
#include "pidref.h"
#include "stop.h"
#include "sys.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARDIANS_MAX 16384
/* A guardian may need its grace, then S (2 s, for its sweep). Half a second of the one that the fault matrix
 * leaves for us is for its being late; in the other we kill it and sweep up behind it. */
#define OUTSTAY_MS 2500
/* Strays are looked for this often until two looks find none... */
#define STRAY_TICK_MS 100
#define STRAY_LOOKS   2
/* ...and less often once it is clear that some do not die, which also ends our own waiting. */
#define STRAY_LIMIT_MS 2000
#define STRAY_SLOW_MS  1000
/* Where the BEAM's end cannot be polled for, look this often who our parent is. */
#define PARENT_TICK_MS 200
/* How many requests one turn takes in: a flood of them must not keep us from reaping. */
#define REQUESTS_MAX 64
/* How much of what strays do one turn takes in. */
#define REAP_MAX     1024
#define SWEEP_PASSES 32

enum stage_of_life {
    SERVING,
    CLOSED,
    LEAVING,
};

struct entry {
    struct nr_pidref guardian; /* no pidfd: our unreaped child's pid is safe, and a thousand
                                  descriptors would meet RLIMIT_NOFILE */
    uint64_t id;
    uint64_t deadline; /* when it has outstayed; NR_NEVER while the BEAM lives */
    uint32_t grace_ms;
    bool condemned;                /* it has outstayed and was killed */
    struct nr_cgroup_claim *claim; /* on its command's leaf; NULL: it has none */
};

struct zygote {
    enum stage_of_life life;
    int socket;
    int beam; /* readable once the BEAM is dead, in every guardian, too */
    pid_t beam_pid;
    bool unwatched; /* no pidfd: `beam` is a pipe that we write to when our parent has changed */
    int tell;       /* its other end */
    int signals;
    struct nr_outbox outbox;
    uint64_t listen; /* the socket is left alone until then: there was no memory to read with */

    unsigned count;
    struct entry table[GUARDIANS_MAX];

    int oom_score_adj; /* the BEAM's, that commands get back */

    /* Opened at the start: whoever is out of descriptors must still be able to sweep. */
    struct nr_children children;
    unsigned looks;   /* for strays, still to be clean */
    uint64_t look_at; /* the next one */
    uint64_t looking_since;
    bool unreaped; /* more children have ended than one turn reaps */

    /* Leaves whose guardians were killed: looked after with the strays, who may live in them. */
    unsigned left_count;
    struct nr_cgroup_claim *left[GUARDIANS_MAX];

    unsigned char frame[NR_WIRE_FRAME_MAX];
};

/* The one context. Static: its untouched pages cost nothing, in us and in every fork. */
static struct zygote the_zygote;

/* ---- guardians ------------------------------------------------------------------------------ */

static struct entry *find_id(struct zygote *z, uint64_t id)
{
    for (unsigned i = 0; i < z->count; i++)
        if (z->table[i].id == id)
            return &z->table[i];
    return NULL;
}

static struct entry *find_pid(struct zygote *z, pid_t pid)
{
    for (unsigned i = 0; i < z->count; i++)
        if (z->table[i].guardian.pid == pid)
            return &z->table[i];
    return NULL;
}

static void start_looking(struct zygote *z)
{
    if (z->looks == 0)
        z->looking_since = nr_clock_ms();
    z->looks = STRAY_LOOKS;
    z->look_at = 0;
}

/* Takes the claim of a guardian that was killed. */
static void take_over(struct zygote *z, struct nr_cgroup_claim *claim)
{
    if (z->left_count < GUARDIANS_MAX && !nr_cgroup_claim_settle(claim))
        z->left[z->left_count++] = claim;
    else
        nr_cgroup_claim_free(claim);
}

static void settle_claims(struct zygote *z)
{
    for (unsigned i = 0; i < z->left_count;) {
        if (nr_cgroup_claim_settle(z->left[i])) {
            nr_cgroup_claim_free(z->left[i]);
            z->left[i] = z->left[--z->left_count];
        } else {
            i++;
        }
    }
}

static void ended(struct zygote *z, const siginfo_t *end)
{
    struct entry *entry = find_pid(z, end->si_pid);
    if (entry == NULL) {
        z->look_at = 0; /* a stray's end may have brought us its children */
        return;
    }
    struct nr_cgroup_claim *claim = entry->claim;
    *entry = z->table[--z->count];
    if (end->si_code == CLD_EXITED && end->si_status == NR_GUARDIAN_CLEAN) {
        nr_cgroup_claim_free(claim);
    } else {
        take_over(z, claim);
        z->looks = 0; /* what it left is new, however long others have outlived SIGKILL */
        start_looking(z);
    }
}

/* At most REAP_MAX: strays that fork without end must not keep us from the requests. */
static void reap(struct zygote *z)
{
    z->unreaped = true;
    for (unsigned i = 0; i < REAP_MAX; i++) {
        siginfo_t end = {0};
        if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | NR_WAIT_ALL) < 0 || end.si_pid == 0) {
            z->unreaped = false;
            return;
        }
        ended(z, &end);
    }
}

struct sweeping {
    struct zygote *zygote;
    unsigned seen;
    unsigned reaped;
};

static void sweep_stray(void *context, pid_t pid)
{
    struct sweeping *sweeping = context;
    siginfo_t end = {0};

    if (find_pid(sweeping->zygote, pid) != NULL)
        return;
    sweeping->seen++;
    if (waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | NR_WAIT_ALL) == 0 && end.si_pid == pid) {
        sweeping->reaped++;
        return;
    }
    nr_stop_child(pid, SIGKILL);
}

static void look_for_strays(struct zygote *z)
{
    uint64_t now = nr_clock_ms();
    bool seen = false;
    int r = 0;

    if (z->looks == 0 || z->look_at > now)
        return;
    settle_claims(z);
    for (int pass = 0; pass < SWEEP_PASSES; pass++) {
        struct sweeping sweeping = {.zygote = z};
        r = nr_children_each(&z->children, sweep_stray, &sweeping);
        if (r < 0)
            break;
        seen = seen || sweeping.seen > 0;
        if (sweeping.reaped == 0)
            break;
    }

    /* Who could not look (no descriptor left) has not seen that there is nobody. Where nobody ever
     * can (portable) there are no strays either. */
    z->looks = seen || z->left_count > 0 || (r < 0 && r != -ENOSYS) ? STRAY_LOOKS : z->looks - 1;
    if (r < 0 && z->count == 0 && z->left_count == 0 && !nr_sys_children_alive())
        z->looks = 0; /* not even a child */
    bool stubborn = now - z->looking_since > STRAY_LIMIT_MS;
    if (stubborn && z->life != SERVING)
        z->looks = 0; /* they outlive SIGKILL: nothing we wait for would change that */
    z->look_at = now + (stubborn ? STRAY_SLOW_MS : STRAY_TICK_MS);
}

/* First SIGKILL; who does not even die of that is left to init. */
static void kill_outstayers(struct zygote *z)
{
    uint64_t now = nr_clock_ms();
    for (unsigned i = 0; i < z->count;) {
        struct entry *entry = &z->table[i];
        if (entry->deadline > now) {
            i++;
        } else if (!entry->condemned) {
            (void)nr_pidref_signal(&entry->guardian, SIGKILL);
            entry->condemned = true;
            entry->deadline = now + STRAY_LIMIT_MS;
        } else {
            take_over(z, entry->claim);
            *entry = z->table[--z->count];
        }
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

static void reject(struct zygote *z, uint64_t id, int error)
{
    struct nr_rejected rejected = {.error = (uint32_t)-error};
    (void)nr_outbox_post(&z->outbox, NR_REJECTED, id, &rejected, sizeof(rejected));
    /* Before the control end is closed: whoever sees that hang up finds the reason here. */
    (void)nr_outbox_flush(&z->outbox, z->socket);
}

static void start_failed(const struct nr_order *order, enum nr_stage stage, uint32_t detail,
                         int error)
{
    unsigned char bytes[NR_OUTBOX_FRAME];
    struct nr_failed failed = {
        .stage = (uint32_t)stage, .error = (uint32_t)-error, .detail = detail};
    size_t length =
        nr_codec_write(bytes, sizeof(bytes), NR_FAILED, order->id, &failed, sizeof(failed));
    (void)nr_channel_send(order->control, bytes, length); /* else the hang-up tells */
}

/* What is needed to clean up behind the guardian of an order that wants a cgroup. */
static int claim(struct nr_order *order)
{
    char buffer[NR_ORDER_NAMES_ROOM];
    const char *parent;
    const char *leaf;

    if (!(order->spawn.flags & NR_SPAWN_CGROUP))
        return 0;
    int r = nr_order_cgroup(order, buffer, &parent, &leaf);
    return r < 0 ? r : nr_cgroup_claim_new(&order->claim, parent, leaf);
}

static void spawn(struct zygote *z, const struct nr_frame *frame, struct nr_message *message)
{
    struct nr_order order;

    /* A replay: nothing runs twice, and an id names one guardian. */
    int r = find_id(z, frame->id) != NULL ? -EEXIST : nr_order_take(&order, frame, message);
    if (r < 0) {
        reject(z, frame->id, r);
        return;
    }
    if (z->count == GUARDIANS_MAX) {
        start_failed(&order, NR_STAGE_FORK, 0, -EAGAIN);
        nr_order_close(&order);
        return;
    }
    r = claim(&order);
    if (r < 0) {
        start_failed(&order, NR_STAGE_CGROUP, NR_CGROUP_PARENT, r);
        nr_order_close(&order);
        return;
    }
    order.oom_score_adj = z->oom_score_adj;
    pid_t pid = fork();
    if (pid == 0) {
        nr_children_close(&z->children);
        (void)nr_fd_close(z->socket);
        (void)nr_fd_close(z->signals);
        nr_guardian_run(&order, z->beam, z->frame);
    }
    if (pid < 0) {
        start_failed(&order, NR_STAGE_FORK, 0, nr_errno());
        nr_cgroup_claim_free(order.claim);
    } else {
        nr_cgroup_claim_forked(order.claim);
        z->table[z->count++] = (struct entry){
            .guardian = {.pid = pid, .pidfd = -EBADF},
            .id = order.id,
            .deadline = NR_NEVER,
            .grace_ms = order.spawn.kill_timeout_ms,
            .claim = order.claim,
        };
    }
    nr_order_close(&order);
}

static void escalate(struct zygote *z, uint64_t id)
{
    const struct entry *entry = find_id(z, id);
    if (entry != NULL) /* else a guardian that has left meanwhile */
        (void)nr_pidref_signal(&entry->guardian, SIGKILL);
}

static void serve(struct zygote *z, struct nr_message *message)
{
    struct nr_frame frame;

    int r = nr_codec_open(z->frame, message->length, &frame);
    if (r == 0 && message->truncated) /* a lie about its length; the header can still be read */
        r = NR_FRAME_MALFORMED;
    if (r == NR_FRAME_UNREADABLE)
        reject(z, 0, -EBADMSG);
    else if (r == 0 && frame.type == NR_SPAWN)
        spawn(z, &frame, message);
    else if (r == 0 && frame.type == NR_ESCALATE && frame.length == 0 && message->fds_count == 0 &&
             !message->fds_lost)
        escalate(z, frame.id);
    else
        reject(z, frame.id, -EBADMSG);
}

static void hang_up(struct zygote *z)
{
    z->socket = nr_fd_close(z->socket);
    z->outbox.count = 0;
    if (z->life == SERVING)
        z->life = CLOSED;
}

static void look_at_socket(struct zygote *z, short ready)
{
    if (z->socket < 0 || ready == 0)
        return;
    for (int i = 0; i < REQUESTS_MAX; i++) {
        /* Who does not read its answers is not asked for more requests. */
        int r = nr_outbox_flush(&z->outbox, z->socket);
        if (r == NR_CHANNEL_WAIT)
            return;
        struct nr_message message;
        r = r == 0 ? nr_channel_receive(z->socket, z->frame, sizeof(z->frame), &message) : r;
        if (r == NR_CHANNEL_WAIT)
            return;
        if (r == NR_CHANNEL_LATER) {
            z->listen = nr_clock_after(NR_CHANNEL_LATER_MS);
            return;
        }
        if (r != 0) {
            hang_up(z);
            return;
        }
        serve(z, &message);
        nr_message_close(&message);
    }
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void leave(struct zygote *z)
{
    hang_up(z);
    z->life = LEAVING;
    z->beam = nr_fd_close(z->beam);
    for (unsigned i = 0; i < z->count; i++)
        z->table[i].deadline = nr_clock_after((uint64_t)z->table[i].grace_ms + OUTSTAY_MS);
    start_looking(z);
}

static uint64_t next_deadline(const struct zygote *z)
{
    uint64_t next = NR_NEVER;
    if (z->unreaped)
        return 0;
    if (z->looks > 0)
        next = z->look_at;
    if (z->life == LEAVING)
        for (unsigned i = 0; i < z->count; i++)
            next = z->table[i].deadline < next ? z->table[i].deadline : next;
    if (z->unwatched && z->life != LEAVING) {
        uint64_t tick = nr_clock_ms() + PARENT_TICK_MS;
        next = tick < next ? tick : next;
    }
    return next;
}

static void turn(struct zygote *z)
{
    bool listens = z->listen <= nr_clock_ms();
    uint64_t until = next_deadline(z);
    if (!listens && z->listen < until)
        until = z->listen;

    struct pollfd watched[] = {
        {.fd = listens ? z->socket : -1, .events = z->outbox.count > 0 ? POLLOUT : POLLIN},
        {.fd = z->beam, .events = POLLIN},
        {.fd = z->signals, .events = POLLIN},
    };
    if (poll(watched, 3, nr_clock_poll_ms(until)) < 0)
        watched[0].revents = watched[1].revents = watched[2].revents = 0;

    if (watched[2].revents || z->unreaped) {
        nr_sys_signals_drain(z->signals);
        reap(z);
    }
    if (watched[1].revents)
        leave(z);
    look_at_socket(z, watched[0].revents);
    if (z->unwatched && z->life != LEAVING && getppid() != z->beam_pid) {
        (void)nr_fd_write_all(z->tell, "x", 1); /* guardians whose socket a fork of it holds */
        leave(z);
    }
    if (z->life == LEAVING)
        kill_outstayers(z);
    look_for_strays(z);
}

static int say_hello(struct zygote *z)
{
    struct nr_hello hello = {.pid = (uint32_t)getpid(), .features = nr_sys_features()};
    (void)nr_outbox_post(&z->outbox, NR_HELLO, 0, &hello, sizeof(hello));
    return nr_outbox_flush(&z->outbox, z->socket) == NR_CHANNEL_HANGUP ? -EPIPE : 0;
}

/* Guardians inherit both ends of the pipe: our own death is not the BEAM's. */
static void watch_beam(struct zygote *z, pid_t beam)
{
    int ends[2] = {-EBADF, -EBADF};

    z->beam_pid = beam;
    z->beam = nr_sys_watch(beam);
    z->unwatched = z->beam < 0;
    if (z->unwatched && nr_fd_pipe(ends) == 0)
        z->beam = ends[0];
    z->tell = ends[1];
}

int nr_zygote_run(int socket, pid_t beam)
{
    struct zygote *z = &the_zygote;

    nr_sys_name("nr_zygote");
    z->socket = socket;
    z->signals = nr_sys_signals_open();
    if (z->signals < 0)
        return 1;
    (void)nr_sys_subreaper(); /* without it: no strays to see; HELLO says so */
    z->oom_score_adj = nr_sys_oom_protect();
    z->children = NR_CHILDREN_NONE;
    (void)nr_children_each(&z->children, NULL, NULL);

    watch_beam(z, beam);
    if (getppid() != beam) /* it died before we watched, or it is not our parent at all */
        return 1;
    if (say_hello(z) < 0)
        return 1;

    while (z->life == SERVING || z->count > 0 || z->looks > 0)
        turn(z);
    return 0;
}
