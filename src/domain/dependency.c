#include "domain/dependency.h"

#include "core/failpoint.h"
#include "domain/attempt.h"
#include "domain/cascade.h"
#include "domain/sql.h"

static const char *const on_failures[] = { "block", "proceed", "cancel", NULL };
static const char *const kinds[] = { "blocks", NULL };
const struct names on_failure_names = { on_failures, NULL };
const struct names dependency_kind_names = { kinds, NULL };

#define AT(member) offsetof(struct dependency, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field dependency_fields[] = {
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "depends_on_task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(depends_on_task_id), "task" },
        { "kind", FIELD_ENUM, FIELD_WIRE, AT(kind), &dependency_kind_names },
        { "on_failure", FIELD_ENUM, BOTH, AT(on_failure), &on_failure_names },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "title", FIELD_STR, BOTH | FIELD_REQUIRED, AT(title) },
        { "status", FIELD_ENUM, BOTH, AT(status), &task_status_names },
        { "met", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(met) },
};
const struct record dependency_record = { "Dependency", dependency_fields,
                                          LENGTH(dependency_fields), sizeof(struct dependency),
                                          -1 };

static bool ended_badly(int status)
{
        return status == TASK_FAILED || status == TASK_CANCELED;
}

/* Completed; or ended badly where that does not matter. */
static bool is_met(int status, int on_failure)
{
        return status == TASK_COMPLETED || (on_failure == ON_FAILURE_PROCEED && ended_badly(status));
}

enum err dependencies_of(struct tx *tx, int64_t task, struct list *out)
{
        enum err e = tx_all(tx, SQL_DEPENDENCY_LIST, out, INT(task));
        struct dependency *d = out->items;

        for (size_t i = 0; !e && i < out->n; i++)
                d[i].met = is_met(d[i].status, d[i].on_failure);
        return e;
}

/* ---- what follows from a prerequisite's status ---- */

/* Because a prerequisite ended badly. */
static struct cascade doom(struct tx *tx, int64_t task, int64_t prerequisite)
{
        char id[ID_TEXT_SIZE];

        id_print("task", prerequisite, id);
        return (struct cascade){ .task_id = task,
                                 .detail = arena_printf(&tx_scope(tx)->arena, "%s did not complete",
                                                        id) };
}

static struct str edge_payload(struct tx *tx, int64_t prerequisite, int on_failure, int status)
{
        char id[ID_TEXT_SIZE];

        id_print("task", prerequisite, id);
        return arena_printf(&tx_scope(tx)->arena,
                            "{\"depends_on_task_id\":\"%s\",\"kind\":\"blocks\","
                            "\"on_failure\":\"%s\",\"status\":\"%s\"}",
                            id, on_failures[on_failure], task_status_names.text[status]);
}

/* delta: what the count of unmet prerequisites changes by. */
static enum err dependent_follows(struct tx *tx, const struct principal *by,
                                  const struct task *prerequisite, int64_t id, int on_failure,
                                  int64_t delta, bool failed)
{
        struct events events = { .by = by };
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_UNMET, &task, INT(id), INT(delta), INT(0));

        if (e)
                return e;
        events.tree = task.tree_id;
        if (failed && !task_is_closed(task.status)) {
                events_add(tx, &events, EVENT_TASK_DEPENDENCY_FAILED, id, 0,
                           edge_payload(tx, prerequisite->id, on_failure, prerequisite->status));
                if (on_failure == ON_FAILURE_CANCEL)
                        cascade_add(tx, by, doom(tx, id, prerequisite->id));
        }
        if ((task.unmet_deps == 0) != (task.unmet_deps - delta == 0))
                e = task_follow(tx, &task, &events);
        return e ? e : events_append(tx, &events);
}

enum err dependents_follow(struct tx *tx, const struct task *task, int before,
                           struct events *events)
{
        struct cascades own = { .left = CASCADE_TASKS };
        bool failed = ended_badly(task->status) && !ended_badly(before);
        const struct arg args[] = { INT(task->id) };
        int64_t *rows;
        size_t n;
        enum err e;

        if (!task_is_closed(before) && !task_is_closed(task->status))
                return ERR_OK; /* they ask only whether and how it has ended */
        cascades_open(tx, &own);
        e = events_append(tx, events);
        if (!e)
                e = tx_number_rows(tx, SQL_DEPENDENTS, &rows, &n, 2, args, LENGTH(args));
        for (size_t i = 0; !e && i < n; i++) {
                int on_failure = (int)rows[2 * i + 1];
                int64_t delta = is_met(before, on_failure) - is_met(task->status, on_failure);

                if (delta || failed)
                        e = dependent_follows(tx, events->by, task, rows[2 * i], on_failure, delta,
                                              failed);
                if (!e)
                        e = failpoint(tx_scope(tx), FAILPOINT_DEPENDENT_FOLLOWED);
        }
        return cascades_close(tx, &own, e);
}

/* ---- edges ---- */

/* Is there a way from the prerequisite back to the task?  Looks on the side that is smaller. */
static enum err cycle_check(struct tx *tx, const struct task *task, const struct task *on)
{
        static const enum sql ways[] = { SQL_DEPENDENCY_DOWN, SQL_DEPENDENCY_UP };
        const int64_t ends[] = { task->id, on->id };
        enum err e = ERR_OK;

        if (!task->dependent_count || !on->dependency_count)
                return ERR_OK;
        for (size_t i = 0; !e && i < LENGTH(ways); i++) {
                int64_t seen[2];
                const struct arg args[] = { INT(ends[i]), INT(ends[1 - i]), INT(CYCLE_SEARCH_MAX) };

                e = tx_numbers(tx, ways[i], seen, 2, args, LENGTH(args));
                if (!e && seen[1])
                        return fail_field(tx_scope(tx), "depends_on_task_id", ERR_CYCLE,
                                          "that task waits for this one already");
                if (!e && seen[0] < CYCLE_SEARCH_MAX)
                        return ERR_OK;
        }
        return e ? e :
                   fail_limit(tx_scope(tx), "depends_on_task_id", ERR_GRAPH_LIMIT, CYCLE_SEARCH_MAX,
                              CYCLE_SEARCH_MAX + 1, "tasks to look at for a cycle");
}

static enum err edge_check(struct tx *tx, const struct task *task, const struct task *on)
{
        struct scope *scope = tx_scope(tx);
        int64_t there;
        enum err e;

        if (task->id == on->id)
                return fail_field(scope, "depends_on_task_id", ERR_VALIDATION,
                                  "a task cannot wait for itself");
        if (!str_eq(task->workspace_id, on->workspace_id))
                return fail_field(scope, "depends_on_task_id", ERR_SCOPE_BINDING,
                                  "both tasks must belong to the same workspace");
        e = tx_number(tx, SQL_DEPENDENCY_GET, &there, INT(task->id), INT(on->id));
        if (e != ERR_EMPTY)
                return e ? e :
                           fail_field(scope, "depends_on_task_id", ERR_VALIDATION,
                                      "the task waits for that one already");
        if (task->dependency_count >= DEPENDENCIES_MAX)
                return fail_limit(scope, "depends_on_task_id", ERR_GRAPH_LIMIT, DEPENDENCIES_MAX,
                                  task->dependency_count + 1, "dependencies of one task");
        if (on->dependent_count >= DEPENDENTS_MAX)
                return fail_limit(scope, "depends_on_task_id", ERR_GRAPH_LIMIT, DEPENDENTS_MAX,
                                  on->dependent_count + 1, "tasks that wait for one task");
        return cycle_check(tx, task, on);
}

enum err dependency_add(struct tx *tx, const struct principal *by, int64_t id, int64_t depends_on,
                        int on_failure, struct task *task)
{
        struct events events = { .by = by };
        struct task on;
        bool met, failed;
        enum err e = task_get(tx, by, id, task);

        if (!e)
                e = task_get(tx, by, depends_on, &on);
        if (!e)
                e = edge_check(tx, task, &on);
        if (e)
                return e;
        events.tree = task->tree_id;
        met = is_met(on.status, on_failure);
        failed = ended_badly(on.status) && !task_is_closed(task->status);
        e = tx_exec(tx, SQL_DEPENDENCY_ADD, INT(id), INT(depends_on), INT(on_failure),
                    INT(tx_now(tx)));
        if (!e)
                e = tx_exec(tx, SQL_TASK_DEPENDENT_COUNT, INT(depends_on), INT(1));
        if (!e)
                e = tx_one(tx, SQL_TASK_UNMET, task, INT(id), INT(!met), INT(1));
        events_add(tx, &events, EVENT_TASK_DEPENDENCY_ADDED, id, 0,
                   edge_payload(tx, depends_on, on_failure, on.status));
        if (failed)
                events_add(tx, &events, EVENT_TASK_DEPENDENCY_FAILED, id, 0,
                           edge_payload(tx, depends_on, on_failure, on.status));
        if (!e)
                e = task_follow(tx, task, &events);
        if (!e)
                e = events_append(tx, &events);
        if (!e && failed && on_failure == ON_FAILURE_CANCEL)
                e = cascade_run(tx, by, doom(tx, id, depends_on));
        return e ? e : task_get(tx, by, id, task);
}

/* The task waits for that one no longer. */
static enum err edge_gone(struct tx *tx, const struct principal *by, int64_t id,
                          const struct task *on, int on_failure, struct task *task)
{
        struct events events = { .by = by };
        enum err e = tx_one(tx, SQL_TASK_UNMET, task, INT(id),
                            INT(-!is_met(on->status, on_failure)), INT(-1));

        if (e)
                return e;
        events.tree = task->tree_id;
        events_add(tx, &events, EVENT_TASK_DEPENDENCY_REMOVED, id, 0,
                   edge_payload(tx, on->id, on_failure, on->status));
        e = task_follow(tx, task, &events);
        return e ? e : events_append(tx, &events);
}

enum err dependency_remove(struct tx *tx, const struct principal *by, int64_t id,
                           int64_t depends_on, struct task *task)
{
        struct task on;
        int64_t on_failure;
        enum err e = task_get(tx, by, id, task);

        if (!e)
                e = tx_number(tx, SQL_DEPENDENCY_GET, &on_failure, INT(id), INT(depends_on));
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &on, INT(depends_on));
        if (e)
                return e == ERR_EMPTY ? fail_missing(tx_scope(tx), "dependency") : e;
        e = tx_exec(tx, SQL_DEPENDENCY_DROP, INT(id), INT(depends_on));
        if (!e)
                e = tx_exec(tx, SQL_TASK_DEPENDENT_COUNT, INT(depends_on), INT(-1));
        return e ? e : edge_gone(tx, by, id, &on, (int)on_failure, task);
}

/* Its dependents have one dependency less; the others do not know of it any more. */
static enum err dependents_let_go(struct tx *tx, const struct principal *by, const struct task *gone)
{
        const struct arg args[] = { INT(gone->id) };
        int64_t *rows;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_DEPENDENTS, &rows, &n, 2, args, LENGTH(args));

        if (!e)
                e = tx_exec(tx, SQL_TASK_DELETE_EDGES, INT(gone->id));
        for (size_t i = 0; !e && i < n; i++) {
                struct task task;

                e = edge_gone(tx, by, rows[2 * i], gone, (int)rows[2 * i + 1], &task);
        }
        return e;
}

enum err dependencies_drop(struct tx *tx, const struct principal *by, const struct task *task)
{
        struct list found = { 0 };
        const struct dependency *d;
        enum err e = task->dependency_count ? dependencies_of(tx, task->id, &found) : ERR_OK;

        d = found.items;
        for (size_t i = 0; !e && i < found.n; i++)
                e = tx_exec(tx, SQL_TASK_DEPENDENT_COUNT, INT(d[i].depends_on_task_id), INT(-1));
        return e ? e : dependents_let_go(tx, by, task);
}
