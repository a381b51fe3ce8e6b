/* See term.h and atoms.h: conversions between terms and C values. */
#include "term.h"

#include <errno.h>
#include <string.h>

struct nr_atoms nr_atoms;

void nr_atoms_make(ErlNifEnv *env)
{
#define NR_ATOM_MAKE(name) nr_atoms.name##_ = enif_make_atom(env, #name);
    NR_ATOMS(NR_ATOM_MAKE)
#undef NR_ATOM_MAKE
}

ERL_NIF_TERM nr_term_ok(ErlNifEnv *env, ERL_NIF_TERM value)
{
    return enif_make_tuple2(env, nr_atoms.ok_, value);
}

ERL_NIF_TERM nr_term_posix(ErlNifEnv *env, int error)
{
    char name[32] = "eunknown";
#ifdef __GLIBC__
    const char *upper = strerrorname_np(error); /* glibc 2.32 */
    if (upper != NULL && strlen(upper) < sizeof(name)) {
        size_t i = 0;
        for (; upper[i] != '\0'; i++)
            name[i] = (char)(upper[i] >= 'A' && upper[i] <= 'Z' ? upper[i] + 32 : upper[i]);
        name[i] = '\0';
    }
#else
    static const struct {
        int error;
        const char *name;
    } names[] = {
        {EPERM, "eperm"},     {ENOENT, "enoent"},         {EIO, "eio"},
        {E2BIG, "e2big"},     {ENOEXEC, "enoexec"},       {EBADF, "ebadf"},
        {EAGAIN, "eagain"},   {ENOMEM, "enomem"},         {EACCES, "eacces"},
        {ENOTDIR, "enotdir"}, {EISDIR, "eisdir"},         {EINVAL, "einval"},
        {ENFILE, "enfile"},   {EMFILE, "emfile"},         {ETXTBSY, "etxtbsy"},
        {EPIPE, "epipe"},     {ELOOP, "eloop"},           {ENOSYS, "enosys"},
        {ENOBUFS, "enobufs"}, {ECONNRESET, "econnreset"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].error == error)
            strcpy(name, names[i].name);
#endif
    return enif_make_atom(env, name);
}

ERL_NIF_TERM nr_term_error(ErlNifEnv *env, int negative_errno)
{
    return enif_make_tuple2(env, nr_atoms.error_, nr_term_posix(env, -negative_errno));
}

ERL_NIF_TERM nr_term_map(ErlNifEnv *env, const ERL_NIF_TERM keys[], const ERL_NIF_TERM values[],
                         size_t count)
{
    ERL_NIF_TERM map;
    if (!enif_make_map_from_arrays(env, (ERL_NIF_TERM *)keys, (ERL_NIF_TERM *)values, count, &map))
        return enif_make_badarg(env);
    return map;
}

ERL_NIF_TERM nr_term_bool(bool value)
{
    return value ? nr_atoms.true_ : nr_atoms.false_;
}
