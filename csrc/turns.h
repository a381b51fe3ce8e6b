/*
 * Whose turn it is to read. A thousand streams at full speed are a thousand runnable processes, and whoever else wants to
 * run waits for all of them. While there is such a crowd, a reader that has had its turn waits here for its next, off the
 * scheduler's run queue, and lets the one go on that has waited longest.
 *
 * Only NetRunner.Turns knows that there is a crowd: how long the run queues are is not to be had in a NIF. It sleeps, and is
 * told when somebody reads a lot; it says how many more are let in, and when it is over. Nobody waits here without one
 * who lets in: whoever takes over the watch lets all go on first.
 *
 * Locking: one mutex of its own, taken after a handle's. A place in the queue (`turn`) is read and written under the handle's
 * mutex by its reader, and under the queue's by everybody.
 */
#ifndef NR_TURNS_H
#define NR_TURNS_H

#include <erl_nif.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* A reader's part in it; one for each handle. All zeros at first. */
struct nr_turn {
    struct nr_turn *next, *previous; /* in the queue; the queue's mutex */
    bool queued;                     /* the same */
    ErlNifPid reader;                /* the same: who is to be told, with {ref, :ready} */
    ERL_NIF_TERM ref;                /* its owner keeps it while it is queued */

    _Atomic bool in_turn;  /* it is counted as one who reads or is about to, */
    _Atomic unsigned tick; /* at this tick of the watcher's */
    bool reads_much;       /* its last read gave much: others are not asked to wait */
    size_t bytes;          /* read in this turn */
    unsigned looks;        /* at an empty pipe, since its last read */
    bool is_due;           /* it has waited for a turn and has not had it yet */
};

/* Who is let in by one who leaves. */
struct nr_next_turn {
    bool found;
    ErlNifPid reader;
    ERL_NIF_TERM ref;
};

/* At load. 0 or -ENOMEM. */
int nr_turns_open(void);

/* The reader is here again; its handle's mutex held. */
void nr_turns_comes(struct nr_turn *turn);

/* A read gave it so many bytes; its handle's mutex held. */
void nr_turns_read(ErlNifEnv *env, struct nr_turn *turn, size_t bytes);

enum nr_turns_answer {
    NR_TURNS_GO_ON,
    NR_TURNS_LOOK_AGAIN, /* the pipe is empty, and may soon be full: after others had their time slice */
    NR_TURNS_WAIT,       /* it has had its turn: nr_turns_wait */
};

/* Before a read, or when there is nothing to be read (is_empty); its handle's mutex held. */
enum nr_turns_answer nr_turns_ask(struct nr_turn *turn, bool is_empty);

/* It waits for its next turn: true, and {ref, :ready} will come, ref being a term that stays while it is queued. False: no one
 * is to be let in for it, it goes on. *next is to be called after unlocking. Its handle's mutex held. */
bool nr_turns_wait(ErlNifEnv *env, struct nr_turn *turn, const ErlNifPid *reader, ERL_NIF_TERM ref,
                   struct nr_next_turn *next);

/* No mutex held. */
void nr_turns_call(ErlNifEnv *env, const struct nr_next_turn *next);

/* It waits no longer, and is not counted any more. True: it was queued, and no message will come. */
bool nr_turns_leave(struct nr_turn *turn);

/* NIF functions, listed in nif.c; who calls them is NetRunner.Turns. */
ERL_NIF_TERM nr_nif_turns_watch(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_let_in(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_rest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
