#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

void die(const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        vfprintf(stderr, fmt, args);
        fputc('\n', stderr);
        va_end(args);
        exit(1);
}

static double read_clock(clockid_t id)
{
        struct timespec t;

        clock_gettime(id, &t);
        return (double)(id == CLOCK_REALTIME ? t.tv_sec % 86400 : t.tv_sec) +
               (double)t.tv_nsec / 1e9;
}

double now(void)
{
        return read_clock(CLOCK_MONOTONIC);
}

double second_of_day(void)
{
        return read_clock(CLOCK_REALTIME);
}

uint64_t chance(void)
{
        static uint64_t x = 88172645463325252;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        return x;
}

int connect_to(int port, int small)
{
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0)
                die("socket: %s", strerror(errno));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        if (small)
                setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &yes, sizeof(yes));
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
                die("connect: %s", strerror(errno));
        return fd;
}

void text_add(struct text *t, const char *p, size_t n)
{
        if (t->n + n >= t->size) {
                t->size = 2 * (t->n + n) + 64;
                t->p = realloc(t->p, t->size);
                if (!t->p)
                        die("out of memory");
        }
        memcpy(t->p + t->n, p, n);
        t->n += n;
        t->p[t->n] = '\0';
}

static int by_value(const void *a, const void *b)
{
        float x = *(const float *)a, y = *(const float *)b;

        return (x > y) - (x < y);
}

double quantile(float *values, size_t n, double q)
{
        qsort(values, n, sizeof(*values), by_value);
        return n ? (double)values[(size_t)((double)(n - 1) * q)] : 0;
}
