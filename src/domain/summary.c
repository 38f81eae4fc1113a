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

/* PostgreSQL plans these anew for every list, at the price of so many round trips. */
enum { AHEAD_MIN = 8 };

/* At the first of each AHEAD_MAX rows: what is asked for them. */
static enum err read_ahead(struct tx *tx, enum sql statement, const int64_t *ids, size_t n, size_t at)
{
        size_t left = n - at;

        if (at % AHEAD_MAX || left < AHEAD_MIN)
                return ERR_OK;
        return tx_read_ahead(tx, statement, ids + at, left < AHEAD_MAX ? left : AHEAD_MAX);
}

static enum err summarize(struct tx *tx, struct task *task)
{
        int64_t found[3] = { 0 };
        enum err e = tx_numbers(tx, SQL_TASK_SUMMARY, found, LENGTH(found), ARGS(INT(task->id)));

        task->latest_sequence = found[0];
        task->current_run_id = found[1];
        task->last_activity_at = found[2] > task->updated_at ? found[2] : task->updated_at;
        return e ? e : task_show(tx, task);
}

static enum err show_run(struct tx *tx, struct task *task)
{
        struct active_run *run = arena_new(&tx_scope(tx)->arena, struct active_run);
        enum err e = tx_one(tx, SQL_ACTIVE_RUN, run, INT(task->current_run_id));

        if (!e)
                active_run_show(tx, run);
        task->active_run = run;
        return e;
}

enum err tasks_summarize(struct tx *tx, struct list *tasks)
{
        struct task *task = tasks->items;
        int64_t *ids = arena_array(&tx_scope(tx)->arena, int64_t, tasks->n);
        size_t active = 0;
        enum err e = ERR_OK;

        for (size_t i = 0; i < tasks->n; i++)
                ids[i] = task[i].id;
        for (size_t i = 0; !e && i < tasks->n; i++) {
                e = read_ahead(tx, SQL_TASK_SUMMARY, ids, tasks->n, i);
                if (!e)
                        e = summarize(tx, &task[i]);
        }
        for (size_t i = 0; i < tasks->n; i++)
                if (task[i].current_run_id)
                        ids[active++] = task[i].current_run_id;
        for (size_t i = 0, run = 0; !e && i < tasks->n; i++) {
                if (!task[i].current_run_id)
                        continue;
                e = read_ahead(tx, SQL_ACTIVE_RUN, ids, active, run++);
                if (!e)
                        e = show_run(tx, &task[i]);
        }
        return e;
}

enum err task_summarize(struct tx *tx, struct task *task)
{
        enum err e = summarize(tx, task);

        return e || !task->current_run_id ? e : show_run(tx, task);
}
