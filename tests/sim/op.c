/* What clients ask, and what must come of it. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "domain/cancel.h"
#include "domain/cascade.h"
#include "domain/dependency.h"
#include "domain/force.h"
#include "domain/idempotency.h"
#include "domain/attempt.h"
#include "domain/profile.h"
#include "domain/scheduler.h"
#include "sim.h"

/* GROWTH: tasks that a tree grows by at once, so that its cancel takes several transactions. */
enum { GROWTH = 40, BATCH_KNOWN = 6, GIVEN_UP_KEEP = 3, FOLLOW_PAGE = 20 };

static const char *const session_names[SESSIONS] = { "session-1", "session-2", "session-3" };
static const char *const retry_texts[] = {
        NULL,
        "{\"delay_ms\":500,\"backoff\":2,\"jitter\":0.5}",
        "{\"delay_ms\":0}",
        "{\"delay_ms\":3000,\"max_delay_ms\":4000,\"backoff\":3,\"jitter\":0}",
};
/* As the definitions say it themselves. */
static const int definition_retry[DEFINITIONS] = { [1] = 1, [7] = 2 };
static const int definition_timeout[DEFINITIONS] = { [5] = 40, [7] = 12 };
static const char *const caps_texts[] = { NULL, "gpu", "net", "gpu,net" };

static struct str optional(const char *text)
{
        return text && *text ? str_from(text) : STR_NONE;
}

/* ---- carried out on the writer ---- */

static enum err create_one(struct op *op, struct tx *tx, int i)
{
        struct sim *s = op->sim;
        struct task_spec spec = {
                .title = arena_printf(&tx_scope(tx)->arena, "%s.%d", op->title, i),
                .priority = op->priority,
                .max_attempts = op->max_attempts,
                .retry = optional(retry_texts[op->retry]),
                .timeout_seconds = op->timeout,
                .required_capabilities = optional(caps_texts[op->caps]),
                .definition_id = s->definition_ids[op->definition],
                .definition_version = op->definition ? 1 : 0,
                .start = op->start,
                .review_policy = op->review_policy,
        };

        op->runs[i] = NULL;
        return op->on ? task_create_child(tx, op->by, op->on, &spec, &op->tasks[i], &op->runs[i]) :
                        task_create(tx, op->by, &spec, &op->tasks[i], &op->runs[i]);
}

static enum err run_create_tasks(struct op *op, struct tx *tx)
{
        struct arena *arena = &tx_scope(tx)->arena;
        enum err e = ERR_OK;

        op->tasks = arena_array(arena, struct task, op->n);
        op->runs = arena_array(arena, struct run *, op->n);
        op->n_tasks = op->n;
        for (int i = 0; !e && i < op->n; i++)
                e = create_one(op, tx, i);
        return e;
}

static void room_for_one(struct op *op, struct tx *tx)
{
        op->tasks = arena_new(&tx_scope(tx)->arena, struct task);
        op->runs = arena_new(&tx_scope(tx)->arena, struct run *);
        op->n_tasks = 1;
}

static struct run *room_for_run(struct op *op, struct tx *tx)
{
        room_for_one(op, tx);
        op->n_tasks = 0;
        return op->runs[0] = arena_new(&tx_scope(tx)->arena, struct run);
}

static enum err run_start(struct op *op, struct tx *tx)
{
        room_for_one(op, tx);
        return task_start(tx, op->by, op->id, &(struct start_spec){ 0 }, op->tasks, op->runs);
}

static enum err run_retry(struct op *op, struct tx *tx)
{
        room_for_one(op, tx);
        return task_retry(tx, op->by, op->id, STR_NONE, op->tasks, op->runs);
}

static enum err run_patch(struct op *op, struct tx *tx)
{
        struct task_patch patch = { .given = PATCH_TITLE | (op->max_attempts ? PATCH_MAX_ATTEMPTS : 0),
                                    .title = str_from(op->title),
                                    .max_attempts = op->max_attempts };

        room_for_one(op, tx);
        return task_patch(tx, op->by, op->id, &patch, op->tasks);
}

static enum err run_cancel_task(struct op *op, struct tx *tx)
{
        room_for_one(op, tx);
        return task_cancel(tx, op->by, op->id, STR_NONE, STR_NONE, op->tasks);
}

static enum err run_cancel_run(struct op *op, struct tx *tx)
{
        return cancel_run(tx, op->by, op->id, STR_NONE, STR_NONE, room_for_run(op, tx));
}

static enum err run_force_fail(struct op *op, struct tx *tx)
{
        const struct said said = { .reason = STR("in the way") };

        return force_fail(tx, op->by, op->id, &said, room_for_run(op, tx));
}

static enum err run_force_release(struct op *op, struct tx *tx)
{
        const struct said said = { STR_NONE };

        return force_release(tx, op->by, op->id, &said, room_for_run(op, tx));
}

static enum err run_recover_op(struct op *op, struct tx *tx)
{
        const struct said said = { STR_NONE };

        return run_recover(tx, op->by, op->id, &said, room_for_run(op, tx));
}

static enum err run_decide(struct op *op, struct tx *tx)
{
        struct approval approval;

        return approval_decide(tx, op->by, op->id, op->approve, STR_NONE, &approval);
}

static enum err run_depend(struct op *op, struct tx *tx)
{
        struct task task;

        return dependency_add(tx, op->by, op->id, op->on, op->on_failure, &task);
}

static enum err run_undepend(struct op *op, struct tx *tx)
{
        struct task task;

        return dependency_remove(tx, op->by, op->id, op->on, &task);
}

static enum err run_profile(struct op *op, struct tx *tx)
{
        struct profile_worker worker = { .mode = WORKER_SELECT,
                                         .choice.required_capabilities = optional(caps_texts[op->caps]) };
        struct profile profile = { .worker = &worker };

        return profile_put(tx, op->by, op->id, &profile);
}

static enum err run_ask(struct op *op, struct tx *tx)
{
        /* No number that the server would come to by itself. */
        const struct review_spec spec = { .policy = REVIEW_ALWAYS, .attempt = op->lease + REVIEW_ATTEMPTS_MAX };
        struct review review;
        bool created;

        return review_request(tx, op->by, op->id, &spec, &review, &created);
}

static enum err run_bind(struct op *op, struct tx *tx)
{
        struct review review;

        return review_bind(tx, op->by, op->id, STR_NONE, &review);
}

static enum err run_judge(struct op *op, struct tx *tx)
{
        bool rejects = op->outcome == VERDICT_REJECTED;
        const struct verdict verdict = { .outcome = op->outcome,
                                         .confidence = STR("1"),
                                         .reason = STR("it is so"),
                                         .delivery_id = str_from(op->title),
                                         .missing_work = rejects ? STR("[\"all\"]") : STR_NONE };
        struct judged judged;

        return verdict_submit(tx, op->by, op->id, &verdict, &judged);
}

static enum err run_send(struct op *op, struct tx *tx)
{
        const struct input_spec spec = { .message = STR("go on") };
        struct input input;

        return input_send(tx, op->by, op->id, &spec, &input);
}

enum err op_claim(struct op *op, struct tx *tx)
{
        enum err e = waiting_claim(tx, op->by, &op->claim, &op->claims);

        if (e && e != ERR_EMPTY && op->claim.woken_by)
                reached(op->sim, PASSED_ON);
        if (op->claim.call.parked) {
                op->was_parked = true;
                reached(op->sim, PARKED);
                if (op->sim->scheduler_paused)
                        reached(op->sim, SCHEDULER_PAUSED);
        }
        return e;
}

static enum err run_claim(struct op *op, struct tx *tx)
{
        op->claim.request = (struct claim_request){
                .criteria = { .workspace = op->by->workspace,
                              .executor = EXECUTOR_AGENT,
                              .session_id = optional(op->session),
                              .capabilities = optional(caps_texts[op->caps]) },
                .lease_seconds = op->lease,
                .max = op->n,
                .run = op->id,
        };
        return op_claim(op, tx);
}

static struct fence shown(const struct op *op)
{
        return fence_of(op->by, str_from(op->token));
}

static enum err run_begin_work(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);

        return claim_start(tx, &fence, op->id, room_for_run(op, tx));
}

static enum err run_heartbeat(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);

        return claim_heartbeat(tx, &fence, op->id, op->lease, &op->beat);
}

static enum err run_consume(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);
        struct input input;

        return input_consume(tx, &fence, op->id, op->input, &input);
}

static enum err run_complete(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);

        return claim_complete(tx, &fence, op->id, str_from(op->result), room_for_run(op, tx));
}

static enum err run_fail(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);

        return claim_fail(tx, &fence, op->id, op->failure, STR("it broke"), STR_NONE,
                          room_for_run(op, tx));
}

static enum err run_release(struct op *op, struct tx *tx)
{
        struct fence fence = shown(op);

        return claim_release(tx, &fence, op->id, STR_NONE, STR_NONE, room_for_run(op, tx));
}

static enum err run_archive(struct op *op, struct tx *tx)
{
        return definition_archive(tx, op->by, STR("doomed"));
}

static enum err run_pause(struct op *op, struct tx *tx)
{
        struct scheduler scheduler;
        struct drain drain;

        return op->lease ? scheduler_drain(tx, op->by, STR_NONE, op->lease, &drain) :
                           scheduler_pause(tx, op->by, STR_NONE, STR_NONE, &scheduler);
}

static enum err run_resume(struct op *op, struct tx *tx)
{
        struct scheduler scheduler;

        return scheduler_resume(tx, op->by, STR_NONE, STR_NONE, &scheduler);
}

static enum err run_follow_tree(struct op *op, struct tx *tx)
{
        const struct event_page page = { .tree = op->id, .after = op->after, .limit = FOLLOW_PAGE };

        return events_read(tx, &page, &op->events);
}

static enum err run_undeliver(struct op *op, struct tx *tx)
{
        return claim_undeliver(tx, op->by, &op->given);
}

static enum err run_advance_op(struct op *op, struct tx *tx)
{
        return run_advance(tx, &op->worker->advance, &op->worker->after);
}

static enum err run_clean(struct op *op, struct tx *tx)
{
        return run_cleaned(tx, op->id);
}

/* ---- what must come of it ---- */

typedef enum err op_run(struct op *, struct tx *);
/* Before its events are looked at: what it must say, by what is known.  ERR_COUNT: it depends. */
typedef enum err op_expect(struct op *);
/* After its events were looked at, when it went well. */
typedef void op_check(struct op *);

static bool is_leased(const struct run_fact *r)
{
        return r->status >= RUN_CLAIMED && r->status <= RUN_RUNNING;
}

static enum err expect_fence(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        touch_run(op->sim, r);
        if (strcmp(r->token, op->token) != 0) {
                reached(op->sim, STALE);
                return ERR_STALE_TOKEN;
        }
        if (r->holder != op->by) {
                reached(op->sim, FOREIGN);
                return ERR_FOREIGN_RUN;
        }
        if (r->status == RUN_CANCELED)
                reached(op->sim, LATE);
        if (!is_leased(r))
                return ERR_INVALID_TRANSITION;
        if (run_holds_surely(op->sim, r))
                return ERR_OK;
        return ERR_COUNT;
}

static enum err expect_ok(struct op *op)
{
        (void)op;
        return ERR_OK;
}

static enum err expect_begin(struct op *op)
{
        enum err e = expect_fence(op);

        return !e && run_of(op->sim, op->id)->status != RUN_CLAIMED ? ERR_INVALID_TRANSITION : e;
}

static bool is_repeat(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        return r->status == RUN_COMPLETED && r->holder == op->by && !strcmp(r->token, op->token) &&
               r->result == hash_bytes(HASH_START, op->result, strlen(op->result));
}

static enum err expect_complete(struct op *op)
{
        if (!is_repeat(op))
                return expect_fence(op);
        reached(op->sim, REPEATED_COMPLETE);
        return ERR_OK;
}

static enum err expect_create(struct op *op)
{
        const struct task_fact *parent = op->on ? task_of(op->sim, op->on) : NULL;

        return !parent                                                          ? ERR_OK :
               is_below_canceled(parent)                                        ? ERR_INVALID_TRANSITION :
               parent->depth + 1 >= TASK_DEPTH_MAX || parent->children + op->n > TASK_CHILDREN_MAX ? ERR_GRAPH_LIMIT :
                                                                                  ERR_OK;
}

/* With its last attempt a task has failed, and its events tell what that means for others. */
static enum err expect_patch(struct op *op)
{
        if (!op->claim.call.result && op->max_attempts)
                task_of(op->sim, op->id)->max_attempts = op->max_attempts;
        return ERR_OK;
}

static enum err expect_depend(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id), *on = task_of(op->sim, op->on);
        int n = 0;

        for (struct edge *e = t->needs; e; e = e->next_of_task)
                n++;
        if (t == on || edge_of(t, on))
                return ERR_VALIDATION;
        if (n >= DEPENDENCIES_MAX)
                return ERR_GRAPH_LIMIT;
        if (!must_end_before(op->sim, t, on))
                return ERR_OK;
        reached(op->sim, CIRCLE);
        return ERR_CYCLE;
}

static enum err expect_undepend(struct op *op)
{
        return edge_of(task_of(op->sim, op->id), task_of(op->sim, op->on)) ? ERR_OK : ERR_NOT_FOUND;
}

static enum err expect_profile(struct op *op)
{
        const struct run_fact *r = task_of(op->sim, op->id)->open_root;

        return r && is_leased(r) ? ERR_INVALID_TRANSITION : ERR_OK;
}

static enum err expect_ask(struct op *op)
{
        const struct run_fact *r = run_of(op->sim, op->id);

        return r->kind == RUN_ROOT && run_is_terminal(r->status) ? ERR_OK : ERR_INVALID_TRANSITION;
}

static bool is_person(const struct op *op)
{
        return str_starts(op->by->actor, "human:");
}

/* Who may say something of it, now that it is open. */
static enum err expect_judged(struct op *op, const struct review_fact *v)
{
        if (v->status >= REVIEW_RECORDED)
                return ERR_INVALID_TRANSITION;
        if (!is_person(op) && v->run->holder == op->by)
                return ERR_SELF_APPROVAL;
        return !is_person(op) && v->status == REVIEW_IN_REVIEW && v->reviewer != op->by ? ERR_PERMISSION_DENIED :
                                                                                        ERR_OK;
}

static enum err expect_bind(struct op *op)
{
        return expect_judged(op, map_get(&op->sim->reviews, op->id));
}

/* The same delivery again is no other verdict; none is made up twice. */
static enum err expect_judge(struct op *op)
{
        const struct review_fact *v = map_get(&op->sim->reviews, op->id);

        if (v->status != REVIEW_RECORDED)
                return expect_judged(op, v);
        reached(op->sim, JUDGED_TWICE);
        return ERR_CONFLICT;
}

static bool may_start(const struct task_fact *t)
{
        return !is_below_canceled(t) && !t->open_root && t->attempts < t->max_attempts;
}

static enum err expect_start(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);

        if (!may_start(t) || is_blocked(t))
                return ERR_INVALID_TRANSITION;
        if (t->review && !t->circuit)
                reached(op->sim, REVIEW_LEFT);
        return ERR_OK;
}

static enum err expect_retry(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);
        struct run_fact *last = t->last_run ? run_of(op->sim, t->last_run) : NULL;

        return may_start(t) && last && last->status != RUN_COMPLETED ? ERR_OK :
                                                                       ERR_INVALID_TRANSITION;
}

static enum err expect_cancel_task(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);
        int status = task_status_of(t);

        for (struct run_fact *r = t->runs; r && status != TASK_CANCELED; r = r->next_of_task) {
                if (run_is_terminal(r->status))
                        continue;
                if (r->kind != RUN_ROOT)
                        reached(op->sim, CANCEL_CHILDREN);
                if (r->kind != RUN_ROOT && r->born == op->sim->turn)
                        reached(op->sim, CANCEL_BORN);
                if (is_leased(r))
                        reached(op->sim, CANCEL_HELD);
        }
        return (status == TASK_COMPLETED || status == TASK_FAILED) && !t->open_root ?
                       ERR_INVALID_TRANSITION :
                       ERR_OK;
}

static enum err expect_cancel_run(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        return run_is_terminal(r->status) && r->status != RUN_CANCELED ? ERR_INVALID_TRANSITION :
                                                                         ERR_OK;
}

static enum err expect_force_fail(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        if (run_is_terminal(r->status))
                return ERR_INVALID_TRANSITION;
        if (is_leased(r))
                reached(op->sim, FORCED_HELD);
        if (r->kind != RUN_ROOT)
                reached(op->sim, FORCED_CHILD);
        return ERR_OK;
}

static enum err expect_force_release(struct op *op)
{
        return run_of(op->sim, op->id)->status == RUN_CLAIMED ? ERR_OK : ERR_INVALID_TRANSITION;
}

static enum err expect_recover(struct op *op)
{
        return run_of(op->sim, op->id)->marked ? ERR_OK : ERR_INVALID_TRANSITION;
}

static enum err expect_decide(struct op *op)
{
        struct run_fact *r = map_get(&op->sim->open_approvals, op->id);

        if (!r) {
                reached(op->sim, DECIDED_TWICE);
                return ERR_ALREADY_DECIDED;
        }
        if (r->status != RUN_AWAITING_APPROVAL || r->approval != op->id)
                return ERR_COUNT; /* its step waited too long, and it may have been closed */
        op->approve ? reached(op->sim, APPROVED) : reached(op->sim, DENIED);
        return ERR_OK;
}

static enum err expect_send(struct op *op)
{
        return task_of(op->sim, op->id)->canceled ? ERR_INVALID_TRANSITION : ERR_OK;
}

static enum err expect_consume(struct op *op)
{
        const struct task_fact *t = run_of(op->sim, op->id)->task;
        enum err e = expect_fence(op);

        if (e)
                return e;
        if (op->input != t->last_input)
                return ERR_COUNT; /* a newer one came meanwhile: who took this is not kept */
        if (!t->taker || t->taker == op->id)
                return ERR_OK;
        reached(op->sim, TAKEN_BEFORE);
        return ERR_CONFLICT;
}

static enum err expect_claim(struct op *op)
{
        struct sim *s = op->sim;

        if (op->claim.gone)
                return ERR_EMPTY;
        for (size_t i = 0; op->session && i < s->n_leased; i++) {
                struct run_fact *r = s->leased[i];

                if (!r->session || strcmp(r->session, op->session) != 0 || !is_leased(r))
                        continue;
                if (!run_holds_surely(s, r))
                        return ERR_COUNT;
                reached(s, SESSION_BUSY);
                return ERR_ACTIVE_LEASE;
        }
        if (op->claim.call.result == ERR_ACTIVE_LEASE)
                violation(s, "I38: session %s is told that it holds a lease", op->session);
        return ERR_COUNT;
}

static enum err expect_claim_this(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        if (r->status != RUN_QUEUED)
                return is_leased(r) ? ERR_LEASE_HELD : ERR_INVALID_TRANSITION;
        return ERR_COUNT;
}

static enum err expect_advance(struct op *op)
{
        enum err e = expect_fence(op);

        if (op->worker->repeats && e == ERR_OK) {
                reached(op->sim, REPEATED_STEP);
                return ERR_STALE_TOKEN;
        }
        if (strcmp(op->token, run_of(op->sim, op->id)->token) != 0)
                reached(op->sim, FORGED_STEP);
        /* What lies in the step is told by the answer. */
        return e == ERR_OK && op->claim.call.result == ERR_NOT_FOUND ? ERR_COUNT : e;
}

/* One event of the op's own must be of this type and object. */
static void must_tell(struct op *op, enum event_type type, int64_t task, int64_t run)
{
        for (int64_t pos = op->from_pos; pos < op->to_pos; pos++) {
                const struct stored_event *e = event_after(op->sim, pos);

                if (e->type == type && (!task || e->task == task) && (!run || e->run == run))
                        return;
        }
        violation(op->sim, "I8: acknowledged, and no %s event of task %lld run %lld tells of it",
                  event_names.text[type], (long long)task, (long long)run);
}

static void know_task(struct sim *s, struct task_fact *t)
{
        s->recent[s->n_recent < LENGTH(s->recent) ? s->n_recent++ :
                                                    (size_t)roll(&s->w, LENGTH(s->recent))] = t;
}

static void check_create(struct op *op)
{
        struct sim *s = op->sim;

        for (int i = 0; i < op->n_tasks; i++) {
                struct task_fact *t = map_get(&s->tasks, op->tasks[i].id);
                char title[48];

                if (!t || (op->start && !t->open_root)) {
                        violation(s, "I1: a created task or its run has no event");
                        return;
                }
                snprintf(title, sizeof(title), "%s.%d", op->title, i);
                t->title = hash_bytes(HASH_START, title, strlen(title));
                t->max_attempts = op->max_attempts;
                t->retry = op->retry ? op->retry : op->definition ? 4 : 0;
                t->caps = op->caps;
                t->plain = !op->definition;
                if (i < BATCH_KNOWN)
                        know_task(s, t);
        }
        if (op->n == GROWTH)
                s->grown += op->n;
}

static void check_depend(struct op *op)
{
        must_tell(op, EVENT_TASK_DEPENDENCY_ADDED, op->id, 0);
}

static void check_profile(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);

        must_tell(op, EVENT_TASK_PROFILE_UPDATED, op->id, 0);
        t->profile = op->caps;
        if (op->caps & ~t->caps)
                reached(op->sim, PROFILED);
}

static void check_bind(struct op *op)
{
        struct review_fact *v = map_get(&op->sim->reviews, op->id);

        v->status = REVIEW_IN_REVIEW;
        v->reviewer = op->by;
}

static void check_send(struct op *op)
{
        must_tell(op, EVENT_TASK_INPUT_RECEIVED, op->id, 0);
}

static void check_new_attempt(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);

        if (!t->open_root || t->open_root->id != op->runs[0]->id || t->open_root->attempt != t->attempts)
                violation(op->sim, "I7: the new attempt of task %lld is not there", (long long)t->id);
        if (op->kind == OP_RETRY)
                must_tell(op, EVENT_RUN_OPERATOR_RETRY, t->id, op->runs[0]->id);
}

static void check_patch(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);

        t->title = hash_bytes(HASH_START, op->title, strlen(op->title));
        touch_task(op->sim, t);
        must_tell(op, EVENT_TASK_UPDATED, t->id, 0);
}

static void check_cancel_task(struct op *op)
{
        struct task_fact *t = task_of(op->sim, op->id);

        if (!t->canceled)
                violation(op->sim, "I24: task %lld was canceled, and no event says so",
                          (long long)t->id);
        for (struct run_fact *r = t->runs; r; r = r->next_of_task)
                if (!run_is_terminal(r->status))
                        violation(op->sim, "I24: run %lld is %s after the cancel of its task",
                                  (long long)r->id, run_status_names.text[r->status]);
}

static void all_ended(struct op *op, const struct run_fact *r)
{
        if (!run_is_terminal(r->status))
                violation(op->sim, "I24: run %lld is %s after a cancel above it", (long long)r->id,
                          run_status_names.text[r->status]);
        for (const struct run_fact *c = r->children; c; c = c->sibling)
                all_ended(op, c);
}

static void check_cancel_run(struct op *op)
{
        all_ended(op, run_of(op->sim, op->id));
}

static void check_force_fail(struct op *op)
{
        must_tell(op, EVENT_RUN_OPERATOR_FORCED_FAIL, 0, op->id);
        all_ended(op, run_of(op->sim, op->id));
}

static void check_force_release(struct op *op)
{
        must_tell(op, EVENT_RUN_RELEASED, 0, op->id);
        reached(op->sim, FORCED_BACK);
        if (run_of(op->sim, op->id)->kind != RUN_ROOT)
                reached(op->sim, FORCED_BACK_CHILD);
}

static void check_recover(struct op *op)
{
        must_tell(op, EVENT_RUN_RECOVERED, 0, op->id);
}

static struct held *hold_slot(struct sim *s)
{
        size_t at = (size_t)roll(&s->w, HELD_MAX);

        if (s->n_held < HELD_MAX)
                return &s->held[s->n_held++];
        for (size_t i = 0; i < 8 && !s->held[at].over; i++)
                at = (size_t)roll(&s->w, HELD_MAX);
        return &s->held[at];
}

/* A claim was granted: to a run that was free, by a token that was never given before. */
static void granted(struct op *op, const struct claim *c, int caps)
{
        struct sim *s = op->sim;
        struct run_fact *r = run_of(s, c->run->id);
        int64_t digest = (int64_t)hash_bytes(HASH_START, c->token.p, c->token.n) | 1;

        if (r->status != RUN_CLAIMED || r->changed != s->turn || r->epoch != c->run->epoch) {
                violation(s, "I11: run %lld was given away, and it is %s in epoch %lld",
                          (long long)r->id, run_status_names.text[r->status], (long long)r->epoch);
                return;
        }
        if (map_get(&s->tokens, digest))
                violation(s, "I12: the token of run %lld was given before", (long long)r->id);
        map_put(&s->tokens, digest, r);
        if ((r->task->caps | r->task->profile) & ~caps)
                violation(s, "I14: run %lld was given to one who lacks capabilities", (long long)r->id);
        if (r->wake_min > s->w.wall && r->wall_epoch == s->wall_epoch)
                violation(s, "I9: attempt %lld of run %lld was given away %lld us too early",
                          (long long)r->attempt, (long long)r->id, (long long)(r->wake_min - s->w.wall));
        if (c->lease_until != s->w.wall + op->lease * US_PER_S)
                violation(s, "I15: the claim of run %lld tells another end of its lease",
                          (long long)r->id);
        BUG_ON(c->token.n >= sizeof(r->token));
        memcpy(r->token, c->token.p, c->token.n);
        r->token[c->token.n] = '\0';
        r->holder = op->by;
        r->session = op->session;
        model_beat(s, r, op->lease * US_PER_S);
}

static void undeliver(struct op *op)
{
        struct sim *s = op->sim;
        struct op *back = xcalloc(1, sizeof(*back));

        op_init(back, s, OP_UNDELIVER, op->by, NULL);
        back->given.n = op->claims.n;
        back->given.items = arena_array(&back->scope.arena, struct claim, op->claims.n);
        for (size_t i = 0; i < op->claims.n; i++) {
                struct claim *to = (struct claim *)back->given.items + i;

                to->run = arena_new(&back->scope.arena, struct run);
                to->run->id = ((struct claim *)op->claims.items)[i].run->id;
                to->run->epoch = ((struct claim *)op->claims.items)[i].run->epoch;
        }
        op_submit(back);
}

static void check_claim(struct op *op)
{
        struct sim *s = op->sim;
        const struct claim *c = op->claims.items;

        if (op->was_parked)
                reached(s, WOKEN);
        if (op->claim.gone)
                violation(s, "I16: a run was given to one who had left");
        for (size_t i = 0; i < op->claims.n; i++)
                granted(op, &c[i], op->caps);
        if (op->session)
                for (size_t i = 0; i < s->n_leased; i++)
                        if (s->leased[i]->session && !strcmp(s->leased[i]->session, op->session) &&
                            s->leased[i]->id != c->run->id && is_leased(s->leased[i]) &&
                            run_holds_surely(s, s->leased[i]))
                                violation(s, "I38: session %s holds two leases", op->session);
        if (s->failed || op->worker)
                return;
        if (one_in(&s->w, 10)) { /* the client has left before the answer */
                undeliver(op);
                return;
        }
        if (one_in(&s->w, 16))
                return; /* the answer is lost: the lease will expire */
        for (size_t i = 0; i < op->claims.n; i++) {
                struct held *h = hold_slot(s);

                *h = (struct held){ .run = c[i].run->id, .epoch = c[i].run->epoch, .client = op->client };
                memcpy(h->token, run_of(s, h->run)->token, sizeof(h->token));
                snprintf(h->result, sizeof(h->result), "{\"of\":%lld}", (long long)(h->run & 0xffffff));
        }
}

static void check_begin(struct op *op)
{
        must_tell(op, EVENT_RUN_STARTED, 0, op->id);
}

static void check_heartbeat(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);
        int64_t length = op->lease ? op->lease * US_PER_S : r->lease_us;

        if (op->beat.lease_until != op->sim->w.wall + length)
                violation(op->sim, "I15: a heartbeat of run %lld tells another end of its lease",
                          (long long)r->id);
        model_beat(op->sim, r, length);
}

static void check_complete(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        if (op->from_pos == op->to_pos)
                return; /* the same again */
        must_tell(op, EVENT_RUN_COMPLETED, 0, op->id);
        r->result = hash_bytes(HASH_START, op->result, strlen(op->result));
}

static void check_fail(struct op *op)
{
        struct run_fact *r = run_of(op->sim, op->id);

        must_tell(op, EVENT_RUN_FAILED, 0, op->id);
        if (r->task->retry && outcome_is_retried(op->failure) && r->attempt < r->task->max_attempts &&
            !r->task->open_root)
                violation(op->sim, "I9: run %lld failed and is not tried again", (long long)r->id);
}

static void check_release(struct op *op)
{
        must_tell(op, EVENT_RUN_RELEASED, 0, op->id);
}

static void check_archive(struct op *op)
{
        op->sim->archived = true;
}

static void check_undeliver(struct op *op)
{
        const struct claim *c = op->given.items;

        for (size_t i = 0; i < op->given.n; i++) {
                struct run_fact *r = run_of(op->sim, c[i].run->id);

                if (r->epoch == c[i].run->epoch && is_leased(r))
                        violation(op->sim, "I16: nobody heard of the claim of run %lld, and it is held",
                                  (long long)r->id);
                else
                        reached(op->sim, UNDELIVERED);
        }
}

static void check_follow(struct op *op)
{
        struct sim *s = op->sim;
        struct follower *f = &s->followers[op->n];
        const struct event *e = op->events.items;
        struct tree_fact *tree = map_get(&s->trees, op->id);

        if (f->tree != op->id)
                return; /* the server was restarted meanwhile */
        f->reading = false;
        for (size_t i = 0; i < op->events.n; i++)
                if (e[i].sequence != ++f->cursor || e[i].tree_id != f->tree)
                        violation(s, "I29, I30: a reader of tree %lld saw %lld after %lld",
                                  (long long)f->tree, (long long)e[i].sequence,
                                  (long long)f->cursor - 1);
        f->woken |= op->events.n == FOLLOW_PAGE;
        if (!f->woken && f->cursor == tree->seq && one_in(&s->w, 40)) {
                reached(s, FOLLOWED);
                hub_unsubscribe(s->hooks.hub, &f->subscription);
                f->tree = 0;
        }
}

typedef bool op_fill(struct op *); /* false: nothing fits */

static const struct kind {
        const char *name;
        enum call_class class;
        int weight;
        op_fill *fill;
        op_run *run;
        op_expect *expect;
        op_check *check;
} kinds[OP_COUNT];

/* As src/api does it: refused rows have written nothing, so the others stand. */
static enum err run_bulk(struct op *op, struct tx *tx)
{
        for (int i = 0; i < op->n; i++) {
                struct bulk_row *row = &op->rows[i];

                op->id = row->id;
                row->from_pos = tx_last_event(tx);
                row->result = kinds[op->each].run(op, tx);
                row->to_pos = tx_last_event(tx);
                if (err_http_status(row->result) >= 500)
                        return row->result;
        }
        return ERR_OK;
}

/* ---- keys ---- */

/* The answer as it is kept: the ids in it. */
static struct str answer(struct op *op, struct arena *arena)
{
        return arena_printf(arena, "{\"task\":%lld,\"run\":%lld}",
                            (long long)(op->n_tasks ? op->tasks[0].id : 0),
                            (long long)(op->n_tasks && op->runs[0] ? op->runs[0]->id : op->id));
}

/* As src/api does it. */
static enum err run_keyed(struct op *op, struct tx *tx)
{
        struct str operation = arena_printf(&tx_scope(tx)->arena, "op %d", op->kind);
        struct idempotency found, record = { .digest = str_from(op->body), .status = 200 };
        enum err e = idempotency_find(tx, op->by, operation, str_from(op->key), record.digest, &found);

        op->replay = !e;
        if (!e) {
                op->text = found.response;
                return ERR_OK;
        }
        if (e == ERR_EMPTY)
                e = kinds[op->kind].run(op, tx);
        if (e)
                return e;
        record.response = op->text = answer(op, &tx_scope(tx)->arena);
        return idempotency_keep(tx, op->by, operation, str_from(op->key), &record);
}

static struct keyed *keyed_of(struct sim *s, const char *key)
{
        for (size_t i = 0; i < s->n_keys; i++)
                if (!strcmp(s->keys[i].args.key, key))
                        return &s->keys[i];
        return NULL;
}

static void remember_key(struct op *op)
{
        struct sim *s = op->sim;
        struct keyed *k = keyed_of(s, op->key);

        if (!k)
                k = &s->keys[s->n_keys < KEYS_MAX ? s->n_keys++ : (size_t)roll(&s->w, KEYS_MAX)];
        *k = (struct keyed){ .args = *op };
}

/* A keyed request was answered; false: by what was kept, nothing was done. */
static bool judge_key(struct op *op)
{
        struct sim *s = op->sim;
        struct keyed *k = keyed_of(s, op->key);
        enum err e = op->claim.call.result;
        uint64_t text = hash_bytes(HASH_START, op->text.p, op->text.n);

        if (op->mismatch && k && k->known) {
                if (e != ERR_IDEMPOTENCY_MISMATCH)
                        violation(s, "I3: key %s with another body was answered %s", op->key,
                                  err_name(e));
                reached(s, MISMATCHED);
                return false;
        }
        if (op->mismatch && e == ERR_IDEMPOTENCY_MISMATCH)
                return false;
        if (!e && op->replay) {
                if (op->from_pos != op->to_pos || (k && (!k->known || k->text != text)))
                        violation(s, "I3: key %s was answered with something else", op->key);
                reached(s, REPLAYED);
                return false;
        }
        if (k && k->known) {
                violation(s, "I3: key %s was used before, and it was carried out again: %s", op->key,
                          err_name(e));
                return false;
        }
        if (!e && k) {
                memcpy(k->args.body, op->body, sizeof(op->body));
                k->known = true;
                k->text = text;
                k->kept_at = s->w.wall;
        }
        return true;
}

/* ---- a request's way ---- */

static void unlink_op(struct op *op)
{
        struct op **at = &op->sim->waiters;

        while (*at != op)
                at = &(*at)->next;
        *at = op->next;
}

static void wrote_and_waits(struct op *op)
{
        struct sim *s = op->sim;
        size_t i = 0;

        while (i < s->n_loose && s->loose[i].op != op)
                i++;
        BUG_ON(i == LENGTH(s->loose));
        s->n_loose += i == s->n_loose;
        s->loose[i].op = op;
        s->loose[i].from = op->from_pos;
        s->loose[i].to = op->to_pos;
}

static enum err run(struct call *call, struct tx *tx)
{
        struct op *op = (struct op *)call;
        enum err e;

        op->ran = ++op->sim->ran;
        op->from_pos = tx_last_event(tx);
        e = *op->key ? run_keyed(op, tx) : kinds[op->kind].run(op, tx);
        op->to_pos = tx_last_event(tx);
        if (!e && op->spoiled)
                e = fail(call->scope, ERR_CONFLICT, "spoiled");
        if (call->parked && op->to_pos != op->from_pos)
                wrote_and_waits(op);
        if (e && !call->keep && op->to_pos != op->from_pos)
                reached(op->sim, UNDONE_ALONE);
        return e;
}

static void done(struct call *call)
{
        struct op *op = (struct op *)call;
        struct sim *s = op->sim;

        /* Nothing is acknowledged before another connection can see it. */
        if (!call->result && op->to_pos > op->from_pos && rows_last_event(s->rows) < op->to_pos)
                violation(s, "I1: acknowledged before it was committed");
        unlink_op(op);
        BUG_ON(s->n_served == LENGTH(s->served));
        s->served[s->n_served++] = op;
}

void op_init(struct op *op, struct sim *s, enum op_kind kind, const struct principal *by,
             struct scope *scope)
{
        *op = (struct op){ .sim = s, .kind = kind, .by = by, .n = 1 };
        if (!scope)
                scope_init(&op->scope, &s->w.world);
        op->claim.call = (struct call){ .class = kinds[kind].class,
                                        .run = run,
                                        .done = done,
                                        .scope = scope ? scope : &op->scope };
}

void op_submit(struct op *op)
{
        op->next = op->sim->waiters;
        op->sim->waiters = op;
        op->sim->ops++;
        BUG_ON(!store_submit(op->sim->store, &op->claim.call));
}

static void op_free(struct op *op)
{
        if (op->worker)
                return; /* the worker's own */
        scope_done(&op->scope);
        free(op);
}

void op_drop(struct op *op)
{
        unlink_op(op);
        op_free(op);
}

/* It is about a task that a cancel under way is going to end: no work on it is taken, whatever else is said. */
static bool is_about_doomed(struct op *op)
{
        struct sim *s = op->sim;
        const struct run_fact *r = map_get(&s->runs, op->id);
        const struct review_fact *v = map_get(&s->reviews, op->id);
        const struct task_fact *t = r ? r->task : v ? v->run->task : map_get(&s->tasks, op->id);

        if (!t || !is_below_canceled(t) || task_is_closed(task_status_of(t)))
                return false;
        if ((r && is_leased(r) && (op->kind == OP_COMPLETE || op->kind == OP_FAIL || op->kind == OP_ADVANCE)) ||
            (v && t->review == v && op->kind == OP_JUDGE))
                if (!op->claim.call.result)
                        violation(s, "I24: %s of %lld was taken, below a canceled task", kinds[op->kind].name,
                                  (long long)op->id);
        return true;
}

/* What it said, by what is known now; then what its events tell. */
static void judge_one(struct op *op, const struct kind *k, enum err e)
{
        struct sim *s = op->sim;
        enum err expected;

        s->suspect = op->id;
        expected = k->expect(op);
        if (op->spoiled && !expected)
                expected = ERR_CONFLICT;
        if (expected == ERR_COUNT && e == ERR_LEASE_EXPIRED)
                reached(s, LEASE_OVER);
        if (is_about_doomed(op))
                expected = ERR_COUNT;
        if (expected != ERR_COUNT && expected != e)
                violation(s, "%s of %lld: answered %s (" STR_FMT "), expected %s",
                          k->name,
                          (long long)op->id, err_name(e),
                          STR_ARG(op->claim.call.scope->fault.detail), err_name(expected));
        for (int64_t pos = op->from_pos; (!e || op->claim.call.keep) && !s->failed && pos < op->to_pos; pos++)
                model_event(s, event_after(s, pos), op);
        if (!e && !s->failed && k->check)
                k->check(op);
}

/* Each as if it had been asked alone, after those before it. */
static void judge_rows(struct op *op)
{
        struct sim *s = op->sim;
        int refused = 0;

        if (op->claim.call.result)
                violation(s, "a call for many runs was refused: %s", err_name(op->claim.call.result));
        for (int i = 0; i < op->n && !s->failed; i++) {
                const struct bulk_row *row = &op->rows[i];

                op->id = row->id;
                op->from_pos = row->from_pos;
                op->to_pos = row->to_pos;
                s->hash = hash_number(s->hash, row->result);
                refused += row->result != ERR_OK;
                if (row->result && row->from_pos != row->to_pos)
                        violation(s, "I2: a refused row of many has written events");
                if (map_get(&s->runs, row->id))
                        judge_one(op, &kinds[op->each], row->result);
                else if (row->result != ERR_NOT_FOUND)
                        violation(s, "a run that does not exist was answered %s", err_name(row->result));
        }
        if (refused && refused < op->n)
                reached(s, BULK_PARTLY);
}

void op_judge(struct op *op)
{
        struct sim *s = op->sim;
        enum err e = op->claim.call.result;

        s->hash = hash_number(hash_number(s->hash, op->kind), e);
        s->hash = hash_bytes(s->hash, op->text.p, op->text.n);
        if (e == ERR_UNAVAILABLE && s->commit_failed) {
                if (op->worker)
                        worker_answered(op->worker);
                op_free(op);
                return;
        }
        if (op->kind == OP_BULK)
                judge_rows(op);
        else if (!*op->key || judge_key(op))
                judge_one(op, &kinds[op->kind], e);
        if (op->worker)
                worker_answered(op->worker);
        op_free(op);
}

/* ---- what clients think of ---- */

/* Below one task, or below one of its children, until somebody cancels it. */
static void grow(struct op *op)
{
        struct sim *s = op->sim;
        struct task_fact *t = task_of(s, op->on);

        if (!s->grove || is_below_canceled(s->grove)) {
                s->grove = t;
                s->grown = 0;
        }
        if (t->parent != s->grove)
                op->on = s->grove->id;
        op->n = GROWTH;
}

static bool fill_create(struct op *op)
{
        struct sim *s = op->sim;

        op->definition = one_in(&s->w, 2) ? (int)roll(&s->w, DEFINITIONS - 1) : 0;
        op->start = !one_in(&s->w, 4);
        op->priority = 1 + (int)roll(&s->w, 2);
        op->max_attempts = 1 + roll(&s->w, 3);
        op->retry = op->definition ? definition_retry[op->definition] :
                    one_in(&s->w, 2) ? (int)roll(&s->w, LENGTH(retry_texts)) : 0;
        op->timeout = op->definition     ? definition_timeout[op->definition] :
                      one_in(&s->w, 4) ? 2 + roll(&s->w, 20) : 0;
        op->caps = one_in(&s->w, 5) && !op->definition ? (int)roll(&s->w, 4) : 0;
        op->review_policy = one_in(&s->w, 3) ? (int)roll(&s->w, REVIEW_ALWAYS + 1) : REVIEW_NONE;
        snprintf(op->title, sizeof(op->title), "t%lld", (long long)++s->next_title);
        if (op->kind == OP_BATCH)
                op->n = 2 + (int)roll(&s->w, 4);
        if (s->n_recent && one_in(&s->w, 4))
                op->on = s->recent[roll(&s->w, (int64_t)s->n_recent)]->id;
        if (op->kind == OP_BATCH && op->on)
                grow(op);
        return true;
}

static bool fill_task(struct op *op)
{
        struct sim *s = op->sim;

        if (!s->n_recent)
                return false;
        op->id = s->recent[roll(&s->w, (int64_t)s->n_recent)]->id;
        if (op->kind == OP_CANCEL_TASK && s->grown > CASCADE_TASKS && one_in(&s->w, 4))
                op->id = s->grove->id;
        if (op->kind == OP_PATCH) {
                op->max_attempts = one_in(&s->w, 2) ? 1 + roll(&s->w, 5) : 0;
                snprintf(op->title, sizeof(op->title), "p%lld", (long long)++s->next_title);
        }
        return true;
}

static bool fill_edge(struct op *op)
{
        struct sim *s = op->sim;
        struct task_fact *t;

        if (!fill_task(op))
                return false;
        t = task_of(s, op->id);
        op->on = op->kind == OP_UNDEPEND && t->needs ? t->needs->on->id :
                                                       s->recent[roll(&s->w, (int64_t)s->n_recent)]->id;
        if (op->kind == OP_DEPEND && t->needs && one_in(&s->w, 4)) { /* the other way round */
                op->on = t->id;
                op->id = t->needs->on->id;
        }
        op->on_failure = (int)roll(&s->w, ON_FAILURE_CANCEL + 1);
        return true;
}

static bool fill_profile(struct op *op)
{
        op->caps = 1 + (int)roll(&op->sim->w, 3);
        return fill_task(op) && task_of(op->sim, op->id)->plain;
}

static bool fill_review(struct op *op)
{
        static const int outcomes[] = { VERDICT_APPROVED, VERDICT_REJECTED, VERDICT_REJECTED, VERDICT_BLOCKED,
                                        VERDICT_ERROR };
        struct sim *s = op->sim;

        if (!s->n_judged)
                return false;
        op->id = s->judged[roll(&s->w, (int64_t)s->n_judged)];
        op->outcome = outcomes[roll(&s->w, LENGTH(outcomes))];
        snprintf(op->title, sizeof(op->title), "d%lld", (long long)++s->next_title);
        return true;
}

static bool fill_run(struct op *op)
{
        struct sim *s = op->sim;
        struct run_fact *r;

        if (!fill_task(op) || !(r = task_of(s, op->id)->runs))
                return false;
        if (op->kind == OP_CLAIM_THIS)
                r = task_of(s, op->id)->open_root;
        for (int64_t skip = roll(&s->w, 4); r && op->kind != OP_CLAIM_THIS && skip && r->next_of_task;
             skip--)
                r = r->next_of_task;
        op->lease = 1 + roll(&s->w, 8);
        op->id = r ? r->id : 0;
        return r != NULL;
}

static bool fill_recover(struct op *op)
{
        struct sim *s = op->sim;

        if (!s->n_marked || one_in(&s->w, 8))
                return fill_run(op);
        op->id = s->marked[roll(&s->w, (int64_t)s->n_marked)];
        return true;
}

/* Now and then one that does not exist, or the one before it again. */
static bool fill_bulk(struct op *op)
{
        struct sim *s = op->sim;

        op->each = one_in(&s->w, 3) ? OP_FORCE_FAIL : OP_FORCE_RELEASE;
        op->n = 2 + (int)roll(&s->w, BULK - 1);
        for (int i = 0; i < op->n; i++) {
                int64_t dice = roll(&s->w, 8);

                if (dice >= 5 && s->n_leased)
                        op->rows[i].id = s->leased[roll(&s->w, (int64_t)s->n_leased)]->id;
                else if (dice && fill_run(op))
                        op->rows[i].id = op->id;
                else
                        op->rows[i].id = i ? op->rows[i - 1].id : 1;
        }
        return true;
}

static bool fill_claim(struct op *op)
{
        struct sim *s = op->sim;

        op->lease = 1 + roll(&s->w, 8);
        op->caps = one_in(&s->w, 2) ? 3 : (int)roll(&s->w, 4);
        if (one_in(&s->w, 6))
                op->session = session_names[roll(&s->w, SESSIONS)];
        else
                op->n = 1 + (int)roll(&s->w, 3);
        if (one_in(&s->w, 3))
                op->claim.wait_until = s->w.boot + roll(&s->w, 6 * US_PER_S);
        return true;
}

static bool fill_holder(struct op *op)
{
        struct sim *s = op->sim;
        struct held *h = &s->held[s->n_held ? roll(&s->w, (int64_t)s->n_held) : 0];

        for (int tries = 0; s->n_held && h->over && tries < GIVEN_UP_KEEP; tries++)
                h = &s->held[roll(&s->w, (int64_t)s->n_held)];
        if (!s->n_held)
                return false;
        op->id = h->run;
        op->client = one_in(&s->w, 30) ? (int)roll(&s->w, CLIENTS) : h->client;
        op->by = &s->clients[op->client];
        memcpy(op->token, h->token, sizeof(op->token));
        if (one_in(&s->w, 30))
                op->token[10] = op->token[10] == '0' ? '1' : '0';
        op->lease = one_in(&s->w, 3) ? 0 : 1 + roll(&s->w, 8);
        op->failure = (enum outcome[]){ OUTCOME_FAILED, OUTCOME_TRANSIENT,
                                        OUTCOME_POLICY }[roll(&s->w, 3)];
        memcpy(op->result, h->result, sizeof(op->result));
        if (one_in(&s->w, 20))
                op->result[1] = ' ';
        h->over |= op->kind != OP_BEGIN && op->kind != OP_HEARTBEAT && op->kind != OP_CONSUME;
        return true;
}

static bool fill_consume(struct op *op)
{
        if (!fill_holder(op))
                return false;
        op->input = run_of(op->sim, op->id)->task->last_input;
        return op->input != 0;
}

static void fill_key(struct op *op)
{
        struct sim *s = op->sim;

        snprintf(op->key, sizeof(op->key), "k%lld", (long long)++s->next_key);
        snprintf(op->body, sizeof(op->body), "b%lld", (long long)s->next_key);
        remember_key(op);
}

/* A request again, by a client that did not hear the answer; now and then with another body. */
static bool fill_repeat(struct op *op)
{
        struct sim *s = op->sim;
        const struct keyed *k = &s->keys[s->n_keys ? roll(&s->w, (int64_t)s->n_keys) : 0];
        struct call call = op->claim.call;
        struct scope scope = op->scope;

        if (!s->n_keys)
                return false;
        call.class = kinds[k->args.kind].class;
        *op = k->args;
        op->scope = scope;
        op->claim = (struct claim_call){ .call = call };
        op->mismatch = k->known && one_in(&s->w, 8);
        if (op->mismatch)
                op->body[0]++;
        return true;
}

static bool fill_decide(struct op *op)
{
        struct sim *s = op->sim;

        if (!s->n_approvals)
                return false;
        op->id = s->approvals[roll(&s->w, (int64_t)s->n_approvals)];
        op->client = (int)roll(&s->w, 2); /* people */
        op->by = &s->clients[op->client];
        op->approve = !one_in(&s->w, 3);
        return true;
}

static void wake_follower(struct subscription *subscription)
{
        ((struct follower *)subscription)->woken = true;
}

static bool start_follower(struct sim *s)
{
        struct follower *f = &s->followers[roll(&s->w, FOLLOWERS)];

        struct task_fact *t = s->n_recent ? s->recent[roll(&s->w, (int64_t)s->n_recent)] : NULL;

        if (f->tree || !t || t->parent)
                return false;
        *f = (struct follower){ .tree = t->id };
        f->cursor = one_in(&s->w, 2) ? 0 : ((struct tree_fact *)map_get(&s->trees, f->tree))->seq;
        f->subscription = (struct subscription){ .topic = f->tree, .wake = wake_follower };
        hub_subscribe(s->hooks.hub, &f->subscription);
        f->woken = true;
        return true;
}

void follower_read(struct sim *s, struct follower *f)
{
        struct op *op = xcalloc(1, sizeof(*op));

        op_init(op, s, OP_FOLLOW, &s->clients[0], NULL);
        op->id = f->tree;
        op->after = f->cursor;
        op->n = (int)(f - s->followers);
        f->woken = false;
        f->reading = true;
        op_submit(op);
}

static bool fill_pause(struct op *op)
{
        op->lease = one_in(&op->sim->w, 2) ? 1 + roll(&op->sim->w, 60) : 0;
        return one_in(&op->sim->w, 5);
}

static bool fill_resume(struct op *op)
{
        return op->sim->scheduler_paused;
}

static bool fill_archive(struct op *op)
{
        return !op->sim->archived && one_in(&op->sim->w, 20);
}

static const struct kind kinds[OP_COUNT] = {
#define OP(name, class, weight, fill, run, expect, check) \
        [OP_##name] = { #name, class, weight, fill, run, expect, check },
#include "op.def"
#undef OP
};

static enum op_kind choose(struct sim *s)
{
        int64_t sum = 0, at;
        int kind = 0;

        for (int i = 0; i < OP_COUNT; i++)
                sum += kinds[i].weight;
        for (at = roll(&s->w, sum); at >= kinds[kind].weight; kind++)
                at -= kinds[kind].weight;
        return (enum op_kind)kind;
}

bool op_client(struct sim *s)
{
        enum op_kind kind = choose(s);
        int client = (int)roll(&s->w, CLIENTS);
        struct op *op;

        if (kind == OP_FOLLOW)
                return start_follower(s);
        op = xcalloc(1, sizeof(*op));
        op_init(op, s, kind, &s->clients[client], NULL);
        op->client = client;
        if (!kinds[kind].fill(op)) {
                op_free(op);
                return false;
        }
        if ((kind == OP_CREATE || kind == OP_START || kind == OP_RETRY || kind == OP_CANCEL_TASK ||
             kind == OP_DECIDE || kind == OP_SEND) &&
            one_in(&s->w, 3))
                fill_key(op);
        op->spoiled = kind == OP_CREATE && !*op->key && one_in(&s->w, 50);
        op_submit(op);
        /* A reply that was lost: the client sends the same once more at once. */
        if (kind >= OP_BEGIN && kind <= OP_RELEASE && one_in(&s->w, 12)) {
                struct op *again = xcalloc(1, sizeof(*again));

                op_init(again, s, kind, op->by, NULL);
                again->id = op->id;
                again->lease = op->lease;
                again->input = op->input;
                again->failure = op->failure;
                again->client = op->client;
                memcpy(again->token, op->token, sizeof(again->token));
                memcpy(again->result, op->result, sizeof(again->result));
                op_submit(again);
        }
        return true;
}
