/*
 * The dashboard: one workspace at a glance.  Counts are read from indexes, none is kept: their cost
 * grows with the tasks, the queue and the leases, so whoever asks often keeps the answer for a while.
 */
#ifndef BATON_DOMAIN_DASHBOARD_H
#define BATON_DOMAIN_DASHBOARD_H

#include "domain/task.h"

enum {
        DASHBOARD_ACTIVE = 4,        /* active runs shown, the latest claims */
        DASHBOARD_STUCK = 50,        /* stuck runs shown, the longest stuck first */
        QUEUE_WARN_SECONDS = 600,    /* the oldest run of the queue has waited so long */
        STUCK_CLAIMED_SECONDS = 300, /* claimed or starting */
        STUCK_RUNNING_SECONDS = 1800 /* running without the begin or end of a step */
};

struct dashboard_totals {
        int64_t tasks, open_tasks, ended_tasks, queued_runs, active_runs;
};
struct dashboard_cards {
        int64_t awaiting_approval, failed, blocked, in_progress, in_review, stuck_runs;
};
struct status_count {
        int status;
        int64_t count;
};
/* Runs that may be claimed now; those that are held back are not in it. */
struct dashboard_queue {
        int64_t runs, oldest_queued_at, oldest_seconds;
        bool warning;
};

struct dashboard {
        int64_t as_of;
        struct dashboard_totals *totals;
        struct dashboard_cards *cards;
        struct list by_status; /* every status, in their order */
        struct dashboard_queue *queue;
        struct list stuck_runs, active_runs; /* of struct active_run */
};
extern const struct record dashboard_record;

/* Of the principal's workspace. */
enum err dashboard_read(struct tx *, const struct principal *, struct dashboard *) NODISCARD;

#endif
