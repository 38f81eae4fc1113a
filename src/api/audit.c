#include "api/request.h"
#include "domain/workspace.h"

struct audit_query {
        struct paging page;
        struct audit_filter filter;
};
#define AT(member) offsetof(struct audit_query, filter.member)
static const struct field audit_query_fields[] = {
        PAGE_FIELDS(struct audit_query),
        { "actor", FIELD_STR, FIELD_WIRE, AT(actor), .doc = "kind:ref" },
        { "action", FIELD_ENUM, FIELD_WIRE, AT(action), &audit_action_names, .preset = -1 },
        { "resource", FIELD_STR, FIELD_WIRE, AT(resource) },
        { "workspace_id", FIELD_STR, FIELD_WIRE, AT(workspace), .doc = "id or slug" },
        { "since", FIELD_TIME, FIELD_WIRE, AT(since), .doc = "that moment too" },
        { "until", FIELD_TIME, FIELD_WIRE, AT(until) },
};
static const struct record audit_query = { "AuditQuery", audit_query_fields,
                                           LENGTH(audit_query_fields), sizeof(struct audit_query),
                                           -1 };

/* Who sees one workspace is not told the head: it would tell of the others' activity. */
static const struct field head_fields[] = {
        { "head", FIELD_STR, FIELD_WIRE, 0, .doc = "hash of the newest row of all workspaces" },
};
static const struct record audit_head_record = { "AuditHead", head_fields, 1, sizeof(struct str), -1 };

static enum err choose_workspace(struct request *r, struct tx *tx, struct str *workspace)
{
        struct workspace w;
        enum err e = workspace->p ? workspace_get(tx, &r->by, *workspace, &w) : ERR_OK;

        if (!e && workspace->p)
                *workspace = w.id;
        if (!r->by.all_workspaces)
                *workspace = r->by.workspace;
        return e;
}

static enum err list_audit(struct request *r, struct tx *tx)
{
        const struct audit_query *q = r->filter;
        const int limit = (int)q->page.limit;
        struct audit_filter f = q->filter;
        struct str *head = arena_new(&r->scope.arena, struct str);
        struct list items = { 0 };
        enum err e = choose_workspace(r, tx, &f.workspace);

        f.before = q->page.before;
        f.limit = limit + 1;
        if (!e)
                e = audit_list(tx, &f, &items);
        if (!e && r->by.all_workspaces)
                e = audit_head(tx, head);
        r->beside = head;
        return e ? e :
                   request_reply_list(r, &audit_record, items, limit,
                                      offsetof(struct audit_entry, id));
}

const struct route audit_routes[] = {
        { HTTP_GET, "/v1/audit", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &audit_record, list_audit, 0,
          "The audit log", .filter = &audit_query, .beside = &audit_head_record },
        { 0 },
};
