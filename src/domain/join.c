#include "domain/join.h"

#include "core/failpoint.h"
#include "domain/cancel.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct join_point, member)
static const struct field join_fields[] = {
        { "run_id", FIELD_ID, FIELD_COLUMN, AT(run_id), "run" },
        { "step_index", FIELD_INT, FIELD_COLUMN, AT(step_index) },
        { "any_one", FIELD_BOOL, FIELD_COLUMN, AT(any_one) },
        { "fail_fast", FIELD_BOOL, FIELD_COLUMN, AT(fail_fast) },
        { "total", FIELD_INT, FIELD_COLUMN, AT(total) },
        { "pending", FIELD_INT, FIELD_COLUMN, AT(pending) },
        { "completed", FIELD_INT, FIELD_COLUMN, AT(completed) },
        { "failed", FIELD_INT, FIELD_COLUMN, AT(failed) },
        { "max_concurrency", FIELD_INT, FIELD_COLUMN, AT(max_concurrency) },
};
const struct record join_point_record = { "join_point", join_fields, LENGTH(join_fields),
                                          sizeof(struct join_point), -1 };

enum err join_open(struct tx *tx, const struct join_point *join)
{
        enum err e = tx_exec(tx, SQL_JOIN_DROP, INT(join->run_id), INT(join->step_index));

        return e ? e : tx_insert(tx, SQL_JOIN_ADD, join);
}

static bool is_decided(const struct join_point *join)
{
        return join->pending == 0 || (join->any_one && join->completed > 0) ||
               (!join->any_one && join->fail_fast && join->failed > 0);
}

static enum err admit_next(struct tx *tx, const struct join_point *join)
{
        struct run next;
        enum err e = tx_one(tx, SQL_RUN_LIMITED_CHILD, &next, INT(join->run_id),
                            INT(join->step_index));

        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        return run_rehold(tx, &next, next.hold & ~HOLD_LIMIT);
}

enum err run_wake(struct tx *tx, struct run *run, const char *reason, struct events *events)
{
        struct run_change change = {
                .to = RUN_QUEUED,
                .event = EVENT_RUN_QUEUED,
                .payload = arena_printf(&tx_scope(tx)->arena, "{\"attempt\":%lld,\"reason\":\"%s\"}",
                                        (long long)run->attempt, reason),
        };

        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));

        if (e)
                return e;
        change.hold = task_holds(&task, run->kind == RUN_ROOT);
        e = run_move(tx, run, &change, events);
        return e || run->kind != RUN_ROOT ? e : task_project(tx, &task, RUN_QUEUED, events);
}

enum err join_child_ended(struct tx *tx, const struct run *child, struct events *events)
{
        struct join_point join;
        struct run parent;
        enum err e = tx_one(tx, SQL_JOIN_COUNT, &join, INT(child->parent_run_id),
                            INT(child->parent_step_index), INT(child->status == RUN_COMPLETED));

        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        e = failpoint(tx_scope(tx), FAILPOINT_JOIN_COUNTED);
        if (e)
                return e;
        if (!is_decided(&join))
                return join.max_concurrency && !(child->hold & HOLD_LIMIT) ? admit_next(tx, &join) :
                                                                             ERR_OK;
        e = run_load(tx, join.run_id, &parent);
        if (e)
                return e;
        if (parent.status != RUN_AWAITING_PARALLEL && parent.status != RUN_AWAITING_SUBTASK)
                return ERR_OK; /* decided before, or the parent has ended */
        if (join.pending > 0)
                e = cancel_children(tx, &parent, "sibling_decided", events);
        return e ? e : run_wake(tx, &parent, "joined", events);
}
