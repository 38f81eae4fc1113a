#include "api/request.h"
#include "domain/scheduler.h"
#include "domain/sql.h"

static enum err get_live(struct request *r, struct tx *tx)
{
        (void)tx;
        r->status = 200;
        r->text = STR("{\"status\":\"ok\"}");
        return ERR_OK;
}

static enum err get_ready(struct request *r, struct tx *tx)
{
        struct store_stats stats;

        (void)tx;
        store_stats(api_options(r->api)->store, &stats);
        if (!stats.healthy)
                return fail(&r->scope, ERR_UNAVAILABLE, "the database cannot commit");
        r->status = 200;
        r->text = STR("{\"status\":\"ready\"}");
        return ERR_OK;
}

static enum err get_version(struct request *r, struct tx *tx)
{
        (void)tx;
        r->status = 200;
        r->text = arena_printf(&r->scope.arena, "{\"name\":\"baton\",\"version\":\"%s\"}",
                               api_options(r->api)->version);
        return ERR_OK;
}

static enum err get_metrics(struct request *r, struct tx *tx)
{
        const struct api_options *o = api_options(r->api);
        struct delivery_counts d = { .active = 0 };
        struct scheduler scheduler;
        struct store_stats s;
        int64_t pending = 0;
        enum err e = scheduler_get(tx, &scheduler);

        if (!e)
                e = tx_number(tx, SQL_DELIVERY_PENDING, &pending);
        if (e)
                return e;
        store_stats(o->store, &s);
        if (o->deliveries)
                d = o->deliveries(o->hooks);
        r->status = 200;
        r->text_type = "text/plain; version=0.0.4";
        r->text = arena_printf(
                &r->scope.arena,
                "# HELP baton_commits_total Transactions committed.\n"
                "# TYPE baton_commits_total counter\nbaton_commits_total %lld\n"
                "# HELP baton_calls_total Writing calls served.\n"
                "# TYPE baton_calls_total counter\nbaton_calls_total %lld\n"
                "# HELP baton_refused_total Writing calls refused.\n"
                "# TYPE baton_refused_total counter\nbaton_refused_total %lld\n"
                "# HELP baton_queued_calls Calls waiting for the writer.\n"
                "# TYPE baton_queued_calls gauge\nbaton_queued_calls %lld\n"
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
                (long long)s.queued, (long long)hub_count(o->hub), s.healthy,
                scheduler.paused, (long long)d.delivered, (long long)d.failed, (long long)d.dead,
                (long long)d.active, (long long)pending);
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

#define AT(member) offsetof(struct worker_info, member)
static const struct field worker_fields[] = {
        { "id", FIELD_STR, FIELD_WIRE, AT(id) },
        { "kind", FIELD_STR, FIELD_WIRE, AT(kind) },
        { "host", FIELD_STR, FIELD_WIRE, AT(host) },
        { "concurrency", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(concurrency) },
        { "active_runs", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(active_runs) },
        { "last_heartbeat_at", FIELD_TIME, FIELD_WIRE, AT(last_heartbeat_at) },
        { "sandbox", FIELD_JSON, FIELD_WIRE, AT(sandbox) },
};
static const struct record worker_record = { "Worker", worker_fields, LENGTH(worker_fields),
                                             sizeof(struct worker_info), -1 };

static enum err list_workers(struct request *r, struct tx *tx)
{
        const struct api_options *o = api_options(r->api);
        struct worker_info *worker = arena_new(&r->scope.arena, struct worker_info);
        bool there = o->worker && o->worker(o->hooks, &r->scope, worker);

        (void)tx;
        return request_reply_list(r, &worker_record, (struct list){ worker, there }, 1,
                                  offsetof(struct worker_info, active_runs));
}

const struct route ops_routes[] = {
        { HTTP_GET, "/livez", 0, ROUTE_OPEN, 0, NULL, NULL, get_live, 0, "The process lives" },
        { HTTP_GET, "/readyz", 0, ROUTE_OPEN, 0, NULL, NULL, get_ready, 0, "It can serve" },
        { HTTP_GET, "/healthz", 0, ROUTE_OPEN, 0, NULL, NULL, get_ready, 0, "It can serve (alias)" },
        { HTTP_GET, "/health", 0, ROUTE_OPEN, 0, NULL, NULL, get_ready, 0, "It can serve (alias)" },
        { HTTP_GET, "/v1/version", 0, ROUTE_OPEN, 0, NULL, NULL, get_version, 0, "Version" },
        { HTTP_GET, "/openapi.json", 0, ROUTE_OPEN, 0, NULL, NULL, get_openapi, 0,
          "This description" },
        { HTTP_GET, "/v1/workers", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &worker_record,
          list_workers, 0, "Workers" },
        { HTTP_GET, "/metrics", SCOPE_ADMIN, ROUTE_READ, 0, NULL, NULL, get_metrics, 0,
          "Prometheus metrics" },
        { 0 },
};
