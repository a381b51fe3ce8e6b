/* See failing.h: the page that says what is to fail. */
#include "failing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *failing_role = "";

static struct failing *page;

struct failing *failing_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || ftruncate(fd, sizeof(struct failing)) < 0)
        return NULL;
    void *map = mmap(NULL, sizeof(struct failing), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return map == MAP_FAILED ? NULL : map;
}

/* Before main: the wrapped calls of the program's own start can fail, too. Those made here cannot,
 * there is no page yet. */
__attribute__((constructor)) static void find_page(void)
{
    const char *path = getenv(FAILING_FILE);
    page = path == NULL ? NULL : failing_open(path);
}

void failing_arm(struct failing *failing, const char *role, const char *call, uint32_t first,
                 uint32_t last, int error)
{
    failing_disarm(failing);
    (void)strncpy(failing->role, role, sizeof(failing->role) - 1);
    (void)strncpy(failing->call, call, sizeof(failing->call) - 1);
    failing->last = last;
    failing->error = (uint32_t)error;
    failing->seen = 0;
    failing->failed = 0;
    failing->first = first;
}

void failing_disarm(struct failing *failing)
{
    failing->first = 0;
}

/* Whether this call is one of those in the page. */
static bool is_meant(const char *call)
{
    size_t length = strlen(call);
    for (const char *at = page->call; length > 0; at += strcspn(at, ",") + 1) {
        if (strncmp(at, call, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
        if (strchr(at, ',') == NULL)
            break;
    }
    return false;
}

bool failing_now(const char *call)
{
    if (page == NULL || page->first == 0 || !is_meant(call) ||
        strcmp(page->role, failing_role) != 0)
        return false;
    uint32_t nth = ++page->seen;
    if (nth < page->first || nth > page->last)
        return false;
    page->failed++;
    errno = (int)page->error;
    return true;
}

int failing_error(const char *call)
{
    return failing_now(call) ? -errno : 0;
}

void failing_note_stranger(void)
{
    if (page != NULL)
        page->strangers++;
}
