/*
 * Requests to the zygote: messages with any bytes and any descriptors through a real socket into its
 * own loop, strings inline and by memfd, in a simulated world of processes (no fork is real). Of each
 * message holds: it has exactly one outcome (a guardian, FAILED, REJECTED with its id, an escalation);
 * every descriptor it brought is closed; an order that is taken is whole, and no pointer that is made
 * of it leaves its strings. Signals go to the zygote's own unreaped children only (world.c).
 *
 * zygote.c is included, not linked, because its one context is static: each input gets a fresh one.
 */
#include "invariant.h"
#include "kernel.h"
#include "order.h"
#include "script.h"

static int observed_order_take(struct nr_order *order, const struct nr_frame *frame,
                               struct nr_message *message);
#define nr_order_take observed_order_take
#include "../../shepherd/zygote.c"
#undef nr_order_take

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A message of the input: these five bytes, then `length` bytes, then the memfd's. */
enum mend {
    MEND_HEADER = 1 << 0,  /* magic, version and length become right */
    MEND_STRINGS = 1 << 1, /* a SPAWN's strings_length becomes what follows (or the memfd has) */
    MEND_FDS = 1 << 2,     /* as many descriptors as the flags say, of the right kinds */
    PAD = 1 << 3,          /* 64 KiB more follow the frame */
    LEAVE_STRAY = 1 << 4,  /* a guardian that is forked has a child */
    NO_FORK = 1 << 5,
    SOME_END = 1 << 6, /* afterwards a guardian, or a stray of one, ends */
};

enum kind {
    SEQPACKET,
    STREAM,
    PIPE,
    FOLDER,
    SEALED,
    UNSEALED,
    KINDS,
};

/* What every message may bring, opened once. */
static struct {
    int request[2]; /* the zygote's end, ours */
    int control[2];
    int stream[2];
    int pipe[2];
    int folder;
} real;

static unsigned char bytes[2 * NR_WIRE_FRAME_MAX];
static unsigned orders;

/* ---- an order that was taken ---------------------------------------------------------------- */

static void string_inside(const char *string, const char *from, size_t length)
{
    INVARIANT(string >= from && string < from + length, "a string lies outside the strings");
    INVARIANT(memchr(string, '\0', (size_t)(from + length - string)) != NULL,
              "a string leaves the strings");
}

static void program_inside(struct nr_order *order, const struct nr_program *program)
{
    const struct nr_spawn *spawn = &order->spawn;
    const char *from = order->strings;

    string_inside(program->exe, from, spawn->strings_length);
    string_inside(program->cd, from, spawn->strings_length);
    INVARIANT(program->exe[0] == '/', "the executable is no absolute path");
    for (int i = 0; i < 3; i++)
        if (program->files[i] != NULL)
            string_inside(program->files[i], from, spawn->strings_length);
    if (spawn->flags & NR_SPAWN_CGROUP) {
        char unused[NR_ORDER_NAMES_ROOM];
        const char *parent;
        const char *leaf;
        INVARIANT(nr_order_cgroup(order, unused, &parent, &leaf) == 0,
                  "the strings are valid, but the leaf has no name");
        string_inside(parent, from, spawn->strings_length);
        string_inside(leaf, from, spawn->strings_length);
    }
    for (uint32_t i = 0; i < spawn->cgroup_files; i++)
        string_inside(program->cgroup_files[i], from, spawn->strings_length);
    for (uint32_t i = 0; i < spawn->argc; i++)
        string_inside(program->argv[i], from, spawn->strings_length);
    INVARIANT(program->argv[spawn->argc] == NULL, "argv has no end");
    for (uint32_t i = 0; i < spawn->envc; i++)
        string_inside(program->envp[i], from, spawn->strings_length);
    INVARIANT(program->envp[spawn->envc] == NULL, "envp has no end");
    const char *last =
        spawn->envc > 0 ? program->envp[spawn->envc - 1] : program->argv[spawn->argc - 1];
    INVARIANT(last + strlen(last) + 1 == from + spawn->strings_length, "strings are left over");
}

static bool is_kind(int fd, mode_t kind)
{
    struct stat info;
    return fstat(fd, &info) == 0 && (info.st_mode & S_IFMT) == kind;
}

/* What the guardian would do with it, on a copy. */
static void load(const struct nr_order *order)
{
    struct nr_order copy = *order;
    struct nr_program program;

    if (copy.strings_fd >= 0)
        copy.strings_fd = fcntl(copy.strings_fd, F_DUPFD_CLOEXEC, 0);
    int r = nr_order_program(&copy, &program);
    INVARIANT(copy.strings_fd == -EBADF || order->strings != NULL, "the strings' memfd stays open");
    if (r == 0) {
        program_inside(&copy, &program);
    } else {
        INVARIANT(order->strings == NULL, "inline strings were checked, and are refused: %d", r);
    }
    if (order->strings == NULL && copy.strings != NULL)
        (void)munmap((void *)(uintptr_t)copy.strings, copy.spawn.strings_length);
    nr_kernel_free_heap();
}

static int observed_order_take(struct nr_order *order, const struct nr_frame *frame,
                               struct nr_message *message)
{
    unsigned brought = message->fds_count;
    int r = nr_order_take(order, frame, message);

    INVARIANT(r <= 0, "result %d", r);
    if (r < 0) {
        INVARIANT(order->control < 0 && order->cwd < 0 && order->strings_fd < 0 && order->pty < 0 &&
                      order->stdio[0] < 0 && order->stdio[1] < 0 && order->stdio[2] < 0,
                  "a refused order holds descriptors");
        return r;
    }
    INVARIANT(message->fds_count == 0, "a message keeps what the order took");
    INVARIANT(is_kind(order->control, S_IFSOCK), "the control descriptor is no socket");
    unsigned took = 1;
    took += order->stdio[0] >= 0;
    took += order->stdio[1] >= 0;
    took += order->stdio[2] >= 0;
    took += order->cwd >= 0;
    took += order->pty >= 0;
    took += order->strings_fd >= 0;
    INVARIANT(took == brought && took == nr_codec_spawn_fds(order->spawn.flags),
              "%u descriptors came, %u were taken", brought, took);
    INVARIANT((order->strings == NULL) == (order->strings_fd >= 0), "no strings, or twice");
    orders++;
    load(order);
    return 0;
}

/* ---- a message ------------------------------------------------------------------------------ */

static int memfd(const uint8_t *content, size_t length, bool seal)
{
    int fd = memfd_create("strings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    if (length > 0 && write(fd, content, length) != (ssize_t)length)
        nr_broken("a memfd cannot be written");
    if (seal)
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    return fd;
}

struct strings {
    const uint8_t *content;
    size_t length;
};

/* The descriptor to send; a memfd is the caller's to close. */
static int descriptor(enum kind kind, const struct strings *strings)
{
    switch (kind) {
    case SEQPACKET:
        return real.control[1];
    case STREAM:
        return real.stream[1];
    case PIPE:
        return real.pipe[0];
    case FOLDER:
        return real.folder;
    case SEALED:
    case UNSEALED:
    case KINDS:
    default:
        return memfd(strings->content, strings->length, kind == SEALED);
    }
}

static unsigned right_kinds(const struct nr_spawn *spawn, enum kind kinds[NR_SPAWN_FDS_MAX])
{
    unsigned count = nr_codec_spawn_fds(spawn->flags);
    for (unsigned i = 0; i < count; i++)
        kinds[i] = PIPE;
    kinds[0] = SEQPACKET;
    if (spawn->flags & NR_SPAWN_STRINGS)
        kinds[count - 1] = SEALED;
    return count;
}

static void mend_header(size_t length)
{
    struct nr_header header;
    if (length < sizeof(header))
        return;
    memcpy(&header, bytes, sizeof(header));
    header.magic = NR_WIRE_MAGIC;
    header.version = NR_WIRE_VERSION;
    header.length = (uint32_t)(length - sizeof(header));
    memcpy(bytes, &header, sizeof(header));
}

static void mend_strings(size_t length, size_t apart)
{
    struct nr_spawn spawn;
    size_t at = sizeof(struct nr_header);
    if (length < at + sizeof(spawn))
        return;
    memcpy(&spawn, bytes + at, sizeof(spawn));
    size_t inside = length - at - sizeof(spawn);
    if (spawn.settings * sizeof(struct nr_setting) > inside)
        spawn.settings = 0;
    inside -= spawn.settings * sizeof(struct nr_setting);
    spawn.strings_length = (uint32_t)(spawn.flags & NR_SPAWN_STRINGS ? apart : inside);
    memcpy(bytes + at, &spawn, sizeof(spawn));
}

#define FDS_MOST 40 /* more than the zygote takes */

static void send_message(size_t length, const int *fds, unsigned count)
{
    union {
        struct cmsghdr align;
        unsigned char space[CMSG_SPACE(sizeof(int) * FDS_MOST)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        header.msg_control = control.space;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    if (sendmsg(real.request[1], &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        nr_broken("a message of %zu bytes cannot be sent", length);
}

static void send_with(size_t length, uint8_t options, uint8_t seed, const struct strings *strings)
{
    enum kind kinds[FDS_MOST];
    int fds[FDS_MOST];
    struct nr_spawn spawn = {0};
    unsigned count = seed % 8U == 7 ? FDS_MOST - seed % 5U : seed % 8U;

    if (length >= sizeof(struct nr_header) + sizeof(spawn))
        memcpy(&spawn, bytes + sizeof(struct nr_header), sizeof(spawn));
    for (unsigned i = 0; i < count; i++)
        kinds[i] = (enum kind)((seed / 8U + i * (seed / 3U)) % KINDS);
    if (options & MEND_FDS)
        count = right_kinds(&spawn, kinds);
    for (unsigned i = 0; i < count; i++)
        fds[i] = descriptor(kinds[i], strings);
    send_message(length, fds, count);
    for (unsigned i = 0; i < count; i++)
        if (kinds[i] == SEALED || kinds[i] == UNSEALED)
            (void)close(fds[i]);
}

/* ---- what came of it ------------------------------------------------------------------------ */

static unsigned drain(int fd, enum nr_frame_type type, uint64_t id)
{
    unsigned char answer[256];
    struct nr_frame frame;
    unsigned count = 0;
    ssize_t got;

    while ((got = recv(fd, answer, sizeof(answer), MSG_DONTWAIT)) > 0) {
        INVARIANT(nr_codec_open(answer, (size_t)got, &frame) == 0, "an answer cannot be read");
        INVARIANT(frame.type == type, "an answer of type %u", frame.type);
        INVARIANT(frame.id == id, "an answer to another request");
        count++;
    }
    return count;
}

static void one_outcome(size_t length)
{
    struct nr_header header = {0};
    bool readable = length >= sizeof(header);

    if (readable)
        memcpy(&header, bytes, sizeof(header));
    readable = readable && header.magic == NR_WIRE_MAGIC && header.version == NR_WIRE_VERSION;
    unsigned rejected = drain(real.request[1], NR_REJECTED, readable ? header.id : 0);
    unsigned failed = drain(real.control[0], NR_FAILED, header.id);
    unsigned forked = nr_kernel.forked;
    bool escalated = readable && header.type == NR_ESCALATE && length == sizeof(header);

    INVARIANT(rejected + failed + forked == 1 || (escalated && rejected + failed + forked == 0),
              "%u times rejected, %u failed, %u forked", rejected, failed, forked);
    INVARIANT(orders == failed + forked, "%u orders, %u failed, %u forked", orders, failed, forked);
    orders = 0;
    nr_kernel.forked = false;
}

/* The descriptors of a message are the lowest free ones: none of these was open before. */
static int lowest[FDS_MOST];

static void note_lowest(void)
{
    for (int fd = 0, found = 0; found < FDS_MOST; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            lowest[found++] = fd;
}

static void nothing_is_open(void)
{
    for (int i = 0; i < FDS_MOST; i++)
        INVARIANT(fcntl(lowest[i], F_GETFD) < 0, "descriptor %d was forgotten", lowest[i]);
    for (int kind = NR_FD_NONE + 1; kind < NR_FD_KINDS; kind++)
        INVARIANT(nr_kernel_count((enum nr_fd_kind)kind) == (kind == NR_FD_CHILDREN),
                  "a simulated one of kind %d was forgotten", kind);
}

/* Whoever was reaped is forgotten. */
static void table_is_right(const struct zygote *z)
{
    for (unsigned i = 0; i < z->count; i++) {
        const struct nr_creature *c = nr_world_find(z->table[i].guardian.pid);
        INVARIANT(c != NULL && c->parent == NR_WORLD_SELF, "%d is kept, which is no child of ours",
                  z->table[i].guardian.pid);
    }
}

static void run_message(struct zygote *z, struct nr_script *script)
{
    uint8_t options = nr_script_byte(script);
    uint8_t seed = nr_script_byte(script);
    uint8_t temper = nr_script_byte(script);
    size_t wanted = nr_script_u16(script), length;
    const uint8_t *frame = nr_script_bytes(script, wanted, &length);
    struct strings strings;

    strings.content = nr_script_bytes(script, nr_script_u16(script), &strings.length);
    if (length > 0)
        memcpy(bytes, frame, length);
    if (options & PAD) {
        memset(bytes + length, 0, NR_WIRE_INLINE_MAX);
        length += NR_WIRE_INLINE_MAX;
    }
    if (options & MEND_HEADER)
        mend_header(length);
    if (options & MEND_STRINGS)
        mend_strings(length, strings.length);

    nr_kernel.refusals.no_fork = options & NO_FORK;
    nr_kernel.leader = (struct nr_temper){.linger = temper % 4U * 50U, .foreign = temper == 255};
    note_lowest();
    send_with(length, options, seed, &strings);
    look_at_socket(z, POLLIN);
    if (nr_kernel.forked && (options & LEAVE_STRAY))
        (void)nr_world_birth(nr_world_born(nr_world.watched)->pid, (struct nr_temper){0});
    one_outcome(length);
    nothing_is_open();
    if ((options & SOME_END) && nr_world_family() > 0)
        nr_world_death(nr_world_member(seed % nr_world_family()), (temper % 3) << 8);

    nr_world_pass(temper);
    reap(z);
    look_for_strays(z);
    table_is_right(z);
    nothing_is_open();
}

/* Once the BEAM is dead, whatever lives is ended, and the zygote with it. */
static void leave_all(struct zygote *z)
{
    leave(z);
    for (unsigned i = 0; i < 2000 && (z->count > 0 || z->looks > 0); i++) {
        uint64_t next = next_deadline(z);
        nr_world_pass(next > nr_world.now ? next - nr_world.now : 1);
        reap(z);
        kill_outstayers(z);
        look_for_strays(z);
    }
    INVARIANT(z->count == 0 && z->looks == 0, "the zygote waits for ever");
}

static void open_real(void)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, real.request) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, real.control) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, real.stream) < 0 ||
        pipe2(real.pipe, O_CLOEXEC) < 0 || (real.folder = open("/", O_PATH | O_CLOEXEC)) < 0)
        nr_broken("no descriptors to test with");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nr_script script = {.at = data, .left = size};
    struct zygote *z = &the_zygote;

    if (real.folder == 0)
        open_real();
    memset(z, 0, offsetof(struct zygote, table));
    z->oom_score_adj = NR_OOM_UNCHANGED;
    z->children = NR_CHILDREN_NONE;
    z->looks = 0;
    z->look_at = 0;
    z->unreaped = false;
    z->beam = -EBADF;
    z->socket = fcntl(real.request[0], F_DUPFD_CLOEXEC, 0);

    nr_kernel_begin();
    nr_world.subreaper = true;
    (void)nr_children_each(&z->children, NULL, NULL);
    while (script.left > 0)
        run_message(z, &script);
    leave_all(z);
    nr_kernel_end();
    return 0;
}
