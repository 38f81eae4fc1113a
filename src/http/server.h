/*
 * HTTP server: N libevent loops, each a thread with its share of the connections (http/exchange.h).
 * This room knows no routes and no rules: it hands a whole request to the handler and sends what it is
 * given.  http_post() is the only way in from another thread.
 */
#ifndef BATON_HTTP_SERVER_H
#define BATON_HTTP_SERVER_H

#include "http/exchange.h"

struct http_server;
struct http_loop;

struct http_options {
        const char *listen;      /* "127.0.0.1:7420"; port 0 = any */
        const char *unix_socket; /* path or NULL */
        uint32_t socket_uid;     /* besides root, the only uid the socket serves */
        int loops;               /* threads; 1..16 */
        int head_seconds;        /* 10: a head must be complete within */
        int idle_seconds;        /* 60: keep-alive */
        size_t max_connections; /* over TCP; the Unix socket is the operator's way in */
        size_t max_per_source;  /* of them from one IPv4 address or IPv6 /64 */
        const struct world *world;
        /* The bound for this head: decides 413 before the body is read. */
        size_t (*body_limit)(void *app, enum http_method, struct str path);
        /* Called on the loop with a complete request; must end in a reply or a stream. */
        void (*handle)(void *app, struct exchange *);
        /* Called once on each loop's thread before it serves; the value is http_loop_data(). */
        void *(*loop_start)(void *app, struct http_loop *);
        /* Takes that value back after the loop has ended. */
        void (*loop_stop)(void *app, void *loop_data);
        void *app;
};

/* Binds and starts; ERR_UNAVAILABLE with the reason when the address cannot be had. */
enum err http_server_start(struct scope *, const struct http_options *,
                           struct http_server **) NODISCARD;
/* The bound TCP address as text, e.g. "127.0.0.1:41234". */
const char *http_server_address(const struct http_server *);
/* Stop accepting; open requests may end. */
void http_server_drain(struct http_server *);
/* Close everything, join the threads, free. */
void http_server_stop(struct http_server *);
/* Requests being handled plus open streams. */
size_t http_server_busy(const struct http_server *);

/* Runs fn(arg) on the loop's thread; callable from any thread, never blocks. A batch of posts
 * between two wake-ups of the loop costs one write to its eventfd. */
struct http_task {
        struct http_task *next;
        void (*run)(struct http_task *);
};
void http_post(struct http_loop *, struct http_task *);
void *http_loop_data(struct http_loop *);
/* Runs `run` on this loop every `ms` until the loop ends; called on the loop. */
void http_loop_every(struct http_loop *, int ms, void (*run)(void *arg), void *arg);

#endif
