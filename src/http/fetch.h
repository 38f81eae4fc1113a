/*
 * Fetch: one request to somebody else's server (libcurl), within the egress rules.  No
 * proxy, cookies, netrc or decompression; certificates are checked.  GET and HEAD without a body
 * follow up to FETCH_HOPS redirects, each judged anew; another origin is not sent the headers.
 */
#ifndef BATON_HTTP_FETCH_H
#define BATON_HTTP_FETCH_H

#include "http/egress.h"

enum { FETCH_HOPS = 5, FETCH_HEADERS_MAX = 65536, FETCH_CONNECT_SECONDS = 15 };

struct fetch_header {
        struct str name, value; /* of a response: lower case, repeated ones joined by ", " */
};

struct fetch_spec {
        struct str method, url;
        const struct fetch_header *headers;
        size_t n_headers;
        struct str body;    /* absent = none */
        size_t body_cap;    /* bytes of the response that are kept; the rest is not read */
        int64_t timeout_us; /* of all of it */
        const struct egress *egress;
        bool (*canceled)(void *ctx); /* asked about once a second and with every piece */
        void *ctx;
};

struct fetch_result {
        int status;
        struct fetch_header *headers;
        size_t n_headers;
        struct str body; /* bytes as they came */
        bool truncated;
        bool canceled; /* nothing else is set */
};

/*
 * Any status is a success.  ERR_VALIDATION (the URL, a header), ERR_PERMISSION_DENIED (egress),
 * ERR_REQUEST_TIMEOUT, ERR_UNAVAILABLE (no connection, TLS, a broken answer).
 */
enum err fetch(struct scope *, const struct fetch_spec *, struct fetch_result *) NODISCARD;

/* Several at once on one thread, each of one hop: no redirect is followed, nothing is canceled. */
struct fetch_pool;
struct fetch_pool *fetch_pool_new(void);
void fetch_pool_free(struct fetch_pool *); /* what is under way is dropped */
/* Begins one; scope, spec with its texts, and *out must stay until it has ended.  ERR_VALIDATION and
 * ERR_PERMISSION_DENIED (the URL) come at once, and it has not begun. */
enum err fetch_pool_add(struct fetch_pool *, struct scope *, const struct fetch_spec *,
                        struct fetch_result *out, void *tag) NODISCARD;
/* Goes on with them for at most `ms`: the tag of one that has ended, with its result as of fetch();
 * NULL when none has. */
void *fetch_pool_next(struct fetch_pool *, int ms, enum err *result);
void fetch_pool_wake(struct fetch_pool *); /* any thread: fetch_pool_next() returns */

/* What a caller may set: a name of HTTP, none of those that frame the message; a value of one line.
 */
bool fetch_header_is_valid(struct str name, struct str value);

#endif
