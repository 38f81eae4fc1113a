/*
 * What a list adds to a task: its run under way and when something last happened to it.  Both are read
 * for the rows of one page, by index; nothing keeps them.
 */
#ifndef BATON_DOMAIN_SUMMARY_H
#define BATON_DOMAIN_SUMMARY_H

#include "domain/task.h"

/* A run that is claimed or further and has not ended, in short. */
struct active_run {
        int64_t id, task_id;
        struct str title; /* of the task; absent within that task */
        int status, executor, priority;
        int64_t attempt;
        struct str claimed_by, session_id;
        int64_t claimed_at, started_at;
        int64_t progress_at; /* its claim, or the newest begin or end of a step since */
        int64_t heartbeat_at, lease_until;
};
extern const struct record active_run_record;

/* Makes it ready for the wire. */
void active_run_show(struct tx *, struct active_run *);

/* task_show(), then active_run and last_activity_at: the time of the newest event of the task itself.  That of a
 * root is looked for among the 200 newest of its tree; beyond them its last change of status counts. */
enum err task_summarize(struct tx *, struct task *) NODISCARD;
enum err tasks_summarize(struct tx *, struct list *) NODISCARD;

#endif
