/*
 * Waiting calls: claims that found nothing to take and stay until a lane gains a run, heartbeats that
 * stay until something happens to their runs; each until its time is over or its client has left.
 * Used on the store's writing thread only.
 */
#ifndef BATON_DOMAIN_WAITING_H
#define BATON_DOMAIN_WAITING_H

#include "domain/claim.h"
#include "domain/domain.h"
#include "domain/policy.h"
#include "store/store.h"

/* A claim on its way; embedded as the first member of whoever asks. */
struct claim_call {
        struct call call;
        struct claim_request request;
        struct policy policy;
        int64_t wait_until;  /* boot clock; 0 = do not wait */
        const int64_t *trees; /* what is waited for is news of these, not a run to take; or NULL */
        size_t n_trees;
        int64_t woken_by;    /* lane whose run it was sent back for; 0 = none */
        _Atomic bool gone;   /* set by any thread: nobody is there to take it any more */
        struct claim_call *next, **link;
};

/*
 * claim_next() for a call that may wait: one that finds nothing is parked until wait_until.  One that
 * was woken for a run and does not take it passes the wake-up on: its client has left, it is refused
 * (its session has taken a run meanwhile) or it took a better one.  ERR_EMPTY: nothing to take, or
 * nobody to take it.
 */
enum err waiting_claim(struct tx *, const struct principal *by, struct claim_call *,
                       struct list *out) NODISCARD;

struct waiting;
struct waiting *waiting_new(struct store **store, struct domain *);
void waiting_free(struct waiting *);
/* The store's park hook. */
void waiting_park(struct waiting *, struct claim_call *);
/* A lane has gained a run: sends back the first in line that may take it; false when there is none. */
bool waiting_lane(struct waiting *, int64_t lane);
/* After a commit: something happened in a tree. */
void waiting_tree(struct waiting *, int64_t tree);
/* All look once more: after a resume of the scheduler, and after the storage had failed, for one that was
 * woken may have been refused while its run is still there. */
void waiting_again(struct waiting *);
/* Sends back those whose time is over or whose client has left. */
void waiting_tick(struct waiting *, int64_t boot_now);
int64_t waiting_count(const struct waiting *); /* from any thread */

#endif
