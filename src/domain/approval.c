#include "domain/approval.h"

#include "domain/attempt.h"
#include "domain/audit.h"
#include "domain/domain.h"
#include "domain/join.h"
#include "domain/sql.h"

static const char *const statuses[] = { "pending", "approved", "denied", "expired", "canceled",
                                        NULL };
static const char *const risks[] = { "low", "medium", "high", "critical", NULL };
const struct names approval_status_names = { statuses, NULL };
const struct names risk_level_names = { risks, NULL };

#define AT(member) offsetof(struct approval, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field approval_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "appr" },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "run_id", FIELD_ID, BOTH, AT(run_id), "run" },
        { "step_index", FIELD_INT, BOTH | FIELD_FOLLOWS, AT(step_index) },
        { "status", FIELD_ENUM, BOTH, AT(status), &approval_status_names },
        { "risk_level", FIELD_ENUM, BOTH, AT(risk_level), &risk_level_names },
        { "permission_type", FIELD_STR, BOTH, AT(permission_type) },
        { "summary", FIELD_STR, BOTH | FIELD_REQUIRED, AT(summary) },
        { "arguments_digest", FIELD_STR, BOTH, AT(arguments_digest) },
        { "requested_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(requested_by) },
        { "decided_by", FIELD_ACTOR, BOTH, AT(decided_by) },
        { "decision_source", FIELD_STR, BOTH, AT(decision_source) },
        { "comment", FIELD_STR, BOTH, AT(comment) },
        { "expires_at", FIELD_TIME, BOTH, AT(expires_at) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "decided_at", FIELD_TIME, BOTH, AT(decided_at) },
};
const struct record approval_record = { "Approval", approval_fields, LENGTH(approval_fields),
                                        sizeof(struct approval), -1 };

static struct str id_payload(struct tx *tx, const struct approval *a, const char *status)
{
        char id[ID_TEXT_SIZE];

        id_print("appr", a->id, id);
        return arena_printf(&tx_scope(tx)->arena,
                            "{\"approval_id\":\"%s\",\"step_index\":%lld,\"status\":\"%s\"}", id,
                            (long long)a->step_index, status);
}

enum err approval_open(struct tx *tx, const struct run *run, int64_t step,
                       const struct approval_spec *spec, struct events *events,
                       struct approval *out)
{
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));

        *out = (struct approval){ .id = scope_id(tx_scope(tx)),
                                  .workspace_id = run->workspace_id,
                                  .task_id = run->task_id,
                                  .run_id = run->id,
                                  .step_index = step,
                                  .risk_level = spec->risk_level,
                                  .summary = spec->message,
                                  .arguments_digest = spec->arguments_digest,
                                  .requested_by = task.created_by,
                                  .created_at = tx_now(tx),
                                  .expires_at = tx_now(tx) + spec->expires_in_seconds * US_PER_S };
        if (e)
                return e;
        events_add(tx, events, EVENT_RUN_AWAITING_APPROVAL, run->task_id, run->id,
                  id_payload(tx, out, "pending"));
        return tx_insert(tx, SQL_APPROVAL_ADD, out);
}

enum err approval_open_task(struct tx *tx, const struct task *task)
{
        const struct approval approval = { .id = scope_id(tx_scope(tx)),
                                           .workspace_id = task->workspace_id,
                                           .task_id = task->id,
                                           .risk_level = RISK_MEDIUM,
                                           .summary = task->title,
                                           .requested_by = task->created_by,
                                           .created_at = tx_now(tx) };

        return tx_insert(tx, SQL_APPROVAL_ADD, &approval);
}

enum err approval_of_task(struct tx *tx, int64_t task, struct approval *out)
{
        return tx_one(tx, SQL_APPROVAL_OF_TASK, out, INT(task));
}

enum err approval_close_task(struct tx *tx, int64_t task)
{
        return tx_exec(tx, SQL_APPROVAL_VOID_TASK, INT(task), INT(tx_now(tx)));
}

enum err approval_load(struct tx *tx, int64_t id, struct approval *out)
{
        return tx_one(tx, SQL_APPROVAL_GET, out, INT(id));
}

enum err approval_get(struct tx *tx, const struct principal *by, int64_t id, struct approval *out)
{
        struct approval approval;
        enum err e = approval_load(tx, id, &approval);

        if (e == ERR_EMPTY ||
            (!e && !by->all_workspaces && !str_eq(approval.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "approval");
        if (!e)
                *out = approval;
        return e;
}

enum err approval_list(struct tx *tx, const struct principal *by, int status, int64_t run,
                       int64_t before, int limit, struct list *out)
{
        enum sql statement = run                     ? SQL_APPROVAL_LIST_RUN :
                             status == APPROVAL_OPEN ? SQL_APPROVAL_LIST_OPEN :
                                                       SQL_APPROVAL_LIST;

        return tx_all(tx, statement, out, NAME(by->workspace), INT(before ? before : INT64_MAX),
                      INT(status), INT(run), INT(limit));
}

/* A task's own approval is told of as the task's (task_decided()). */
static enum err tell(struct tx *tx, const struct principal *by, const struct approval *a,
                     struct str before)
{
        static const enum audit_action actions[] = { [APPROVAL_YES] = AUDIT_APPROVAL_APPROVED,
                                                     [APPROVAL_NO] = AUDIT_APPROVAL_DENIED,
                                                     [APPROVAL_EXPIRED] = AUDIT_APPROVAL_EXPIRED };
        const struct audit_change change = { .action = actions[a->status],
                                             .resource = audit_id(tx, "appr", a->id),
                                             .workspace = a->workspace_id,
                                             .detail = audit_id(tx, "run", a->run_id),
                                             .before = before,
                                             .after = audit_digest(tx, &approval_record, a) };

        return audit_append(tx, by, &change);
}

static enum err settle(struct tx *tx, struct approval *a, const struct principal *by, int status,
                       const char *source, struct str comment)
{
        struct str before = audit_digest(tx, &approval_record, a);
        struct events events = { .by = by };
        int64_t changed = 0;
        struct run run;
        enum err e;

        a->status = status;
        a->decided_by = by->actor;
        a->decision_source = str_from(source);
        a->comment = comment;
        a->decided_at = tx_now(tx);
        e = tx_exec_changed(tx, SQL_APPROVAL_DECIDE, &changed, INT(a->id), INT(status),
                            NAME(a->decided_by), TEXT(a->decision_source), TEXT(a->comment),
                            INT(a->decided_at));
        if (!e && !changed)
                e = fail(tx_scope(tx), ERR_ALREADY_DECIDED, "the approval was decided before");
        if (!e && !a->run_id)
                return task_decided(tx, by, a->task_id, status == APPROVAL_YES);
        if (!e)
                e = tell(tx, by, a, before);
        if (!e)
                e = run_load(tx, a->run_id, &run);
        if (e || run.status != RUN_AWAITING_APPROVAL)
                return e;
        events.tree = run.tree_id;
        events_add(tx, &events, EVENT_RUN_APPROVAL_RESOLVED, run.task_id, run.id,
                  id_payload(tx, a, statuses[status]));
        e = run_wake(tx, &run, "approval_resolved", &events);
        return e ? e : events_append(tx, &events);
}

/* Who asked cannot give it; a human can, unless the risk is high and somebody else is there. */
static enum err self_check(struct tx *tx, const struct principal *by, const struct approval *a)
{
        int64_t other;
        enum err e;

        if (!str_eq(by->actor, a->requested_by))
                return ERR_OK;
        if (str_starts(by->actor, "human:")) {
                if (a->risk_level < RISK_HIGH)
                        return ERR_OK;
                e = tx_number(tx, SQL_APPROVER_OTHER, &other, NAME(by->actor), INT(tx_now(tx)),
                              NAME(a->workspace_id));
                if (e)
                        return e == ERR_EMPTY ? ERR_OK : e;
        }
        return fail(tx_scope(tx), ERR_SELF_APPROVAL, "who asked for an approval cannot give it");
}

enum err approval_decide(struct tx *tx, const struct principal *by, int64_t id, bool approve,
                         struct str comment, struct approval *out)
{
        enum err e = approval_get(tx, by, id, out);

        if (e)
                return e;
        if (out->status != APPROVAL_OPEN)
                return fail(tx_scope(tx), ERR_ALREADY_DECIDED, "the approval is %s already",
                            statuses[out->status]);
        if (approve && (e = self_check(tx, by, out)))
                return e;
        return settle(tx, out, by, approve ? APPROVAL_YES : APPROVAL_NO, "human", comment);
}

enum err approval_expire(struct tx *tx, struct approval *a)
{
        struct domain *domain = tx_context(tx);

        return settle(tx, a, &domain->daemon, APPROVAL_EXPIRED, "timeout", STR_NONE);
}

enum err approvals_close(struct tx *tx, int64_t run)
{
        return tx_exec(tx, SQL_APPROVAL_VOID, INT(run), INT(tx_now(tx)));
}
