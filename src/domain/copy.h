/*
 * Copies: a task with its newest root run as the readers of the copies in Redis know it, and the events
 * that those hear of.
 */
#ifndef BATON_DOMAIN_COPY_H
#define BATON_DOMAIN_COPY_H

#include "domain/run.h"

struct copy {
        int64_t task_id;
        struct str workspace_id;
        int priority;
        int64_t parent_task_id, created_at;
        struct str source_conversation_id;
        int64_t run_id;
        int status, executor; /* of the run */
        struct str claimed_by;
        int64_t queued_at, started_at, ended_at;
        struct str error;
        struct str result; /* JSON, or absent */
};
extern const struct record copy_record;

struct copy_event {
        int64_t pos, task_id;
        int type;
        int64_t at;
        struct str workspace_id; /* absent: the task is gone */
        bool of_child;           /* of a branch or a sub-task, not of the task's own run */
        int64_t attempt, started_at;
        int64_t step, total_steps; /* of an event of a step: from 0; of its definition */
        struct str action, step_error;
};
extern const struct record copy_event_record;

/* The newest event's place; 0: there is none. */
enum err copies_end(struct tx *, int64_t *pos) NODISCARD;
/* The events after a place, in order. */
enum err copies_events(struct tx *, int64_t after, int limit, struct list *) NODISCARD;
/* ERR_EMPTY: it has no run, or is gone. */
enum err copy_of(struct tx *, int64_t task, struct copy *) NODISCARD;
/* Those whose newest root run is open, by run. */
enum err copies_open(struct tx *, int64_t after_run, int limit, struct list *) NODISCARD;

#endif
