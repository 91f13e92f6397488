/* The load generator of overload.py: messages that are due at a rate, whatever the server does, from one thread.
 *
 *   overload --port P --connections N [--in-flight K] [--fresh] [--wait] [--patience S] [--size B] --phase RATE:SECONDS …
 *
 * Message i is *due* at a moment that the phases say, one after the other.  It goes out at once on a connection that has
 * room for it (fewer than K under way), or with --fresh on one of its own; if all N are busy it is not sent at all: a
 * queue in here would hide what the server does.  Whoever has no reply so long after it was due as the patience says has
 * given up, as a client with a time-out would: the connection is closed.  A connection that is lost is made anew when it
 * is needed.  Every reply is compared.
 *
 * Standard output: one record of 32 bytes for each message, in the order in which they were due (struct record).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 512,
    PHASES = 16,
    SMALLEST = 16,
    LARGEST = 64 * 1024,
    SOURCES = 100,        /* addresses to connect from, so that ports do not run out */
};

enum outcome { PENDING, ANSWERED, UNSENT, UNCONNECTED, REFUSED, GIVEN_UP, WRONG };

struct record {
    int64_t due_ns, sent_ns, done_ns; /* since the start; 0: not */
    int32_t outcome, connection;
};

struct connection {
    int fd; /* -1: none */
    bool connected;
    int first, count; /* of `way`: the messages under way, oldest first */
    int32_t *way;
    int reply_at, out_at, out_end;
    char *out;
};

static struct {
    int port, connections, size, in_flight, phases;
    bool fresh;
    bool waits; /* until a connection is free: a closed loop, if the rate is high enough */
    double patience_s;
    struct { double rate, seconds; } phase[PHASES];
} option = {.connections = 64, .size = 64, .in_flight = 1, .patience_s = 1};

static struct record *record;
static int messages, next_one, oldest; /* how many; the first not sent; the first that may be pending */
static struct connection *connection;
static struct { int *at; int first, count, room; } places; /* connections with room, longest first; once for each place */
static int epoll_fd;
static int64_t start_ns;
static char *message, *expected;
static char received[LARGEST];

static void die(const char *what)
{
    fprintf(stderr, "overload: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec - start_ns;
}

static void read_options(int count, char **words)
{
    static const struct option table[] = {
        {"port", required_argument, 0, 'p'},  {"connections", required_argument, 0, 'c'},
        {"size", required_argument, 0, 's'},  {"in-flight", required_argument, 0, 'k'},
        {"fresh", no_argument, 0, 'f'},       {"patience", required_argument, 0, 'P'},
        {"phase", required_argument, 0, 'r'}, {"wait", no_argument, 0, 'w'},
        {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(count, words, "", table, NULL)) != -1) {
        switch (letter) {
        case 'p': option.port = atoi(optarg); break;
        case 'c': option.connections = atoi(optarg); break;
        case 's': option.size = atoi(optarg); break;
        case 'k': option.in_flight = atoi(optarg); break;
        case 'f': option.fresh = true; break;
        case 'w': option.waits = true; break;
        case 'P': option.patience_s = atof(optarg); break;
        case 'r':
            if (option.phases == PHASES) die("too many phases");
            if (sscanf(optarg, "%lf:%lf", &option.phase[option.phases].rate, &option.phase[option.phases].seconds) != 2)
                die("--phase wants RATE:SECONDS");
            option.phases++;
            break;
        default: exit(2);
        }
    }
    errno = 0;
    if (option.port < 1 || option.port > 65535) die("--port wants a port");
    if (option.connections < 1 || option.in_flight < 1 || option.phases < 1) die("wants connections and a phase");
    if (option.size < SMALLEST || option.size > LARGEST) die("--size wants 16 to 65536");
    if (option.fresh && option.in_flight != 1) die("--fresh goes with one message on each connection");
}

static void plan(void)
{
    double total = 0, at_s = 0;
    for (int i = 0; i < option.phases; i++) total += option.phase[i].rate * option.phase[i].seconds;
    record = calloc((size_t)total + PHASES, sizeof *record);
    if (!record) die("memory");
    for (int i = 0; i < option.phases; i++) {
        long many = (long)(option.phase[i].rate * option.phase[i].seconds);
        for (long k = 0; k < many; k++)
            record[messages++].due_ns = (int64_t)((at_s + (double)k / option.phase[i].rate) * 1e9);
        at_s += option.phase[i].seconds;
    }
}

static void give_place(int at)
{
    places.at[(places.first + places.count++) % places.room] = at;
}

static int take_place(void)
{
    if (places.count == 0) return -1;
    int at = places.at[places.first];
    places.first = (places.first + 1) % places.room;
    places.count--;
    return at;
}

static void watch(struct connection *c, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, how, c->fd, &event) < 0) die("epoll_ctl");
}

static void settle(int number, enum outcome outcome, int64_t now)
{
    record[number].outcome = (int32_t)outcome;
    record[number].done_ns = now;
}

/* It is over; whatever is under way on it comes to this end. */
static void end(struct connection *c, enum outcome outcome, int64_t now)
{
    if (!c->connected && outcome == GIVEN_UP) outcome = UNCONNECTED;
    for (; c->count > 0; c->count--, c->first = (c->first + 1) % option.in_flight) {
        settle(c->way[c->first], outcome, now);
        give_place((int)(c - connection));
    }
    if (c->fd >= 0) close(c->fd); /* takes it out of the epoll set, too */
    c->fd = -1;
    c->connected = false;
    c->reply_at = c->out_at = c->out_end = 0;
}

static bool begin(struct connection *c)
{
    static uint32_t source;
    int one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCES);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind");
    c->connected = connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0;
    if (!c->connected && errno != EINPROGRESS) return false;
    watch(c, EPOLL_CTL_ADD, EPOLLIN | (c->connected ? 0 : EPOLLOUT));
    return true;
}

static void write_number(char *to, int number)
{
    for (int place = 7; place >= 0; place--, number >>= 4) to[place] = "0123456789abcdef"[number & 15];
}

static void flush(struct connection *c, bool was_waiting, int64_t now)
{
    ssize_t went = send(c->fd, c->out + c->out_at, (size_t)(c->out_end - c->out_at), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (went < 0 && errno != EAGAIN) {
        end(c, REFUSED, now);
        return;
    }
    c->out_at += went > 0 ? (int)went : 0;
    bool is_waiting = c->out_at < c->out_end;
    if (is_waiting != was_waiting) watch(c, EPOLL_CTL_MOD, EPOLLIN | (is_waiting ? EPOLLOUT : 0));
    if (!is_waiting) c->out_at = c->out_end = 0;
}

static void put(struct connection *c, int number, int64_t now)
{
    int room = option.size * option.in_flight;
    record[number].sent_ns = now;
    record[number].connection = (int32_t)(c - connection);
    c->way[(c->first + c->count++) % option.in_flight] = number;
    if (c->fd < 0 && !begin(c)) {
        end(c, REFUSED, now);
        return;
    }
    if (c->out_end + option.size > room) {
        memmove(c->out, c->out + c->out_at, (size_t)(c->out_end - c->out_at));
        c->out_end -= c->out_at;
        c->out_at = 0;
    }
    write_number(message, number);
    bool was_waiting = c->out_end > 0;
    memcpy(c->out + c->out_end, message, (size_t)option.size);
    c->out_end += option.size;
    if (c->connected && !was_waiting) flush(c, false, now);
}

static void take_reply(struct connection *c, int64_t now)
{
    settle(c->way[c->first], ANSWERED, now);
    c->first = (c->first + 1) % option.in_flight;
    c->count--;
    c->reply_at = 0;
    give_place((int)(c - connection));
}

static void receive(struct connection *c, int64_t now)
{
    ssize_t count = recv(c->fd, received, sizeof received, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        end(c, REFUSED, now);
        return;
    }
    for (int at = 0; at < count;) {
        if (c->count == 0) {
            end(c, WRONG, now);
            return;
        }
        int piece = option.size - c->reply_at;
        if (piece > (int)count - at) piece = (int)count - at;
        write_number(expected, c->way[c->first]);
        if (memcmp(received + at, expected + c->reply_at, (size_t)piece) != 0) {
            end(c, WRONG, now);
            return;
        }
        c->reply_at += piece;
        at += piece;
        if (c->reply_at == option.size) take_reply(c, now);
    }
    if (option.fresh && c->count == 0) end(c, ANSWERED, now);
}

static void on_event(struct connection *c, uint32_t events, int64_t now)
{
    if (c->fd >= 0 && (events & EPOLLOUT)) {
        if (!c->connected) {
            int error = 0;
            socklen_t length = sizeof error;
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
            if (error) {
                end(c, REFUSED, now);
                return;
            }
            c->connected = true;
        }
        flush(c, true, now);
    }
    if (c->fd >= 0 && (events & ~(uint32_t)EPOLLOUT)) receive(c, now);
}

/* Whoever has waited for too long gives up. */
static void expire(int64_t now)
{
    int64_t patience_ns = (int64_t)(option.patience_s * 1e9);
    while (oldest < messages && record[oldest].due_ns + patience_ns <= now) {
        if (oldest == next_one) break;
        if (record[oldest].outcome == PENDING) end(&connection[record[oldest].connection], GIVEN_UP, now);
        oldest++;
    }
    while (oldest < next_one && record[oldest].outcome != PENDING) oldest++;
}

static void run(void)
{
    struct epoll_event ready[EVENTS];
    while (oldest < messages) {
        int64_t now = now_ns();
        int at;
        while (next_one < messages && record[next_one].due_ns <= now) {
            if ((at = take_place()) >= 0) put(&connection[at], next_one++, now);
            else if (option.waits && now < record[next_one].due_ns + (int64_t)(option.patience_s * 1e9)) break;
            else settle(next_one++, UNSENT, now);
            now = now_ns();
        }
        expire(now);
        int64_t early_ns = next_one < messages ? record[next_one].due_ns - now : 10000000;
        /* Up to a millisecond late, rather than awake all the time: the server may need the core. */
        int timeout_ms = early_ns < 1000000 ? 1 : (int)(early_ns / 1000000);
        int count = epoll_wait(epoll_fd, ready, EVENTS, timeout_ms);
        now = now_ns();
        for (int i = 0; i < count; i++) on_event(ready[i].data.ptr, ready[i].events, now);
    }
}

int main(int count, char **words)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    read_options(count, words);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    plan();
    message = malloc((size_t)option.size);
    expected = malloc((size_t)option.size);
    connection = calloc((size_t)option.connections, sizeof *connection);
    places.room = option.connections * option.in_flight;
    places.at = calloc((size_t)places.room, sizeof *places.at);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!message || !expected || !connection || !places.at || epoll_fd < 0) die("memory");
    memset(message, 'x', (size_t)option.size);
    message[option.size - 1] = '\n';
    memcpy(expected, message, (size_t)option.size);
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connection[i];
        c->fd = -1;
        c->way = calloc((size_t)option.in_flight, sizeof *c->way);
        c->out = malloc((size_t)option.size * (size_t)option.in_flight);
        if (!c->way || !c->out) die("memory");
    }
    for (int k = 0; k < option.in_flight; k++)
        for (int i = 0; i < option.connections; i++) give_place(i);
    start_ns = 0;
    start_ns = now_ns();
    if (!option.fresh)
        for (int i = 0; i < option.connections; i++)
            if (!begin(&connection[i])) die("connect");
    run();
    if (fwrite(record, sizeof *record, (size_t)messages, stdout) != (size_t)messages) die("output");
    return 0;
}
