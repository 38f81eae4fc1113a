/* What is known of tasks among each other: trees, dependencies, and reviews, which dependents wait for. */
#include <stdlib.h>
#include <string.h>

#include "domain/dependency.h"
#include "sim.h"

/* ---- trees ---- */

bool is_below_canceled(const struct task_fact *t)
{
        while (t && !t->canceled)
                t = t->parent;
        return t != NULL;
}

void child_born(struct sim *s, struct task_fact *t, int64_t parent)
{
        t->parent = task_of(s, parent);
        t->depth = t->parent->depth + 1;
        t->parent->children++;
        if (is_below_canceled(t))
                violation(s, "I24: task %lld was born below a canceled one", (long long)t->id);
}

/* ---- dependencies ---- */

/* How it has ended; -1: it has not. */
static int end_of(const struct task_fact *t)
{
        if (t->canceled)
                return TASK_CANCELED;
        if (t->open_root || t->review || t->last_status == RUN_NONE)
                return -1;
        return t->last_status == RUN_COMPLETED ? TASK_COMPLETED :
               t->attempts >= t->max_attempts  ? TASK_FAILED :
                                                 -1;
}

static bool is_met(const struct edge *e)
{
        int end = end_of(e->on);

        return end == TASK_COMPLETED || (end > 0 && e->on_failure == ON_FAILURE_PROCEED);
}

bool is_blocked(const struct task_fact *t)
{
        for (const struct edge *e = t->needs; e; e = e->next_of_task)
                if (!is_met(e))
                        return true;
        return false;
}

struct edge *edge_of(const struct task_fact *t, const struct task_fact *on)
{
        struct edge *e = t->needs;

        while (e && e->on != on)
                e = e->next_of_task;
        return e;
}

/* Along the edges: whether `goal` must end before t. */
static bool reaches(struct task_fact *t, const struct task_fact *goal, int64_t mark)
{
        if (t == goal)
                return true;
        if (t->mark == mark)
                return false;
        t->mark = mark;
        for (struct edge *e = t->needs; e; e = e->next_of_task)
                if (reaches(e->on, goal, mark))
                        return true;
        return false;
}

bool must_end_before(struct sim *s, struct task_fact *first, struct task_fact *then)
{
        return reaches(then, first, ++s->marks);
}

static void dependency_added(struct sim *s, const struct stored_event *e)
{
        struct task_fact *t = task_of(s, e->task), *on = task_of(s, id_in(e, "\"depends_on_task_id\":", "task"));
        struct edge *edge = xcalloc(1, sizeof(*edge));

        if (edge_of(t, on) || must_end_before(s, t, on))
                violation(s, "I18: task %lld is made to wait for task %lld twice, or in a circle", (long long)t->id,
                          (long long)on->id);
        *edge = (struct edge){ .on = on, .task = t, .next_of_task = t->needs, .next_of_on = on->wanted };
        edge->on_failure = says(e, "\"on_failure\":\"proceed\"") ? ON_FAILURE_PROCEED :
                           says(e, "\"on_failure\":\"cancel\"")  ? ON_FAILURE_CANCEL :
                                                                   ON_FAILURE_BLOCK;
        t->needs = on->wanted = edge;
}

static void dependency_removed(struct sim *s, const struct stored_event *e)
{
        struct task_fact *t = task_of(s, e->task), *on = task_of(s, id_in(e, "\"depends_on_task_id\":", "task"));
        struct edge **of_task = &t->needs, **of_on = &on->wanted, *edge = edge_of(t, on);

        BUG_ON(!edge);
        while (*of_task != edge)
                of_task = &(*of_task)->next_of_task;
        while (*of_on != edge)
                of_on = &(*of_on)->next_of_on;
        *of_task = edge->next_of_task;
        *of_on = edge->next_of_on;
        free(edge);
}

static void dependency_failed(struct sim *s, const struct stored_event *e)
{
        struct task_fact *t = task_of(s, e->task), *on = task_of(s, id_in(e, "\"depends_on_task_id\":", "task"));
        struct edge *edge = edge_of(t, on);
        int end = end_of(on);
        bool judged = on->review && on->last_status != RUN_COMPLETED; /* the verdict is told after what it ends */

        if (!edge || (end != TASK_FAILED && end != TASK_CANCELED && !judged))
                violation(s, "I8: task %lld is told that task %lld ended badly", (long long)t->id, (long long)on->id);
        else if (edge->on_failure == ON_FAILURE_CANCEL)
                t->doomed = true;
        else if (edge->on_failure == ON_FAILURE_PROCEED)
                reached(s, PROCEEDED);
}

/* ---- reviews ---- */

static void leave_review(struct task_fact *t)
{
        if (!t->review)
                return;
        for (struct review_fact *v = t->reviews; v; v = v->next_of_task)
                if (v->status < REVIEW_RECORDED)
                        v->status = REVIEW_CANCELED;
        t->review = NULL;
        t->circuit = false;
}

void attempt_begins(struct sim *s, struct run_fact *r)
{
        struct task_fact *t = r->task;

        if (r->row.previous && run_of(s, r->row.previous)->status != RUN_COMPLETED)
                r->round = run_of(s, r->row.previous)->round;
        if (is_below_canceled(t))
                violation(s, "I24: task %lld got a run below a canceled one", (long long)t->id);
        leave_review(t);
}

void task_ends(struct sim *s, struct task_fact *t)
{
        leave_review(t);
        if (t->doomed)
                reached(s, DEPENDENT_CANCELED);
}

static void review_requested(struct sim *s, const struct stored_event *e)
{
        struct review_fact *v = xcalloc(1, sizeof(*v));
        struct run_fact *r = run_of(s, e->run);
        struct task_fact *t = r->task;

        *v = (struct review_fact){ .id = id_in(e, "\"review_id\":", "review"),
                                   .run = r,
                                   .round = number_in(e, "review_round"),
                                   .attempt = number_in(e, "attempt"),
                                   .next_of_task = t->reviews };
        t->reviews = v;
        map_put(&s->reviews, v->id, v);
        s->judged[s->n_judged < LENGTH(s->judged) ? s->n_judged++ :
                                                    (size_t)roll(&s->w, LENGTH(s->judged))] = v->id;
        if (!run_is_terminal(r->status) || r->kind != RUN_ROOT)
                violation(s, "I7: a review of run %lld, which is %s", (long long)r->id,
                          run_status_names.text[r->status]);
        /* One that was asked for by hand is waited for where nobody came to a judgement. */
        if (says(e, "\"reason\":\"asked\"") && !(t->circuit && t->last_run == r->id))
                return;
        t->review = v;
        t->circuit = false;
}

static void review_recorded(struct sim *s, const struct stored_event *e)
{
        struct review_fact *v = map_get(&s->reviews, id_in(e, "\"review_id\":", "review"));
        struct task_fact *t = v->run->task;
        bool rejected = says(e, "\"outcome\":\"rejected\"");
        int64_t next = says(e, "\"continuation_run_id\":") ? id_in(e, "\"continuation_run_id\":", "run") : 0;

        /* What it rejects is continued before that is told. */
        if (v->status == REVIEW_RECORDED || (v->status == REVIEW_CANCELED && !next))
                violation(s, "I17: review %lld was judged once more", (long long)v->id);
        v->status = REVIEW_RECORDED;
        if (rejected != (next || says(e, "\"no_continuation\":")))
                violation(s, "I22: review %lld rejects, and nothing tells what follows", (long long)v->id);
        if (next) {
                struct run_fact *r = run_of(s, next);

                if (t->open_root != r || r->attempt != v->run->attempt + 1 || r->row.previous != v->run->id)
                        violation(s, "I7: run %lld does not continue run %lld", (long long)next,
                                  (long long)v->run->id);
                r->round = v->round + 1;
                reached(s, CONTINUED);
                if (r->round > 2)
                        reached(s, CONTINUED_TWICE);
        }
        if (says(e, "\"outcome\":\"timeout\""))
                reached(s, REVIEW_EXPIRED);
        if (says(e, "\"circuit_opened\":true")) {
                t->review = v;
                t->circuit = true;
                reached(s, CIRCUIT);
        } else if (t->review == v) {
                t->review = NULL;
                reached(s, REVIEW_APPROVED);
        }
}

/* ---- events ---- */

bool graph_event(struct sim *s, const struct stored_event *e)
{
        static const struct {
                int64_t type;
                void (*tell)(struct sim *, const struct stored_event *);
        } rows[] = {
                { EVENT_TASK_DEPENDENCY_ADDED, dependency_added },
                { EVENT_TASK_DEPENDENCY_REMOVED, dependency_removed },
                { EVENT_TASK_DEPENDENCY_FAILED, dependency_failed },
                { EVENT_RUN_REVIEW_REQUESTED, review_requested },
                { EVENT_RUN_REVIEW_RECORDED, review_recorded },
        };

        for (size_t i = 0; i < LENGTH(rows); i++)
                if (rows[i].type == e->type) {
                        rows[i].tell(s, e);
                        touch_task(s, task_of(s, e->task));
                        return true;
                }
        return false;
}

void graph_free(struct task_fact *t)
{
        while (t->needs) {
                struct edge *e = t->needs;

                t->needs = e->next_of_task;
                free(e);
        }
}
