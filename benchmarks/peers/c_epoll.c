/* The yardstick: an echo server in C, one thread, one epoll.  What the kernel alone lets a server do.
 *
 * Edge-triggered; one recv and one send per message.  It keeps the rules that make it a server: what the kernel does not
 * take at once is kept and sent later, and a connection with unsent bytes is not read.  It has no limits and no time-outs.
 *
 * Compiled with -DTLS it is c_epoll_tls CERTIFICATE KEY: the same inside TLS, by OpenSSL as those set it up who know it, with
 * records read ahead (one recv for each, not two) and without buffers where nothing is under way.  It is level-triggered then,
 * because OpenSSL may leave bytes in the socket and does not say so.
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

#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#else
typedef void SSL;
#endif

struct connection {
    int fd;
    SSL *tls;
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

/* ---- bytes to and from a client: as recv(2) and send(2) say it ---------------------------------------------------- */

#ifdef TLS

static SSL_CTX *context;

enum { WATCHED = EPOLLIN | EPOLLRDHUP };

/* What wakes a connection up from now on. */
static void watch(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

static void prepare_tls(char **files)
{
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (!context || !files[0] || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)
        || SSL_CTX_use_certificate_chain_file(context, files[0]) != 1
        || SSL_CTX_use_PrivateKey_file(context, files[1], SSL_FILETYPE_PEM) != 1) {
        fputs("c_epoll_tls wants a certificate and its key\n", stderr);
        ERR_print_errors_fp(stderr);
        exit(2);
    }
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* The first SSL_read does the handshake. */
static SSL *tls_of(int fd)
{
    SSL *tls = SSL_new(context);
    if (!tls || !SSL_set_fd(tls, fd)) die("memory");
    SSL_set_accept_state(tls);
    return tls;
}

static ssize_t as_the_kernel_says(SSL *tls, int count)
{
    if (count > 0) return count;
    int why = SSL_get_error(tls, count);
    ERR_clear_error();
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t receive(struct connection *c) { return as_the_kernel_says(c->tls, SSL_read(c->tls, received, RECEIVE)); }

static ssize_t transmit(struct connection *c, const char *bytes, size_t count)
{
    return as_the_kernel_says(c->tls, SSL_write(c->tls, bytes, (int)count));
}

static bool has_more(const struct connection *c) { return SSL_has_pending(c->tls); }
static void free_tls(SSL *tls) { SSL_free(tls); }

#else

enum { WATCHED = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

static void watch(struct connection *c, uint32_t events) { (void)c, (void)events; } /* edges of both kinds, always */
static void prepare_tls(char **files) { (void)files; }
static SSL *tls_of(int fd) { return (void)fd, NULL; }
static ssize_t receive(struct connection *c) { return recv(c->fd, received, RECEIVE, 0); }

static ssize_t transmit(struct connection *c, const char *bytes, size_t count)
{
    return send(c->fd, bytes, count, MSG_NOSIGNAL);
}

static bool has_more(const struct connection *c) { return (void)c, false; }
static void free_tls(SSL *tls) { (void)tls; }

#endif

/* ------------------------------------------------------------------------------------------------------------------- */

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
        c->tls = tls_of(fd);
        struct epoll_event event = {.events = WATCHED, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static void drop(struct connection *c)
{
    free_tls(c->tls);
    close(c->fd);
    free(c->unsent);
    free(c);
}

/* Sends what was kept.  False: the peer is gone. */
static bool flush(struct connection *c)
{
    while (c->unsent_at < c->unsent_end) {
        ssize_t went = transmit(c, c->unsent + c->unsent_at, c->unsent_end - c->unsent_at);
        if (went < 0) return errno == EAGAIN;
        c->unsent_at += (size_t)went;
    }
    free(c->unsent);
    c->unsent = NULL;
    watch(c, WATCHED);
    return true;
}

static bool keep(struct connection *c, const char *bytes, size_t count)
{
    c->unsent = malloc(count);
    if (!c->unsent) return false;
    memcpy(c->unsent, bytes, count);
    c->unsent_at = 0;
    c->unsent_end = count;
    watch(c, EPOLLOUT);
    return true;
}

/* Reads and answers until nothing is left or nothing more fits.  False: the connection is over. */
static bool serve(struct connection *c, bool ends)
{
    if (c->unsent && !flush(c)) return false;
    while (!c->unsent) {
        ssize_t count = receive(c);
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        ssize_t went = transmit(c, received, (size_t)count);
        if (went < 0 && errno != EAGAIN) return false;
        if (went < 0) went = 0;
        if (went < count && !keep(c, received + went, (size_t)(count - went))) return false;
        /* A short read has emptied the socket; what comes later is a new event.  An end may share that of its data. */
        if (count < RECEIVE && !ends && !has_more(c)) return true;
    }
    return true;
}

int main(int count_of_words, char **words)
{
    (void)count_of_words;
    prepare_tls(words + 1);
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
