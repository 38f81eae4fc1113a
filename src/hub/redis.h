/* Redis: connections by a URL, redis://[[user]:password@]host[:port][/database]. */
#ifndef BATON_HUB_REDIS_H
#define BATON_HUB_REDIS_H

#include "core/scope.h"

struct redisContext;

/* ERR_VALIDATION: it is no such URL.  Needs no connection. */
enum err redis_check(struct scope *, const char *url) NODISCARD;
/* A connection whose commands wait for LINK_SECONDS at most; to be freed with redisFree(). */
enum err redis_open(struct scope *, const char *url, struct redisContext **) NODISCARD;
/* Whether the answers of n commands that were appended have come and none is an error that ends the
 * connection or says that nothing is taken. */
bool redis_settle(struct redisContext *, size_t n);

#endif
