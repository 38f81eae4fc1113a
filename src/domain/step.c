#include "domain/step.h"

#include <string.h>

#include "core/failpoint.h"
#include "domain/cancel.h"
#include "domain/definition.h"
#include "domain/domain.h"
#include "domain/join.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct step, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field step_fields[] = {
        { "run_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(run_id), "run" },
        { "step_index", FIELD_INT, FIELD_COLUMN, AT(index) },
        { "index", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(index) },
        { "id", FIELD_STR, FIELD_WIRE, AT(id) },
        { "action", FIELD_STR, FIELD_WIRE, AT(action) },
        { "label", FIELD_STR, FIELD_WIRE, AT(label) },
        { "status", FIELD_ENUM, BOTH, AT(status), &step_status_names },
        { "attempt", FIELD_INT, BOTH | FIELD_ALWAYS, AT(attempt) },
        { "input", FIELD_JSON, BOTH, AT(input) },
        { "output", FIELD_JSON, BOTH, AT(output) },
        { "error", FIELD_JSON, BOTH, AT(error) },
        { "child_run_ids", FIELD_JSON, FIELD_WIRE, AT(child_run_ids), "array" },
        { "approval_id", FIELD_ID, BOTH, AT(approval_id), "appr" },
        { "sandbox", FIELD_JSON, BOTH, AT(sandbox) },
        { "started_at", FIELD_TIME, BOTH, AT(started_at) },
        { "ended_at", FIELD_TIME, BOTH, AT(ended_at) },
        { "duration_ms", FIELD_INT, FIELD_WIRE | FIELD_FOLLOWS, AT(duration_ms) },
};
const struct record step_record = { "Step", step_fields, LENGTH(step_fields), sizeof(struct step),
                                    -1 };

#undef AT
#define AT(member) offsetof(struct child_result, member)
static const struct field child_fields[] = {
        { "id", FIELD_ID, FIELD_COLUMN, AT(id), "run" },
        { "branch_index", FIELD_INT, FIELD_COLUMN, AT(branch_index) },
        { "branch_name", FIELD_STR, FIELD_COLUMN, AT(branch_name) },
        { "status", FIELD_ENUM, FIELD_COLUMN, AT(status), &run_status_names },
        { "failure_kind", FIELD_ENUM, FIELD_COLUMN, AT(failure_kind), &outcome_names },
        { "error", FIELD_STR, FIELD_COLUMN, AT(error) },
        { "result", FIELD_JSON, FIELD_COLUMN, AT(result) },
        { "ended_at", FIELD_TIME, FIELD_COLUMN, AT(ended_at) },
};
const struct record child_result_record = { "ChildResult", child_fields, LENGTH(child_fields),
                                            sizeof(struct child_result), -1 };

static bool is_over(int status)
{
        return status >= STEP_COMPLETED;
}

static char *put(char *at, struct str s)
{
        if (s.n)
                memcpy(at, s.p, s.n);
        return at + s.n;
}

static char *put_number(char *at, int64_t number)
{
        char digits[24];
        size_t n = sizeof(digits);

        do
                digits[--n] = (char)('0' + number % 10);
        while (number /= 10);
        return put(at, (struct str){ digits + n, sizeof(digits) - n });
}

/* Written by hand: most events are of steps, and printf was a tenth of the writer's time. */
static struct str step_payload(struct tx *tx, const struct step_change *s)
{
        char *text = arena_alloc(&tx_scope(tx)->arena, 100 + s->id.n + s->action.n, 1), *at = text;

        at = put(at, STR("{\"step_index\":"));
        at = put_number(at, s->index);
        at = put(at, STR(",\"id\":\""));
        at = put(at, s->id);
        at = put(at, STR("\",\"action\":\""));
        at = put(at, s->action);
        at = put(at, STR("\",\"attempt\":"));
        at = put_number(at, s->attempt);
        at = put(at, STR("}"));
        return (struct str){ text, (size_t)(at - text) };
}

static enum event_type step_event(const struct step_change *s)
{
        if (s->status == STEP_COMPLETED)
                return EVENT_RUN_STEP_COMPLETED;
        return s->status == STEP_FAILED ? EVENT_RUN_STEP_FAILED : 0;
}

static void add_events(struct tx *tx, struct run *run, const struct step_change *s,
                       struct events *events)
{
        enum event_type event = step_event(s);
        struct str payload = step_payload(tx, s);

        if (s->begins)
                events_add(tx, events, EVENT_RUN_STEP_STARTED, run->task_id, run->id, payload);
        if (event)
                events_add(tx, events, event, run->task_id, run->id, payload);
        if (s->checkpoint && s->status == STEP_COMPLETED)
                events_add(tx, events, EVENT_RUN_CHECKPOINT_SAVED, run->task_id, run->id, payload);
        run->steps += is_over(s->status);
}

enum { STEP_ARGS = 10, STEPS_MAX = 4 };

/* 1, 2 or 4 rows. */
static enum err put_steps(struct tx *tx, const struct advance *a, const struct step_change *s,
                          size_t n, int64_t approval)
{
        static const enum sql statements[] = { [1] = SQL_STEP_PUT,
                                               [2] = SQL_STEP_PUT_2,
                                               [4] = SQL_STEP_PUT_4 };
        struct arg args[1 + STEPS_MAX * STEP_ARGS] = { INT(a->run_id) };
        struct arg *at = args + 1;

        for (size_t i = 0; i < n; i++, s++) {
                *at++ = INT(s->index);
                *at++ = INT(s->status);
                *at++ = INT(s->attempt);
                *at++ = TEXT(s->input);
                *at++ = TEXT(s->output);
                *at++ = TEXT(s->error);
                *at++ = OPT(s->index == a->at ? approval : 0);
                *at++ = TEXT(s->sandbox);
                *at++ = OPT(s->status == STEP_PENDING ? 0 : tx_now(tx));
                *at++ = OPT(is_over(s->status) ? tx_now(tx) : 0);
        }
        return tx_write(tx, statements[n], NULL, args, (size_t)(at - args));
}

/* ---- the moves ---- */

static bool is_tried_again(const struct advance *a, const struct run *run)
{
        return run->kind != RUN_ROOT && run->attempt < a->retry.max_attempts &&
               outcome_is_retried(a->outcome);
}

/* The next attempt of a child run takes its place in the join. */
static enum err try_again(struct tx *tx, const struct advance *a, struct run *run,
                          struct events *events)
{
        struct run parent, next;
        struct task task;
        uint32_t dice;
        int64_t delay;
        struct run_spec spec = { .kind = (enum run_kind)run->kind,
                                 .executor = (enum executor)run->executor,
                                 .attempt = run->attempt + 1,
                                 .previous_run_id = run->id,
                                 .parent = &parent,
                                 .parent_step_index = run->parent_step_index,
                                 .branch_index = run->branch_index,
                                 .branch_name = run->branch_name,
                                 .definition_id = run->definition_id,
                                 .definition_version = run->definition_version,
                                 .input = run->input };
        enum err e = run_load(tx, run->parent_run_id, &parent);

        /* A parent that has been woken, its step's time being over, wants no more of it. */
        if (!e && !run_is_waiting(parent.status))
                return run_ended(tx, run, events);
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (e)
                return e;
        scope_random(tx_scope(tx), &dice, sizeof(dice));
        delay = retry_delay_us(&a->retry, run->attempt, dice / 4294967296.0);
        spec.wake_at = delay ? tx_now(tx) + delay : 0;
        return run_create(tx, &task, &spec, events, &next);
}

static enum err finish(struct tx *tx, const struct advance *a, struct run *run, bool begun,
                       struct events *events)
{
        bool ok = a->move == ADVANCE_COMPLETE;
        struct run_change change = {
                .to = ok ? RUN_COMPLETED : RUN_FAILED,
                .event = ok ? EVENT_RUN_COMPLETED : EVENT_RUN_FAILED,
                .fence = &a->fence,
                .begun = begun,
                .failure_kind = ok ? OUTCOME_NONE : (int)a->outcome,
                .error = ok ? STR_NONE : a->message,
                .result = ok ? a->result : STR_NONE,
                .payload = ok ? STR_NONE : payload_said(tx, "error", a->message, STR_NONE),
        };
        enum err e;

        run->revision++;
        e = run_move(tx, run, &change, events);
        if (!e && !ok)
                e = run_end_steps(tx, run);
        if (!e && !ok && is_tried_again(a, run))
                return try_again(tx, a, run, events);
        return e ? e : run_ended(tx, run, events);
}

static enum err wait(struct tx *tx, const struct advance *a, struct run *run, bool begun, int to,
                     enum event_type event, struct str payload, struct events *events)
{
        struct run_change change = { .to = to,
                                     .event = event,
                                     .fence = &a->fence,
                                     .begun = begun,
                                     .payload = payload,
                                     .wake_at = a->wake_in ? tx_now(tx) + a->wake_in : 0 };

        run->revision++;
        return run_move(tx, run, &change, events);
}

static enum err resolve(struct tx *tx, const struct run *parent, const struct child_spec *child,
                        struct run_spec *spec)
{
        struct definition_row row;
        struct principal by = { .workspace = parent->workspace_id };
        enum err e;

        if (!child->reference.p) {
                spec->definition_id = parent->definition_id;
                spec->definition_version = parent->definition_version;
                return ERR_OK;
        }
        e = definition_referred(tx, &by, parent->definition_id, child->reference, &row);
        if (e)
                return e;
        spec->definition_id = row.id;
        spec->definition_version = row.version;
        spec->path = STR_NONE;
        return ERR_OK;
}

static enum err start_children(struct tx *tx, const struct advance *a, struct run *run,
                               struct task *task, struct events *events)
{
        struct join_point join = { .run_id = run->id,
                                   .step_index = a->at,
                                   .any_one = a->join_any,
                                   .fail_fast = a->fail_fast,
                                   .total = (int64_t)a->n_children,
                                   .pending = (int64_t)a->n_children,
                                   .max_concurrency = a->max_concurrency };
        int64_t there = 0;
        enum err e = join_open(tx, &join);

        if (!e)
                e = tx_number(tx, SQL_RUN_COUNT_OF_TASK, &there, INT(run->task_id), INT(RUNS_MAX + 1));
        if (!e && there + (int64_t)a->n_children > RUNS_MAX)
                return fail(tx_scope(tx), ERR_GRAPH_LIMIT, "a task has at most %d runs", RUNS_MAX);
        if (!e && run->nesting >= NESTING_MAX)
                return fail(tx_scope(tx), ERR_GRAPH_LIMIT, "runs nest at most %d deep", NESTING_MAX);
        for (size_t i = 0; !e && i < a->n_children; i++) {
                const struct child_spec *c = &a->children[i];
                struct run_spec spec = { .kind = a->subtask ? RUN_SUBTASK : RUN_BRANCH,
                                         .executor = EXECUTOR_WORKER,
                                         .attempt = 1,
                                         .parent = run,
                                         .parent_step_index = a->at,
                                         .branch_index = c->branch_index,
                                         .branch_name = c->name,
                                         .path = c->path,
                                         .locals = c->locals,
                                         .input = c->input,
                                         .limited = a->max_concurrency &&
                                                    (int64_t)i >= a->max_concurrency };
                struct run child;

                e = resolve(tx, run, c, &spec);
                if (!e)
                        e = run_create(tx, task, &spec, events, &child);
                if (!e)
                        e = failpoint(tx_scope(tx), FAILPOINT_CHILD_MADE);
        }
        return e;
}

static enum err ask(struct tx *tx, const struct advance *a, struct run *run, struct events *events,
                    int64_t *approval)
{
        struct approval made;
        enum err e = approval_open(tx, run, a->at, &a->approval, events, &made);

        *approval = made.id;
        return e;
}

static bool are_different(const struct step_change *s, size_t n)
{
        for (size_t i = 1; i < n; i++)
                for (size_t j = 0; j < i; j++)
                        if (s[i].index == s[j].index)
                                return false;
        return true;
}

/* A step whose next attempt follows at once is there twice; a statement takes it once. */
static enum err put_all(struct tx *tx, const struct advance *a, int64_t approval)
{
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < a->n_steps;) {
                size_t n = a->n_steps - i >= 4 ? 4 : a->n_steps - i >= 2 ? 2 : 1;

                while (!are_different(&a->steps[i], n))
                        n /= 2;
                e = put_steps(tx, a, &a->steps[i], n, approval);
                i += n;
        }
        return e ? e : failpoint(tx_scope(tx), FAILPOINT_STEPS_RECORDED);
}

static enum err leave(struct tx *tx, const struct advance *a, struct run *run, struct task *task,
                      bool begun, struct events *events)
{
        enum err e;

        switch (a->move) {
        case ADVANCE_GO_ON:
                return run_write(tx, run, &a->fence, begun);
        case ADVANCE_COMPLETE:
        case ADVANCE_FAIL:
                return finish(tx, a, run, begun, events);
        case ADVANCE_APPROVAL:
                return wait(tx, a, run, begun, RUN_AWAITING_APPROVAL, 0, STR_NONE, events);
        case ADVANCE_INPUT:
                e = wait(tx, a, run, begun, RUN_AWAITING_INPUT, 0, STR_NONE, events);
                return e ? e : input_await(tx, run, a->input_name, events);
        case ADVANCE_SLEEP:
                return wait(tx, a, run, begun, RUN_SLEEPING, EVENT_RUN_SLEEPING, STR_NONE, events);
        case ADVANCE_CHILDREN:
                e = wait(tx, a, run, begun,
                         a->subtask ? RUN_AWAITING_SUBTASK : RUN_AWAITING_PARALLEL,
                         a->subtask ? EVENT_RUN_AWAITING_SUBTASK : EVENT_RUN_AWAITING_PARALLEL,
                         arena_printf(&tx_scope(tx)->arena, "{\"step_index\":%lld,\"children\":%zu}",
                                      (long long)a->at, a->n_children),
                         events);
                return e ? e : start_children(tx, a, run, task, events);
        }
        return ERR_INTERNAL;
}

static bool is_short(const struct advance *a)
{
        return a->move == ADVANCE_GO_ON && !a->cancel_children && a->known && a->known->status == RUN_RUNNING;
}

/* The common case, a running run that goes on with its next step: nothing is read of it, and the fence,
 * the epoch and the revision stand in the one statement that writes the run.  False: it does not
 * fit, or something has changed; the long way says what. */
static bool goes_on(struct tx *tx, const struct advance *a, struct run *run, struct events *events,
                    enum err *e)
{
        const struct domain *domain = tx_context(tx);
        int64_t changed = 0;

        if (domain->now.cascading || !is_short(a))
                return false;
        *run = *a->known;
        events->tree = run->tree_id;
        for (size_t i = 0; i < a->n_steps; i++)
                add_events(tx, run, &a->steps[i], events);
        run->current_step = a->at;
        *e = tx_exec_one(tx, SQL_RUN_GO_ON, &changed, INT(a->run_id), INT(a->at), INT(run->steps), INT(run->epoch),
                         INT(a->revision), fence_arg(&a->fence), INT(lease_now(tx_context(tx))));
        if (!*e && !changed) {
                events->n = 0;
                return false;
        }
        run->revision++;
        if (!*e)
                *e = put_all(tx, a, 0);
        if (!*e)
                *e = events_append(tx, events);
        return true;
}

void run_advance_likely(const struct advance *a, struct likely out[LIKELY_MAX])
{
        const struct run *run = a->known;

        memset(out, 0, LIKELY_MAX * sizeof(*out));
        if (!run)
                return;
        *out++ = (struct likely){ SQL_EVENT_NEWEST, run->tree_id };
        if (is_short(a))
                return;
        *out++ = (struct likely){ SQL_RUN_GET, run->id };
        *out++ = (struct likely){ SQL_TASK_GET, run->kind == RUN_ROOT ? run->task_id : 0 };
}

enum err run_advance(struct tx *tx, const struct advance *a, struct run *run)
{
        struct events events = { .by = a->fence.by };
        struct task task;
        int64_t approval = 0;
        bool begun;
        enum err e;

        if (goes_on(tx, a, run, &events, &e))
                return e;
        e = run_load(tx, a->run_id, run);
        if (!e)
                e = run_check_fence(tx, run, &a->fence);
        if (!e && run->revision != a->revision)
                e = fail(tx_scope(tx), ERR_STALE_TOKEN, "the run has gone on without this worker");
        if (e)
                return e == ERR_EMPTY ? fail_missing(tx_scope(tx), "run") : e;
        events.tree = run->tree_id;
        begun = run->status == RUN_CLAIMED;
        if ((begun && run->kind == RUN_ROOT) || a->move == ADVANCE_CHILDREN)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (!e && begun) {
                run_begin(tx, run, &events);
                e = run_set_deadline(tx, run, a->timeout_seconds);
                if (!e && run->kind == RUN_ROOT)
                        e = task_project(tx, &task, RUN_RUNNING, &events);
        }
        run->current_step = a->at;
        if (!e && a->cancel_children)
                e = cancel_children(tx, run, "step_timed_out", &events);
        if (!e && a->cancel_children)
                e = approvals_close(tx, run->id);
        if (!e && a->move == ADVANCE_APPROVAL)
                e = ask(tx, a, run, &events, &approval);
        for (size_t i = 0; i < a->n_steps; i++)
                add_events(tx, run, &a->steps[i], &events);
        if (!e)
                e = put_all(tx, a, approval);
        if (!e)
                e = leave(tx, a, run, &task, begun, &events);
        return e ? e : events_append(tx, &events);
}

/* ---- reading ---- */

enum err steps_read(struct tx *tx, int64_t run, struct list *out)
{
        enum err e = tx_all(tx, SQL_STEP_LIST, out, INT(run));
        struct step *step = out->items;

        for (size_t i = 0; !e && i < out->n; i++)
                if (step[i].ended_at)
                        step[i].duration_ms = (step[i].ended_at - step[i].started_at) / 1000;
        return e;
}

/* The run and, as long as it is an inline branch, its parents: innermost last. */
static enum err read_frames(struct tx *tx, const struct run *run, struct snapshot *out)
{
        struct snapshot_frame reversed[SNAPSHOT_FRAMES];
        struct run at = *run;
        int n = 0;

        for (;;) {
                enum err e;

                reversed[n].run = at;
                e = at.revision || n ? steps_read(tx, at.id, &reversed[n].steps) : ERR_OK;
                if (!(at.revision || n))
                        reversed[n].steps = (struct list){ 0 };
                n++;
                if (e || !at.path.p || n == SNAPSHOT_FRAMES) {
                        out->n_frames = n;
                        for (int i = 0; i < n; i++)
                                out->frames[i] = reversed[n - 1 - i];
                        return e;
                }
                e = run_load(tx, reversed[n - 1].run.parent_run_id, &at);
                if (e)
                        return e;
        }
}

/* Whole, if all results fit together; else each gets its share, half of it for quotes that the
 * preview of a JSON text needs. */
static enum err read_children(struct tx *tx, int64_t run, int64_t step, struct list *out)
{
        int64_t sizes[2] = { 0 }, whole = JOINED_MAX, shown = 0;
        const struct arg args[] = { INT(run), INT(step) };
        enum err e = tx_numbers(tx, SQL_STEP_CHILDREN_SIZE, sizes, 2, args, LENGTH(args));

        if (!e && sizes[0] > 0 && sizes[1] + 300 * sizes[0] > JOINED_MAX) {
                whole = JOINED_MAX / sizes[0] - 300;
                shown = whole > 200 ? (whole - 100) / 2 : 0;
        }
        return e ? e :
                   tx_all(tx, SQL_STEP_CHILDREN, out, INT(run), INT(step), INT(whole), INT(shown));
}

enum err snapshot_read(struct tx *tx, struct run *run, struct task *task, struct snapshot *out)
{
        const struct step *steps;
        enum err e;

        *out = (struct snapshot){ .run = run, .task = task };
        e = read_frames(tx, run, out);
        if (e)
                return e;
        steps = out->frames[out->n_frames - 1].steps.items;
        for (size_t i = 0; i < out->frames[out->n_frames - 1].steps.n; i++) {
                if (steps[i].index != run->current_step || steps[i].status != STEP_WAITING)
                        continue;
                e = read_children(tx, run->id, steps[i].index, &out->children);
                if (!e && !out->children.n)
                        e = input_of_step(tx, run->id, steps[i].index, &out->input);
                if (!e && steps[i].approval_id) {
                        out->approval = arena_new(&tx_scope(tx)->arena, struct approval);
                        e = approval_load(tx, steps[i].approval_id, out->approval);
                }
        }
        return e;
}
