#include "domain/summary.h"

#include "domain/domain.h"
#include "domain/run.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct active_run, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field active_run_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "run" },
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "title", FIELD_STR, BOTH, AT(title) },
        { "status", FIELD_ENUM, BOTH, AT(status), &run_status_names },
        { "executor", FIELD_ENUM, BOTH, AT(executor), &executor_names },
        { "priority", FIELD_ENUM, BOTH, AT(priority), &priority_names },
        { "attempt", FIELD_INT, BOTH | FIELD_REQUIRED, AT(attempt) },
        { "claimed_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(claimed_by) },
        { "session_id", FIELD_NAME, BOTH, AT(session_id) },
        { "claimed_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(claimed_at) },
        { "started_at", FIELD_TIME, BOTH, AT(started_at) },
        { "progress_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(progress_at) },
        { "heartbeat_at", FIELD_TIME, BOTH, AT(heartbeat_at) },
        { "lease_until", FIELD_TIME, BOTH, AT(lease_until) },
};
const struct record active_run_record = { "ActiveRun", active_run_fields, LENGTH(active_run_fields),
                                          sizeof(struct active_run), -1 };

void active_run_show(struct tx *tx, struct active_run *run)
{
        if (run->lease_until)
                run->lease_until = lease_wall(tx_context(tx), tx_now(tx), run->lease_until);
}

enum err task_summarize(struct tx *tx, struct task *task)
{
        int64_t at = 0;
        enum err e = task_show(tx, task);

        if (!e)
                e = tx_number(tx, SQL_TASK_ACTIVITY, &at, INT(task->id), INT(ACTIVITY_EVENTS));
        if (e)
                return e;
        task->last_activity_at = at > task->updated_at ? at : task->updated_at;
        if (!task->current_run_id)
                return ERR_OK;
        task->active_run = arena_new(&tx_scope(tx)->arena, struct active_run);
        e = tx_one(tx, SQL_ACTIVE_RUN, task->active_run, INT(task->current_run_id));
        if (!e)
                active_run_show(tx, task->active_run);
        return e;
}
