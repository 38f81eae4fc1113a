#include "domain/task.h"

#include "domain/approval.h"
#include "domain/attempt.h"
#include "domain/cancel.h"
#include "domain/channel.h"
#include "domain/dependency.h"
#include "domain/domain.h"
#include "domain/retry.h"
#include "domain/run.h"
#include "domain/search.h"
#include "domain/sql.h"
#include "domain/summary.h"
#include "domain/workspace.h"

static const char *const statuses[] = { "draft",       "pending",   "blocked", "ready",
                                        "in_progress", "completed", "failed",  "canceled",
                                        "in_review",   NULL };
static const struct alias status_aliases[] = { { "cancelled", TASK_CANCELED },
                                               { "done", TASK_COMPLETED },
                                               { "error", TASK_FAILED },
                                               { NULL, 0 } };
static const char *const priorities[] = { "low", "medium", "high", "urgent", NULL };
static const struct alias priority_aliases[] = { { "normal", PRIORITY_MEDIUM },
                                                 { "critical", PRIORITY_URGENT },
                                                 { NULL, 0 } };
static const char *const scopes[] = { "workspace", "global", NULL };
static const char *const approval_policies[] = { "none", "manual", NULL };
static const char *const approval_states[] = { "not_required", "pending", "approved", "rejected",
                                               NULL };
static const char *const review_policies[] = { "none", "on_success", "on_failure", "always", NULL };

const struct names task_status_names = { statuses, status_aliases };
const struct names priority_names = { priorities, priority_aliases };
const struct names task_scope_names = { scopes, NULL };
const struct names approval_policy_names = { approval_policies, NULL };
const struct names approval_state_names = { approval_states, NULL };
const struct names review_policy_names = { review_policies, NULL };

#define AT(member) offsetof(struct task, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE, SHOWN = BOTH | FIELD_ALWAYS };
static const struct field task_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "task" },
        { "tree_id", FIELD_ID, FIELD_COLUMN, AT(tree_id), "task" },
        { "workspace_id", FIELD_NAME, BOTH, AT(workspace_id) },
        { "parent_task_id", FIELD_ID, BOTH, AT(parent_task_id), "task" },
        { "depth", FIELD_INT, BOTH, AT(depth) },
        { "scope", FIELD_ENUM, BOTH, AT(scope), &task_scope_names },
        { "identifier", FIELD_STR, BOTH, AT(identifier) },
        { "title", FIELD_STR, BOTH | FIELD_REQUIRED, AT(title) },
        { "description", FIELD_STR, BOTH, AT(description) },
        { "priority", FIELD_ENUM, BOTH, AT(priority), &priority_names },
        { "status", FIELD_ENUM, BOTH, AT(status), &task_status_names },
        { "draft", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(draft) },
        { "max_attempts", FIELD_INT, SHOWN, AT(max_attempts) },
        { "attempts", FIELD_INT, FIELD_COLUMN, AT(attempts) },
        { "retry", FIELD_JSON, BOTH, AT(retry) },
        { "timeout_seconds", FIELD_INT, BOTH, AT(timeout_seconds) },
        { "auto_enqueue_on_ready", FIELD_BOOL, SHOWN, AT(auto_enqueue_on_ready) },
        { "approval_policy", FIELD_ENUM, BOTH, AT(approval_policy), &approval_policy_names },
        { "approval_state", FIELD_ENUM, BOTH, AT(approval_state), &approval_state_names },
        { "review_policy", FIELD_ENUM, BOTH, AT(review_policy), &review_policy_names },
        { "review_round", FIELD_INT, BOTH, AT(review_round) },
        { "review_id", FIELD_ID, BOTH, AT(review_id), "review" },
        { "review_circuit_at", FIELD_TIME, BOTH, AT(review_circuit_at) },
        { "owner", FIELD_ACTOR, BOTH, AT(owner) },
        { "network_channel", FIELD_NAME, BOTH, AT(network_channel) },
        { "definition_id", FIELD_ID, BOTH, AT(definition_id), "def" },
        { "definition_version", FIELD_INT, BOTH, AT(definition_version) },
        { "required_capabilities", FIELD_CAPS, BOTH, AT(required_capabilities) },
        { "preferred_capabilities", FIELD_CAPS, BOTH, AT(preferred_capabilities) },
        { "claim_rule", FIELD_NAME, FIELD_COLUMN, AT(claim_rule) },
        { "current_run_id", FIELD_ID, FIELD_WIRE, AT(current_run_id), "run" },
        { "active_run", FIELD_RECORD, FIELD_WIRE, AT(active_run), &active_run_record },
        { "last_run_id", FIELD_ID, FIELD_COLUMN, AT(last_run_id), "run" },
        { "last_run_status", FIELD_INT, FIELD_COLUMN, AT(last_run_status) },
        { "latest_sequence", FIELD_INT, FIELD_WIRE, AT(latest_sequence) },
        { "unmet_deps", FIELD_INT, FIELD_COLUMN, AT(unmet_deps) },
        { "unmet_dependency_count", FIELD_INT, FIELD_WIRE, AT(unmet_deps) },
        { "dependent_count", FIELD_INT, FIELD_COLUMN, AT(dependent_count) },
        { "dependency_count", FIELD_INT, BOTH, AT(dependency_count) },
        { "child_count", FIELD_INT, BOTH, AT(child_count) },
        { "paused", FIELD_BOOL, SHOWN, AT(paused) },
        { "effective_paused", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(effective_paused) },
        { "paused_by_task_id", FIELD_ID, FIELD_WIRE, AT(paused_by_task_id), "task" },
        { "paused_n", FIELD_INT, FIELD_COLUMN, AT(paused_n) },
        { "paused_by", FIELD_ACTOR, BOTH, AT(paused_by) },
        { "paused_at", FIELD_TIME, BOTH, AT(paused_at) },
        { "paused_reason", FIELD_STR, BOTH, AT(paused_reason) },
        { "attention", FIELD_STR, BOTH, AT(attention) },
        { "source_session_id", FIELD_STR, BOTH, AT(source_session_id) },
        { "source_conversation_id", FIELD_STR, BOTH, AT(source_conversation_id) },
        { "source_message_id", FIELD_STR, BOTH, AT(source_message_id) },
        { "conversation_context", FIELD_JSON, FIELD_COLUMN, AT(conversation_context) },
        { "created_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(created_by) },
        { "origin", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(origin) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "updated_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(updated_at) },
        { "last_activity_at", FIELD_TIME, FIELD_WIRE, AT(last_activity_at) },
        { "closed_at", FIELD_TIME, BOTH, AT(closed_at) },
        { "archived_at", FIELD_TIME, BOTH, AT(archived_at) },
        { "metadata", FIELD_JSON, BOTH, AT(metadata) },
        { "input", FIELD_JSON, BOTH, AT(input) },
        { "runs", FIELD_LIST, FIELD_WIRE, AT(runs), &run_record },
        { "children", FIELD_LIST, FIELD_WIRE, AT(children), &task_record },
        { "dependencies", FIELD_LIST, FIELD_WIRE, AT(dependencies), &dependency_record },
};
const struct record task_record = { "Task", task_fields, LENGTH(task_fields), sizeof(struct task),
                                    -1 };

/* What task.created says. */
static const struct field created_fields[] = {
        { "scope", FIELD_ENUM, FIELD_WIRE, AT(scope), &task_scope_names },
        { "workspace_id", FIELD_NAME, FIELD_WIRE, AT(workspace_id) },
        { "parent_task_id", FIELD_ID, FIELD_WIRE, AT(parent_task_id), "task" },
        { "status", FIELD_ENUM, FIELD_WIRE, AT(status), &task_status_names },
        { "network_channel", FIELD_NAME, FIELD_WIRE, AT(network_channel) },
        { "owner", FIELD_ACTOR, FIELD_WIRE, AT(owner) },
};
static const struct record created_record = { "TaskCreated", created_fields,
                                              LENGTH(created_fields), sizeof(struct task), -1 };

/* ---- status ---- */

bool task_is_blocked(const struct task *task)
{
        return task->unmet_deps > 0 || (task->approval_policy == APPROVAL_MANUAL &&
                                        task->approval_state != APPROVAL_APPROVED);
}

enum task_status task_derive(const struct task *task, int open_run)
{
        enum task_status idle = task_is_blocked(task) ? TASK_BLOCKED : TASK_READY;

        if (task->status == TASK_CANCELED || task->status == TASK_DRAFT)
                return (enum task_status)task->status;
        if (open_run == RUN_QUEUED || open_run == RUN_CLAIMED)
                return idle;
        if (open_run != RUN_NONE && !run_is_terminal(open_run))
                return TASK_IN_PROGRESS;
        if (task->review_id)
                return task->review_circuit_at ? TASK_BLOCKED : TASK_IN_REVIEW;
        if (task->last_run_status == RUN_COMPLETED)
                return TASK_COMPLETED;
        if (task->last_run_status == RUN_FAILED || task->last_run_status == RUN_TIMED_OUT)
                return task->attempts >= task->max_attempts ? TASK_FAILED : idle;
        return idle;
}

int64_t task_holds(const struct task *task, bool root_run)
{
        return (root_run && task_is_blocked(task) ? HOLD_BLOCKED : 0) |
               (task->paused_n > 0 ? HOLD_PAUSED : 0);
}

enum err task_project(struct tx *tx, struct task *task, int open_run, struct events *events)
{
        enum task_status from = (enum task_status)task->status, to = task_derive(task, open_run);
        enum err e;

        if (from == to)
                return ERR_OK;
        task->status = to;
        task->updated_at = tx_now(tx);
        task->closed_at = task_is_closed(to) ? tx_now(tx) : 0;
        events_add(tx, events, EVENT_TASK_STATUS_CHANGED, task->id, 0,
                  payload_change(tx, statuses[from], statuses[to]));
        e = tx_exec(tx, SQL_TASK_PROJECT, INT(task->id), INT(to), OPT(task->last_run_id),
                    INT(task->last_run_status), INT(task->attempts), OPT(task->closed_at),
                    INT(task->updated_at));
        return !e && task->dependent_count ? dependents_follow(tx, task, from, events) : e;
}

enum err task_project_run(struct tx *tx, struct task *task, int open_run, struct events *events)
{
        if (task->status == (int)task_derive(task, open_run))
                return tx_exec(tx, SQL_TASK_RUN, INT(task->id), OPT(task->last_run_id),
                               INT(task->last_run_status), INT(task->attempts));
        return task_project(tx, task, open_run, events);
}

/* ---- creation ---- */

static enum err own_id(struct tx *tx, int64_t given, int64_t *id)
{
        struct scope *scope = tx_scope(tx);
        int64_t there;

        if (!given) {
                *id = scope_id(scope);
                return ERR_OK;
        }
        if (id_time_us(given) > tx_now(tx) + US_PER_S)
                return fail_field(scope, "id", ERR_VALIDATION,
                                  "id lies ahead of the server's clock");
        if (tx_number(tx, SQL_TASK_EXISTS, &there, INT(given)) != ERR_EMPTY ||
            tx_number(tx, SQL_AUDIT_GONE, &there, TEXT(audit_id(tx, "task", given))) != ERR_EMPTY)
                return fail_field(scope, "id", ERR_CONFLICT, "a task with this id exists already");
        *id = given;
        return ERR_OK;
}

/* An agent's pool or session may claim the task's runs; the other kinds are who answers for it. */
static enum err owner_check(struct scope *scope, struct str owner)
{
        static const char *const kinds[] = { "human:",        "agent_session:", "automation:",
                                             "extension:",    "network_peer:",  "pool:" };

        for (size_t i = 0; i < LENGTH(kinds); i++)
                if (!owner.p || str_starts(owner, kinds[i]))
                        return owner.n > 300 ? fail_limit(scope, "owner", ERR_VALIDATION, 300,
                                                          (int64_t)owner.n, "bytes of an owner") :
                                               ERR_OK;
        return fail_field(scope, "owner", ERR_VALIDATION,
                          "owner.kind must be human, agent_session, automation, extension,"
                          " network_peer or pool");
}

static enum err spec_check(struct scope *scope, const struct principal *by,
                           const struct task_spec *spec)
{
        struct task_retry retry;
        enum err e;

        if (!str_trim(spec->title).n)
                return fail_field(scope, "title", ERR_VALIDATION, "title must not be blank");
        if (spec->draft && spec->start)
                return fail_field(scope, "start", ERR_VALIDATION,
                                  "a draft is started by publishing it");
        if (spec->scope == TASK_GLOBAL && !(by->scopes & SCOPE_GLOBAL_CREATE))
                return fail_field(scope, "scope", ERR_PERMISSION_DENIED,
                                  "a global task needs a key with the scope global:create");
        if (spec->scope == TASK_WORKSPACE && str_is(by->workspace, SYSTEM_WORKSPACE))
                return fail_field(scope, "scope", ERR_SCOPE_BINDING,
                                  "the system workspace holds global tasks only: say scope global,"
                                  " or choose another workspace");
        e = owner_check(scope, spec->owner);
        return e ? e : retry_parse(scope, spec->retry, &retry);
}

static struct str child_payload(struct tx *tx, const struct task *child)
{
        char id[ID_TEXT_SIZE];

        id_print("task", child->id, id);
        return arena_printf(&tx_scope(tx)->arena,
                            "{\"child_task_id\":\"%s\",\"child_scope\":\"%s\","
                            "\"child_workspace_id\":\"" STR_FMT "\"}",
                            id, scopes[child->scope], STR_ARG(child->workspace_id));
}

static struct task task_new(struct tx *tx, const struct principal *by,
                            const struct task_spec *spec)
{
        const struct task *parent = spec->parent;

        return (struct task){
                .workspace_id = spec->scope == TASK_GLOBAL ? STR(SYSTEM_WORKSPACE) : by->workspace,
                .parent_task_id = parent ? parent->id : 0,
                .depth = parent ? parent->depth + 1 : 1,
                .paused_n = parent ? parent->paused_n : 0,
                .scope = spec->scope,
                .identifier = spec->identifier,
                .title = str_trim(spec->title),
                .description = spec->description,
                .priority = spec->priority,
                .status = spec->draft ? TASK_DRAFT : TASK_READY,
                .approval_policy = spec->approval_policy,
                .approval_state = spec->approval_policy ? APPROVAL_PENDING :
                                                          APPROVAL_NOT_REQUIRED,
                .review_policy = spec->review_policy,
                .max_attempts = spec->max_attempts ? spec->max_attempts : RETRY_ATTEMPTS,
                .retry = spec->retry,
                .timeout_seconds = spec->timeout_seconds,
                .auto_enqueue_on_ready = spec->auto_enqueue_on_ready,
                .definition_id = spec->definition_id,
                .definition_version = spec->definition_version,
                .required_capabilities = spec->required_capabilities,
                .preferred_capabilities = spec->preferred_capabilities,
                .owner = spec->owner,
                .network_channel = spec->network_channel,
                .last_run_status = RUN_NONE,
                .source_session_id = spec->source_session_id,
                .source_conversation_id = spec->source_conversation_id,
                .source_message_id = spec->source_message_id,
                .conversation_context = spec->conversation_context,
                .created_by = by->actor,
                .origin = by->origin,
                .created_at = tx_now(tx),
                .updated_at = tx_now(tx),
                .metadata = spec->metadata,
                .input = spec->input,
        };
}

/* Together with the task, whose row is not written yet. */
static enum err first_run(struct tx *tx, struct task *task, struct events *events,
                          struct run **run)
{
        struct run_spec spec = attempt_spec(task, 1, STR_NONE);
        enum err e;

        spec.idempotency_key = events->by->idempotency_key;
        *run = arena_new(&tx_scope(tx)->arena, struct run);
        e = run_create(tx, task, &spec, events, *run);
        if (e)
                return e;
        task->attempts = 1;
        task->last_run_id = (*run)->id;
        return ERR_OK;
}

enum err task_create(struct tx *tx, const struct principal *by, const struct task_spec *spec,
                     struct task *out, struct run **run)
{
        const struct task *parent = spec->parent;
        struct events events = { .by = by, .new_tree = !parent };
        struct task task = task_new(tx, by, spec);
        enum err e = spec_check(tx_scope(tx), by, spec);

        if (!e)
                e = channel_check(tx, task.workspace_id, STR_NONE, task.network_channel);
        if (!e)
                e = own_id(tx, spec->id, &task.id);
        if (e)
                return e;
        events.tree = task.tree_id = parent ? parent->tree_id : task.id;
        if (parent)
                events_add(tx, &events, EVENT_TASK_CHILD_CREATED, parent->id, 0,
                           child_payload(tx, &task));
        if (!spec->draft && task_is_blocked(&task))
                task.status = TASK_BLOCKED;
        events_add(tx, &events, EVENT_TASK_CREATED, task.id, 0,
                   payload_of(tx, &created_record, &task));
        if (spec->start)
                e = first_run(tx, &task, &events, run);
        if (!e)
                e = tx_insert(tx, SQL_TASK_ADD, &task);
        if (!e)
                e = events_append(tx, &events);
        if (!e)
                e = search_follow(tx, task.id, NULL, &task);
        if (!e && task.approval_policy)
                e = approval_open_task(tx, &task);
        if (!e && parent)
                e = tx_exec(tx, SQL_TASK_CHILD_COUNT, INT(parent->id), INT(1));
        task.latest_sequence = events.last;
        if (!e)
                *out = task;
        return e;
}

enum err task_look_above(struct tx *tx, const struct task *task, bool *canceled)
{
        int64_t found;
        enum err e = task->parent_task_id || task->status == TASK_CANCELED ?
                             tx_number(tx, SQL_TASK_ABOVE_CANCELED, &found, INT(task->id)) :
                             ERR_EMPTY;

        if (e && e != ERR_EMPTY)
                return e;
        *canceled = !e;
        return ERR_OK;
}

enum err task_check_above(struct tx *tx, const struct task *task)
{
        bool canceled;
        enum err e = task_look_above(tx, task, &canceled);

        return e || !canceled ? e :
                                fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                                     "the task or one above it is canceled");
}

static enum err child_check(struct scope *scope, const struct principal *by,
                            const struct task *parent, const struct task_spec *spec)
{
        if (parent->depth >= TASK_DEPTH_MAX)
                return fail_limit(scope, "parent_task_id", ERR_GRAPH_LIMIT, TASK_DEPTH_MAX,
                                  parent->depth + 1, "levels of tasks");
        if (parent->child_count >= TASK_CHILDREN_MAX)
                return fail_limit(scope, "parent_task_id", ERR_GRAPH_LIMIT, TASK_CHILDREN_MAX,
                                  parent->child_count + 1, "children of one task");
        if (parent->scope == TASK_WORKSPACE &&
            (spec->scope == TASK_GLOBAL || !str_eq(by->workspace, parent->workspace_id)))
                return fail_field(scope, "scope", ERR_SCOPE_BINDING,
                                  "a child of a workspace's task belongs to the same workspace");
        return ERR_OK;
}

enum err task_create_child(struct tx *tx, const struct principal *by, int64_t id,
                           struct task_spec *spec, struct task *out, struct run **run)
{
        struct task parent;
        enum err e = task_get(tx, by, id, &parent);

        if (!e)
                e = task_check_above(tx, &parent);
        if (!e)
                e = child_check(tx_scope(tx), by, &parent, spec);
        spec->parent = &parent;
        if (!e)
                e = task_create(tx, by, spec, out, run);
        spec->parent = NULL;
        return e;
}

/* ---- reading ---- */

enum err task_get(struct tx *tx, const struct principal *by, int64_t id, struct task *out)
{
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(id));

        if (e == ERR_EMPTY ||
            (!e && !by->all_workspaces && !str_eq(task.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "task");
        if (!e)
                *out = task;
        return e;
}

enum err task_show(struct tx *tx, struct task *task)
{
        int64_t found[2] = { 0 };
        enum err e;

        task->draft = task->status == TASK_DRAFT;
        task->effective_paused = task->paused_n > 0;
        task->paused_by_task_id = task->paused ? task->id : 0;
        if (task->effective_paused && !task->paused &&
            (e = tx_number(tx, SQL_TASK_PAUSED_ABOVE, &task->paused_by_task_id, INT(task->id))))
                return e;
        if (task->latest_sequence)
                return ERR_OK;
        e = tx_numbers(tx, SQL_TASK_SHOW, found, 2, ARGS(INT(task->tree_id), OPT(task->last_run_id)));
        task->latest_sequence = found[0];
        task->current_run_id = found[1];
        return e;
}

enum err task_tree(struct tx *tx, const struct principal *by, int64_t id, int64_t after, int limit,
                   struct list *out)
{
        struct task root;
        enum err e = task_get(tx, by, id, &root);

        if (!e)
                e = tx_all(tx, SQL_TASK_TREE, out, INT(id), INT(after), INT(limit));
        return e ? e : tasks_summarize(tx, out);
}

/* ---- changes ---- */

static const char *const patch_names[] = { "title",           "description",
                                           "priority",        "max_attempts",
                                           "retry",           "timeout_seconds",
                                           "required_capabilities", "metadata",
                                           "preferred_capabilities", "owner",
                                           "network_channel", "clear_owner",
                                           "auto_enqueue_on_ready", "approval_policy",
                                           "review_policy" };

static struct str updated_payload(struct tx *tx, uint64_t given, enum task_status status)
{
        struct str list = STR("");

        for (size_t i = 0; i < LENGTH(patch_names); i++)
                if (given >> i & 1)
                        list = arena_printf(&tx_scope(tx)->arena, STR_FMT "%s\"%s\"", STR_ARG(list),
                                            list.n ? "," : "", patch_names[i]);
        return arena_printf(&tx_scope(tx)->arena, "{\"changed_fields\":[" STR_FMT "],\"status\":\"%s\"}",
                            STR_ARG(list), statuses[status]);
}

static void patch_apply(struct task *task, const struct task_patch *p)
{
        if (p->given & PATCH_TITLE)
                task->title = str_trim(p->title);
        if (p->given & PATCH_DESCRIPTION)
                task->description = p->description;
        if (p->given & PATCH_PRIORITY)
                task->priority = p->priority;
        if (p->given & PATCH_MAX_ATTEMPTS)
                task->max_attempts = p->max_attempts;
        if (p->given & PATCH_RETRY)
                task->retry = p->retry;
        if (p->given & PATCH_TIMEOUT)
                task->timeout_seconds = p->timeout_seconds;
        if (p->given & PATCH_CAPABILITIES)
                task->required_capabilities = p->required_capabilities;
        if (p->given & PATCH_METADATA)
                task->metadata = p->metadata;
        if (p->given & PATCH_PREFERRED)
                task->preferred_capabilities = p->preferred_capabilities;
        if (p->given & PATCH_OWNER)
                task->owner = p->owner;
        if (p->given & PATCH_CHANNEL)
                task->network_channel = p->network_channel;
        if (p->given & PATCH_AUTO)
                task->auto_enqueue_on_ready = p->auto_enqueue_on_ready;
        if (p->given & PATCH_REVIEW)
                task->review_policy = p->review_policy;
        /* Another policy begins anew, and so does one that ended in a rejection. */
        if ((p->given & PATCH_APPROVAL) && (p->approval_policy != task->approval_policy ||
                                            task->approval_state == APPROVAL_REJECTED)) {
                task->approval_policy = p->approval_policy;
                /* Nobody is asked about a canceled task. */
                task->approval_state = p->approval_policy && task->status != TASK_CANCELED ?
                                               APPROVAL_PENDING :
                                               APPROVAL_NOT_REQUIRED;
        }
}

enum err task_tell(struct tx *tx, const struct principal *by, enum audit_action action,
                   const struct task *before, struct str detail)
{
        struct audit_change change = { .action = action,
                                       .resource = audit_id(tx, "task", before->id),
                                       .workspace = before->workspace_id,
                                       .detail = detail,
                                       .before = audit_digest(tx, &task_record, before) };
        struct task after;
        enum err e = tx_one(tx, SQL_TASK_GET, &after, INT(before->id));

        if (e && e != ERR_EMPTY)
                return e;
        if (!e)
                change.after = audit_digest(tx, &task_record, &after);
        return audit_append(tx, by, &change);
}

/* Its row is written already but for the approval. */
static enum err reset_approval(struct tx *tx, const struct principal *by, const struct task *before,
                               const struct task *task)
{
        enum err e = approval_close_task(tx, task->id);

        if (!e)
                e = tx_exec(tx, SQL_TASK_APPROVAL, INT(task->id), INT(task->approval_policy),
                            INT(task->approval_state), INT(task->updated_at));
        if (!e && task->approval_state == APPROVAL_PENDING)
                e = approval_open_task(tx, task);
        return e ? e :
                   task_tell(tx, by, AUDIT_TASK_APPROVAL_POLICY, before,
                             str_from(approval_policies[task->approval_policy]));
}

static bool same_row(const struct task *a, const struct task *b)
{
        return str_eq(a->title, b->title) && str_eq(a->description, b->description) &&
               a->priority == b->priority && a->max_attempts == b->max_attempts &&
               str_eq(a->retry, b->retry) && a->timeout_seconds == b->timeout_seconds &&
               str_eq(a->required_capabilities, b->required_capabilities) &&
               str_eq(a->metadata, b->metadata) &&
               str_eq(a->preferred_capabilities, b->preferred_capabilities) &&
               str_eq(a->owner, b->owner) && str_eq(a->network_channel, b->network_channel) &&
               a->auto_enqueue_on_ready == b->auto_enqueue_on_ready &&
               a->approval_policy == b->approval_policy && a->approval_state == b->approval_state &&
               a->review_policy == b->review_policy;
}

/* What depends on several fields. */
static enum err patch_check(struct scope *scope, struct task_patch *p)
{
        struct task_retry retry;
        enum err e;

        if (p->given & PATCH_CLEAR_OWNER) {
                if (p->given & PATCH_OWNER)
                        return fail_field(scope, "clear_owner", ERR_VALIDATION,
                                          "give either owner or clear_owner");
                p->given &= ~(uint64_t)PATCH_CLEAR_OWNER;
                p->given |= p->clear_owner ? PATCH_OWNER : 0;
        }
        if (!p->given)
                return fail(scope, ERR_VALIDATION, "a patch must change at least one field");
        if ((p->given & PATCH_TITLE) && !str_trim(p->title).n)
                return fail_field(scope, "title", ERR_VALIDATION, "title must not be blank");
        e = owner_check(scope, p->owner);
        return e ? e : retry_parse(scope, p->retry, &retry);
}

enum err task_patch(struct tx *tx, const struct principal *by, int64_t id,
                    const struct task_patch *given, struct task *out)
{
        struct task task = { 0 }, before;
        struct task_patch patch = *given;
        struct events events = { .by = by };
        struct run open;
        enum err e = task_get(tx, by, id, &task);

        if (!e)
                e = patch_check(tx_scope(tx), &patch);
        if (!e)
                e = channel_check(tx, task.workspace_id, task.claim_rule, patch.network_channel);
        if (e)
                return e;
        before = task;
        patch_apply(&task, &patch);
        *out = task;
        if (same_row(&task, &before))
                return ERR_OK;
        out->updated_at = task.updated_at = tx_now(tx);
        events.tree = task.tree_id;
        e = tx_exec(tx, SQL_TASK_PATCH, INT(id), TEXT(task.title), TEXT(task.description),
                    INT(task.priority), INT(task.max_attempts), TEXT(task.retry),
                    INT(task.timeout_seconds), NAME(task.required_capabilities),
                    TEXT(task.metadata), INT(task.updated_at),
                    NAME(task.preferred_capabilities), NAME(task.owner),
                    NAME(task.network_channel), INT(task.auto_enqueue_on_ready),
                    INT(task.review_policy));
        if (!e)
                e = search_follow(tx, task.id, &before, &task);
        if (!e && (task.approval_policy != before.approval_policy ||
                   task.approval_state != before.approval_state))
                e = reset_approval(tx, by, &before, &task);
        if (!e && task.review_policy != before.review_policy)
                e = task_tell(tx, by, AUDIT_TASK_REVIEW_POLICY, &before,
                              str_from(review_policies[task.review_policy]));
        if (!e)
                e = attempt_open(tx, id, &open);
        if (e)
                return e;
        events_add(tx, &events, EVENT_TASK_UPDATED, id, 0,
                   updated_payload(tx, patch.given, task_derive(&task, open.status)));
        if (open.status == RUN_QUEUED)
                e = run_follow(tx, &task, patch.given & PATCH_CHANNEL, &open);
        if (!e)
                e = task_follow(tx, &task, &events);
        if (!e)
                e = events_append(tx, &events);
        *out = task;
        return e;
}

enum err task_cancel(struct tx *tx, const struct principal *by, int64_t id, struct str reason,
                     struct str metadata, struct task *out)
{
        enum err e = task_get(tx, by, id, out);

        return e ? e : cancel_tree(tx, by, out, reason, metadata);
}

enum err task_erase(struct tx *tx, const struct principal *by, const struct task *task)
{
        static const enum sql rows[] = { SQL_TASK_DELETE_STEPS,          SQL_TASK_DELETE_JOINS,
                                         SQL_TASK_DELETE_LOGS,           SQL_TASK_DELETE_STEP_APPROVALS,
                                         SQL_TASK_DELETE_APPROVALS,      SQL_TASK_DELETE_RUNS,
                                         SQL_TRIAGE_DROP,                SQL_PROFILE_DROP,
                                         SQL_TRIAGE_DROP,                SQL_TASK_DELETE_INPUTS,
                                         SQL_TRIAGE_DROP,                SQL_TASK_DELETE_REVIEWS,
                                         SQL_TASK_DELETE };
        enum err e = dependencies_drop(tx, by, task);

        for (size_t i = 0; !e && i < LENGTH(rows); i++)
                e = tx_exec(tx, rows[i], INT(task->id));
        if (!e)
                e = search_follow(tx, task->id, task, NULL);
        if (!e && task->parent_task_id)
                e = tx_exec(tx, SQL_TASK_CHILD_COUNT, INT(task->parent_task_id), INT(-1));
        return e;
}

enum err task_delete(struct tx *tx, const struct principal *by, int64_t id)
{
        struct events events = { .by = by };
        struct list open;
        struct task task;
        enum err e = task_get(tx, by, id, &task);

        if (!e && task.child_count)
                e = fail(tx_scope(tx), ERR_VALIDATION, "the task has children; delete them first");
        if (!e)
                e = tx_all(tx, SQL_RUN_OPEN_OF_TASK, &open, INT(id), INT(1));
        if (!e && open.n)
                e = fail(tx_scope(tx), ERR_VALIDATION, "the task has an open run; cancel it first");
        if (!e)
                e = task_erase(tx, by, &task);
        if (!e && !task.parent_task_id)
                e = tx_exec(tx, SQL_DELETED_TREE_ADD, NAME(task.workspace_id), INT(id),
                            INT(tx_now(tx)));
        events.tree = task.tree_id;
        if (e)
                return e;
        events_add(tx, &events, EVENT_TASK_DELETED, id, 0,
                   payload_said(tx, "title", task.title, STR_NONE));
        e = events_append(tx, &events);
        if (!e)
                e = tx_exec(tx, SQL_DELETED_TASK_ADD, INT(id), NAME(task.workspace_id));
        return e ? e : task_tell(tx, by, AUDIT_TASK_DELETED, &task, task.title);
}
