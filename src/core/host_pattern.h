/*
 * Host patterns: where a command may connect to.  "name", "name:port", "*.name" (everything below
 * the name, not itself) or "*.name:port"; a name is a host's or an IPv4 address.  Without a port: 80
 * and 443.
 */
#ifndef BATON_CORE_HOST_PATTERN_H
#define BATON_CORE_HOST_PATTERN_H

#include "core/str.h"

bool host_pattern_is_valid(struct str pattern);
/* The pattern is valid; the host may be in either case. */
bool host_pattern_matches(struct str pattern, struct str host, int port);

#endif
