#include "http/proxy.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/host_pattern.h"
#include "http/head.h"

enum {
        PIECE = 32768,
        HEAD_MS = 10 * 1000,
        CONNECT_MS = 15 * 1000,
        IDLE_MS = 300 * 1000,
        FULL_MS = 50, /* between two looks for a place */
        NAME_KEPT = 300,
};

struct proxy {
        const struct world *world;
        const struct egress *egress;
        struct arena texts;
        struct str patterns[PROXY_PATTERNS];
        size_t n_patterns;
        int listener;
        int stop; /* eventfd: readable for ever once it is over */
        _Atomic int users, connections;
        pthread_mutex_t lock; /* of what follows */
        struct buf refused;
        int n_refused;
};

/* ---- life ---- */

struct proxy *proxy_new(const struct world *world, const struct egress *egress)
{
        struct proxy *p = xcalloc(1, sizeof(*p));

        p->world = world;
        p->egress = egress;
        p->listener = -1;
        p->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        p->users = 1;
        p->refused = BUF_INIT(PROXY_REFUSED_KEPT * NAME_KEPT);
        pthread_mutex_init(&p->lock, NULL);
        BUG_ON(p->stop < 0);
        return p;
}

void proxy_allow(struct proxy *p, struct str pattern)
{
        if (p->n_patterns < PROXY_PATTERNS)
                p->patterns[p->n_patterns++] = str_dup(&p->texts, pattern);
}

/* A thread in the middle of resolving a name cannot be hurried: the last one out frees. */
static void leave(struct proxy *p)
{
        if (atomic_fetch_sub(&p->users, 1) > 1)
                return;
        if (p->listener >= 0)
                close(p->listener);
        close(p->stop);
        buf_done(&p->refused);
        arena_done(&p->texts);
        pthread_mutex_destroy(&p->lock);
        free(p);
}

static bool start_thread(struct proxy *p, void *(*body)(void *), void *arg)
{
        pthread_attr_t detached;
        pthread_t thread;
        bool started;

        p->users++;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        started = pthread_create(&thread, &detached, body, arg) == 0;
        pthread_attr_destroy(&detached);
        if (!started)
                p->users--;
        return started;
}

/* True when one of the two is ready, false when the time is up or all is over. */
static bool wait_for(const struct proxy *p, struct pollfd fds[3], int ms)
{
        int n;

        fds[2] = (struct pollfd){ .fd = p->stop, .events = POLLIN };
        do
                n = poll(fds, 3, ms);
        while (n < 0 && errno == EINTR);
        return n > 0 && !fds[2].revents;
}

static bool is_over(const struct proxy *p)
{
        struct pollfd stop = { .fd = p->stop, .events = POLLIN };

        return poll(&stop, 1, 0) > 0;
}

static bool wait_one(const struct proxy *p, int fd, short events, int ms)
{
        struct pollfd fds[3] = { { .fd = fd, .events = events }, { .fd = -1 } };

        return wait_for(p, fds, ms);
}

static bool send_all(const struct proxy *p, int fd, struct str bytes)
{
        while (bytes.n) {
                ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n > 0)
                        bytes = str_slice(bytes, (size_t)n, bytes.n);
                else if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return false;
                else if (!wait_one(p, fd, POLLOUT, IDLE_MS))
                        return false;
        }
        return true;
}

/* ---- one connection ---- */

struct connection {
        struct proxy *proxy;
        struct scope scope;
        int client, server;
        struct buf in; /* the head, and what was read behind it */
        size_t head;   /* its bytes, with the empty line */
};

static void answer(struct connection *c, const char *status, struct str why)
{
        struct str text = arena_printf(&c->scope.arena,
                                       "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                                       "Content-Length: %zu\r\nConnection: close\r\n\r\n" STR_FMT "\n",
                                       status, why.n + 1, STR_ARG(why));

        (void)send_all(c->proxy, c->client, text);
}

static int64_t boot_now(const struct proxy *p)
{
        return p->world->clock->boot(p->world->clock->ctx);
}

static bool read_head(struct connection *c)
{
        int64_t until = boot_now(c->proxy) + HEAD_MS * US_PER_MS;

        for (;;) {
                char piece[4096];
                const char *end = c->in.n ? memmem(c->in.p, c->in.n, "\r\n\r\n", 4) : NULL;
                int64_t left = (until - boot_now(c->proxy)) / US_PER_MS;
                ssize_t n;

                if (end) {
                        c->head = (size_t)(end - c->in.p) + 4;
                        return true;
                }
                if (c->in.full || left <= 0 || !wait_one(c->proxy, c->client, POLLIN, (int)left))
                        return false;
                n = recv(c->client, piece, sizeof(piece), MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                        return false;
                if (n > 0)
                        buf_bytes(&c->in, piece, (size_t)n);
        }
}

static void note_refusal(struct proxy *p, const struct egress_url *to)
{
        char line[NAME_KEPT];
        int n = snprintf(line, sizeof(line), STR_FMT ":%d", STR_ARG(to->host), to->port);
        struct str seen, rest, name = { line, n < NAME_KEPT ? (size_t)n : NAME_KEPT - 1 };

        pthread_mutex_lock(&p->lock);
        rest = buf_view(&p->refused);
        do
                seen = str_cut(rest, '\n', &rest);
        while (rest.p && !str_eq(seen, name));
        if (!rest.p && p->n_refused < PROXY_REFUSED_KEPT) {
                buf_str(&p->refused, name);
                buf_char(&p->refused, '\n');
                p->n_refused++;
        }
        pthread_mutex_unlock(&p->lock);
}

static bool is_listed(const struct proxy *p, const struct egress_url *to)
{
        for (size_t i = 0; i < p->n_patterns; i++)
                if (host_pattern_matches(p->patterns[i], to->host, to->port))
                        return true;
        return false;
}

/* Connects, or says why not. */
static bool reach(struct connection *c, struct str url, struct egress_url *to)
{
        struct proxy *p = c->proxy;
        enum err e = egress_url(&c->scope, url, to);

        if (e) {
                answer(c, "403 Forbidden", c->scope.fault.detail);
                return false;
        }
        if (!is_listed(p, to)) {
                note_refusal(p, to);
                answer(c, "403 Forbidden",
                       arena_printf(&c->scope.arena, "the step's network does not list " STR_FMT ":%d",
                                    STR_ARG(to->host), to->port));
                return false;
        }
        e = egress_connect(&c->scope, p->egress, to, p->stop, CONNECT_MS, &c->server);
        if (e == ERR_PERMISSION_DENIED)
                note_refusal(p, to);
        if (e)
                answer(c, e == ERR_PERMISSION_DENIED  ? "403 Forbidden" :
                          e == ERR_REQUEST_TIMEOUT ? "504 Gateway Timeout" :
                                                     "502 Bad Gateway",
                       c->scope.fault.detail);
        return !e;
}

/* The request that goes on: by path instead of by URL, without what was meant for us, and the last
 * one of its connection, for the next may be for somebody else. */
static struct str rewrite(struct connection *c, struct str method, const struct egress_url *to,
                          struct str lines)
{
        static const char *const dropped[] = { "host", "connection", "keep-alive",
                                               "proxy-connection", "proxy-authorization" };
        struct str path = str_slice(to->text, strlen("http://"), to->text.n);
        struct buf out = BUF_INIT(2 * HEAD_MAX);
        struct str text;

        path = str_slice(path, str_find(path, '/', 0), path.n);
        buf_printf(&out, STR_FMT " " STR_FMT " HTTP/1.1\r\nHost: " STR_FMT, STR_ARG(method),
                   STR_ARG(path.n ? path : STR("/")), STR_ARG(to->host));
        if (to->port != 80)
                buf_printf(&out, ":%d", to->port);
        buf_text(&out, "\r\nConnection: close\r\n");
        while (lines.n) {
                struct str value, line = str_cut(lines, '\n', &lines);
                struct str name = str_cut(line, ':', &value);
                bool keep = head_is_token(name);

                for (size_t i = 0; i < LENGTH(dropped); i++)
                        keep = keep && !str_is_nocase(name, dropped[i]);
                if (keep)
                        buf_printf(&out, STR_FMT "\n", STR_ARG(line));
        }
        buf_text(&out, "\r\n");
        text = out.full ? STR_NONE : str_dup(&c->scope.arena, buf_view(&out));
        buf_done(&out);
        return text;
}

/* What is to be sent first in either direction; false: it was answered. */
static bool open_way(struct connection *c)
{
        struct str lines, rest, version, head = str_slice(buf_view(&c->in), 0, c->head);
        struct str line = str_trim(str_cut(head, '\n', &lines));
        struct str method = str_cut(line, ' ', &rest), target = str_cut(rest, ' ', &version);
        struct str behind = str_slice(buf_view(&c->in), c->head, c->in.n);
        struct arena *a = &c->scope.arena;
        struct egress_url to;

        if (!head_is_token(method) || !target.n || !str_starts(version, "HTTP/1.")) {
                answer(c, "400 Bad Request", STR("this is an HTTP proxy"));
                return false;
        }
        if (str_is(method, "CONNECT"))
                return reach(c, arena_printf(a, "https://" STR_FMT, STR_ARG(target)), &to) &&
                       send_all(c->proxy, c->client,
                                STR("HTTP/1.1 200 Connection established\r\n\r\n")) &&
                       send_all(c->proxy, c->server, behind);
        if (!str_starts(target, "http://")) {
                answer(c, "400 Bad Request",
                       STR("this is an HTTP proxy: ask with CONNECT or by a whole http:// URL"));
                return false;
        }
        if (!reach(c, target, &to))
                return false;
        head = rewrite(c, method, &to, lines);
        return head.n && send_all(c->proxy, c->server, head) &&
               send_all(c->proxy, c->server, behind);
}

/* One direction, one piece; false when the connection is of no more use. */
static bool pass_on(const struct proxy *p, int from, int to, bool *open)
{
        char piece[PIECE];
        ssize_t n = recv(from, piece, sizeof(piece), MSG_DONTWAIT);

        if (n > 0)
                return send_all(p, to, (struct str){ piece, (size_t)n });
        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        *open = false;
        (void)shutdown(to, SHUT_WR);
        return true;
}

static void relay(struct connection *c)
{
        bool up = true, down = true;

        while (up || down) {
                struct pollfd fds[3] = { { .fd = up ? c->client : -1, .events = POLLIN },
                                         { .fd = down ? c->server : -1, .events = POLLIN } };

                if (!wait_for(c->proxy, fds, IDLE_MS) ||
                    (fds[0].revents && !pass_on(c->proxy, c->client, c->server, &up)) ||
                    (fds[1].revents && !pass_on(c->proxy, c->server, c->client, &down)))
                        return;
        }
}

static void *connection_main(void *arg)
{
        struct connection *c = arg;
        struct proxy *p = c->proxy;

        if (read_head(c) && open_way(c))
                relay(c);
        if (c->server >= 0)
                close(c->server);
        close(c->client);
        buf_done(&c->in);
        scope_done(&c->scope);
        free(c);
        p->connections--;
        leave(p);
        return NULL;
}

/* ---- all of them ---- */

static void take_in(struct proxy *p, int client)
{
        struct connection *c = xcalloc(1, sizeof(*c));

        *c = (struct connection){ .proxy = p, .client = client, .server = -1, .in = BUF_INIT(HEAD_MAX) };
        scope_init(&c->scope, p->world);
        p->connections++;
        if (start_thread(p, connection_main, c))
                return;
        p->connections--;
        close(client);
        scope_done(&c->scope);
        free(c);
}

static void *listener_main(void *arg)
{
        struct proxy *p = arg;

        pthread_setname_np(pthread_self(), "proxy");
        for (;;) {
                bool full = p->connections >= PROXY_CONNECTIONS;
                int client;

                (void)wait_one(p, full ? -1 : p->listener, POLLIN, full ? FULL_MS : -1);
                if (is_over(p))
                        break;
                client = full ? -1 : accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
                if (client >= 0)
                        take_in(p, client);
        }
        leave(p);
        return NULL;
}

void proxy_serve(struct proxy *p, int listener)
{
        p->listener = listener;
        (void)start_thread(p, listener_main, p);
}

struct str proxy_stop(struct proxy *p, struct arena *arena)
{
        uint64_t one = 1;
        struct str refused;

        if (write(p->stop, &one, sizeof(one)) < 0)
                bug(__FILE__, __LINE__, "eventfd");
        pthread_mutex_lock(&p->lock);
        refused = str_dup(arena, str_trim(buf_view(&p->refused)));
        pthread_mutex_unlock(&p->lock);
        leave(p);
        return refused;
}
