/*
 * Egress: where the program connects to on behalf of steps.  Only addresses of the public internet,
 * unless the operator names a range; the address that is judged is the one that is connected to.
 */
#ifndef BATON_HTTP_EGRESS_H
#define BATON_HTTP_EGRESS_H

#include <sys/socket.h>

#include "core/scope.h"

enum { EGRESS_RANGES = 64, EGRESS_URL_MAX = 8192 };

struct egress {
        struct egress_range {
                int family, bits;
                unsigned char address[16];
        } ranges[EGRESS_RANGES]; /* allowed beside the public addresses */
        size_t n;
};

/* "127.0.0.0/8, fd00::/8, 10.1.2.3"; ERR_VALIDATION. */
enum err egress_read(struct scope *, struct str list, struct egress *) NODISCARD;
bool egress_allows(const struct egress *, const struct sockaddr *);

/* An http or https URL without credentials in it, as libcurl understands it: numeric hosts in all
 * their spellings have become plain addresses. */
struct egress_url {
        struct str text;   /* whole, without a fragment */
        struct str origin; /* scheme://host:port */
        struct str host;   /* IPv6 in brackets */
        int port;
};
enum err egress_url(struct scope *, struct str text, struct egress_url *) NODISCARD;

/*
 * For programs that connect themselves: "host:port:address,address" with those addresses of the
 * host that may be reached; absent when the host is an IPv6 address, which needs no resolving.
 * ERR_PERMISSION_DENIED when there is none of them, ERR_UNAVAILABLE when the name is not known.
 */
enum err egress_pin(struct scope *, const struct egress *, const struct egress_url *,
                    struct str *out) NODISCARD;
/*
 * A connection to the host and port of the URL, at the first of its addresses that is allowed and
 * answers; *fd does not block and is the caller's.  Gives up when `stop` becomes readable.
 * ERR_PERMISSION_DENIED, ERR_REQUEST_TIMEOUT (of one address), ERR_UNAVAILABLE.
 */
enum err egress_connect(struct scope *, const struct egress *, const struct egress_url *, int stop,
                        int timeout_ms, int *fd) NODISCARD;
/* The refusal, in words. */
enum err egress_refuse(struct scope *, struct str host, const struct sockaddr *);

#endif
