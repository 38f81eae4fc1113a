/*
 * Pauses: a paused task and all below it get no run claimed; what runs already goes on.  paused_n of
 * a task counts the pauses on itself and above it, so that resuming one leaves the others.
 */
#ifndef BATON_DOMAIN_PAUSE_H
#define BATON_DOMAIN_PAUSE_H

#include "domain/task.h"

/* ERR_REASON_REQUIRED without a reason; a paused task stays as it is. */
enum err task_pause(struct tx *, const struct principal *, int64_t id, struct str reason,
                    struct str metadata, struct task *) NODISCARD;
enum err task_resume(struct tx *, const struct principal *, int64_t id, struct str metadata,
                     struct task *) NODISCARD;

#endif
