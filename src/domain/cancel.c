#include "domain/cancel.h"

#include "core/failpoint.h"
#include "domain/approval.h"
#include "domain/cascade.h"
#include "domain/claim.h"
#include "domain/dependency.h"
#include "domain/domain.h"
#include "domain/input.h"
#include "domain/review.h"
#include "domain/sql.h"

enum { CHUNK = 1000 };

/* What run.canceled and task.canceled say; reason: direct, parent_cascade or dependency_failed. */
struct told {
        struct str reason, detail, metadata;
        int64_t from_task;
        struct str status, run_ids;
};
#define AT(member) offsetof(struct told, member)
static const struct field told_fields[] = {
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason) },
        { "detail", FIELD_STR, FIELD_WIRE, AT(detail) },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata) },
        { "propagated_from_task_id", FIELD_ID, FIELD_WIRE, AT(from_task), "task" },
        { "status", FIELD_STR, FIELD_WIRE, AT(status) },
        { "canceled_run_ids", FIELD_JSON, FIELD_WIRE, AT(run_ids) },
};
static const struct record told_record = { "Canceled", told_fields, LENGTH(told_fields),
                                           sizeof(struct told), -1 };

static enum err end_one(struct tx *tx, struct run *run, const char *reason, struct str detail,
                        struct str metadata, struct events *events)
{
        const struct told told = { .reason = str_from(reason), .detail = detail, .metadata = metadata };
        struct run_change change = {
                .to = RUN_CANCELED,
                .event = EVENT_RUN_CANCELED,
                .failure_kind = OUTCOME_CANCELED,
                .payload = payload_of(tx, &told_record, &told),
        };
        enum err e = run_move(tx, run, &change, events);

        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_RUN_CANCELED);
        return e ? e : approvals_close(tx, run->id);
}

enum err cancel_children(struct tx *tx, const struct run *run, const char *reason,
                         struct events *events)
{
        struct list children = { .n = CHUNK };
        enum err e = ERR_OK;

        while (!e && children.n == CHUNK) {
                struct run *child;

                e = tx_all(tx, SQL_RUN_OPEN_CHILDREN, &children, INT(run->id), INT(CHUNK));
                child = children.items;
                for (size_t i = 0; !e && i < children.n; i++) {
                        e = cancel_children(tx, &child[i], reason, events);
                        if (!e)
                                e = end_one(tx, &child[i], reason, STR_NONE, STR_NONE, events);
                }
        }
        return e;
}

enum err cancel_run(struct tx *tx, const struct principal *by, int64_t id, struct str detail,
                    struct str metadata, struct run *run)
{
        struct events events = { .by = by };
        enum err e = run_get(tx, by, id, run);

        if (e)
                return e;
        events.tree = run->tree_id;
        if (run->status == RUN_CANCELED)
                return ERR_OK;
        e = end_one(tx, run, "direct", detail, metadata, &events);
        if (!e)
                e = cancel_children(tx, run, "parent_cascade", &events);
        if (!e)
                e = run_ended(tx, run, &events);
        return e ? e : events_append(tx, &events);
}

/* A list of run ids. */
static struct str ids_of(struct tx *tx, struct list runs)
{
        const struct run *run = runs.items;
        struct buf text = BUF_INIT(CHUNK * (ID_TEXT_SIZE + 3) + 2);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_list(&j);
        for (size_t i = 0; i < runs.n; i++)
                json_put_id(&j, "run", run[i].id);
        json_end_list(&j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

/* *ids: of the runs that it has ended, the newest thousand; absent when there are none. */
static enum err end_runs(struct tx *tx, const struct task *task, struct str detail,
                         struct events *events, struct str *ids)
{
        struct list runs = { .n = CHUNK };
        enum err e = ERR_OK;

        *ids = STR_NONE;

        while (!e && runs.n == CHUNK) {
                struct run *run;

                e = tx_all(tx, SQL_RUN_OPEN_OF_TASK, &runs, INT(task->id), INT(CHUNK));
                if (!e && runs.n && !ids->p)
                        *ids = ids_of(tx, runs);
                run = runs.items;
                for (size_t i = 0; !e && i < runs.n; i++)
                        e = end_one(tx, &run[i],
                                    run[i].kind == RUN_ROOT ? "direct" : "parent_cascade", detail,
                                    STR_NONE, events);
        }
        return e;
}

enum err cancel_task(struct tx *tx, struct task *task, const struct cascade *c, struct events *events)
{
        bool first = task->id == c->task_id;
        int before = task->status;
        struct told told = { .reason = str_from(!first    ? "parent_cascade" :
                                                c->direct ? "direct" :
                                                            "dependency_failed"),
                             .detail = c->detail,
                             .metadata = c->metadata,
                             .from_task = first ? 0 : c->task_id,
                             .status = str_from(task_status_names.text[TASK_CANCELED]) };
        enum err e = ERR_OK;

        if (task->last_run_id)
                e = end_runs(tx, task, c->detail, events, &told.run_ids);

        events_add(tx, events, EVENT_TASK_CANCELED, task->id, 0,
                   payload_of(tx, &told_record, &told));
        if (!e && task->approval_state == APPROVAL_PENDING)
                e = approval_close_task(tx, task->id);
        if (!e)
                e = inputs_cancel(tx, task->id);
        if (!e && task->review_id)
                e = review_leave(tx, task);
        task->status = TASK_CANCELED;
        task->closed_at = task->updated_at = tx_now(tx);
        if (!e)
                e = tx_exec(tx, SQL_TASK_PROJECT, INT(task->id), INT(TASK_CANCELED),
                            OPT(task->last_run_id), INT(task->last_run_status),
                            INT(task->attempts), INT(task->closed_at), INT(task->updated_at));
        return !e && task->dependent_count ? dependents_follow(tx, task, before, events) : e;
}

enum err cancel_tree(struct tx *tx, const struct principal *by, struct task *task,
                     struct str detail, struct str metadata)
{
        const struct cascade c = { .task_id = task->id,
                                   .direct = true,
                                   .detail = detail,
                                   .metadata = metadata };
        struct run open;
        enum err e = tx_one(tx, SQL_RUN_OPEN_ROOT, &open, INT(task->id));
        bool busy = e == ERR_OK;

        if (e && e != ERR_EMPTY)
                return e;
        if (task->status == TASK_CANCELED && !busy)
                return ERR_OK;
        if ((task->status == TASK_COMPLETED || task->status == TASK_FAILED) && !busy)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the task is %s",
                            task_status_names.text[task->status]);
        e = cascade_run(tx, by, c);
        return e ? e : tx_one(tx, SQL_TASK_GET, task, INT(task->id));
}

enum err run_break_off(struct tx *tx, struct run *run, const struct run_change *change,
                       struct events *events)
{
        enum err e = run_move(tx, run, change, events);

        if (!e)
                e = cancel_children(tx, run, "parent_cascade", events);
        if (!e)
                e = approvals_close(tx, run->id);
        if (!e)
                e = run_ended(tx, run, events);
        return e ? e : events_append(tx, events);
}

enum err run_time_out(struct tx *tx, struct run *run)
{
        struct domain *domain = tx_context(tx);
        struct events events = { .by = &domain->daemon, .tree = run->tree_id };
        struct run_change change = { .to = RUN_TIMED_OUT,
                                     .event = EVENT_RUN_TIMED_OUT,
                                     .failure_kind = OUTCOME_TIMED_OUT,
                                     .error = STR("the run's deadline has passed") };

        return run_break_off(tx, run, &change, &events);
}
