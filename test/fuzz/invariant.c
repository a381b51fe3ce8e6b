/* See invariant.h. */
#include "invariant.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void nr_broken(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    (void)fputs("broken: ", stderr);
    (void)vfprintf(stderr, format, values);
    (void)fputc('\n', stderr);
    va_end(values);
    abort();
}

void nr_tell(const char *format, ...)
{
    static int telling = -1;
    if (telling < 0)
        telling = getenv("NR_FUZZ_TELL") != NULL;
    if (!telling)
        return;
    va_list values;
    va_start(values, format);
    (void)vfprintf(stderr, format, values);
    (void)fputc('\n', stderr);
    va_end(values);
}
