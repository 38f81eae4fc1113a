/*
 * Parsed definitions by id and version, shared between threads: a version never changes, so what is
 * here is right.  The least recently used one goes when a new one needs its place; who holds one
 * keeps it alive.
 */
#ifndef BATON_FLOW_DEFINITION_CACHE_H
#define BATON_FLOW_DEFINITION_CACHE_H

#include "flow/definition.h"

struct definition_cache;

struct definition_cache *definition_cache_new(const struct world *);
void definition_cache_free(struct definition_cache *);

/* NULL when it is not here.  Give back with definition_cache_release(). */
const struct definition *definition_cache_get(struct definition_cache *, int64_t id, int64_t version);
/* Parses and keeps a stored document; the scope gets the fault. */
enum err definition_cache_add(struct definition_cache *, struct scope *, int64_t id, int64_t version,
                              struct str document, const struct definition **out) NODISCARD;
void definition_cache_release(struct definition_cache *, const struct definition *);

#endif
