#include "domain/dashboard.h"

#include "domain/run.h"
#include "domain/sql.h"
#include "domain/summary.h"

enum { SHOWN = FIELD_WIRE | FIELD_ALWAYS };

#define COUNT(type, member) { #member, FIELD_INT, SHOWN, offsetof(struct type, member) }
static const struct field totals_fields[] = {
        COUNT(dashboard_totals, tasks),       COUNT(dashboard_totals, open_tasks),
        COUNT(dashboard_totals, ended_tasks), COUNT(dashboard_totals, queued_runs),
        COUNT(dashboard_totals, active_runs),
};
static const struct field cards_fields[] = {
        COUNT(dashboard_cards, awaiting_approval), COUNT(dashboard_cards, failed),
        COUNT(dashboard_cards, blocked),           COUNT(dashboard_cards, in_progress),
        COUNT(dashboard_cards, in_review),         COUNT(dashboard_cards, stuck_runs),
};
static const struct field status_fields[] = {
        { "status", FIELD_ENUM, SHOWN, offsetof(struct status_count, status), &task_status_names },
        COUNT(status_count, count),
};
static const struct field queue_fields[] = {
        COUNT(dashboard_queue, runs),
        { "oldest_queued_at", FIELD_TIME, FIELD_WIRE,
          offsetof(struct dashboard_queue, oldest_queued_at) },
        COUNT(dashboard_queue, oldest_seconds),
        { "warning", FIELD_BOOL, SHOWN, offsetof(struct dashboard_queue, warning) },
};
#undef COUNT
static const struct record totals_record = { "DashboardTotals", totals_fields, LENGTH(totals_fields),
                                             sizeof(struct dashboard_totals), -1 };
static const struct record cards_record = { "DashboardCards", cards_fields, LENGTH(cards_fields),
                                            sizeof(struct dashboard_cards), -1 };
static const struct record status_record = { "StatusCount", status_fields, LENGTH(status_fields),
                                             sizeof(struct status_count), -1 };
static const struct record queue_record = { "DashboardQueue", queue_fields, LENGTH(queue_fields),
                                            sizeof(struct dashboard_queue), -1 };

#define AT(member) offsetof(struct dashboard, member)
static const struct field dashboard_fields[] = {
        { "as_of", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(as_of) },
        { "totals", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(totals), &totals_record },
        { "cards", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(cards), &cards_record },
        { "by_status", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, AT(by_status), &status_record },
        { "queue", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(queue), &queue_record },
        { "stuck_runs", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, AT(stuck_runs), &active_run_record },
        { "active_runs", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, AT(active_runs), &active_run_record },
};
const struct record dashboard_record = { "Dashboard", dashboard_fields, LENGTH(dashboard_fields),
                                         sizeof(struct dashboard), -1 };

static enum err read_statuses(struct tx *tx, struct str workspace, struct dashboard *out)
{
        struct status_count *counts = arena_array(&tx_scope(tx)->arena, struct status_count, TASK_STATUSES);
        int64_t (*rows)[2];
        size_t n;
        const struct arg args[] = { NAME(workspace) };
        enum err e = tx_number_rows(tx, SQL_DASHBOARD_STATUSES, (int64_t **)&rows, &n, 2, args, LENGTH(args));

        for (int i = 0; i < TASK_STATUSES; i++)
                counts[i] = (struct status_count){ .status = i };
        for (size_t i = 0; !e && i < n; i++) {
                counts[rows[i][0]].count = rows[i][1];
                out->totals->tasks += rows[i][1];
                *(task_is_closed((int)rows[i][0]) ? &out->totals->ended_tasks : &out->totals->open_tasks) += rows[i][1];
        }
        out->by_status = (struct list){ counts, TASK_STATUSES };
        out->cards->failed = counts[TASK_FAILED].count;
        out->cards->blocked = counts[TASK_BLOCKED].count;
        out->cards->in_progress = counts[TASK_IN_PROGRESS].count;
        out->cards->in_review = counts[TASK_IN_REVIEW].count;
        return e;
}

static enum err read_queue(struct tx *tx, struct str workspace, struct dashboard *out)
{
        struct dashboard_queue *queue = out->queue;
        int64_t found[2];
        enum err e = tx_numbers(tx, SQL_DASHBOARD_QUEUE, found, 2, ARGS(NAME(workspace)));

        if (e)
                return e;
        *queue = (struct dashboard_queue){ .runs = found[0], .oldest_queued_at = found[1] };
        if (queue->runs && tx_now(tx) > queue->oldest_queued_at)
                queue->oldest_seconds = (tx_now(tx) - queue->oldest_queued_at) / US_PER_S;
        queue->warning = queue->oldest_seconds >= QUEUE_WARN_SECONDS;
        out->totals->queued_runs = queue->runs;
        return ERR_OK;
}

static void show(struct tx *tx, struct list runs)
{
        struct active_run *run = runs.items;

        for (size_t i = 0; i < runs.n; i++)
                active_run_show(tx, &run[i]);
}

static enum err read_active(struct tx *tx, struct str workspace, struct dashboard *out)
{
        const int64_t claimed = tx_now(tx) - STUCK_CLAIMED_SECONDS * US_PER_S;
        const int64_t running = tx_now(tx) - STUCK_RUNNING_SECONDS * US_PER_S;
        enum err e = tx_number(tx, SQL_DASHBOARD_LEASES, &out->totals->active_runs, NAME(workspace));

        if (!e)
                e = tx_number(tx, SQL_DASHBOARD_STUCK_COUNT, &out->cards->stuck_runs, NAME(workspace),
                              INT(claimed), INT(running));
        if (!e)
                e = tx_all(tx, SQL_DASHBOARD_STUCK, &out->stuck_runs, NAME(workspace), INT(claimed),
                           INT(running), INT(DASHBOARD_STUCK));
        if (!e)
                e = tx_all(tx, SQL_DASHBOARD_ACTIVE, &out->active_runs, NAME(workspace), INT(DASHBOARD_ACTIVE));
        if (e)
                return e;
        show(tx, out->stuck_runs);
        show(tx, out->active_runs);
        return ERR_OK;
}

enum err dashboard_read(struct tx *tx, const struct principal *by, struct dashboard *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        enum err e;

        *out = (struct dashboard){ .as_of = tx_now(tx),
                                   .totals = arena_new(arena, struct dashboard_totals),
                                   .cards = arena_new(arena, struct dashboard_cards),
                                   .queue = arena_new(arena, struct dashboard_queue) };
        e = read_statuses(tx, by->workspace, out);
        if (!e)
                e = read_queue(tx, by->workspace, out);
        if (!e)
                e = read_active(tx, by->workspace, out);
        return e ? e :
                   tx_number(tx, SQL_DASHBOARD_APPROVALS, &out->cards->awaiting_approval,
                             NAME(by->workspace));
}
