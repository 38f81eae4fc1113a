#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "core/log.h"
#include "core/tally.h"
#include "domain/idempotency.h"
#include "domain/key.h"
#include "domain/run.h"
#include "domain/workspace.h"

enum { CACHE_SLOTS = 512, SEGMENTS_MAX = 8, REPLY_MAX = 64 << 20 };
#define CACHE_AGE US_PER_S

/* A key that was looked up not long ago. */
struct cached_key {
        unsigned char digest[32];
        struct principal by;
        int64_t expires_at, checked; /* wall, boot */
        int generation;
        struct arena texts;
};

struct loop_state {
        struct loop_streams *streams;
        struct cached_key keys[CACHE_SLOTS];
};

struct api {
        struct api_options options;
        struct tally *streams;
        struct dashboards *dashboards;
        _Atomic int keys_generation;
        _Atomic bool draining;
};

const struct route *const all_routes[] = { definition_routes, task_routes, force_routes, run_routes, step_routes, workspace_routes,
                                           key_routes,  approval_routes, review_routes, ops_routes, scheduler_routes,
                                           stream_routes, secret_routes, inspect_routes, inbox_routes, dashboard_routes, webhook_routes, audit_routes, profile_routes, input_routes, NULL };

struct api *api_new(const struct api_options *options)
{
        struct api *api = xcalloc(1, sizeof(*api));

        api->options = *options;
        api->streams = tally_new();
        api->dashboards = dashboards_new();
        return api;
}

void api_free(struct api *api)
{
        tally_free(api->streams);
        dashboards_free(api->dashboards);
        free(api);
}

struct api_options *api_options(struct api *api)
{
        return &api->options;
}

struct tally *api_streams(struct api *api)
{
        return api->streams;
}

struct dashboards *api_dashboards(struct api *api)
{
        return api->dashboards;
}

void api_keys_changed(void *api)
{
        atomic_fetch_add(&((struct api *)api)->keys_generation, 1);
}

void api_drain(struct api *api)
{
        api->draining = true;
}

void *api_loop_start(void *app, struct http_loop *loop)
{
        struct loop_state *state = xcalloc(1, sizeof(*state));

        (void)app;
        state->streams = streams_loop_start(loop);
        return state;
}

void api_loop_stop(void *app, void *data)
{
        struct loop_state *state = data;

        (void)app;
        for (size_t i = 0; i < CACHE_SLOTS; i++)
                arena_done(&state->keys[i].texts);
        free(state->streams);
        free(state);
}

struct loop_streams *loop_state_streams(void *loop_data)
{
        return ((struct loop_state *)loop_data)->streams;
}

/* ---- routing ---- */

static size_t split(struct str path, struct str *out)
{
        size_t n = 0;

        if (path.n && path.p[0] == '/')
                path = str_slice(path, 1, path.n);
        while (path.p && n < SEGMENTS_MAX)
                out[n++] = str_cut(path, '/', &path);
        return n;
}

static bool matches(const char *pattern, const struct str *path, size_t n, struct str *params)
{
        struct str segments[SEGMENTS_MAX];
        size_t count = split(str_from(pattern), segments), found = 0;

        if (count != n)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (segments[i].n && segments[i].p[0] == '{') {
                        if (!path[i].n)
                                return false;
                        params[found++] = path[i];
                } else if (!str_eq(segments[i], path[i])) {
                        return false;
                }
        }
        return true;
}

static const char *const method_names[] = {
        [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST", [HTTP_PUT] = "PUT",
        [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE", [HTTP_OTHER] = "",
};

/* The row for method and path; *allow lists the methods that the path knows. */
static const struct route *find_route(enum http_method method, struct str path, struct str *params,
                                      char *allow, size_t size)
{
        struct str segments[SEGMENTS_MAX + 1];
        size_t n = split(path, segments), n_allow = 0;

        allow[0] = '\0';
        for (size_t t = 0; all_routes[t]; t++)
                for (const struct route *r = all_routes[t]; r->path; r++) {
                        if (!matches(r->path, segments, n, params))
                                continue;
                        if (r->method == method || (method == HTTP_HEAD && r->method == HTTP_GET))
                                return r;
                        n_allow += (size_t)snprintf(allow + n_allow, size - n_allow, "%s%s",
                                                    n_allow ? ", " : "", method_names[r->method]);
                        BUG_ON(n_allow >= size);
                }
        return NULL;
}

size_t api_body_limit(void *app, enum http_method method, struct str path)
{
        struct str params[PARAMS_MAX];
        char allow[128];
        const struct route *r = find_route(method, path, params, allow, sizeof(allow));

        (void)app;
        return r && (r->flags & ROUTE_BATCH) ? BATCH_LIMIT : BODY_LIMIT;
}

/* ---- who asks ---- */

static struct cached_key *cache_slot(struct loop_state *state, const unsigned char digest[32])
{
        uint32_t h;

        memcpy(&h, digest, sizeof(h));
        return &state->keys[h % CACHE_SLOTS];
}

static int64_t boot_now(const struct api *api)
{
        return api->options.world->clock->boot(api->options.world->clock->ctx);
}

/* The texts of one that is kept elsewhere, for as long as the arena lives. */
static struct principal principal_dup(struct arena *a, const struct principal *by)
{
        struct principal copy = *by;

        copy.actor = str_dup(a, by->actor);
        copy.session_id = str_dup(a, by->session_id);
        copy.agent_name = str_dup(a, by->agent_name);
        copy.capabilities = str_dup(a, by->capabilities);
        copy.workspace = str_dup(a, by->workspace);
        return copy;
}

/* The request gets texts of its own: it may wait for long, and another key may take the slot. */
static bool from_cache(struct request *r)
{
        struct loop_state *state = http_loop_data(r->loop);
        unsigned char digest[32];
        struct cached_key *slot;

        key_digest(r->bearer, digest);
        slot = cache_slot(state, digest);
        if (memcmp(slot->digest, digest, 32) != 0 || slot->generation != r->api->keys_generation ||
            boot_now(r->api) - slot->checked > CACHE_AGE ||
            (slot->expires_at && slot->expires_at <= r->scope.now))
                return false;
        r->by = principal_dup(&r->scope.arena, &slot->by);
        return true;
}

static void to_cache(struct request *r)
{
        struct loop_state *state = http_loop_data(r->loop);
        unsigned char digest[32];
        struct cached_key *slot;
        struct arena *a;

        if (!r->bearer.n || !r->by.key || r->keys_generation != r->api->keys_generation)
                return;
        key_digest(r->bearer, digest);
        slot = cache_slot(state, digest);
        a = &slot->texts;
        arena_reset(a);
        memcpy(slot->digest, digest, 32);
        slot->by = r->by;
        slot->by.workspace = r->own_workspace;
        slot->by.idempotency_key = STR_NONE;
        slot->by = principal_dup(a, &slot->by);
        slot->expires_at = r->key_expires;
        slot->generation = r->keys_generation;
        slot->checked = boot_now(r->api);
}

static enum err default_workspace(struct tx *tx, struct principal *by)
{
        struct workspace w;
        struct principal all = { .all_workspaces = true };
        enum err e = workspace_get(tx, &all, STR("default"), &w);

        if (!e)
                by->workspace = w.id;
        return e;
}

static enum err authenticate(struct request *r, struct tx *tx)
{
        struct key key;
        enum err e;

        r->keys_generation = r->api->keys_generation;
        if (r->peer.local_socket && !r->bearer.n) {
                const struct api_options *o = &r->api->options;

                r->by = (struct principal){ .actor = arena_printf(&r->scope.arena, "human:%s",
                                                                  r->peer.uid ? o->owner : o->root),
                                            .origin = STR("uds:api"),
                                            .all_workspaces = true,
                                            .scopes = SCOPE_ALL };
                return default_workspace(tx, &r->by);
        }
        e = key_find(tx, r->bearer, &key);
        if (e)
                return e;
        r->by = (struct principal){ .actor = key.actor,
                                    .origin = STR("http:api"),
                                    .session_id = key.session_id,
                                    .agent_name = key.agent_name,
                                    .capabilities = key.capabilities,
                                    .caps_bound = key.capabilities.p != NULL,
                                    .workspace = key.workspace_id,
                                    .all_workspaces = !key.workspace_id.p,
                                    .scopes = (unsigned)key.scopes,
                                    .key = key.id };
        r->key_expires = key.expires_at;
        return r->by.all_workspaces ? default_workspace(tx, &r->by) : ERR_OK;
}

static enum err select_workspace(struct request *r, struct tx *tx)
{
        struct workspace w;
        enum err e;

        if (!r->workspace_header.p)
                return ERR_OK;
        e = workspace_get(tx, &r->by, r->workspace_header, &w);
        if (!e)
                r->by.workspace = w.id;
        return e;
}

static enum err permitted(struct request *r)
{
        const char *const *names = key_scope_names.text;

        for (unsigned i = 0; names[i]; i++)
                if ((r->route->scope >> i & 1) && !(r->by.scopes >> i & 1))
                        return fail(&r->scope, ERR_PERMISSION_DENIED,
                                    "this key lacks the scope %s", names[i]);
        return ERR_OK;
}

/* ---- query and body ---- */

static enum err parse_body(struct request *r)
{
        if (r->route->prepare)
                return r->route->prepare(r);
        if (!r->route->body)
                return ERR_OK;
        if (r->raw_body.n && r->content_type.n && !request_media_is(r, "application/json"))
                return fail(&r->scope, ERR_MEDIA_TYPE,
                            "send the body as Content-Type: application/json");
        r->body = arena_alloc(&r->scope.arena, r->route->body->size, 16);
        return json_read(&r->scope, r->raw_body, r->route->body, r->body);
}

static enum err parse(struct request *r)
{
        enum err e = r->parsed ? ERR_OK : request_read_query(r);

        if (!e && !r->parsed)
                e = parse_body(r);
        r->parsed = e == ERR_OK;
        return e;
}

/* ---- on a store thread ---- */

/* The reply as text; absent when it would be larger than REPLY_MAX. */
static struct str render(struct request *r)
{
        struct buf text = BUF_INIT(REPLY_MAX);
        struct json_out j = { .out = &text };
        struct str copy = STR_NONE;

        if (r->render)
                r->render(r, &j);
        else if (r->reply)
                json_record(&j, r->keeping && r->reply->base ? r->reply->base : r->reply, r->reply_value);
        if (!text.full)
                copy = str_dup(&r->scope.arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static enum err too_much(struct request *r)
{
        return fail_limit(&r->scope, "limit", ERR_TOO_LARGE, REPLY_MAX, REPLY_MAX + 1,
                          "bytes of one answer; ask for fewer items");
}

static struct str request_digest(struct request *r)
{
        crypto_hash_sha256_state state;
        unsigned char digest[32];

        crypto_hash_sha256_init(&state);
        crypto_hash_sha256_update(&state, (const unsigned char *)r->path.p, r->path.n);
        crypto_hash_sha256_update(&state, (const unsigned char *)"\n", 1);
        crypto_hash_sha256_update(&state, (const unsigned char *)r->query.p, r->query.n);
        crypto_hash_sha256_update(&state, (const unsigned char *)"\n", 1);
        if (r->route->prepare) /* bodies of several languages */
                crypto_hash_sha256_update(&state, (const unsigned char *)r->content_type.p,
                                          r->content_type.n);
        crypto_hash_sha256_update(&state, (const unsigned char *)r->raw_body.p, r->raw_body.n);
        crypto_hash_sha256_final(&state, digest);
        return str_dup(&r->scope.arena, (struct str){ (char *)digest, sizeof(digest) });
}

static struct str operation_of(struct request *r)
{
        struct str path = str_from(r->route->path);

        return r->route->method == HTTP_POST ?
                       path :
                       arena_printf(&r->scope.arena, "%s " STR_FMT, method_names[r->route->method],
                                    STR_ARG(path));
}

static enum err keep_answer(struct request *r, struct tx *tx, struct idempotency *record)
{
        bool secret = r->route->flags & ROUTE_SECRET;

        r->keeping = secret;
        record->response = render(r);
        r->keeping = false;
        if (!record->response.p)
                return too_much(r);
        record->status = r->status;
        r->kept_at = tx_now(tx);
        if (!secret) { /* else it is rendered once more, whole */
                r->text = record->response;
                r->text_type = "application/json";
        }
        return idempotency_keep(tx, &r->by, operation_of(r), r->idempotency_key, record);
}

static enum err answer_again(struct request *r, struct tx *tx, const struct idempotency *found)
{
        bool secret = r->route->flags & ROUTE_SECRET;

        r->status = (int)found->status;
        r->text = secret ? tokens_remake(tx, found->response) : found->response;
        r->text_type = "application/json";
        r->replayed = true;
        return secret ? idempotency_given_again(tx, &r->by, operation_of(r), r->idempotency_key) :
                        ERR_OK;
}

static enum err run_keyed(struct request *r, struct tx *tx)
{
        struct idempotency found, record = { .digest = request_digest(r) };
        enum err e = idempotency_find(tx, &r->by, operation_of(r), r->idempotency_key,
                                      record.digest, &found);

        /* Sent back for a run, and not going to look for one: the next in line shall. */
        if (e != ERR_EMPTY && r->claim.woken_by)
                tx_hint(tx, HINT_LANE, r->claim.woken_by, 0);
        if (e && e != ERR_EMPTY)
                return e;
        if (!e && found.status)
                return answer_again(r, tx, &found);
        r->begun = e ? STR_NONE : found.response;
        r->by.idempotency_key = r->idempotency_key;
        e = r->route->handle(r, tx);
        if (!e)
                return keep_answer(r, tx, &record);
        if (e != ERR_EMPTY || !r->begun.p)
                return e;
        record.response = r->begun;
        e = idempotency_keep(tx, &r->by, operation_of(r), r->idempotency_key, &record);
        return e ? e : ERR_EMPTY;
}

static enum err run(struct call *call, struct tx *tx)
{
        struct request *r = (struct request *)call;
        enum err e = ERR_OK;

        r->text = STR_NONE;
        r->replayed = false;
        if (!r->authenticated && r->route->mode != ROUTE_OPEN)
                e = authenticate(r, tx);
        if (!r->authenticated)
                r->own_workspace = r->by.workspace;
        if (!e && r->route->mode != ROUTE_OPEN)
                e = select_workspace(r, tx);
        if (!e && r->route->mode != ROUTE_OPEN)
                e = permitted(r);
        if (!e)
                e = parse(r);
        if (e)
                return e;
        if (r->idempotency_key.p)
                return run_keyed(r, tx);
        return r->route->handle(r, tx);
}

/* ---- back on the loop ---- */

static void request_free(struct request *r)
{
        scope_done(&r->scope);
        free(r);
}

static void reply(struct request *r)
{
        struct exchange *x = r->exchange;

        if (r->claim.call.result && r->claim.call.result != ERR_EMPTY) {
                if (!r->scope.fault.code)
                        fail(&r->scope, r->claim.call.result, "the request could not be served");
                exchange_fail(x, &r->scope.fault);
                return;
        }
        if (r->replayed)
                exchange_add_header(x, "Idempotency-Replayed", STR("true"));
        if (r->claim.call.result == ERR_EMPTY || r->status == 204) {
                exchange_reply(x, 204, "", STR(""));
                return;
        }
        if (!r->text.p)
                r->text = render(r);
        if (!r->text.p) {
                too_much(r);
                exchange_fail(x, &r->scope.fault);
                return;
        }
        exchange_reply(x, r->status, r->text_type ? r->text_type : "application/json", r->text);
}

static enum err run_undeliver(struct call *call, struct tx *tx)
{
        struct request *r = (struct request *)call;
        enum err e = r->kept_at ? idempotency_drop(tx, &r->by, operation_of(r), r->idempotency_key,
                                                   r->kept_at) :
                                  ERR_OK;

        /* Given again meanwhile, on another connection: there it may have been taken. */
        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        return r->undeliver(r, tx);
}

static void undelivered(struct call *call)
{
        request_free((struct request *)call);
}

/* Nobody is there to hear of it. */
static void abandon(struct request *r)
{
        r->claim.call.run = run_undeliver;
        r->claim.call.done = undelivered;
        if (r->claim.call.result || !r->undeliver ||
            !store_submit(r->api->options.store, &r->claim.call))
                request_free(r);
}

/* What was granted stays granted only if the client took the answer that says so. */
static void delivered(void *arg, bool taken)
{
        struct request *r = arg;

        if (taken && r->text.p)
                request_free(r);
        else
                abandon(r);
}

static void finish(struct http_task *task)
{
        struct request *r = (struct request *)(void *)((char *)task - offsetof(struct request, task));
        bool grants = r->undeliver && !r->claim.call.result;

        if (grants && r->exchange && exchange_client_left(r->exchange))
                exchange_close(r->exchange); /* and client_left() hears of it */
        if (!r->authenticated && !r->claim.call.result)
                to_cache(r);
        if (r->exchange && r->stream && !r->claim.call.result) {
                stream_begin(r); /* takes the request over */
                return;
        }
        if (!r->exchange) {
                stream_discard(r->stream);
                abandon(r);
                return;
        }
        stream_discard(r->stream);
        if (grants) {
                exchange_on_delivery(r->exchange, delivered, r);
                reply(r);
                return;
        }
        reply(r);
        request_free(r);
}

static void done(struct call *call)
{
        struct request *r = (struct request *)call;

        http_post(r->loop, &r->task);
}

static void client_left(struct exchange *x, void *arg)
{
        struct request *r = arg;

        (void)x;
        r->exchange = NULL;
        atomic_store(&r->claim.gone, true);
}

/* ---- entry ---- */

/* Those that the route reads. */
static enum err read_headers(struct request *r, struct exchange *x)
{
        for (size_t i = 0; i < REQUEST_HEADERS; i++) {
                const struct request_header *h = &request_headers[i];
                struct str *to = (struct str *)(void *)((char *)r + h->offset);

                if (!route_reads(r->route, h))
                        continue;
                *to = str_dup(&r->scope.arena, exchange_header(x, h->name));
                if (to->p && h->max && (to->n < 1 || to->n > h->max))
                        return fail_field(&r->scope, h->name, ERR_VALIDATION,
                                          "%s must have 1 to %zu bytes", h->name, h->max);
        }
        return ERR_OK;
}

static enum err read_bearer(struct request *r, struct exchange *x)
{
        struct str h = exchange_header(x, "authorization");

        if (str_is_nocase(str_slice(h, 0, 7), "Bearer "))
                r->bearer = str_dup(&r->scope.arena, str_trim(str_slice(h, 7, h.n)));
        if (r->bearer.n || r->route->mode == ROUTE_OPEN || (r->peer.local_socket && !h.n))
                return ERR_OK;
        return fail(&r->scope, ERR_UNAUTHENTICATED,
                    "the key is missing, unknown, expired or revoked");
}

static struct str without_port(struct str host)
{
        size_t colon;

        if (host.n && host.p[0] == '[')
                return str_slice(host, 0, str_find(host, ']', 0) + 1);
        colon = str_find(host, ':', 0);
        return str_slice(host, 0, colon);
}

static bool host_is_ours(const struct api *api, struct str host)
{
        static const char *const loopback[] = { "127.0.0.1", "localhost", "[::1]", "" };

        host = without_port(host);
        for (size_t i = 0; i < LENGTH(loopback); i++)
                if (str_is(host, loopback[i]))
                        return true;
        for (const char *const *h = api->options.hosts; h && *h; h++)
                if (str_is(host, *h))
                        return true;
        return false;
}

/* Loopback is no border: a page in somebody's browser reaches it too. */
static enum err check_source(struct request *r, struct exchange *x)
{
        struct str host = exchange_header(x, "host"), origin = exchange_header(x, "origin"), rest;

        if (r->peer.local_socket)
                return ERR_OK;
        if (!host_is_ours(r->api, host))
                return fail(&r->scope, ERR_HOST_DENIED,
                            "this server does not answer to that Host; allow it with --allow-host");
        if (!origin.p)
                return ERR_OK;
        str_cut(origin, '/', &rest);
        if (!str_starts(origin, "http://") && !str_starts(origin, "https://"))
                rest = STR_NONE;
        else
                rest = str_slice(rest, 1, rest.n);
        if (!rest.n || !str_eq(rest, host))
                return fail(&r->scope, ERR_ORIGIN_DENIED,
                            "requests from pages of another origin are refused");
        return ERR_OK;
}

static void read_request(struct request *r, struct exchange *x)
{
        const struct http_request *q = exchange_request(x);
        struct arena *a = &r->scope.arena;

        r->peer = q->peer;
        r->path = str_dup(a, q->path);
        r->query = str_dup(a, q->query);
        r->raw_body = str_dup(a, q->body);
        r->content_type = str_dup(a, exchange_header(x, "content-type"));
}

static enum err prepare(struct request *r, struct exchange *x)
{
        const struct http_request *q = exchange_request(x);
        char allow[128];
        enum err e;

        read_request(r, x);
        e = check_source(r, x);
        if (e)
                return e;
        r->route = find_route(q->method, r->path, r->params, allow, sizeof(allow));
        if (!r->route && allow[0]) {
                exchange_add_header(x, "Allow", str_from(allow));
                return fail(&r->scope, ERR_METHOD_NOT_ALLOWED, "this path allows %s", allow);
        }
        if (!r->route)
                return fail_missing(&r->scope, "route");
        e = read_bearer(r, x);
        if (!e)
                e = read_headers(r, x);
        if (!e && r->api->draining && r->route->mode == ROUTE_WRITE)
                e = fail(&r->scope, ERR_DRAINING, "the server is shutting down");
        if (e || r->route->mode == ROUTE_OPEN)
                return e;
        r->authenticated = r->bearer.n && from_cache(r);
        if (r->authenticated && !(e = permitted(r)))
                e = parse(r);
        return e;
}

void api_handle(void *app, struct exchange *x)
{
        struct request *r = xcalloc(1, sizeof(*r));
        struct api *api = app;

        scope_init(&r->scope, api->options.world);
        r->api = api;
        r->exchange = x;
        r->loop = exchange_loop(x);
        r->task.run = finish;
        r->claim.call = (struct call){ .run = run, .done = done, .scope = &r->scope };
        if (prepare(r, x)) {
                exchange_fail(x, &r->scope.fault);
                request_free(r);
                return;
        }
        r->claim.call.reads = r->route->mode != ROUTE_WRITE;
        r->claim.call.class = r->route->class;
        exchange_on_close(x, client_left, r);
        if (!store_submit(api->options.store, &r->claim.call)) {
                fail(&r->scope, ERR_OVERLOADED, "too many requests are waiting; try again");
                r->scope.fault.retry_after = 1;
                exchange_fail(x, &r->scope.fault);
                request_free(r);
        }
}
