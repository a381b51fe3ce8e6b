/* See stdfds.h: the child's standard descriptors. Must stay async-signal-safe. */
#include "stdfds.h"

#include "error.h"

#include <fcntl.h>
#include <unistd.h>

/* Above all targets and above the exec pipe's final place. */
#define STAGE 10

static int stage(int given, int access)
{
    if (given >= 0) {
        int staged = fcntl(given, F_DUPFD_CLOEXEC, STAGE);
        return staged < 0 ? nr_errno() : staged;
    }
    int null = open("/dev/null", access | O_CLOEXEC);
    if (null < 0)
        return nr_errno();
    int staged = fcntl(null, F_DUPFD_CLOEXEC, STAGE);
    int r = staged < 0 ? nr_errno() : staged;
    (void)close(null);
    return r;
}

int nr_stdfds_place(const int given[3], bool merge)
{
    int staged[3];

    for (int i = 0; i < 3; i++) {
        int source = i == 2 && merge ? staged[1] : given[i];
        staged[i] = stage(source, i == 0 ? O_RDONLY : O_WRONLY);
        if (staged[i] < 0)
            return staged[i];
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(staged[i], i) < 0)
            return nr_errno();
    }
    return 0;
}
