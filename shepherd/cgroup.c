/* See cgroup.h: the Linux twin. Must never touch a cgroup that is not the leaf, or below it. */
#include "cgroup.h"

#include "dirents.h"
#include "error.h"
#include "fd.h"
#include "pidref.h"
#include "sys.h"
#include "usage.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* How deep what a command makes below its leaf is followed: a descriptor for each step. */
#define DEPTH_MAX 32
/* How many pidfds are open at once while the members are signalled one by one. */
#define BATCH 64

/* ---- claims --------------------------------------------------------------------------------- */

enum claim_state {
    CLAIM_NONE = 0,   /* there is no leaf of ours */
    CLAIM_MAKING = 1, /* within mkdir(2): perhaps there is */
    CLAIM_MADE = 2,
};

struct nr_cgroup_claim {
    _Atomic int state;      /* enum claim_state; written by the guardian */
    _Atomic uint64_t inode; /* of the leaf; 0: not known yet */
    size_t size;            /* of all of it */
    size_t leaf;            /* where the leaf's name begins */
    char names[];           /* parent, leaf */
};

static const char *claim_leaf(const struct nr_cgroup_claim *claim)
{
    return claim->names + claim->leaf;
}

int nr_cgroup_claim_new(struct nr_cgroup_claim **claim, const char *parent, const char *leaf)
{
    size_t parent_size = strlen(parent) + 1;
    size_t leaf_size = strlen(leaf) + 1;
    size_t size = sizeof(**claim) + parent_size + leaf_size;

    *claim = NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return nr_errno();
    *claim = memory;
    (*claim)->size = size;
    (*claim)->leaf = parent_size;
    memcpy((*claim)->names, parent, parent_size);
    memcpy((*claim)->names + parent_size, leaf, leaf_size);
    return 0;
}

void nr_cgroup_claim_forked(struct nr_cgroup_claim *claim)
{
    if (claim != NULL)
        (void)madvise(claim, claim->size, MADV_DONTFORK);
}

void nr_cgroup_claim_free(struct nr_cgroup_claim *claim)
{
    if (claim != NULL)
        (void)munmap(claim, claim->size);
}

/* ---- ways to a cgroup ----------------------------------------------------------------------- */

/* Whether some component of the path is "." or "..". */
static bool has_dots(const char *path)
{
    while (*path != '\0') {
        size_t length = strcspn(path, "/");
        if ((length == 1 && path[0] == '.') || (length == 2 && path[0] == '.' && path[1] == '.'))
            return true;
        path += length;
        path += strspn(path, "/");
    }
    return false;
}

/* Takes `folder`. One step down; without O_DIRECTORY, which would say ENOTDIR of a symlink, too. */
static int step_consume(int folder, const char *name)
{
    struct stat info;
    int next = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r = next < 0 ? nr_errno() : 0;
    (void)nr_fd_close(folder);
    if (r == 0 && fstat(next, &info) < 0)
        r = nr_errno();
    else if (r == 0 && S_ISLNK(info.st_mode))
        r = -ELOOP;
    else if (r == 0 && !S_ISDIR(info.st_mode))
        r = -ENOTDIR;
    if (r == 0)
        return next;
    (void)nr_fd_close(next);
    return r;
}

/* As openat2(2) with RESOLVE_NO_SYMLINKS, step by step. */
static int walk(const char *path)
{
    int folder = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return nr_errno();
    for (;;) {
        char name[NAME_MAX + 1];
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        if (length == 0)
            return folder;
        if (length > NAME_MAX) {
            (void)nr_fd_close(folder);
            return -ENAMETOOLONG;
        }
        memcpy(name, path, length);
        name[length] = '\0';
        folder = step_consume(folder, name);
        if (folder < 0)
            return folder;
        path += length;
    }
}

static int open_without_symlinks(const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS,
    };
    if (path[0] != '/' || has_dots(path))
        return -EINVAL;
    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* before Linux 5.6; a seccomp profile */
        return walk(path);
    return fd < 0 ? nr_errno() : (int)fd;
}

static int open_parent(const char *path)
{
    struct statfs info;
    int fd = open_without_symlinks(path);
    if (fd < 0)
        return fd;
    int r = fstatfs(fd, &info) < 0 ? nr_errno() : 0;
    if (r == 0 && info.f_type != CGROUP2_SUPER_MAGIC)
        r = -EOPNOTSUPP;
    if (r == 0)
        return fd;
    (void)nr_fd_close(fd);
    return r;
}

static int open_folder(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

static int open_file(int folder, const char *name, int how)
{
    int fd = openat(folder, name, how | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? nr_errno() : fd;
}

static int write_file(int folder, const char *name, const char *content)
{
    int fd = open_file(folder, name, O_WRONLY);
    if (fd < 0)
        return fd;
    int r = nr_fd_write_all(fd, content, strlen(content));
    (void)nr_fd_close(fd);
    return r;
}

/* ---- what is below -------------------------------------------------------------------------- */

#define TYPE_DIRECTORY 4 /* DT_DIR */

typedef void below_fn(void *context, int parent, const char *name, unsigned depth);

/* Calls fn for each cgroup right below `folder`. */
static void each_below(int folder, below_fn *fn, void *context, unsigned depth)
{
    struct nr_dirents walk;
    const struct nr_dirent *entry;

    if (lseek(folder, 0, SEEK_SET) < 0)
        return;
    nr_dirents_begin(&walk, folder);
    while ((entry = nr_dirents_next(&walk)) != NULL)
        if (entry->type == TYPE_DIRECTORY && strcmp(entry->name, ".") != 0 &&
            strcmp(entry->name, "..") != 0)
            fn(context, folder, entry->name, depth);
}

/* The pids of a cgroup.procs, one after the other. */
struct pids {
    int file;
    ssize_t got;
    ssize_t at;
    char bytes[4096];
};

static void pids_open(struct pids *pids, int folder)
{
    pids->file = open_file(folder, "cgroup.procs", O_RDONLY);
    pids->got = 0;
    pids->at = 0;
}

/* The next one, 0 at the end. Who is in another pid namespace has the number 0 here: passed over. */
static pid_t pids_next(struct pids *pids)
{
    pid_t pid = 0;
    while (pids->file >= 0) {
        if (pids->at == pids->got) {
            pids->at = 0;
            pids->got = read(pids->file, pids->bytes, sizeof(pids->bytes));
            if (pids->got <= 0)
                break;
        }
        char c = pids->bytes[pids->at++];
        if (c >= '0' && c <= '9')
            pid = pid * 10 + (c - '0');
        else if (pid > 0)
            return pid;
    }
    pids->file = nr_fd_close(pids->file);
    pids->got = 0;
    return pid;
}

/* ---- making --------------------------------------------------------------------------------- */

static int write_limit(int leaf, const char *file)
{
    char name[NAME_MAX + 1];
    size_t length = strcspn(file, "=");
    if (length > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, file, length);
    name[length] = '\0';
    return write_file(leaf, name, file + length + 1);
}

static int open_leaf(struct nr_cgroup *cgroup)
{
    struct stat info;

    cgroup->leaf = open_folder(cgroup->parent, claim_leaf(cgroup->claim));
    if (cgroup->leaf < 0)
        return cgroup->leaf;
    if (fstat(cgroup->leaf, &info) < 0)
        return nr_errno();
    atomic_store(&cgroup->claim->inode, (uint64_t)info.st_ino);
    cgroup->events = open_file(cgroup->leaf, "cgroup.events", O_RDONLY);
    return cgroup->events < 0 ? cgroup->events : 0;
}

static int make_leaf(struct nr_cgroup *cgroup)
{
    struct nr_cgroup_claim *claim = cgroup->claim;

    atomic_store(&claim->state, CLAIM_MAKING);
    int r = mkdirat(cgroup->parent, claim_leaf(claim), 0755) < 0 ? nr_errno() : 0;
    atomic_store(&claim->state, r < 0 ? CLAIM_NONE : CLAIM_MADE);
    return r;
}

int nr_cgroup_make(struct nr_cgroup *cgroup, struct nr_cgroup_claim *claim,
                   const char *const *files, unsigned count, uint32_t *detail)
{
    *cgroup = NR_CGROUP_NONE;
    cgroup->claim = claim;

    *detail = NR_CGROUP_PARENT;
    cgroup->parent = open_parent(claim->names);
    if (cgroup->parent < 0)
        return cgroup->parent;

    *detail = NR_CGROUP_LEAF;
    int r = make_leaf(cgroup);
    if (r < 0) {
        nr_cgroup_close(cgroup);
        return r;
    }
    r = open_leaf(cgroup);
    for (unsigned i = 0; r == 0 && i < count; i++) {
        *detail = NR_CGROUP_FILE + i;
        r = write_limit(cgroup->leaf, files[i]);
    }
    if (r < 0) {
        (void)nr_cgroup_remove(cgroup);
        nr_cgroup_close(cgroup);
    }
    return r;
}

bool nr_cgroup_is_made(const struct nr_cgroup *cgroup)
{
    return cgroup->leaf >= 0;
}

/* ---- looking and killing -------------------------------------------------------------------- */

bool nr_cgroup_populated(struct nr_cgroup *cgroup)
{
    char text[256] = {0};
    if (cgroup->events < 0)
        return false;
    ssize_t got = pread(cgroup->events, text, sizeof(text) - 1, 0);
    if (got < 0 && errno == ENODEV) {
        cgroup->events = nr_fd_close(cgroup->events);
        return false;
    }
    return strstr(text, "populated 0") == NULL;
}

/* Whom the pidfds were opened for, and who of them is still a member. */
struct batch {
    unsigned count;
    pid_t pids[BATCH];
    int pidfds[BATCH];
    bool listed[BATCH];
};

/* Why these are members and no strangers is told at nr_pidref_signal_member. */
static void signal_batch(struct batch *batch, int folder)
{
    struct pids again;
    pid_t pid;

    pids_open(&again, folder);
    while ((pid = pids_next(&again)) > 0)
        for (unsigned i = 0; i < batch->count; i++)
            batch->listed[i] = batch->listed[i] || batch->pids[i] == pid;
    for (unsigned i = 0; i < batch->count; i++) {
        if (batch->listed[i])
            (void)nr_pidref_signal_member(batch->pids[i], batch->pidfds[i], SIGKILL);
        (void)nr_fd_close(batch->pidfds[i]);
    }
    batch->count = 0;
}

static void signal_members(int folder)
{
    struct batch batch;
    struct pids pids;
    pid_t pid;

    batch.count = 0;
    pids_open(&pids, folder);
    while ((pid = pids_next(&pids)) > 0) {
        int pidfd = nr_sys_watch(pid);
        if (pidfd < 0) /* it has ended; without descriptors, the next look has more luck */
            continue;
        batch.pids[batch.count] = pid;
        batch.pidfds[batch.count] = pidfd;
        batch.listed[batch.count++] = false;
        if (batch.count == BATCH)
            signal_batch(&batch, folder);
    }
    signal_batch(&batch, folder);
}

static void signal_below(void *context, int parent, const char *name, unsigned depth)
{
    int folder = open_folder(parent, name);
    if (folder < 0)
        return;
    signal_members(folder);
    if (depth < DEPTH_MAX)
        each_below(folder, signal_below, context, depth + 1);
    (void)nr_fd_close(folder);
}

/* Frozen, they fork no more; SIGKILL ends who is frozen. */
static void kill_one_by_one(int leaf)
{
    (void)write_file(leaf, "cgroup.freeze", "1");
    signal_members(leaf);
    each_below(leaf, signal_below, NULL, 1);
    (void)write_file(leaf, "cgroup.freeze", "0");
}

void nr_cgroup_kill(const struct nr_cgroup *cgroup)
{
    if (!nr_cgroup_is_made(cgroup))
        return;
    if (cgroup->by_freezer || write_file(cgroup->leaf, "cgroup.kill", "1") < 0)
        kill_one_by_one(cgroup->leaf);
}

struct naming {
    uint32_t *pids;
    uint32_t room;
    uint32_t count;
};

static void name_members(struct naming *naming, int folder)
{
    struct pids pids;
    pid_t pid;

    pids_open(&pids, folder);
    while ((pid = pids_next(&pids)) > 0) {
        if (naming->count < naming->room)
            naming->pids[naming->count] = (uint32_t)pid;
        naming->count++;
    }
}

static void name_below(void *context, int parent, const char *name, unsigned depth)
{
    int folder = open_folder(parent, name);
    if (folder < 0)
        return;
    name_members(context, folder);
    if (depth < DEPTH_MAX)
        each_below(folder, name_below, context, depth + 1);
    (void)nr_fd_close(folder);
}

uint32_t nr_cgroup_members(const struct nr_cgroup *cgroup, uint32_t *pids, uint32_t room)
{
    struct naming naming = {.pids = pids, .room = room};
    if (nr_cgroup_is_made(cgroup)) {
        name_members(&naming, cgroup->leaf);
        each_below(cgroup->leaf, name_below, &naming, 1);
    }
    return naming.count;
}

void nr_cgroup_usage(const struct nr_cgroup *cgroup, struct nr_usage *usage)
{
    nr_usage_read(cgroup->leaf, usage);
}

/* ---- removing ------------------------------------------------------------------------------- */

static void remove_below(void *context, int parent, const char *name, unsigned depth)
{
    int folder = open_folder(parent, name);
    if (folder >= 0 && depth < DEPTH_MAX)
        each_below(folder, remove_below, context, depth + 1);
    (void)nr_fd_close(folder);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

/* Whether a directory of the leaf's name is still the one we made: if somebody has removed that, the name is
 * anybody's. */
static bool is_ours(const struct nr_cgroup_claim *claim, const struct stat *info)
{
    uint64_t inode = atomic_load(&claim->inode);
    return inode == 0 || (uint64_t)info->st_ino == inode;
}

static int remove_leaf(int parent, const struct nr_cgroup_claim *claim)
{
    struct stat info;

    if (fstatat(parent, claim_leaf(claim), &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : nr_errno();
    if (!is_ours(claim, &info))
        return 0;
    if (unlinkat(parent, claim_leaf(claim), AT_REMOVEDIR) < 0 && errno != ENOENT)
        return nr_errno();
    return 0;
}

int nr_cgroup_remove(struct nr_cgroup *cgroup)
{
    if (cgroup->parent < 0)
        return 0;
    if (cgroup->leaf >= 0)
        each_below(cgroup->leaf, remove_below, NULL, 1);
    int r = remove_leaf(cgroup->parent, cgroup->claim);
    if (r == -EBUSY)
        return r;
    if (r == 0)
        atomic_store(&cgroup->claim->state, CLAIM_NONE);
    nr_cgroup_close(cgroup);
    return r;
}

void nr_cgroup_close(struct nr_cgroup *cgroup)
{
    cgroup->events = nr_fd_close(cgroup->events);
    cgroup->leaf = nr_fd_close(cgroup->leaf);
    cgroup->parent = nr_fd_close(cgroup->parent);
}

/* Worth another try: it may go better when somebody has ended, or given back what we lack. */
static bool passes(int error)
{
    return error == -EBUSY || error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

bool nr_cgroup_claim_settle(struct nr_cgroup_claim *claim)
{
    struct nr_cgroup cgroup = NR_CGROUP_NONE;
    int state = claim != NULL ? atomic_load(&claim->state) : CLAIM_NONE;

    if (state == CLAIM_NONE)
        return true;
    cgroup.claim = claim;
    cgroup.parent = open_parent(claim->names);
    if (cgroup.parent < 0)
        return !passes(cgroup.parent);
    /* Killed within mkdir(2): if it is not ours after all, it had been there before and somebody else has
     * given it this name. Then rmdir(2) is all that may be tried: it hurts nobody who uses it. */
    if (state == CLAIM_MADE) {
        struct stat info;
        cgroup.leaf = open_folder(cgroup.parent, claim_leaf(claim));
        if (cgroup.leaf >= 0 && (fstat(cgroup.leaf, &info) < 0 || !is_ours(claim, &info)))
            cgroup.leaf = nr_fd_close(cgroup.leaf);
        nr_cgroup_kill(&cgroup);
    }
    int r = nr_cgroup_remove(&cgroup);
    nr_cgroup_close(&cgroup);
    return !passes(r);
}
