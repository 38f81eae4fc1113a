#include "api/request.h"
#include "domain/attempt.h"
#include "domain/dependency.h"
#include "domain/force.h"
#include "domain/pause.h"
#include "domain/run.h"
#include "domain/sql.h"
#include "domain/summary.h"
#include "domain/task.h"

/* ---- bodies ---- */

struct task_body {
        struct str title, description, identifier;
        int scope, priority;
        int64_t max_attempts, timeout_seconds, id;
        struct str retry, required_capabilities, preferred_capabilities, metadata, definition_id;
        struct str input, owner, network_channel;
        bool auto_enqueue_on_ready, draft;
        int approval_policy, review_policy;
        bool start;
        uint64_t given;
        struct fault fault; /* of an item of a batch */
};

#define AT(member) offsetof(struct task_body, member)
static const struct field task_body_fields[] = {
        { "title", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(title), NULL, 0, TITLE_MAX },
        { "description", FIELD_STR, FIELD_WIRE, AT(description), NULL, 0, TEXT_MAX },
        { "identifier", FIELD_STR, FIELD_WIRE, AT(identifier), NULL, 0, 200 },
        { "scope", FIELD_ENUM, FIELD_WIRE, AT(scope), &task_scope_names },
        { "priority", FIELD_ENUM, FIELD_WIRE, AT(priority), &priority_names },
        { "max_attempts", FIELD_INT, FIELD_WIRE, AT(max_attempts), NULL, 1, ATTEMPTS_MAX },
        { "retry", FIELD_JSON, FIELD_WIRE | FIELD_CLEARS, AT(retry), "object", 0, 4096 },
        { "timeout_seconds", FIELD_INT, FIELD_WIRE, AT(timeout_seconds), NULL, 1, 86400 * 365 },
        { "required_capabilities", FIELD_CAPS, FIELD_WIRE, AT(required_capabilities) },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata), NULL, 0, METADATA_MAX },
        { "definition_id", FIELD_STR, FIELD_WIRE, AT(definition_id), NULL, 1, 255 },
        { "input", FIELD_JSON, FIELD_WIRE, AT(input), NULL, 0, INPUT_MAX },
        { "start", FIELD_BOOL, FIELD_WIRE, AT(start) },
        { "id", FIELD_ID, FIELD_WIRE, AT(id), "task" },
        { "preferred_capabilities", FIELD_CAPS, FIELD_WIRE, AT(preferred_capabilities) },
        { "owner", FIELD_ACTOR, FIELD_WIRE, AT(owner) },
        { "network_channel", FIELD_STR, FIELD_WIRE, AT(network_channel), NULL, 1, 64 },
        { "auto_enqueue_on_ready", FIELD_BOOL, FIELD_WIRE, AT(auto_enqueue_on_ready) },
        { "draft", FIELD_BOOL, FIELD_WIRE, AT(draft) },
        { "approval_policy", FIELD_ENUM, FIELD_WIRE, AT(approval_policy), &approval_policy_names },
        { "review_policy", FIELD_ENUM, FIELD_WIRE, AT(review_policy), &review_policy_names },
};
enum { GIVEN_PRIORITY = 1 << 4, GIVEN_REVIEW_POLICY = 1 << 20 };
static const struct record task_body = { "TaskCreate", task_body_fields, LENGTH(task_body_fields),
                                         sizeof(struct task_body),
                                         offsetof(struct task_body, given),
                                         offsetof(struct task_body, fault) };

struct batch_body {
        struct list items;
};
static const struct field batch_fields[] = {
        { "items", FIELD_LIST, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct batch_body, items),
          &task_body },
};
static const struct record batch_body = { "TaskBatch", batch_fields, LENGTH(batch_fields),
                                          sizeof(struct batch_body), -1 };

#undef AT
#define AT(member) offsetof(struct task_patch, member)
enum { CLEARS = FIELD_WIRE | FIELD_CLEARS, FIXED = FIELD_WIRE | FIELD_FIXED };
static const struct field patch_fields[] = {
        { "title", FIELD_STR, FIELD_WIRE, AT(title), NULL, 0, TITLE_MAX },
        { "description", FIELD_STR, CLEARS, AT(description), NULL, 0, TEXT_MAX },
        { "priority", FIELD_ENUM, FIELD_WIRE, AT(priority), &priority_names },
        { "max_attempts", FIELD_INT, FIELD_WIRE, AT(max_attempts), NULL, 1, ATTEMPTS_MAX },
        { "retry", FIELD_JSON, FIELD_WIRE | FIELD_CLEARS, AT(retry), "object", 0, 4096 },
        { "timeout_seconds", FIELD_INT, CLEARS, AT(timeout_seconds), NULL, 1, 86400 * 365 },
        { "required_capabilities", FIELD_CAPS, CLEARS, AT(required_capabilities) },
        { "metadata", FIELD_JSON, CLEARS, AT(metadata), NULL, 0, METADATA_MAX },
        { "preferred_capabilities", FIELD_CAPS, CLEARS, AT(preferred_capabilities) },
        { "owner", FIELD_ACTOR, CLEARS, AT(owner) },
        { "network_channel", FIELD_STR, CLEARS, AT(network_channel), NULL, 1, 64 },
        { "clear_owner", FIELD_BOOL, FIELD_WIRE, AT(clear_owner) },
        { "auto_enqueue_on_ready", FIELD_BOOL, FIELD_WIRE, AT(auto_enqueue_on_ready) },
        { "approval_policy", FIELD_ENUM, FIELD_WIRE, AT(approval_policy), &approval_policy_names },
        { "review_policy", FIELD_ENUM, FIELD_WIRE, AT(review_policy), &review_policy_names },
        { "id", FIELD_STR, FIXED },
        { "identifier", FIELD_STR, FIXED },
        { "scope", FIELD_STR, FIXED },
        { "workspace_id", FIELD_STR, FIXED },
        { "parent_task_id", FIELD_STR, FIXED },
        { "definition_id", FIELD_STR, FIXED },
        { "created_by", FIELD_STR, FIXED },
        { "origin", FIELD_STR, FIXED },
        { "created_at", FIELD_STR, FIXED },
};
static const struct record patch_body = { "TaskPatch", patch_fields, LENGTH(patch_fields),
                                          sizeof(struct task_patch),
                                          offsetof(struct task_patch, given) };

struct start_body {
        struct str input, metadata, network_channel;
};
static const struct field start_fields[] = {
        { "input", FIELD_JSON, FIELD_WIRE, offsetof(struct start_body, input), NULL, 0, INPUT_MAX },
        { "metadata", FIELD_JSON, FIELD_WIRE, offsetof(struct start_body, metadata), NULL, 0,
          METADATA_MAX },
        { "network_channel", FIELD_STR, FIELD_WIRE, offsetof(struct start_body, network_channel),
          NULL, 1, 64 },
};
static const struct record start_body = { "TaskStart", start_fields, LENGTH(start_fields),
                                          sizeof(struct start_body), -1 };

static const struct field cancel_fields[] = {
        { "reason", FIELD_STR, FIELD_WIRE, offsetof(struct cancel_body, reason), NULL, 0, 4096 },
        { "metadata", FIELD_JSON, FIELD_WIRE, offsetof(struct cancel_body, metadata), NULL, 0,
          METADATA_MAX },
};
const struct record cancel_body_record = { "Cancel", cancel_fields, LENGTH(cancel_fields),
                                           sizeof(struct cancel_body), -1 };

static const struct field retry_fields[] = {
        { "metadata", FIELD_JSON, FIELD_WIRE, offsetof(struct retry_body, metadata), NULL, 0,
          METADATA_MAX },
};
const struct record retry_body_record = { "Retry", retry_fields, LENGTH(retry_fields),
                                          sizeof(struct retry_body), -1 };

/* ---- replies ---- */

static const struct field started_fields[] = {
        { "task", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct started, task),
          &task_record },
        { "run", FIELD_RECORD, FIELD_WIRE, offsetof(struct started, run), &run_record },
        { "action", FIELD_STR, FIELD_WIRE, offsetof(struct started, action) },
        { "existing_run", FIELD_BOOL, FIELD_WIRE | FIELD_FOLLOWS,
          offsetof(struct started, existing_run) },
};
const struct record started_record = { "Started", started_fields, LENGTH(started_fields),
                                       sizeof(struct started), -1 };
static const struct field run_row_fields[] = {
        { "run", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct started, run),
          &run_record },
};
const struct record run_row_record = { "RunRow", run_row_fields, 1, sizeof(struct started), -1 };

const struct started *started(struct request *r, struct task *task, struct run *run,
                              const char *action, bool existing)
{
        struct started *s = arena_new(&r->scope.arena, struct started);

        *s = (struct started){ task, run, action ? str_from(action) : STR_NONE, existing };
        return s;
}

enum err reply_started(struct request *r, struct tx *tx, int status, struct task *task,
                       struct run *run, const char *action, bool existing)
{
        enum err e = task_show(tx, task);

        if (run)
                run_show(tx, run);
        return e ? e :
                   request_reply(r, status, &started_record,
                                 started(r, task, run, action, existing));
}

/* ---- create ---- */

static struct task_spec to_spec(const struct task_body *b)
{
        return (struct task_spec){
                .title = b->title,
                .description = b->description,
                .identifier = b->identifier,
                .scope = b->scope,
                .priority = b->given & GIVEN_PRIORITY ? b->priority : PRIORITY_MEDIUM,
                .max_attempts = b->max_attempts,
                .retry = b->retry,
                .timeout_seconds = b->timeout_seconds,
                .required_capabilities = b->required_capabilities,
                .preferred_capabilities = b->preferred_capabilities,
                .owner = b->owner,
                .network_channel = b->network_channel,
                .metadata = b->metadata,
                .input = b->input,
                .id = b->id,
                .start = b->start,
                .auto_enqueue_on_ready = b->auto_enqueue_on_ready,
                .draft = b->draft,
                .approval_policy = b->approval_policy,
        };
}

/* parent 0: a task of its own */
static enum err create(struct request *r, struct tx *tx, const struct task_body *body,
                       int64_t parent, struct task *task, struct run **run)
{
        struct task_spec spec = to_spec(body);
        enum err e = body->definition_id.p ?
                             request_bind_definition(r, tx, body->definition_id, &spec) :
                             ERR_OK;

        if (e)
                return e;
        if (body->given & GIVEN_REVIEW_POLICY) /* else the definition's, or none */
                spec.review_policy = body->review_policy;
        return parent ? task_create_child(tx, &r->by, parent, &spec, task, run) :
                        task_create(tx, &r->by, &spec, task, run);
}

static enum err create_one(struct request *r, struct tx *tx, int64_t parent)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        struct run *run = NULL;
        enum err e = create(r, tx, r->body, parent, task, &run);

        if (!e)
                e = task_show(tx, task);
        if (e)
                return e;
        return run ? reply_started(r, tx, 201, task, run, NULL, false) :
                     request_reply(r, 201, &task_record, task);
}

static enum err post_task(struct request *r, struct tx *tx)
{
        return create_one(r, tx, 0);
}

static enum err post_child(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        return e ? e : create_one(r, tx, id);
}

/* A refused item has written nothing: task_create() checks before it writes. */
static enum err batch_one(struct request *r, struct tx *tx, const struct task_body *body,
                          struct batch_item *item)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        struct run *run = NULL;
        enum err e = body->fault.code;

        r->scope.fault = body->fault;
        if (!e)
                e = create(r, tx, body, 0, task, &run);
        if (run)
                run_show(tx, run);
        if (!e)
                e = task_show(tx, task);
        *item = (struct batch_item){ e, r->scope.fault, &started_record,
                                     started(r, task, run, NULL, false) };
        return err_http_status(e) >= 500 ? e : ERR_OK;
}

static enum err post_batch(struct request *r, struct tx *tx)
{
        const struct batch_body *body = r->body;
        const struct task_body *items = body->items.items;
        struct batch_item *out = arena_array(&r->scope.arena, struct batch_item, body->items.n + 1);
        enum err e = ERR_OK;

        if (body->items.n == 0 || body->items.n > BATCH_MAX)
                return fail_limit(&r->scope, "items", body->items.n ? ERR_BULK_TOO_LARGE : ERR_VALIDATION,
                                  BATCH_MAX, (int64_t)body->items.n, "items of one batch (at least 1)");
        for (size_t i = 0; !e && i < body->items.n; i++)
                e = batch_one(r, tx, &items[i], &out[i]);
        return e ? e : request_reply_batch(r, (struct list){ out, body->items.n });
}

/* ---- read ---- */

struct task_query {
        struct paging page;
        struct task_filter filter;
};
#undef AT
#define AT(member) offsetof(struct task_query, filter.member)
static const struct field task_query_fields[] = {
        PAGE_FIELDS(struct task_query),
        { "status", FIELD_ENUM, FIELD_WIRE, AT(status), &task_status_names, .preset = -1 },
        { "priority", FIELD_ENUM, FIELD_WIRE, AT(priority), &priority_names, .preset = -1 },
        { "approval_state", FIELD_ENUM, FIELD_WIRE, AT(approval_state), &approval_state_names,
          .preset = -1 },
        { "scope", FIELD_ENUM, FIELD_WIRE, AT(scope), &task_scope_names },
        { "parent_task_id", FIELD_ID, FIELD_WIRE, AT(parent_task_id), "task" },
        { "definition_id", FIELD_ID, FIELD_WIRE, AT(definition_id), "def" },
        { "owner_kind", FIELD_STR, FIELD_WIRE, AT(owner_kind) },
        { "owner_ref", FIELD_STR, FIELD_WIRE, AT(owner_ref), .doc = "with owner_kind" },
        { "network_channel", FIELD_STR, FIELD_WIRE, AT(network_channel) },
        { "source_conversation_id", FIELD_STR, FIELD_WIRE, AT(source_conversation_id) },
        { "include_drafts", FIELD_BOOL, FIELD_WIRE, AT(include_drafts) },
        { "q", FIELD_STR, FIELD_WIRE, AT(q), .doc = "a text in title or identifier" },
};
static const struct record task_query = { "TaskQuery", task_query_fields, LENGTH(task_query_fields),
                                          sizeof(struct task_query), -1 };

static enum err list_tasks(struct request *r, struct tx *tx)
{
        const struct task_query *q = r->filter;
        const int limit = (int)q->page.limit;
        struct task_filter f = q->filter;
        struct list items = { 0 };
        struct task *task;
        int64_t next = 0;
        enum err e;

        if (f.owner_ref.p && !f.owner_kind.p)
                return fail_field(&r->scope, "owner_ref", ERR_VALIDATION,
                                  "owner_ref needs owner_kind");
        f.before = q->page.before;
        f.limit = limit + 1;
        e = task_list(tx, &r->by, &f, &items, &next);
        task = items.items;
        for (size_t i = 0; !e && i < items.n; i++)
                task[i].input = request_listed(r, task[i].input);
        if (!e)
                e = request_reply_list(r, &task_record, items, limit, offsetof(struct task, id));
        if (next)
                r->next_cursor = next;
        return e;
}

static enum err get_task(struct request *r, struct tx *tx)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_get(tx, &r->by, id, task);
        if (!e)
                e = task_summarize(tx, task);
        if (!e)
                e = tx_all(tx, SQL_RUN_LATEST, &task->runs, INT(id), INT(20));
        if (e)
                return e;
        request_show_runs(r, tx, task->runs);
        e = tx_all(tx, SQL_TASK_CHILDREN, &task->children, INT(id), INT(TASK_CHILDREN_MAX));
        if (!e)
                e = tasks_summarize(tx, &task->children);
        if (!e)
                e = dependencies_of(tx, id, &task->dependencies);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err get_tree(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        const int limit = (int)page->limit;
        struct list items = { 0 };
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_tree(tx, &r->by, id, page->before, limit + 1, &items);
        return e ? e :
                   request_reply_list(r, &task_record, items, limit, offsetof(struct task, id));
}

static enum err patch_task(struct request *r, struct tx *tx)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_patch(tx, &r->by, id, r->body, task);
        if (!e)
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err delete_task(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_delete(tx, &r->by, id);
        r->status = 204;
        return e;
}

/* ---- attempts ---- */

/* The input of one attempt, by the schema of the task's definition. */
static enum err check_input(struct request *r, struct tx *tx, int64_t id, struct str given,
                            struct str *out)
{
        const struct definition *d;
        struct task task;
        enum err e = task_get(tx, &r->by, id, &task);

        *out = given;
        if (e || !task.definition_id)
                return e;
        e = request_definition(r, tx, task.definition_id, task.definition_version, &d);
        if (e)
                return e;
        e = definition_input(&r->scope, d, given, out);
        definition_cache_release(api_options(r->api)->definitions, d);
        return e;
}

static enum err begin(struct request *r, struct tx *tx, bool waits, struct task **task,
                      struct run **run)
{
        const struct start_body *body = r->body;
        struct start_spec start = { .metadata = body->metadata,
                                    .network_channel = body->network_channel,
                                    .waits = waits };
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        *task = arena_new(&r->scope.arena, struct task);
        if (!e && body->input.p)
                e = check_input(r, tx, id, body->input, &start.input);
        return e ? e : task_start(tx, &r->by, id, &start, *task, run);
}

static enum err start_task(struct request *r, struct tx *tx)
{
        struct task *task;
        struct run *run;
        enum err e = begin(r, tx, false, &task, &run);

        return e ? e : reply_started(r, tx, 201, task, run, "start", false);
}

/* A body that says nothing: members are refused. */
const struct record empty_body_record = { "Empty", NULL, 0, 1, -1 };

static enum err publish_task(struct request *r, struct tx *tx)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        struct run *run;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_publish(tx, &r->by, id, task, &run);
        return e ? e : reply_started(r, tx, 200, task, run, "publish", false);
}

struct comment_body {
        struct str comment;
};
static const struct field comment_fields[] = {
        { "comment", FIELD_STR, FIELD_WIRE, offsetof(struct comment_body, comment), NULL, 0, 4096 },
};
static const struct record comment_body = { "Comment", comment_fields, LENGTH(comment_fields),
                                            sizeof(struct comment_body), -1 };

static enum err decide_task(struct request *r, struct tx *tx, bool approve)
{
        const struct comment_body *body = r->body;
        struct task *task = arena_new(&r->scope.arena, struct task);
        struct run *run = NULL;
        bool existing = false;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_decide(tx, &r->by, id, approve, body->comment, task, &run, &existing);
        if (!e && approve)
                return reply_started(r, tx, 201, task, run, "approve", existing);
        if (!e)
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err approve_task(struct request *r, struct tx *tx)
{
        return decide_task(r, tx, true);
}

static enum err reject_task(struct request *r, struct tx *tx)
{
        return decide_task(r, tx, false);
}

static enum err post_run(struct request *r, struct tx *tx)
{
        struct task *task;
        struct run *run;
        enum err e = begin(r, tx, true, &task, &run);

        if (e)
                return e;
        run_show(tx, run);
        return request_reply(r, 201, &run_record, run);
}

static enum err list_task_runs(struct request *r, struct tx *tx)
{
        const struct runs_filter *q = r->filter;
        struct run_filter f = { .status = q->status };
        struct task task;
        enum err e = request_id(r, 0, "task", "task", &f.task_id);

        if (!e)
                e = task_get(tx, &r->by, f.task_id, &task);
        return e ? e : request_reply_runs(r, tx, &f);
}

/* The task of an operator's operation, which an agent's session may do only so often. */
static enum err operated_task(struct request *r, struct tx *tx, struct task **task)
{
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        *task = arena_new(&r->scope.arena, struct task);
        if (!e)
                e = task_get(tx, &r->by, id, *task);
        return e ? e : force_gate(tx, &r->by, id);
}

static enum err retry_task(struct request *r, struct tx *tx)
{
        const struct retry_body *body = r->body;
        struct task *task;
        struct run *run;
        enum err e = operated_task(r, tx, &task);

        if (!e)
                e = task_retry(tx, &r->by, task->id, body->metadata, task, &run);
        return e ? request_operated(r, e) : reply_started(r, tx, 201, task, run, "retry", false);
}

static enum err cancel_task(struct request *r, struct tx *tx)
{
        const struct cancel_body *body = r->body;
        struct task *task = arena_new(&r->scope.arena, struct task);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_cancel(tx, &r->by, id, body->reason, body->metadata, task);
        if (!e)
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err pause_task(struct request *r, struct tx *tx)
{
        const struct cancel_body *body = r->body;
        struct task *task;
        enum err e = operated_task(r, tx, &task);

        if (!e)
                e = task_pause(tx, &r->by, task->id, body->reason, body->metadata, task);
        if (!request_operated(r, e))
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err resume_task(struct request *r, struct tx *tx)
{
        const struct retry_body *body = r->body;
        struct task *task;
        enum err e = operated_task(r, tx, &task);

        if (!e)
                e = task_resume(tx, &r->by, task->id, body->metadata, task);
        if (!request_operated(r, e))
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

/* ---- timeline ---- */

struct event_filter {
        int64_t after, limit, cursor;
        int type;
        bool descending;
};
#undef AT
#define AT(member) offsetof(struct event_filter, member)
static const struct field event_filter_fields[] = {
        { "after_sequence", FIELD_INT, FIELD_WIRE, AT(after), NULL, 0, INT64_MAX },
        { "limit", FIELD_INT, FIELD_WIRE, AT(limit), NULL, 1, 1000, .preset = 200 },
        { "cursor", FIELD_ID, FIELD_WIRE | FIELD_CURSOR, AT(cursor), "cur",
          .doc = "the next_cursor of an earlier page" },
        { "event_type", FIELD_ENUM, FIELD_WIRE, AT(type), &event_names },
        { "descending", FIELD_BOOL, FIELD_WIRE, AT(descending), .doc = "the newest first" },
};
const struct record event_filter_record = { "EventFilter", event_filter_fields,
                                            LENGTH(event_filter_fields),
                                            sizeof(struct event_filter), -1 };

enum err reply_events(struct request *r, struct tx *tx, int64_t tree, int64_t task, int64_t run)
{
        const struct event_filter *f = r->filter;
        const struct event_page page = {
                .tree = tree,
                .task = task,
                .run = run,
                .after = f->cursor && !f->descending ? f->cursor : f->after,
                .before = f->descending ? f->cursor : 0,
                .descending = f->descending,
                .type = f->type,
                .limit = (int)f->limit + 1,
        };
        struct list items;
        enum err e = events_read(tx, &page, &items);

        return e ? e :
                   request_reply_list(r, &event_record, items, (int)f->limit,
                                      offsetof(struct event, sequence));
}

static enum err get_timeline(struct request *r, struct tx *tx)
{
        struct task task;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_get(tx, &r->by, id, &task);
        return e ? e : reply_events(r, tx, task.tree_id, id == task.tree_id ? 0 : id, 0);
}

/* ---- dependencies ---- */

struct depend_body {
        int64_t depends_on_task_id;
        int kind, on_failure;
};
static const struct field depend_fields[] = {
        { "depends_on_task_id", FIELD_ID, FIELD_WIRE | FIELD_REQUIRED,
          offsetof(struct depend_body, depends_on_task_id), "task" },
        { "kind", FIELD_ENUM, FIELD_WIRE, offsetof(struct depend_body, kind),
          &dependency_kind_names },
        { "on_failure", FIELD_ENUM, FIELD_WIRE, offsetof(struct depend_body, on_failure),
          &on_failure_names },
};
static const struct record depend_body = { "Depend", depend_fields, LENGTH(depend_fields),
                                           sizeof(struct depend_body), -1 };

static enum err post_dependency(struct request *r, struct tx *tx)
{
        const struct depend_body *body = r->body;
        struct task *task = arena_new(&r->scope.arena, struct task);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = dependency_add(tx, &r->by, id, body->depends_on_task_id, body->on_failure, task);
        if (!e)
                e = task_show(tx, task);
        return e ? e : request_reply(r, 201, &task_record, task);
}

static enum err delete_dependency(struct request *r, struct tx *tx)
{
        struct task *task = arena_new(&r->scope.arena, struct task);
        int64_t id, on;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = request_id(r, 1, "task", "dependency", &on);
        if (!e)
                e = dependency_remove(tx, &r->by, id, on, task);
        if (!e)
                e = task_show(tx, task);
        return e ? e : request_reply(r, 200, &task_record, task);
}

static enum err list_dependencies(struct request *r, struct tx *tx)
{
        struct task task;
        struct list items;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_get(tx, &r->by, id, &task);
        if (!e)
                e = dependencies_of(tx, id, &items);
        return e ? e : request_reply_part(r, &dependency_record, items);
}

const struct route task_routes[] = {
        { HTTP_POST, "/v1/tasks", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &task_body, &task_record, post_task, CALL_CREATE,
          "Create a task", .other = &started_record },
        { HTTP_POST, "/v1/tasks/batch", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_BATCH | ROUTE_OUTCOMES, &batch_body, &started_record, post_batch,
          CALL_CREATE,
          "Create up to 1,000 tasks" },
        { HTTP_GET, "/v1/tasks", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &task_record, list_tasks,
          0, "List tasks", .filter = &task_query },
        { HTTP_GET, "/v1/tasks/{task}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL, &task_record,
          get_task, 0, "Get a task" },
        { HTTP_PATCH, "/v1/tasks/{task}", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT, &patch_body,
          &task_record, patch_task, CALL_CREATE, "Change a task" },
        { HTTP_DELETE, "/v1/tasks/{task}", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_task, CALL_CREATE, "Delete a task" },
        { HTTP_POST, "/v1/tasks/{task}/children", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &task_body, &task_record, post_child, CALL_CREATE,
          "Create a task below another", .other = &started_record },
        { HTTP_GET, "/v1/tasks/{task}/tree", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &task_record,
          get_tree, 0, "A task and all below it", .filter = &page_filter_record },
        { HTTP_POST, "/v1/tasks/{task}/dependencies", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &depend_body, &task_record, post_dependency, CALL_CREATE,
          "Let a task wait for another" },
        { HTTP_GET, "/v1/tasks/{task}/dependencies", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &dependency_record, list_dependencies, 0, "What a task waits for",
          .filter = &page_filter_record },
        { HTTP_DELETE, "/v1/tasks/{task}/dependencies/{depends_on}", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT, NULL, &task_record, delete_dependency, CALL_CREATE, "Let it wait no longer" },
        { HTTP_POST, "/v1/tasks/{task}/publish", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &empty_body_record, &started_record, publish_task, CALL_CREATE, "Make a draft a task and enqueue it" },
        { HTTP_POST, "/v1/tasks/{task}/approve", SCOPE_TASKS_APPROVE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &comment_body, &started_record, approve_task, CALL_LEASE, "Approve a task" },
        { HTTP_POST, "/v1/tasks/{task}/reject", SCOPE_TASKS_APPROVE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &comment_body, &task_record, reject_task, CALL_LEASE, "Reject a task" },
        { HTTP_POST, "/v1/tasks/{task}/pause", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &task_record, pause_task, CALL_CANCEL,
          "Hold the runs of a task and all below it" },
        { HTTP_POST, "/v1/tasks/{task}/resume", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &retry_body_record, &task_record, resume_task, CALL_CANCEL, "End the task's own pause" },
        { HTTP_POST, "/v1/tasks/{task}/start", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &start_body, &started_record, start_task, CALL_CREATE, "Start a new attempt" },
        { HTTP_POST, "/v1/tasks/{task}/cancel", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &cancel_body_record, &task_record, cancel_task, CALL_CANCEL,
          "Cancel a task and all below it" },
        { HTTP_POST, "/v1/tasks/{task}/retry", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &retry_body_record, &started_record, retry_task, CALL_CREATE,
          "Try again after a failed, timed-out or canceled run" },
        { HTTP_POST, "/v1/tasks/{task}/runs", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &start_body, &run_record, post_run, CALL_CREATE, "Enqueue a run" },
        { HTTP_GET, "/v1/tasks/{task}/runs", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &run_record,
          list_task_runs, 0, "Runs of a task", .filter = &runs_filter_record },
        { HTTP_GET, "/v1/tasks/{task}/timeline", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &event_record, get_timeline, 0, "Events of a task", .filter = &event_filter_record },
        { 0 },
};
