/*
 * What plain C reaches on this machine, in the scenarios of bench/:
 *
 *     bench_reference read PIPE BLOCK BYTES COMMAND...    stamped data from COMMAND, reads of BLOCK
 *     bench_reference write PIPE BLOCK BYTES COMMAND...   stamped data to COMMAND, writes of BLOCK
 *     bench_reference echo PIPE BLOCK BYTES COMMAND...    both at once, one thread, poll(2)
 *     bench_reference lines PIPE BLOCK BYTES COMMAND...   lines of COMMAND, found with memchr(3)
 *     bench_reference matches PIPE BLOCK BYTES COMMAND... the same, and a word in each with memmem(3)
 *     bench_reference ping PIPE SIZE COUNT COMMAND...     SIZE bytes there and back, COUNT times
 *     bench_reference spawn WIDTH COUNT COMMAND...        COUNT runs to the end, WIDTH at once
 *
 * PIPE is the pipes' capacity, 0 for the kernel's default. It prints one line,
 *
 *     WORK WRONG WALL_NS OWN_CPU_NS CHILDREN_CPU_NS
 *
 * WORK in bytes, lines or runs, and then, for ping and spawn with WIDTH 1, one line of nanoseconds
 * for each.
 */
#include "lines.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct result {
    uint64_t work;
    uint64_t wrong;
    uint64_t *samples;
    size_t samples_count;
};

struct command {
    pid_t pid;
    int in;  /* our end of its stdin, or -1 */
    int out; /* our end of its stdout, or -1 */
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static uint64_t cpu(int who)
{
    struct rusage usage;
    if (getrusage(who, &usage) < 0)
        die("getrusage");
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000U +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000U;
}

static void make_pipe(int fds[2], int capacity)
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        die("pipe2");
    if (capacity > 0 && fcntl(fds[0], F_SETPIPE_SZ, capacity) < 0)
        die("F_SETPIPE_SZ");
}

static struct command start(char **argv, int capacity, bool with_in)
{
    struct command command = {.in = -1, .out = -1};
    posix_spawn_file_actions_t actions;
    int in[2] = {-1, -1};
    int out[2];

    posix_spawn_file_actions_init(&actions);
    if (with_in) {
        make_pipe(in, capacity);
        posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    make_pipe(out, capacity);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    errno = posix_spawnp(&command.pid, argv[0], &actions, NULL, argv, environ);
    if (errno != 0)
        die(argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    command.out = out[0];
    if (with_in) {
        close(in[0]);
        command.in = in[1];
    }
    return command;
}

static void end(struct command *command, struct result *result)
{
    int status;
    if (command->in >= 0)
        close(command->in);
    close(command->out);
    if (waitpid(command->pid, &status, 0) < 0)
        die("waitpid");
    if (status != 0)
        result->wrong++;
}

static size_t read_chunk(int fd, unsigned char *chunk, size_t length)
{
    ssize_t n;
    do {
        n = read(fd, chunk, length);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        die("read");
    return (size_t)n;
}

static void write_all(int fd, const unsigned char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("write");
        data += n;
        length -= (size_t)n;
    }
}

static unsigned char *make_block(size_t length)
{
    unsigned char *block = aligned_alloc(STAMP_EVERY, (length + STAMP_EVERY - 1) & ~(size_t)4095);
    if (block == NULL)
        die("memory");
    memset(block, 'x', length);
    return block;
}

static void run_read(int capacity, size_t block, uint64_t bytes, char **argv, struct result *result)
{
    unsigned char *chunk = make_block(block);
    struct command command = start(argv, capacity, false);
    for (size_t n; (n = read_chunk(command.out, chunk, block)) > 0; result->work += n)
        if (!stamp_check(chunk, n, result->work))
            result->wrong++;
    end(&command, result);
    if (result->work != bytes)
        result->wrong++;
}

static void run_write(int capacity, size_t block, uint64_t bytes, char **argv,
                      struct result *result)
{
    unsigned char *data = make_block(block);
    struct command command = start(argv, capacity, true);
    for (; result->work < bytes; result->work += block) {
        stamp_write(data, block, result->work);
        write_all(command.in, data, block);
    }
    while (read_chunk(command.out, data, block) > 0)
        ;
    end(&command, result); /* its status says whether it got what it should */
}

static void run_echo(int capacity, size_t block, uint64_t bytes, char **argv, struct result *result)
{
    unsigned char *data = make_block(block);
    unsigned char *chunk = make_block(block);
    struct command command = start(argv, capacity, true);
    uint64_t sent = 0;

    if (fcntl(command.in, F_SETFL, O_NONBLOCK) < 0 || fcntl(command.out, F_SETFL, O_NONBLOCK) < 0)
        die("O_NONBLOCK");
    for (;;) {
        struct pollfd watched[] = {
            {.fd = command.out, .events = POLLIN},
            {.fd = command.in, .events = POLLOUT},
        };
        if (poll(watched, 2, -1) < 0)
            die("poll");
        if (watched[1].revents != 0) {
            size_t at = (size_t)(sent % block);
            if (at == 0)
                stamp_write(data, block, sent);
            ssize_t n = write(command.in, data + at, block - at);
            if (n < 0 && errno != EAGAIN)
                die("write");
            sent += n > 0 ? (uint64_t)n : 0;
            if (sent >= bytes) {
                close(command.in);
                command.in = -1;
            }
        }
        if (watched[0].revents != 0) {
            ssize_t n = read(command.out, chunk, block);
            if (n == 0)
                break;
            if (n < 0 && errno != EAGAIN)
                die("read");
            if (n > 0) {
                if (!stamp_check(chunk, (size_t)n, result->work))
                    result->wrong++;
                result->work += (uint64_t)n;
            }
        }
    }
    end(&command, result);
    if (result->work != sent)
        result->wrong++;
}

/* Counts the whole lines, and those with a word where one is asked for; the bytes that they take. */
static size_t take_lines(const unsigned char *data, size_t length, const char *word,
                         struct result *result, uint64_t *found)
{
    const unsigned char *line = data;
    const unsigned char *end = data + length;
    const unsigned char *newline;

    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        result->work++;
        if (word != NULL && memmem(line, (size_t)(newline - line), word, strlen(word)) != NULL)
            (*found)++;
        line = newline + 1;
    }
    return (size_t)(line - data);
}

static void find_lines(int capacity, size_t block, uint64_t bytes, char **argv, const char *word,
                       struct result *result)
{
    unsigned char *buffer = make_block(block + LINE_BYTES);
    struct command command = start(argv, capacity, false);
    size_t rest = 0; /* of a line whose end is still to come */
    uint64_t seen = 0;
    uint64_t found = 0;

    for (size_t n; (n = read_chunk(command.out, buffer + rest, block)) > 0; seen += n) {
        size_t taken = take_lines(buffer, rest + n, word, result, &found);
        rest = rest + n - taken;
        if (rest >= LINE_BYTES)
            die("a line is too long");
        memmove(buffer, buffer + taken, rest);
    }
    end(&command, result);
    if (seen != bytes || rest > 0 || (word != NULL && found != result->work / NEEDLE_EVERY))
        result->wrong++;
}

static void run_lines(int capacity, size_t block, uint64_t bytes, char **argv,
                      struct result *result)
{
    find_lines(capacity, block, bytes, argv, NULL, result);
}

static void run_matches(int capacity, size_t block, uint64_t bytes, char **argv,
                        struct result *result)
{
    find_lines(capacity, block, bytes, argv, NEEDLE, result);
}

static void run_ping(int capacity, size_t size, uint64_t count, char **argv, struct result *result)
{
    unsigned char *data = make_block(size);
    struct command command = start(argv, capacity, true);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begin = now();
        write_all(command.in, data, size);
        for (size_t got = 0, n; got < size; got += n) {
            n = read_chunk(command.out, data, size - got);
            if (n == 0) {
                result->wrong++;
                break;
            }
        }
        result->samples[result->samples_count++] = now() - begin;
        result->work++;
    }
    close(command.in);
    command.in = -1;
    end(&command, result);
}

static void run_spawn(size_t width, uint64_t count, char **argv, struct result *result)
{
    struct command *commands = calloc(width, sizeof(*commands));
    unsigned char byte;
    if (commands == NULL)
        die("memory");
    while (result->work < count) {
        uint64_t begin = now();
        for (size_t i = 0; i < width; i++)
            commands[i] = start(argv, 0, false);
        for (size_t i = 0; i < width; i++) {
            while (read_chunk(commands[i].out, &byte, 1) > 0)
                ;
            end(&commands[i], result);
            result->work++;
        }
        if (width == 1)
            result->samples[result->samples_count++] = now() - begin;
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    struct result result = {0};
    uint64_t begin;

    (void)signal(SIGPIPE, SIG_IGN);
    if (strcmp(mode, "spawn") == 0 && argc > 4) {
        uint64_t count = strtoull(argv[3], NULL, 10);
        result.samples = calloc((size_t)count + 1, sizeof(*result.samples));
        begin = now();
        run_spawn((size_t)strtoull(argv[2], NULL, 10), count, argv + 4, &result);
    } else if (argc > 5) {
        static const struct {
            const char *name;
            void (*run)(int, size_t, uint64_t, char **, struct result *);
        } modes[] = {
            {"read", run_read},   {"write", run_write},     {"echo", run_echo},
            {"lines", run_lines}, {"matches", run_matches}, {"ping", run_ping},
        };
        int capacity = atoi(argv[2]);
        size_t block = (size_t)strtoull(argv[3], NULL, 10);
        uint64_t amount = strtoull(argv[4], NULL, 10);
        size_t i = 0;
        while (i < sizeof(modes) / sizeof(modes[0]) && strcmp(modes[i].name, mode) != 0)
            i++;
        if (i == sizeof(modes) / sizeof(modes[0]) || block == 0)
            goto usage;
        if (modes[i].run == run_ping)
            result.samples = calloc((size_t)amount, sizeof(*result.samples));
        begin = now();
        modes[i].run(capacity, block, amount, argv + 5, &result);
    } else {
        goto usage;
    }

    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", result.work,
           result.wrong, now() - begin, cpu(RUSAGE_SELF), cpu(RUSAGE_CHILDREN));
    for (size_t i = 0; i < result.samples_count; i++)
        printf("%" PRIu64 "\n", result.samples[i]);
    return result.wrong == 0 ? 0 : 1;

usage:
    fputs("usage: see the first lines of bench/c/reference.c\n", stderr);
    return 2;
}
