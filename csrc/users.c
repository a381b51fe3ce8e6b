/* See users.h: the databases of users and groups. Must never run on a normal scheduler. */
#include "users.h"

#include "atoms.h"
#include "base/error.h"
#include "term.h"

#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Longer than any login name (LOGIN_NAME_MAX is 256). */
#define NAME_BYTES 1024
/* An entry of a group names its members, thousands perhaps; one above this is a broken database. */
#define ENTRY_BYTES_MAX (16U * 1024U * 1024U)
/* NGROUPS_MAX of Linux; a user with more cannot log in anyway. */
#define GROUPS_MAX 65536

/* False for what is no name: too long, a NUL, no binary. */
static bool get_name(ErlNifEnv *env, ERL_NIF_TERM term, char name[NAME_BYTES])
{
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, term, &binary) || binary.size >= NAME_BYTES ||
        memchr(binary.data, 0, binary.size) != NULL)
        return false;
    memcpy(name, binary.data, binary.size);
    name[binary.size] = '\0';
    return true;
}

/* What getpwnam_r(3) and its like have said: 0, NR_NO_ENTRY or -errno, of which -ERANGE asks for more room.
 * Of an entry that is not there they say 0, or one of these (their manual pages: "or ..."). */
#define NR_NO_ENTRY 1
static int answer(int error, bool found)
{
    if (found)
        return 0;
    if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM)
        return NR_NO_ENTRY;
    return -error;
}

/* The next, larger buffer. 0 or -errno. */
static int grow(char **buffer, size_t *size)
{
    *size = *size == 0 ? 1024 : *size * 4;
    if (*size > ENTRY_BYTES_MAX)
        return -ERANGE;
    char *larger = realloc(*buffer, *size);
    if (larger == NULL)
        return -ENOMEM;
    *buffer = larger;
    return 0;
}

/* 0, NR_NO_ENTRY or -errno. The entry points into the buffer. */
static int find_user(const char *name, uid_t uid, struct passwd *user, char **buffer)
{
    size_t size = 0;
    for (;;) {
        int r = grow(buffer, &size);
        if (r < 0)
            return r;
        struct passwd *found = NULL;
        do {
            r = name != NULL ? getpwnam_r(name, user, *buffer, size, &found)
                             : getpwuid_r(uid, user, *buffer, size, &found);
        } while (r == EINTR);
        r = answer(r, found != NULL);
        if (r != -ERANGE)
            return r;
    }
}

static int find_group(const char *name, struct group *group, char **buffer)
{
    size_t size = 0;
    for (;;) {
        int r = grow(buffer, &size);
        if (r < 0)
            return r;
        struct group *found = NULL;
        do {
            r = getgrnam_r(name, group, *buffer, size, &found);
        } while (r == EINTR);
        r = answer(r, found != NULL);
        if (r != -ERANGE)
            return r;
    }
}

/* All groups of a user, on the heap. Their number, or -errno. */
static int find_groups(const struct passwd *user, gid_t **gids)
{
    for (int room = 64; room <= 2 * GROUPS_MAX; room *= 4) {
        int count = room;
        gid_t *larger = realloc(*gids, (size_t)room * sizeof(**gids));
        if (larger == NULL)
            return -ENOMEM;
        *gids = larger;
        if (getgrouplist(user->pw_name, user->pw_gid, *gids, &count) >= 0)
            return count;
    }
    return -ERANGE;
}

static int own_groups(gid_t **gids)
{
    for (;;) {
        int count = getgroups(0, NULL);
        if (count < 0)
            return nr_errno();
        gid_t *larger = realloc(*gids, ((size_t)count + 1) * sizeof(**gids));
        if (larger == NULL)
            return -ENOMEM;
        *gids = larger;
        if (count == 0)
            return 0; /* to getgroups(2), no room is a question of how many */
        int got = getgroups(count, *gids);
        if (got >= 0)
            return got;
        if (errno != EINVAL) /* it became more meanwhile */
            return nr_errno();
    }
}

static ERL_NIF_TERM gid_list(ErlNifEnv *env, const gid_t *gids, int count)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    while (gids != NULL && count > 0)
        list = enif_make_list_cell(env, enif_make_uint(env, gids[--count]), list);
    return list;
}

/* As user() gives it. */
static ERL_NIF_TERM user_term(ErlNifEnv *env, const struct passwd *user)
{
    gid_t *gids = NULL;
    int count = find_groups(user, &gids);
    ERL_NIF_TERM term =
        count < 0 ? nr_term_error(env, count)
                  : nr_term_ok(env, enif_make_tuple3(env, enif_make_uint(env, user->pw_uid),
                                                     enif_make_uint(env, user->pw_gid),
                                                     gid_list(env, gids, count)));
    free(gids);
    return term;
}

ERL_NIF_TERM nr_nif_user(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    char name[NAME_BYTES];
    unsigned uid = 0;
    bool by_name = get_name(env, argv[0], name);
    if (!by_name && !enif_get_uint(env, argv[0], &uid))
        return enif_make_badarg(env);

    char *buffer = NULL;
    struct passwd user;
    int r = find_user(by_name ? name : NULL, uid, &user, &buffer);
    ERL_NIF_TERM term = r < 0              ? nr_term_error(env, r)
                        : r == NR_NO_ENTRY ? nr_atoms.nil_
                                           : user_term(env, &user);
    free(buffer);
    return term;
}

ERL_NIF_TERM nr_nif_group(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    char name[NAME_BYTES];
    if (!get_name(env, argv[0], name))
        return enif_make_badarg(env);

    char *buffer = NULL;
    struct group group;
    int r = find_group(name, &group, &buffer);
    ERL_NIF_TERM term = r < 0              ? nr_term_error(env, r)
                        : r == NR_NO_ENTRY ? nr_atoms.nil_
                                           : nr_term_ok(env, enif_make_uint(env, group.gr_gid));
    free(buffer);
    return term;
}

ERL_NIF_TERM nr_nif_own_groups(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    gid_t *gids = NULL;
    int count = own_groups(&gids);
    ERL_NIF_TERM term = count < 0
                            ? nr_term_error(env, count)
                            : nr_term_ok(env, enif_make_tuple2(env, enif_make_uint(env, getegid()),
                                                               gid_list(env, gids, count)));
    free(gids);
    return term;
}
