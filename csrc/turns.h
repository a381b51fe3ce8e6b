/*
 * Whose turn it is to read. A thousand streams at full speed are a thousand runnable processes, and whoever else wants to
 * run waits for all of them. While there is such a crowd, a reader that has had its turn waits here for its next, off the
 * scheduler's run queue, and lets the one go on that has waited longest.
 *
 * Only NetRunner.Turns, the watch, knows that there is a crowd: how long the run queues are is not to be had in a NIF. It sleeps, and is
 * told when somebody reads much; it says how many more are let in, and when it is over. Whoever takes over the watch lets all go
 * on first; where nobody does, a reader looks by itself after a while (NetRunner.Pipe).
 *
 * Locking: the queue has one mutex, taken after a handle's; nothing is taken under it. Which of the two covers a field of a turn stands
 * beside it.
 */
#ifndef NR_TURNS_H
#define NR_TURNS_H

#include <erl_nif.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* A reader's part in it; one for each handle. All zeros at first. */
struct nr_turn {
    /* Under the queue's mutex. */
    struct nr_turn *next, *previous;
    bool queued;
    ErlNifPid reader; /* who is to be told, with {ref, :ready} */
    ERL_NIF_TERM ref; /* its owner keeps it while it is queued */

    _Atomic unsigned
        counted; /* as one who reads or is about to, since this tick of the watch's; 0: it is not */

    /* Under the handle's. */
    bool is_busy;  /* it gives much: others are not asked to wait */
    bool is_due;   /* it has waited for a turn and has not read since */
    size_t bytes;  /* read in this turn */
    size_t lately; /* read since the tick `since`, in so many small pieces and larger ones */
    unsigned pieces;
    unsigned since;
    unsigned looks;   /* at an empty pipe, since its last read */
    unsigned penance; /* so many turns without a second look */
};

/* What a read decides under its handle's mutex, and is done after that. All zeros at first. */
struct nr_after_read {
    bool lets_in; /* the one that has waited longest: reader and ref */
    ErlNifPid reader;
    ERL_NIF_TERM ref;
    bool read_much;     /* the watch may want to know */
    bool at_full_speed; /* its turn is over, and was filled again: processors are what is scarce */
};

/* At load. 0 or -ENOMEM. */
int nr_turns_open(void);

/* The reader is here again; its handle's mutex held. */
void nr_turns_comes(struct nr_turn *turn);

/* A read gave it so many bytes, all there was or not; its handle's mutex held. */
void nr_turns_read(struct nr_turn *turn, size_t bytes, bool took_all, struct nr_after_read *after);

/* It waits for its pipe now: the turn is over; its handle's mutex held. */
void nr_turns_ends(struct nr_turn *turn);

enum nr_turns_answer {
    NR_TURNS_GO_ON,
    NR_TURNS_LOOK_AGAIN, /* the pipe is empty, and may soon be full: after others had their time slice */
    NR_TURNS_WAIT,       /* it has had its turn, or the pipe stays empty: nr_turns_wait */
};

/* Before a read, or when there is nothing to be read (is_empty); its handle's mutex held. */
enum nr_turns_answer nr_turns_ask(struct nr_turn *turn, bool is_empty);

/* It waits for its next turn: true, and {ref, :ready} will come, ref being a term that stays while it is queued. False: nobody else
 * waits, it goes on. Its handle's mutex held. */
bool nr_turns_wait(ErlNifEnv *env, struct nr_turn *turn, const ErlNifPid *reader, ERL_NIF_TERM ref,
                   struct nr_after_read *after);

/* Does what was decided; no mutex held. */
void nr_turns_after_read(ErlNifEnv *env, const struct nr_after_read *after);

/* It waits no longer, and is not counted any more. True: it was queued, and no message will come. */
bool nr_turns_leave(struct nr_turn *turn);

/* NIF functions, listed in nif.c; who calls them is NetRunner.Turns. */
ERL_NIF_TERM nr_nif_turns_watch(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_let_in(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_rest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_spread(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nr_nif_turns_moves(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
