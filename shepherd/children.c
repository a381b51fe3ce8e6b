/* See children.h: listing our own children, the Linux twin. Must never allocate or block. */
#include "children.h"

#include "dirents.h"
#include "error.h"
#include "fd.h"
#include "sys.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* As many as one look takes in. Looks are repeated until nobody is left, so a cut list is no loss;
 * but a list that is acted on while it is read may never end: what is killed stays in it as a zombie,
 * and its orphans are appended. */
#define LOOK_MAX 4096

static int each_listed(struct nr_children *children, nr_child_fn *fn, void *context)
{
    if (children->file < 0) {
        children->file = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
        if (children->file < 0)
            return nr_errno();
    }

    /* "12 345 6789 ": a number may be cut by the end of the buffer. */
    pid_t pids[LOOK_MAX];
    unsigned count = 0;
    char buffer[4096]; /* the kernel gives no more at once */
    off_t offset = 0;
    pid_t pid = 0;
    while (count < LOOK_MAX) {
        ssize_t got = pread(children->file, buffer, sizeof(buffer), offset);
        if (got < 0)
            return nr_errno();
        if (got == 0)
            break;
        offset += got;
        for (ssize_t i = 0; i < got && count < LOOK_MAX; i++) {
            if (buffer[i] >= '0' && buffer[i] <= '9') {
                pid = pid * 10 + (buffer[i] - '0');
            } else if (pid > 0) {
                pids[count++] = pid;
                pid = 0;
            }
        }
    }
    for (unsigned i = 0; fn != NULL && i < count; i++)
        fn(context, pids[i]);
    return 0;
}

static void ask_wait(const char *name, nr_child_fn *fn, void *context)
{
    pid_t pid = 0;
    for (const char *c = name; *c >= '0' && *c <= '9'; c++)
        pid = pid * 10 + (*c - '0');

    siginfo_t end = {0};
    if (pid > 1 && waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT | NR_WAIT_ALL) == 0)
        fn(context, pid);
}

/* No stat file is read: waitid(2) knows our children at a tenth of the price. */
static int each_pid(nr_child_fn *fn, void *context)
{
    int directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return nr_errno();
    if (fn == NULL) {
        int r = faccessat(directory, "self/stat", F_OK, 0) < 0 ? nr_errno() : 0;
        (void)nr_fd_close(directory);
        return r;
    }
    struct nr_dirents walk;
    const struct nr_dirent *entry;
    nr_dirents_begin(&walk, directory);
    while ((entry = nr_dirents_next(&walk)) != NULL)
        ask_wait(entry->name, fn, context);
    (void)nr_fd_close(directory);
    return 0;
}

int nr_children_each(struct nr_children *children, nr_child_fn *fn, void *context)
{
    if (!children->by_pids && each_listed(children, fn, context) == 0)
        return 0;
    return each_pid(fn, context);
}

void nr_children_close(struct nr_children *children)
{
    children->file = nr_fd_close(children->file);
}
