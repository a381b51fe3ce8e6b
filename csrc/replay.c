/*
 * replay: stands in for a command in somebody's tests, and does what that was seen to do. Started by NetRunner in the
 * command's place (NetRunner.Replay), so that everything around it is as with the command itself.
 *
 *     replay STDIN SPEED FILE               plays a cassette (cassette.h)
 *     replay STDIN SPEED - PART [PART...]   the same, its text in the arguments
 *
 * Events are played in their order. Bytes of stdout and stderr are written; a reader that is slow is waited for, and
 * one that is gone ends it by SIGPIPE, as it does most programs. SPEED is in thousandths: 1000 is as it was, 2000
 * twice as fast; 0 waits for no time at all. An event comes no earlier than it did after the last one of stdin,
 * which may have had to be waited for.
 *
 * STDIN says what becomes of its events:
 *
 *     read     each waits until as many bytes have come as by then, or some more than before, or the end; the end is
 *              waited for. What the bytes are does not matter.
 *     check    the bytes must be those that were recorded, from the first to the last
 *     ignore   stdin is not touched
 *
 * It ends as the command did. One that was stopped then stays, its output over, until it is told to end. If it had
 * ended by itself then, with an exit code, it does so, and if a SIGKILL was needed, it is needed again. Exit 125, with
 * a line on stderr: the cassette is none, and nothing of it was played; or stdin was not as recorded.
 */
#include "base/error.h"
#include "base/fd.h"
#include "cassette.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FAILED 125

enum stdin_mode { MODE_READ, MODE_CHECK, MODE_IGNORE };

static struct {
    const char *name; /* the cassette's, for messages */
    enum stdin_mode mode;
    uint64_t speed;        /* thousandths; 0: at once */
    uint64_t got;          /* bytes of stdin */
    uint64_t recorded;     /* the same, when it was recorded */
    bool over;             /* nothing more comes from stdin */
    uint64_t since_us;     /* the time of the recording ... */
    struct timespec since; /* ... and what the clock said then */
} play;

static unsigned char buffer[64 * 1024];

static _Noreturn void fail(unsigned line, const char *what)
{
    if (line > 0)
        (void)fprintf(stderr, "replay: %s:%u: %s\n", play.name, line, what);
    else
        (void)fprintf(stderr, "replay: %s: %s\n", play.name, what);
    exit(FAILED);
}

/* ---- ends ---------------------------------------------------------------------------------------- */

static void let_through(int signal_number)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, signal_number);
    (void)signal(signal_number, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Where the signal has no effect, as for the first process of a pid namespace, with a shell's number for it. */
static _Noreturn void end_by(int signal_number)
{
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    let_through(signal_number);
    (void)raise(signal_number);
    exit(128 + signal_number);
}

/* What programs are told to end by. */
static const int requests[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};

static int code_when_stopped;

static void on_request(int signal_number)
{
    (void)signal_number;
    _exit(code_when_stopped);
}

/* How requests are met, from the first moment on, by one that would have gone on for ever: as they were then. */
static void prepare_to_be_stopped(const struct nr_event *last)
{
    void (*how)(int) = SIG_DFL;
    if (last->stopped && last->kind == NR_EVENT_EXIT)
        how = on_request;
    else if (last->stopped && last->number == SIGKILL)
        how = SIG_IGN;
    code_when_stopped = last->number;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        (void)signal(requests[i], how);
}

static _Noreturn void end(const struct nr_event *event)
{
    while (event->stopped)
        (void)pause();
    if (event->kind == NR_EVENT_SIGNAL)
        end_by(event->number);
    exit(event->number);
}

/* ---- time ---------------------------------------------------------------------------------------- */

static void begin_to_count(uint64_t at_us)
{
    play.since_us = at_us;
    (void)clock_gettime(CLOCK_MONOTONIC, &play.since);
}

static uint64_t microseconds_since(const struct timespec *then)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = (int64_t)(now.tv_sec - then->tv_sec) * 1000000000 + (now.tv_nsec - then->tv_nsec);
    return ns > 0 ? (uint64_t)ns / 1000 : 0;
}

static void await_time(uint64_t at_us)
{
    if (play.speed == 0 || at_us <= play.since_us)
        return;
    uint64_t wanted = at_us - play.since_us;
    /* Neither of them may run over. */
    wanted = wanted < UINT64_MAX / 1000 ? wanted * 1000 / play.speed : wanted / play.speed * 1000;
    for (;;) {
        uint64_t gone = microseconds_since(&play.since);
        if (gone >= wanted)
            return;
        uint64_t left = wanted - gone;
        if (left > 1000000000)
            left = 1000000000;
        struct timespec pause = {.tv_sec = (time_t)(left / 1000000),
                                 .tv_nsec = (long)(left % 1000000) * 1000};
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- bytes --------------------------------------------------------------------------------------- */

/* After a call that failed: 0 where it is worth another one, -errno. */
static int again(int fd, short events)
{
    struct pollfd waited = {.fd = fd, .events = events};
    if (errno == EINTR)
        return 0;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return nr_errno();
    return poll(&waited, 1, -1) < 0 && errno != EINTR ? nr_errno() : 0;
}

static void write_bytes(int fd, const unsigned char *bytes, const struct nr_event *event)
{
    for (size_t done = 0; done < event->size;) {
        ssize_t n = write(fd, bytes + done, event->size - done);
        int r = n < 0 ? again(fd, POLLOUT) : 0;
        if (r == -EPIPE)
            end_by(SIGPIPE);
        if (r < 0)
            fail(event->line, strerror(-r));
        if (n > 0)
            done += (size_t)n;
    }
}

/* At most `size` bytes of stdin, in the buffer; 0 at its end. A stdin that is none, or cannot be read, has ended. */
static size_t read_some(size_t size)
{
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, size < sizeof(buffer) ? size : sizeof(buffer));
        if (n >= 0) {
            play.over = n == 0;
            play.got += (uint64_t)n;
            return (size_t)n;
        }
        if (again(STDIN_FILENO, POLLIN) < 0) {
            play.over = true;
            return 0;
        }
    }
}

/* ---- stdin --------------------------------------------------------------------------------------- */

static void read_as_recorded(const struct nr_event *event)
{
    if (event->kind == NR_EVENT_STDIN_END)
        while (!play.over)
            (void)read_some(sizeof(buffer));
    play.recorded += event->size;
    if (!play.over && play.got < play.recorded)
        (void)read_some(sizeof(buffer));
}

static _Noreturn void not_as_recorded(const struct nr_event *event, const char *what)
{
    static char text[160];
    (void)snprintf(text, sizeof(text), "stdin is not as it was recorded: %s byte %" PRIu64, what,
                   play.got);
    fail(event->line, text);
}

static void check_piece(const unsigned char *bytes, const struct nr_event *event)
{
    uint32_t crc = 0;
    for (size_t done = 0; done < event->size;) {
        size_t n = read_some(event->size - done);
        if (n == 0)
            not_as_recorded(event, "it ends behind");
        if (!event->summed && memcmp(bytes + done, buffer, n) != 0)
            not_as_recorded(event, "there is another one up to");
        crc = nr_crc32(crc, buffer, n);
        done += n;
    }
    if (event->summed && crc != event->crc)
        not_as_recorded(event, "there is another one up to");
}

static void check(const unsigned char *bytes, const struct nr_event *event)
{
    if (event->kind == NR_EVENT_STDIN)
        check_piece(bytes, event);
    else if (read_some(1) > 0)
        not_as_recorded(event, "it has ended before");
}

static void take_stdin(const unsigned char *bytes, const struct nr_event *event)
{
    if (play.mode == MODE_IGNORE)
        return;
    if (play.mode == MODE_READ)
        read_as_recorded(event);
    else
        check(bytes, event);
    begin_to_count(event->at_us);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void next(struct nr_cassette *cassette, struct nr_event *event)
{
    int r = nr_cassette_next(cassette, event);
    if (r == NR_CASSETTE_WRONG)
        fail(cassette->wrong_line, cassette->wrong);
    if (r < 0)
        fail(0, strerror(-r));
}

static bool is_end(const struct nr_event *event)
{
    return event->kind == NR_EVENT_EXIT || event->kind == NR_EVENT_SIGNAL;
}

/* Before anything is played, whether all of it can be; and how it ends. */
static void look_through(FILE *file)
{
    struct nr_cassette cassette;
    struct nr_event event;
    nr_cassette_init(&cassette, file);
    do
        next(&cassette, &event);
    while (!is_end(&event));
    nr_cassette_free(&cassette);
    prepare_to_be_stopped(&event);
    rewind(file);
}

static _Noreturn void run(struct nr_cassette *cassette)
{
    struct nr_event event;
    begin_to_count(0);
    for (;;) {
        next(cassette, &event);
        switch (event.kind) {
        case NR_EVENT_STDIN:
        case NR_EVENT_STDIN_END:
            take_stdin(cassette->bytes, &event);
            break;
        case NR_EVENT_STDOUT:
        case NR_EVENT_STDERR:
            await_time(event.at_us);
            write_bytes(event.kind == NR_EVENT_STDOUT ? STDOUT_FILENO : STDERR_FILENO,
                        cassette->bytes, &event);
            break;
        case NR_EVENT_EXIT:
        case NR_EVENT_SIGNAL:
            await_time(event.at_us);
            end(&event);
        }
    }
}

/* NULL and errno. */
static FILE *opened(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    /* Where one of the first three is closed, the cassette must not take its place. */
    int apart = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    (void)nr_fd_close(fd);
    return apart < 0 ? NULL : fdopen(apart, "r");
}

/* The arguments put together, as a file. NULL and errno. */
static FILE *joined(char *const *parts)
{
    size_t size = 0;
    for (char *const *part = parts; *part != NULL; part++)
        size += strlen(*part);
    char *text = malloc(size + 1);
    if (text == NULL)
        return NULL;
    char *end_of = text;
    for (; *parts != NULL; parts++) {
        size_t length = strlen(*parts);
        memcpy(end_of, *parts, length);
        end_of += length;
    }
    *end_of = '\0';
    return fmemopen(text, size, "r");
}

int main(int argc, char **argv)
{
    struct nr_cassette cassette;
    play.name = argc > 0 ? argv[0] : "replay";
    if (argc < 4)
        fail(0, "is started by NetRunner.Test: replay STDIN SPEED FILE, or - and its text");
    if (strcmp(argv[1], "check") == 0)
        play.mode = MODE_CHECK;
    else if (strcmp(argv[1], "ignore") == 0)
        play.mode = MODE_IGNORE;
    play.speed = strtoull(argv[2], NULL, 10);
    bool inlined = strcmp(argv[3], "-") == 0;
    if (!inlined)
        play.name = argv[3];
    FILE *file = inlined ? joined(argv + 4) : opened(argv[3]);
    if (file == NULL)
        fail(0, strerror(errno));
    look_through(file);
    nr_cassette_init(&cassette, file);
    run(&cassette);
}
