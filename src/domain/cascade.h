/*
 * Cascades: a cancel goes down a tree of tasks, and on to the tasks that depend on those it ended.  An
 * operation deals with CASCADE_TASKS of them in its transaction; what is left is a row that the tick
 * goes on with, piece by piece and at once, also after a restart.
 *
 * The task that it begins with is canceled by the operation, before anybody hears of it.  From then on
 * nothing below is handed out, begun, gone on with (cascade_reaches(), cascade_overtake()) or made
 * (task_check_above()): how far it has come is seen by nobody but who reads the tasks.
 */
#ifndef BATON_DOMAIN_CASCADE_H
#define BATON_DOMAIN_CASCADE_H

#include "domain/domain.h"
#include "domain/run.h"

enum { CASCADE_TASKS = 100 }; /* that one transaction looks at, some 5 ms of the writer */

struct cascade {
        int64_t task_id; /* where it began */
        int64_t at;      /* the task that was dealt with last, depth first and by id; 0 = none */
        bool direct;     /* somebody asked for it; else a prerequisite ended badly */
        struct str actor, origin;    /* who is told to have done it */
        struct str detail, metadata; /* the caller's words */
};
extern const struct record cascade_record;

/* The cascades of one operation, and how much of them it may still do. */
struct cascades {
        struct cascade *items;
        size_t n, size;
        int64_t until; /* boot clock; 0 = any time */
        int left;
};

/* Between the two, cascade_add() only remembers what is to be canceled, so that nothing recurses along
 * a chain of dependents.  An operation within another one's pair adds to that one's; the closing of the
 * outermost does the work, unless `result` is an error, which it returns. */
void cascades_open(struct tx *, struct cascades *);
enum err cascades_close(struct tx *, struct cascades *, enum err result) NODISCARD;
void cascade_add(struct tx *, const struct principal *, struct cascade);
/* All three for a single one. */
enum err cascade_run(struct tx *, const struct principal *, struct cascade) NODISCARD;

/* Whether a cascade that is under way is going to cancel the task. */
enum err cascade_reaches(struct tx *, int64_t task, bool *) NODISCARD;
/* The same, and then the task is canceled here and now. */
enum err cascade_overtake(struct tx *, int64_t task, bool *) NODISCARD;

/* Whether any is under way, after a start. */
enum err cascade_load(struct tx *) NODISCARD;
/* A piece of the oldest one. */
enum err cascade_tick(struct tx *, struct domain *) NODISCARD;

#endif
