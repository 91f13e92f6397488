/* What the load generator was asked to do: its command line, checked. */
#pragma once
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 9,            /* kind and counter, at the start of every message */
    SMALLEST = HEADER + 1, /* room for the LF of a line */
    LARGEST = 256 * 1024,  /* and what is received at once */
};

static struct {
    int port;
    int connections;
    int size;
    int in_flight;
    bool line;
    bool upper; /* replies are the messages in capitals; otherwise they are the messages */
    double warmup_s;
    double duration_s;
    long messages; /* 0: by duration */
    double rate;   /* 0: closed loop */
    double slow_share;
    bool hold;
    bool silent;
    bool tls;
} option = {.connections = 64, .size = 64, .in_flight = 1, .warmup_s = 0.3, .duration_s = 2};

static void die(int code, const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(code);
}

static void read_options(int count, char **words)
{
    static const struct option table[] = {
        {"port", required_argument, 0, 'p'},     {"connections", required_argument, 0, 'c'},
        {"size", required_argument, 0, 's'},     {"in-flight", required_argument, 0, 'k'},
        {"line", no_argument, 0, 'l'},           {"upper", no_argument, 0, 'u'},
        {"warmup", required_argument, 0, 'w'},   {"duration", required_argument, 0, 'd'},
        {"messages", required_argument, 0, 'm'}, {"rate", required_argument, 0, 'r'},
        {"slow-share", required_argument, 0, 'S'}, {"hold", no_argument, 0, 'h'},
        {"silent", no_argument, 0, 'q'},         {"tls", no_argument, 0, 't'},
        {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(count, words, "", table, NULL)) != -1) {
        switch (letter) {
        case 'p': option.port = atoi(optarg); break;
        case 'c': option.connections = atoi(optarg); break;
        case 's': option.size = atoi(optarg); break;
        case 'k': option.in_flight = atoi(optarg); break;
        case 'l': option.line = true; break;
        case 'u': option.upper = true; break;
        case 'w': option.warmup_s = atof(optarg); break;
        case 'd': option.duration_s = atof(optarg); break;
        case 'm': option.messages = atol(optarg); break;
        case 'r': option.rate = atof(optarg); break;
        case 'S': option.slow_share = atof(optarg); break;
        case 'h': option.hold = true; break;
        case 'q': option.silent = true; break;
        case 't': option.tls = true; break;
        default: exit(2);
        }
    }
    errno = 0;
    if (option.port < 1 || option.port > 65535) die(2, "--port wants a port");
    if (option.connections < 1) die(2, "--connections wants at least 1");
    if (option.size < SMALLEST || option.size > LARGEST) die(2, "--size wants 10 to 262144");
    if (option.in_flight < 1) die(2, "--in-flight wants at least 1");
    if (option.rate > 0 && option.in_flight != 1) die(2, "--rate goes with one message in flight per connection");
    if (option.rate > 0 && option.messages > 0) die(2, "--messages is for the closed loop; --rate goes by --duration");
}
