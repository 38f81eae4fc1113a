/*
 * Dependencies: a task is blocked while one of its prerequisites is not met.  The counts in the two
 * task rows change in the transaction that changes an edge or a prerequisite's status.
 */
#ifndef BATON_DOMAIN_DEPENDENCY_H
#define BATON_DOMAIN_DEPENDENCY_H

#include "domain/task.h"

enum on_failure { ON_FAILURE_BLOCK, ON_FAILURE_PROCEED, ON_FAILURE_CANCEL };
extern const struct names on_failure_names, dependency_kind_names;

enum {
        DEPENDENCIES_MAX = 32,
        DEPENDENTS_MAX = 1000,  /* all of them change with their prerequisite */
        CYCLE_SEARCH_MAX = 5000 /* tasks that the check looks at in one direction */
};

struct dependency {
        int64_t task_id, depends_on_task_id;
        int on_failure;
        int64_t created_at;
        struct str title; /* of the prerequisite, as its status */
        int status;

        /* Not columns. */
        int kind;
        bool met;
};
extern const struct record dependency_record;

enum err dependency_add(struct tx *, const struct principal *, int64_t task, int64_t depends_on,
                        int on_failure, struct task *) NODISCARD;
enum err dependency_remove(struct tx *, const struct principal *, int64_t task, int64_t depends_on,
                           struct task *) NODISCARD;
enum err dependencies_of(struct tx *, int64_t task, struct list *) NODISCARD;

/*
 * The status of a task with dependents was another before: their counts, holds and statuses follow,
 * they hear of a bad end, and those that asked for it are canceled.  Not recursive: what is canceled
 * on the way waits in a list.  Appends the events collected so far, so that the cause comes first.
 */
enum err dependents_follow(struct tx *, const struct task *, int status_before,
                           struct events *) NODISCARD;

/* The task is about to be deleted: its edges go, and those that waited for it follow. */
enum err dependencies_drop(struct tx *, const struct principal *, const struct task *) NODISCARD;

#endif
