/*
 * The scheduler's switch, one for the whole server: while it is paused no run is handed out, in any
 * workspace; what runs goes on, and expired leases go back to the queue.  The pause is a row, which
 * survives a restart, and a word in the writing thread's memory, which every claim reads instead
 * (struct domain).  A drain is a pause and a wait until no claim is active: a row that the tick
 * settles, whether or not somebody still listens.
 */
#ifndef BATON_DOMAIN_SCHEDULER_H
#define BATON_DOMAIN_SCHEDULER_H

#include "domain/principal.h"
#include "store/tx.h"

/* Events of the scheduler are numbered in a tree of their own, which has no task. */
enum { SCHEDULER_TREE = 0 };
#define STARVED_AFTER (120 * US_PER_S)
enum { DRAIN_DEFAULT = 60, DRAIN_MAX = 86400 }; /* seconds */

struct scheduler {
        bool paused;
        struct str paused_by;
        int64_t paused_at;
        struct str paused_reason;
        int64_t active_claim_count; /* claimed, starting or running */
        int64_t queued_run_count;   /* held ones too */
        int64_t starved_run_count;  /* nothing but a claimer is missing, for STARVED_AFTER */
        int64_t paused_task_count;  /* by a pause of their own */
        int64_t needs_attention_run_count;
        int64_t as_of;
};
/* All of it; what an operator's call answers, without the counts that read the whole queue. */
extern const struct record scheduler_record, scheduler_pause_record;

/* The pause alone. */
enum err scheduler_get(struct tx *, struct scheduler *) NODISCARD;
/* With its counts, those of a workspace or (absent) of all. */
enum err scheduler_status(struct tx *, struct str workspace, struct scheduler *) NODISCARD;
/* The pause into memory, at boot. */
enum err scheduler_load(struct tx *) NODISCARD;

/* Both are done once: again, they change nothing and leave no event.  A resume also ends the
 * drains. */
enum err scheduler_pause(struct tx *, const struct principal *, struct str reason,
                         struct str metadata, struct scheduler *) NODISCARD;
enum err scheduler_resume(struct tx *, const struct principal *, struct str reason,
                          struct str metadata, struct scheduler *) NODISCARD;

struct drain {
        int64_t id, started_at, due_at;
        int64_t completed_at; /* 0: under way */
        bool completed;       /* no claim was active */
        bool timed_out;       /* neither this nor `completed`: a resume ended it */
        int64_t remaining_claims;
        struct scheduler *scheduler; /* not a column */
};
extern const struct record drain_record;

/* Its end is told by a hint under its id. */
enum err scheduler_drain(struct tx *, const struct principal *, struct str reason,
                         int64_t timeout_seconds, struct drain *) NODISCARD;
enum err drain_load(struct tx *, int64_t id, struct drain *) NODISCARD; /* ERR_EMPTY: unknown */
/* Ends the drains that have reached their aim or their time. */
enum err drains_settle(struct tx *, const struct principal *) NODISCARD;

/* What waits to be claimed, most urgent first. */
struct backlog_item {
        struct task *task;
        struct run *run;
};
struct backlog {
        struct list items; /* struct backlog_item */
        int64_t total;     /* beyond the limit too */
};
extern const struct record backlog_record;
enum err scheduler_backlog(struct tx *, struct str workspace, bool include_paused, int limit,
                           struct backlog *) NODISCARD;

#endif
