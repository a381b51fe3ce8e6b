/* wire_generate FOLDER: writes the golden frames. Run it after a change of format, read the diff. */
#include "golden.h"

#include <stdio.h>

static int put(const char *folder, const struct nr_golden *golden)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s.bin", folder, golden->name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(golden->bytes, 1, golden->length, file) != golden->length ||
        fclose(file) != 0) {
        perror(path);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct nr_golden golden;

    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 64;
    }
    for (unsigned i = 0; nr_golden_get(i, &golden); i++)
        if (put(argv[1], &golden) < 0)
            return 1;
    for (unsigned i = 0; nr_golden_bad(i, &golden); i++)
        if (put(argv[1], &golden) < 0)
            return 1;
    return 0;
}
