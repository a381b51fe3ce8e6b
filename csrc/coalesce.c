/* See coalesce.h. */
#include "coalesce.h"

/* How long it is looked at before something is decided. */
#define WINDOW_US 8000
/* Where a millisecond brings fewer, there is little to be saved. */
#define PIECES_PER_MS 4
/* At first: a scheduler that is woken looks for work for 0.3 ms before it sleeps again. */
#define PAUSE_MS 2
/* Until a window is over, a quarter of what came without is enough: who answers gives a hundredth, who only lost its processor for a
 * while gives more. So long after the window began it is asked first. */
#define TRIAL_US 1000
/* A pause that ends with the clock's millisecond may be a short one: only after so long is it a silence. */
#define SILENCE_US 900
/* Who writes nothing in so many has paused itself: it may have lost its processor for one. */
#define SILENT_MAX 4
/* After so many windows it is turned off for one, to see what comes without. */
#define WINDOWS_ON 128U
/* Where the pipe was full when its reader came, more often than not, it holds its program up, which may have been
 * slow only when it was looked at: after 4, then after 8, ... */
#define WINDOWS_FULL 4U
/* A try that failed is repeated after 2, 4, ... windows, 2^10 at most: 8 s. Of who may answer the first is after 2^3. */
#define DOUBTS_MAX        10
#define DOUBTS_MAY_ANSWER 3

void nr_coalesce_may_answer(struct nr_coalesce *coalesce)
{
    coalesce->may_answer = true;
    coalesce->doubts = DOUBTS_MAY_ANSWER;
    coalesce->penance = 1U << DOUBTS_MAY_ANSWER;
}

void nr_coalesce_read(struct nr_coalesce *coalesce, size_t bytes)
{
    coalesce->bytes += bytes;
    coalesce->came += bytes;
}

static void begin_window(struct nr_coalesce *coalesce, uint64_t now)
{
    coalesce->since = now;
    coalesce->bytes = 0;
    coalesce->pieces = coalesce->fulls = 0;
}

static void turn_off(struct nr_coalesce *coalesce, uint64_t now)
{
    coalesce->pause = 0;
    begin_window(coalesce, now);
}

static void give_up(struct nr_coalesce *coalesce, uint64_t now)
{
    if (coalesce->doubts < DOUBTS_MAX)
        coalesce->doubts++;
    coalesce->penance = 1U << coalesce->doubts;
    turn_off(coalesce, now);
}

void nr_coalesce_shorten(struct nr_coalesce *coalesce, uint64_t now)
{
    if (coalesce->pause > 1)
        coalesce->pause--;
    else
        give_up(coalesce, now);
}

uint64_t nr_coalesce_room(const struct nr_coalesce *coalesce)
{
    return coalesce->rate * coalesce->pause * 9 / 8;
}

/* Whether so many quarters of what came without have come in this window. */
static bool has_quarters(const struct nr_coalesce *coalesce, uint64_t age, unsigned quarters)
{
    return coalesce->bytes * 1000 * 4 >= coalesce->rate * age * quarters;
}

/* At the end of a window: whether it is time to see what comes without. */
static bool is_over(struct nr_coalesce *coalesce)
{
    bool is_full = coalesce->fulls * 2 > coalesce->pieces;
    coalesce->windows++;
    if (is_full && coalesce->windows >= WINDOWS_FULL << coalesce->looks) {
        if (WINDOWS_FULL << coalesce->looks < WINDOWS_ON)
            coalesce->looks++;
        return true;
    }
    return coalesce->windows >= WINDOWS_ON;
}

/* Nothing came. Who may answer waits to be asked; others have paused, or lost their processor, in time that is not counted. */
static void be_silent(struct nr_coalesce *coalesce, uint64_t now)
{
    if (now - coalesce->paused < SILENCE_US)
        return;
    if (coalesce->may_answer)
        give_up(coalesce, now);
    else if (++coalesce->silent >= SILENT_MAX)
        turn_off(coalesce, now);
    else
        begin_window(coalesce, now);
}

static void stay_on(struct nr_coalesce *coalesce, uint64_t now, bool has_come)
{
    uint64_t age = now - coalesce->since;
    if (!has_come) {
        be_silent(coalesce, now);
    } else if (!has_quarters(coalesce, age, age < WINDOW_US ? 1 : 3) && age >= TRIAL_US) {
        give_up(coalesce, now);
    } else if (age >= WINDOW_US) {
        coalesce->doubts = coalesce->may_answer ? DOUBTS_MAY_ANSWER : 0;
        if (is_over(coalesce))
            turn_off(coalesce, now);
        else
            begin_window(coalesce, now);
    }
}

static void turn_on(struct nr_coalesce *coalesce, uint64_t now)
{
    uint64_t age = now - coalesce->since;
    if (coalesce->since != 0 && age < WINDOW_US)
        return;
    bool is_fast = coalesce->since != 0 && (uint64_t)coalesce->pieces * 1000 >= PIECES_PER_MS * age;
    if (is_fast && coalesce->penance > 0)
        coalesce->penance--;
    else if (is_fast) {
        coalesce->rate = coalesce->bytes * 1000 / age;
        coalesce->windows = 0;
        coalesce->pause = PAUSE_MS;
    }
    begin_window(coalesce, now);
}

bool nr_coalesce_pauses(const struct nr_coalesce *coalesce, uint64_t now)
{
    return coalesce->pause > 1 && now - coalesce->paused < SILENCE_US;
}

unsigned nr_coalesce_empty(struct nr_coalesce *coalesce, uint64_t now, uint64_t capacity)
{
    bool has_come = coalesce->came > 0;
    coalesce->pieces += has_come;
    coalesce->fulls += coalesce->came >= capacity - capacity / 8;
    coalesce->came = 0;
    if (has_come)
        coalesce->silent = 0;
    if (coalesce->pause > 0)
        stay_on(coalesce, now, has_come);
    else
        turn_on(coalesce, now);
    if (coalesce->pause > 0 && (has_come || now - coalesce->paused >= SILENCE_US))
        coalesce->paused = now;
    return coalesce->pause;
}
