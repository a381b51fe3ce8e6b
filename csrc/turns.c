/* See turns.h. */
#include "turns.h"

#include "atoms.h"
#include "handle.h" /* the form of a reader's message */
#include "spread.h"

#include <errno.h>

/* Of a pipe's usual 64 KiB. The watch is told of it: there may be a crowd. */
#define MUCH ((size_t)32 * 1024)

/* Who gives so much in TICKS of the watch is busy, in whatever pieces it is read: who is read late gives much at once, who is read
 * at once little, and both would stay what they are. But for who gives small PIECEs, each of them all there was, more than once a tick: it answers somebody
 * (docs/decisions/0014).
 *
 * Who got no more than that in its turn was let in early: nobody goes on for it, the watch's ticks let in who follows. A visit costs what two
 * messages of 4 KiB do, and there is more when it comes later (docs/decisions/0017). Were it possible to be early each time, and busy all the same, who
 * answers with that much would wait for the ticks, however idle the processors. */
#define BUSY  ((size_t)16 * 1024)
#define PIECE ((size_t)16 * 1024)

/* What one may read in a turn. Pipes that are read and filled again while they are in the caches make 1,000 streams twice as fast as 64
 * KiB of each in turn (docs/decisions/0013). */
#define TURN ((size_t)1024 * 1024)

/* So often an empty pipe is looked at again, one round of the run queue later, before the turn is over. Where it was not filled again
 * meanwhile, it is not looked at again for so many turns: whoever fills it comes less often than that. */
#define LOOKS   2
#define PENANCE 8

/* A turn that gave more than a pipe's usual size was filled again, or the pipe has grown, which is for who fills it again and again. */
#define FILLED_AGAIN ((size_t)128 * 1024)

/* Who was counted as a reader in turn is forgotten after so many of the watch's ticks, should it not have come by: it does something
 * else. Who is busy is asked as often. The watch ticks while there is a crowd. */
#define TICKS 64U

static ErlNifMutex *mutex;
static struct nr_turn *first, *last;
static unsigned waiting;
static _Atomic unsigned too_many; /* so many leave without letting another in */
static ErlNifPid watch;

/* How many are in turn, by the tick at which they were counted. 0 is no tick. */
static _Atomic int counts[TICKS];
static _Atomic unsigned now = 1;
static _Atomic bool crowd;
/* The watch has been told, wants to hear nothing for a while, or there was none yet. */
static _Atomic bool is_told = true;

/* Whether a scheduler that shares its processor with another may be moved; each one's part in it. */
static _Atomic bool may_spread;
static _Thread_local struct nr_spread place;

int nr_turns_open(void)
{
    if (mutex == NULL)
        mutex = enif_mutex_create("net_runner_turns");
    return mutex != NULL ? 0 : -ENOMEM;
}

static void enqueue(struct nr_turn *turn)
{
    turn->next = NULL;
    turn->previous = last;
    if (last != NULL)
        last->next = turn;
    else
        first = turn;
    last = turn;
    turn->queued = true;
    waiting++;
}

static void dequeue(struct nr_turn *turn)
{
    if (turn->previous != NULL)
        turn->previous->next = turn->next;
    else
        first = turn->next;
    if (turn->next != NULL)
        turn->next->previous = turn->previous;
    else
        last = turn->previous;
    turn->queued = false;
    waiting--;
}

static void count_in(struct nr_turn *turn)
{
    unsigned not_counted = 0;
    unsigned tick = atomic_load_explicit(&now, memory_order_relaxed);
    if (atomic_compare_exchange_strong(&turn->counted, &not_counted, tick))
        atomic_fetch_add(&counts[tick % TICKS], 1);
}

static void count_out(struct nr_turn *turn)
{
    if (atomic_load_explicit(&turn->counted, memory_order_relaxed) == 0)
        return;
    unsigned tick = atomic_exchange(&turn->counted, 0);
    /* What is too old is forgotten already; what is forgotten in this moment makes one too few, for TICKS ticks. */
    if (tick != 0 && atomic_load(&now) - tick < TICKS)
        atomic_fetch_sub(&counts[tick % TICKS], 1);
}

/* The one that has waited longest, mutex held. False: nobody waits. */
static bool take_first(ErlNifEnv *env, ErlNifPid *reader, ERL_NIF_TERM *ref)
{
    struct nr_turn *turn = first;
    if (turn == NULL)
        return false;
    dequeue(turn);
    count_in(turn);
    *reader = turn->reader;
    *ref = enif_make_copy(env, turn->ref);
    return true;
}

void nr_turns_comes(struct nr_turn *turn)
{
    count_out(turn);
}

/* Whether it is busy: at once where it gives much, else by what it gave in the last TICKS; and no more if it waited for its turn and has
 * little to give then. Without a crowd nothing ticks, and the last read says it. */
static void weigh(struct nr_turn *turn, size_t bytes, bool took_all)
{
    bool is_piece = took_all && bytes < PIECE;
    unsigned tick = atomic_load_explicit(&now, memory_order_relaxed);
    unsigned age = tick - turn->since;
    if (!atomic_load_explicit(&crowd, memory_order_relaxed)) {
        turn->is_busy = false;
        turn->since = tick;
        turn->lately = 0;
        turn->pieces = 0;
    } else if (age >= TICKS) {
        turn->is_busy = age < 2 * TICKS && turn->lately >= BUSY && turn->pieces < TICKS;
        turn->since = tick;
        turn->lately = 0;
        turn->pieces = 0;
    }
    turn->lately += bytes;
    turn->pieces += is_piece;
    if (bytes >= MUCH)
        turn->is_busy = true;
    else if (turn->is_due && is_piece)
        turn->is_busy = false;
}

void nr_turns_read(struct nr_turn *turn, size_t bytes, bool took_all, struct nr_after_read *after)
{
    weigh(turn, bytes, took_all);
    turn->is_due = false;
    turn->looks = 0;
    turn->bytes += bytes;
    if (turn->bytes >= FILLED_AGAIN)
        turn->penance = 0;
    if (turn->is_busy)
        count_in(turn);
    after->read_much = turn->bytes >= MUCH;
}

/* Lets the watch know that somebody reads much, where it wants to. */
static void tell(ErlNifEnv *env)
{
    if (atomic_load_explicit(&is_told, memory_order_relaxed) || atomic_exchange(&is_told, true))
        return;
    enif_mutex_lock(mutex);
    ErlNifPid pid = watch;
    enif_mutex_unlock(mutex);
    (void)enif_send(env, &pid, NULL, nr_atoms.much_);
}

void nr_turns_after_read(ErlNifEnv *env, const struct nr_after_read *after)
{
    if (after->lets_in)
        nr_handle_notify(env, &after->reader, after->ref);
    if (after->read_much)
        tell(env);
    if (after->at_full_speed && atomic_load_explicit(&may_spread, memory_order_relaxed))
        nr_spread_look(&place, (uint64_t)enif_monotonic_time(ERL_NIF_USEC));
}

void nr_turns_ends(struct nr_turn *turn)
{
    if (turn->bytes > 0 && turn->penance > 0)
        turn->penance--;
    turn->bytes = 0;
}

/* At an empty pipe, of a turn that is not over yet. */
static bool looks_again(struct nr_turn *turn)
{
    if (turn->penance > 0)
        return false;
    if (turn->looks++ < LOOKS)
        return true;
    if (turn->bytes < FILLED_AGAIN)
        turn->penance = 1 + PENANCE;
    return false;
}

enum nr_turns_answer nr_turns_ask(struct nr_turn *turn, bool is_empty)
{
    if (!atomic_load_explicit(&crowd, memory_order_relaxed) || turn->is_due)
        return NR_TURNS_GO_ON;
    if (turn->bytes >= TURN)
        return NR_TURNS_WAIT;
    /* What it gave long ago says nothing. */
    if (atomic_load_explicit(&now, memory_order_relaxed) - turn->since >= 2 * TICKS)
        turn->is_busy = false;
    if (!turn->is_busy)
        return NR_TURNS_GO_ON;
    if (atomic_load_explicit(&too_many, memory_order_relaxed) > 0)
        return NR_TURNS_WAIT;
    if (!is_empty)
        return NR_TURNS_GO_ON;
    if (!looks_again(turn))
        return NR_TURNS_WAIT;
    count_in(turn);
    return NR_TURNS_LOOK_AGAIN;
}

bool nr_turns_wait(ErlNifEnv *env, struct nr_turn *turn, const ErlNifPid *reader, ERL_NIF_TERM ref,
                   struct nr_after_read *after)
{
    bool is_early = turn->bytes < PIECE;
    bool is_full = turn->bytes >= FILLED_AGAIN;
    nr_turns_ends(turn);
    enif_mutex_lock(mutex);
    bool waits = false;
    if (atomic_load(&crowd)) {
        if (too_many > 0) {
            too_many--;
            waits = true;
        } else if (is_early) {
            waits = first != NULL;
        } else {
            waits = after->lets_in = take_first(env, &after->reader, &after->ref);
        }
    }
    if (waits) {
        turn->reader = *reader;
        turn->ref = ref;
        turn->is_due = true;
        enqueue(turn);
    }
    enif_mutex_unlock(mutex);
    after->at_full_speed = waits && is_full;
    return waits;
}

bool nr_turns_leave(struct nr_turn *turn)
{
    enif_mutex_lock(mutex);
    bool queued = turn->queued;
    if (queued)
        dequeue(turn);
    enif_mutex_unlock(mutex);
    count_out(turn);
    return queued;
}

/* Up to n of those that wait. */
static void let_in(ErlNifEnv *env, unsigned n)
{
    ErlNifPid reader;
    ERL_NIF_TERM ref = 0;
    bool found = true;
    while (n-- > 0 && found) {
        enif_mutex_lock(mutex);
        found = take_first(env, &reader, &ref);
        enif_mutex_unlock(mutex);
        if (found)
            nr_handle_notify(env, &reader, ref);
    }
}

/* turns_watch(pid) -> :ok. Who is sent :much, once, when somebody reads much. There is no crowd until it says so. */
ERL_NIF_TERM nr_nif_turns_watch(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifPid pid;
    if (!enif_get_local_pid(env, argv[0], &pid))
        return enif_make_badarg(env);
    enif_mutex_lock(mutex);
    watch = pid;
    enif_mutex_unlock(mutex);
    (void)nr_nif_turns_rest(env, 0, NULL);
    atomic_store(&is_told, false);
    return nr_atoms.ok_;
}

static unsigned count(void)
{
    int sum = 0;
    for (unsigned i = 0; i < TICKS; i++)
        sum += atomic_load_explicit(&counts[i], memory_order_relaxed);
    return sum > 0 ? (unsigned)sum : 0;
}

/* turns_let_in(n, too_many) -> {waiting, in_turn}. There is a crowd: up to n of those that wait are let in, and the next
 * too_many that come by wait without letting another in. How many wait after that, and how many
 * read much, or are about to. A tick of the clock by which readers are forgotten. */
ERL_NIF_TERM nr_nif_turns_let_in(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    unsigned n;
    unsigned excess;
    if (!enif_get_uint(env, argv[0], &n) || !enif_get_uint(env, argv[1], &excess))
        return enif_make_badarg(env);
    atomic_store(&counts[(atomic_load(&now) + 1) % TICKS], 0);
    atomic_fetch_add(&now, 1);
    enif_mutex_lock(mutex);
    atomic_store(&crowd, true);
    too_many = excess;
    enif_mutex_unlock(mutex);
    let_in(env, n);
    enif_mutex_lock(mutex);
    unsigned left = waiting;
    enif_mutex_unlock(mutex);
    return enif_make_tuple2(env, enif_make_uint(env, left), enif_make_uint(env, count()));
}

/* turns_rest() -> :ok. There is no crowd: all go on. */
ERL_NIF_TERM nr_nif_turns_rest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    enif_mutex_lock(mutex);
    atomic_store(&crowd, false);
    too_many = 0;
    unsigned all = waiting;
    enif_mutex_unlock(mutex);
    let_in(env, all);
    return nr_atoms.ok_;
}

/* turns_spread(boolean) -> :ok. Whether schedulers that share a processor are moved apart. */
ERL_NIF_TERM nr_nif_turns_spread(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    if (!enif_is_atom(env, argv[0]))
        return enif_make_badarg(env);
    atomic_store(&may_spread, enif_is_identical(argv[0], nr_atoms.true_));
    return nr_atoms.ok_;
}

/* turns_moves() -> how many times a scheduler was moved. */
ERL_NIF_TERM nr_nif_turns_moves(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_ulong(env, nr_spread_moves());
}
