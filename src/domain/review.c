#include "domain/review.h"

#include "domain/cascade.h"
#include "domain/domain.h"
#include "domain/sql.h"
#include "json/json_in.h"

static const char *const statuses[] = { "requested", "in_review", "recorded", "canceled", NULL };
static const char *const outcomes[] = {
        [VERDICT_NONE] = "",           [VERDICT_APPROVED] = "approved",
        [VERDICT_REJECTED] = "rejected", [VERDICT_BLOCKED] = "blocked",
        [VERDICT_ERROR] = "error",     [VERDICT_TIMEOUT] = "timeout",
        [VERDICT_INVALID_OUTPUT] = "invalid_output", NULL,
};
const struct names review_status_names = { statuses, NULL };
const struct names verdict_outcome_names = { outcomes, NULL };

#define AT(member) offsetof(struct review, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field review_fields[] = {
        { "id", FIELD_ID, BOTH, AT(id), "review" },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "task_id", FIELD_ID, BOTH, AT(task_id), "task" },
        { "run_id", FIELD_ID, BOTH, AT(run_id), "run" },
        { "policy", FIELD_ENUM, BOTH, AT(policy), &review_policy_names },
        { "review_round", FIELD_INT, BOTH, AT(review_round) },
        { "attempt", FIELD_INT, BOTH, AT(attempt) },
        { "status", FIELD_ENUM, BOTH, AT(status), &review_status_names },
        { "reason", FIELD_STR, BOTH, AT(reason) },
        { "requested_by", FIELD_ACTOR, BOTH, AT(requested_by) },
        { "session_id", FIELD_NAME, BOTH, AT(session_id) },
        { "reviewer", FIELD_ACTOR, BOTH, AT(reviewer) },
        { "deadline_at", FIELD_TIME, BOTH, AT(deadline_at) },
        { "route_at", FIELD_TIME, FIELD_COLUMN, AT(route_at) },
        { "created_at", FIELD_TIME, BOTH, AT(created_at) },
        { "started_at", FIELD_TIME, BOTH, AT(started_at) },
        { "recorded_at", FIELD_TIME, BOTH, AT(recorded_at) },
        { "outcome", FIELD_ENUM, BOTH, AT(outcome), &verdict_outcome_names },
        { "confidence", FIELD_JSON, BOTH, AT(confidence) },
        { "verdict_reason", FIELD_STR, BOTH, AT(verdict_reason) },
        { "delivery_id", FIELD_STR, BOTH, AT(delivery_id) },
        { "missing_work", FIELD_JSON, BOTH, AT(missing_work) },
        { "next_round_guidance", FIELD_STR, BOTH, AT(next_round_guidance) },
        { "review_text", FIELD_STR, BOTH, AT(review_text) },
        { "continuation_run_id", FIELD_ID, BOTH, AT(continuation_run_id), "run" },
        { "no_continuation", FIELD_STR, BOTH, AT(no_continuation) },
};
const struct record review_record = { "Review", review_fields, LENGTH(review_fields),
                                      sizeof(struct review), -1 };

/* What events say of one. */
#define REVIEW_ID { "review_id", FIELD_ID, FIELD_WIRE, AT(id), "review" }
static const struct field requested_fields[] = {
        REVIEW_ID,
        { "policy", FIELD_ENUM, FIELD_WIRE, AT(policy), &review_policy_names },
        { "review_round", FIELD_INT, FIELD_WIRE, AT(review_round) },
        { "attempt", FIELD_INT, FIELD_WIRE, AT(attempt) },
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason) },
};
static const struct record requested_record = { "ReviewAsked", requested_fields, LENGTH(requested_fields),
                                                sizeof(struct review), -1 };
static const struct field bound_fields[] = {
        REVIEW_ID,
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id) },
        { "reviewer", FIELD_STR, FIELD_WIRE, AT(reviewer) },
};
static const struct record bound_record = { "ReviewBound", bound_fields, LENGTH(bound_fields),
                                            sizeof(struct review), -1 };

/* ---- asking ---- */

static enum err round_of(struct tx *tx, const struct run *run, int64_t *round)
{
        json_t *told;
        enum err e;

        *round = 1;
        if (!run->review.p)
                return ERR_OK;
        e = json_parse(tx_scope(tx), run->review, &told);
        if (e)
                return e;
        *round = json_integer_value(json_object_get(told, "review_round"));
        json_decref(told);
        return ERR_OK;
}

enum err review_of_continuation(struct tx *tx, const struct run *run, int64_t *review)
{
        json_t *told;
        enum err e = json_parse(tx_scope(tx), run->review, &told);

        if (e)
                return e;
        if (!id_parse("review", json_view(json_object_get(told, "review_id")), review))
                *review = 0;
        json_decref(told);
        return ERR_OK;
}

static bool policy_covers(int policy, int run_status)
{
        return policy == REVIEW_ALWAYS || (policy == REVIEW_ON_SUCCESS && run_status == RUN_COMPLETED) ||
               (policy == REVIEW_ON_FAILURE && run_status != RUN_COMPLETED);
}

/* reason: policy, asked, session_ended or how the attempt before it ended. */
static void tell_requested(struct tx *tx, const struct review *review, const char *reason,
                           struct events *events)
{
        struct review told = *review;

        told.reason = str_from(reason);
        events_add(tx, events, EVENT_RUN_REVIEW_REQUESTED, review->task_id, review->run_id,
                   payload_of(tx, &requested_record, &told));
}

enum err review_ask(struct tx *tx, const struct run *run, const struct review_spec *spec,
                    const char *why, struct str by, struct events *events, struct review *out)
{
        struct domain *domain = tx_context(tx);
        enum err e;

        *out = (struct review){ .id = scope_id(tx_scope(tx)),
                                .workspace_id = run->workspace_id,
                                .task_id = run->task_id,
                                .run_id = run->id,
                                .policy = spec->policy,
                                .review_round = spec->review_round,
                                .attempt = spec->attempt,
                                .reason = spec->reason,
                                .requested_by = by,
                                .deadline_at = tx_now(tx) + (spec->deadline_seconds ?
                                                                     spec->deadline_seconds * US_PER_S :
                                                                     domain->review_timeout),
                                .route_at = tx_now(tx),
                                .created_at = tx_now(tx) };
        e = tx_insert(tx, SQL_REVIEW_ADD, out);
        tell_requested(tx, out, why, events);
        return e;
}

enum err review_await(struct tx *tx, struct task *task, const struct review *review, bool circuit)
{
        task->review_id = review ? review->id : 0;
        task->review_round = review ? review->review_round : task->review_round;
        task->review_circuit_at = circuit ? tx_now(tx) : 0;
        return tx_exec(tx, SQL_TASK_REVIEW, INT(task->id), OPT(task->review_id),
                       INT(task->review_round), OPT(task->review_circuit_at));
}

enum err review_leave(struct tx *tx, struct task *task)
{
        enum err e = tx_exec(tx, SQL_REVIEW_CANCEL, INT(task->id), INT(tx_now(tx)));

        return e ? e : review_await(tx, task, NULL, false);
}

enum err review_of_ended(struct tx *tx, struct task *task, const struct run *run, struct events *events)
{
        struct domain *domain = tx_context(tx);
        struct review_spec spec = { .policy = task->review_policy, .attempt = 1 };
        struct review review;
        enum err e;

        /* Whoever cancels a run has judged it. */
        if (run->status == RUN_CANCELED || task->status == TASK_CANCELED ||
            !policy_covers(task->review_policy, run->status))
                return ERR_OK;
        e = round_of(tx, run, &spec.review_round);
        if (!e)
                e = review_ask(tx, run, &spec, "policy", domain->daemon.actor, events, &review);
        return e ? e : review_await(tx, task, &review, false);
}

static enum err may_ask(struct tx *tx, const struct run *run, const struct review_spec *spec)
{
        struct scope *scope = tx_scope(tx);

        if (spec->task_id && spec->task_id != run->task_id)
                return fail_field(scope, "task_id", ERR_VALIDATION, "the run is another task's");
        if (spec->policy == REVIEW_NONE)
                return fail_field(scope, "policy", ERR_VALIDATION,
                                  "policy must be on_success, on_failure or always");
        if (run->kind != RUN_ROOT)
                return fail(scope, ERR_INVALID_TRANSITION,
                            "a child run is judged with its task's root run");
        if (!run_is_terminal(run->status))
                return fail(scope, ERR_INVALID_TRANSITION, "the run is %s; it is judged when it has ended",
                            run_status_names.text[run->status]);
        if (!policy_covers(spec->policy, run->status))
                return fail_field(scope, "policy", ERR_INVALID_TRANSITION, "the run is %s, which %s does not cover",
                                  run_status_names.text[run->status], review_policy_names.text[spec->policy]);
        return ERR_OK;
}

enum err review_request(struct tx *tx, const struct principal *by, int64_t id,
                        const struct review_spec *given, struct review *out, bool *created)
{
        struct review_spec spec = *given;
        struct events events = { .by = by };
        struct task task;
        struct run run;
        enum err e = run_get(tx, by, id, &run);

        *created = false;
        if (!e)
                e = may_ask(tx, &run, &spec);
        if (!e && !spec.review_round)
                e = round_of(tx, &run, &spec.review_round);
        spec.attempt = spec.attempt ? spec.attempt : 1;
        if (!e)
                e = tx_one(tx, SQL_REVIEW_FIND, out, INT(id), INT(spec.review_round), INT(spec.attempt));
        if (e != ERR_EMPTY)
                return e;
        *created = true;
        events.tree = run.tree_id;
        e = review_ask(tx, &run, &spec, "asked", by->actor, &events, out);
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run.task_id));
        /* Where nobody came to a judgement of this run, the task waits for this one now. */
        if (!e && task.review_circuit_at && task.last_run_id == id) {
                e = review_await(tx, &task, out, false);
                if (!e)
                        e = task_project(tx, &task, RUN_NONE, &events);
        }
        return e ? e : events_append(tx, &events);
}

/* ---- reading ---- */

enum err review_get(struct tx *tx, const struct principal *by, int64_t id, struct review *out)
{
        struct review review;
        enum err e = tx_one(tx, SQL_REVIEW_GET, &review, INT(id));

        if (e == ERR_EMPTY || (!e && !by->all_workspaces && !str_eq(review.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "review");
        if (!e)
                *out = review;
        return e;
}

enum err review_list(struct tx *tx, const struct principal *by, const struct review_filter *f,
                     struct list *out)
{
        bool open = f->status == REVIEW_REQUESTED || f->status == REVIEW_IN_REVIEW;
        enum sql statement = f->run_id  ? SQL_REVIEW_LIST_RUN :
                             f->task_id ? SQL_REVIEW_LIST_TASK :
                             open       ? SQL_REVIEW_LIST_OPEN :
                                          SQL_REVIEW_LIST;

        return tx_all(tx, statement, out, NAME(by->workspace), INT(f->before ? f->before : INT64_MAX),
                      INT(f->status), NAME(f->session_id), INT(f->task_id), INT(f->run_id), INT(f->limit));
}

/* ---- who judges ---- */

static bool is_human(struct str actor)
{
        return str_starts(actor, "human:");
}

bool review_is_own_work(const struct run *run, struct str actor, struct str session)
{
        return (session.p && str_eq(run->session_id, session)) ||
               (!is_human(actor) && str_eq(run->claimed_by, actor));
}

enum err review_check_given(struct tx *tx, const struct principal *by, const struct review *review)
{
        if (review->status != REVIEW_IN_REVIEW || is_human(by->actor) ||
            (review->session_id.p ? str_eq(review->session_id, by->session_id) :
                                    str_eq(review->reviewer, by->actor)))
                return ERR_OK;
        return fail(tx_scope(tx), ERR_PERMISSION_DENIED, "the review was given to somebody else");
}

bool review_is_open(const struct review *review)
{
        return review->status == REVIEW_REQUESTED || review->status == REVIEW_IN_REVIEW;
}

/* What a cascade is going to cancel with its task is as good as canceled. */
enum err review_check_open(struct tx *tx, const struct review *review)
{
        int status = review->status;
        bool reached = false;
        struct task task;
        enum err e = review_is_open(review) ? cascade_reaches(tx, review->task_id, &reached) : ERR_OK;

        if (!e && reached)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(review->task_id));
        if (!e && reached && task.review_id)
                status = REVIEW_CANCELED;
        return e || status == REVIEW_REQUESTED || status == REVIEW_IN_REVIEW ?
                       e :
                       fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the review is %s", statuses[status]);
}

enum err review_give(struct tx *tx, const struct principal *by, struct review *review,
                     const struct run *run, struct str session, struct str reviewer)
{
        struct events events = { .by = by, .tree = run->tree_id };
        enum err e;

        review->status = REVIEW_IN_REVIEW;
        review->session_id = session;
        review->reviewer = reviewer;
        review->started_at = tx_now(tx);
        review->route_at = 0;
        e = tx_exec(tx, SQL_REVIEW_GIVE, INT(review->id), NAME(session), NAME(reviewer),
                    INT(review->started_at));
        if (e)
                return e;
        events_add(tx, &events, EVENT_RUN_REVIEW_BOUND, review->task_id, review->run_id,
                   payload_of(tx, &bound_record, review));
        return events_append(tx, &events);
}

enum err review_bind(struct tx *tx, const struct principal *by, int64_t id, struct str session,
                     struct review *review)
{
        bool own = !session.p || str_eq(session, by->session_id);
        struct scope *scope = tx_scope(tx);
        struct review other;
        struct str reviewer;
        struct run run;
        enum err e = review_get(tx, by, id, review);

        if (!e)
                e = review_check_open(tx, review);
        if (!e)
                e = run_load(tx, review->run_id, &run);
        if (e)
                return e;
        if (!own && !is_human(by->actor))
                return fail_field(scope, "session_id", ERR_PERMISSION_DENIED,
                                  "only a person gives a review to somebody else's session");
        session = own ? by->session_id : session;
        reviewer = own ? by->actor : arena_printf(&scope->arena, "agent_session:" STR_FMT, STR_ARG(session));
        if (review_is_own_work(&run, reviewer, session))
                return fail(scope, ERR_SELF_APPROVAL, "who did the work does not judge it");
        if ((e = review_check_given(tx, by, review)))
                return e;
        if (session.p) {
                e = tx_one(tx, SQL_REVIEW_OF_SESSION, &other, NAME(session), NAME(review->workspace_id));
                if (!e && other.id == id)
                        return ERR_OK;
                if (e != ERR_EMPTY)
                        return e ? e :
                                   fail_field(scope, "session_id", ERR_SESSION_BOUND,
                                              "the session has another review to finish first");
        }
        return review_give(tx, by, review, &run, session, reviewer);
}

enum err reviews_of_session(struct tx *tx, const struct principal *by, struct str session,
                            struct str workspace)
{
        struct list found;
        struct review *review;
        enum err e = tx_all(tx, SQL_REVIEW_OF_SESSION, &found, NAME(session), NAME(workspace));

        review = found.items;
        for (size_t i = 0; !e && i < found.n; i++) {
                struct events events = { .by = by };
                struct run run;

                e = run_load(tx, review[i].run_id, &run);
                events.tree = run.tree_id;
                if (!e)
                        e = tx_exec(tx, SQL_REVIEW_TAKE_BACK, INT(review[i].id), INT(tx_now(tx)));
                if (!e)
                        tell_requested(tx, &review[i], "session_ended", &events);
                if (!e)
                        e = events_append(tx, &events);
        }
        return e;
}
