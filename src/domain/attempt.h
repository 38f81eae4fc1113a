/*
 * Attempts: how a task comes to have a root run.  It is started, published, approved or tried again by
 * somebody, or enqueued when what it waited for has come.
 */
#ifndef BATON_DOMAIN_ATTEMPT_H
#define BATON_DOMAIN_ATTEMPT_H

#include "domain/run.h"
#include "domain/task.h"

enum { RETRY_CHAIN_MAX = 10 }; /* runs behind one that is tried again */

struct start_spec {
        struct str input, metadata, network_channel;
        bool waits; /* POST …/runs, whose run waits if the task is blocked; else start, which refuses */
};
/* A new attempt. */
enum err task_start(struct tx *, const struct principal *, int64_t id,
                    const struct start_spec *, struct task *, struct run **) NODISCARD;
/* A draft becomes a task and is enqueued. */
enum err task_publish(struct tx *, const struct principal *, int64_t id, struct task *,
                      struct run **) NODISCARD;
/* Decides the task's open approval; approved, it has a run: *run, or NULL where none was due
 * (a draft, no attempts left).  *existing: it waited already. */
enum err task_decide(struct tx *, const struct principal *, int64_t id, bool approve,
                     struct str comment, struct task *, struct run **run, bool *existing) NODISCARD;
/* What follows from the decision; called by approval_decide(). */
enum err task_decided(struct tx *, const struct principal *, int64_t id, bool approve) NODISCARD;
/* A new attempt after the newest root run, which failed, timed out or was canceled. */
enum err task_retry(struct tx *, const struct principal *, int64_t id, struct str metadata,
                    struct task *, struct run **) NODISCARD;
/* The same after any of them, of which it must be the first. */
enum err run_try_again(struct tx *, const struct principal *, const struct run *previous,
                       struct str metadata, struct run **) NODISCARD;

/* What blocks or pauses it has changed: its queued run's hold and its status follow; when that makes
 * it ready and it asked for it, a run is enqueued. */
enum err task_follow(struct tx *, struct task *, struct events *) NODISCARD;

/* After a root run ended: the retry policy's next attempt, if there is one. */
enum err attempt_again(struct tx *, struct task *, const struct run *, struct events *) NODISCARD;

/* After a reviewer rejected what the task's newest run, `run`, has done: one more, which is told what is
 * missing by its member `review`. */
enum err attempt_continue(struct tx *, struct task *, const struct run *run, struct str review,
                          struct events *, struct run *next) NODISCARD;

/* The root run of an attempt, to be created; without an input the task's own. */
struct run_spec attempt_spec(const struct task *, int64_t attempt, struct str input);
/* The task's open root run; its status is RUN_NONE where there is none. */
enum err attempt_open(struct tx *, int64_t task, struct run *) NODISCARD;

#endif
