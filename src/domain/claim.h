/*
 * Claims: how a run comes to be held.  Claiming gives lease and token; heartbeats prolong it;
 * release, completion, failure and expiry end it.
 */
#ifndef BATON_DOMAIN_CLAIM_H
#define BATON_DOMAIN_CLAIM_H

#include "domain/claimer.h"
#include "domain/run.h"

struct claim {
        struct task *task;
        struct run *run;
        struct str token;
        int64_t lease_until; /* wall clock */
};

struct claim_request {
        struct claim_criteria criteria;
        int64_t lease_seconds; /* 1..LEASE_MAX */
        int max;               /* 1..100 */
        int64_t run;           /* claim this one, or 0 = the next */
};

/* Up to `max` claims in *out (struct claim); ERR_EMPTY when there is nothing to take. */
enum err claim_next(struct tx *, const struct principal *, const struct claim_request *,
                    struct list *out) NODISCARD;

/*
 * The request's session takes its run: by a claim (*granted), or, when it is held without a session, by
 * the word of its holder.  ERR_SESSION_BOUND: another session has it; ERR_ATTACH_REFUSED: the
 * session holds another run.
 */
enum err claim_attach(struct tx *, const struct fence *, const struct claim_request *,
                      struct list *out, bool *granted) NODISCARD;

/* running; an outside claimer says that it has begun.  ERR_STALE_CHANNEL, here and in claim_attach(): what it wrote
 * (channel_of_run()) is kept. */
enum err claim_start(struct tx *, const struct fence *, int64_t run, struct run *) NODISCARD;
struct heartbeat {
        int64_t lease_until; /* wall clock */
        bool cancel_requested;
        int64_t tree; /* not on the wire */
};
enum err claim_heartbeat(struct tx *, const struct fence *, int64_t run, int64_t lease_seconds,
                         struct heartbeat *) NODISCARD;
enum err claim_release(struct tx *, const struct fence *, int64_t run, struct str reason,
                       struct str metadata, struct run *) NODISCARD;
/* The same for a run whose next step needs files that are on another volume: to a worker that has it. */
enum err claim_pass_on(struct tx *, const struct fence *, int64_t run, struct run *) NODISCARD;
enum err claim_complete(struct tx *, const struct fence *, int64_t run, struct str result,
                        struct run *) NODISCARD;
enum err claim_fail(struct tx *, const struct fence *, int64_t run, enum outcome kind,
                    struct str error, struct str metadata, struct run *) NODISCARD;

/* Nobody received these claims: back to their places, nothing counted. */
enum err claim_undeliver(struct tx *, const struct principal *, const struct list *claims) NODISCARD;

/* The lease is over without its holder: back to the queue, or failed after MAX_RECOVERIES.
 * At boot (`boot`) it never fails and does not count. */
enum err claim_expire(struct tx *, struct run *, bool boot) NODISCARD;

/* A held run goes back to the queue, at its old place: move, holds, task and events. */
enum err run_requeue(struct tx *, struct run *, const struct run_change *,
                     const struct principal *) NODISCARD;

/* Everything that follows from a run's end: join of its parent, next attempt, the task. */
enum err run_ended(struct tx *, struct run *, struct events *) NODISCARD;

#endif
