#include "domain/scheduler.h"

#include "core/failpoint.h"
#include "domain/audit.h"
#include "domain/domain.h"
#include "domain/run.h"
#include "domain/sql.h"

#define DRAIN_KEPT (86400 * US_PER_S)

#define AT(member) offsetof(struct scheduler, member)
#define COUNT(member) { #member, FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(member) }
#define PAUSE                                                                          \
        { "paused", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(paused) },               \
        { "paused_by", FIELD_ACTOR, FIELD_COLUMN | FIELD_WIRE, AT(paused_by) },        \
        { "paused_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE, AT(paused_at) },         \
        { "paused_reason", FIELD_STR, FIELD_COLUMN | FIELD_WIRE, AT(paused_reason) },  \
        COUNT(active_claim_count), { "as_of", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(as_of) }

static const struct field pause_fields[] = { PAUSE };
static const struct field scheduler_fields[] = {
        PAUSE,
        COUNT(queued_run_count),
        COUNT(starved_run_count),
        COUNT(paused_task_count),
        COUNT(needs_attention_run_count),
};
const struct record scheduler_pause_record = { "SchedulerPause", pause_fields, LENGTH(pause_fields),
                                               sizeof(struct scheduler), -1 };
const struct record scheduler_record = { "Scheduler", scheduler_fields, LENGTH(scheduler_fields),
                                         sizeof(struct scheduler), -1 };
#undef AT
#define AT(member) offsetof(struct drain, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE, SHOWN = BOTH | FIELD_ALWAYS };
static const struct field drain_fields[] = {
        { "id", FIELD_INT, FIELD_COLUMN, AT(id) },
        { "started_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(started_at) },
        { "due_at", FIELD_TIME, FIELD_COLUMN, AT(due_at) },
        { "completed_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(completed_at) },
        { "completed", FIELD_BOOL, SHOWN, AT(completed) },
        { "timed_out", FIELD_BOOL, SHOWN, AT(timed_out) },
        { "remaining_claims", FIELD_INT, SHOWN, AT(remaining_claims) },
        { "scheduler", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(scheduler), &scheduler_pause_record },
};
const struct record drain_record = { "Drain", drain_fields, LENGTH(drain_fields),
                                     sizeof(struct drain), -1 };

static const struct field item_fields[] = {
        { "task", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct backlog_item, task), &task_record },
        { "run", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct backlog_item, run), &run_record },
};
static const struct record item_record = { "BacklogItem", item_fields, LENGTH(item_fields),
                                           sizeof(struct backlog_item), -1 };
static const struct field backlog_fields[] = {
        { "items", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct backlog, items),
          &item_record },
        { "total", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct backlog, total) },
};
const struct record backlog_record = { "Backlog", backlog_fields, LENGTH(backlog_fields),
                                       sizeof(struct backlog), -1 };

/* ---- looking ---- */

enum err scheduler_get(struct tx *tx, struct scheduler *out)
{
        struct scheduler s = { 0 };
        enum err e = tx_row(tx, SQL_SCHEDULER_PAUSE_GET, &s, NULL, 0);

        if (e && e != ERR_EMPTY)
                return e;
        s.paused = e == ERR_OK;
        s.as_of = tx_now(tx);
        *out = s;
        return ERR_OK;
}

static enum err count_active(struct tx *tx, struct str workspace, int64_t *out)
{
        return tx_number(tx, SQL_SCHEDULER_ACTIVE, out, NAME(workspace));
}

enum err scheduler_status(struct tx *tx, struct str workspace, struct scheduler *out)
{
        const struct arg args[] = { NAME(workspace), INT(tx_now(tx) - STARVED_AFTER) };
        int64_t counts[4];
        enum err e = scheduler_get(tx, out);

        if (!e)
                e = count_active(tx, workspace, &out->active_claim_count);
        if (!e)
                e = tx_numbers(tx, SQL_SCHEDULER_COUNTS, counts, LENGTH(counts), args,
                               LENGTH(args));
        if (e)
                return e;
        out->queued_run_count = counts[0];
        out->starved_run_count = counts[1];
        out->paused_task_count = counts[2];
        out->needs_attention_run_count = counts[3];
        return ERR_OK;
}

static enum err load_item(struct tx *tx, int64_t id, struct backlog_item *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        enum err e;

        out->run = arena_new(arena, struct run);
        out->task = arena_new(arena, struct task);
        e = run_load(tx, id, out->run);
        return e ? e : tx_one(tx, SQL_TASK_GET, out->task, INT(out->run->task_id));
}

enum err scheduler_backlog(struct tx *tx, struct str workspace, bool include_paused, int limit,
                           struct backlog *out)
{
        const struct arg args[] = { NAME(workspace), INT(include_paused), INT(limit) };
        struct backlog_item *items;
        int64_t *ids;
        size_t n;
        enum err e = tx_numbers(tx, SQL_BACKLOG_TOTAL, &out->total, 1, args, 2);

        if (!e)
                e = tx_number_rows(tx, SQL_BACKLOG_HEAD, &ids, &n, 1, args, LENGTH(args));
        if (e)
                return e;
        items = arena_array(&tx_scope(tx)->arena, struct backlog_item, n + 1);
        for (size_t i = 0; !e && i < n; i++)
                e = load_item(tx, ids[i], &items[i]);
        out->items = (struct list){ items, n };
        return e;
}

/* ---- the switch ---- */

enum err scheduler_load(struct tx *tx)
{
        struct domain *d = tx_context(tx);
        struct scheduler s;
        enum err e = scheduler_get(tx, &s);

        if (!e)
                d->now.paused = s.paused;
        return e;
}

static enum err tell(struct tx *tx, const struct principal *by, enum audit_action action,
                     struct str reason)
{
        const struct audit_change change = { .action = action,
                                             .resource = STR("scheduler"),
                                             .detail = reason };

        return audit_append(tx, by, &change);
}

static enum err pause(struct tx *tx, struct str reason, struct str metadata, struct events *events)
{
        struct scheduler s = { .paused_by = events->by->actor, .paused_at = tx_now(tx) };
        struct domain *d = tx_context(tx);
        enum err e;

        if (d->now.paused)
                return ERR_OK;
        reason = str_trim(reason);
        s.paused_reason = reason.n ? reason : STR_NONE;
        e = tx_insert(tx, SQL_SCHEDULER_PAUSE_ADD, &s);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_SCHEDULER_SWITCHED);
        if (e)
                return e;
        d->now.paused = true;
        events_add(tx, events, EVENT_SCHEDULER_PAUSED, 0, 0,
                   payload_said(tx, "reason", s.paused_reason, metadata));
        return tell(tx, events->by, AUDIT_SCHEDULER_PAUSED, s.paused_reason);
}

/* As an operator's call answers it. */
static enum err show(struct tx *tx, struct scheduler *out)
{
        enum err e = scheduler_get(tx, out);

        return e ? e : count_active(tx, STR_NONE, &out->active_claim_count);
}

enum err scheduler_pause(struct tx *tx, const struct principal *by, struct str reason,
                         struct str metadata, struct scheduler *out)
{
        struct events events = { .by = by, .tree = SCHEDULER_TREE };
        enum err e = pause(tx, reason, metadata, &events);

        if (!e)
                e = events_append(tx, &events);
        return e ? e : show(tx, out);
}

/* ---- drains ---- */

static enum err drain_end(struct tx *tx, const struct drain *d, int64_t remaining,
                          struct events *events)
{
        bool timed_out = remaining && d->due_at <= tx_now(tx);
        enum err e = failpoint(tx_scope(tx), FAILPOINT_DRAIN_OVER);

        if (e)
                return e;
        events_add(tx, events, EVENT_SCHEDULER_DRAIN_COMPLETED, 0, 0,
                   arena_printf(&tx_scope(tx)->arena,
                                "{\"completed\":%s,\"timed_out\":%s,\"remaining_claims\":%lld}",
                                remaining ? "false" : "true", timed_out ? "true" : "false",
                                (long long)remaining));
        tx_hint(tx, HINT_TREE, d->id, 0);
        return tx_exec(tx, SQL_DRAIN_END, INT(d->id), INT(tx_now(tx)), INT(!remaining),
                       INT(timed_out), INT(remaining));
}

/* Those whose time is over at `due`; all of them when no claim is active. */
static enum err settle(struct tx *tx, const struct principal *by, int64_t due)
{
        struct events events = { .by = by, .tree = SCHEDULER_TREE };
        int64_t remaining = 0;
        struct list drains;
        enum err e = tx_all(tx, SQL_DRAIN_OVER, &drains, INT(due));
        const struct drain *d = drains.items;

        if (!e && drains.n)
                e = count_active(tx, STR_NONE, &remaining);
        for (size_t i = 0; !e && i < drains.n; i++)
                e = drain_end(tx, &d[i], remaining, &events);
        return e ? e : events_append(tx, &events);
}

enum err drains_settle(struct tx *tx, const struct principal *by)
{
        return settle(tx, by, tx_now(tx));
}

enum err drain_load(struct tx *tx, int64_t id, struct drain *out)
{
        struct scheduler *s = arena_new(&tx_scope(tx)->arena, struct scheduler);
        enum err e = tx_one(tx, SQL_DRAIN_GET, out, INT(id));

        out->scheduler = s;
        return e ? e : show(tx, s);
}

enum err scheduler_drain(struct tx *tx, const struct principal *by, struct str reason,
                         int64_t timeout_seconds, struct drain *out)
{
        struct events events = { .by = by, .tree = SCHEDULER_TREE };
        struct drain d = { .id = scope_id(tx_scope(tx)),
                           .started_at = tx_now(tx),
                           .due_at = tx_now(tx) + timeout_seconds * US_PER_S };
        enum err e = pause(tx, reason, STR_NONE, &events);

        events_add(tx, &events, EVENT_SCHEDULER_DRAIN_STARTED, 0, 0,
                   arena_printf(&tx_scope(tx)->arena, "{\"timeout_seconds\":%lld}",
                                (long long)timeout_seconds));
        if (!e)
                e = tx_exec(tx, SQL_DRAIN_TRIM, INT(tx_now(tx) - DRAIN_KEPT));
        if (!e)
                e = tx_insert(tx, SQL_DRAIN_ADD, &d);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_DRAIN_BEGUN);
        if (!e)
                e = events_append(tx, &events);
        if (!e)
                e = drains_settle(tx, by);
        return e ? e : drain_load(tx, d.id, out);
}

enum err scheduler_resume(struct tx *tx, const struct principal *by, struct str reason,
                          struct str metadata, struct scheduler *out)
{
        struct events events = { .by = by, .tree = SCHEDULER_TREE };
        struct domain *d = tx_context(tx);
        enum err e;

        if (!d->now.paused)
                return show(tx, out);
        e = tx_write(tx, SQL_SCHEDULER_PAUSE_DROP, NULL, NULL, 0);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_SCHEDULER_SWITCHED);
        if (e)
                return e;
        d->now.paused = false;
        e = settle(tx, by, INT64_MAX);
        tx_hint(tx, HINT_RESUMED, 0, 0);
        events_add(tx, &events, EVENT_SCHEDULER_RESUMED, 0, 0,
                   payload_said(tx, "reason", str_trim(reason), metadata));
        if (!e)
                e = events_append(tx, &events);
        if (!e)
                e = tell(tx, by, AUDIT_SCHEDULER_RESUMED, str_trim(reason));
        return e ? e : show(tx, out);
}
