#include "api/request.h"
#include "domain/workspace.h"

/* Who sees one workspace is not told the head: it would tell of the others' activity. */
static void render_audit(struct request *r, struct json_out *j)
{
        const struct str *head = r->reply_value;

        json_begin_object(j);
        request_put_page(r, j);
        if (head->p) {
                json_key(j, "head");
                json_put_str(j, *head);
        }
        json_end_object(j);
}

static enum err read_filter(struct request *r, struct tx *tx, struct audit_filter *f)
{
        struct str workspace = request_query(r, "workspace_id");
        struct workspace w;
        enum err e = query_enum(r, "action", &audit_action_names, &f->action);

        if (!e)
                e = query_time(r, "since", &f->since);
        if (!e)
                e = query_time(r, "until", &f->until);
        if (!e && workspace.p) {
                e = workspace_get(tx, &r->by, workspace, &w);
                f->workspace = w.id;
        }
        if (!r->by.all_workspaces)
                f->workspace = r->by.workspace;
        f->actor = request_query(r, "actor");
        f->resource = request_query(r, "resource");
        return e;
}

static enum err list_audit(struct request *r, struct tx *tx)
{
        struct audit_filter f = { .action = -1 };
        struct str *head = arena_new(&r->scope.arena, struct str);
        struct list items = { 0 };
        int limit;
        enum err e = query_page(r, &limit, &f.before);

        if (!e)
                e = read_filter(r, tx, &f);
        f.limit = limit + 1;
        if (!e)
                e = audit_list(tx, &f, &items);
        if (!e && r->by.all_workspaces)
                e = audit_head(tx, head);
        if (e)
                return e;
        e = request_reply_list(r, &audit_record, items, limit, offsetof(struct audit_entry, id));
        r->reply_value = head;
        r->render = render_audit;
        return e;
}

const struct route audit_routes[] = {
        { HTTP_GET, "/v1/audit", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &audit_record, list_audit, 0,
          "The audit log" },
        { 0 },
};
