/* The yardstick: an echo server in C, one thread, one epoll.  What the kernel alone lets a server do.
 *
 * Edge-triggered; one recv and one send per message.  It keeps the rules that make it a server: what the kernel does not
 * take at once is kept and sent later, and a connection with unsent bytes is not read.  It has no limits and no time-outs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, RECEIVE = 64 * 1024, BACKLOG = 2048, LIFE_S = 900 };

struct connection {
    int fd;
    char *unsent; /* NULL: nothing */
    size_t unsent_at, unsent_end;
};

static int epoll_fd;
static char received[RECEIVE];

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static int listen_on_a_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0) die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) die("getsockname");
    fprintf(stderr, "listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    return fd;
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c) die("memory");
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->unsent);
    free(c);
}

/* Sends what was kept.  False: the peer is gone. */
static bool flush(struct connection *c)
{
    while (c->unsent_at < c->unsent_end) {
        ssize_t went = send(c->fd, c->unsent + c->unsent_at, c->unsent_end - c->unsent_at, MSG_NOSIGNAL);
        if (went < 0) return errno == EAGAIN;
        c->unsent_at += (size_t)went;
    }
    free(c->unsent);
    c->unsent = NULL;
    return true;
}

static bool keep(struct connection *c, const char *bytes, size_t count)
{
    c->unsent = malloc(count);
    if (!c->unsent) return false;
    memcpy(c->unsent, bytes, count);
    c->unsent_at = 0;
    c->unsent_end = count;
    return true;
}

/* Reads and answers until nothing is left or nothing more fits.  False: the connection is over. */
static bool serve(struct connection *c, bool ends)
{
    if (c->unsent && !flush(c)) return false;
    while (!c->unsent) {
        ssize_t count = recv(c->fd, received, sizeof received, 0);
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        ssize_t went = send(c->fd, received, (size_t)count, MSG_NOSIGNAL);
        if (went < 0 && errno != EAGAIN) return false;
        if (went < 0) went = 0;
        if (went < count && !keep(c, received + went, (size_t)(count - went))) return false;
        /* A short read has emptied the socket; what comes later is a new edge.  An end may share the edge of its data. */
        if (count < RECEIVE && !ends) return true;
    }
    return true;
}

int main(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    alarm(LIFE_S); /* a benchmark's server never outlives its benchmark for long */
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on_a_free_port();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS];
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll_fd, ready, EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!c) accept_all(listener);
            else if (!serve(c, ready[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) drop(c);
        }
    }
}
