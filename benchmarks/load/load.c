/* The load generator: many TCP connections to one server on this machine, from one thread.
 *
 *   closed loop   every connection keeps --in-flight messages under way; a reply sends the next one.  Measures how much a
 *                 server can do.  Latency is from just before a message was sent to when its reply was read.
 *   open loop     --rate R: message i is *due* at start + i/R, whether or not earlier ones were answered, and goes to a
 *                 connection that has nothing under way.  Latency is from when a message was due, so that a server which
 *                 stalls cannot hide what it did to those who had to wait ("coordinated omission").
 *   hold          --hold: connect, exchange one message each (none with --silent), say so, and keep still until standard
 *                 input ends.  Measures what a quiet connection costs.
 *
 * With --tls, in the program load_tls, all of it inside TLS 1.3.  Handshakes are made one after the other before the first
 * message, never in the measured time; certificates are not looked at.
 *
 * Every reply is compared byte for byte with what it must be; a wrong one, a reset and an early end are counted, never
 * skipped.  A message is `q` (quick) or `s` (slow: what that means is the handler's), eight hexadecimal digits that differ
 * from connection to connection and count up, and small letters up to --size; as a line, its last byte is LF.
 *
 * Standard output: `begin` when the measured time begins, `end` when it ends, so that the caller can read the server's
 * clocks at those moments; then one line of JSON.  Exit code 0 even when there were errors: they are in the JSON.  2: a
 * wrong option; 3: could not connect.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/resource.h>

#include "connections.h"
#include "latency.h"
#include "options.h"

enum {
    EVENTS = 512,
    SPIN_NS = 200 * 1000, /* open loop: a message due sooner than this is waited for awake */
    DRAIN_MS = 5000,      /* how long after the end replies may still come */
};

/* ---- the measured time -------------------------------------------------------------------------------------------- */

static struct {
    int64_t begin_ns, end_ns; /* 0: not yet */
    double begin_cpu_s, cpu_s;
} window;

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

static void begin_measuring(int64_t now)
{
    window.begin_ns = now;
    window.begin_cpu_s = cpu_s();
    say("begin");
}

static void end_measuring(int64_t now)
{
    window.end_ns = now;
    window.cpu_s = cpu_s() - window.begin_cpu_s;
    say("end");
}

static bool is_measuring(void) { return window.begin_ns && !window.end_ns; }

/* Whether the bytes at `at` of the reply to the connection's oldest message are the right ones. */
static bool is_expected(const struct connection *c, const char *bytes, int count)
{
    if (c->answered == c->sent) return false; /* nobody asked */
    bool slow_one = c->way[c->answered % (uint32_t)option.in_flight].slow;
    write_header(expected, slow_one, nonce_of(c, c->answered), option.upper);
    return memcmp(bytes, expected + c->reply_at, (size_t)count) == 0;
}

/* One reply has come whole. */
static void on_reply(struct connection *c, int64_t now)
{
    struct under_way *way = &c->way[c->answered % (uint32_t)option.in_flight];
    c->answered++;
    tally.replies++;
    tally.under_way--;
    if (option.rate > 0 ? way->measured : is_measuring()) {
        tally.measured++;
        note(way->slow ? &slow : &quick, now - way->since_ns);
    }
}

/* Checks what came.  Returns how many whole replies that were; -1 when the connection is lost. */
static int check(struct connection *c, int count)
{
    int64_t now = now_ns();
    int replies = 0;
    for (int at = 0; at < count;) {
        int piece = option.size - c->reply_at;
        if (piece > count - at) piece = count - at;
        if (!is_expected(c, received + at, piece)) {
            tally.wrong++;
            lose(c);
            return -1;
        }
        c->reply_at += piece;
        at += piece;
        if (c->reply_at == option.size) {
            c->reply_at = 0;
            on_reply(c, now);
            replies++;
        }
    }
    return replies;
}

/* Reads once, or as often as there are records of TLS that were read ahead.  Returns as `check`. */
static int receive(struct connection *c)
{
    int replies = 0;
    do {
        ssize_t count = wire_receive(&c->wire, received, sizeof received);
        if (count < 0 && errno == EAGAIN) return replies;
        if (count <= 0) {
            lose(c);
            return -1;
        }
        int more = check(c, (int)count);
        if (more < 0) return -1;
        replies += more;
    } while (wire_has_more(&c->wire));
    return replies;
}

static struct epoll_event ready[EVENTS];

static int wait_for_events(int timeout_ms)
{
    int count = epoll_wait(epoll_fd, ready, EVENTS, timeout_ms);
    if (count < 0 && errno != EINTR) die(3, "epoll_wait");
    return count < 0 ? 0 : count;
}

/* After the end: replies to what is still under way may come for a while, so that a server sees a polite close. */
static void drain(void)
{
    int64_t until_ns = now_ns() + DRAIN_MS * INT64_C(1000000);
    while (tally.under_way > 0 && now_ns() < until_ns) {
        int count = wait_for_events(100);
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c->wire.fd >= 0 && (ready[i].events & EPOLLOUT)) flush(c, true);
            if (c->wire.fd >= 0 && (ready[i].events & ~(uint32_t)EPOLLOUT)) receive(c);
        }
    }
    tally.unanswered += tally.under_way;
}

/* ---- closed loop -------------------------------------------------------------------------------------------------- */

static void run_closed(void)
{
    int64_t begin_at = now_ns() + (int64_t)(option.warmup_s * 1e9);
    int64_t end_at = begin_at + (int64_t)(option.duration_s * 1e9);
    if (option.messages) begin_measuring(now_ns()); /* every message counts */
    for (int i = 0; i < option.connections; i++) refill(&connection[i]);
    while (tally.lost < option.connections) {
        int count = wait_for_events(STALL_MS);
        int64_t now = now_ns();
        if (!window.begin_ns && now >= begin_at) begin_measuring(now);
        if (count == 0 || (option.messages ? tally.replies >= option.messages : now >= end_at)) break;
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c->wire.fd >= 0 && (ready[i].events & EPOLLOUT)) flush(c, true);
            if (c->wire.fd >= 0 && (ready[i].events & ~(uint32_t)EPOLLOUT) && receive(c) > 0) refill(c);
        }
        if (option.messages && tally.replies >= option.messages) break;
    }
    if (window.begin_ns) end_measuring(now_ns());
}

/* ---- open loop ---------------------------------------------------------------------------------------------------- */

static struct {
    struct connection **ring; /* connections with nothing under way, longest first */
    int first, count;
} idle;

static void lay_idle(struct connection *c)
{
    idle.ring[(idle.first + idle.count++) % option.connections] = c;
}

static struct connection *take_idle(void)
{
    while (idle.count > 0) {
        struct connection *c = idle.ring[idle.first];
        idle.first = (idle.first + 1) % option.connections;
        idle.count--;
        if (c->wire.fd >= 0) return c;
    }
    return NULL;
}

/* Which messages are slow: the share asked for, scattered, the same in every run (splitmix64). */
static bool is_slow(uint64_t number)
{
    uint64_t z = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0 < option.slow_share; /* 2^53 */
}

static void run_open(void)
{
    double gap_ns = 1e9 / option.rate;
    int64_t start_ns = now_ns();
    long warming = (long)(option.warmup_s * option.rate), last = warming + (long)(option.duration_s * option.rate);
    idle.ring = calloc((size_t)option.connections, sizeof(struct connection *));
    if (!idle.ring) die(3, "memory");
    for (int i = 0; i < option.connections; i++) lay_idle(&connection[i]);

    long next = 0; /* the first message that was not sent yet; it may be overdue, when all connections are busy */
    int64_t answered_ns = start_ns;
    while (next < last && tally.lost < option.connections) {
        int64_t now = now_ns(), due_ns = start_ns + (int64_t)((double)next * gap_ns);
        if (now - answered_ns > STALL_MS * INT64_C(1000000)) break;
        struct connection *c;
        while (next < last && due_ns <= now && (c = take_idle()) != NULL) {
            if (next == warming) begin_measuring(now);
            put(c, is_slow((uint64_t)next), due_ns, next >= warming);
            flush(c, false);
            due_ns = start_ns + (int64_t)((double)++next * gap_ns);
        }
        int64_t early_ns = due_ns - now;
        /* Overdue here means that every connection is busy: only a reply helps. */
        int timeout_ms = early_ns <= 0 ? 100 : early_ns < SPIN_NS ? 0 : (int)((early_ns - SPIN_NS / 2) / 1000000);
        int count = wait_for_events(timeout_ms);
        for (int i = 0; i < count; i++) {
            c = ready[i].data.ptr;
            if (c->wire.fd >= 0 && (ready[i].events & EPOLLOUT)) flush(c, true);
            if (c->wire.fd >= 0 && (ready[i].events & ~(uint32_t)EPOLLOUT) && receive(c) > 0) {
                lay_idle(c);
                answered_ns = now;
            }
        }
    }
    tally.unanswered += last - next;
    if (window.begin_ns) end_measuring(now_ns());
}

/* ---- hold --------------------------------------------------------------------------------------------------------- */

static void exchange_one(const struct connection *c)
{
    write_header(message, false, nonce_of(c, 0), false);
    write_header(expected, false, nonce_of(c, 0), option.upper);
    if (wire_send(&c->wire, message, option.size) != option.size) {
        tally.lost++;
        return;
    }
    for (int at = 0; at < option.size;) {
        ssize_t count = wire_receive(&c->wire, received + at, option.size - at);
        if (count <= 0) {
            tally.lost++;
            return;
        }
        at += (int)count;
    }
    tally.replies++;
    if (memcmp(received, expected, (size_t)option.size) != 0) tally.wrong++;
}

static void run_hold(void)
{
    for (int i = 0; i < option.connections; i++) {
        connection[i].wire = wire_made();
        if (!option.silent) exchange_one(&connection[i]);
    }
    say("begin");
    while (read(STDIN_FILENO, received, sizeof received) > 0) {}
    say("end");
}

/* ------------------------------------------------------------------------------------------------------------------- */

int main(int count, char **words)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    read_options(count, words);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (option.tls != IS_TLS) die(2, IS_TLS ? "load_tls wants --tls" : "--tls is for load_tls");
    prepare_messages();
    prepare_wires();
    if (option.hold) {
        run_hold();
    } else {
        connect_all();
        if (option.rate > 0) run_open();
        else run_closed();
        drain();
    }
    const char *spoken = "nothing"; /* when all are lost */
    for (int i = 0; i < option.connections; i++) {
        if (connection[i].wire.fd < 0) continue;
        spoken = wire_text(&connection[i].wire);
        wire_end(&connection[i].wire);
    }
    double seconds = (double)(window.end_ns - window.begin_ns) / 1e9;
    printf("{\"messages\": %ld, \"seconds\": %.6f, \"replies\": %ld, \"lost\": %ld, \"wrong\": %ld, \"unanswered\": %ld, "
           "\"load_cpu_s\": %.6f, \"spoken\": \"%s\"",
           tally.measured, seconds, tally.replies, tally.lost, tally.wrong, tally.unanswered, window.cpu_s, spoken);
    print_latency("quick", &quick);
    print_latency("slow", &slow);
    puts("}");
    return 0;
}
