#include "domain/copy.h"

#include "domain/event.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct copy, member)
static const struct field copy_fields[] = {
        { "task_id", FIELD_ID, FIELD_COLUMN, AT(task_id), "task" },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "priority", FIELD_ENUM, FIELD_COLUMN, AT(priority), &priority_names },
        { "parent_task_id", FIELD_ID, FIELD_COLUMN, AT(parent_task_id), "task" },
        { "created_at", FIELD_TIME, FIELD_COLUMN, AT(created_at) },
        { "source_conversation_id", FIELD_STR, FIELD_COLUMN, AT(source_conversation_id) },
        { "run_id", FIELD_ID, FIELD_COLUMN, AT(run_id), "run" },
        { "status", FIELD_ENUM, FIELD_COLUMN, AT(status), &run_status_names },
        { "executor", FIELD_ENUM, FIELD_COLUMN, AT(executor), &executor_names },
        { "claimed_by", FIELD_ACTOR, FIELD_COLUMN, AT(claimed_by) },
        { "queued_at", FIELD_TIME, FIELD_COLUMN, AT(queued_at) },
        { "started_at", FIELD_TIME, FIELD_COLUMN, AT(started_at) },
        { "ended_at", FIELD_TIME, FIELD_COLUMN, AT(ended_at) },
        { "error", FIELD_STR, FIELD_COLUMN, AT(error) },
        { "result", FIELD_JSON, FIELD_COLUMN, AT(result) },
};
const struct record copy_record = { "Copy", copy_fields, LENGTH(copy_fields), sizeof(struct copy), -1 };
#undef AT
#define AT(member) offsetof(struct copy_event, member)
static const struct field copy_event_fields[] = {
        { "pos", FIELD_INT, FIELD_COLUMN, AT(pos) },
        { "task_id", FIELD_ID, FIELD_COLUMN, AT(task_id), "task" },
        { "type", FIELD_ENUM, FIELD_COLUMN, AT(type), &event_names },
        { "at", FIELD_TIME, FIELD_COLUMN, AT(at) },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "of_child", FIELD_BOOL, FIELD_COLUMN, AT(of_child) },
        { "attempt", FIELD_INT, FIELD_COLUMN, AT(attempt) },
        { "started_at", FIELD_TIME, FIELD_COLUMN, AT(started_at) },
        { "step", FIELD_INT, FIELD_COLUMN, AT(step) },
        { "total_steps", FIELD_INT, FIELD_COLUMN, AT(total_steps) },
        { "action", FIELD_STR, FIELD_COLUMN, AT(action) },
        { "step_error", FIELD_JSON, FIELD_COLUMN, AT(step_error) },
};
const struct record copy_event_record = { "CopyEvent", copy_event_fields, LENGTH(copy_event_fields),
                                          sizeof(struct copy_event), -1 };
#undef AT

enum err copies_end(struct tx *tx, int64_t *pos)
{
        return tx_number(tx, SQL_EVENT_END, pos);
}

enum err copies_events(struct tx *tx, int64_t after, int limit, struct list *out)
{
        return tx_all(tx, SQL_COPY_EVENTS, out, INT(after), INT(limit));
}

enum err copy_of(struct tx *tx, int64_t task, struct copy *out)
{
        return tx_one(tx, SQL_COPY_OF, out, INT(task));
}

enum err copies_open(struct tx *tx, int64_t after_run, int limit, struct list *out)
{
        return tx_all(tx, SQL_COPY_OPEN, out, INT(after_run), INT(limit));
}
