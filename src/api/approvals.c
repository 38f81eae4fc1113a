#include "api/request.h"
#include "domain/approval.h"

enum decision { DECISION_NONE, DECISION_APPROVE, DECISION_DENY };
static const char *const decisions[] = { "", "approve", "deny", NULL };
static const struct names decision_names = { decisions, NULL };

struct decide_body {
        int decision;
        struct str comment;
};
static const struct field decide_fields[] = {
        { "decision", FIELD_ENUM, FIELD_WIRE | FIELD_REQUIRED,
          offsetof(struct decide_body, decision), &decision_names },
        { "comment", FIELD_STR, FIELD_WIRE, offsetof(struct decide_body, comment), NULL, 0, 4096 },
};
static const struct record decide_body = { "Decide", decide_fields, LENGTH(decide_fields),
                                           sizeof(struct decide_body), -1 };

static enum err list_approvals(struct request *r, struct tx *tx)
{
        int status = -1, limit;
        int64_t run = 0, before;
        struct list items;
        enum err e = query_page(r, &limit, &before);

        if (!e)
                e = query_enum(r, "status", &approval_status_names, &status);
        if (!e)
                e = query_id(r, "run_id", "run", &run);
        if (!e)
                e = approval_list(tx, &r->by, status, run, before, limit + 1, &items);
        return e ? e :
                   request_reply_list(r, &approval_record, items, limit,
                                      offsetof(struct approval, id));
}

static enum err get_approval(struct request *r, struct tx *tx)
{
        struct approval *a = arena_new(&r->scope.arena, struct approval);
        int64_t id;
        enum err e = request_id(r, 0, "appr", "approval", &id);

        if (!e)
                e = approval_get(tx, &r->by, id, a);
        return e ? e : request_reply(r, 200, &approval_record, a);
}

static enum err decide(struct request *r, struct tx *tx)
{
        const struct decide_body *b = r->body;
        struct approval *a = arena_new(&r->scope.arena, struct approval);
        int64_t id;
        enum err e = request_id(r, 0, "appr", "approval", &id);

        if (!e && b->decision == DECISION_NONE)
                e = fail_field(&r->scope, "decision", ERR_VALIDATION,
                               "decision must be approve or deny");
        if (!e)
                e = approval_decide(tx, &r->by, id, b->decision == DECISION_APPROVE, b->comment, a);
        return e ? e : request_reply(r, 200, &approval_record, a);
}

const struct route approval_routes[] = {
        { HTTP_GET, "/v1/approvals", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &approval_record,
          list_approvals, 0, "List approvals" },
        { HTTP_GET, "/v1/approvals/{approval}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &approval_record, get_approval, 0, "Get an approval" },
        { HTTP_POST, "/v1/approvals/{approval}/decide", SCOPE_TASKS_APPROVE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, &decide_body, &approval_record, decide, CALL_LEASE,
          "Approve or deny" },
        { 0 },
};
