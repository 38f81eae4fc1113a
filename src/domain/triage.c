#include "domain/triage.h"

#include "domain/sql.h"
#include "domain/summary.h"

#define AT(member) offsetof(struct triage, member)
enum { WIRE = FIELD_WIRE | FIELD_ALWAYS, BOTH = FIELD_COLUMN | WIRE };
static const struct field triage_fields[] = {
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "actor", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(actor) },
        { "read", FIELD_BOOL, WIRE, AT(read) },
        { "archived", FIELD_BOOL, BOTH, AT(archived) },
        { "dismissed", FIELD_BOOL, BOTH, AT(dismissed) },
        { "last_seen_activity_at", FIELD_TIME, WIRE | FIELD_REQUIRED, AT(last_seen_activity_at) },
};
const struct record triage_record = { "Triage", triage_fields, LENGTH(triage_fields),
                                      sizeof(struct triage), -1 };

enum err triage_mark(struct tx *tx, const struct principal *by, int64_t id,
                     enum triage_action action, struct triage *out)
{
        int64_t head;
        struct task task;
        enum err e = task_get(tx, by, id, &task);

        if (!e)
                e = task_summarize(tx, &task);
        if (!e)
                e = events_head(tx, task.tree_id, &head);
        if (!e)
                e = tx_one(tx, SQL_TRIAGE_MARK, out, INT(id), NAME(by->actor),
                           NAME(task.workspace_id), INT(action == TRIAGE_ARCHIVE),
                           INT(action == TRIAGE_DISMISS), INT(head), INT(task.last_activity_at));
        out->read = true;
        out->last_seen_activity_at = task.last_activity_at;
        return e;
}
