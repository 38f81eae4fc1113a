#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/tally.h"
#include "http/loop.h"

enum { REFUSED_MAX = 256 }; /* connections that are being told that they are too many */

struct timer {
        struct timer *next;
        struct event *event;
        void (*run)(void *);
        void *arg;
};

/* ---- hand-over ---- */

void http_post(struct http_loop *loop, struct http_task *task)
{
        uint64_t one = 1;
        bool first;

        task->next = NULL;
        pthread_mutex_lock(&loop->lock);
        first = loop->posted == NULL;
        *loop->posted_last = task;
        loop->posted_last = &task->next;
        pthread_mutex_unlock(&loop->lock);
        if (first && write(loop->eventfd, &one, sizeof(one)) < 0)
                bug(__FILE__, __LINE__, "eventfd");
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
        struct http_loop *loop = arg;
        struct http_task *task;
        uint64_t count;

        (void)what;
        if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
                return;
        pthread_mutex_lock(&loop->lock);
        task = loop->posted;
        loop->posted = NULL;
        loop->posted_last = &loop->posted;
        pthread_mutex_unlock(&loop->lock);
        while (task) {
                struct http_task *next = task->next;

                task->run(task);
                task = next;
        }
}

void *http_loop_data(struct http_loop *loop)
{
        return loop->data;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        struct timer *timer = arg;

        (void)fd;
        (void)what;
        timer->run(timer->arg);
}

void http_loop_every(struct http_loop *loop, int ms, void (*run)(void *), void *arg)
{
        struct timer *timer = xcalloc(1, sizeof(*timer));
        struct timeval every = { ms / 1000, ms % 1000 * 1000 };

        *timer = (struct timer){ .next = loop->timers, .run = run, .arg = arg };
        timer->event = event_new(loop->base, -1, EV_PERSIST, on_timer, timer);
        event_add(timer->event, &every);
        loop->timers = timer;
}

/* ---- accepting ---- */

static void adopt(struct http_task *task)
{
        struct arrival *a = (struct arrival *)task;

        exchange_open(a->loop, a);
        free(a);
}

void http_server_leave(struct http_server *server, uint64_t source, bool refused)
{
        if (refused) {
                server->refused--;
        } else if (source) {
                server->connections--;
                tally_leave(server->sources, source);
        }
}

static bool peer_is_welcome(const struct http_server *server, int fd, struct http_peer *peer)
{
        struct ucred cred;
        socklen_t n = sizeof(cred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n))
                return false;
        *peer = (struct http_peer){ true, cred.uid, (uint32_t)cred.pid };
        return cred.uid == 0 || cred.uid == server->options.socket_uid;
}

/* Whom a connection counts for: the address, of IPv6 the /64 that one customer has. */
static uint64_t source_of(const struct sockaddr_storage *from)
{
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
        const struct sockaddr_in *four = (const struct sockaddr_in *)from;
        uint64_t high;

        if (from->ss_family == AF_INET)
                return UINT64_C(0xffff) << 32 | ntohl(four->sin_addr.s_addr);
        memcpy(&high, &six->sin6_addr, sizeof(high));
        return high ? high : 1;
}

/* Why there is no place for one more from there; NULL when it was given one. */
static const char *take_place(struct http_server *server, uint64_t source)
{
        if (server->connections >= server->options.max_connections)
                return "the server has as many connections as it may (--max-connections)";
        if (!tally_enter(server->sources, source, server->options.max_per_source))
                return "this address has as many connections as it may "
                       "(--max-connections-per-source)";
        server->connections++;
        return NULL;
}

static void hand_over(struct http_server *server, struct arrival arrival)
{
        struct arrival *a = xmalloc(sizeof(*a));

        *a = arrival;
        a->task.run = adopt;
        a->loop = &server->loops[server->next_loop];
        server->next_loop = (server->next_loop + 1) % server->n_loops;
        http_post(a->loop, &a->task);
}

static void arrive_tcp(struct http_server *server, int fd, const struct sockaddr_storage *from)
{
        struct arrival a = { .fd = fd, .source = source_of(from) };
        int one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        a.refusal = take_place(server, a.source);
        if (a.refusal && server->refused >= REFUSED_MAX) {
                close(fd);
                return;
        }
        if (a.refusal)
                server->refused++;
        hand_over(server, a);
}

static void arrive_local(struct http_server *server, int fd)
{
        struct arrival a = { .fd = fd };

        if (peer_is_welcome(server, fd, &a.peer))
                hand_over(server, a);
        else
                close(fd);
}

static void listen_on(struct http_server *server, bool on)
{
        struct event *const listeners[] = { server->tcp_event, server->local_event };

        for (size_t i = 0; i < LENGTH(listeners); i++)
                if (listeners[i] && on)
                        event_add(listeners[i], NULL);
                else if (listeners[i])
                        event_del(listeners[i]);
}

static void accept_again(struct http_server *server)
{
        if (!server->out_of_files)
                return;
        server->out_of_files = false;
        listen_on(server, true);
        if (server->draining)
                listen_on(server, false);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
        struct http_server *server = arg;

        (void)what;
        for (int i = 0; i < 64; i++) {
                struct sockaddr_storage from = { 0 };
                socklen_t n = sizeof(from);
                int got = accept4(fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (got < 0 && (errno == EMFILE || errno == ENFILE)) {
                        server->out_of_files = true;
                        listen_on(server, false);
                }
                if (got < 0)
                        return;
                if (fd == server->tcp)
                        arrive_tcp(server, got, &from);
                else
                        arrive_local(server, got);
        }
}

/* "127.0.0.1:7420" or "[::1]:7420". */
static bool parse_address(const char *text, struct sockaddr_storage *out, socklen_t *length)
{
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
        struct sockaddr_in *four = (struct sockaddr_in *)out;
        const char *colon = strrchr(text, ':');
        char host[INET6_ADDRSTRLEN];
        int64_t port;
        size_t n;

        if (!colon || !str_to_int(str_from(colon + 1), &port) || port < 0 || port > 65535)
                return false;
        n = (size_t)(colon - text);
        if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
                text++;
                n -= 2;
        }
        if (n >= sizeof(host))
                return false;
        memcpy(host, text, n);
        host[n] = '\0';
        memset(out, 0, sizeof(*out));
        if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
                four->sin_family = AF_INET;
                four->sin_port = htons((uint16_t)port);
                *length = sizeof(*four);
                return true;
        }
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        *length = sizeof(*six);
        return inet_pton(AF_INET6, host, &six->sin6_addr) == 1;
}

static enum err listen_tcp(struct scope *scope, struct http_server *server)
{
        struct sockaddr_storage address;
        char host[INET6_ADDRSTRLEN];
        socklen_t n = sizeof(address), length;
        int one = 1;

        if (!parse_address(server->options.listen, &address, &length))
                return fail(scope, ERR_VALIDATION,
                            "--listen must be an address such as 127.0.0.1:7420, not %s",
                            server->options.listen);
        server->tcp = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        setsockopt(server->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (server->tcp < 0 || bind(server->tcp, (struct sockaddr *)&address, length) ||
            listen(server->tcp, 1024) ||
            getsockname(server->tcp, (struct sockaddr *)&address, &n))
                return fail(scope, ERR_UNAVAILABLE, "cannot listen on %s: %s",
                            server->options.listen, strerror(errno));
        if (address.ss_family == AF_INET6) {
                struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address;

                inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
                snprintf(server->address, sizeof(server->address), "[%.45s]:%d", host,
                         ntohs(six->sin6_port));
        } else {
                struct sockaddr_in *four = (struct sockaddr_in *)&address;

                inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
                snprintf(server->address, sizeof(server->address), "%.15s:%d", host,
                         ntohs(four->sin_port));
        }
        return ERR_OK;
}

static enum err listen_local(struct scope *scope, struct http_server *server)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const char *path = server->options.unix_socket;

        server->local = -1;
        if (!path)
                return ERR_OK;
        if (strlen(path) >= sizeof(address.sun_path))
                return fail(scope, ERR_VALIDATION, "the path of the socket is too long: %s", path);
        memcpy(address.sun_path, path, strlen(path) + 1);
        unlink(path);
        server->local = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (server->local < 0 ||
            bind(server->local, (struct sockaddr *)&address, sizeof(address)) ||
            chmod(path, 0600) || listen(server->local, 256))
                return fail(scope, ERR_UNAVAILABLE, "cannot listen on %s: %s", path,
                            strerror(errno));
        server->socket_path = xstrdup(path);
        return ERR_OK;
}

/* ---- life ---- */

static void *loop_main(void *arg)
{
        struct http_loop *loop = arg;
        const struct http_options *o = &loop->server->options;

        pthread_setname_np(pthread_self(), "http");
        loop->data = o->loop_start ? o->loop_start(o->app, loop) : NULL;
        event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
        return NULL;
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
        struct http_loop *loop = arg;

        (void)fd;
        (void)what;
        if (loop == loop->server->loops)
                accept_again(loop->server);
        exchange_sweep(loop);
}

static void loop_init(struct http_server *server, struct http_loop *loop)
{
        struct timeval second = { 1, 0 };

        loop->server = server;
        loop->base = event_base_new();
        BUG_ON(!loop->base);
        loop->posted_last = &loop->posted;
        pthread_mutex_init(&loop->lock, NULL);
        loop->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        loop->wake = event_new(loop->base, loop->eventfd, EV_READ | EV_PERSIST, on_wake, loop);
        loop->sweep = event_new(loop->base, -1, EV_PERSIST, on_sweep, loop);
        event_add(loop->wake, NULL);
        event_add(loop->sweep, &second);
}

enum err http_server_start(struct scope *scope, const struct http_options *options,
                           struct http_server **out)
{
        struct http_server *server = xcalloc(1, sizeof(*server));
        struct event_base *first;
        enum err e;

        evthread_use_pthreads();
        server->options = *options;
        server->sources = tally_new();
        server->n_loops = options->loops < 1 ? 1 : options->loops > LOOPS_MAX ? LOOPS_MAX :
                                                                                 options->loops;
        e = listen_tcp(scope, server);
        if (!e)
                e = listen_local(scope, server);
        if (e) {
                tally_free(server->sources);
                free(server);
                return e;
        }
        for (int i = 0; i < server->n_loops; i++)
                loop_init(server, &server->loops[i]);
        first = server->loops[0].base;
        server->tcp_event = event_new(first, server->tcp, EV_READ | EV_PERSIST, on_accept, server);
        event_add(server->tcp_event, NULL);
        if (server->local >= 0) {
                server->local_event = event_new(first, server->local, EV_READ | EV_PERSIST,
                                                on_accept, server);
                event_add(server->local_event, NULL);
        }
        for (int i = 0; i < server->n_loops; i++)
                if (pthread_create(&server->loops[i].thread, NULL, loop_main, &server->loops[i]))
                        return fail(scope, ERR_UNAVAILABLE, "cannot start an HTTP thread");
        *out = server;
        return ERR_OK;
}

const char *http_server_address(const struct http_server *server)
{
        return server->address;
}

size_t http_server_busy(const struct http_server *server)
{
        return server->busy;
}

void http_server_drain(struct http_server *server)
{
        server->draining = true;
        listen_on(server, false);
}

static void loop_free(struct http_loop *loop)
{
        exchange_close_all(loop);
        while (loop->timers) {
                struct timer *timer = loop->timers;

                loop->timers = timer->next;
                event_free(timer->event);
                free(timer);
        }
        event_free(loop->wake);
        event_free(loop->sweep);
        close(loop->eventfd);
        event_base_free(loop->base);
        pthread_mutex_destroy(&loop->lock);
}

void http_server_stop(struct http_server *server)
{
        for (int i = 0; i < server->n_loops; i++)
                event_base_loopbreak(server->loops[i].base);
        for (int i = 0; i < server->n_loops; i++)
                pthread_join(server->loops[i].thread, NULL);
        event_free(server->tcp_event);
        if (server->local_event)
                event_free(server->local_event);
        close(server->tcp);
        if (server->local >= 0)
                close(server->local);
        if (server->socket_path)
                unlink(server->socket_path);
        for (int i = 0; i < server->n_loops; i++) {
                /* Replies that came while the loop ended: their exchanges are told first. */
                struct http_loop *loop = &server->loops[i];

                exchange_close_all(loop);
                for (struct http_task *t = loop->posted, *next; t; t = next) {
                        next = t->next;
                        t->run(t);
                }
                if (server->options.loop_stop)
                        server->options.loop_stop(server->options.app, loop->data);
                loop_free(loop);
        }
        tally_free(server->sources);
        free(server->socket_path);
        free(server);
}
