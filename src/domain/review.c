#include "domain/review.h"

#include "domain/attempt.h"
#include "domain/audit.h"
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

/* A JSON object with the review's id, to be gone on with. */
struct writing {
        struct buf text;
        struct json_out j;
};

static struct json_out *write_begin(struct writing *w, const struct review *review)
{
        *w = (struct writing){ .text = BUF_INIT(1 << 20) };
        w->j.out = &w->text;
        json_begin_object(&w->j);
        json_key(&w->j, "review_id");
        json_put_id(&w->j, "review", review->id);
        return &w->j;
}

static void write_text(struct json_out *j, const char *key, struct str text)
{
        if (!text.p)
                return;
        json_key(j, key);
        json_put_str(j, text);
}

static void write_number(struct json_out *j, const char *key, int64_t number)
{
        json_key(j, key);
        json_put_int(j, number);
}

static void write_run(struct json_out *j, const char *key, int64_t run)
{
        json_key(j, key);
        json_put_id(j, "run", run);
}

static struct str write_end(struct tx *tx, struct writing *w)
{
        struct str copy;

        json_end_object(&w->j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&w->text));
        buf_done(&w->text);
        return copy;
}

/* ---- asking ---- */

/* What a continuation run is told; its round is the one after that of the rejected run. */
static struct str continuation_text(struct tx *tx, const struct review *review)
{
        struct writing w;
        struct json_out *j = write_begin(&w, review);

        write_run(j, "reviewed_run_id", review->run_id);
        write_number(j, "review_round", review->review_round + 1);
        write_text(j, "outcome", str_from(outcomes[review->outcome]));
        write_text(j, "continuation_reason", review->verdict_reason);
        if (review->missing_work.p) {
                json_key(j, "missing_work");
                json_put_raw(j, review->missing_work);
        }
        write_text(j, "next_round_guidance", review->next_round_guidance);
        return write_end(tx, &w);
}

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
        struct writing w;
        struct json_out *j = write_begin(&w, review);

        write_text(j, "policy", str_from(review_policy_names.text[review->policy]));
        write_number(j, "review_round", review->review_round);
        write_number(j, "attempt", review->attempt);
        write_text(j, "reason", str_from(reason));
        events_add(tx, events, EVENT_RUN_REVIEW_REQUESTED, review->task_id, review->run_id,
                   write_end(tx, &w));
}

static enum err ask(struct tx *tx, const struct run *run, const struct review_spec *spec,
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

/* The task waits for this review, or for none (NULL); or, with the circuit open, for a person. */
static enum err task_waits(struct tx *tx, struct task *task, const struct review *review, bool circuit)
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

        return e ? e : task_waits(tx, task, NULL, false);
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
                e = ask(tx, run, &spec, "policy", domain->daemon.actor, events, &review);
        return e ? e : task_waits(tx, task, &review, false);
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
        e = ask(tx, &run, &spec, "asked", by->actor, &events, out);
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run.task_id));
        /* Where nobody came to a judgement of this run, the task waits for this one now. */
        if (!e && task.review_circuit_at && task.last_run_id == id) {
                e = task_waits(tx, &task, out, false);
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

/* A person may step in wherever something was given to another. */
static enum err check_given(struct tx *tx, const struct principal *by, const struct review *review)
{
        if (review->status != REVIEW_IN_REVIEW || is_human(by->actor) ||
            (review->session_id.p ? str_eq(review->session_id, by->session_id) :
                                    str_eq(review->reviewer, by->actor)))
                return ERR_OK;
        return fail(tx_scope(tx), ERR_PERMISSION_DENIED, "the review was given to somebody else");
}

static bool is_open(const struct review *review)
{
        return review->status == REVIEW_REQUESTED || review->status == REVIEW_IN_REVIEW;
}

/* What a cascade is going to cancel with its task is as good as canceled. */
static enum err check_open(struct tx *tx, const struct review *review)
{
        int status = review->status;
        bool reached = false;
        struct task task;
        enum err e = is_open(review) ? cascade_reaches(tx, review->task_id, &reached) : ERR_OK;

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
        struct writing w;
        struct json_out *j;
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
        j = write_begin(&w, review);
        write_text(j, "session_id", session);
        write_text(j, "reviewer", reviewer);
        events_add(tx, &events, EVENT_RUN_REVIEW_BOUND, review->task_id, review->run_id,
                   write_end(tx, &w));
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
                e = check_open(tx, review);
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
        if ((e = check_given(tx, by, review)))
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

/* ---- verdicts ---- */

static enum err check_missing_work(struct scope *scope, struct str text, size_t *n)
{
        json_t *list, *item;
        size_t i;
        enum err e = json_parse(scope, text, &list);

        if (e)
                return e;
        if (!json_is_array(list))
                e = fail_field(scope, "missing_work", ERR_VALIDATION, "missing_work must be a list of texts");
        *n = json_array_size(list);
        json_array_foreach(list, i, item)
                if (!e && (!json_is_string(item) || !str_trim(json_view(item)).n))
                        e = fail_field(scope, "missing_work", ERR_VALIDATION,
                                       "missing_work must be a list of texts that are not blank");
        json_decref(list);
        return e;
}

static bool is_share(struct scope *scope, struct str text)
{
        json_t *number;
        bool ok;

        if (json_parse(scope, text, &number))
                return false;
        ok = json_is_number(number) && json_number_value(number) >= 0 && json_number_value(number) <= 1;
        json_decref(number);
        return ok;
}

static enum err check(struct scope *scope, const struct verdict *v)
{
        size_t missing = 0;
        enum err e = v->missing_work.p ? check_missing_work(scope, v->missing_work, &missing) : ERR_OK;

        if (e)
                return e;
        if (!is_share(scope, v->confidence))
                return fail_field(scope, "confidence", ERR_VALIDATION, "confidence must be a number from 0 to 1");
        if (!str_trim(v->reason).n)
                return fail_field(scope, "reason", ERR_VALIDATION, "say why");
        if (!str_trim(v->delivery_id).n)
                return fail_field(scope, "delivery_id", ERR_VALIDATION, "delivery_id must not be blank");
        if (v->outcome == VERDICT_APPROVED && missing)
                return fail_field(scope, "missing_work", ERR_VALIDATION,
                                  "what is approved misses nothing");
        if (v->outcome == VERDICT_REJECTED && !missing && !str_trim(v->next_round_guidance).n)
                return fail_field(scope, "missing_work", ERR_VALIDATION,
                                  "a rejection says what is missing: missing_work or next_round_guidance");
        return ERR_OK;
}

static bool is_repeat(const struct review *review, const struct principal *by, const struct verdict *v)
{
        return str_eq(review->delivery_id, v->delivery_id) && str_eq(review->reviewer, by->actor) &&
               review->outcome == v->outcome && str_eq(review->confidence, v->confidence) &&
               str_eq(review->verdict_reason, v->reason) &&
               str_eq(review->missing_work, v->missing_work) &&
               str_eq(review->next_round_guidance, v->next_round_guidance) &&
               str_eq(review->review_text, v->review_text);
}

static enum err may_judge(struct tx *tx, const struct principal *by, const struct review *review,
                          const struct run *run)
{
        return review_is_own_work(run, by->actor, by->session_id) ?
                       fail(tx_scope(tx), ERR_SELF_APPROVAL, "who did the work does not judge it") :
                       check_given(tx, by, review);
}

/* Why a rejected run has no successor; NULL: it may have one. */
static enum err no_continuation(struct tx *tx, const struct task *task, const struct review *review,
                                const char **why)
{
        struct run open;
        int64_t ended = 0;
        bool canceled = false, reached = false;
        enum err e = attempt_open(tx, task->id, &open);

        if (!e)
                e = task_look_above(tx, task, &canceled);
        if (!e)
                e = cascade_reaches(tx, task->id, &reached);
        if (!e)
                e = tx_number(tx, SQL_REVIEW_RAPID, &ended, INT(task->id), INT(tx_now(tx) - REVIEW_RAPID));
        *why = canceled || reached                      ? "task_canceled" :
               open.status != RUN_NONE                  ? "open_run" :
               task->last_run_id != review->run_id      ? "newer_run" :
               task->attempts >= task->max_attempts     ? "attempts_exhausted" :
               review->review_round >= REVIEW_ROUNDS_MAX ? "rounds_exhausted" :
               ended >= REVIEW_RAPID_RUNS               ? "rapid_ends" :
                                                          NULL;
        return e;
}

static enum err continue_task(struct tx *tx, struct task *task, const struct run *run,
                              struct review *review, struct events *events)
{
        struct run next;
        const char *why;
        enum err e = no_continuation(tx, task, review, &why);

        if (e)
                return e;
        if (why) {
                review->no_continuation = str_from(why);
                return ERR_OK;
        }
        e = attempt_continue(tx, task, run, continuation_text(tx, review), events, &next);
        if (!e)
                review->continuation_run_id = next.id;
        return e;
}

/* Once more, by somebody else; *asked is false when that was the last time. */
static enum err ask_again(struct tx *tx, struct task *task, const struct run *run,
                          const struct review *review, struct events *events, bool *asked)
{
        struct domain *domain = tx_context(tx);
        const struct review_spec spec = { .policy = review->policy,
                                          .review_round = review->review_round,
                                          .attempt = review->attempt + 1 };
        struct review next;
        enum err e;

        *asked = false;
        if (review->outcome == VERDICT_BLOCKED || spec.attempt > REVIEW_ATTEMPTS_MAX)
                return ERR_OK;
        e = tx_one(tx, SQL_REVIEW_FIND, &next, INT(run->id), INT(spec.review_round), INT(spec.attempt));
        if (e == ERR_EMPTY)
                e = ask(tx, run, &spec, outcomes[review->outcome], domain->daemon.actor, events, &next);
        if (e || !is_open(&next))
                return e;
        *asked = true;
        return task_waits(tx, task, &next, false);
}

/* What follows: for the task, if it waits for this review; a rejection is followed up in any case. */
static enum err conclude(struct tx *tx, struct review *review, const struct run *run,
                         struct events *events, bool *circuit)
{
        struct task task;
        bool asked = false;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(review->task_id));

        *circuit = false;
        if (!e && review->outcome == VERDICT_REJECTED)
                e = continue_task(tx, &task, run, review, events);
        if (e || review->continuation_run_id || task.review_id != review->id)
                return e;
        if (review->outcome == VERDICT_APPROVED)
                e = task_waits(tx, &task, NULL, false);
        else if (review->outcome != VERDICT_REJECTED)
                e = ask_again(tx, &task, run, review, events, &asked);
        if (!e && !asked && review->outcome != VERDICT_APPROVED) {
                *circuit = true;
                e = task_waits(tx, &task, review, true);
        }
        return e ? e : task_project(tx, &task, RUN_NONE, events);
}

static struct str recorded_payload(struct tx *tx, const struct review *review, bool circuit)
{
        struct writing w;
        struct json_out *j = write_begin(&w, review);

        write_text(j, "outcome", str_from(outcomes[review->outcome]));
        json_key(j, "confidence");
        json_put_raw(j, review->confidence);
        write_text(j, "delivery_id", review->delivery_id);
        write_number(j, "review_round", review->review_round);
        if (review->continuation_run_id)
                write_run(j, "continuation_run_id", review->continuation_run_id);
        write_text(j, "no_continuation", review->no_continuation);
        json_key(j, "circuit_opened");
        json_put_bool(j, circuit);
        return write_end(tx, &w);
}

enum err review_record_verdict(struct tx *tx, const struct principal *by, struct review *review,
                               const struct verdict *v)
{
        struct audit_change change = { .action = AUDIT_REVIEW_RECORDED,
                                       .resource = audit_id(tx, "review", review->id),
                                       .workspace = review->workspace_id,
                                       .detail = str_from(outcomes[v->outcome]),
                                       .before = audit_digest(tx, &review_record, review) };
        struct events events = { .by = by };
        int64_t changed = 0;
        bool circuit = false;
        struct run run;
        enum err e = run_load(tx, review->run_id, &run);

        if (e)
                return e;
        events.tree = run.tree_id;
        review->status = REVIEW_RECORDED;
        review->reviewer = by->actor;
        review->route_at = 0;
        review->recorded_at = tx_now(tx);
        review->outcome = v->outcome;
        review->confidence = v->confidence;
        review->verdict_reason = v->reason;
        review->delivery_id = v->delivery_id;
        review->missing_work = v->missing_work;
        review->next_round_guidance = v->next_round_guidance;
        review->review_text = v->review_text;
        e = tx_exec_changed(tx, SQL_REVIEW_RECORD, &changed, INT(review->id), NAME(review->reviewer),
                            INT(review->recorded_at), INT(review->outcome), TEXT(review->confidence),
                            TEXT(review->verdict_reason), TEXT(review->delivery_id),
                            TEXT(review->missing_work), TEXT(review->next_round_guidance),
                            TEXT(review->review_text));
        if (!e && !changed)
                e = fail(tx_scope(tx), ERR_CONFLICT, "the review has another verdict already");
        if (!e)
                e = conclude(tx, review, &run, &events, &circuit);
        if (!e && review->outcome == VERDICT_REJECTED)
                e = tx_exec(tx, SQL_REVIEW_FOLLOWED, INT(review->id), OPT(review->continuation_run_id),
                            TEXT(review->no_continuation));
        if (e)
                return e;
        events_add(tx, &events, EVENT_RUN_REVIEW_RECORDED, review->task_id, review->run_id,
                   recorded_payload(tx, review, circuit));
        e = events_append(tx, &events);
        change.after = audit_digest(tx, &review_record, review);
        return e ? e : audit_append(tx, by, &change);
}

/* What followed, read from the rows: a delivery that is repeated is told the same. */
static enum err judged(struct tx *tx, struct judged *out)
{
        struct review *review = out->review;
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(review->task_id));

        if (e)
                return e;
        out->circuit_opened = task.review_circuit_at && task.review_id == review->id;
        if (!review->continuation_run_id)
                return ERR_OK;
        out->continuation_run = arena_new(&tx_scope(tx)->arena, struct run);
        return run_load(tx, review->continuation_run_id, out->continuation_run);
}

enum err review_submit(struct tx *tx, const struct principal *by, int64_t id, const struct verdict *v,
                       struct judged *out)
{
        struct scope *scope = tx_scope(tx);
        struct review *review = arena_new(&scope->arena, struct review);
        struct run run;
        enum err e = review_get(tx, by, id, review);

        *out = (struct judged){ .review = review };
        if (!e)
                e = check(scope, v);
        if (!e && v->run_id && v->run_id != review->run_id)
                e = fail_field(scope, "run_id", ERR_VALIDATION, "the review is another run's");
        if (e)
                return e;
        if (review->status == REVIEW_RECORDED) {
                if (!is_repeat(review, by, v))
                        return fail(scope, ERR_CONFLICT, "the review has another verdict already: %s",
                                    outcomes[review->outcome]);
        } else {
                e = check_open(tx, review);
                if (!e)
                        e = run_load(tx, review->run_id, &run);
                if (!e)
                        e = may_judge(tx, by, review, &run);
                if (!e)
                        e = review_record_verdict(tx, by, review, v);
        }
        return e ? e : judged(tx, out);
}
