#include "domain/claim.h"

#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "domain/attempt.h"
#include "domain/attention.h"
#include "domain/cascade.h"
#include "domain/channel.h"
#include "domain/domain.h"
#include "domain/join.h"
#include "domain/review.h"
#include "domain/session.h"
#include "domain/sql.h"
#include "domain/workspace.h"
#include "json/json_in.h"

/* Static rank: urgent overtakes within AGE a level, low never starves. */
#define RANK_AGE (600 * US_PER_S)
#define RANK_PREFERRED (60 * US_PER_S)

struct candidate {
        int64_t rank, run;
};

struct candidates {
        struct candidate *items;
        size_t n, size;
};

static void candidate_add(struct arena *arena, struct candidates *c, struct candidate item)
{
        if (c->n == c->size) {
                struct candidate *old = c->items;

                c->size = c->size ? c->size * 2 : 128;
                c->items = arena_array(arena, struct candidate, c->size);
                if (c->n)
                        memcpy(c->items, old, c->n * sizeof(*old));
        }
        c->items[c->n++] = item;
}

static enum err lane_candidates(struct tx *tx, const struct lane *lane,
                                const struct claim_request *request, struct candidates *out)
{
        int64_t bonus = RANK_AGE * lane->priority +
                        RANK_PREFERRED * lane_preference(lane, &request->criteria);
        int64_t *rows;
        size_t n;
        const struct arg args[] = { INT(lane->id), INT(request->max) };
        enum err e = tx_number_rows(tx, SQL_LANE_HEAD, &rows, &n, 2, args, LENGTH(args));

        for (size_t i = 0; !e && i < n; i++)
                candidate_add(&tx_scope(tx)->arena, out,
                              (struct candidate){ rows[2 * i] - bonus, rows[2 * i + 1] });
        if (!e && !n)
                lane_drain(tx, lane->id);
        return e;
}

static int by_rank(const void *a, const void *b)
{
        const struct candidate *x = a, *y = b;

        if (x->rank != y->rank)
                return x->rank < y->rank ? -1 : 1;
        return (x->run > y->run) - (x->run < y->run);
}

static enum err group_candidates(struct tx *tx, const struct lane_group *group,
                                 const struct claim_request *request, struct candidates *out)
{
        size_t at = 0, lanes = 0, before = out->n;
        const struct lane *lane;
        enum err e = ERR_OK;

        while (!e && (lane = lane_group_next(group, &request->criteria, &at))) {
                lanes++;
                e = lane_candidates(tx, lane, request, out);
        }
        if (lanes > 1 && out->n > before + 1)
                qsort(out->items + before, out->n - before, sizeof(struct candidate), by_rank);
        return e;
}

/*
 * A claimer of all workspaces serves them in turn: first what the one after the one served last has to
 * offer, and no more of them than it takes.
 */
static enum err candidates_in_turn(struct tx *tx, const struct claim_request *request,
                                   struct candidates *out)
{
        struct domain *domain = tx_context(tx);
        int64_t *last = &domain->now.turn[request->criteria.executor];
        struct lane_turn turn = { request->criteria.executor, *last, *last, false };
        const struct lane_group *group;
        enum err e = ERR_OK;

        while (!e && out->n < (size_t)request->max && (group = lanes_turn(domain->lanes, &turn))) {
                size_t before = out->n;

                e = group_candidates(tx, group, request, out);
                if (out->n > before)
                        *last = lane_group_number(group);
        }
        return e;
}

static enum err find_candidates(struct tx *tx, const struct claim_request *request,
                                struct candidates *out)
{
        const struct domain *domain = tx_context(tx);
        const struct claim_criteria *c = &request->criteria;
        const struct lane_group *group;
        enum err e = lanes_look(tx, domain->lanes);

        if (e)
                return e;
        if (!c->workspace.p)
                return candidates_in_turn(tx, request, out);
        group = lane_group_of(domain->lanes, c->workspace, c->executor);
        return group ? group_candidates(tx, group, request, out) : ERR_OK;
}

/* Sessions are named within a workspace: what another tenant's session of that name holds is no matter. */
static enum err session_is_free(struct tx *tx, struct str workspace, struct str session)
{
        int64_t run;
        enum err e = session.p ? session_lease(tx, workspace, session, &run) : ERR_EMPTY;

        if (e == ERR_EMPTY)
                return ERR_OK;
        return e ? e :
                   fail(tx_scope(tx), ERR_ACTIVE_LEASE,
                        "this session already holds a live lease; complete, fail or release it");
}

static enum err grant(struct tx *tx, const struct principal *by, const struct claim_request *request,
                      struct run *run, struct claim *out)
{
        struct scope *scope = tx_scope(tx);
        struct events events = { .by = by, .tree = run->tree_id };
        struct run_change change = { .to = RUN_CLAIMED, .event = EVENT_RUN_CLAIMED };
        struct task *task = arena_new(&scope->arena, struct task);
        enum err e = tx_one(tx, SQL_TASK_GET, task, INT(run->task_id));

        if (e)
                return e;
        run->claimed_by = by->actor;
        run->session_id = request->criteria.session_id;
        run->lease_us = request->lease_seconds * US_PER_S;
        change.payload = arena_printf(&scope->arena, "{\"epoch\":%lld}", (long long)run->epoch + 1);
        e = run_move(tx, run, &change, &events);
        if (!e)
                e = failpoint(scope, FAILPOINT_CLAIM_GRANTED);
        if (!e && run->kind == RUN_ROOT)
                e = run_set_deadline(tx, run, task->timeout_seconds);
        if (!e)
                e = events_append(tx, &events);
        task->latest_sequence = events.last;
        task->attention = STR_NONE;
        task->current_run_id = task->last_run_id;
        if (!e)
                *out = (struct claim){ task, run, token_text(tx, run),
                                       lease_wall(tx_context(tx), tx_now(tx), run->lease_until) };
        return e;
}

/* Why this run is not to be had by this claimer. */
static enum err check_claim(struct tx *tx, const struct claim_request *request, const struct run *run)
{
        struct scope *scope = tx_scope(tx);
        const struct domain *domain = tx_context(tx);
        const struct lane *lane = lane_get(domain->lanes, run->lane);
        struct str refusal;
        bool canceled;
        enum err e;

        if (run->status != RUN_QUEUED)
                return fail(scope, run_is_leased(run->status) ? ERR_LEASE_HELD : ERR_INVALID_TRANSITION,
                            "the run is %s", run_status_names.text[run->status]);
        if (run->hold)
                return fail(scope, ERR_INVALID_TRANSITION,
                            "the run is held back (blocked, paused or waiting to be tried again)");
        if (domain->now.paused)
                return fail(scope, ERR_INVALID_TRANSITION,
                            "the scheduler is paused: no run is handed out until it is resumed");
        if ((e = cascade_reaches(tx, run->task_id, &canceled)) || canceled)
                return e ? e : fail(scope, ERR_INVALID_TRANSITION, "the run is canceled");
        refusal = lane ? lane_refusal(&scope->arena, lane, &request->criteria) : STR("of a lane that is not known");
        return refusal.p ? fail(scope, ERR_PERMISSION_DENIED,
                                "this run is not for this claimer, but for one " STR_FMT, STR_ARG(refusal)) :
                           ERR_OK;
}

/* Of a run that was read, after check_claim(). */
static enum err take(struct tx *tx, const struct principal *by, const struct claim_request *request,
                     struct run *run, struct list *out)
{
        struct claim *claim = arena_new(&tx_scope(tx)->arena, struct claim);

        *out = (struct list){ claim, 1 };
        return grant(tx, by, request, run, claim);
}

static enum err claim_this(struct tx *tx, const struct principal *by,
                           const struct claim_request *request, struct list *out)
{
        struct run *run = arena_new(&tx_scope(tx)->arena, struct run);
        enum err e = run_get(tx, by, request->run, run);

        if (!e)
                e = session_is_free(tx, run->workspace_id, request->criteria.session_id);
        if (!e)
                e = check_claim(tx, request, run);
        return e ? e : take(tx, by, request, run, out);
}

/* Grants what was found.  A run that a cascade is going to cancel ends here instead: *met counts them. */
static enum err grant_found(struct tx *tx, const struct principal *by, const struct claim_request *request,
                            const struct candidates *found, struct list *out, int *met)
{
        struct scope *scope = tx_scope(tx);
        size_t n = found->n > (size_t)request->max ? (size_t)request->max : found->n;
        struct claim *claims = arena_array(&scope->arena, struct claim, n);
        int64_t *runs = arena_array(&scope->arena, int64_t, n);
        enum err e;

        *out = (struct list){ claims, 0 };
        for (size_t i = 0; i < n; i++)
                runs[i] = found->items[i].run;
        e = run_read_ahead(tx, runs, n, true);
        for (size_t i = 0; !e && i < n; i++) {
                struct run *run = arena_new(&scope->arena, struct run);
                bool canceled = false;

                e = run_load(tx, found->items[i].run, run);
                if (!e)
                        e = cascade_overtake(tx, run->task_id, &canceled);
                *met += canceled;
                if (!e && !canceled)
                        e = grant(tx, by, request, run, &claims[out->n++]);
        }
        return e;
}

enum err claim_next(struct tx *tx, const struct principal *by, const struct claim_request *request,
                    struct list *out)
{
        const struct domain *domain = tx_context(tx);
        int met = 0, before;
        enum err e;

        if (request->run)
                return claim_this(tx, by, request, out);
        e = session_is_free(tx, by->workspace, request->criteria.session_id);
        if (!e && domain->now.paused)
                return ERR_EMPTY;
        *out = (struct list){ 0 };
        do {
                struct candidates found = { 0 };

                before = met;
                if (!e)
                        e = find_candidates(tx, request, &found);
                if (!e && found.n)
                        e = grant_found(tx, by, request, &found, out, &met);
        } while (!e && !out->n && met > before && met < CASCADE_TASKS);
        return e || out->n ? e : ERR_EMPTY;
}

/* Its holder, who showed the token, says which session works on it: the lease stays as it is. */
static enum err bind_session(struct tx *tx, struct str session, struct run *run, struct list *out)
{
        struct scope *scope = tx_scope(tx);
        struct claim *claim = arena_new(&scope->arena, struct claim);
        struct task *task = arena_new(&scope->arena, struct task);
        enum err e = tx_exec(tx, SQL_RUN_BIND, INT(run->id), NAME(session));

        if (!e)
                e = tx_one(tx, SQL_TASK_GET, task, INT(run->task_id));
        if (e)
                return e;
        run->session_id = session;
        task->current_run_id = run->kind == RUN_ROOT ? run->id : 0;
        *claim = (struct claim){ task, run, token_text(tx, run),
                                 lease_wall(tx_context(tx), tx_now(tx), run->lease_until) };
        *out = (struct list){ claim, 1 };
        return ERR_OK;
}

enum err claim_attach(struct tx *tx, const struct fence *fence, const struct claim_request *request,
                      struct list *out, bool *granted)
{
        struct scope *scope = tx_scope(tx);
        struct str session = request->criteria.session_id;
        struct events events = { .by = fence->by };
        struct run *run = arena_new(&scope->arena, struct run);
        enum err e = run_get(tx, fence->by, request->run, run);

        if (!e && run_is_leased(run->status) && run->session_id.p)
                e = fail(scope, ERR_SESSION_BOUND, "a session works on the run already");
        if (!e)
                e = session_is_free(tx, run->workspace_id, session);
        if (e == ERR_ACTIVE_LEASE)
                e = fail(scope, ERR_ATTACH_REFUSED, "the session works on another run");
        if (e)
                return e;
        *granted = !run_is_leased(run->status);
        e = *granted ? check_claim(tx, request, run) : run_check_fence(tx, run, fence);
        if (!e)
                e = channel_of_run(tx, fence->by, run, "attach");
        if (!e)
                e = *granted ? take(tx, fence->by, request, run, out) :
                               bind_session(tx, session, run, out);
        if (!e)
                e = failpoint(scope, FAILPOINT_SESSION_BOUND);
        if (e)
                return e;
        events.tree = run->tree_id;
        events_add(tx, &events, EVENT_RUN_SESSION_BOUND, run->task_id, run->id,
                   payload_said(tx, "session_id", session, STR_NONE));
        e = events_append(tx, &events);
        ((struct claim *)out->items)->task->latest_sequence = events.last;
        return e;
}

/* ---- what the holder does ---- */

enum err claim_start(struct tx *tx, const struct fence *fence, int64_t id, struct run *run)
{
        struct events events = { .by = fence->by };
        struct task task;
        enum err e = run_get(tx, fence->by, id, run);

        if (!e)
                e = run_check_fence(tx, run, fence);
        if (!e && run->status != RUN_CLAIMED)
                e = fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the run is %s already",
                         run_status_names.text[run->status]);
        if (!e)
                e = channel_of_run(tx, fence->by, run, "start");
        if (e)
                return e;
        events.tree = run->tree_id;
        run_begin(tx, run, &events);
        e = run_write(tx, run, fence, true);
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (!e && run->kind == RUN_ROOT)
                e = task_project(tx, &task, RUN_RUNNING, &events);
        return e ? e : events_append(tx, &events);
}

enum err claim_heartbeat(struct tx *tx, const struct fence *fence, int64_t id, int64_t lease_seconds,
                         struct heartbeat *out)
{
        struct domain *domain = tx_context(tx);
        int64_t now = lease_now(domain), until, length;
        int64_t changed = 0;
        struct run run;
        enum err e = run_get(tx, fence->by, id, &run);

        if (!e)
                e = run_check_fence(tx, &run, fence);
        if (e)
                return e;
        length = lease_seconds ? lease_seconds * US_PER_S : run.lease_us;
        until = now + length;
        e = tx_exec_one(tx, SQL_RUN_HEARTBEAT, &changed, INT(id), INT(until), INT(length),
                            INT(tx_now(tx)), fence_arg(fence), INT(now));
        if (!e && !changed)
                e = fail(tx_scope(tx), ERR_STALE_TOKEN, "the run was moved by somebody else");
        if (!e && run.attention.p)
                e = attention_set(tx, &run, STR_NONE);
        *out = (struct heartbeat){ lease_wall(domain, tx_now(tx), until), run.cancel_requested, run.tree_id };
        return e;
}

enum err run_requeue(struct tx *tx, struct run *run, const struct run_change *change,
                     const struct principal *by)
{
        struct events events = { .by = by, .tree = run->tree_id };
        struct run_change back = *change;
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));

        if (e)
                return e;
        back.hold = task_holds(&task, run->kind == RUN_ROOT);
        e = run_move(tx, run, &back, &events);
        if (!e && run->kind == RUN_ROOT)
                e = run_follow(tx, &task, false, run); /* owner and priority may be others by now */
        if (!e && run->kind == RUN_ROOT)
                e = task_project(tx, &task, RUN_QUEUED, &events);
        return e ? e : events_append(tx, &events);
}

enum err claim_release(struct tx *tx, const struct fence *fence, int64_t id, struct str reason,
                       struct str metadata, struct run *run)
{
        struct run_change change = { .to = RUN_QUEUED,
                                     .event = EVENT_RUN_RELEASED,
                                     .fence = fence };
        enum err e = run_get(tx, fence->by, id, run);

        if (e)
                return e;
        if (reason.p || metadata.p)
                change.payload = payload_said(tx, "reason", reason, metadata);
        return run_requeue(tx, run, &change, fence->by);
}

enum err claim_pass_on(struct tx *tx, const struct fence *fence, int64_t id, struct run *run)
{
        struct run_change change = { .to = RUN_QUEUED,
                                     .event = EVENT_RUN_RELEASED,
                                     .fence = fence,
                                     .payload = STR("{\"reason\":\"another worker has the files\"}") };
        struct workspace w = { 0 };
        enum err e = run_get(tx, fence->by, id, run);

        if (!e)
                e = workspace_get(tx, fence->by, run->workspace_id, &w);
        if (!e)
                e = run_requeue(tx, run, &change, fence->by);
        return e ? e : run_to_volume(tx, w.volume, run);
}

static enum err end(struct tx *tx, struct run *run, const struct run_change *change,
                    const struct principal *by)
{
        struct events events = { .by = by, .tree = run->tree_id };
        enum err e = run_move(tx, run, change, &events);

        if (!e)
                e = run_ended(tx, run, &events);
        return e ? e : events_append(tx, &events);
}

/* The very same completion again, by whoever held the token, is answered as the first one was. */
static bool is_repeat(struct tx *tx, const struct run *run, const struct fence *fence,
                      struct str result)
{
        return run->status == RUN_COMPLETED && run_is_held_by(run, fence->by) &&
               run_has_token(run, fence) && json_same(tx_scope(tx), run->result, result);
}

enum err claim_complete(struct tx *tx, const struct fence *fence, int64_t id, struct str result,
                        struct run *run)
{
        struct run_change change = { .to = RUN_COMPLETED,
                                     .event = EVENT_RUN_COMPLETED,
                                     .fence = fence,
                                     .failure_kind = OUTCOME_NONE,
                                     .result = result };
        enum err e = run_get(tx, fence->by, id, run);

        if (e || is_repeat(tx, run, fence, result))
                return e;
        return end(tx, run, &change, fence->by);
}

enum err claim_fail(struct tx *tx, const struct fence *fence, int64_t id, enum outcome kind,
                    struct str error, struct str metadata, struct run *run)
{
        struct run_change change = { .to = RUN_FAILED,
                                     .event = EVENT_RUN_FAILED,
                                     .fence = fence,
                                     .failure_kind = kind,
                                     .error = error,
                                     .payload = payload_said(tx, "error", error, metadata) };
        enum err e = run_get(tx, fence->by, id, run);

        return e ? e : end(tx, run, &change, fence->by);
}

enum err claim_undeliver(struct tx *tx, const struct principal *by, const struct list *claims)
{
        const struct run_change change = { .to = RUN_QUEUED,
                                           .event = EVENT_RUN_RELEASED,
                                           .payload = STR("{\"reason\":\"undelivered\"}") };
        const struct claim *claim = claims->items;
        enum err e = failpoint(tx_scope(tx), FAILPOINT_UNDELIVERED);

        for (size_t i = 0; !e && i < claims->n; i++) {
                struct run run;

                e = run_load(tx, claim[i].run->id, &run);
                /* Somebody may have canceled it meanwhile. */
                if (!e && run.epoch == claim[i].run->epoch && run_is_leased(run.status))
                        e = run_requeue(tx, &run, &change, by);
        }
        return e;
}

enum err claim_expire(struct tx *tx, struct run *run, bool boot)
{
        struct domain *domain = tx_context(tx);
        struct run_change back = { .to = RUN_QUEUED,
                                   .event = boot ? EVENT_RUN_RECOVERED : EVENT_RUN_LEASE_EXPIRED,
                                   .payload = boot ? STR("{\"reason\":\"server_restart\"}") :
                                                     STR_NONE };
        struct run_change lost = { .to = RUN_FAILED,
                                   .event = EVENT_RUN_FAILED,
                                   .failure_kind = OUTCOME_WORKER_LOST,
                                   .error = STR("the lease expired too often without an end"),
                                   .payload = STR("{\"kind\":\"worker_lost\"}") };
        enum err e = failpoint(tx_scope(tx), FAILPOINT_LEASE_EXPIRES);

        if (e)
                return e;
        if (!boot && run->recoveries >= MAX_RECOVERIES)
                return end(tx, run, &lost, &domain->daemon);
        run->recoveries += !boot;
        return run_requeue(tx, run, &back, &domain->daemon);
}

enum err run_ended(struct tx *tx, struct run *run, struct events *events)
{
        struct task task;
        enum err e;

        if (run->kind != RUN_ROOT)
                return join_child_ended(tx, run, events);
        e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (e)
                return e;
        if (run->status != RUN_CANCELED)
                task.last_run_status = run->status;
        if (run->status == RUN_FAILED || run->status == RUN_TIMED_OUT) {
                e = attempt_again(tx, &task, run, events);
                if (e || task.last_run_id != run->id)
                        return e;
        }
        if (task.review_policy && (e = review_of_ended(tx, &task, run, events)))
                return e;
        return task_project_run(tx, &task, RUN_NONE, events);
}
