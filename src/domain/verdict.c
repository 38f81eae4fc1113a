#include "domain/verdict.h"

#include "domain/attempt.h"
#include "domain/audit.h"
#include "domain/cascade.h"
#include "domain/domain.h"
#include "domain/sql.h"
#include "json/json_in.h"

#define AT(member) offsetof(struct review, member)
#define REVIEW_ID { "review_id", FIELD_ID, FIELD_WIRE, AT(id), "review" }
/* What a continuation run is told of the rejection that it follows. */
static const struct field continuation_fields[] = {
        REVIEW_ID,
        { "reviewed_run_id", FIELD_ID, FIELD_WIRE, AT(run_id), "run" },
        { "review_round", FIELD_INT, FIELD_WIRE, AT(review_round) },
        { "outcome", FIELD_ENUM, FIELD_WIRE, AT(outcome), &verdict_outcome_names },
        { "continuation_reason", FIELD_STR, FIELD_WIRE, AT(verdict_reason) },
        { "missing_work", FIELD_JSON, FIELD_WIRE, AT(missing_work) },
        { "next_round_guidance", FIELD_STR, FIELD_WIRE, AT(next_round_guidance) },
};
static const struct record continuation_record = { "Continuation", continuation_fields,
                                                   LENGTH(continuation_fields), sizeof(struct review), -1 };

/* What run.review_recorded says. */
struct recorded {
        struct review review;
        bool circuit_opened;
};
static const struct field recorded_fields[] = {
        REVIEW_ID,
        { "outcome", FIELD_ENUM, FIELD_WIRE, AT(outcome), &verdict_outcome_names },
        { "confidence", FIELD_JSON, FIELD_WIRE, AT(confidence) },
        { "delivery_id", FIELD_STR, FIELD_WIRE, AT(delivery_id) },
        { "review_round", FIELD_INT, FIELD_WIRE, AT(review_round) },
        { "continuation_run_id", FIELD_ID, FIELD_WIRE, AT(continuation_run_id), "run" },
        { "no_continuation", FIELD_STR, FIELD_WIRE, AT(no_continuation) },
        { "circuit_opened", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct recorded, circuit_opened) },
};
static const struct record recorded_record = { "ReviewRecorded", recorded_fields, LENGTH(recorded_fields),
                                               sizeof(struct recorded), -1 };

/* ---- what may be said ---- */


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
                       review_check_given(tx, by, review);
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
        struct review told = *review;
        struct run next;
        const char *why;
        enum err e = no_continuation(tx, task, review, &why);

        if (e)
                return e;
        if (why) {
                review->no_continuation = str_from(why);
                return ERR_OK;
        }
        told.review_round++; /* of the run that follows */
        e = attempt_continue(tx, task, run, payload_of(tx, &continuation_record, &told), events, &next);
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
                e = review_ask(tx, run, &spec, verdict_outcome_names.text[review->outcome], domain->daemon.actor, events, &next);
        if (e || !review_is_open(&next))
                return e;
        *asked = true;
        return review_await(tx, task, &next, false);
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
                e = review_await(tx, &task, NULL, false);
        else if (review->outcome != VERDICT_REJECTED)
                e = ask_again(tx, &task, run, review, events, &asked);
        if (!e && !asked && review->outcome != VERDICT_APPROVED) {
                *circuit = true;
                e = review_await(tx, &task, review, true);
        }
        return e ? e : task_project(tx, &task, RUN_NONE, events);
}

enum err verdict_record(struct tx *tx, const struct principal *by, struct review *review,
                               const struct verdict *v)
{
        struct audit_change change = { .action = AUDIT_REVIEW_RECORDED,
                                       .resource = audit_id(tx, "review", review->id),
                                       .workspace = review->workspace_id,
                                       .detail = str_from(verdict_outcome_names.text[v->outcome]),
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
                   payload_of(tx, &recorded_record, &(struct recorded){ *review, circuit }));
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

enum err verdict_submit(struct tx *tx, const struct principal *by, int64_t id, const struct verdict *v,
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
                                    verdict_outcome_names.text[review->outcome]);
        } else {
                e = review_check_open(tx, review);
                if (!e)
                        e = run_load(tx, review->run_id, &run);
                if (!e)
                        e = may_judge(tx, by, review, &run);
                if (!e)
                        e = verdict_record(tx, by, review, v);
        }
        return e ? e : judged(tx, out);
}
