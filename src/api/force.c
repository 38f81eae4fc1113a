#include "domain/force.h"

#include "api/request.h"

enum { BULK_MAX = 50 };

enum err request_operated(struct request *r, enum err e)
{
        r->claim.call.keep = e && err_http_status(e) < 500;
        return e;
}

typedef enum err force_operation(struct tx *, const struct principal *, int64_t run,
                                 const struct said *, struct run *);

static enum err operate(struct request *r, struct tx *tx, force_operation *operation, int64_t id,
                        const struct said *said, struct run *run)
{
        enum err e = run_get(tx, &r->by, id, run);

        if (!e)
                e = force_gate(tx, &r->by, run->task_id);
        if (!e)
                e = operation(tx, &r->by, id, said, run);
        if (!e)
                run_show(tx, run);
        return e;
}

static enum err one(struct request *r, struct tx *tx, force_operation *operation)
{
        const struct cancel_body *b = r->body;
        const struct said said = { b->reason, b->metadata };
        struct run *run = arena_new(&r->scope.arena, struct run);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = operate(r, tx, operation, id, &said, run);
        return request_operated(r, e) ? e : request_reply(r, 200, &run_record, run);
}

static enum err release_one(struct request *r, struct tx *tx)
{
        return one(r, tx, force_release);
}

static enum err fail_one(struct request *r, struct tx *tx)
{
        return one(r, tx, force_fail);
}

static enum err recover_one(struct request *r, struct tx *tx)
{
        return one(r, tx, run_recover);
}

/* ---- many ---- */

struct bulk_body {
        struct str run_ids, reason, metadata;
};
#define AT(member) offsetof(struct bulk_body, member)
static const struct field bulk_fields[] = {
        { "run_ids", FIELD_JSON, FIELD_WIRE | FIELD_REQUIRED, AT(run_ids), "array", 0, 0,
          "1 to 50 ids of runs; each counts once" },
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason), NULL, 0, 4096 },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata), NULL, 0, METADATA_MAX },
};
static const struct record bulk_body = { "Bulk", bulk_fields, LENGTH(bulk_fields),
                                         sizeof(struct bulk_body), -1 };

/* Each once, in their order. */
static enum err read_ids(struct request *r, struct str json, struct batch_item *rows, size_t *n)
{
        json_t *list;
        enum err e = json_parse(&r->scope, json, &list);

        if (e)
                return e;
        if (!json_array_size(list))
                e = fail_field(&r->scope, "run_ids", ERR_VALIDATION,
                               "run_ids must be a list of 1 to %d ids of runs", BULK_MAX);
        else if (json_array_size(list) > BULK_MAX)
                e = fail_limit(&r->scope, "run_ids", ERR_BULK_TOO_LARGE, BULK_MAX,
                               (int64_t)json_array_size(list), "runs of one call");
        for (size_t i = 0; !e && i < json_array_size(list); i++) {
                const json_t *item = json_array_get(list, i);
                struct str id = json_is_string(item) ? str_trim(json_view(item)) : STR("");
                size_t same = 0;

                if (!id.n)
                        e = fail_field(&r->scope, "run_ids", ERR_VALIDATION,
                                       "run_ids[%zu] must be the id of a run", i);
                while (same < *n && !str_eq(rows[same].run_id, id))
                        same++;
                if (same == *n)
                        rows[(*n)++].run_id = str_dup(&r->scope.arena, id);
        }
        json_decref(list);
        return e;
}

/* Refused rows have written nothing but their count, so the others stand. */
static enum err many(struct request *r, struct tx *tx, force_operation *operation)
{
        const struct bulk_body *b = r->body;
        const struct said said = { b->reason, b->metadata };
        struct batch_item *rows = arena_array(&r->scope.arena, struct batch_item, BULK_MAX);
        size_t n = 0;
        enum err e = read_ids(r, b->run_ids, rows, &n);

        for (size_t i = 0; !e && i < n; i++) {
                struct run *run = arena_new(&r->scope.arena, struct run);
                int64_t id;

                rows[i].result = id_parse("run", rows[i].run_id, &id) ?
                                         operate(r, tx, operation, id, &said, run) :
                                         fail_missing(&r->scope, "run");
                rows[i].fault = r->scope.fault;
                rows[i].record = &run_row_record;
                rows[i].value = started(r, NULL, run, NULL, false);
                if (err_http_status(rows[i].result) >= 500 ||
                    rows[i].result == ERR_FORBIDDEN_OPERATION)
                        e = rows[i].result;
        }
        return e ? e : request_reply_batch(r, (struct list){ rows, n });
}

static enum err release_many(struct request *r, struct tx *tx)
{
        return many(r, tx, force_release);
}

static enum err fail_many(struct request *r, struct tx *tx)
{
        const struct bulk_body *b = r->body;
        enum err e = force_reason_check(&r->scope, b->reason);

        return e ? e : many(r, tx, force_fail);
}

const struct route force_routes[] = {
        { HTTP_POST, "/v1/runs/bulk/release", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_OUTCOMES, &bulk_body, &run_row_record, release_many, CALL_CANCEL, "Take up to 50 runs from their holders" },
        { HTTP_POST, "/v1/runs/bulk/fail", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_OUTCOMES, &bulk_body, &run_row_record, fail_many, CALL_CANCEL, "Force up to 50 runs to fail" },
        { HTTP_POST, "/v1/runs/{run}/force-release", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, &cancel_body_record, &run_record, release_one, CALL_CANCEL,
          "Take a run from its holder" },
        { HTTP_POST, "/v1/runs/{run}/recover", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &run_record, recover_one, CALL_CANCEL,
          "Free a run from its attention mark" },
        { HTTP_POST, "/v1/runs/{run}/force-fail", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &run_record, fail_one, CALL_CANCEL, "Force a run to fail" },
        { 0 },
};
