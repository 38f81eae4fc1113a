/*
 * What is known without the code under test: a fold of the events that other eyes read from the
 * database, and what was acknowledged.  After each turn the rows of all that was touched are compared
 * with it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/scheduler.h"
#include "sim.h"

#define GAP (2 * US_PER_S)
#define GRACE (10 * US_PER_S)

void violation(struct sim *s, const char *fmt, ...)
{
        va_list args;

        if (s->failed)
                return;
        s->failed = true;
        printf("seed %llu failed at operation %lld: ", (unsigned long long)s->seed, (long long)s->ops);
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        putchar('\n');
}

struct task_fact *task_of(struct sim *s, int64_t id)
{
        struct task_fact *t = map_get(&s->tasks, id);

        BUG_ON(!t);
        return t;
}

struct run_fact *run_of(struct sim *s, int64_t id)
{
        struct run_fact *r = map_get(&s->runs, id);

        BUG_ON(!r);
        return r;
}

void touch_run(struct sim *s, struct run_fact *r)
{
        if (r->touched)
                return;
        BUG_ON(s->n_touched == LENGTH(s->touched));
        r->touched = true;
        s->touched[s->n_touched++] = r;
}

static void touch_one(struct sim *s, struct task_fact *t)
{
        if (t->touched)
                return;
        BUG_ON(s->n_touched_tasks == LENGTH(s->touched_tasks));
        t->touched = true;
        s->touched_tasks[s->n_touched_tasks++] = t;
        if (t->open_root)
                touch_run(s, t->open_root);
}

/* With those that wait for it. */
void touch_task(struct sim *s, struct task_fact *t)
{
        touch_one(s, t);
        for (struct edge *e = t->wanted; e; e = e->next_of_on)
                touch_one(s, e->task);
}

/* ---- the lease clock, as it must run ---- */

/* It stands still while no tick comes, and for a while after that and after a start. */
static int64_t lease_clock(const struct sim *s)
{
        int64_t from = s->tick_boot > s->still_until ? s->tick_boot : s->still_until;

        if (s->w.boot - s->tick_boot > GAP || s->w.boot < from)
                return s->slow;
        return s->slow + s->w.boot - from;
}

/* After a restart the clock under test is a little behind: then this is the most it can show. */
static int64_t lease_ran(const struct sim *s, const struct run_fact *r)
{
        return lease_clock(s) - r->beat_slow;
}

bool run_holds_surely(struct sim *s, const struct run_fact *r)
{
        return lease_ran(s, r) < r->lease_us;
}

void model_beat(struct sim *s, struct run_fact *r, int64_t lease_us)
{
        r->lease_us = lease_us;
        r->beat_slow = lease_clock(s);
        r->beat_restarts = s->restarts;
        r->marked = false; /* its holder was heard of */
        r->changed = s->turn;
        touch_run(s, r);
}

static bool is_leased(const struct run_fact *r)
{
        return r->status >= RUN_CLAIMED && r->status <= RUN_RUNNING;
}

static void leases_over(struct sim *s)
{
        const int64_t behind = 4 * US_PER_S; /* a restart: the mark that was saved, and a tick */

        for (size_t i = 0; i < s->n_leased; i++) {
                struct run_fact *r = s->leased[i];

                if (is_leased(r) && !s->failed &&
                    lease_ran(s, r) - behind * (s->restarts - r->beat_restarts) >= r->lease_us)
                        violation(s, "I16: the lease of run %lld ended %lld us before the tick",
                                  (long long)r->id, (long long)(lease_ran(s, r) - r->lease_us));
        }
}

static void tick_clock(struct sim *s)
{
        int64_t now = lease_clock(s);

        if (s->w.boot - s->tick_boot > GAP) {
                s->still_until = s->w.boot + GRACE;
                if (s->n_leased)
                        reached(s, PAUSED);
        }
        s->slow = now;
        s->tick_boot = s->w.boot;
        if (s->commit_failed)
                return; /* nothing of it was kept, but the clock went on */
        s->tick_wall = s->w.wall;
        for (size_t i = 0; i < s->n_keys; i++) /* what the tick may have forgotten */
                if (s->keys[i].kept_at < s->w.wall - 48 * 3600 * US_PER_S)
                        s->keys[i--] = s->keys[--s->n_keys];
}

/* ---- the automaton ---- */

#define BIT(state) (1u << (state))
enum {
        HELD = BIT(RUN_CLAIMED) | BIT(RUN_STARTING) | BIT(RUN_RUNNING),
        WAITS = BIT(RUN_AWAITING_APPROVAL) | BIT(RUN_AWAITING_INPUT) | BIT(RUN_AWAITING_SUBTASK) |
                BIT(RUN_AWAITING_PARALLEL) | BIT(RUN_SLEEPING),
        OPEN = BIT(RUN_QUEUED) | HELD | WAITS,
};

/* Which state an event leads to, and from which. */
static const struct move {
        int to;
        unsigned from;
} moves[] = {
        [EVENT_RUN_CLAIMED] = { RUN_CLAIMED, BIT(RUN_QUEUED) },
        [EVENT_RUN_STARTING] = { RUN_STARTING, BIT(RUN_CLAIMED) },
        [EVENT_RUN_STARTED] = { RUN_RUNNING, BIT(RUN_STARTING) },
        [EVENT_RUN_RESUMED] = { RUN_RUNNING, BIT(RUN_STARTING) },
        [EVENT_RUN_AWAITING_APPROVAL] = { RUN_AWAITING_APPROVAL, BIT(RUN_RUNNING) },
        [EVENT_RUN_AWAITING_INPUT] = { RUN_AWAITING_INPUT, BIT(RUN_RUNNING) },
        [EVENT_RUN_AWAITING_SUBTASK] = { RUN_AWAITING_SUBTASK, BIT(RUN_RUNNING) },
        [EVENT_RUN_AWAITING_PARALLEL] = { RUN_AWAITING_PARALLEL, BIT(RUN_RUNNING) },
        [EVENT_RUN_SLEEPING] = { RUN_SLEEPING, BIT(RUN_RUNNING) },
        [EVENT_RUN_QUEUED] = { RUN_QUEUED, WAITS },
        [EVENT_RUN_LEASE_EXPIRED] = { RUN_QUEUED, HELD },
        [EVENT_RUN_RELEASED] = { RUN_QUEUED, HELD },
        [EVENT_RUN_RECOVERED] = { RUN_QUEUED, HELD },
        [EVENT_RUN_COMPLETED] = { RUN_COMPLETED, HELD },
        [EVENT_RUN_FAILED] = { RUN_FAILED, HELD },
        [EVENT_RUN_OPERATOR_FORCED_FAIL] = { RUN_FAILED, OPEN },
        [EVENT_RUN_CANCELED] = { RUN_CANCELED, OPEN },
        [EVENT_RUN_TIMED_OUT] = { RUN_TIMED_OUT, OPEN },
        [EVENT_RUN_OPERATOR_RETRY] = { 0 },
};

int64_t number_in(const struct stored_event *e, const char *key)
{
        char pattern[32];
        const char *at;

        snprintf(pattern, sizeof(pattern), "\"%s\":", key);
        at = strstr(e->payload, pattern);
        return at ? strtoll(at + strlen(pattern), NULL, 10) : -1;
}

bool says(const struct stored_event *e, const char *text)
{
        return strstr(e->payload, text) != NULL;
}

int64_t id_in(const struct stored_event *e, const char *key, const char *prefix)
{
        const char *at = strstr(e->payload, key);
        int64_t id = 0;

        BUG_ON(!at || !id_parse(prefix,
                                (struct str){ at + strlen(key) + 1, strlen(prefix) + 1 + ID_DIGITS },
                                &id));
        return id;
}

static int64_t approval_in(const struct stored_event *e)
{
        return id_in(e, "\"approval_id\":", "appr");
}

static int64_t input_in(const struct stored_event *e)
{
        return id_in(e, "\"input_id\":", "input");
}

/* ---- joins ---- */

struct counted {
        int open, completed, failed, canceled, just_ended;
};

/* The newest run of each branch of the wait. */
static struct counted count_children(const struct sim *s, const struct run_fact *parent)
{
        struct counted n = { 0 };

        for (const struct run_fact *c = parent->children; c; c = c->sibling) {
                bool newest = true;

                if (c->step != parent->wait_step || c->born < parent->wait_born)
                        continue;
                for (const struct run_fact *l = parent->children; l != c; l = l->sibling)
                        newest &= l->step != c->step || l->branch != c->branch;
                if (!newest)
                        continue;
                n.open += !run_is_terminal(c->status);
                n.completed += c->status == RUN_COMPLETED;
                n.canceled += c->status == RUN_CANCELED;
                n.failed += c->status == RUN_FAILED || c->status == RUN_TIMED_OUT;
                n.just_ended += run_is_terminal(c->status) && c->status != RUN_CANCELED &&
                                c->changed == s->turn;
        }
        return n;
}

/* A child that was canceled by itself is an end that did not complete. */
static bool is_decided(const struct run_fact *p, const struct counted *n)
{
        return !n->open || (p->join.any_one && n->completed) ||
               (!p->join.any_one && p->join.fail_fast && n->failed + n->canceled);
}

static void joined(struct sim *s, struct run_fact *p)
{
        struct counted n = count_children(s, p);

        if (n.open || !is_decided(p, &n))
                violation(s, "I21: run %lld was woken while %d of its children are open",
                          (long long)p->id, n.open);
        if (n.completed + n.failed + n.canceled != p->join.total)
                violation(s, "I21: run %lld waited for %lld children and %d ended", (long long)p->id,
                          (long long)p->join.total, n.completed + n.failed + n.canceled);
        if (n.completed == p->join.total)
                reached(s, JOIN_ALL);
        if (p->join.any_one && n.canceled)
                reached(s, JOIN_ANY);
        if (!p->join.any_one && n.failed && n.canceled)
                reached(s, JOIN_FAILED);
        if (n.just_ended > 1)
                reached(s, JOIN_TOGETHER);
}

static void must_be_woken(struct sim *s, struct run_fact *p)
{
        struct counted n;

        if (!p || (p->status != RUN_AWAITING_PARALLEL && p->status != RUN_AWAITING_SUBTASK))
                return;
        n = count_children(s, p);
        if (is_decided(p, &n))
                violation(s, "I22: run %lld still waits: of its children %d are open, %d completed",
                          (long long)p->id, n.open, n.completed);
}

/* ---- runs ---- */

/* A new attempt that nobody asked for waits for its time. */
static void check_delay(struct sim *s, struct run_fact *r)
{
        static const struct {
                int64_t delay, cap;
                double backoff, jitter;
        } policies[] = { { 0, 0, 1, 0 },
                         { 500000, 300000000, 2, 0.5 },
                         { 0, 0, 2, 0.1 },
                         { 3000000, 4000000, 3, 0 },
                         { 1000000, 300000000, 2, 0.1 } };
        const int policy = r->task->retry;
        double most = (double)policies[policy].delay;
        /* The tick of the same turn may have woken it already. */
        int64_t wakes = r->row.wake_at ? r->row.wake_at : s->w.wall, waits = wakes - s->w.wall;

        for (int64_t i = 2; i < r->attempt; i++)
                most *= policies[policy].backoff;
        if (most > (double)policies[policy].cap)
                most = (double)policies[policy].cap;
        r->wake_min = s->w.wall + (int64_t)(most * (1 - policies[policy].jitter)) - 1000;
        r->wall_epoch = s->wall_epoch;
        if (r->row.status != RUN_QUEUED)
                return; /* it went on in the same turn */
        if (!policy || wakes < r->wake_min ||
            (waits > (int64_t)most && !(r->row.hold & HOLD_CLEANUP)))
                violation(s, "I9: attempt %lld of task %lld is to wait %lld us by policy %d",
                          (long long)r->attempt, (long long)r->task->id, (long long)waits, policy);
        if (r->row.hold & HOLD_BACKOFF)
                reached(s, BACKOFF);
}

static void new_root(struct sim *s, struct run_fact *r, bool asked)
{
        struct task_fact *t = r->task;

        if (t->canceled || t->open_root || r->attempt != t->attempts + 1)
                violation(s, "I7: attempt %lld of task %lld after %lld%s%s", (long long)r->attempt,
                          (long long)t->id, (long long)t->attempts, t->canceled ? ", canceled" : "",
                          t->open_root ? ", one is open" : "");
        if (t->max_attempts && r->attempt > t->max_attempts)
                violation(s, "I9: attempt %lld of task %lld, which has %lld", (long long)r->attempt,
                          (long long)t->id, (long long)t->max_attempts);
        t->attempts = r->attempt;
        t->last_run = r->id;
        t->open_root = r;
        attempt_begins(s, r);
        if (!asked)
                check_delay(s, r);
}

static void new_child(struct sim *s, struct run_fact *r)
{
        struct run_fact *p = r->parent = run_of(s, r->row.parent);

        if (p->status != RUN_AWAITING_PARALLEL && p->status != RUN_AWAITING_SUBTASK)
                violation(s, "I24: run %lld was born to run %lld, which is %s", (long long)r->id,
                          (long long)p->id, run_status_names.text[p->status]);
        if (r->attempt > 1)
                reached(s, CHILD_RETRIED);
        if (r->row.hold & HOLD_LIMIT)
                reached(s, LIMITED);
        r->sibling = p->children;
        p->children = r;
}

static void new_run(struct sim *s, const struct stored_event *e, bool asked)
{
        struct run_fact *r = xcalloc(1, sizeof(*r));

        if (!rows_run(s->rows, e->run, &r->row) || r->row.task != e->task || r->row.tree != e->tree) {
                violation(s, "I8: run %lld is told of, and it is not there", (long long)e->run);
                free(r);
                return;
        }
        r->id = e->run;
        r->task = task_of(s, e->task);
        r->kind = (int)r->row.kind;
        r->executor = (int)r->row.executor;
        r->attempt = r->row.attempt;
        r->step = (int)r->row.step;
        r->branch = (int)r->row.branch;
        r->born = r->changed = s->turn;
        r->status = RUN_QUEUED;
        r->queued_slow = lease_clock(s);
        r->round = 1;
        r->next_of_task = r->task->runs;
        r->task->runs = r;
        map_put(&s->runs, r->id, r);
        touch_run(s, r);
        if (number_in(e, "attempt") != r->attempt)
                violation(s, "I8: run %lld is attempt %lld, its event tells another",
                          (long long)r->id, (long long)r->attempt);
        r->row.lease_until = 0; /* of its first moment; the row is read again after the turn */
        if (r->kind == RUN_ROOT)
                new_root(s, r, asked);
        else
                new_child(s, r);
}

/* By the tick, after it lay or was silent for long enough; the clock under test may be behind, and not ahead. */
static void marked(struct sim *s, struct run_fact *r, const struct stored_event *e)
{
        bool starved = e->type == EVENT_RUN_STARVED;
        int64_t waited = lease_clock(s) - (starved ? r->queued_slow : r->beat_slow);

        if (r->marked || r->status != (starved ? RUN_QUEUED : RUN_CLAIMED) || waited < ATTENTION)
                violation(s, "I8: %s for run %lld, which is %s%s for %lld us", event_names.text[e->type],
                          (long long)r->id, run_status_names.text[r->status], r->marked ? ", marked," : "",
                          (long long)waited);
        r->marked = true;
        s->marked[s->n_marked < MARKS_MAX ? s->n_marked++ : (size_t)roll(&s->w, MARKS_MAX)] = r->id;
        starved ? reached(s, STARVED) : reached(s, STUCK);
}

static void given_back(struct sim *s, struct run_fact *r, const struct stored_event *e, const struct op *op)
{
        r->queued_slow = lease_clock(s);
        if (e->type == EVENT_RUN_LEASE_EXPIRED) {
                r->recoveries++;
                reached(s, EXPIRED);
        } else if (e->type == EVENT_RUN_RECOVERED && op) {
                reached(s, FREED_HELD);
        } else if (e->type == EVENT_RUN_RECOVERED) {
                if (r->executor != EXECUTOR_WORKER)
                        violation(s, "I15: the restart took run %lld from an agent", (long long)r->id);
                reached(s, RECOVERED);
        } else if (e->type == EVENT_RUN_QUEUED) {
                if (says(e, "\"joined\""))
                        joined(s, r);
                else if (says(e, "\"awake\""))
                        reached(s, SLEPT);
                else if (says(e, "\"waited_too_long\""))
                        reached(s, STEP_TIMED_OUT);
        }
}

static void ended(struct sim *s, struct run_fact *r)
{
        struct task_fact *t = r->task;

        if (r->approval)
                map_put(&s->open_approvals, r->approval, NULL);
        r->approval = 0;
        if (r->kind != RUN_ROOT)
                return;
        t->open_root = NULL;
        if (r->status != RUN_CANCELED)
                t->last_status = r->status;
}

/* Leases end by the tick alone, and not before their time. */
static void taken_by_tick(struct sim *s, struct run_fact *r, const struct stored_event *e)
{
        bool gave_up = e->type == EVENT_RUN_FAILED;

        if (run_holds_surely(s, r))
                violation(s, "I15: the lease of run %lld ended %lld us early", (long long)r->id,
                          (long long)(r->lease_us - lease_ran(s, r)));
        if (gave_up != (r->recoveries == MAX_RECOVERIES))
                violation(s, "I16: run %lld %s after %lld recoveries", (long long)r->id,
                          gave_up ? "was given up" : "went back", (long long)r->recoveries);
        if (gave_up)
                reached(s, WORKER_LOST);
}

static void moved(struct sim *s, struct run_fact *r, const struct stored_event *e, const struct op *op)
{
        const struct move *m = &moves[e->type];

        if (op && op->kind == OP_RECOVER && r->status == RUN_QUEUED) {
                reached(s, FREED);
                r->marked = false;
                return;
        }
        if (!(m->from >> r->status & 1)) {
                violation(s, "I7: %s for run %lld, which is %s", event_names.text[e->type],
                          (long long)r->id, run_status_names.text[r->status]);
                return;
        }
        if (!op && s->ticked && (e->type == EVENT_RUN_LEASE_EXPIRED || e->type == EVENT_RUN_FAILED))
                taken_by_tick(s, r, e);
        r->status = m->to;
        r->marked = false;
        if (m->to == RUN_CLAIMED && r->kind == RUN_ROOT && is_blocked(r->task))
                violation(s, "I19: run %lld is handed out, and its task is blocked", (long long)r->id);
        if (m->to == RUN_CLAIMED && is_below_canceled(r->task))
                violation(s, "I24: run %lld is handed out below a canceled task", (long long)r->id);
        if (m->to == RUN_CLAIMED) {
                if (s->scheduler_paused)
                        violation(s, "run %lld is handed out while the scheduler is paused", (long long)r->id);
                if (number_in(e, "epoch") != ++r->epoch)
                        violation(s, "I12: run %lld is claimed in epoch %lld after %lld",
                                  (long long)r->id, (long long)number_in(e, "epoch"),
                                  (long long)r->epoch - 1);
                BUG_ON(s->n_leased == LENGTH(s->leased));
                s->leased[s->n_leased++] = r;
        }
        if ((BIT(m->to) & WAITS) || m->to == RUN_QUEUED) {
                r->token[0] = '\0';
                r->session = NULL;
                r->holder = NULL;
        }
        if (e->type == EVENT_RUN_OPERATOR_FORCED_FAIL)
                r->token[0] = '\0';
        if (m->to == RUN_QUEUED)
                given_back(s, r, e, op);
        if (run_is_terminal(m->to))
                ended(s, r);
        if (m->to == RUN_TIMED_OUT)
                reached(s, TIMED_OUT);
        if (e->type == EVENT_RUN_AWAITING_PARALLEL || e->type == EVENT_RUN_AWAITING_SUBTASK) {
                r->wait_step = (int)number_in(e, "step_index");
                r->wait_born = s->turn;
                if (!rows_join(s->rows, r->id, r->wait_step, &r->join) ||
                    r->join.total != number_in(e, "children"))
                        violation(s, "I21: run %lld waits without a join", (long long)r->id);
        }
        if (e->type == EVENT_RUN_AWAITING_APPROVAL) {
                r->approval = approval_in(e);
                map_put(&s->open_approvals, r->approval, r);
                s->approvals[s->n_approvals < APPROVALS_MAX ? s->n_approvals++ :
                                                              (size_t)roll(&s->w, APPROVALS_MAX)] =
                        r->approval;
        }
}

/* A step goes from started to completed or failed, and one that is completed is left alone. */
static void stepped(struct sim *s, struct run_fact *r, const struct stored_event *e)
{
        int64_t index = number_in(e, "step_index");
        unsigned char *step = &r->steps[index];

        BUG_ON(index < 0 || index >= STEPS_MAX);
        if (r->status != RUN_RUNNING && !(r->status == RUN_AWAITING_APPROVAL && r->changed == s->turn))
                violation(s, "I19: %s in run %lld, which is %s", event_names.text[e->type],
                          (long long)r->id, run_status_names.text[r->status]);
        if (*step == STEP_COMPLETED ||
            (e->type == EVENT_RUN_STEP_COMPLETED && *step != STEP_RUNNING))
                violation(s, "I20: %s of step %lld of run %lld, which is %s",
                          event_names.text[e->type], (long long)index, (long long)r->id,
                          step_status_names.text[*step]);
        if (e->type == EVENT_RUN_STEP_STARTED && *step == STEP_FAILED)
                reached(s, STEP_RETRIED);
        *step = e->type == EVENT_RUN_STEP_STARTED   ? STEP_RUNNING :
                e->type == EVENT_RUN_STEP_COMPLETED ? STEP_COMPLETED :
                                                      STEP_FAILED;
}

static void approval_resolved(struct sim *s, struct run_fact *r, const struct stored_event *e)
{
        int64_t id = approval_in(e);

        if (r->status != RUN_AWAITING_APPROVAL || r->approval != id)
                violation(s, "I7: approval %lld is resolved for run %lld, which is %s", (long long)id,
                          (long long)r->id, run_status_names.text[r->status]);
        map_put(&s->open_approvals, id, NULL);
        r->approval = 0;
        if (says(e, "\"expired\""))
                reached(s, APPROVAL_EXPIRED);
}

/* ---- inputs ---- */

static void input_received(struct sim *s, const struct stored_event *e)
{
        struct task_fact *t = task_of(s, e->task);

        if (t->canceled)
                violation(s, "I24: canceled task %lld was sent an input", (long long)t->id);
        t->inputs++;
        t->last_input = input_in(e);
        t->taker = 0;
        touch_task(s, t);
}

static void input_consumed(struct sim *s, struct run_fact *r, const struct stored_event *e,
                           const struct op *op)
{
        int64_t id = input_in(e);

        if (r->task->inputs-- <= 0 || (id == r->task->last_input && r->task->taker))
                violation(s, "I20: run %lld took input %lld, which was taken before", (long long)r->id,
                          (long long)id);
        if (r->status != RUN_AWAITING_INPUT && !(is_leased(r) && op && op->kind == OP_CONSUME))
                violation(s, "I7: run %lld took an input, and it is %s", (long long)r->id,
                          run_status_names.text[r->status]);
        if (id == r->task->last_input)
                r->task->taker = r->id;
        if (r->status != RUN_AWAITING_INPUT)
                reached(s, TAKEN_BY_HOLDER);
        else if (op && op->kind == OP_SEND)
                reached(s, ANSWERED);
        else
                reached(s, LAY_THERE);
}

/* ---- events ---- */

static void numbered(struct sim *s, const struct stored_event *e)
{
        struct tree_fact *tree = e->tree == SCHEDULER_TREE ? &s->scheduler : map_get(&s->trees, e->tree);

        if (!tree) {
                tree = xcalloc(1, sizeof(*tree));
                map_put(&s->trees, e->tree, tree);
        }
        if (e->seq != ++tree->seq)
                violation(s, "I27: tree %lld has event %lld after %lld", (long long)e->tree,
                          (long long)e->seq, (long long)tree->seq - 1);
        if (e->at < tree->at)
                violation(s, "I10: event %lld of tree %lld is older than the one before", (long long)e->seq,
                          (long long)e->tree);
        tree->at = e->at;
        s->hash = hash_number(hash_number(hash_number(s->hash, e->tree), e->seq), e->task);
        s->hash = hash_number(hash_number(hash_number(s->hash, e->run), e->type), e->at);
        s->hash = hash_number(s->hash, (int64_t)e->payload_hash);
}

static void task_event(struct sim *s, const struct stored_event *e)
{
        struct task_fact *t = map_get(&s->tasks, e->task);

        if (e->type == EVENT_TASK_CREATED) {
                t = xcalloc(1, sizeof(*t));
                t->id = e->task;
                t->last_status = RUN_NONE;
                map_put(&s->tasks, t->id, t);
                if (says(e, "\"parent_task_id\":"))
                        child_born(s, t, id_in(e, "\"parent_task_id\":", "task"));
        }
        BUG_ON(!t);
        if (e->type == EVENT_TASK_CANCELED) {
                t->canceled = true;
                t->inputs = 0;
                task_ends(s, t);
        }
        touch_task(s, t);
}

static bool is_asked(const struct op *op)
{
        return op && (op->kind == OP_CREATE || op->kind == OP_BATCH || op->kind == OP_START ||
                      op->kind == OP_RETRY || op->kind == OP_JUDGE);
}

static void scheduler_event(struct sim *s, const struct stored_event *e)
{
        if (e->type == EVENT_SCHEDULER_PAUSED || e->type == EVENT_SCHEDULER_RESUMED)
                s->scheduler_paused = e->type == EVENT_SCHEDULER_PAUSED;
        if (e->type != EVENT_SCHEDULER_DRAIN_COMPLETED)
                return;
        if (says(e, "\"timed_out\":true"))
                reached(s, DRAIN_LATE);
        if (!says(e, "\"completed\":true"))
                return;
        reached(s, DRAINED);
        for (size_t i = 0; i < s->n_leased; i++)
                if (is_leased(s->leased[i]))
                        violation(s, "a drain says that it is completed, and run %lld is held",
                                  (long long)s->leased[i]->id);
}

void model_event(struct sim *s, const struct stored_event *e, const struct op *op)
{
        struct run_fact *r;

        s->suspect = e->run ? e->run : e->task;
        numbered(s, e);
        if (e->tree == SCHEDULER_TREE) {
                scheduler_event(s, e);
                return;
        }
        if (e->type == EVENT_TASK_CANCELED && !op)
                reached(s, CASCADED);
        if (!e->run && e->type != EVENT_TASK_INPUT_RECEIVED && !graph_event(s, e)) {
                task_event(s, e);
                return;
        }
        if (e->type == EVENT_TASK_INPUT_RECEIVED) {
                input_received(s, e);
                return;
        }
        if (e->type == EVENT_RUN_QUEUED && !map_get(&s->runs, e->run)) {
                new_run(s, e, is_asked(op));
                touch_task(s, task_of(s, e->task));
                return;
        }
        if (!e->run || graph_event(s, e))
                return;
        r = run_of(s, e->run);
        r->changed = s->turn;
        touch_run(s, r);
        touch_task(s, r->task);
        if (e->type == EVENT_RUN_STEP_STARTED || e->type == EVENT_RUN_STEP_COMPLETED ||
            e->type == EVENT_RUN_STEP_FAILED)
                stepped(s, r, e);
        else if (e->type == EVENT_RUN_APPROVAL_RESOLVED)
                approval_resolved(s, r, e);
        else if (e->type == EVENT_RUN_INPUT_CONSUMED)
                input_consumed(s, r, e, op);
        else if (e->type == EVENT_RUN_STARVED || e->type == EVENT_RUN_STUCK)
                marked(s, r, e);
        else if (e->type < (int64_t)LENGTH(moves) && moves[e->type].from)
                moved(s, r, e, op);
}

const struct stored_event *event_after(struct sim *s, int64_t pos)
{
        BUG_ON(pos < s->pos || pos >= s->pos + (int64_t)s->n_events);
        return &s->events[pos - s->pos];
}

/* ---- rows ---- */

int task_status_of(const struct task_fact *t)
{
        int idle;

        if (t->canceled)
                return TASK_CANCELED;
        idle = is_blocked(t) ? TASK_BLOCKED : TASK_READY;
        if (t->open_root)
                return t->open_root->status <= RUN_CLAIMED ? idle : TASK_IN_PROGRESS;
        if (t->review)
                return t->circuit ? TASK_BLOCKED : TASK_IN_REVIEW;
        if (t->last_status == RUN_COMPLETED)
                return TASK_COMPLETED;
        return t->last_status != RUN_NONE && t->attempts >= t->max_attempts ? TASK_FAILED : idle;
}

static void compare_task(struct sim *s, const struct task_fact *t)
{
        struct task_row row;
        int64_t current = t->open_root && t->open_root->status != RUN_QUEUED ? t->open_root->id : 0;

        if (!rows_task(s->rows, t->id, &row)) {
                violation(s, "I1: task %lld is gone", (long long)t->id);
                return;
        }
        if (row.status != task_status_of(t))
                violation(s, "I8: task %lld is stored as %s and is %s", (long long)t->id,
                          task_status_names.text[row.status], task_status_names.text[task_status_of(t)]);
        if (row.attempts != t->attempts || row.last_run != t->last_run ||
            row.max_attempts != t->max_attempts || row.current_run != current)
                violation(s, "I8: task %lld has attempts %lld of %lld, last run %lld, current %lld;"
                             " known are %lld of %lld, %lld, %lld",
                          (long long)t->id, (long long)row.attempts, (long long)row.max_attempts,
                          (long long)row.last_run, (long long)row.current_run, (long long)t->attempts,
                          (long long)t->max_attempts, (long long)t->last_run, (long long)current);
        if (row.marked != (t->open_root && t->open_root->marked))
                violation(s, "I8: the mark of task %lld is not that of its run", (long long)t->id);
        if (row.title != t->title)
                violation(s, "I1: the title of task %lld is not the one acknowledged last",
                          (long long)t->id);
        if (row.status == TASK_FAILED)
                reached(s, ATTEMPTS_USED);
}

/* A reason why the row cannot be of this run, or NULL. */
static const char *misfit(const struct sim *s, const struct run_fact *r, const struct run_row *row)
{
        bool queued = r->status == RUN_QUEUED, over = run_is_terminal(r->status);

        if (row->status != r->status || row->epoch != r->epoch || row->recoveries != r->recoveries)
                return "I8: status, epoch or recoveries are not what its events tell";
        if ((row->lease_until != 0) != is_leased(r) || (is_leased(r) && !row->has_token))
                return "I16: lease and state do not fit";
        if (row->ready != (queued && !row->hold))
                return row->ready ? "I16: it is offered and must not be" :
                                    "I16: it is not offered and must be";
        if (queued && r->kind == RUN_ROOT && ((row->hold & HOLD_BLOCKED) != 0) != is_blocked(r->task))
                return "I19: what holds it back is not what its task waits for";
        if (row->hold && !queued && !(over && row->hold == HOLD_CLEANUP))
                return "I16: it is held back in a state in which nothing can hold it back";
        if ((row->hold & (HOLD_BACKOFF | HOLD_CLEANUP)) && queued && !row->wake_at)
                return "I16: it is held back and nothing will let it go";
        if (row->marked != r->marked)
                return "I8: its mark is not what its events tell";
        if (over != (row->ended_at != 0))
                return "I8: its end and its state do not fit";
        if (r->result && row->result != r->result)
                return "I17: its result is not the one acknowledged";
        if (r->changed != s->turn &&
            (row->lease_until != r->row.lease_until || row->session != r->row.session))
                return "I13: it was changed, and nothing was acknowledged";
        return NULL;
}

static void compare_run(struct sim *s, struct run_fact *r)
{
        struct run_row row;
        const char *why;

        if (!rows_run(s->rows, r->id, &row)) {
                violation(s, "I1: run %lld is gone", (long long)r->id);
                return;
        }
        s->suspect = r->id;
        why = misfit(s, r, &row);
        if (why)
                violation(s, "%s: run %lld is %s, stored as %s, epoch %lld/%lld, recoveries %lld/%lld,"
                             " hold %lld, lease %lld",
                          why, (long long)r->id, run_status_names.text[r->status],
                          run_status_names.text[row.status], (long long)r->epoch,
                          (long long)row.epoch, (long long)r->recoveries, (long long)row.recoveries,
                          (long long)row.hold, (long long)row.lease_until);
        r->row = row;
        if (row.hold & HOLD_BLOCKED)
                reached(s, BLOCKED);
}

static void compare_touched(struct sim *s)
{
        for (size_t i = 0; i < s->n_touched; i++) {
                struct run_fact *r = s->touched[i];

                r->touched = false;
                compare_run(s, r);
                must_be_woken(s, r->parent);
                must_be_woken(s, r);
                if (r->status == RUN_AWAITING_INPUT && r->task->inputs)
                        violation(s, "I22: run %lld waits for an input, and %d are there",
                                  (long long)r->id, r->task->inputs);
        }
        for (size_t i = 0; i < s->n_touched_tasks; i++) {
                s->touched_tasks[i]->touched = false;
                compare_task(s, s->touched_tasks[i]);
        }
        s->n_touched = s->n_touched_tasks = 0;
}

/* ---- a turn ---- */

static void forget_leases(struct sim *s)
{
        size_t kept = 0;

        for (size_t i = 0; i < s->n_leased; i++) {
                bool twice = false;

                for (size_t j = 0; j < kept; j++)
                        twice |= s->leased[j] == s->leased[i];
                if (is_leased(s->leased[i]) && !twice)
                        s->leased[kept++] = s->leased[i];
        }
        s->n_leased = kept;
}

static void read_events(struct sim *s)
{
        s->events = rows_events(s->rows, s->pos, &s->n_events);
        for (size_t i = 0; i < s->n_events; i++)
                BUG_ON(s->events[i].pos != s->pos + (int64_t)i + 1);
}

void model_boot(struct sim *s)
{
        read_events(s);
        for (int64_t pos = s->pos; pos < s->pos + (int64_t)s->n_events; pos++)
                model_event(s, event_after(s, pos), NULL);
        s->pos += (int64_t)s->n_events;
        compare_touched(s);
        for (size_t i = 0; i < s->n_leased; i++) {
                if (!is_leased(s->leased[i]))
                        continue;
                if (s->leased[i]->executor == EXECUTOR_WORKER)
                        violation(s, "I16: run %lld is still held by the dead worker",
                                  (long long)s->leased[i]->id);
                reached(s, RESTARTED_HELD);
        }
        forget_leases(s);
}

static void model_tick(struct sim *s, int64_t *seen)
{
        if (s->tick_from != *seen)
                violation(s, "I2: there are events that no acknowledged call made");
        *seen = s->tick_to;
        tick_clock(s);
        for (int64_t pos = s->tick_from; !s->failed && pos < s->tick_to; pos++)
                model_event(s, event_after(s, pos), NULL);
        if (!s->failed)
                leases_over(s);
}

/* What calls wrote that wait now: runs of a canceled tree that they met. */
static int64_t read_loose(struct sim *s, int64_t seen)
{
        for (size_t i = 0; i < s->n_loose && !s->failed; i++)
                if (s->loose[i].from == seen) {
                        for (seen = s->loose[i].from; seen < s->loose[i].to; seen++)
                                model_event(s, event_after(s, seen), NULL);
                        i = (size_t)-1;
                }
        return seen;
}

void model_turn(struct sim *s)
{
        bool ticks = s->ticked && !s->commit_failed;
        int64_t seen;

        read_events(s);
        seen = s->pos;
        if (s->ticked && !ticks)
                tick_clock(s);
        for (size_t i = 0; i < s->n_served; i++) {
                struct op *op = s->served[i];
                bool wrote = !op->claim.call.result || op->claim.call.keep;

                seen = read_loose(s, seen);
                if (ticks && op->ran > s->tick_ran && !s->failed) {
                        model_tick(s, &seen);
                        ticks = false;
                        seen = read_loose(s, seen);
                }
                if (wrote && op->to_pos > op->from_pos) {
                        if (op->from_pos != seen)
                                violation(s, "I2: there are events that no acknowledged call made");
                        seen = op->to_pos;
                }
                if (!s->failed)
                        op_judge(op);
        }
        seen = read_loose(s, seen);
        if (ticks && !s->failed)
                model_tick(s, &seen);
        seen = read_loose(s, seen);
        s->n_loose = 0;
        if (seen != s->pos + (int64_t)s->n_events)
                violation(s, "I2: there are events that no acknowledged call made");
        s->pos += (int64_t)s->n_events;
        if (!s->failed)
                compare_touched(s);
        if (!s->failed)
                forget_leases(s);
}

/* ---- everything ---- */

void model_all(struct sim *s)
{
        int64_t id;
        const char *found = rows_search(s->rows, s->tick_wall, &id);

        if (found)
                s->suspect = id;
        if (found)
                violation(s, "%s: %lld", found, (long long)id);
        for (size_t i = 0; i < s->runs.size && !s->failed; i++) {
                struct run_fact *r = s->runs.slots[i].value;

                if (r && !run_is_terminal(r->status))
                        compare_run(s, r);
        }
        for (int64_t lane = 0; !s->failed && (lane = rows_next_lane(s->rows, lane));)
                if (!lane_is_filled(s->hooks.domain->lanes, lane))
                        violation(s, "I22: a run stands in lane %lld, and no claim looks there", (long long)lane);
        for (int i = 0; i < FOLLOWERS && !s->failed; i++) {
                const struct follower *f = &s->followers[i];

                if (f->tree && !f->woken && !f->reading &&
                    f->cursor != ((struct tree_fact *)map_get(&s->trees, f->tree))->seq)
                        violation(s, "I31: a reader of tree %lld sleeps at %lld and was not woken",
                                  (long long)f->tree, (long long)f->cursor);
        }
        for (const struct op *op = s->waiters; op && !s->failed && !s->scheduler_paused; op = op->next)
                if ((op->kind == OP_TAKE || (op->kind == OP_CLAIM && !op->session)) &&
                    rows_takeable(s->rows, op->kind == OP_TAKE ? EXECUTOR_WORKER : EXECUTOR_AGENT))
                        violation(s, "I22: a claim waits although there is a run that it may take");
}

void model_end(struct sim *s)
{
        for (size_t i = 0; i < s->runs.size && !s->failed; i++)
                if (s->runs.slots[i].value)
                        compare_run(s, s->runs.slots[i].value);
        for (size_t i = 0; i < s->tasks.size && !s->failed; i++)
                if (s->tasks.slots[i].value)
                        compare_task(s, s->tasks.slots[i].value);
        if (!rows_sound(s->rows))
                violation(s, "I5: the database is not sound");
        s->hash = rows_hash(s->rows, s->hash);
}
