/* Retry policy of a task or a definition's runs: when a new attempt follows a failed one. */
#ifndef BATON_DOMAIN_RETRY_H
#define BATON_DOMAIN_RETRY_H

#include "core/scope.h"
#include "domain/outcome.h"

/* Where a policy is given and says no number; of a root run the task does. */
enum { RETRY_ATTEMPTS = 3 };

struct task_retry {
        int64_t max_attempts;            /* 0 = none was given */
        int64_t delay_ms, max_delay_ms;  /* first delay and cap */
        double backoff, jitter;          /* factor per attempt; random share 0..1 */
};

/* Reads {max_attempts?, delay_ms?, max_delay_ms?, backoff?, jitter?}; absent text = the defaults
 * (1 s, cap 5 min, factor 2, jitter 0.1). */
enum err retry_parse(struct scope *, struct str json, struct task_retry *out) NODISCARD;
/* Kinds that another attempt may mend. */
bool outcome_is_retried(enum outcome);
/* Microseconds before attempt n+1, n = 1,2,…; random is 0..1. */
int64_t retry_delay_us(const struct task_retry *, int64_t attempt, double random);

#endif
