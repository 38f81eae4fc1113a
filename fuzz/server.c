#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/cascade.h"
#include "domain/definition.h"
#include "domain/delivery.h"
#include "domain/event.h"
#include "domain/key.h"
#include "domain/log_line.h"
#include "domain/migrations.h"
#include "domain/scheduler.h"
#include "domain/search.h"
#include "domain/sql.h"
#include "flow/plan.h"
#include "fuzz.h"

enum { TURNS_MAX = 10000, LEASE = 90, SERVED_MAX = 500 };

/* ---- between two inputs ---- */

static const struct statement emptying[] = {
        { "tables that are unknown here",
          "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT IN ('approval', 'audit', 'cascade',"
          " 'definition', 'deleted_task', 'delivery', 'dependency', 'definition_reference', 'definition_version', 'deleted_tree', 'drain', 'event', 'force_use', 'idempotency',"
          " 'join_point', 'key', 'lane', 'log_line', 'migration', 'name', 'ready', 'review', 'run', "
          "'server', 'setting', 'execution_profile',"
          " 'scheduler_pause', 'searched', 'secret', 'step', 'task', 'task_input', 'task_text', 'task_text_config', 'task_text_data',"
          " 'task_text_idx', 'triage', 'webhook', 'workspace')" },
        { "approval", "DELETE FROM approval" },
        { "audit", "DELETE FROM audit" },
        { "its head", "DELETE FROM setting WHERE name = 'audit_head'" },
        { "cascade", "DELETE FROM cascade" },
        { "texts", "INSERT INTO task_text (task_text) VALUES ('delete-all')" },
        { "how many of them", "UPDATE searched SET upto = 0" },
        { "definition", "DELETE FROM definition" },
        { "deleted_task", "DELETE FROM deleted_task" },
        { "delivery", "DELETE FROM delivery" },
        { "dependency", "DELETE FROM dependency" },
        { "definition_reference", "DELETE FROM definition_reference" },
        { "definition_version", "DELETE FROM definition_version" },
        { "drain", "DELETE FROM drain" },
        { "deleted_tree", "DELETE FROM deleted_tree" },
        { "event", "DELETE FROM event" },
        { "execution_profile", "DELETE FROM execution_profile" },
        { "force_use", "DELETE FROM force_use" },
        { "idempotency", "DELETE FROM idempotency" },
        { "join_point", "DELETE FROM join_point" },
        { "key", "DELETE FROM key WHERE name <> 'admin'" },
        { "the administrator's", "UPDATE key SET revoked_at = NULL" },
        { "log_line", "DELETE FROM log_line" },
        { "ready", "DELETE FROM ready" },
        { "review", "DELETE FROM review" },
        { "run", "DELETE FROM run" },
        { "scheduler_pause", "DELETE FROM scheduler_pause" },
        { "secret", "DELETE FROM secret" },
        { "step", "DELETE FROM step" },
        { "task", "DELETE FROM task" },
        { "task_input", "DELETE FROM task_input" },
        { "triage", "DELETE FROM triage" },
        { "webhook", "DELETE FROM webhook" },
        { "workspace", "DELETE FROM workspace WHERE slug NOT IN ('default', 'system')" },
};

static enum err empty(struct tx *tx, void *arg)
{
        int64_t unknown;

        (void)arg;
        MUST(!tx_number(tx, SQL_COUNT, &unknown) && unknown == 0);
        for (int i = 1; i < (int)LENGTH(emptying); i++)
                MUST(!tx_write(tx, SQL_COUNT + i, NULL, NULL, 0));
        MUST(!cascade_load(tx) && !search_load(tx));
        return scheduler_load(tx);
}

/* ---- invariants ---- */

/* Each counts the rows that break it. */
static const struct statement invariants[] = {
#define INVARIANT(sentence, text) { sentence, text },
#include "domain/invariant.def"
#undef INVARIANT
        { "events of a tree are numbered from 1 unless retention has begun to delete it",
          "SELECT count(*) FROM (SELECT 1 FROM event GROUP BY tree_id HAVING min(seq) <> 1 AND NOT EXISTS"
          " (SELECT 1 FROM workspace WHERE retention_seconds > 0))" },
        { "a tree has events, and events have a tree or end with its deletion",
          "SELECT count(*) + (SELECT count(*) FROM event AS last WHERE tree_id NOT IN (SELECT tree_id"
          " FROM task) AND tree_id <> 0 AND type <> 44 AND seq = (SELECT max(seq) FROM event WHERE tree_id ="
          " last.tree_id)) FROM task WHERE tree_id NOT IN (SELECT tree_id FROM event)" },
        { "a canceled task has no open run",
          "SELECT count(*) FROM run WHERE ended_at IS NULL AND task_id IN"
          " (SELECT id FROM task WHERE status = 7)" },
        { "nothing lives below a run that has ended",
          "SELECT count(*) FROM run AS child JOIN run AS parent ON parent.id = child.parent_run_id"
          " WHERE child.ended_at IS NULL AND parent.ended_at IS NOT NULL" },
        { "a task says in progress if and only if its root run is under way",
          "SELECT count(*) FROM task WHERE (status = 4) <> EXISTS (SELECT 1 FROM run WHERE"
          " task_id = task.id AND kind = 0 AND status BETWEEN 2 AND 8)" },
        { "a task counts its children",
          "SELECT count(*) FROM task WHERE child_count <> (SELECT count(*) FROM task AS child WHERE"
          " child.parent_task_id = task.id)" },
        { "a task counts the prerequisites that hold it up",
          "SELECT count(*) FROM task WHERE unmet_deps <> (SELECT count(*) FROM dependency JOIN task"
          " AS needed ON needed.id = depends_on_task_id WHERE dependency.task_id = task.id AND"
          " needed.status <> 5 AND NOT (on_failure = 1 AND needed.status IN (6, 7)))" },
        { "a task counts those that wait for it",
          "SELECT count(*) FROM task WHERE dependent_count <> (SELECT count(*) FROM dependency WHERE"
          " depends_on_task_id = task.id)" },
        { "a queued run is held if and only if its task is blocked or paused",
          "SELECT count(*) FROM run JOIN task ON task.id = task_id WHERE run.status = 0 AND"
          " (run.hold & 3) <> ((run.kind = 0 AND (unmet_deps > 0 OR (approval_policy > 0 AND"
          " approval_state <> 2))) | (paused_n > 0) * 2)" },
        { "attempts of a task are numbered and counted",
          "SELECT count(*) FROM task WHERE attempts <> (SELECT coalesce(max(attempt), 0) FROM run"
          " WHERE task_id = task.id AND kind = 0)" },
        { "a rule of claims comes from a profile, and a profile belongs to a task",
          "SELECT count(*) + (SELECT count(*) FROM execution_profile WHERE task_id NOT IN (SELECT id"
          " FROM task)) FROM task WHERE claim_rule IS NOT NULL AND id NOT IN (SELECT task_id FROM"
          " execution_profile)" },
        { "who waits for children has some that are open",
          "SELECT count(*) FROM run WHERE status IN (6, 7) AND NOT EXISTS (SELECT 1 FROM run AS "
          "child"
          " WHERE child.parent_run_id = run.id AND child.ended_at IS NULL)" },
        { "who waits for an approval has an open one",
          "SELECT count(*) FROM run WHERE status = 4 AND NOT EXISTS (SELECT 1 FROM approval WHERE"
          " run_id = run.id AND status = 0)" },
        { "nobody waits for an input that is there",
          "SELECT count(*) FROM run JOIN step ON step.run_id = run.id AND step.step_index = current_step JOIN"
          " task_input AS i ON i.task_id = run.task_id WHERE run.status = 5 AND i.status = 0"
          " AND i.name IS json_extract(step.input, '$.name')" },
        { "an input belongs to a task, and was taken, if it was, by a run of it",
          "SELECT count(*) FROM task_input AS i WHERE task_id NOT IN (SELECT id FROM task) OR"
          " (status = 1) <> (consumed_at IS NOT NULL) OR (status = 1) <> EXISTS (SELECT 1 FROM run"
          " WHERE id = run_id AND run.task_id = i.task_id)" },
        { "a step took one input at most",
          "SELECT count(*) FROM (SELECT 1 FROM task_input JOIN run ON run.id = run_id WHERE"
          " executor = 1 GROUP BY run_id, step_index HAVING count(*) > 1)" },
        { "a task waits for a review of its newest run, which is open unless the circuit is",
          "SELECT count(*) FROM task WHERE review_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM review WHERE"
          " id = review_id AND run_id = last_run_id AND (status < 2) = (review_circuit_at IS NULL))" },
        { "a task says in review if and only if it waits for one",
          "SELECT count(*) FROM task WHERE status <> 7 AND (status = 8) <> (review_id IS NOT NULL AND"
          " review_circuit_at IS NULL)" },
        { "a session judges one run at a time, and only what is under review is given to one",
          "SELECT count(*) FROM review WHERE (status = 0 AND session_id IS NOT NULL) OR (status = 1 AND"
          " reviewer IS NULL)" },
        { "a rejection has a continuation or says why it has none",
          "SELECT count(*) FROM review WHERE (status = 2 AND outcome = 2) <> (continuation_run_id IS NOT NULL"
          " OR no_continuation IS NOT NULL)" },
        { "no step is under way in a run that has ended",
          "SELECT count(*) FROM step JOIN run ON run.id = run_id WHERE step.ended_at IS NULL"
          " AND step.started_at IS NOT NULL AND run.ended_at IS NOT NULL" },
        { "nothing is left of a workspace that was purged",
          "SELECT count(*) FROM workspace WHERE purged_at IS NOT NULL AND (EXISTS (SELECT 1 FROM task"
          " WHERE workspace_id = workspace.id) OR EXISTS (SELECT 1 FROM run WHERE workspace_id ="
          " workspace.id) OR EXISTS (SELECT 1 FROM key WHERE workspace_id = workspace.id))" },
        { "pieces of a log follow each other",
          "SELECT count(*) FROM log_line AS a WHERE position <> (SELECT coalesce(sum(length("
          "CAST(text AS BLOB))), 0) FROM log_line AS b WHERE b.run_id = a.run_id AND b.position <"
          " a.position)" },
        { "a delivery waits for an attempt, or has ended",
          "SELECT count(*) FROM delivery WHERE (status = 0) <> (next_attempt_at IS NOT NULL)"
          " OR (status = 0) <> (finished_at IS NULL) OR NOT json_valid(body)" },
        { "a webhook is sent an event once",
          "SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT webhook_id, tree_id, sequence"
          " FROM delivery)) FROM delivery" },
        { "a webhook that wants all has a delivery of every event that it has passed",
          "SELECT count(*) FROM event JOIN task ON task.id = coalesce(task_id, event.tree_id) JOIN"
          " webhook AS w ON w.workspace_id = task.workspace_id WHERE w.events IS NULL AND w.enabled = 1"
          " AND w.updated_at = w.created_at AND event.at > w.created_at AND pos <= w.cursor AND NOT"
          " EXISTS (SELECT 1 FROM delivery WHERE webhook_id = w.id AND tree_id = event.tree_id"
          " AND sequence = seq)" },
};

/* As the deliverer does, but in one transaction. */
static void make_deliveries(struct tx *tx)
{
        struct list found = { .n = 1 };
        struct lookout lookout = { 0 };

        while (found.n || lookout.more) {
                MUST(!deliveries_find(tx, &lookout, &found));
                MUST(!deliveries_make(tx, found));
        }
        lookout_free(&lookout);
}

static enum err check(struct tx *tx, void *arg)
{
        (void)arg;
        make_deliveries(tx);
        for (size_t i = 0; i < LENGTH(invariants); i++) {
                int64_t broken = 0;

                MUST(!tx_numbers(tx, SQL_COUNT + (int)(LENGTH(emptying) + i), &broken, 1, NULL, 0));
                if (broken) {
                        fprintf(stderr, "%lld rows break: %s\n", (long long)broken,
                                invariants[i].name);
                        bug(__FILE__, __LINE__, "an invariant does not hold");
                }
        }
        return ERR_OK;
}

void server_check(struct server *s)
{
        struct scope scope;

        scope_init(&scope, &fuzz_world);
        MUST(!store_run(s->store, &scope, check, NULL));
        scope_done(&scope);
}

struct newest {
        int64_t tree, event;
};

static enum err find_newest(struct tx *tx, void *arg)
{
        struct newest *n = arg;

        return events_head(tx, n->tree, &n->event);
}

int64_t server_newest_event(struct server *s, int64_t tree)
{
        struct newest n = { .tree = tree };
        struct scope scope;

        scope_init(&scope, &fuzz_world);
        MUST(!store_run(s->store, &scope, find_newest, &n));
        scope_done(&scope);
        return n.event;
}

/* ---- connections: what http/exchange.h says ---- */

void http_post(struct http_loop *loop, struct http_task *task)
{
        task->next = NULL;
        *loop->last = task;
        loop->last = &task->next;
}

void *http_loop_data(struct http_loop *loop)
{
        return loop->data;
}

void http_loop_every(struct http_loop *loop, int ms, void (*run)(void *), void *arg)
{
        MUST(ms > 0 && !loop->every);
        loop->every = run;
        loop->every_arg = arg;
}

const struct http_request *exchange_request(const struct exchange *x)
{
        return &x->request;
}

struct http_loop *exchange_loop(const struct exchange *x)
{
        return x->loop;
}

struct str exchange_header(const struct exchange *x, const char *name)
{
        return head_find(&x->head, name);
}

void exchange_on_close(struct exchange *x, void (*closed)(struct exchange *, void *), void *arg)
{
        x->closed = closed;
        x->closed_arg = arg;
}

bool exchange_client_left(const struct exchange *x)
{
        return x->over; /* here a client that left is told of at once */
}

void exchange_close(struct exchange *x)
{
        (void)x;
        MUST(false);
}

void exchange_on_delivery(struct exchange *x, void (*delivered)(void *, bool), void *arg)
{
        MUST(!x->status && !x->delivered);
        x->delivered = delivered;
        x->delivered_arg = arg;
}

void exchange_add_header(struct exchange *x, const char *name, struct str value)
{
        MUST(!x->status && name[0] && !memchr(value.p, '\r', value.n) &&
             !memchr(value.p, '\n', value.n));
}

static void end(struct exchange *x)
{
        x->over = true;
        x->closed = NULL;
        x->request = (struct http_request){ 0 };
        scope_reset(&x->scope);
}

void exchange_reply(struct exchange *x, int status, const char *type, struct str body)
{
        MUST(!x->status && status >= 200 && status < 600);
        MUST((status == 204) == (type[0] == '\0') && (status != 204 || body.n == 0));
        x->status = status;
        snprintf(x->type, sizeof(x->type), "%s", type);
        buf_str(&x->answer, body);
        end(x);
}

void exchange_fail(struct exchange *x, const struct fault *fault)
{
        struct json_out j = { .out = &x->answer };

        MUST(fault->code > ERR_EMPTY && fault->code < ERR_COUNT && fault->detail.n);
        MUST(!x->status);
        json_problem(&j, fault, x->request.path);
        x->status = err_http_status(fault->code);
        snprintf(x->type, sizeof(x->type), "application/problem+json");
        end(x);
}

void exchange_stream_begin(struct exchange *x, const char *type)
{
        MUST(!x->status);
        x->status = 200;
        x->stream = true;
        snprintf(x->type, sizeof(x->type), "%s", type);
}

size_t exchange_stream_write(struct exchange *x, struct str bytes)
{
        MUST(x->stream && !x->over);
        buf_str(&x->answer, bytes);
        return 0; /* the client reads as fast as is written */
}

void exchange_stream_on_drain(struct exchange *x, void (*drained)(struct exchange *, void *),
                              void *arg)
{
        (void)x, (void)drained, (void)arg;
}

void exchange_stream_end(struct exchange *x)
{
        MUST(x->stream && !x->over);
        end(x);
}

/* ---- clients ---- */

struct exchange *server_request(struct server *s, struct str text, struct str body)
{
        struct exchange *x = xcalloc(1, sizeof(*x));
        struct str query, copy;

        x->loop = &s->loop;
        x->answer = BUF_INIT(64 << 20);
        scope_init(&x->scope, &fuzz_world);
        x->next = s->exchanges;
        s->exchanges = x;
        copy = arena_printf(&x->scope.arena, STR_FMT "\r\n", STR_ARG(text));
        if (head_parse(&x->scope, str_c(&x->scope.arena, copy), copy.n, &x->head)) {
                exchange_fail(x, &x->scope.fault);
                return x;
        }
        x->request = (struct http_request){ .method = x->head.method,
                                            .method_text = x->head.method_text,
                                            .path = str_cut(x->head.target, '?', &query),
                                            .body = str_dup(&x->scope.arena, body) };
        x->request.query = query.p ? query : STR("");
        if (body.n > api_body_limit(s->api, x->head.method, x->request.path)) {
                fail(&x->scope, ERR_TOO_LARGE, "the body is too large");
                exchange_fail(x, &x->scope.fault);
                return x;
        }
        api_handle(s->api, x);
        return x;
}

static void settle(struct exchange *x, bool taken)
{
        void (*delivered)(void *, bool) = x->delivered;

        x->delivered = NULL;
        if (delivered)
                delivered(x->delivered_arg, taken);
}

void server_abandon(struct server *s, struct exchange *x)
{
        (void)s;
        settle(x, false);
        if (!x->over && x->closed)
                x->closed(x, x->closed_arg);
        if (!x->over)
                end(x);
}

void server_forget(struct server *s, struct exchange *x)
{
        struct exchange **link = &s->exchanges;

        MUST(x->over);
        settle(x, true);
        while (*link != x)
                link = &(*link)->next;
        *link = x->next;
        buf_done(&x->answer);
        scope_done(&x->scope);
        free(x);
}

/* ---- turns ---- */

static bool run_posted(struct http_loop *loop)
{
        struct http_task *task = loop->first;

        if (!task)
                return false;
        loop->first = task->next;
        if (!loop->first)
                loop->last = &loop->first;
        task->run(task);
        return true;
}

void server_settle(struct server *s)
{
        int turns = 0;

        while (run_posted(&s->loop) || writer_turn(s->store))
                MUST(++turns < TURNS_MAX);
}

void server_jump(struct server *s, int64_t seconds)
{
        fuzz_clock_move(seconds * US_PER_S);
        s->loop.every(s->loop.every_arg);
        server_settle(s);
}

void server_wait(struct server *s, int64_t seconds)
{
        for (int64_t i = 0; i < seconds; i++)
                server_jump(s, 1);
}

struct operation {
        struct call call;
        enum err (*run)(struct tx *, void *);
        void *arg;
        bool over;
};

static enum err run_operation(struct call *call, struct tx *tx)
{
        struct operation *o = (struct operation *)call;

        return o->run(tx, o->arg);
}

static void operation_done(struct call *call)
{
        ((struct operation *)call)->over = true;
}

enum err server_run(struct server *s, struct scope *scope, enum err (*run)(struct tx *, void *),
                    void *arg)
{
        struct operation o = {
                .call = { .run = run_operation, .done = operation_done, .scope = scope },
                .run = run,
                .arg = arg
        };

        MUST(store_submit(s->store, &o.call));
        server_settle(s);
        MUST(o.over);
        return o.call.result;
}

/* ---- the worker ---- */

static const struct principal worker = { .actor = { "daemon:worker", 13 },
                                         .origin = { "daemon:worker", 13 },
                                         .all_workspaces = true,
                                         .scopes = SCOPE_RUNS_CLAIM | SCOPE_WORKER };

struct job {
        struct list claims;
        struct snapshot snapshot;
        struct definition_row row;
        struct advance advance;
        struct run run;
        struct fence fence;
        int64_t step;
        struct str text;
};

static enum err take(struct tx *tx, void *arg)
{
        struct claim_request request = { .criteria = { .executor = EXECUTOR_WORKER },
                                         .lease_seconds = LEASE,
                                         .max = 1 };
        struct job *job = arg;
        struct claim *claim;
        enum err e = claim_next(tx, &worker, &request, &job->claims);

        if (e)
                return e;
        claim = job->claims.items;
        job->fence = fence_of(&worker, claim->token);
        job->row = (struct definition_row){ .id = claim->run->definition_id };
        e = snapshot_read(tx, claim->run, claim->task, &job->snapshot);
        return e ? e : definition_document(tx, &job->row, claim->run->definition_version);
}

static enum err apply(struct tx *tx, void *arg)
{
        struct job *job = arg;

        return run_advance(tx, &job->advance, &job->run);
}

static enum err add_log(struct tx *tx, void *arg)
{
        struct job *job = arg;

        return log_append(tx, &job->fence, job->run.id, job->step, 1, job->text);
}

static enum err plan_and_apply(struct server *s, struct scope *scope, struct job *job,
                               struct progress *progress, const struct performed *done,
                               struct plan *plan)
{
        enum err e;

        plan_next(scope, progress, done, plan);
        for (;;) {
                int64_t at = job->snapshot.run->current_step;

                job->advance = plan->advance;
                job->advance.fence = job->fence;
                e = server_run(s, scope, apply, job);
                if (!e) {
                        *job->snapshot.run = job->run;
                        job->snapshot.run->current_step = at;
                }
                if (e != ERR_NOT_FOUND && e != ERR_GRAPH_LIMIT && e != ERR_VALIDATION)
                        return e;
                plan_refused(scope, progress, scope->fault.detail, plan);
        }
}

void server_work(struct server *s, int steps, struct str output, bool fails)
{
        struct scope scope;
        struct job job = { .text = output };
        struct definition *definition;
        struct progress progress;
        struct plan plan;
        struct performed done = { .outcome = fails ? OUTCOME_FAILED : OUTCOME_OK,
                                  .message = STR("it did not work") };
        enum err e;

        scope_init(&scope, &fuzz_world);
        e = server_run(s, &scope, take, &job);
        MUST(!e || e == ERR_EMPTY);
        if (!e)
                e = definition_load(&scope, job.row.spec, &definition);
        /* What was stored can be loaded; the input may still be one that its schema refuses. */
        MUST(!e || e == ERR_EMPTY);
        if (!e && !progress_init(&scope, definition, &job.snapshot, &progress)) {
                done.output = value_from_text(&scope, output);
                e = plan_and_apply(s, &scope, &job, &progress, NULL, &plan);
                for (int i = 0; !e && plan.perform && i < steps; i++) {
                        job.step = plan.perform->index;
                        MUST(!server_run(s, &scope, add_log, &job));
                        e = plan_and_apply(s, &scope, &job, &progress, &done, &plan);
                }
                MUST(!e);
        }
        scope_done(&scope);
}

/* ---- life ---- */

static enum err usage(void *context, struct scope *scope, const struct workspace *w, int64_t *bytes, int64_t *files)
{
        (void)context, (void)scope, (void)w;
        *bytes = *files = 0;
        return ERR_OK;
}

/* In place of the asker: every policy narrows. */
static void answer_policy(void *server, struct claim_call *c)
{
        c->policy = (struct policy){ .state = POLICY_ALLOWS,
                                     .priority_min = PRIORITY_MEDIUM,
                                     .capabilities = STR("a,b"),
                                     .narrows = true };
        store_resubmit(((struct server *)server)->store, &c->call);
}

static struct server *open_server(void)
{
        struct server *s = xcalloc(1, sizeof(*s));
        struct statement statements[SQL_COUNT + LENGTH(emptying) + LENGTH(invariants)];
        struct store_options options = { .path = ":memory:",
                                         .world = &fuzz_world,
                                         .statements = statements,
                                         .n_statements = LENGTH(statements),
                                         .migrations = migrations,
                                         .n_migrations = migrations_n };
        struct api_options api = { .world = &fuzz_world, .version = "fuzz", .root = "root", .owner = "owner",
                                   .usage = usage, .max_streams = 16 };
        struct str secret;

        memcpy(statements, domain_statements, sizeof(domain_statements));
        memcpy(statements + SQL_COUNT, emptying, sizeof(emptying));
        memcpy(statements + SQL_COUNT + LENGTH(emptying), invariants, sizeof(invariants));
        scope_init(&s->scope, &fuzz_world);
        hooks_open(&s->hooks, &fuzz_world, &s->store);
        s->hooks.asker = s;
        s->hooks.ask = answer_policy;
        hooks_set(&s->hooks, &options);
        api.hub = s->hooks.hub;
        api.definitions = s->definitions = definition_cache_new(&fuzz_world);
        MUST(!store_open(&s->scope, &options, &s->store));
        MUST(!store_run(s->store, &s->scope, domain_boot, s->hooks.domain));
        MUST(!store_run(s->store, &s->scope, key_create_admin, &secret));
        snprintf(s->key, sizeof(s->key), STR_FMT, STR_ARG(secret));
        api.store = s->store;
        s->api = api_new(&api);
        s->hooks.keys_changed = api_keys_changed;
        s->hooks.keys = s->api;
        s->loop.last = &s->loop.first;
        s->loop.data = api_loop_start(s->api, &s->loop);
        return s;
}

static void close_server(struct server *s)
{
        api_loop_stop(s->api, s->loop.data);
        api_free(s->api);
        store_close(s->store);
        definition_cache_free(s->definitions);
        hooks_close(&s->hooks);
        scope_done(&s->scope);
        free(s);
}

struct server *server_begin(void)
{
        static struct server *server;
        struct scope scope;

        if (server && ++server->inputs > SERVED_MAX) {
                close_server(server);
                server = NULL;
        }
        if (!server)
                server = open_server();
        scope_init(&scope, &fuzz_world);
        MUST(!server_run(server, &scope, empty, NULL));
        scope_done(&scope);
        return server;
}

void server_end(struct server *s)
{
        for (struct exchange *x = s->exchanges; x; x = x->next)
                server_abandon(s, x);
        server_settle(s);
        server_jump(s, 1); /* what waited for a client that has left comes back at the next tick */
        MUST(waiting_count(s->hooks.waiting) == 0 && hub_count(s->hooks.hub) == 0);
        while (s->exchanges)
                server_forget(s, s->exchanges);
}
