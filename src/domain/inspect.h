/*
 * Inspection: a task or a run as an operator wants to see it: who holds it, what happened last,
 * what is wrong with it and what comes next.  One snapshot; nothing is written.
 *
 * An eligible claimer of a queued run is who holds a run that asked for no less: a worker or an
 * agent that is busy comes back.  Claims that wait are none: one that may take the run has taken
 * it.
 */
#ifndef BATON_DOMAIN_INSPECT_H
#define BATON_DOMAIN_INSPECT_H

#include "domain/run.h"

enum {
        RECENT_RUNS = 5,
        RECENT_EVENTS = 10,
        EVENTS_BACK = 2000, /* of a tree: the newest, among which a task's events are looked for */
        ERROR_SHOWN = 160,  /* characters */
        HASH_SHOWN = 4,     /* bytes */
};

/* What is worth knowing at a glance. */
struct run_view {
        struct run run; /* as shown: lease on the wall clock, hash and error cut */
        int64_t retries, heartbeat_age_seconds;
};
struct task_view {
        struct task task;
        int64_t last_activity_at;
};
extern const struct record run_view_record, task_view_record;

struct run_view run_view(struct tx *, const struct run *);
/* The newest events of the task and all below it, newest first. */
enum err task_events(struct tx *, const struct task *, int limit, struct list *) NODISCARD;
/* Of a task that was read; its events as task_events() gave them. */
enum err task_view(struct tx *, const struct task *, const struct list *events,
                   struct task_view *) NODISCARD;

/* What the judgement rests on. */
struct run_facts {
        const struct run *run; /* a row; NULL: the task has no run */
        bool closed;           /* the task is */
        bool judged;           /* its task waits for a review of it, or for a person to go on */
        bool superseded;       /* tried again since, or its task canceled or in review */
        bool holder_gone;      /* every key of who holds it is revoked or expired */
        bool claimer;          /* an eligible one exists */
        bool paused;           /* the scheduler is: nothing is handed out */
        int64_t now, lease_now;
};
enum run_finding {
        FOUND_STUCK = 1,
        FOUND_STALE_LEASE = 2,
        FOUND_ORPHAN = 4,
        FOUND_CRASHED = 8,
        FOUND_STRANDED = 16,
};
unsigned run_findings(const struct run_facts *); /* FOUND_… bits */
const char *run_next_action(const struct run_facts *, unsigned findings);

struct diagnostic {
        struct str code, severity, message, suggested_command;
};
struct target {
        struct str kind, id;
};
struct inspection {
        struct target *target;
        struct task_view *task;
        struct run_view *current_run;
        struct str next_action;
        struct list diagnostics, reasons; /* reasons: of explain, while the run is open */
        struct list recent_runs, recent_events;
        int64_t as_of;
};
extern const struct record inspection_record;

enum err run_inspect(struct tx *, const struct principal *, int64_t run,
                     struct inspection *) NODISCARD;
/* Its current run is the newest attempt. */
enum err task_inspect(struct tx *, const struct principal *, int64_t task,
                      struct inspection *) NODISCARD;

#endif
