/*
 * HTTP server: N libevent loops, each a thread.  A connection is read by a strict reader of heads
 * (http/head.h) that also frames bodies and keeps deadlines.  This room knows no routes and no rules:
 * it hands a whole request to the handler and sends what it is given.
 *
 * An exchange belongs to one loop.  http_post() is the only way in from another thread.
 */
#ifndef BATON_HTTP_SERVER_H
#define BATON_HTTP_SERVER_H

#include "core/buf.h"
#include "core/err.h"
#include "core/scope.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OTHER };

struct http_server;
struct http_loop;
struct exchange;

struct http_peer {
        bool local_socket; /* came through the Unix socket */
        uint32_t uid, pid; /* of a local peer */
};

struct http_request {
        enum http_method method;
        struct str method_text;
        struct str path;  /* percent-decoded, no query; starts with '/' */
        struct str query; /* raw, without '?' */
        struct str body;
        struct http_peer peer;
};

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

/* ---- an exchange; all on its loop ---- */
const struct http_request *exchange_request(const struct exchange *);
struct http_loop *exchange_loop(const struct exchange *);
/* A request header by lower-case name, absent if not sent. */
struct str exchange_header(const struct exchange *, const char *name);
/* Called on the loop if the client goes away before the reply; the exchange is dead afterwards. */
void exchange_on_close(struct exchange *, void (*closed)(struct exchange *, void *arg), void *arg);

/* The client has closed its side and the loop has not come to see it yet. */
bool exchange_client_left(const struct exchange *);
/* Ends the connection without a reply; on_close is told. */
void exchange_close(struct exchange *);
/*
 * For the next reply: calls delivered(arg, taken) once, on the loop.  taken is true when the client
 * went on (asked again, closed in order) or simply stayed, false when the connection broke or was
 * reset with the reply in it.
 */
void exchange_on_delivery(struct exchange *, void (*delivered)(void *arg, bool taken), void *arg);

/* Adds a response header (before the reply); the value is checked for CR and LF. */
void exchange_add_header(struct exchange *, const char *name, struct str value);
/* Sends and ends the exchange. An empty content_type sends none (204). */
void exchange_reply(struct exchange *, int status, const char *content_type, struct str body);
/* Sends a problem document from a fault (WWW-Authenticate, Allow, Retry-After as needed). */
void exchange_fail(struct exchange *, const struct fault *);

/* ---- streams: status 200, chunked, no length ---- */
void exchange_stream_begin(struct exchange *, const char *content_type);
/* Queues bytes.  Returns the bytes now waiting in the connection's output buffer. */
size_t exchange_stream_write(struct exchange *, struct str bytes);
/* Called on the loop each time the output buffer has drained below 16 KiB after being above it. */
void exchange_stream_on_drain(struct exchange *, void (*drained)(struct exchange *, void *), void *);
void exchange_stream_end(struct exchange *);

#endif
