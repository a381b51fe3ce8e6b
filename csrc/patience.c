/* See patience.h. */
#include "patience.h"

/* A wait and its wake took 20 to 45 us where this was measured: what came within this came at once, or nearly. */
#define QUICK_US 100
/* Each look is a read(2) and a turn of the scheduler, under 1 us: some 10 us in all. */
#define LOOKS 12
/* Waits after looks that were in vain: at most one wait in so many pays for them. */
#define PENANCE 32

bool nr_patience_look_again(struct nr_patience *patience, uint64_t now)
{
    if (patience->quick && patience->looks < LOOKS) {
        patience->looks++;
        return true;
    }
    if (patience->quick)
        patience->penance = PENANCE;
    patience->quick = false;
    patience->looks = 0;
    patience->waiting = true;
    patience->since = now;
    return false;
}

void nr_patience_answered(struct nr_patience *patience, uint64_t now)
{
    patience->looks = 0;
    if (!patience->waiting)
        return;
    patience->waiting = false;
    if (patience->penance > 0)
        patience->penance--;
    else
        patience->quick = now - patience->since < QUICK_US;
}
