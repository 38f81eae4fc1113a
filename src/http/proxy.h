/*
 * Proxy: the way out of one sandbox.  It answers on a listener in the sandbox's own network, speaks CONNECT and, for http://, requests by whole URL, and connects only
 * to hosts that the step lists and the egress rules allow; the address that is judged is the one that
 * is connected to.  What is said inside a CONNECT is not looked at.
 */
#ifndef BATON_HTTP_PROXY_H
#define BATON_HTTP_PROXY_H

#include "core/scope.h"
#include "http/egress.h"

enum { PROXY_CONNECTIONS = 64, PROXY_PATTERNS = 64, PROXY_REFUSED_KEPT = 16 };

struct proxy;

struct proxy *proxy_new(const struct world *, const struct egress *);
/* A pattern of core/host_pattern.h; before proxy_serve(). */
void proxy_allow(struct proxy *, struct str pattern);
/* Takes the listener over and answers on it, in threads of its own. */
void proxy_serve(struct proxy *, int listener);
/* Ends every connection and frees the proxy, sooner or later.  The "host:port" that were refused,
 * the first PROXY_REFUSED_KEPT of them, as lines in the arena; "" = none. */
struct str proxy_stop(struct proxy *, struct arena *);

#endif
