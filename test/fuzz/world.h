/*
 * Processes and time, simulated: what waitid(2), kill(2) and the clock tell the rooms of the shepherd
 * in a fuzz target. "Self" is the process under test; its family is everybody who descends from it.
 * The rules are the kernel's (kernel/exit.c, kernel/signal.c) as far as the shepherd relies on them;
 * pids are given out again as soon as the kernel might, so that a pid kept too long meets a stranger.
 *
 * Here sit the invariants about signals: none to pid <= 1, none to a process or group that is not
 * that of an unreaped child of ours, and no wait that never ends.
 */
#ifndef NR_FUZZ_WORLD_H
#define NR_FUZZ_WORLD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

#define NR_WORLD_MAX   40
#define NR_WORLD_SELF  50 /* the pid of the process under test, and of the group it is in */
#define NR_WORLD_NEVER UINT64_MAX
#define NR_WORLD_PIDS  256 /* above all pids that are given out */

enum nr_life {
    NR_NOBODY = 0,
    NR_ALIVE,
    NR_HELD, /* dead, but its tracer keeps that from its parent: as good as alive, and unkillable */
    NR_ZOMBIE,
};

/* How a process bears being signalled. */
struct nr_temper {
    bool ignores;    /* every signal that may be ignored */
    bool foreign;    /* EPERM: it became another user's */
    bool immortal;   /* SIGKILL never shows (uninterruptible sleep) */
    bool parental;   /* it reaps its own children */
    uint32_t linger; /* milliseconds between SIGKILL and the end */
    uint32_t traced; /* milliseconds for which its tracer holds its zombie */
};

struct nr_creature {
    enum nr_life life;
    pid_t pid;
    pid_t parent;
    pid_t group;
    uint64_t birth;      /* counts births: names it beyond its pid */
    uint64_t adopted;    /* its place in its parent's list of children */
    uint64_t adopted_at; /* by the time of the process under test */
    bool condemned;      /* self sent it SIGKILL */
    uint64_t dies_at;    /* or is let go */
    int due;             /* the status it then has */
    int status;          /* as wait(2) gives it */
    struct nr_temper temper;
};

struct nr_world {
    struct nr_creature all[NR_WORLD_MAX];
    unsigned used;            /* of them, ever */
    bool ours[NR_WORLD_PIDS]; /* pids that living children of self ever had */
    uint64_t births;
    uint64_t now;  /* ms */
    uint64_t late; /* of them, those by which self was woken too late */
    bool subreaper;
    bool sigchld;     /* pending for self */
    uint64_t watched; /* the birth of the one whose end is noted here: the leader */
    bool watched_ended;
    int watched_status;
    unsigned kills;  /* calls of kill(2) */
    pid_t last_kill; /* and the last one's arguments */
    int last_signal;
    unsigned by_sigkill; /* members of the family that ended by SIGKILL */
};

extern struct nr_world nr_world;

/* An empty world: self, whose parent is init, and one stranger. */
void nr_world_begin(void);

/* A child of `parent`, in its group. NULL: the world is full. */
struct nr_creature *nr_world_birth(pid_t parent, struct nr_temper temper);
/* A process that is none of ours. */
void nr_world_stranger(void);

void nr_world_death(struct nr_creature *creature, int status);
/* It will have ended, with this status, in so many milliseconds, whatever is done to it. */
void nr_world_leave(struct nr_creature *creature, uint32_t in_ms, int status);
void nr_world_signal(struct nr_creature *creature, int signal);
/* It begins a group (and session) of its own. */
void nr_world_setsid(struct nr_creature *creature);
/* It reaps those children of its own that have ended. */
void nr_world_reap(const struct nr_creature *creature);

/* Time passes, and who is due dies. */
void nr_world_pass(uint64_t ms);
/* Time less what the process under test cannot be blamed for. */
uint64_t nr_world_its_time(void);
/* When the next one is due. */
uint64_t nr_world_next_death(void);

struct nr_creature *nr_world_find(pid_t pid);
/* By birth, whatever its pid is used for now; NULL once it was reaped. */
struct nr_creature *nr_world_born(uint64_t birth);
/* The family's members, as long as they have not ended for their parent: how many; and of those that
 * can still do something the one at `index`, or NULL. */
unsigned nr_world_family(void);
struct nr_creature *nr_world_member(unsigned index);
/* A living child of self that has been one for longer than `ms` and was not sent SIGKILL; or NULL. */
const struct nr_creature *nr_world_spared(uint64_t ms);
/* Self's unreaped children in the order of the kernel's list: at most `room` pids. */
unsigned nr_world_children(pid_t *pids, unsigned room);

/* The system calls, errno and all. */
int nr_world_kill(pid_t pid, int signal);
int nr_world_waitid(idtype_t type, id_t id, siginfo_t *end, int flags);
pid_t nr_world_wait4(pid_t pid, int *status, int flags);
pid_t nr_world_getpgid(pid_t pid);

#endif
