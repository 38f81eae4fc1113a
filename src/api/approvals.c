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

struct approval_filter {
        struct paging page;
        int status;
        int64_t run_id;
};
static const struct field approval_filter_fields[] = {
        PAGE_FIELDS(struct approval_filter),
        { "status", FIELD_ENUM, FIELD_WIRE, offsetof(struct approval_filter, status),
          &approval_status_names, .preset = -1 },
        { "run_id", FIELD_ID, FIELD_WIRE, offsetof(struct approval_filter, run_id), "run" },
};
static const struct record approval_filter = { "ApprovalFilter", approval_filter_fields,
                                               LENGTH(approval_filter_fields),
                                               sizeof(struct approval_filter), -1 };

static enum err list_approvals(struct request *r, struct tx *tx)
{
        const struct approval_filter *f = r->filter;
        const int limit = (int)f->page.limit;
        struct list items;
        enum err e = approval_list(tx, &r->by, f->status, f->run_id, f->page.before, limit + 1,
                                   &items);

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
          list_approvals, 0, "List approvals", .filter = &approval_filter },
        { HTTP_GET, "/v1/approvals/{approval}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &approval_record, get_approval, 0, "Get an approval" },
        { HTTP_POST, "/v1/approvals/{approval}/decide", SCOPE_TASKS_APPROVE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, &decide_body, &approval_record, decide, CALL_LEASE,
          "Approve or deny" },
        { 0 },
};
