#include "domain/attempt.h"

#include "domain/approval.h"
#include "domain/channel.h"
#include "domain/retry.h"
#include "domain/review.h"
#include "domain/sql.h"

enum err attempt_open(struct tx *tx, int64_t task, struct run *run)
{
        enum err e = tx_one(tx, SQL_RUN_OPEN_ROOT, run, INT(task));

        if (e)
                run->status = RUN_NONE;
        return e == ERR_EMPTY ? ERR_OK : e;
}

struct run_spec attempt_spec(const struct task *task, int64_t attempt, struct str input)
{
        return (struct run_spec){
                .kind = RUN_ROOT,
                .executor = task->definition_id ? EXECUTOR_WORKER : EXECUTOR_AGENT,
                .attempt = attempt,
                .definition_id = task->definition_id,
                .definition_version = task->definition_version,
                .input = input.p ? input : task->input,
        };
}

/* extra: an event of its own, before what follows from the run; 0 = none. */
static enum err attempt_add(struct tx *tx, struct task *task, struct run_spec *spec,
                            enum event_type extra, struct events *events, struct run *run)
{
        enum err e = run_after(tx, task->last_run_id, spec);

        if (!e && task->review_id)
                e = review_leave(tx, task);
        if (!e)
                e = run_create(tx, task, spec, events, run);
        if (e)
                return e;
        if (extra) {
                char source[ID_TEXT_SIZE];

                id_print("run", spec->previous_run_id, source);
                events_add(tx, events, extra, task->id, run->id,
                           arena_printf(&tx_scope(tx)->arena,
                                        "{\"manual\":true,\"source_run_id\":\"%s\"}", source));
        }
        task->attempts = spec->attempt;
        task->last_run_id = run->id;
        return task_project_run(tx, task, RUN_QUEUED, events);
}

enum err attempt_continue(struct tx *tx, struct task *task, const struct run *run,
                          struct str review, struct events *events, struct run *next)
{
        struct run_spec spec = attempt_spec(task, task->attempts + 1, run->input);

        spec.previous_run_id = run->id;
        spec.network_channel = run->network_channel;
        spec.review = review;
        return attempt_add(tx, task, &spec, 0, events, next);
}

/* The next attempt of a task without an open run, as it is; key: of the request that asked for it. */
static enum err enqueue(struct tx *tx, struct task *task, struct str key, struct events *events,
                        struct run *run)
{
        struct run_spec spec = attempt_spec(task, task->attempts + 1, STR_NONE);

        spec.idempotency_key = key;
        return attempt_add(tx, task, &spec, 0, events, run);
}

enum err attempt_again(struct tx *tx, struct task *task, const struct run *run,
                       struct events *events)
{
        struct scope *scope = tx_scope(tx);
        struct task_retry policy;
        struct run next;
        uint32_t dice;
        int64_t delay;
        struct run_spec spec = {
                .kind = RUN_ROOT,
                .executor = (enum executor)run->executor,
                .attempt = task->attempts + 1,
                .previous_run_id = run->id,
                .definition_id = run->definition_id,
                .definition_version = run->definition_version,
                .input = run->input,
                .metadata = run->metadata,
                .network_channel = run->network_channel,
                .review = run->review,
        };
        enum err e;

        if ((!task->retry.p && !run->definition_id) || task->status == TASK_CANCELED ||
            !outcome_is_retried((enum outcome)run->failure_kind) ||
            spec.attempt > task->max_attempts)
                return ERR_OK;
        e = retry_parse(scope, task->retry, &policy);
        if (e || (policy.max_attempts && spec.attempt > policy.max_attempts))
                return e;
        scope_random(scope, &dice, sizeof(dice));
        delay = retry_delay_us(&policy, run->attempt, dice / 4294967296.0);
        spec.wake_at = delay ? tx_now(tx) + delay : 0;
        return attempt_add(tx, task, &spec, 0, events, &next);
}

/* wanted: a task that was blocked, or has completed, gets a run by itself, if there may be one more and nothing above it
 * is canceled. */
static enum err enqueue_or_project(struct tx *tx, struct task *task, int open, bool wanted,
                                   struct str key, struct events *events)
{
        bool canceled = true;
        enum err e = ERR_OK;
        struct run run;

        if (wanted && open == RUN_NONE &&
            (task->status == TASK_BLOCKED || task->status == TASK_COMPLETED) &&
            task->attempts < task->max_attempts)
                e = task_look_above(tx, task, &canceled);
        if (e)
                return e;
        return canceled ? task_project(tx, task, open, events) : enqueue(tx, task, key, events, &run);
}

enum err task_follow(struct tx *tx, struct task *task, struct events *events)
{
        struct run open = { .status = RUN_NONE };
        enum err e = task->last_run_id ? attempt_open(tx, task->id, &open) : ERR_OK;

        if (!e && open.status == RUN_QUEUED)
                e = run_rehold(tx, &open,
                               (open.hold & ~(HOLD_BLOCKED | HOLD_PAUSED)) | task_holds(task, true));
        if (e)
                return e;
        return enqueue_or_project(tx, task, open.status,
                                  task->auto_enqueue_on_ready &&
                                          task_derive(task, RUN_NONE) == TASK_READY,
                                  STR_NONE, events);
}

static enum err new_attempt(struct tx *tx, const struct principal *by, struct task *task,
                            struct run_spec *spec, enum event_type extra, struct run **run)
{
        struct events events = { .by = by, .tree = task->tree_id };
        enum err e;

        if (spec->attempt > task->max_attempts)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                            "all %lld attempts are used; raise max_attempts first",
                            (long long)task->max_attempts);
        spec->idempotency_key = by->idempotency_key;
        *run = arena_new(&tx_scope(tx)->arena, struct run);
        e = attempt_add(tx, task, spec, extra, &events, *run);
        return e ? e : events_append(tx, &events);
}

static enum err may_start(struct tx *tx, const struct task *task)
{
        struct run open;
        enum err e = attempt_open(tx, task->id, &open);

        if (e)
                return e;
        if ((e = task_check_above(tx, task)))
                return e;
        if (task->status == TASK_DRAFT)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the task is %s",
                            task_status_names.text[task->status]);
        if (open.status != RUN_NONE)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                            "the task already has a run that is %s", run_status_names.text[open.status]);
        return ERR_OK;
}

enum err task_start(struct tx *tx, const struct principal *by, int64_t id,
                    const struct start_spec *start, struct task *task, struct run **run)
{
        struct run_spec spec;
        enum err e = task_get(tx, by, id, task);

        if (!e)
                e = may_start(tx, task);
        if (!e)
                e = channel_check(tx, task->workspace_id, task->claim_rule, start->network_channel);
        if (!e && !start->waits && task_is_blocked(task))
                e = fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                         "the task is blocked by a dependency or by its approval");
        if (e)
                return e;
        spec = attempt_spec(task, task->attempts + 1, start->input);
        spec.metadata = start->metadata;
        spec.network_channel = start->network_channel;
        return new_attempt(tx, by, task, &spec, 0, run);
}

enum err task_publish(struct tx *tx, const struct principal *by, int64_t id, struct task *task,
                      struct run **run)
{
        struct events events = { .by = by };
        enum err e = task_get(tx, by, id, task);

        if (!e && task->status != TASK_DRAFT)
                e = fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the task is %s, not a draft",
                         task_status_names.text[task->status]);
        if (!e && task_is_blocked(task))
                e = fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                         "the draft is blocked by a dependency or waits for its approval");
        if (!e)
                e = task_check_above(tx, task);
        if (e)
                return e;
        events.tree = task->tree_id;
        task->status = TASK_PENDING;
        events_add(tx, &events, EVENT_TASK_PUBLISHED, id, 0,
                   arena_printf(&tx_scope(tx)->arena,
                                "{\"previous_status\":\"draft\",\"status\":\"%s\",\"approval_state\":\"%s\"}",
                                task_status_names.text[task_derive(task, RUN_QUEUED)],
                                approval_state_names.text[task->approval_state]));
        *run = arena_new(&tx_scope(tx)->arena, struct run);
        e = enqueue(tx, task, by->idempotency_key, &events, *run);
        return e ? e : events_append(tx, &events);
}

enum err task_decided(struct tx *tx, const struct principal *by, int64_t id, bool approve)
{
        struct events events = { .by = by };
        struct run open;
        struct task task, before;
        enum err e = task_get(tx, by, id, &task);

        if (e)
                return e;
        before = task;
        events.tree = task.tree_id;
        task.approval_state = approve ? APPROVAL_APPROVED : APPROVAL_REJECTED;
        task.updated_at = tx_now(tx);
        e = tx_exec(tx, SQL_TASK_APPROVAL, INT(id), INT(task.approval_policy),
                    INT(task.approval_state), INT(task.updated_at));
        if (!e)
                e = attempt_open(tx, id, &open);
        if (e)
                return e;
        events_add(tx, &events, approve ? EVENT_TASK_APPROVED : EVENT_TASK_REJECTED, id, 0,
                   arena_printf(&tx_scope(tx)->arena,
                                "{\"previous_approval_state\":\"pending\",\"approval_state\":\"%s\","
                                "\"status\":\"%s\"}",
                                approval_state_names.text[task.approval_state],
                                task_status_names.text[task_derive(&task, open.status)]));
        if (approve && open.status == RUN_NONE)
                e = enqueue_or_project(tx, &task, RUN_NONE, true, by->idempotency_key, &events);
        else
                e = task_follow(tx, &task, &events);
        if (!e)
                e = events_append(tx, &events);
        return e ? e :
                   task_tell(tx, by, approve ? AUDIT_TASK_APPROVED : AUDIT_TASK_REJECTED, &before,
                             STR_NONE);
}

enum err task_decide(struct tx *tx, const struct principal *by, int64_t id, bool approve,
                     struct str comment, struct task *task, struct run **run, bool *existing)
{
        struct approval approval;
        struct run *found;
        int64_t last;
        enum err e = task_get(tx, by, id, task);

        if (!e)
                e = approval_of_task(tx, id, &approval);
        if (e == ERR_EMPTY)
                return task->approval_state == APPROVAL_APPROVED ||
                                       task->approval_state == APPROVAL_REJECTED ?
                               fail(tx_scope(tx), ERR_ALREADY_DECIDED, "the task is %s already",
                                    approval_state_names.text[task->approval_state]) :
                               fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                                    "the task does not wait for an approval");
        if (e)
                return e;
        last = task->last_run_id;
        e = approval_decide(tx, by, approval.id, approve, comment, &approval);
        if (!e)
                e = task_get(tx, by, id, task);
        *run = NULL;
        *existing = false;
        if (e || !approve || !task->last_run_id)
                return e;
        found = arena_new(&tx_scope(tx)->arena, struct run);
        e = run_load(tx, task->last_run_id, found);
        if (e || run_is_terminal(found->status))
                return e;
        *run = found;
        *existing = found->id == last;
        return ERR_OK;
}

static enum err check_chain(struct tx *tx, int64_t run)
{
        int64_t links = 0;
        enum err e = tx_number(tx, SQL_RUN_CHAIN, &links, INT(run), INT(RETRY_CHAIN_MAX));

        return e || links < RETRY_CHAIN_MAX ?
                       e :
                       fail(tx_scope(tx), ERR_RETRY_CHAIN,
                            "%d attempts led to this run, each the retry of the one before; start the"
                            " task anew instead",
                            RETRY_CHAIN_MAX);
}

static enum err retry(struct tx *tx, const struct principal *by, struct task *task, const struct run *previous,
                      struct str metadata, struct run **run)
{
        struct run_spec spec;
        enum err e = ERR_OK;

        if (previous->status == RUN_COMPLETED || !run_is_terminal(previous->status))
                e = fail_diagnosed(tx_scope(tx), "task_run_still_active", ERR_INVALID_TRANSITION,
                                   "only a failed, timed-out or canceled run can be tried again");
        if (!e)
                e = may_start(tx, task);
        if (!e)
                e = check_chain(tx, previous->id);
        if (e)
                return e;
        spec = attempt_spec(task, task->attempts + 1, previous->input);
        spec.previous_run_id = previous->id;
        spec.network_channel = previous->network_channel;
        spec.metadata = metadata;
        spec.review = previous->review;
        return new_attempt(tx, by, task, &spec, EVENT_RUN_OPERATOR_RETRY, run);
}

enum err task_retry(struct tx *tx, const struct principal *by, int64_t id, struct str metadata,
                    struct task *task, struct run **run)
{
        struct run last = { .status = RUN_NONE };
        enum err e = task_get(tx, by, id, task);

        if (!e && task->last_run_id)
                e = run_load(tx, task->last_run_id, &last);
        return e ? e : retry(tx, by, task, &last, metadata, run);
}

enum err run_try_again(struct tx *tx, const struct principal *by, const struct run *previous,
                       struct str metadata, struct run **run)
{
        struct scope *scope = tx_scope(tx);
        struct task task;
        int64_t next;
        enum err e;

        if (previous->kind != RUN_ROOT)
                return fail(scope, ERR_INVALID_TRANSITION, "a child run is tried again by its parent's step");
        e = tx_number(tx, SQL_RUN_RETRIED, &next, INT(previous->task_id), INT(previous->id));
        if (!e) {
                char id[ID_TEXT_SIZE];

                id_print("run", next, id);
                return fail(scope, ERR_INVALID_TRANSITION, "it was tried again already: by %s", id);
        }
        if (e == ERR_EMPTY)
                e = task_get(tx, by, previous->task_id, &task);
        return e ? e : retry(tx, by, &task, previous, metadata, run);
}
