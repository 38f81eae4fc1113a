#include "domain/retention.h"

#include "core/failpoint.h"
#include "domain/sql.h"
#include "domain/task.h"

#define ROUND US_PER_S /* between two looks at all workspaces */

/* A piece deletes or reads about so many rows, some 10 ms of the writer. */
enum {
        PIECE = 800,
        PAGE = 200,
        LEAVES = 100,
        RUNS = 50,
        EVENTS = 500,
        LOGS = 32,     /* of up to 64 KiB each (and inputs), */
        LOG_COST = 16, /* as much work as so many small rows */
        TASK_COST = 10,
};
enum { DELETED = TASK_CANCELED + 1 }; /* struct retention's status: trees that somebody deleted */

/* The tree of a root task, as far as the piece goes. */
struct expiry {
        struct domain *domain;
        int64_t root;
        int64_t *left; /* of the piece; at 0 or below it is over */
        bool gone;
};

/* Deletes rows in steps of `step` while the piece lasts; *all when none is left. */
static enum err erase(struct tx *tx, struct expiry *x, enum sql statement, int64_t of, int64_t step,
                      int64_t cost, bool *all)
{
        int64_t changed = step;
        enum err e = ERR_OK;

        while (!e && changed == step && *x->left > 0) {
                e = tx_exec_changed(tx, statement, &changed, INT(of), INT(step));
                *x->left -= changed * cost;
        }
        *all = changed < step;
        return e;
}

static enum err erase_run(struct tx *tx, struct expiry *x, int64_t run)
{
        static const enum sql rows[] = { SQL_RETENTION_RUN_STEPS, SQL_RETENTION_RUN_JOINS,
                                         SQL_RETENTION_RUN_APPROVALS, SQL_RETENTION_RUN_REVIEWS,
                                         SQL_RETENTION_RUN };
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < LENGTH(rows); i++) {
                int64_t changed = 0;

                e = tx_exec_changed(tx, rows[i], &changed, INT(run));
                *x->left -= changed;
        }
        return e;
}

/* Until so few are left that they can go with their task. */
static enum err erase_runs(struct tx *tx, struct expiry *x, int64_t task, bool *all)
{
        const struct arg args[] = { INT(task), INT(RUNS) };
        size_t n = RUNS;
        enum err e = ERR_OK;

        while (!e && n == RUNS && *x->left > 0) {
                int64_t *runs;

                e = tx_number_rows(tx, SQL_RETENTION_RUNS, &runs, &n, 1, args, LENGTH(args));
                for (size_t i = 0; !e && n == RUNS && *x->left > 0 && i < n; i++)
                        e = erase_run(tx, x, runs[i]);
        }
        *all = n < RUNS;
        return e;
}

/* What is left of it; streams hear that it is gone. */
static enum err erase_history(struct tx *tx, struct expiry *x)
{
        enum err e = failpoint(tx_scope(tx), FAILPOINT_TREE_EXPIRED);

        if (!e)
                e = tx_exec(tx, SQL_RETENTION_LAST_EVENTS, INT(x->root));
        tx_hint(tx, HINT_TREE, x->root, 0);
        x->gone = true;
        return e ? e : tx_exec(tx, SQL_WEBHOOK_REWIND);
}

static enum err erase_task(struct tx *tx, struct expiry *x, const struct task *task)
{
        bool is_root = task->id == x->root, all;
        enum err e = erase(tx, x, SQL_RETENTION_LOGS, task->id, LOGS, LOG_COST, &all);

        if (!e && all)
                e = erase(tx, x, SQL_RETENTION_INPUTS, task->id, LOGS, LOG_COST, &all);
        if (!e && all)
                e = erase_runs(tx, x, task->id, &all);
        if (!e && all && is_root)
                e = erase(tx, x, SQL_RETENTION_EVENTS, x->root, EVENTS, 1, &all);
        if (e || !all)
                return e;
        e = task_erase(tx, &x->domain->daemon, task);
        *x->left -= TASK_COST;
        return !e && is_root ? erase_history(tx, x) : e;
}

/* Once, when the first of it goes. */
static enum err tell(struct tx *tx, struct expiry *x, int64_t tasks)
{
        struct retention *r = &x->domain->retention;
        struct audit_change change = { .action = AUDIT_TREE_EXPIRED,
                                       .resource = audit_id(tx, "task", x->root) };
        struct task root;
        enum err e;

        if (r->tree == x->root)
                return ERR_OK;
        e = tx_one(tx, SQL_TASK_GET, &root, INT(x->root));
        if (e)
                return e;
        change.workspace = root.workspace_id;
        change.detail = arena_printf(&tx_scope(tx)->arena, "%lld task%s", (long long)tasks,
                                     tasks == 1 ? "" : "s");
        change.before = audit_digest(tx, &task_record, &root);
        e = audit_append(tx, &x->domain->daemon, &change);
        if (e) /* nothing may have been written yet, and then nothing is rolled back */
                return e;
        r->tree = x->root;
        return failpoint(tx_scope(tx), FAILPOINT_TREE_EXPIRES);
}

/* *done unless there is more of it for the next piece. */
static enum err expire(struct tx *tx, struct expiry *x, int64_t cutoff, bool *done)
{
        const struct arg args[] = { INT(x->root), INT(cutoff) };
        int64_t found[2]; /* its tasks, and those that keep it */
        enum err e = tx_numbers(tx, SQL_RETENTION_TREE, found, 2, args, LENGTH(args));

        if (e)
                return e;
        *done = found[1] > 0 || !found[0];
        if (*done) { /* looking was all the work */
                *x->left -= found[0];
                return ERR_OK;
        }
        e = tell(tx, x, found[0]);
        while (!e && !x->gone && *x->left > 0) {
                struct list leaves;
                const struct task *task;

                e = tx_all(tx, SQL_RETENTION_LEAVES, &leaves, INT(x->root), INT(LEAVES));
                task = leaves.items;
                for (size_t i = 0; !e && *x->left > 0 && i < leaves.n; i++)
                        e = erase_task(tx, x, &task[i]);
        }
        *done = x->gone;
        return e;
}

/* Of a tree that somebody deleted. */
static enum err expire_deleted(struct tx *tx, struct expiry *x, int64_t workspace, bool *done)
{
        enum err e = erase(tx, x, SQL_RETENTION_EVENTS, x->root, EVENTS, 1, done);

        if (!e && *done)
                e = erase_history(tx, x);
        return !e && *done ? tx_exec(tx, SQL_DELETED_TREE_DROP, INT(workspace), INT(x->root)) : e;
}

/* The next of a workspace: tasks by how they ended and by age, then trees that were deleted.
 * Rows: id, parent or 0, when it ended. */
static enum err next_page(struct tx *tx, const struct retention *r, int64_t cutoff, int64_t **rows,
                          size_t *n)
{
        const struct arg tasks[] = { INT(r->workspace), INT(r->status), INT(r->after),
                                     INT(id_at(cutoff)), INT(PAGE) };
        const struct arg trees[] = { INT(r->workspace), INT(r->after), INT(PAGE) };

        return r->status == DELETED ?
                       tx_number_rows(tx, SQL_DELETED_TREE_PAGE, rows, n, 3, trees, LENGTH(trees)) :
                       tx_number_rows(tx, SQL_RETENTION_PAGE, rows, n, 3, tasks, LENGTH(tasks));
}

static enum err look(struct tx *tx, struct domain *d, int64_t cutoff, int64_t *left)
{
        struct retention *r = &d->retention;
        int64_t *rows;
        size_t n, i;
        bool done = true;
        enum err e = next_page(tx, r, cutoff, &rows, &n);

        *left -= 1;
        for (i = 0; !e && done && *left > 0 && i < n; i++) {
                const int64_t *row = rows + 3 * i;
                struct expiry x = { .domain = d, .root = row[0], .left = left };

                *left -= 1;
                if (!row[1] && row[2] <= cutoff)
                        e = r->status == DELETED ? expire_deleted(tx, &x, r->workspace, &done) :
                                                   expire(tx, &x, cutoff, &done);
                if (done)
                        r->after = row[0];
        }
        if (e || !done || i < n || n == PAGE)
                return e;
        r->after = 0;
        if (r->status++ == DELETED) {
                r->status = TASK_COMPLETED;
                r->workspace++;
        }
        return ERR_OK;
}

enum err retention_tick(struct tx *tx, struct domain *d)
{
        struct retention *r = &d->retention;
        int64_t left = PIECE;
        enum err e = ERR_OK;

        while (!e && left > 0 && tx_now(tx) >= r->next) {
                const struct arg args[] = { INT(r->workspace) };
                int64_t found[2]; /* its number and period */

                e = tx_numbers(tx, SQL_RETENTION_WORKSPACE, found, 2, args, LENGTH(args));
                if (e == ERR_EMPTY) {
                        *r = (struct retention){ .next = tx_now(tx) + ROUND };
                        return ERR_OK;
                }
                if (!e && found[0] != r->workspace)
                        *r = (struct retention){ .workspace = found[0], .status = TASK_COMPLETED };
                if (!e)
                        e = look(tx, d, tx_now(tx) - found[1] * US_PER_S, &left);
        }
        return e;
}
