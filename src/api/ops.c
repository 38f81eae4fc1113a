#include "api/request.h"
#include "domain/domain.h"
#include "domain/scheduler.h"
#include "domain/server.h"
#include "domain/sql.h"

/* Whether it lives, and what it is. */
struct answer {
        struct str status, name, version;
};
#define AT(member) offsetof(struct answer, member)
enum { GIVEN = FIELD_WIRE | FIELD_REQUIRED };
static const struct field health_fields[] = { { "status", FIELD_STR, GIVEN, AT(status) } };
static const struct field version_fields[] = {
        { "name", FIELD_STR, GIVEN, AT(name) },
        { "version", FIELD_STR, GIVEN, AT(version) },
};
static const struct record health_record = { "Health", health_fields, 1, sizeof(struct answer), -1 };
static const struct record version_record = { "ServerVersion", version_fields, 2,
                                              sizeof(struct answer), -1 };
/* No table says what the description of all tables is. */
static const struct record document_record = { "OpenApiDocument", NULL, 0, 0, -1 };

static enum err get_live(struct request *r, struct tx *tx)
{
        static const struct answer alive = { .status = STR("ok") };

        (void)tx;
        return request_reply(r, 200, &health_record, &alive);
}

static enum err get_ready(struct request *r, struct tx *tx)
{
        static const struct answer ready = { .status = STR("ready") };
        struct store_stats stats;

        (void)tx;
        store_stats(api_options(r->api)->store, &stats);
        if (!stats.healthy)
                return fail(&r->scope, ERR_UNAVAILABLE, "the database cannot commit");
        return request_reply(r, 200, &health_record, &ready);
}

static enum err get_version(struct request *r, struct tx *tx)
{
        struct answer *a = arena_new(&r->scope.arena, struct answer);

        (void)tx;
        a->name = STR("baton");
        a->version = str_from(api_options(r->api)->version);
        return request_reply(r, 200, &version_record, a);
}

/* A histogram as Prometheus counts it: each bucket holds those before. */
static struct str turn_metrics(struct arena *arena, const struct store_stats *s)
{
        struct buf text = BUF_INIT(1 << 16);
        int64_t n = 0;
        struct str copy;

        buf_text(&text, "# HELP baton_writer_turn_seconds How long a turn held the writer, with its commit.\n"
                        "# TYPE baton_writer_turn_seconds histogram\n");
        for (size_t i = 0; i < TURN_BOUNDS; i++) {
                n += s->turns[i];
                buf_printf(&text, "baton_writer_turn_seconds_bucket{le=\"%g\"} %lld\n", (double)store_turn_bounds[i] / 1e6,
                           (long long)n);
        }
        n += s->turns[TURN_BOUNDS];
        buf_printf(&text,
                   "baton_writer_turn_seconds_bucket{le=\"+Inf\"} %lld\nbaton_writer_turn_seconds_sum %.6f\n"
                   "baton_writer_turn_seconds_count %lld\n",
                   (long long)n, (double)s->turns_us / 1e6, (long long)n);
        copy = str_dup(arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static enum err get_metrics(struct request *r, struct tx *tx)
{
        const struct api_options *o = api_options(r->api);
        struct delivery_counts d = { .active = 0 };
        struct bus_stats bus;
        struct scheduler scheduler;
        struct store_stats s;
        struct str turns;
        int64_t pending = 0;
        enum err e = scheduler_get(tx, &scheduler);

        if (!e)
                e = tx_number(tx, SQL_DELIVERY_PENDING, &pending);
        if (e)
                return e;
        store_stats(o->store, &s);
        turns = turn_metrics(&r->scope.arena, &s);
        if (o->deliveries)
                d = o->deliveries(o->hooks);
        r->status = 200;
        r->text_type = r->route->text;
        r->text = arena_printf(
                &r->scope.arena,
                "# HELP baton_commits_total Transactions committed.\n"
                "# TYPE baton_commits_total counter\nbaton_commits_total %lld\n"
                "# HELP baton_calls_total Writing calls served.\n"
                "# TYPE baton_calls_total counter\nbaton_calls_total %lld\n"
                "# HELP baton_refused_total Writing calls refused.\n"
                "# TYPE baton_refused_total counter\nbaton_refused_total %lld\n"
                "# HELP baton_queued_calls Calls waiting for the writer.\n"
                "# TYPE baton_queued_calls gauge\nbaton_queued_calls %lld\n" STR_FMT
                "# HELP baton_subscriptions Open event streams.\n"
                "# TYPE baton_subscriptions gauge\nbaton_subscriptions %lld\n"
                "# HELP baton_store_healthy 1 if the database can commit.\n"
                "# TYPE baton_store_healthy gauge\nbaton_store_healthy %d\n"
                "# HELP baton_scheduler_paused 1 if no run is handed out.\n"
                "# TYPE baton_scheduler_paused gauge\nbaton_scheduler_paused %d\n"
                "# HELP baton_webhook_attempts_total Requests sent to webhooks.\n"
                "# TYPE baton_webhook_attempts_total counter\n"
                "baton_webhook_attempts_total{result=\"delivered\"} %lld\n"
                "baton_webhook_attempts_total{result=\"failed\"} %lld\n"
                "# HELP baton_webhook_dead_total Deliveries given up.\n"
                "# TYPE baton_webhook_dead_total counter\nbaton_webhook_dead_total %lld\n"
                "# HELP baton_webhook_active Requests to webhooks under way.\n"
                "# TYPE baton_webhook_active gauge\nbaton_webhook_active %lld\n"
                "# HELP baton_webhook_pending Deliveries that wait for their next attempt.\n"
                "# TYPE baton_webhook_pending gauge\nbaton_webhook_pending %lld\n",
                (long long)s.commits, (long long)s.calls, (long long)s.refused,
                (long long)s.queued, STR_ARG(turns), (long long)hub_count(o->hub), s.healthy,
                scheduler.paused, (long long)d.delivered, (long long)d.failed, (long long)d.dead,
                (long long)d.active, (long long)pending);
        if (o->bus && o->bus(o->hooks, &bus))
                r->text = arena_printf(
                        &r->scope.arena,
                        STR_FMT "# HELP baton_bus_up 1 if other servers hear at once what happens here.\n"
                        "# TYPE baton_bus_up gauge\nbaton_bus_up %d\n"
                        "# HELP baton_bus_texts_total Texts with hints to and from other servers.\n"
                        "# TYPE baton_bus_texts_total counter\n"
                        "baton_bus_texts_total{direction=\"sent\"} %lld\n"
                        "baton_bus_texts_total{direction=\"received\"} %lld\n",
                        STR_ARG(r->text), bus.up, (long long)bus.sent, (long long)bus.received);
        return ERR_OK;
}

static void render_openapi(struct request *r, struct json_out *j)
{
        (void)r;
        openapi_print(j);
}

static enum err get_openapi(struct request *r, struct tx *tx)
{
        (void)tx;
        r->status = 200;
        r->render = render_openapi;
        return ERR_OK;
}

#undef AT
#define AT(member) offsetof(struct worker_info, member)
static const struct field worker_fields[] = {
        { "id", FIELD_STR, GIVEN, AT(id) },
        { "kind", FIELD_STR, GIVEN, AT(kind) },
        { "host", FIELD_STR, GIVEN, AT(host) },
        { "concurrency", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(concurrency) },
        { "active_runs", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(active_runs) },
        { "last_heartbeat_at", FIELD_TIME, GIVEN, AT(last_heartbeat_at) },
        { "sandbox", FIELD_JSON, FIELD_WIRE, AT(sandbox), "object" },
        { "volume", FIELD_STR, FIELD_WIRE, AT(volume) },
};
static const struct record worker_record = { "Worker", worker_fields, LENGTH(worker_fields),
                                             sizeof(struct worker_info), -1 };

/* This server's own, and those of the others on its database. */
static enum err list_workers(struct request *r, struct tx *tx)
{
        const struct api_options *o = api_options(r->api);
        const struct domain *domain = tx_context(tx);
        const struct server_row *server;
        struct worker_info own = { 0 }, *workers;
        struct list found, out = { .n = 0 };
        enum err e = servers_working(tx, &found);

        if (e)
                return e;
        out.items = workers = arena_array(&r->scope.arena, struct worker_info, found.n + 1);
        server = found.items;
        if (o->worker && o->worker(o->hooks, &r->scope, &own) && !found.n)
                workers[out.n++] = own;
        for (size_t i = 0; i < found.n; i++)
                workers[out.n++] = (struct worker_info){
                        .id = server[i].number ? arena_printf(&r->scope.arena, "worker_%lld", (long long)server[i].number) :
                                                 STR("worker_embedded"),
                        .kind = STR("worker"),
                        .host = server[i].host,
                        .concurrency = server[i].worker,
                        .active_runs = server[i].active,
                        .last_heartbeat_at = server[i].seen_at,
                        .sandbox = server[i].number == domain->number ? own.sandbox : STR_NONE,
                        .volume = server[i].volume,
                };
        return request_reply_part(r, &worker_record, out);
}

const struct route ops_routes[] = {
        { HTTP_GET, "/livez", 0, ROUTE_OPEN, 0, NULL, &health_record, get_live, 0, "The process lives" },
        { HTTP_GET, "/readyz", 0, ROUTE_OPEN, 0, NULL, &health_record, get_ready, 0, "It can serve" },
        { HTTP_GET, "/healthz", 0, ROUTE_OPEN, 0, NULL, &health_record, get_ready, 0, "It can serve (alias)" },
        { HTTP_GET, "/health", 0, ROUTE_OPEN, 0, NULL, &health_record, get_ready, 0, "It can serve (alias)" },
        { HTTP_GET, "/v1/version", 0, ROUTE_OPEN, 0, NULL, &version_record, get_version, 0, "Version" },
        { HTTP_GET, "/openapi.json", 0, ROUTE_OPEN, 0, NULL, &document_record, get_openapi, 0,
          "This description" },
        { HTTP_GET, "/v1/workers", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &worker_record,
          list_workers, 0, "Workers", .filter = &page_filter_record },
        { HTTP_GET, "/metrics", SCOPE_ADMIN, ROUTE_READ, 0, NULL, NULL, get_metrics, 0,
          "Prometheus metrics", .text = "text/plain; version=0.0.4" },
        { 0 },
};
