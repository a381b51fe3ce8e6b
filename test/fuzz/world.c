/* See world.h: the simulated processes. */
#include "world.h"

#include "invariant.h"

#include <errno.h>
#include <string.h>

#define INIT      1
#define FIRST_PID 51

struct nr_world nr_world;

/* Where the places end that were ever used. */
static struct nr_creature *used(void)
{
    return nr_world.all + nr_world.used;
}

/* ---- who is there --------------------------------------------------------------------------- */

struct nr_creature *nr_world_find(pid_t pid)
{
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life != NR_NOBODY && c->pid == pid)
            return c;
    return NULL;
}

struct nr_creature *nr_world_born(uint64_t birth)
{
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life != NR_NOBODY && c->birth == birth)
            return c;
    return NULL;
}

/* As its parent sees it. */
static bool lives(const struct nr_creature *creature)
{
    return creature->life == NR_ALIVE || creature->life == NR_HELD;
}

static bool descends(const struct nr_creature *creature)
{
    for (pid_t up = creature->parent; up > INIT;) {
        if (up == NR_WORLD_SELF)
            return true;
        const struct nr_creature *parent = nr_world_find(up);
        up = parent != NULL ? parent->parent : INIT;
    }
    return false;
}

unsigned nr_world_family(void)
{
    unsigned alive = 0;
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        alive += lives(c) && descends(c);
    return alive;
}

struct nr_creature *nr_world_member(unsigned index)
{
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life == NR_ALIVE && descends(c) && index-- == 0)
            return c;
    return NULL;
}

static struct nr_creature *our_child(pid_t pid)
{
    struct nr_creature *c = nr_world_find(pid);
    return c != NULL && c->parent == NR_WORLD_SELF ? c : NULL;
}

/* Our child that stands next after `after` in the list. */
static struct nr_creature *next_child(uint64_t after)
{
    struct nr_creature *next = NULL;
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life != NR_NOBODY && c->parent == NR_WORLD_SELF && c->adopted > after &&
            (next == NULL || c->adopted < next->adopted))
            next = c;
    return next;
}

const struct nr_creature *nr_world_spared(uint64_t ms)
{
    for (struct nr_creature *c = next_child(0); c != NULL; c = next_child(c->adopted))
        if (c->life == NR_ALIVE && !c->condemned && nr_world_its_time() > c->adopted_at + ms)
            return c;
    return NULL;
}

unsigned nr_world_children(pid_t *pids, unsigned room)
{
    unsigned count = 0;
    for (struct nr_creature *c = next_child(0); c != NULL && count < room;
         c = next_child(c->adopted))
        pids[count++] = c->pid;
    return count;
}

/* ---- birth and death ------------------------------------------------------------------------ */

/* The kernel keeps a number while a process or a group bears it. */
static bool pid_taken(pid_t pid)
{
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life != NR_NOBODY && (c->pid == pid || c->group == pid))
            return true;
    return pid == NR_WORLD_SELF;
}

static void note_ours(const struct nr_creature *c)
{
    if (lives(c) && c->parent == NR_WORLD_SELF)
        nr_world.ours[c->pid] = true;
}

struct nr_creature *nr_world_birth(pid_t parent, struct nr_temper temper)
{
    pid_t pid = FIRST_PID;
    const struct nr_creature *of = nr_world_find(parent);

    while (pid_taken(pid))
        pid++;
    for (struct nr_creature *c = nr_world.all; c < nr_world.all + NR_WORLD_MAX; c++) {
        if (c->life != NR_NOBODY)
            continue;
        if (c == used())
            nr_world.used++;
        *c = (struct nr_creature){
            .life = NR_ALIVE,
            .pid = pid,
            .parent = parent,
            .group = parent == NR_WORLD_SELF ? NR_WORLD_SELF
                     : of != NULL            ? of->group
                                             : pid,
            .birth = ++nr_world.births,
            .adopted = nr_world.births,
            .adopted_at = nr_world_its_time(),
            .dies_at = NR_WORLD_NEVER,
            .temper = temper,
        };
        note_ours(c);
        return c;
    }
    return NULL;
}

void nr_world_stranger(void)
{
    (void)nr_world_birth(INIT, (struct nr_temper){0});
}

void nr_world_begin(void)
{
    memset(&nr_world, 0, sizeof(nr_world));
    nr_world.now = 1000000;
    nr_world_stranger();
}

static void orphan(struct nr_creature *child)
{
    child->parent = nr_world.subreaper && descends(child) ? NR_WORLD_SELF : INIT;
    child->adopted = ++nr_world.births; /* the end of the list */
    child->adopted_at = nr_world_its_time();
    note_ours(child);
    if (child->life == NR_ZOMBIE && child->parent == INIT)
        child->life = NR_NOBODY;
    else if (child->life == NR_ZOMBIE)
        nr_world.sigchld = true;
}

/* Its parent hears of its end. */
static void tell_parent(struct nr_creature *creature)
{
    const struct nr_creature *parent = nr_world_find(creature->parent);

    creature->life = NR_ZOMBIE;
    creature->dies_at = NR_WORLD_NEVER;
    if (creature->parent == NR_WORLD_SELF)
        nr_world.sigchld = true;
    else if (parent == NULL || parent->temper.parental)
        creature->life = NR_NOBODY;
}

void nr_world_death(struct nr_creature *creature, int status)
{
    pid_t pid = creature->pid;

    creature->status = status;
    creature->dies_at = NR_WORLD_NEVER;
    nr_world.by_sigkill += descends(creature) && status == SIGKILL;
    if (creature->birth == nr_world.watched) {
        nr_world.watched_ended = true;
        nr_world.watched_status = status;
    }
    /* Its children change hands before it is a zombie. */
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life != NR_NOBODY && c->parent == pid && c != creature)
            orphan(c);
    nr_tell("%8llu: %d ends, status %#x, held for %u ms", (unsigned long long)nr_world.now, pid,
            (unsigned)status, creature->temper.traced);
    if (creature->temper.traced == 0) {
        tell_parent(creature);
        return;
    }
    creature->life = NR_HELD;
    creature->dies_at = nr_world.now + creature->temper.traced;
}

void nr_world_leave(struct nr_creature *creature, uint32_t in_ms, int status)
{
    creature->dies_at = nr_world.now + in_ms;
    creature->due = status;
}

void nr_world_reap(const struct nr_creature *creature)
{
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (c->life == NR_ZOMBIE && c->parent == creature->pid)
            c->life = NR_NOBODY;
}

void nr_world_setsid(struct nr_creature *creature)
{
    creature->group = creature->pid;
}

/* ---- time ----------------------------------------------------------------------------------- */

uint64_t nr_world_its_time(void)
{
    return nr_world.now - nr_world.late;
}

uint64_t nr_world_next_death(void)
{
    uint64_t next = NR_WORLD_NEVER;
    for (struct nr_creature *c = nr_world.all; c < used(); c++)
        if (lives(c) && c->dies_at < next)
            next = c->dies_at;
    return next;
}

void nr_world_pass(uint64_t ms)
{
    nr_world.now += ms;
    for (struct nr_creature *c = nr_world.all; c < used(); c++) {
        if (c->life == NR_HELD && c->dies_at <= nr_world.now)
            tell_parent(c);
        else if (c->life == NR_ALIVE && c->dies_at <= nr_world.now)
            nr_world_death(c, c->due);
    }
}

/* ---- signals -------------------------------------------------------------------------------- */

static bool harmless(int signal)
{
    switch (signal) {
    case SIGCHLD:
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
        return true;
    default:
        return false;
    }
}

void nr_world_signal(struct nr_creature *creature, int signal)
{
    if (creature->life != NR_ALIVE)
        return;
    if (signal == SIGKILL) {
        if (creature->temper.immortal || creature->dies_at != NR_WORLD_NEVER)
            return;
        if (creature->temper.linger == 0)
            nr_world_death(creature, SIGKILL);
        else
            nr_world_leave(creature, creature->temper.linger, SIGKILL);
    } else if (!harmless(signal) && !creature->temper.ignores) {
        nr_world_death(creature, signal);
    }
}

/* kill(2) as for a group: it fails only if nobody was there, or nobody could be signalled. */
static int kill_group(pid_t group, int signal)
{
    unsigned found = 0, allowed = 0;

    for (struct nr_creature *c = nr_world.all; c < used(); c++) {
        if (c->life == NR_NOBODY || c->group != group)
            continue;
        found++;
        c->condemned = c->condemned || signal == SIGKILL;
        if (!c->temper.foreign) {
            allowed++;
            nr_world_signal(c, signal);
        }
    }
    if (allowed > 0)
        return 0;
    errno = found > 0 ? EPERM : ESRCH;
    return -1;
}

int nr_world_kill(pid_t pid, int signal)
{
    nr_tell("%8llu: kill(%d, %d)", (unsigned long long)nr_world.now, pid, signal);
    INVARIANT(signal >= 1 && signal <= 64, "kill(%d, %d): no such signal", pid, signal);
    INVARIANT(pid > INIT || pid < -INIT, "kill(%d, %d): that is everybody", pid, signal);

    struct nr_creature *child = our_child(pid < 0 ? -pid : pid);
    INVARIANT(child != NULL, "kill(%d, %d): not our unreaped child", pid, signal);
    nr_world.kills++;
    nr_world.last_kill = pid;
    nr_world.last_signal = signal;
    if (pid < 0)
        return kill_group(-pid, signal);
    child->condemned = child->condemned || signal == SIGKILL;
    if (child->temper.foreign) {
        errno = EPERM;
        return -1;
    }
    nr_world_signal(child, signal);
    return 0;
}

pid_t nr_world_getpgid(pid_t pid)
{
    const struct nr_creature *c = nr_world_find(pid);
    if (pid == 0 || pid == NR_WORLD_SELF)
        return NR_WORLD_SELF;
    if (c != NULL)
        return c->group;
    errno = ESRCH;
    return -1;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void tell_end(const struct nr_creature *c, siginfo_t *end)
{
    end->si_signo = SIGCHLD;
    end->si_pid = c->pid;
    end->si_code = WIFSIGNALED(c->status) ? CLD_KILLED : CLD_EXITED;
    end->si_status = WIFSIGNALED(c->status) ? WTERMSIG(c->status) : WEXITSTATUS(c->status);
}

/* The first of those asked for that has ended (NULL: none), and whether any is a candidate at all:
 * do_wait() in kernel/exit.c. Without WEXITED a zombie is none. */
static struct nr_creature *ended(idtype_t type, pid_t pid, int flags, bool *candidate)
{
    struct nr_creature *c = type == P_PID ? our_child(pid) : next_child(0);
    *candidate = false;
    for (; c != NULL; c = type == P_PID ? NULL : next_child(c->adopted)) {
        if (c->life == NR_ZOMBIE && (flags & WEXITED))
            return c;
        *candidate = *candidate || lives(c);
    }
    return NULL;
}

int nr_world_waitid(idtype_t type, id_t id, siginfo_t *end, int flags)
{
    bool candidate;

    INVARIANT(type == P_ALL || (type == P_PID && id > INIT), "waitid(%d, %u)", (int)type, id);
    memset(end, 0, sizeof(*end));
    struct nr_creature *c = ended(type, (pid_t)id, flags, &candidate);
    if (c != NULL) {
        tell_end(c, end);
        if (!(flags & WNOWAIT))
            c->life = NR_NOBODY;
        return 0;
    }
    if (!candidate) {
        errno = ECHILD;
        return -1;
    }
    INVARIANT(flags & WNOHANG, "waitid(%d, %u) blocks", (int)type, id);
    return 0;
}

pid_t nr_world_wait4(pid_t pid, int *status, int flags)
{
    INVARIANT(pid > INIT, "wait4(%d)", pid);
    struct nr_creature *child = our_child(pid);
    if (child == NULL) {
        errno = ECHILD;
        return -1;
    }
    if (lives(child) && (flags & WNOHANG))
        return 0;
    while (lives(child)) {
        INVARIANT(child->dies_at != NR_WORLD_NEVER, "wait4(%d) blocks while it lives", pid);
        nr_world_pass(child->dies_at - nr_world.now);
    }
    *status = child->status;
    child->life = NR_NOBODY;
    return pid;
}
