#include "api/request.h"
#include "domain/inbox.h"
#include "domain/triage.h"

/* ---- triage ---- */

static enum err mark(struct request *r, struct tx *tx, enum triage_action action)
{
        struct triage *triage = arena_new(&r->scope.arena, struct triage);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = triage_mark(tx, &r->by, id, action, triage);
        return e ? e : request_reply(r, 200, &triage_record, triage);
}

static enum err read_task(struct request *r, struct tx *tx)
{
        return mark(r, tx, TRIAGE_READ);
}

static enum err archive_task(struct request *r, struct tx *tx)
{
        return mark(r, tx, TRIAGE_ARCHIVE);
}

static enum err dismiss_task(struct request *r, struct tx *tx)
{
        return mark(r, tx, TRIAGE_DISMISS);
}

/* ---- inbox ---- */

struct inbox_query {
        struct inbox_filter filter;
        struct str cursor;
        int64_t limit;
};
#define AT(member) offsetof(struct inbox_query, member)
static const struct field inbox_query_fields[] = {
        { "limit", FIELD_INT, FIELD_WIRE, AT(limit), NULL, 1, 500, .preset = 50 },
        { "cursor", FIELD_STR, FIELD_WIRE, AT(cursor), .doc = "the next_cursor of an earlier page" },
        { "lane", FIELD_ENUM, FIELD_WIRE, AT(filter.lane), &inbox_lane_names, .preset = -1 },
        { "unread", FIELD_BOOL, FIELD_WIRE, AT(filter.unread) },
        { "q", FIELD_STR, FIELD_WIRE, AT(filter.q), .doc = "a text in title or identifier" },
};
static const struct record inbox_query = { "InboxQuery", inbox_query_fields,
                                           LENGTH(inbox_query_fields), sizeof(struct inbox_query),
                                           -1 };

/* A cursor is the lane's name and a task's digits. */
static enum err query_place(struct request *r, struct str cursor, struct inbox_place *out)
{
        if (!cursor.n)
                return ERR_OK;
        for (out->lane = 0; out->lane < INBOX_LANES; out->lane++)
                if (id_parse(inbox_lane_names.text[out->lane], cursor, &out->before))
                        return ERR_OK;
        return fail_field(&r->scope, "cursor", ERR_INVALID_CURSOR,
                          "cursor must be the next_cursor of an earlier page");
}

static enum err query_filter(struct request *r, struct inbox_filter *f)
{
        const struct inbox_query *q = r->filter;
        enum err e;

        *f = q->filter;
        f->limit = (int)q->limit;
        f->from.lane = f->lane < 0 ? LANE_APPROVALS : f->lane;
        e = query_place(r, q->cursor, &f->from);
        if (!e && (f->lane < 0 ? f->from.lane == LANE_ARCHIVED : f->from.lane != f->lane))
                e = fail_field(&r->scope, "cursor", ERR_INVALID_CURSOR,
                               "cursor is of another lane: ask with the filters of the first page");
        return e;
}

static enum err get_inbox(struct request *r, struct tx *tx)
{
        struct inbox_filter f;
        struct inbox_place next;
        struct list items;
        enum err e = query_filter(r, &f);

        if (!e)
                e = inbox_list(tx, &r->by, &f, &items, &next);
        if (e)
                return e;
        e = request_reply_list(r, &inbox_item_record, items, f.limit, 0);
        for (size_t i = 0; i < items.n; i++) {
                struct task *task = ((struct inbox_item *)items.items)[i].task;

                task->input = request_listed(r, task->input);
        }
        r->next_cursor = next.before;
        r->cursor_prefix = inbox_lane_names.text[next.lane];
        return e;
}

const struct route inbox_routes[] = {
        { HTTP_POST, "/v1/tasks/{task}/triage/read", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &empty_body_record, &triage_record, read_task, CALL_CREATE, "Mark a task as read" },
        { HTTP_POST, "/v1/tasks/{task}/triage/archive", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, &empty_body_record, &triage_record, archive_task, CALL_CREATE,
          "Put a task away for good" },
        { HTTP_POST, "/v1/tasks/{task}/triage/dismiss", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, &empty_body_record, &triage_record, dismiss_task, CALL_CREATE,
          "Set a task aside until something new happens" },
        { HTTP_GET, "/v1/inbox", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &inbox_item_record, get_inbox,
          0, "What the caller may have to look at", .filter = &inbox_query },
        { 0 },
};
