#include "domain/pause.h"

#include "domain/run.h"
#include "domain/sql.h"

/* The queued runs below whose tasks are paused now, or no longer. */
static enum err hold_runs(struct tx *tx, int64_t task, bool paused)
{
        struct list runs;
        enum err e = tx_all(tx, SQL_RUN_QUEUED_BELOW, &runs, INT(task), INT(paused));
        struct run *run = runs.items;

        for (size_t i = 0; !e && i < runs.n; i++)
                e = run_rehold(tx, &run[i],
                               paused ? run[i].hold | HOLD_PAUSED : run[i].hold & ~HOLD_PAUSED);
        return e;
}

/* What task.paused and task.resumed say, beside who did it. */
struct told {
        bool manual, previous_paused, paused;
        struct str reason, metadata;
};
#define AT(member) offsetof(struct told, member)
static const struct field told_fields[] = {
        { "manual", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(manual) },
        { "previous_paused", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(previous_paused) },
        { "paused", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(paused) },
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason) },
        { "metadata", FIELD_JSON, FIELD_WIRE, AT(metadata) },
};
static const struct record told_record = { "Paused", told_fields, LENGTH(told_fields),
                                           sizeof(struct told), -1 };

static enum err write(struct tx *tx, const struct principal *by, struct task *task,
                      struct str reason, struct str metadata)
{
        struct events events = { .by = by, .tree = task->tree_id };
        const struct told told = { true, !task->paused, task->paused, reason, metadata };
        int64_t delta = task->paused ? 1 : -1;
        enum err e;

        task->paused_by = task->paused ? by->actor : STR_NONE;
        task->paused_at = task->paused ? tx_now(tx) : 0;
        task->paused_reason = reason;
        task->paused_n += delta;
        task->updated_at = tx_now(tx);
        events_add(tx, &events, task->paused ? EVENT_TASK_PAUSED : EVENT_TASK_RESUMED, task->id, 0,
                   payload_of(tx, &told_record, &told));
        e = tx_exec(tx, SQL_TASK_PAUSE, INT(task->id), INT(task->paused), NAME(task->paused_by),
                    OPT(task->paused_at), TEXT(reason), INT(task->updated_at));
        if (!e)
                e = tx_exec(tx, SQL_TASK_PAUSE_BELOW, INT(task->id), INT(delta));
        if (!e)
                e = hold_runs(tx, task->id, task->paused);
        return e ? e : events_append(tx, &events);
}

enum err task_pause(struct tx *tx, const struct principal *by, int64_t id, struct str reason,
                    struct str metadata, struct task *task)
{
        struct task before;
        enum err e = task_get(tx, by, id, task);

        if (!e && !str_trim(reason).n)
                e = fail_field(tx_scope(tx), "reason", ERR_REASON_REQUIRED, "say why it is paused");
        if (!e && task_is_closed(task->status))
                e = fail_diagnosed(tx_scope(tx), "task_run_already_terminal", ERR_INVALID_TRANSITION,
                                   "the task is %s", task_status_names.text[task->status]);
        if (e || task->paused)
                return e;
        before = *task;
        task->paused = true;
        e = write(tx, by, task, str_trim(reason), metadata);
        return e ? e : task_tell(tx, by, AUDIT_TASK_PAUSED, &before, task->paused_reason);
}

enum err task_resume(struct tx *tx, const struct principal *by, int64_t id, struct str metadata,
                     struct task *task)
{
        struct task before;
        enum err e = task_get(tx, by, id, task);

        if (e || !task->paused)
                return e;
        before = *task;
        task->paused = false;
        e = write(tx, by, task, STR_NONE, metadata);
        if (!e)
                e = task_tell(tx, by, AUDIT_TASK_RESUMED, &before, STR_NONE);
        return e ? e : task_get(tx, by, id, task);
}
