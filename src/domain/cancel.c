#include "domain/cancel.h"

#include "core/failpoint.h"
#include "domain/approval.h"
#include "domain/claim.h"
#include "domain/dependency.h"
#include "domain/domain.h"
#include "domain/sql.h"

enum { CHUNK = 1000 };

/* {"reason": "direct", "parent_cascade" or "dependency_failed", "detail"?: …, "metadata"?: …} and where
 * it came from. */
static struct str payload(struct tx *tx, const char *reason, struct str detail, struct str metadata,
                          int64_t from_task)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        json_key(&j, "reason");
        json_put_text(&j, reason);
        if (detail.p) {
                json_key(&j, "detail");
                json_put_str(&j, detail);
        }
        if (metadata.p) {
                json_key(&j, "metadata");
                json_put_raw(&j, metadata);
        }
        if (from_task) {
                json_key(&j, "propagated_from_task_id");
                json_put_id(&j, "task", from_task);
        }
        json_end_object(&j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static enum err end_one(struct tx *tx, struct run *run, const char *reason, struct str detail,
                        struct str metadata, struct events *events)
{
        struct run_change change = {
                .to = RUN_CANCELED,
                .event = EVENT_RUN_CANCELED,
                .failure_kind = OUTCOME_CANCELED,
                .payload = payload(tx, reason, detail, metadata, 0),
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

static enum err open_runs(struct tx *tx, const struct task *task, struct str detail,
                          struct events *events)
{
        struct list runs = { .n = CHUNK };
        enum err e = ERR_OK;

        while (!e && runs.n == CHUNK) {
                struct run *run;

                e = tx_all(tx, SQL_RUN_OPEN_OF_TASK, &runs, INT(task->id), INT(CHUNK));
                run = runs.items;
                for (size_t i = 0; !e && i < runs.n; i++)
                        e = end_one(tx, &run[i],
                                    run[i].kind == RUN_ROOT ? "direct" : "parent_cascade", detail,
                                    STR_NONE, events);
        }
        return e;
}

/* What the caller of a cascade said, and where it began. */
struct cascade {
        const char *reason;
        int64_t from;
        struct str detail, metadata;
};

static enum err cancel_task(struct tx *tx, struct task *task, const struct cascade *c,
                            struct events *events)
{
        bool root = task->id == c->from;
        int before = task->status;
        enum err e = open_runs(tx, task, c->detail, events);

        events_add(tx, events, EVENT_TASK_CANCELED, task->id, 0,
                   payload(tx, root ? c->reason : "parent_cascade", c->detail, c->metadata,
                           root ? 0 : c->from));
        if (!e && task->approval_state == APPROVAL_PENDING)
                e = approval_close_task(tx, task->id);
        task->status = TASK_CANCELED;
        task->closed_at = task->updated_at = tx_now(tx);
        if (!e)
                e = tx_exec(tx, SQL_TASK_PROJECT, INT(task->id), INT(TASK_CANCELED),
                            OPT(task->last_run_id), INT(task->last_run_status),
                            INT(task->attempts), INT(task->closed_at), INT(task->updated_at));
        return !e && task->dependent_count ? dependents_follow(tx, task, before, events) : e;
}

static enum err cancel_below(struct tx *tx, struct task *task, const struct cascade *c,
                             struct events *events)
{
        struct list children;
        struct task *child;
        /* What has ended is left as it is, what lives below it is not. */
        enum err e = task->status < TASK_COMPLETED || task->id == c->from ?
                             cancel_task(tx, task, c, events) :
                             ERR_OK;

        if (e || !task->child_count)
                return e;
        e = tx_all(tx, SQL_TASK_CHILDREN, &children, INT(task->id), INT(INT64_MAX));
        child = children.items;
        for (size_t i = 0; !e && i < children.n; i++) {
                /* the end of a sibling may have canceled it meanwhile */
                e = tx_one(tx, SQL_TASK_GET, &child[i], INT(child[i].id));
                if (!e)
                        e = cancel_below(tx, &child[i], c, events);
        }
        return e;
}

enum err cancel_tree(struct tx *tx, const struct principal *by, struct task *task,
                     struct str detail, struct str metadata)
{
        const struct cascade c = { "direct", task->id, detail, metadata };
        struct events events = { .by = by, .tree = task->tree_id };
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
        e = cancel_below(tx, task, &c, &events);
        return e ? e : events_append(tx, &events);
}

enum err cancel_dependent(struct tx *tx, const struct principal *by, struct task *task,
                          int64_t prerequisite)
{
        struct events events = { .by = by, .tree = task->tree_id };
        struct cascade c = { .reason = "dependency_failed", .from = task->id };
        char id[ID_TEXT_SIZE];
        enum err e;

        id_print("task", prerequisite, id);
        c.detail = arena_printf(&tx_scope(tx)->arena, "%s did not complete", id);
        e = cancel_below(tx, task, &c, &events);
        return e ? e : events_append(tx, &events);
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
