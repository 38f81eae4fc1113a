/*
 * Requests at a rate of their own, whatever the server does (open loop), by clients with little
 * patience; or, without a rate, one after the other on each connection.  Prints one line of JSON.
 *
 *   flood -p PORT -k KEY -u PATH [-b BODY] -s SECONDS [-r RATE] [-c CONNECTIONS] [-w PATIENCE]
 *
 * ok: answered 2xx in time; refused: 429 or 503 with Retry-After; late: given up after PATIENCE
 * seconds, and the connection closed; unsent: no connection was free; failed: everything else.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"

struct client {
        int fd;
        bool open, busy;
        double began;
        size_t sent;
        struct text in;
        struct client *idle; /* the next one */
};

static struct {
        int port, poll;
        const char *key, *path, *body;
        double seconds, rate, patience;
        size_t connections;
        struct client *clients, *idle;
        struct text request;
        float *times;
        size_t n_times, busy;
        long sent, ok, refused, late, unsent, failed;
} all = { .patience = 60, .connections = 64 };

static void rest(struct client *c)
{
        c->busy = false;
        c->idle = all.idle;
        all.idle = c;
        all.busy--;
}

static void hang_up(struct client *c)
{
        close(c->fd);
        c->open = false;
        c->in.n = 0;
        if (c->busy)
                rest(c);
}

static void send_more(struct client *c)
{
        while (c->busy && c->sent < all.request.n) {
                ssize_t n = send(c->fd, all.request.p + c->sent, all.request.n - c->sent,
                                 MSG_NOSIGNAL);

                if (n < 0 && errno != EAGAIN) {
                        all.failed++;
                        hang_up(c);
                }
                if (n < 0)
                        return;
                c->sent += (size_t)n;
        }
}

static void start(double at)
{
        struct client *c = all.idle;

        all.sent++;
        if (!c) {
                all.unsent++;
                return;
        }
        all.idle = c->idle;
        all.busy++;
        c->busy = true;
        c->began = at;
        c->sent = 0;
        if (!c->open) {
                struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };

                c->fd = connect_to(all.port, 0);
                c->open = true;
                if (epoll_ctl(all.poll, EPOLL_CTL_ADD, c->fd, &event))
                        die("epoll: %s", strerror(errno));
                return; /* sends when it is connected */
        }
        send_more(c);
}

static void answered(struct client *c, int status, const char *head)
{
        if (status >= 200 && status < 300) {
                all.times[all.n_times++] = (float)(now() - c->began);
                all.ok++;
        } else if ((status == 429 || status == 503) && strstr(head, "Retry-After: ")) {
                all.refused++;
        } else {
                if (!all.failed++)
                        fprintf(stderr, "%.600s\n", head);
        }
        rest(c);
        if (strstr(head, "Connection: close"))
                hang_up(c);
}

static void receive(struct client *c)
{
        char bytes[16384];
        ssize_t n;

        while (c->open && (n = recv(c->fd, bytes, sizeof(bytes), 0)) > 0) {
                char *body, *length;

                text_add(&c->in, bytes, (size_t)n);
                body = memmem(c->in.p, c->in.n, "\r\n\r\n", 4);
                if (!body)
                        continue;
                length = strstr(c->in.p, "Content-Length: ");
                if (c->in.n < (size_t)(body + 4 - c->in.p) + (length ? strtoul(length + 16, NULL, 10) : 0))
                        continue;
                c->in.n = 0;
                answered(c, atoi(c->in.p + 9), c->in.p);
        }
        if (c->open && (n == 0 || errno != EAGAIN)) {
                all.failed += c->busy;
                hang_up(c);
        }
}

static void give_up(double at)
{
        for (size_t i = 0; i < all.connections; i++) {
                struct client *c = &all.clients[i];

                if (c->busy && at - c->began > all.patience) {
                        all.late++;
                        hang_up(c);
                }
        }
}

static void turn(void)
{
        struct epoll_event events[256];
        int n = epoll_wait(all.poll, events, 256, 1);

        for (int i = 0; i < n; i++) {
                struct client *c = events[i].data.ptr;

                if (c->open && (events[i].events & EPOLLOUT))
                        send_more(c);
                if (c->open && (events[i].events & ~(uint32_t)EPOLLOUT))
                        receive(c);
        }
}

static void run(void)
{
        double began = now(), looked = began, at;
        long due = 0;

        while ((at = now()) - began < all.seconds || all.busy) {
                if (at - began < all.seconds && all.rate > 0)
                        for (; (double)due < (at - began) * all.rate; due++)
                                start(began + (double)due / all.rate);
                while (at - began < all.seconds && all.rate <= 0 && all.idle)
                        start(at);
                turn();
                if (at - looked > 0.02) {
                        looked = at;
                        give_up(at);
                }
        }
}

static void build(void)
{
        char head[1024];
        size_t length = all.body ? strlen(all.body) : 0;
        int n = snprintf(head, sizeof(head),
                         "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                         all.body ? "POST" : "GET", all.path, all.key, length);

        text_add(&all.request, head, (size_t)n);
        if (all.body)
                text_add(&all.request, all.body, length);
        all.clients = calloc(all.connections, sizeof(*all.clients));
        all.times = calloc((size_t)(all.seconds * (all.rate > 0 ? all.rate + 1 : 100000)) + 1024,
                           sizeof(*all.times));
        if (!all.clients || !all.times)
                die("out of memory");
        for (size_t i = 0; i < all.connections; i++) {
                all.clients[i].idle = all.idle;
                all.idle = &all.clients[i];
        }
}

int main(int argc, char **argv)
{
        int c;

        while ((c = getopt(argc, argv, "p:k:u:b:s:r:c:w:")) != -1) {
                switch (c) {
                case 'p': all.port = atoi(optarg); break;
                case 'k': all.key = optarg; break;
                case 'u': all.path = optarg; break;
                case 'b': all.body = optarg; break;
                case 's': all.seconds = atof(optarg); break;
                case 'r': all.rate = atof(optarg); break;
                case 'c': all.connections = strtoul(optarg, NULL, 10); break;
                case 'w': all.patience = atof(optarg); break;
                default: exit(2);
                }
        }
        if (!all.port || !all.key || !all.path || all.seconds <= 0)
                die("usage: flood -p PORT -k KEY -u PATH [-b BODY] -s SECONDS …; see the source");
        all.poll = epoll_create1(EPOLL_CLOEXEC);
        build();
        run();
        printf("{\"sent\":%ld,\"ok\":%ld,\"refused\":%ld,\"late\":%ld,\"unsent\":%ld,\"failed\":%ld,"
               "\"ok_per_s\":%.1f,\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n",
               all.sent, all.ok, all.refused, all.late, all.unsent, all.failed,
               (double)all.ok / all.seconds, 1000 * quantile(all.times, all.n_times, 0.5),
               1000 * quantile(all.times, all.n_times, 0.99));
        return 0;
}
