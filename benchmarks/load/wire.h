/* Bytes to and from the server: TCP as it is, or, compiled with -DTLS, through OpenSSL (the program load_tls).
 *
 * Errors are send(2)'s and recv(2)'s: -1, with EAGAIN where the socket would have to be waited for; 0 is the end.
 * A wire is made blocking, its handshake done; `wire_do_not_block` is for who waits with epoll.
 */
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "options.h"

enum {
    STALL_MS = 20000, /* nothing at all for this long: give up */
};

static int connect_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die(3, "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {.tv_sec = STALL_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit); /* for handshakes, and --hold, which waits for replies */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die(3, "connect");
    return fd;
}

#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

/* One of the three that every TLS 1.3 server has; with only this offered, all servers compute the same. */
#define SUITE "TLS_AES_128_GCM_SHA256"

struct wire {
    int fd; /* -1: lost */
    SSL *tls;
};

static SSL_CTX *context;

static void die_of_tls(const char *what)
{
    ERR_print_errors_fp(stderr);
    errno = 0;
    die(3, what);
}

static void prepare_wires(void)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, SUITE))
        die_of_tls("TLS 1.3 with " SUITE);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* every handshake is a whole one */
    /* A record in one system call instead of two, its header and the rest. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (option.hold) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); /* thousands of them, and all quiet */
}

static struct wire wire_made(void)
{
    struct wire w = {.fd = connect_tcp(), .tls = SSL_new(context)};
    if (!w.tls || !SSL_set_fd(w.tls, w.fd) || !SSL_set_tlsext_host_name(w.tls, "localhost")) die_of_tls("TLS");
    if (SSL_connect(w.tls) != 1) die_of_tls("handshake");
    return w;
}

static void wire_do_not_block(const struct wire *w) { fcntl(w->fd, F_SETFL, fcntl(w->fd, F_GETFL) | O_NONBLOCK); }

/* What SSL_read and SSL_write have returned, as recv(2) and send(2) would. */
static ssize_t as_the_kernel_says(const struct wire *w, int count)
{
    if (count > 0) return count;
    int why = SSL_get_error(w->tls, count);
    ERR_clear_error(); /* whatever is left there would be blamed on the next connection */
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t wire_send(const struct wire *w, const char *bytes, int count)
{
    return as_the_kernel_says(w, SSL_write(w->tls, bytes, count));
}

static ssize_t wire_receive(const struct wire *w, char *to, int room)
{
    return as_the_kernel_says(w, SSL_read(w->tls, to, room));
}

/* Whether bytes have been read ahead, of which epoll knows nothing. */
static bool wire_has_more(const struct wire *w) { return SSL_has_pending(w->tls); }

static void wire_close(struct wire *w)
{
    SSL_free(w->tls);
    close(w->fd);
    w->fd = -1;
}

/* Says close_notify, so that no server takes our end for an attack. */
static void wire_end(const struct wire *w)
{
    SSL_shutdown(w->tls);
    ERR_clear_error();
}

static const char *wire_text(const struct wire *w)
{
    static char text[80];
    snprintf(text, sizeof text, "%s %s", SSL_get_version(w->tls), SSL_get_cipher(w->tls));
    return text;
}

enum { IS_TLS = true };

#else

struct wire {
    int fd; /* -1: lost */
};

static void prepare_wires(void) {}
static struct wire wire_made(void) { return (struct wire){connect_tcp()}; }
static void wire_do_not_block(const struct wire *w) { fcntl(w->fd, F_SETFL, fcntl(w->fd, F_GETFL) | O_NONBLOCK); }

static ssize_t wire_send(const struct wire *w, const char *bytes, int count)
{
    return send(w->fd, bytes, (size_t)count, MSG_NOSIGNAL);
}

static ssize_t wire_receive(const struct wire *w, char *to, int room) { return recv(w->fd, to, (size_t)room, 0); }
static bool wire_has_more(const struct wire *w) { return (void)w, false; }

static void wire_close(struct wire *w)
{
    close(w->fd);
    w->fd = -1;
}

static void wire_end(const struct wire *w) { (void)w; }
static const char *wire_text(const struct wire *w) { return (void)w, "plain"; }

enum { IS_TLS = false };

#endif
