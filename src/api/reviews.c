#include "api/request.h"
#include "domain/verdict.h"

/* ---- bodies ---- */

struct ask_body {
        struct review_spec spec;
        uint64_t given;
};
#define AT(member) offsetof(struct ask_body, spec.member)
static const struct field ask_fields[] = {
        { "policy", FIELD_ENUM, FIELD_WIRE, AT(policy), &review_policy_names },
        { "task_id", FIELD_ID, FIELD_WIRE, AT(task_id), "task" },
        { "review_round", FIELD_INT, FIELD_WIRE, AT(review_round), NULL, 1, REVIEW_NUMBER_MAX },
        { "attempt", FIELD_INT, FIELD_WIRE, AT(attempt), NULL, 1, REVIEW_NUMBER_MAX },
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason), NULL, 0, REVIEW_REASON_MAX },
        { "deadline_seconds", FIELD_INT, FIELD_WIRE, AT(deadline_seconds), NULL, 1, 86400 * 30 },
};
enum { GIVEN_POLICY = 1 };
static const struct record ask_body = { "ReviewRequest", ask_fields, LENGTH(ask_fields),
                                        sizeof(struct ask_body), offsetof(struct ask_body, given) };

struct bind_body {
        struct str session_id;
};
static const struct field bind_fields[] = {
        { "session_id", FIELD_STR, FIELD_WIRE, offsetof(struct bind_body, session_id), NULL, 1, 200 },
};
static const struct record bind_body = { "ReviewBind", bind_fields, LENGTH(bind_fields),
                                         sizeof(struct bind_body), -1 };

#undef AT
#define AT(member) offsetof(struct verdict, member)
enum { REQUIRED = FIELD_WIRE | FIELD_REQUIRED };
static const struct field verdict_fields[] = {
        { "run_id", FIELD_ID, FIELD_WIRE, AT(run_id), "run" },
        { "outcome", FIELD_ENUM, REQUIRED, AT(outcome), &verdict_outcome_names },
        { "confidence", FIELD_JSON, REQUIRED, AT(confidence), NULL, 0, 32, "0 to 1" },
        { "reason", FIELD_STR, REQUIRED, AT(reason), NULL, 1, REVIEW_REASON_MAX },
        { "delivery_id", FIELD_STR, REQUIRED, AT(delivery_id), NULL, 1, REVIEW_DELIVERY_MAX },
        { "missing_work", FIELD_JSON, FIELD_WIRE, AT(missing_work), NULL, 0, TEXT_MAX, "a list of texts" },
        { "next_round_guidance", FIELD_STR, FIELD_WIRE, AT(next_round_guidance), NULL, 0,
          REVIEW_GUIDANCE_MAX },
        { "review_text", FIELD_STR, FIELD_WIRE, AT(review_text), NULL, 0, TEXT_MAX },
};
static const struct record verdict_body = { "Verdict", verdict_fields, LENGTH(verdict_fields),
                                            sizeof(struct verdict), -1 };

/* ---- queries ---- */

struct review_query {
        struct paging page;
        struct review_filter filter;
};
#undef AT
#define AT(member) offsetof(struct review_query, filter.member)
#define NARROWED                                                                                   \
        PAGE_FIELDS(struct review_query),                                                          \
        { "status", FIELD_ENUM, FIELD_WIRE, AT(status), &review_status_names, .preset = -1 },      \
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id) }
static const struct field run_query_fields[] = { NARROWED };
static const struct field query_fields[] = {
        NARROWED,
        { "task_id", FIELD_ID, FIELD_WIRE, AT(task_id), "task" },
};
static const struct record run_query = { "ReviewsOfRunQuery", run_query_fields, LENGTH(run_query_fields),
                                         sizeof(struct review_query), -1 };
static const struct record review_query = { "ReviewQuery", query_fields, LENGTH(query_fields),
                                            sizeof(struct review_query), -1 };

/* ---- replies ---- */

struct asked {
        struct review *review;
        bool created;
};
static const struct field asked_fields[] = {
        { "review", FIELD_RECORD, FIELD_WIRE, offsetof(struct asked, review), &review_record },
        { "created", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct asked, created) },
};
static const struct record asked_record = { "ReviewRequested", asked_fields, LENGTH(asked_fields),
                                            sizeof(struct asked), -1 };

static const struct field judged_fields[] = {
        { "review", FIELD_RECORD, FIELD_WIRE, offsetof(struct judged, review), &review_record },
        { "continuation_run", FIELD_RECORD, FIELD_WIRE, offsetof(struct judged, continuation_run),
          &run_record },
        { "circuit_opened", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS,
          offsetof(struct judged, circuit_opened) },
};
static const struct record judged_record = { "Judged", judged_fields, LENGTH(judged_fields),
                                             sizeof(struct judged), -1 };

/* ---- handlers ---- */

static enum err post_review(struct request *r, struct tx *tx)
{
        const struct ask_body *b = r->body;
        struct review_spec spec = b->spec;
        struct asked *out = arena_new(&r->scope.arena, struct asked);
        int64_t run;
        enum err e = request_id(r, 0, "run", "run", &run);

        if (!(b->given & GIVEN_POLICY))
                spec.policy = REVIEW_ALWAYS;
        out->review = arena_new(&r->scope.arena, struct review);
        if (!e)
                e = review_request(tx, &r->by, run, &spec, out->review, &out->created);
        return e ? e : request_reply(r, out->created ? 201 : 200, &asked_record, out);
}

static enum err reply_page(struct request *r, struct tx *tx, struct review_filter *f,
                           const struct paging *page)
{
        struct list items;
        enum err e;

        f->before = page->before;
        f->limit = (int)page->limit + 1;
        e = review_list(tx, &r->by, f, &items);
        return e ? e :
                   request_reply_list(r, &review_record, items, (int)page->limit,
                                      offsetof(struct review, id));
}

static enum err list_run_reviews(struct request *r, struct tx *tx)
{
        const struct review_query *q = r->filter;
        struct review_filter f = q->filter;
        struct run run;
        enum err e = request_id(r, 0, "run", "run", &f.run_id);

        if (!e)
                e = run_get(tx, &r->by, f.run_id, &run);
        return e ? e : reply_page(r, tx, &f, &q->page);
}

static enum err list_reviews(struct request *r, struct tx *tx)
{
        const struct review_query *q = r->filter;
        struct review_filter f = q->filter;

        return reply_page(r, tx, &f, &q->page);
}

static enum err get_review(struct request *r, struct tx *tx)
{
        struct review *review = arena_new(&r->scope.arena, struct review);
        int64_t id;
        enum err e = request_id(r, 0, "review", "review", &id);

        if (!e)
                e = review_get(tx, &r->by, id, review);
        return e ? e : request_reply(r, 200, &review_record, review);
}

static enum err bind_review(struct request *r, struct tx *tx)
{
        const struct bind_body *b = r->body;
        struct review *review = arena_new(&r->scope.arena, struct review);
        int64_t id;
        enum err e = request_id(r, 0, "review", "review", &id);

        if (!e)
                e = review_bind(tx, &r->by, id, b->session_id, review);
        return e ? e : request_reply(r, 200, &review_record, review);
}

static enum err post_verdict(struct request *r, struct tx *tx)
{
        struct judged *out = arena_new(&r->scope.arena, struct judged);
        int64_t id;
        enum err e = request_id(r, 0, "review", "review", &id);

        if (!e)
                e = verdict_submit(tx, &r->by, id, r->body, out);
        if (e)
                return e;
        if (out->continuation_run)
                run_show(tx, out->continuation_run);
        return request_reply(r, 200, &judged_record, out);
}

const struct route review_routes[] = {
        { HTTP_POST, "/v1/runs/{run}/reviews", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES | ROUTE_OR_THERE, &ask_body, &asked_record, post_review, CALL_CREATE,
          "Ask for a review of a run" },
        { HTTP_GET, "/v1/runs/{run}/reviews", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &review_record, list_run_reviews, 0, "Reviews of a run", .filter = &run_query },
        { HTTP_GET, "/v1/reviews", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &review_record,
          list_reviews, 0, "List reviews", .filter = &review_query },
        { HTTP_GET, "/v1/reviews/{review}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL, &review_record,
          get_review, 0, "Get a review" },
        { HTTP_POST, "/v1/reviews/{review}/bind", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &bind_body, &review_record, bind_review, CALL_LEASE, "Take a review" },
        { HTTP_POST, "/v1/reviews/{review}/verdict", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT,
          &verdict_body, &judged_record, post_verdict, CALL_LEASE, "Judge a run" },
        { 0 },
};
