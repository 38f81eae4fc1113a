/*
 * HTTP client for the commands (libcurl): blocking calls with a key, over TCP or the server's Unix
 * socket, and server-sent events as a callback per event.
 */
#ifndef BATON_HTTP_CLIENT_H
#define BATON_HTTP_CLIENT_H

#include "core/buf.h"
#include "core/scope.h"

struct http_client;

/* The texts live as long as the client. */
struct http_client_options {
        const char *base;        /* "http://127.0.0.1:7420" */
        const char *unix_socket; /* or NULL */
        const char *key;         /* bearer key or NULL */
        const char *workspace;   /* X-Workspace-ID or NULL */
        int timeout_seconds;     /* of a call, 0 = 60; streams have none */
        /* Asked when nobody answers, before another try: may start the server again. */
        void (*revive)(void *ctx);
        void *revive_ctx;
};

struct http_client *http_client_new(const struct http_client_options *);
void http_client_free(struct http_client *);

struct http_response {
        int status;
        struct str content_type, body; /* in the scope's arena */
};

struct http_call {
        const char *method; /* "GET" */
        const char *path;   /* with query, already encoded */
        struct str body;
        const char *content_type;    /* NULL = application/json */
        const char *idempotency_key; /* or NULL */
        const char *if_match;        /* or NULL */
        int timeout_seconds;         /* 0 = that of the client */
};

/*
 * ERR_UNAVAILABLE when the server cannot be reached.  Any HTTP status is a success here.  A GET,
 * and a call with an Idempotency-Key, is sent again for a while when its connection was lost; a
 * server that was never there is an error at once, unless it can be revived.
 */
enum err http_call(struct scope *, struct http_client *, const struct http_call *,
                   struct http_response *) NODISCARD;
/* The fault that a problem document tells, in the scope; returns its code. */
enum err http_problem(struct scope *, const struct http_response *);

struct http_event {
        struct str id, event, data; /* valid during the callback */
};

/* The callbacks may make calls with the same client. */
struct http_follower {
        bool (*on_event)(void *ctx, const struct http_event *); /* false: enough */
        /* About once a second and after a signal, or NULL; false: enough. */
        bool (*on_idle)(void *ctx);
        void *ctx;
        int patience_seconds; /* to live without the server */
};

/* Follows a stream, reconnecting with Last-Event-ID, until a callback returns false, the server
 * ends it with `stream.end` or 204, refuses it, or cannot be reached for the follower's patience.
 */
enum err http_follow(struct scope *, struct http_client *, const char *path,
                     const struct http_follower *) NODISCARD;

#endif
