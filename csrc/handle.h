/*
 * A handle: our end of one pipe of one command, or one direction of its terminal, as a NIF resource.
 *
 * Its life, in one atomic:
 *
 *     OPEN ----(close/1, or the owner died)----> CLOSING ----(last holder left)----> CLOSED
 *
 * OPEN to CLOSING is done once, by nr_handle_close. A mechanism that has the descriptor (ERTS's
 * poll set, a ring) is a holder; the descriptor is closed exactly once, by the holder that leaves
 * last (ERTS's stop callback, the ring's GONE event), or by nr_handle_close if there is none.
 *
 * Waiting. At most one process waits on a handle; it is known by pid and by the reference in the
 * message it will get, {reference, :ready}. Each wait, for the pipe or for a turn (turns.h), gets exactly one message, whoever
 * ends it (data, another reader, close, finish), or none if it was cancelled in time: nothing strays into a caller's mailbox.
 *
 * Locking. `mutex` covers everything but the atomics. It is held over one non-blocking
 * read(2) or writev(2), never over enif_send, a stop callback or a harvest. Order: handle, then ring, then
 * the queue of turns.
 */
#ifndef NR_HANDLE_H
#define NR_HANDLE_H

#include "coalesce.h"
#include "patience.h"
#include "pipes.h"
#include "ring.h"
#include "turns.h"

#include <erl_nif.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct nr_backend;
struct nr_ring_resource; /* backend_ring.c's */

enum nr_handle_state {
    NR_HANDLE_OPEN = 0,
    NR_HANDLE_CLOSING = 1,
    NR_HANDLE_CLOSED = 2,
};

enum nr_holder {
    NR_HOLDER_SELECT = 1U << 0,
    NR_HOLDER_RING = 1U << 1,
};

/* What a user asked for with `backend:`. */
enum nr_mode {
    NR_MODE_AUTO = 0,
    NR_MODE_POLL = 1,
    NR_MODE_RING = 2,
};

struct nr_handle_stats {
    uint64_t bytes;
    uint64_t ops;            /* reads or writes that moved bytes */
    uint64_t waits_poll;     /* waits served by enif_select */
    uint64_t waits_io_uring; /* waits served by a ring */
    uint64_t fixed;          /* moves through a registered slot */
    uint64_t unfixed;        /* moves through an unregistered slot */
    uint64_t moves;          /* from enif_select to a ring, by :auto */
    uint64_t moves_back;     /* and back again */
    uint64_t pipe_bytes;     /* capacity of the pipe now; 0: a terminal */
    uint64_t pipe_refused;   /* growths given up: the budget, or EPERM */
};

/* Bytes that were read and given back, a stack of them: the last given back are read first. */
struct nr_unread {
    struct nr_unread *below;
    ErlNifEnv *env; /* holds the binary: it is not copied before it is read again */
    ErlNifBinary binary;
    size_t offset;
};

struct nr_handle {
    _Atomic unsigned state;   /* enum nr_handle_state */
    _Atomic unsigned holders; /* bits of enum nr_holder */
    ErlNifMutex *mutex;
    int fd;
    enum nr_direction direction;
    enum nr_mode mode;
    int last_written;                 /* byte; -1: none yet */
    const struct nr_backend *backend; /* that serves the next wait */

    bool terminal; /* a pseudo-terminal's master */
    bool leaving;  /* the ring was asked to let go; waits are poll's until it has */
    bool waiting;  /* waiter and wait_ref are those of a wait in progress */
    bool in_queue; /* which is for a turn, and no mechanism's */
    ErlNifPid waiter;
    ErlNifEnv *wait_env; /* holds wait_ref */
    ERL_NIF_TERM wait_ref;

    struct nr_turn turn;

    struct nr_unread *unread; /* read before anything else */

    bool finished; /* the command is over: nothing more to read means the end */
    bool eof;      /* a ring's read saw the end */
    int lost;      /* -errno: a ring's read took bytes that could not be kept; no read goes on */
    bool has_late; /* `late` holds bytes that a ring read */
    ErlNifBinary late;
    size_t late_offset;

    void *out; /* bytes of a ring's write, out_capacity of them allocated */
    size_t out_capacity;
    bool has_written; /* a ring's write ended with `written` (bytes or -errno) for `writer` */
    int written;
    ErlNifPid writer; /* who placed the last wait */

    bool emptied; /* the last look at the pipe, ours or a ring's, took all there was */
    bool unseen;  /* a ring's wait was placed for that reason, without another look */
    /* Such a wait missed bytes: packets, of which one look takes one. Each wait is after a look from then on. */
    bool surprised;

    bool
        small; /* the last read was, and the next is expected to be: it is done without a large binary */
    struct nr_patience patience;
    struct nr_coalesce coalesce; /* whether who reads comes back later, instead of a wait */
    unsigned fulls;              /* full reads, or writes that met a full pipe, in a row */
    struct nr_pipe_memory pipe;

    /* Where the stream is registered, or was last; read by passers-by. */
    _Atomic(struct nr_ring_resource *) ring;
    struct nr_stream stream;
    /* Microseconds; nobody notes it of a handle that is to wait by poll. */
    uint64_t waited_at; /* last */
    uint64_t pace; /* from wait to wait, the mean of the last ones; 0: there were not two yet */
    struct nr_handle_stats stats;
};

/* Opens the resource type. 0 or -ENOMEM; at load. */
int nr_handle_type_open(ErlNifEnv *env);

/* Makes a handle that owns fd (also on failure) and closes itself when `owner` dies.
 * The result holds one reference that the caller releases after making a term. NULL: no memory, or
 * the owner is dead. */
struct nr_handle *nr_handle_new_take(ErlNifEnv *env, int fd, enum nr_direction direction,
                                     enum nr_mode mode, const ErlNifPid *owner);

/* As nr_handle_new_take, of a pseudo-terminal's master: it waits by enif_select whatever happens (a ring's
 * one multishot poll is for pipes), EIO is its end, and there is no pipe to grow. */
struct nr_handle *nr_handle_new_terminal_take(ErlNifEnv *env, int fd, enum nr_direction direction,
                                              const ErlNifPid *owner);

/* Gives bytes back, which the next read gets first; mutex held. 0 or -ENOMEM. */
int nr_handle_unread(struct nr_handle *handle, ERL_NIF_TERM binary);

/* Takes up to `room` of the bytes that were given back; mutex held. How many. */
size_t nr_handle_take_unread(struct nr_handle *handle, unsigned char *data, size_t room);

/* The handle in a term, or NULL. Borrowed: valid while the term is. */
struct nr_handle *nr_handle_get(ErlNifEnv *env, ERL_NIF_TERM term);

/* OPEN to CLOSING; wakes the waiter; the descriptor closes when its last holder leaves. Does
 * nothing the second time. `env` is that of the caller or callback. */
void nr_handle_close(ErlNifEnv *env, struct nr_handle *handle);

/* The command is over: readers get what is in the pipe, then :eof, and never wait again. */
void nr_handle_finish(ErlNifEnv *env, struct nr_handle *handle);

/* A second descriptor of an open handle's pipe, close-on-exec, the caller's; or -errno, -EBADF when
 * it is not open any more. */
int nr_handle_dup(struct nr_handle *handle);

/* A holder leaves. The last one out of a closing handle closes the descriptor. */
void nr_handle_release(struct nr_handle *handle, enum nr_holder holder);

/* Takes the wait in progress back, whatever it is for; mutex held. 0: no message will come. NR_PENDING: one will, or has. */
int nr_handle_cancel_wait(ErlNifEnv *env, struct nr_handle *handle);

/* Ends the wait in progress, if any; mutex held. Returns true if a message is to be sent by
 * nr_handle_notify after unlocking: *pid and *ref (a copy in env) say to whom. */
bool nr_handle_end_wait(ErlNifEnv *env, struct nr_handle *handle, ErlNifPid *pid,
                        ERL_NIF_TERM *ref);

/* Sends {ref, :ready}; no mutex held. */
void nr_handle_notify(ErlNifEnv *env, const ErlNifPid *pid, ERL_NIF_TERM ref);

/* Grows the pipe when the stream keeps filling it, or would in a pause (coalesce.h): 64 KiB, 256 KiB, 1 MiB, within the budget of
 * all handles together; mutex held. True if it has more room now; silent when refused (counted). */
bool nr_handle_grow_pipe(struct nr_handle *handle);

#endif
