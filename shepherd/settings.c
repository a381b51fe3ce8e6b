/* See settings.h: the child's settings. Must stay async-signal-safe, and must never be content with less. */
#include "settings.h"

#include "error.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0, or the error with where it happened. */
static int at_stage(struct nr_failed *failed, enum nr_stage stage, uint32_t detail, int r)
{
    if (r < 0) {
        failed->stage = (uint32_t)stage;
        failed->detail = detail;
    }
    return r;
}

static bool asked_for(const struct nr_order *order, enum nr_setting_what what, uint64_t *value)
{
    for (unsigned i = 0; i < order->spawn.settings; i++) {
        struct nr_setting setting = nr_codec_setting(&order->frame, i);
        if (setting.what == (uint32_t)what) {
            *value = setting.value;
            return true;
        }
    }
    return false;
}

/* ---- limits --------------------------------------------------------------------------------- */

int nr_settings_limits(const struct nr_order *order, struct nr_failed *failed)
{
    uint64_t value;
    int r;

    if (asked_for(order, NR_SETTING_UMASK, &value))
        (void)umask((mode_t)value);

    if (asked_for(order, NR_SETTING_NICE, &value) &&
        setpriority(PRIO_PROCESS, 0, (int)(int64_t)value) < 0)
        return at_stage(failed, NR_STAGE_NICE, 0, nr_errno());

    if (asked_for(order, NR_SETTING_OOM_SCORE_ADJ, &value))
        r = at_stage(failed, NR_STAGE_OOM_SCORE_ADJ, 0, nr_sys_oom_set((int)(int64_t)value));
    else
        r = at_stage(failed, NR_STAGE_SETUP, 0, nr_sys_oom_set(order->oom_score_adj));

    for (unsigned i = 0; r == 0 && i < order->spawn.settings; i++) {
        struct nr_setting setting = nr_codec_setting(&order->frame, i);
        if (setting.what == NR_SETTING_RLIMIT)
            r = at_stage(failed, NR_STAGE_RLIMIT, setting.which,
                         nr_sys_limit(setting.which, setting.value, setting.hard));
    }
    return r;
}

/* ---- terminal ------------------------------------------------------------------------------- */

void nr_settings_terminal(const struct nr_order *order)
{
    uint64_t uid;

    if (order->pty >= 0 && asked_for(order, NR_SETTING_USER, &uid))
        (void)fchown(order->pty, (uid_t)uid, (gid_t)-1);
}

/* ---- identity ------------------------------------------------------------------------------- */

struct identity {
    bool changes_user;
    uid_t uid;
    gid_t gid;
    gid_t members[NR_SETTINGS_MAX];
    unsigned count;
};

static bool among(gid_t gid, const gid_t gids[], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (gids[i] == gid)
            return true;
    return false;
}

/* Whether our supplementary groups are exactly these; in which order is nobody's business. */
static bool is_member_of(const gid_t wanted[], unsigned count)
{
    gid_t have[NR_SETTINGS_MAX];
    int got = getgroups(NR_SETTINGS_MAX, have); /* EINVAL: more than could be asked for */
    if (got < 0)
        return false;
    for (unsigned i = 0; i < (unsigned)got; i++)
        if (!among(have[i], wanted, count))
            return false;
    for (unsigned i = 0; i < count; i++)
        if (!among(wanted[i], have, (unsigned)got))
            return false;
    return true;
}

static int become(const struct identity *who)
{
    /* Who has these groups already need not be privileged to keep them. */
    if (!is_member_of(who->members, who->count) && setgroups(who->count, who->members) < 0)
        return nr_errno();
    if (setresgid(who->gid, who->gid, who->gid) < 0)
        return nr_errno();
    if (!who->changes_user)
        return 0;

    /* A command that its guardian cannot signal would outlive everybody: its own leash, too, is checked
     * as a signal of the guardian's. */
    if (who->uid != getuid() && !nr_sys_may_signal_anybody())
        return -EPERM;
    /* Before the change: a keyring counts as its user's, who may have few. */
    int r = who->uid != getuid() ? nr_sys_keyring_leave() : 0;
    if (r < 0)
        return r;
    if (setresuid(who->uid, who->uid, who->uid) < 0)
        return nr_errno();
    /* The kernel takes them from who was root only, and not under every securebit. */
    return nr_sys_capabilities_drop();
}

/* Calls that said 0 are not believed: a filter, or a kernel without these calls, may say so, too. */
static bool has_become(const struct identity *who)
{
    uid_t uid, euid, suid;
    gid_t gid, egid, sgid;

    if (getresgid(&gid, &egid, &sgid) < 0 || gid != who->gid || egid != who->gid ||
        sgid != who->gid || !is_member_of(who->members, who->count))
        return false;
    if (!who->changes_user)
        return true;
    return getresuid(&uid, &euid, &suid) == 0 && uid == who->uid && euid == who->uid &&
           suid == who->uid && nr_sys_capabilities_none() && setresuid((uid_t)-1, 0, (uid_t)-1) < 0;
}

int nr_settings_identity(const struct nr_order *order, struct nr_failed *failed)
{
    struct identity who;
    uint64_t value;

    if (!asked_for(order, NR_SETTING_GROUP, &value))
        return 0;
    who.gid = (gid_t)value;
    who.changes_user = asked_for(order, NR_SETTING_USER, &value);
    who.uid = who.changes_user ? (uid_t)value : 0;
    who.count = 0;
    for (unsigned i = 0; i < order->spawn.settings; i++) {
        struct nr_setting setting = nr_codec_setting(&order->frame, i);
        if (setting.what == NR_SETTING_MEMBER)
            who.members[who.count++] = (gid_t)setting.value;
    }

    int r = become(&who);
    if (r == 0 && !has_become(&who))
        r = -EPERM;
    return at_stage(failed, NR_STAGE_USER, 0, r);
}

/* ---- privileges ----------------------------------------------------------------------------- */

int nr_settings_privileges(const struct nr_order *order, struct nr_failed *failed)
{
    uint64_t unused;

    if (!asked_for(order, NR_SETTING_NO_NEW_PRIVS, &unused))
        return 0;
    return at_stage(failed, NR_STAGE_NO_NEW_PRIVS, 0, nr_sys_no_new_privs());
}
