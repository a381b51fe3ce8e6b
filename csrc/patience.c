/* See patience.h. */
#include "patience.h"

/* A wait and its wake took 20 to 45 us where this was measured: what came within this came at once, or nearly. */
#define QUICK_US 100
/* What a wait takes. Whoever answers just after that has cost no more than twice as much. */
#define LOOKS_US 50
/* From one look to the next, a read(2) and an empty turn of the scheduler: 1 us. More is the turn of somebody else. */
#define ALONE_US 10
/* Waits after looks that were in vain: at most one wait in so many pays for them. */
#define PENANCE 32

static bool waits(struct nr_patience *patience, uint64_t now, bool in_company)
{
    patience->looking = false;
    patience->waiting = true;
    patience->in_company = in_company;
    patience->since = now;
    return false;
}

bool nr_patience_look_again(struct nr_patience *patience, uint64_t now)
{
    if (!patience->quick)
        return waits(patience, now, false);
    if (!patience->looking) {
        patience->looking = true;
        patience->since = now;
    } else if (now - patience->looked >= ALONE_US) {
        return waits(patience, now, true);
    }
    patience->looked = now;
    if (now - patience->since < LOOKS_US)
        return true;
    patience->quick = false;
    patience->penance = PENANCE;
    return waits(patience, now, false);
}

void nr_patience_answered(struct nr_patience *patience, uint64_t now)
{
    patience->looking = false;
    if (!patience->waiting)
        return;
    patience->waiting = false;
    /* How long it took says how busy the others were. */
    if (patience->in_company)
        return;
    if (patience->penance > 0)
        patience->penance--;
    else
        patience->quick = now - patience->since < QUICK_US;
}
