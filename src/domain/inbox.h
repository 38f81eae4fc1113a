/*
 * The inbox: what an actor may have to look at in a workspace.  A task is in one lane, the first of
 * enum inbox_lane whose rule it meets; drafts and what has ended without a failure are in none.  What
 * the actor dismissed stays away until something new happens to it.
 */
#ifndef BATON_DOMAIN_INBOX_H
#define BATON_DOMAIN_INBOX_H

#include "domain/task.h"

enum inbox_lane {
        LANE_ARCHIVED,    /* by the actor */
        LANE_APPROVALS,   /* blocked until somebody approves it */
        LANE_FAILED_RUNS, /* its latest run failed or timed out */
        LANE_BLOCKED,
        LANE_MY_WORK,     /* open, and owned by the actor or held by a claim of its */
        INBOX_LANES,
};
extern const struct names inbox_lane_names;

enum {
        INBOX_UNREAD_EVENTS = 200, /* of a tree: so many new ones make its root unread in any case */
        INBOX_PAGE_ROWS = 2000,    /* a page looks at no more rows, and may be short therefore */
};

struct inbox_item {
        int lane;
        struct str blocking_reason;
        bool unread;
        int64_t last_seen_activity_at;
        struct task *task;
};
extern const struct record inbox_item_record;

/* Where a page ends and the next goes on: lanes in their order, in each the newest task first. */
struct inbox_place {
        int lane;
        int64_t before; /* task id; 0 = from the newest */
};

struct inbox_filter {
        int lane; /* -1 = all but the archived */
        bool unread;
        struct str q;
        struct inbox_place from;
        int limit;
};
/* next->before is 0 when there is no more. */
enum err inbox_list(struct tx *, const struct principal *, const struct inbox_filter *,
                    struct list *, struct inbox_place *next) NODISCARD;

#endif
