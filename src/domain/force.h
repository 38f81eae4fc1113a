/*
 * Force operations: what an operator does to a run without its token.  Whoever held it is not asked;
 * the token is void afterwards, and a worker of ours ends what it performs for the run.
 */
#ifndef BATON_DOMAIN_FORCE_H
#define BATON_DOMAIN_FORCE_H

#include "domain/run.h"

/* An operator's words, kept in the event. */
struct said {
        struct str reason, metadata;
};

/* A claimed run that has not begun goes back to the queue, at its old place. */
enum err force_release(struct tx *, const struct principal *, int64_t run, const struct said *,
                       struct run *) NODISCARD;
/* An open run fails with kind operator_forced, which no policy tries again; its children are canceled
 * and whoever waits for it is told.  Needs a reason. */
enum err force_fail(struct tx *, const struct principal *, int64_t run, const struct said *,
                    struct run *) NODISCARD;
/* A run that carries an attention mark loses it; one that is held goes back to the queue. */
enum err run_recover(struct tx *, const struct principal *, int64_t run, const struct said *,
                     struct run *) NODISCARD;
enum err force_reason_check(struct scope *, struct str reason) NODISCARD;

enum { FORCE_LIMIT = 10 };
#define FORCE_WINDOW (60 * US_PER_S)

/*
 * Comes before every operation of operators (forced, retry, pause, resume): an agent's session may do
 * so many on a task in a minute (domain->force_limit).  Written down at once; the caller keeps that
 * although the operation is refused.  Others pass, and nothing is written.
 */
enum err force_gate(struct tx *, const struct principal *, int64_t task) NODISCARD;
/* Forgets what is older than the window. */
enum err force_trim(struct tx *) NODISCARD;

#endif
