#include "api/request.h"
#include "domain/run.h"
#include "domain/scheduler.h"
#include "domain/workspace.h"

/* It is the whole server's: who is bound to one workspace sees its numbers and moves nothing. */
static enum err whole_server(struct request *r)
{
        return r->by.all_workspaces ? ERR_OK :
                                      fail(&r->scope, ERR_PERMISSION_DENIED,
                                           "the scheduler is the whole server's, and this key is"
                                           " bound to one workspace; pause its tasks instead");
}

/* What the numbers are of: the key's workspace or the one that was chosen, else all. */
static struct str counted_workspace(const struct request *r)
{
        return r->by.all_workspaces && !r->workspace_header.p ? STR_NONE : r->by.workspace;
}

static enum err get_scheduler(struct request *r, struct tx *tx)
{
        struct scheduler *s = arena_new(&r->scope.arena, struct scheduler);
        enum err e = scheduler_status(tx, counted_workspace(r), s);

        return e ? e : request_reply(r, 200, &scheduler_record, s);
}

static enum err post_pause(struct request *r, struct tx *tx)
{
        const struct cancel_body *b = r->body;
        struct scheduler *s = arena_new(&r->scope.arena, struct scheduler);
        enum err e = whole_server(r);

        if (!e)
                e = scheduler_pause(tx, &r->by, b->reason, b->metadata, s);
        return e ? e : request_reply(r, 200, &scheduler_pause_record, s);
}

static enum err post_resume(struct request *r, struct tx *tx)
{
        const struct cancel_body *b = r->body;
        struct scheduler *s = arena_new(&r->scope.arena, struct scheduler);
        enum err e = whole_server(r);

        if (!e)
                e = scheduler_resume(tx, &r->by, b->reason, b->metadata, s);
        return e ? e : request_reply(r, 200, &scheduler_pause_record, s);
}

struct drain_body {
        int64_t timeout_seconds;
        struct str reason;
        uint64_t given;
};
static const struct field drain_fields[] = {
        { "timeout_seconds", FIELD_INT, FIELD_WIRE, offsetof(struct drain_body, timeout_seconds),
          NULL, 0, DRAIN_MAX, "60 if absent; 0 does not wait" },
        { "reason", FIELD_STR, FIELD_WIRE, offsetof(struct drain_body, reason), NULL, 0, 4096 },
};
enum { GIVEN_TIMEOUT = 1 << 0 };
static const struct record drain_body = { "DrainRequest", drain_fields, LENGTH(drain_fields),
                                          sizeof(struct drain_body),
                                          offsetof(struct drain_body, given) };

/*
 * Begun by the first turn, then parked until its end sends it back.  It is known again by the id
 * that the call waits for, or that was begun with its Idempotency-Key; a turn that was undone has
 * left no drain under it, and the next one begins anew.
 */
static enum err post_drain(struct request *r, struct tx *tx)
{
        const struct drain_body *b = r->body;
        struct drain *drain = arena_new(&r->scope.arena, struct drain);
        int64_t *id, begun = r->claim.n_trees ? r->claim.trees[0] : 0;
        enum err e = whole_server(r);

        if (!begun)
                str_to_int(r->begun, &begun); /* absent, it stays 0 */
        if (!e)
                e = begun ? drain_load(tx, begun, drain) : ERR_EMPTY;
        if (e == ERR_EMPTY)
                e = scheduler_drain(tx, &r->by, b->reason,
                                    b->given & GIVEN_TIMEOUT ? b->timeout_seconds : DRAIN_DEFAULT,
                                    drain);
        if (e || drain->completed_at)
                return e ? e : request_reply(r, 200, &drain_record, drain);
        id = arena_new(&r->scope.arena, int64_t);
        *id = drain->id;
        r->claim.trees = id;
        r->claim.n_trees = 1;
        r->begun = arena_printf(&r->scope.arena, "%lld", (long long)drain->id);
        r->claim.wait_until = INT64_MAX;
        r->claim.call.keep = true;
        r->claim.call.parked = !r->claim.gone;
        return ERR_EMPTY;
}

struct backlog_filter {
        int64_t limit;
        bool include_paused;
        struct str workspace;
};
#define AT(member) offsetof(struct backlog_filter, member)
static const struct field backlog_filter_fields[] = {
        { "limit", FIELD_INT, FIELD_WIRE, AT(limit), NULL, 1, 500, .preset = 50 },
        { "include_paused", FIELD_BOOL, FIELD_WIRE, AT(include_paused) },
        { "workspace", FIELD_STR, FIELD_WIRE, AT(workspace), .doc = "id or slug" },
};
static const struct record backlog_filter = { "BacklogFilter", backlog_filter_fields,
                                              LENGTH(backlog_filter_fields),
                                              sizeof(struct backlog_filter), -1 };

static enum err get_backlog(struct request *r, struct tx *tx)
{
        const struct backlog_filter *f = r->filter;
        struct backlog *out = arena_new(&r->scope.arena, struct backlog);
        struct str workspace = counted_workspace(r);
        const struct backlog_item *item;
        struct workspace w;
        enum err e = ERR_OK;

        if (f->workspace.p) {
                e = workspace_get(tx, &r->by, f->workspace, &w);
                workspace = w.id;
        }
        if (!e)
                e = scheduler_backlog(tx, workspace, f->include_paused, (int)f->limit, out);
        if (e)
                return e;
        item = out->items.items;
        for (size_t i = 0; !e && i < out->items.n; i++) {
                request_show_runs(r, tx, (struct list){ item[i].run, 1 });
                item[i].task->input = request_listed(r, item[i].task->input);
                e = task_show(tx, item[i].task);
        }
        return e ? e : request_reply(r, 200, &backlog_record, out);
}

static enum err get_events(struct request *r, struct tx *tx)
{
        enum err e = whole_server(r);

        return e ? e : reply_events(r, tx, SCHEDULER_TREE, 0, 0);
}

const struct route scheduler_routes[] = {
        { HTTP_GET, "/v1/scheduler", SCOPE_ADMIN, ROUTE_READ, 0, NULL, &scheduler_record,
          get_scheduler, 0, "Whether runs are handed out, and what waits" },
        { HTTP_POST, "/v1/scheduler/pause", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &scheduler_pause_record, post_pause, CALL_CANCEL,
          "Hand out no run any more" },
        { HTTP_POST, "/v1/scheduler/resume", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &scheduler_pause_record, post_resume, CALL_CANCEL,
          "Hand out runs again" },
        { HTTP_POST, "/v1/scheduler/drain", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &drain_body, &drain_record, post_drain, CALL_CANCEL, "Pause, and wait until no claim is active" },
        { HTTP_GET, "/v1/scheduler/backlog", SCOPE_ADMIN, ROUTE_READ, 0, NULL, &backlog_record,
          get_backlog, 0, "Queued runs with their tasks, most urgent first",
          .filter = &backlog_filter },
        { HTTP_GET, "/v1/scheduler/events", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &event_record,
          get_events, 0, "Pauses, resumes and drains there were", .filter = &event_filter_record },
        { 0 },
};
