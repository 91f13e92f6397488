/* The connections, the messages on them, and sending.  What comes back is load.c's. */
#pragma once
#include <sys/epoll.h>

#include "latency.h"
#include "options.h"
#include "wire.h"

struct under_way {
    int64_t since_ns; /* sent (closed loop) or due (open loop) */
    bool slow;
    bool measured; /* open loop: was due in the measured time */
};

struct connection {
    struct wire wire;
    uint32_t sent, answered; /* messages; the counter in the next one, and in the next reply */
    int reply_at;        /* bytes of the current reply that have come */
    int out_at, out_end; /* bytes of `out` that still have to go */
    char *out;           /* room for all messages in flight */
    struct under_way *way; /* ring of in_flight, by counter */
};

static struct connection *connection;
static int epoll_fd;
static char *message;  /* what is sent next: header rewritten each time */
static char *expected; /* what must come back */
static char received[LARGEST];

static struct {
    long replies, measured, lost, wrong, unanswered;
    long sent;
    long under_way;
} tally;

/* What the digits of a message say: different on every connection, so that a reply on the wrong one is seen. */
static uint32_t nonce_of(const struct connection *c, uint32_t counter)
{
    return (uint32_t)(c - connection) * 2654435761u + counter; /* Knuth's multiplicative hash */
}

static void write_header(char *to, bool is_slow, uint32_t nonce, bool upper)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    to[0] = upper ? (is_slow ? 'S' : 'Q') : (is_slow ? 's' : 'q');
    for (int place = 8; place > 0; place--, nonce >>= 4) to[place] = digits[nonce & 15];
}

static void fill(char *to, bool upper)
{
    for (int at = HEADER; at < option.size; at++) to[at] = (char)((upper ? 'A' : 'a') + at % 26);
    if (option.line) to[option.size - 1] = '\n';
}

static void prepare_messages(void)
{
    message = malloc((size_t)option.size);
    expected = malloc((size_t)option.size);
    connection = calloc((size_t)option.connections, sizeof *connection);
    if (!message || !expected || !connection) die(3, "memory");
    fill(message, false);
    fill(expected, option.upper);
}

static void connect_all(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connection[i];
        c->wire = wire_made();
        wire_do_not_block(&c->wire);
        c->out = malloc((size_t)option.size * (size_t)option.in_flight);
        c->way = calloc((size_t)option.in_flight, sizeof *c->way);
        if (!c->out || !c->way) die(3, "memory");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->wire.fd, &event) < 0) die(3, "epoll_ctl");
    }
}

static void lose(struct connection *c)
{
    tally.lost++;
    tally.under_way -= c->sent - c->answered;
    tally.unanswered += c->sent - c->answered;
    c->sent = c->answered;
    wire_close(&c->wire); /* takes it out of the epoll set too */
}

static void watch_for_room(struct connection *c, bool wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->wire.fd, &event);
}

/* Sends what is in `out`; what does not fit waits for room. */
static void flush(struct connection *c, bool was_waiting)
{
    ssize_t went = wire_send(&c->wire, c->out + c->out_at, c->out_end - c->out_at);
    if (went < 0) {
        if (errno != EAGAIN) {
            lose(c);
            return;
        }
        went = 0;
    }
    c->out_at += (int)went;
    bool is_waiting = c->out_at < c->out_end;
    if (is_waiting != was_waiting) watch_for_room(c, is_waiting);
    if (!is_waiting) c->out_at = c->out_end = 0;
}

static void put(struct connection *c, bool is_slow, int64_t since_ns, bool measured)
{
    c->way[c->sent % (uint32_t)option.in_flight] = (struct under_way){since_ns, is_slow, measured};
    write_header(message, is_slow, nonce_of(c, c->sent), false);
    memcpy(c->out + c->out_end, message, (size_t)option.size);
    c->out_end += option.size;
    c->sent++;
    tally.sent++;
    tally.under_way++;
}

/* Closed loop: as many new messages as may be under way, in one piece. */
static void refill(struct connection *c)
{
    bool was_waiting = c->out_end > 0;
    if (was_waiting && c->out_at > 0) { /* make room at the end */
        memmove(c->out, c->out + c->out_at, (size_t)(c->out_end - c->out_at));
        c->out_end -= c->out_at;
        c->out_at = 0;
    }
    int64_t since_ns = now_ns();
    while (c->sent - c->answered < (uint32_t)option.in_flight && (!option.messages || tally.sent < option.messages))
        put(c, false, since_ns, true);
    if (c->out_end > 0 && !was_waiting) flush(c, false);
}
