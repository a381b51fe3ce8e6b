/* See cgroup.h: the POSIX twin. There are no cgroups: whoever asks for one is told so, and nothing runs. */
#include "cgroup.h"

int nr_cgroup_claim_new(struct nr_cgroup_claim **claim, const char *parent, const char *leaf)
{
    (void)parent;
    (void)leaf;
    *claim = NULL;
    return -ENOSYS;
}

void nr_cgroup_claim_forked(struct nr_cgroup_claim *claim)
{
    (void)claim;
}

bool nr_cgroup_claim_settle(struct nr_cgroup_claim *claim)
{
    (void)claim;
    return true;
}

void nr_cgroup_claim_free(struct nr_cgroup_claim *claim)
{
    (void)claim;
}

int nr_cgroup_make(struct nr_cgroup *cgroup, struct nr_cgroup_claim *claim,
                   const char *const *files, unsigned count, uint32_t *detail)
{
    (void)claim;
    (void)files;
    (void)count;
    *cgroup = NR_CGROUP_NONE;
    *detail = NR_CGROUP_PARENT;
    return -ENOSYS;
}

bool nr_cgroup_is_made(const struct nr_cgroup *cgroup)
{
    (void)cgroup;
    return false;
}

bool nr_cgroup_populated(struct nr_cgroup *cgroup)
{
    (void)cgroup;
    return false;
}

void nr_cgroup_kill(const struct nr_cgroup *cgroup)
{
    (void)cgroup;
}

uint32_t nr_cgroup_members(const struct nr_cgroup *cgroup, uint32_t *pids, uint32_t room)
{
    (void)cgroup;
    (void)pids;
    (void)room;
    return 0;
}

void nr_cgroup_usage(const struct nr_cgroup *cgroup, struct nr_usage *usage)
{
    (void)cgroup;
    *usage = (struct nr_usage){UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                               UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
}

int nr_cgroup_remove(struct nr_cgroup *cgroup)
{
    (void)cgroup;
    return 0;
}

void nr_cgroup_close(struct nr_cgroup *cgroup)
{
    (void)cgroup;
}
