/*
 * The context of a run: what its worker is told about the task beside the claim, in at most
 * CONTEXT_MAX bytes of JSON.  What does not fit goes in this order: the oldest events, the oldest
 * attempts, the oldest reviews, halves of the handoff, then of what a reviewer wants, says and
 * misses, halves of the profile's guidance.  Members of events whose names say that they are secret, and
 * claim tokens in any error, event or review, are not told.
 */
#ifndef BATON_DOMAIN_CONTEXT_H
#define BATON_DOMAIN_CONTEXT_H

#include "domain/inspect.h"
#include "domain/profile.h"
#include "domain/review.h"

enum { CONTEXT_MAX = 8192, CONTEXT_SUMMARY_MAX = 4096, CONTEXT_ATTEMPTS = 5, CONTEXT_EVENTS = 50,
       CONTEXT_REVIEWS = 5, CONTEXT_REASON_MAX = 2048, CONTEXT_GUIDANCE_MAX = 4096,
       CONTEXT_MISSING = 20, CONTEXT_MISSING_MAX = 512 };

struct context_limits {
        int64_t max_runtime_seconds; /* 0 = none */
        int64_t summary_max_bytes, context_body_max_bytes;
};
struct context {
        struct task_view *task;
        struct run_view *current_run;
        struct profile *profile;                   /* the task's, or NULL */
        struct str handoff_summary; /* what the reviewer wants, or why the attempt before did not succeed */
        struct review *review_continuation; /* the rejection that it follows */
        struct list review_history;         /* newest first */
        struct list prior_attempts, recent_events; /* newest first */
        struct context_limits *limits;
};
extern const struct record context_record;

/* ERR_FOREIGN_RUN when a session asks for a run that is not its own; ERR_TOO_LARGE. */
enum err run_context(struct tx *, const struct principal *, int64_t run,
                     struct context *) NODISCARD;

/* Drops what does not fit; ERR_TOO_LARGE when that is not enough. */
enum err context_fit(struct scope *, struct context *) NODISCARD;
/* JSON without the members whose names say that they are secret, at any depth, and without claim
 * tokens in texts. */
struct str redact_json(struct scope *, struct str json);

#endif
