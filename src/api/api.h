/*
 * The API room: one file per resource holds its route rows and handlers.  A handler is one operation
 * of the domain over a transaction; it runs on a store thread and leaves a reply record, which the
 * loop renders after COMMIT.
 */
#ifndef BATON_API_API_H
#define BATON_API_API_H

#include "domain/delivery.h"
#include "domain/domain.h"
#include "domain/waiting.h"
#include "domain/workspace.h"
#include "flow/definition_cache.h"
#include "http/server.h"
#include "hub/bus.h"
#include "hub/hub.h"
#include "json/json_in.h"

struct api;

/* A worker, as GET /v1/workers shows it. */
struct worker_info {
        struct str id, kind, host;
        int64_t concurrency, active_runs, last_heartbeat_at;
        struct str sandbox; /* JSON; of the server that answers alone */
        struct str volume;  /* absent where the store is a file */
};

struct api_options {
        struct store *store;
        struct hub *hub;
        const char *const *hosts; /* names that Host may say, beside loopback; ends with NULL */
        const struct world *world;
        const char *version;
        const char *root, *owner; /* names of the socket's users: uid 0, and who the server runs as */
        struct definition_cache *definitions;
        size_t max_streams; /* open ones of a key; the Unix socket without a key counts as one */
        void *hooks; /* first argument of what follows */
        /* False when this server has no worker; texts live in the scope's arena. */
        bool (*worker)(void *hooks, struct scope *, struct worker_info *);
        /* What a workspace's directory holds. */
        enum err (*usage)(void *hooks, struct scope *, const struct workspace *, int64_t *bytes, int64_t *files);
        /* What the webhooks' deliveries have come to; NULL when nothing is delivered. */
        struct delivery_counts (*deliveries)(void *hooks);
        bool (*bus)(void *hooks, struct bus_stats *); /* false: there is none */
};

struct api *api_new(const struct api_options *);
void api_free(struct api *);
/* What the HTTP server calls. */
void api_handle(void *api, struct exchange *);
size_t api_body_limit(void *api, enum http_method, struct str path);
void *api_loop_start(void *api, struct http_loop *);
void api_loop_stop(void *api, void *loop_data);
/* After a commit that changed keys: what was looked up before is void. */
void api_keys_changed(void *api);
void api_drain(struct api *); /* new work is refused with 503 draining */

#endif
