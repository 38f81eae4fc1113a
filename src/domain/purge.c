#include "domain/purge.h"

#include "core/failpoint.h"
#include "domain/audit.h"
#include "domain/domain.h"
#include "domain/run.h"
#include "domain/sql.h"

enum { ROWS = 100, EVENTS = 1000 };
#define PIECE (5 * US_PER_MS)
/* A request that was let in before the workspace was deleted may still write into it so long. */
#define STRAGGLERS (10 * US_PER_S)

static int64_t boot_now(struct tx *tx)
{
        const struct clock *clock = tx_scope(tx)->world->clock;

        return clock->boot(clock->ctx);
}

/* Events below a global task are that tree's history and stay. */
static enum err erase_task(struct tx *tx, const struct principal *by, int64_t id)
{
        struct list open;
        struct task task;
        int64_t events = 0;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(id));

        if (!e)
                e = tx_all(tx, SQL_RUN_OPEN_OF_TASK, &open, INT(id), INT(1));
        if (!e && open.n) /* a straggler's; its holder hears of the end, the next piece erases it */
                return task_cancel(tx, by, id, STR("the workspace is deleted"), STR_NONE, &task);
        if (!e && task.tree_id == id)
                e = tx_exec_changed(tx, SQL_PURGE_EVENTS, &events, INT(id), INT(EVENTS));
        if (!e && events)
                e = tx_exec(tx, SQL_WEBHOOK_REWIND);
        return e || events == EVENTS ? e : task_erase(tx, by, &task);
}

static enum err erase_tasks(struct tx *tx, const struct principal *by, struct str workspace,
                            int64_t until, bool *some)
{
        const struct arg args[] = { NAME(workspace), INT(ROWS) };
        int64_t *ids;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_PURGE_TASKS, &ids, &n, 1, args, LENGTH(args));

        *some = !e && n;
        for (size_t i = 0; !e && i < n && (!i || boot_now(tx) < until); i++)
                e = erase_task(tx, by, ids[i]);
        return e;
}

static enum err erase_definitions(struct tx *tx, struct str workspace, int64_t until, bool *some)
{
        static const enum sql rows[] = { SQL_PURGE_DEFINITION_VERSIONS, SQL_REFERENCE_DROP,
                                         SQL_PURGE_DEFINITION };
        const struct arg args[] = { NAME(workspace), INT(ROWS) };
        int64_t *ids;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_PURGE_DEFINITIONS, &ids, &n, 1, args, LENGTH(args));

        *some = !e && n;
        for (size_t i = 0; !e && i < n && (!i || boot_now(tx) < until); i++)
                for (size_t j = 0; !e && j < LENGTH(rows); j++)
                        e = tx_exec(tx, rows[j], INT(ids[i]));
        return e;
}

static enum err purge(struct tx *tx, const struct workspace *w)
{
        const struct principal *by = &((struct domain *)tx_context(tx))->daemon;
        int64_t until = boot_now(tx) + PIECE, answers = 0;
        bool some;
        enum err e = erase_tasks(tx, by, w->id, until, &some);

        if (!e && !some)
                e = erase_definitions(tx, w->id, until, &some);
        if (!e && !some)
                e = tx_exec_changed(tx, SQL_PURGE_IDEMPOTENCY, &answers, NAME(w->id), INT(EVENTS));
        if (some || answers)
                tx_tick_again(tx, TICK_WHEN_IDLE);
        if (e || some || answers || tx_now(tx) < w->deleted_at + STRAGGLERS)
                return e;
        e = failpoint(tx_scope(tx), FAILPOINT_WORKSPACE_PURGED);
        return e ? e : tx_exec(tx, SQL_PURGE_DONE, NAME(w->id), INT(tx_now(tx)));
}

enum err purge_piece(struct tx *tx)
{
        struct workspace w;
        enum err e = tx_row(tx, SQL_PURGE_NEXT, &w, NULL, 0);

        return e == ERR_EMPTY ? ERR_OK : e ? e : purge(tx, &w);
}

enum err sweep_next(struct tx *tx, struct str volume, struct workspace *out)
{
        return tx_row(tx, SQL_SWEEP_NEXT, out, ARGS(TEXT(volume)));
}

enum err sweep_done(struct tx *tx, struct str workspace)
{
        return tx_exec(tx, SQL_SWEEP_DONE, NAME(workspace), INT(tx_now(tx)));
}

static enum err nothing_is_open(struct tx *tx, const struct workspace *w)
{
        int64_t open[2];
        enum err e = tx_numbers(tx, SQL_WORKSPACE_OPEN, open, 2, ARGS(NAME(w->id)));

        if (e || (!open[0] && !open[1]))
                return e;
        return fail(tx_scope(tx), ERR_CONFLICT,
                    "tasks of the workspace that have not ended: %lld%s, open runs: %lld%s;"
                    " cancel or delete them first",
                    (long long)open[0], open[0] == 1000 ? " or more" : "", (long long)open[1],
                    open[1] == 1000 ? " or more" : "");
}

enum err workspace_delete(struct tx *tx, const struct principal *by, struct str id)
{
        struct workspace w = { 0 };
        struct str before;
        enum err e = workspace_for_change(tx, by, id, &w);

        if (!e && str_is(w.slug, "default"))
                e = fail(tx_scope(tx), ERR_CONFLICT, "the default workspace cannot be deleted");
        if (!e)
                e = nothing_is_open(tx, &w);
        before = audit_digest(tx, &workspace_record, &w);
        w.deleted_at = tx_now(tx);
        if (!e)
                e = tx_exec(tx, SQL_WORKSPACE_DELETE, NAME(w.id), INT(w.deleted_at));
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_WORKSPACE_GONE);
        if (!e)
                e = tx_exec(tx, SQL_WORKSPACE_DELETE_KEYS, NAME(w.id));
        if (!e)
                e = tx_exec(tx, SQL_WORKSPACE_DELETE_SECRETS, NAME(w.id));
        if (!e)
                e = tx_exec(tx, SQL_WORKSPACE_DELETE_WEBHOOKS, NAME(w.id), INT(w.deleted_at));
        if (e)
                return e;
        e = audit_append(tx, by, &(struct audit_change){ .action = AUDIT_WORKSPACE_DELETED,
                                                         .resource = w.id,
                                                         .workspace = w.id,
                                                         .detail = w.slug,
                                                         .before = before });
        if (e)
                return e;
        ((struct domain *)tx_context(tx))->policies = -1;
        tx_hint(tx, HINT_KEYS, 0, 0);
        return purge(tx, &w);
}
