#include "api/request.h"
#include "domain/attempt.h"
#include "domain/cancel.h"
#include "domain/claim.h"
#include "domain/explain.h"
#include "domain/force.h"
#include "domain/input.h"
#include "domain/log_line.h"
#include "domain/session.h"
#include "domain/sql.h"
#include "domain/step.h"
#include "domain/workspace.h"

/* ---- claiming ---- */

struct claim_body {
        int executor;
        struct str session_id, agent_name, capabilities, channel, workspace_id, claim_token;
        int priority_min;
        int64_t lease_seconds, max, wait_seconds;
        uint64_t given;
};
#define AT(member) offsetof(struct claim_body, member)
enum { GIVEN = FIELD_WIRE | FIELD_REQUIRED };
static const struct field claim_fields[] = {
        { "executor", FIELD_ENUM, FIELD_WIRE, AT(executor), &executor_names },
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id), NULL, 1, 200 },
        { "agent_name", FIELD_STR, FIELD_WIRE, AT(agent_name), NULL, 1, 200 },
        { "capabilities", FIELD_CAPS, FIELD_WIRE, AT(capabilities) },
        { "priority_min", FIELD_ENUM, FIELD_WIRE, AT(priority_min), &priority_names },
        { "channel", FIELD_STR, FIELD_WIRE, AT(channel), NULL, 1, 64 },
        { "workspace_id", FIELD_STR, FIELD_WIRE, AT(workspace_id) },
        { "lease_seconds", FIELD_INT, FIELD_WIRE, AT(lease_seconds), NULL, 1, LEASE_MAX },
        { "max", FIELD_INT, FIELD_WIRE, AT(max), NULL, 1, 100 },
        { "wait_seconds", FIELD_INT, FIELD_WIRE, AT(wait_seconds), NULL, 0, 60 },
};
enum { GIVEN_CAPABILITIES = 1 << 3 }; /* none at all is less than what the key allows */
static const struct field attach_fields[] = {
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id), NULL, 1, 200 },
        { "claim_token", FIELD_STR, FIELD_WIRE, AT(claim_token), NULL, 0, 200 },
        { "agent_name", FIELD_STR, FIELD_WIRE, AT(agent_name), NULL, 1, 200 },
        { "capabilities", FIELD_CAPS, FIELD_WIRE, AT(capabilities) },
        { "lease_seconds", FIELD_INT, FIELD_WIRE, AT(lease_seconds), NULL, 1, LEASE_MAX },
};
static const struct record attach_body = { "AttachSession", attach_fields, LENGTH(attach_fields),
                                           sizeof(struct claim_body),
                                           offsetof(struct claim_body, given) };
static const struct record claim_body = { "Claim", claim_fields, LENGTH(claim_fields),
                                          sizeof(struct claim_body),
                                          offsetof(struct claim_body, given) };

static const struct field claim_reply_fields[] = {
#undef AT
#define AT(member) offsetof(struct claim, member)
        { "task", FIELD_RECORD, GIVEN, AT(task), &task_record },
        { "run", FIELD_RECORD, GIVEN, AT(run), &run_record },
        { "claim_token", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(token) },
        { "lease_until", FIELD_TIME, GIVEN, AT(lease_until) },
};
static const struct record claim_reply = { "Claimed", claim_reply_fields,
                                           LENGTH(claim_reply_fields), sizeof(struct claim), -1 };

/* Of the list of what was granted. */
static const struct field claims_fields[] = {
        { "claims", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, 0, &claim_reply },
};
static const struct record claims_reply = { "Claims", claims_fields, 1, sizeof(struct list), -1 };
static void put_claim(struct request *r, struct json_out *j, const struct claim *claim)
{
        struct claim rest = *claim;

        rest.token = STR_NONE;
        json_begin_object(j);
        json_members(j, &claim_reply, &rest);
        json_key(j, "claim_token");
        if (r->keeping)
                json_put_raw(j, arena_printf(&r->scope.arena, "\"" STR_FMT "\"",
                                             STR_ARG(token_recipe(&r->scope.arena, claim->run))));
        else
                json_put_str(j, claim->token);
        json_end_object(j);
}

static void render_claims(struct request *r, struct json_out *j)
{
        json_begin_object(j);
        json_key(j, "claims");
        json_begin_list(j);
        for (size_t i = 0; i < r->items.n; i++)
                put_claim(r, j, (const struct claim *)r->items.items + i);
        json_end_list(j);
        json_end_object(j);
}

/* What the body says narrows what the key allows. */
static enum err criteria(struct request *r, struct tx *tx, struct claim_criteria *out)
{
        struct workspace chosen;
        const struct claim_body *b = r->body;
        const struct principal *by = &r->by;

        if (b->executor != EXECUTOR_AGENT)
                return fail_field(&r->scope, "executor", ERR_PERMISSION_DENIED,
                                  "only the built-in worker and registered gateways claim runs of"
                                  " this executor");
        if (by->session_id.p && b->session_id.p && !str_eq(by->session_id, b->session_id))
                return fail_field(&r->scope, "session_id", ERR_PERMISSION_DENIED,
                                  "the key belongs to another session");
        if (by->agent_name.p && b->agent_name.p && !str_eq(by->agent_name, b->agent_name))
                return fail_field(&r->scope, "agent_name", ERR_PERMISSION_DENIED,
                                  "the key belongs to another agent");
        if (by->caps_bound && !caps_within(b->capabilities, by->capabilities))
                return fail_field(&r->scope, "capabilities", ERR_PERMISSION_DENIED,
                                  "the key does not allow all of these capabilities");
        if (b->workspace_id.p) {
                enum err e = workspace_get(tx, by, b->workspace_id, &chosen);

                if (e)
                        return e;
        }
        *out = (struct claim_criteria){
                .workspace = b->workspace_id.p ? chosen.id : by->workspace,
                .executor = EXECUTOR_AGENT,
                .session_id = b->session_id.p ? b->session_id : by->session_id,
                .agent_name = b->agent_name.p ? b->agent_name : by->agent_name,
                .capabilities = b->given & GIVEN_CAPABILITIES ? b->capabilities : by->capabilities,
                .peer = str_starts(by->actor, "network_peer:") ? str_slice(by->actor, 13, by->actor.n) : STR_NONE,
                .channel = b->channel,
                .priority_min = b->priority_min,
        };
        return ERR_OK;
}

static enum err undeliver(struct request *r, struct tx *tx)
{
        return claim_undeliver(tx, &r->by, &r->items);
}

static enum err read_request(struct request *r, struct tx *tx, int64_t run)
{
        const struct claim_body *b = r->body;

        r->claim.request = (struct claim_request){
                .lease_seconds = b->lease_seconds ? b->lease_seconds : LEASE_DEFAULT,
                .max = b->max ? (int)b->max : 1,
                .run = run,
        };
        return criteria(r, tx, &r->claim.request.criteria);
}

static enum err reply_claims(struct request *r, struct tx *tx)
{
        const struct claim *claims = r->items.items;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < r->items.n; i++) {
                run_show(tx, claims[i].run);
                e = task_show(tx, claims[i].task);
        }
        r->render = render_claims;
        return e ? e : request_reply(r, 200, &claims_reply, &r->items);
}

/* Narrows the claim as the workspace's policy says, after a turn in which it is asked. */
static enum err heed_policy(struct request *r, struct tx *tx)
{
        enum err e = policy_apply(tx, &r->by, &r->claim.policy, &r->claim.request);

        if (r->claim.policy.state == POLICY_ASKS)
                r->claim.call.parked = r->claim.call.keep = true;
        return e;
}

static enum err claim(struct request *r, struct tx *tx, int64_t run)
{
        const struct claim_body *b = r->body;
        struct claim_request *request = &r->claim.request;
        const struct clock *clock = r->scope.world->clock;
        enum err e = read_request(r, tx, run);

        if (!e && request->criteria.session_id.p)
                request->max = 1;
        if (!e && !run && b->wait_seconds && !r->claim.wait_until)
                r->claim.wait_until = clock->boot(clock->ctx) + b->wait_seconds * US_PER_S;
        if (!e)
                e = heed_policy(r, tx);
        if (!e)
                e = waiting_claim(tx, &r->by, &r->claim, &r->items);
        if (e)
                return e;
        r->undeliver = undeliver;
        return reply_claims(r, tx);
}

static enum err post_claim(struct request *r, struct tx *tx)
{
        return claim(r, tx, 0);
}

static enum err post_claim_run(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        return e ? e : claim(r, tx, id);
}

/* A stale channel is told although nothing else happens. */
static enum err keep_rejected(struct request *r, enum err e)
{
        r->claim.call.keep |= e == ERR_STALE_CHANNEL;
        return e;
}

static enum err attach_session(struct request *r, struct tx *tx)
{
        const struct claim_body *b = r->body;
        struct fence fence = request_fence(r, b->claim_token);
        struct run run;
        bool granted;
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = read_request(r, tx, id);
        if (!e && !r->claim.request.criteria.session_id.p)
                e = fail_field(&r->scope, "session_id", ERR_SESSION_REQUIRED,
                               "name the session, or use a key that belongs to one");
        if (!e)
                e = run_get(tx, &r->by, id, &run);
        if (!e && run.status == RUN_QUEUED)
                e = heed_policy(r, tx);
        if (!e)
                e = claim_attach(tx, &fence, &r->claim.request, &r->items, &granted);
        if (e)
                return keep_rejected(r, e);
        r->undeliver = granted ? undeliver : NULL;
        return reply_claims(r, tx);
}

/* ---- holding ---- */

struct holder_body {
        int64_t run_id, lease_seconds;
        struct str claim_token, result, error, reason, metadata;
        int kind;
        uint64_t given;
        struct fault fault; /* of an item of a batch */
};
#undef AT
#define AT(member) offsetof(struct holder_body, member)
#define TOKEN { "claim_token", FIELD_STR, FIELD_WIRE, AT(claim_token), NULL, 0, 200 }
#define RUN_ID { "run_id", FIELD_ID, FIELD_WIRE | FIELD_REQUIRED, AT(run_id), "run" }
#define RESULT { "result", FIELD_JSON, FIELD_WIRE, AT(result), NULL, 0, RESULT_MAX }
#define LEASE { "lease_seconds", FIELD_INT, FIELD_WIRE, AT(lease_seconds), NULL, 1, LEASE_MAX }
#define HOLDER(name, fields) \
        { name, fields, LENGTH(fields), sizeof(struct holder_body), -1, AT(fault) }

static const struct field token_fields[] = { TOKEN };
static const struct field heartbeat_fields[] = { TOKEN, LEASE };
static const struct field complete_fields[] = { TOKEN, RESULT };
static const struct field fail_fields[] = {
        TOKEN,
        { "error", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(error), NULL, 1, 16384 },
        { "kind", FIELD_ENUM, FIELD_WIRE, AT(kind), &outcome_names },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata), NULL, 0, METADATA_MAX },
};
static const struct field release_fields[] = {
        TOKEN,
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason), NULL, 0, 4096 },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata), NULL, 0, METADATA_MAX },
};
static const struct field complete_item_fields[] = { RUN_ID, TOKEN, RESULT };
static const struct field heartbeat_item_fields[] = { RUN_ID, TOKEN, LEASE };

static const struct record token_body = HOLDER("Token", token_fields);
static const struct record heartbeat_body = HOLDER("HeartbeatRequest", heartbeat_fields);
static const struct record complete_body = HOLDER("Complete", complete_fields);
static const struct record fail_body = HOLDER("Fail", fail_fields);
static const struct record release_body = HOLDER("Release", release_fields);
static const struct record complete_item = HOLDER("CompleteItem", complete_item_fields);
static const struct record heartbeat_item = HOLDER("HeartbeatItem", heartbeat_item_fields);

struct items_body {
        struct list items;
        int64_t wait_seconds;
};
static const struct field complete_batch_fields[] = {
        { "items", FIELD_LIST, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct items_body, items),
          &complete_item },
};
static const struct field heartbeat_batch_fields[] = {
        { "items", FIELD_LIST, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct items_body, items),
          &heartbeat_item },
        { "wait_seconds", FIELD_INT, FIELD_WIRE, offsetof(struct items_body, wait_seconds), NULL, 0,
          60 },
};
static const struct record complete_batch = { "CompleteBatch", complete_batch_fields, 1,
                                              sizeof(struct items_body), -1 };
static const struct record heartbeat_batch = { "HeartbeatBatch", heartbeat_batch_fields, 2,
                                               sizeof(struct items_body), -1 };

static const struct field heartbeat_reply_fields[] = {
        { "lease_until", FIELD_TIME, GIVEN, offsetof(struct heartbeat, lease_until) },
        { "cancel_requested", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS,
          offsetof(struct heartbeat, cancel_requested) },
};
static const struct record heartbeat_reply = { "Heartbeat", heartbeat_reply_fields,
                                               LENGTH(heartbeat_reply_fields),
                                               sizeof(struct heartbeat), -1 };

static enum err reply_run(struct request *r, struct tx *tx, struct run *run)
{
        run_show(tx, run);
        return request_reply(r, 200, &run_record, run);
}

/* The text is compact, so a colon follows a member's name and no value. */
enum err request_no_token(struct request *r, struct str json, const char *field)
{
        if (json.p && strcasestr(json.p, "\"claim_token\":"))
                return fail_field(&r->scope, field, ERR_VALIDATION,
                                  "%s must not hold a member named claim_token", field);
        return ERR_OK;
}

/* What every call of a holder begins with. */
struct holding {
        int64_t id;
        struct fence fence;
        struct run *run; /* to be filled */
};

static enum err read_holding(struct request *r, struct tx *tx, struct holding *h)
{
        const struct holder_body *b = r->body;
        enum err e = request_id(r, 0, "run", "run", &h->id);

        h->run = arena_new(&r->scope.arena, struct run);
        h->fence = request_fence(r, b->claim_token);
        return e || r->claim_token.n || b->claim_token.n ? e : session_fence(tx, &r->by, h->id, &h->fence);
}

static enum err start_run(struct request *r, struct tx *tx)
{
        struct holding h;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = claim_start(tx, &h.fence, h.id, h.run);
        return e ? keep_rejected(r, e) : reply_run(r, tx, h.run);
}

static enum err heartbeat_run(struct request *r, struct tx *tx)
{
        const struct holder_body *b = r->body;
        struct heartbeat *beat = arena_new(&r->scope.arena, struct heartbeat);
        struct holding h;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = claim_heartbeat(tx, &h.fence, h.id, b->lease_seconds, beat);
        return e ? e : request_reply(r, 200, &heartbeat_reply, beat);
}

static enum err complete_run(struct request *r, struct tx *tx)
{
        const struct holder_body *b = r->body;
        struct holding h;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = request_no_token(r, b->result, "result");
        if (!e)
                e = claim_complete(tx, &h.fence, h.id, b->result, h.run);
        return e ? e : reply_run(r, tx, h.run);
}

static enum err fail_run(struct request *r, struct tx *tx)
{
        const struct holder_body *b = r->body;
        struct holding h;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = request_no_token(r, b->metadata, "metadata");
        if (!e && b->kind == OUTCOME_OK)
                e = fail_field(&r->scope, "kind", ERR_VALIDATION, "a failure cannot be of kind ok");
        if (!e)
                e = claim_fail(tx, &h.fence, h.id,
                               b->kind ? (enum outcome)b->kind : OUTCOME_FAILED, b->error,
                               b->metadata, h.run);
        return e ? e : reply_run(r, tx, h.run);
}

static enum err release_run(struct request *r, struct tx *tx)
{
        const struct holder_body *b = r->body;
        struct holding h;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = claim_release(tx, &h.fence, h.id, b->reason, b->metadata, h.run);
        return e ? e : reply_run(r, tx, h.run);
}

static enum err consume_input(struct request *r, struct tx *tx)
{
        struct input *input = arena_new(&r->scope.arena, struct input);
        struct holding h;
        int64_t id = 0;
        enum err e = read_holding(r, tx, &h);

        if (!e)
                e = request_id(r, 1, "input", "input", &id);
        if (!e)
                e = input_consume(tx, &h.fence, h.id, id, input);
        return e ? e : request_reply(r, 200, &input_record, input);
}

/* ---- batches ---- */

typedef enum err item_operation(struct request *, struct tx *, const struct holder_body *,
                                struct batch_item *);

static enum err item_fence(struct request *r, struct tx *tx, const struct holder_body *b,
                           struct fence *out)
{
        *out = fence_of(&r->by, b->claim_token);
        return b->claim_token.n ? ERR_OK : session_fence(tx, &r->by, b->run_id, out);
}

static enum err complete_one(struct request *r, struct tx *tx, const struct holder_body *b,
                             struct batch_item *item)
{
        struct run *run = arena_new(&r->scope.arena, struct run);
        struct fence fence;
        enum err e = request_no_token(r, b->result, "result");

        if (!e)
                e = item_fence(r, tx, b, &fence);
        if (!e)
                e = claim_complete(tx, &fence, b->run_id, b->result, run);
        if (!e)
                run_show(tx, run);
        item->record = &run_row_record;
        item->value = started(r, NULL, run, NULL, false);
        return e;
}

static enum err heartbeat_one(struct request *r, struct tx *tx, const struct holder_body *b,
                              struct batch_item *item)
{
        struct heartbeat *beat = arena_new(&r->scope.arena, struct heartbeat);
        struct fence fence;
        enum err e = item_fence(r, tx, b, &fence);

        if (!e)
                e = claim_heartbeat(tx, &fence, b->run_id, b->lease_seconds, beat);

        item->record = &heartbeat_reply;
        item->value = beat;
        return e;
}

/* Refused items check before they write, so the others stand. */
static enum err each(struct request *r, struct tx *tx, item_operation *operation, bool moves)
{
        const struct items_body *body = r->body;
        const struct holder_body *items = body->items.items;
        struct batch_item *out = arena_array(&r->scope.arena, struct batch_item,
                                              body->items.n + 1);
        int64_t *runs = arena_array(&r->scope.arena, int64_t, body->items.n + 1);
        enum err e;

        if (body->items.n == 0 || body->items.n > 100)
                return fail_limit(&r->scope, "items", body->items.n ? ERR_BULK_TOO_LARGE : ERR_VALIDATION,
                                  100, (int64_t)body->items.n, "items of one batch (at least 1)");
        for (size_t i = 0; i < body->items.n; i++)
                runs[i] = items[i].run_id;
        e = run_read_ahead(tx, runs, body->items.n, moves);
        if (e)
                return e;
        for (size_t i = 0; i < body->items.n; i++) {
                e = items[i].fault.code;
                r->scope.fault = items[i].fault;
                if (!e)
                        e = operation(r, tx, &items[i], &out[i]);
                out[i].result = e;
                out[i].fault = r->scope.fault;
                if (err_http_status(e) >= 500)
                        return e;
        }
        return request_reply_batch(r, (struct list){ out, body->items.n });
}

static enum err complete_runs(struct request *r, struct tx *tx)
{
        return each(r, tx, complete_one, true);
}

/* Whether every lease was prolonged and nobody wants a run to stop: nothing to tell yet. */
static bool all_is_well(struct request *r, int64_t *trees)
{
        const struct batch_item *item = r->items.items;

        for (size_t i = 0; i < r->items.n; i++) {
                const struct heartbeat *beat = item[i].value;

                if (item[i].result || beat->cancel_requested)
                        return false;
                trees[i] = beat->tree;
        }
        return true;
}

/* With wait_seconds the answer comes when something happened to one of the runs, or when the time is
 * over; the leases are prolonged at both ends. */
static enum err heartbeat_runs(struct request *r, struct tx *tx)
{
        const struct items_body *body = r->body;
        const struct clock *clock = r->scope.world->clock;
        int64_t now = clock->boot(clock->ctx), *trees;
        enum err e = each(r, tx, heartbeat_one, false);

        if (e || !body->wait_seconds || r->claim.gone)
                return e;
        if (!r->claim.wait_until)
                r->claim.wait_until = now + body->wait_seconds * US_PER_S;
        trees = arena_array(&r->scope.arena, int64_t, r->items.n + 1);
        if (now >= r->claim.wait_until || !all_is_well(r, trees))
                return ERR_OK;
        r->claim.trees = trees;
        r->claim.n_trees = r->items.n;
        r->claim.call.parked = r->claim.call.keep = true;
        return ERR_EMPTY;
}

/* ---- operators ---- */

static enum err cancel_one(struct request *r, struct tx *tx)
{
        const struct cancel_body *b = r->body;
        struct run *run = arena_new(&r->scope.arena, struct run);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = cancel_run(tx, &r->by, id, b->reason, b->metadata, run);
        return e ? e : reply_run(r, tx, run);
}

struct retried {
        struct run *previous_run, *run;
};
static const struct field retried_fields[] = {
        { "previous_run", FIELD_RECORD, GIVEN, offsetof(struct retried, previous_run), &run_record },
        { "run", FIELD_RECORD, GIVEN, offsetof(struct retried, run), &run_record },
};
static const struct record retried_record = { "Retried", retried_fields, LENGTH(retried_fields),
                                              sizeof(struct retried), -1 };

static enum err retry_one(struct request *r, struct tx *tx)
{
        const struct retry_body *body = r->body;
        struct retried *out = arena_new(&r->scope.arena, struct retried);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        out->previous_run = arena_new(&r->scope.arena, struct run);
        if (!e)
                e = run_get(tx, &r->by, id, out->previous_run);
        if (!e)
                e = force_gate(tx, &r->by, out->previous_run->task_id);
        if (!e)
                e = run_try_again(tx, &r->by, out->previous_run, body->metadata, &out->run);
        if (request_operated(r, e))
                return e;
        run_show(tx, out->previous_run);
        run_show(tx, out->run);
        return request_reply(r, 201, &retried_record, out);
}

/* ---- reading ---- */

struct run_query {
        struct paging page;
        struct run_filter filter;
        struct str gateway_id;
};
#undef AT
#define AT(member) offsetof(struct run_query, member)
static const struct field run_query_fields[] = {
        PAGE_FIELDS(struct run_query),
        { "status", FIELD_ENUM, FIELD_WIRE, AT(filter.status), &run_status_names, .preset = -1 },
        { "task_id", FIELD_ID, FIELD_WIRE, AT(filter.task_id), "task" },
        { "definition_id", FIELD_ID, FIELD_WIRE, AT(filter.definition_id), "def" },
        { "parent_run_id", FIELD_ID, FIELD_WIRE, AT(filter.parent_run_id), "run" },
        { "session_id", FIELD_STR, FIELD_WIRE, AT(filter.session_id) },
        { "created_after", FIELD_TIME, FIELD_WIRE, AT(filter.created_after) },
        { "created_before", FIELD_TIME, FIELD_WIRE, AT(filter.created_before) },
        { "gateway_id", FIELD_STR, FIELD_WIRE | FIELD_FIXED, AT(gateway_id) },
};
static const struct record run_query = { "RunQuery", run_query_fields, LENGTH(run_query_fields),
                                         sizeof(struct run_query), -1 };

static enum err list_runs(struct request *r, struct tx *tx)
{
        const struct run_query *q = r->filter;
        struct run_filter f = q->filter;

        if (q->gateway_id.p)
                return fail_field(&r->scope, "gateway_id", ERR_UNKNOWN_FIELD,
                                  "this server knows no gateways: no run was claimed by one");
        return request_reply_runs(r, tx, &f);
}

static enum err find(struct request *r, struct tx *tx, struct run **run)
{
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        *run = arena_new(&r->scope.arena, struct run);
        return e ? e : run_get(tx, &r->by, id, *run);
}

static enum err get_run(struct request *r, struct tx *tx)
{
        struct run *run;
        enum err e = find(r, tx, &run);

        if (!e)
                e = run_activity(tx, run);
        return e ? e : reply_run(r, tx, run);
}

static enum err get_run_events(struct request *r, struct tx *tx)
{
        struct run *run;
        enum err e = find(r, tx, &run);

        return e ? e : reply_events(r, tx, run->tree_id, 0, run->id);
}

static enum err get_explain(struct request *r, struct tx *tx)
{
        struct explanation *out = arena_new(&r->scope.arena, struct explanation);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = run_explain(tx, &r->by, id, out);
        return e ? e : request_reply(r, 200, &explanation_record, out);
}

const struct route run_routes[] = {
        { HTTP_GET, "/v1/runs", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &run_record, list_runs, 0,
          "List runs", .filter = &run_query },
        { HTTP_POST, "/v1/runs/claim", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_SECRET | ROUTE_OR_EMPTY, &claim_body, &claims_reply, post_claim, CALL_CLAIM, "Claim the next runs" },
        { HTTP_POST, "/v1/runs/complete", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_BATCH | ROUTE_OUTCOMES, &complete_batch, &run_row_record, complete_runs, CALL_LEASE, "Complete up to 100 runs" },
        { HTTP_POST, "/v1/runs/heartbeat", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_BATCH | ROUTE_OUTCOMES, &heartbeat_batch, &heartbeat_reply, heartbeat_runs, CALL_LEASE, "Prolong up to 100 leases" },
        { HTTP_GET, "/v1/runs/{run}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL, &run_record, get_run,
          0, "Get a run" },
        { HTTP_GET, "/v1/task-runs/{run}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL, &run_record,
          get_run, 0, "Get a run (alias)" },
        { HTTP_GET, "/v1/runs/{run}/events", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &event_record,
          get_run_events, 0, "Events of a run", .filter = &event_filter_record },
        { HTTP_GET, "/v1/runs/{run}/explain", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &explanation_record, get_explain, 0, "Why a run is not running" },
        { HTTP_POST, "/v1/runs/{run}/claim", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_SECRET, &claim_body, &claims_reply, post_claim_run, CALL_CLAIM, "Claim this run" },
        { HTTP_POST, "/v1/runs/{run}/attach-session", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_SECRET | ROUTE_HOLDER, &attach_body, &claims_reply, attach_session, CALL_CLAIM, "Let a session take this run" },
        { HTTP_POST, "/v1/runs/{run}/start", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &token_body, &run_record, start_run, CALL_LEASE, "Say that work has begun" },
        { HTTP_POST, "/v1/runs/{run}/heartbeat", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &heartbeat_body, &heartbeat_reply, heartbeat_run, CALL_LEASE, "Prolong the lease" },
        { HTTP_POST, "/v1/runs/{run}/complete", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &complete_body, &run_record, complete_run, CALL_LEASE, "Complete a run" },
        { HTTP_POST, "/v1/runs/{run}/fail", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &fail_body, &run_record, fail_run, CALL_LEASE, "Fail a run" },
        { HTTP_POST, "/v1/runs/{run}/release", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &release_body, &run_record, release_run, CALL_LEASE, "Give a run back" },
        { HTTP_POST, "/v1/runs/{run}/inputs/{input}/consume", SCOPE_RUNS_CLAIM, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_HOLDER, &token_body, &input_record, consume_input, CALL_LEASE,
          "Take an input of the task" },
        { HTTP_POST, "/v1/runs/{run}/cancel", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &run_record, cancel_one, CALL_CANCEL, "Cancel a run" },
        { HTTP_POST, "/v1/runs/{run}/retry", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &retry_body_record, &retried_record, retry_one, CALL_CREATE, "Try a run again" },
        { 0 },
};
