/*
 * Exchange: one connection with the request that it is at.  A strict reader of heads (http/head.h) also
 * frames bodies and keeps deadlines; a whole request goes to the server's handler, which answers with
 * a reply or a stream.  An exchange belongs to one loop, and all of this is called on its thread.
 */
#ifndef BATON_HTTP_EXCHANGE_H
#define BATON_HTTP_EXCHANGE_H

#include "core/buf.h"
#include "core/err.h"
#include "core/scope.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OTHER };

struct exchange;
struct http_loop;

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

const struct http_request *exchange_request(const struct exchange *);
struct http_loop *exchange_loop(const struct exchange *);
/* A request header by its name in any case, absent if not sent. */
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
