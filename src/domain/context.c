#include "domain/context.h"

#include <string.h>

#include "domain/sql.h"
#include "json/json_in.h"

#define AT(member) offsetof(struct context_limits, member)
static const struct field limits_fields[] = {
        { "max_runtime_seconds", FIELD_INT, FIELD_WIRE, AT(max_runtime_seconds) },
        { "summary_max_bytes", FIELD_INT, FIELD_WIRE | FIELD_REQUIRED, AT(summary_max_bytes) },
        { "context_body_max_bytes", FIELD_INT, FIELD_WIRE | FIELD_REQUIRED, AT(context_body_max_bytes) },
};
static const struct record limits_record = { "ContextLimits", limits_fields, LENGTH(limits_fields),
                                             sizeof(struct context_limits), -1 };
#undef AT
#define AT(member) offsetof(struct review, member)
static const struct field told_fields[] = {
        { "review_id", FIELD_ID, FIELD_WIRE, AT(id), "review" },
        { "reviewed_run_id", FIELD_ID, FIELD_WIRE, AT(run_id), "run" },
        { "review_round", FIELD_INT, FIELD_WIRE, AT(review_round) },
        { "outcome", FIELD_ENUM, FIELD_WIRE, AT(outcome), &verdict_outcome_names },
        { "reason", FIELD_STR, FIELD_WIRE, AT(verdict_reason) },
        { "missing_work", FIELD_JSON, FIELD_WIRE, AT(missing_work) },
        { "next_round_guidance", FIELD_STR, FIELD_WIRE, AT(next_round_guidance) },
};
static const struct record told_record = { "ReviewTold", told_fields, LENGTH(told_fields),
                                           sizeof(struct review), -1 };
#undef AT
#define AT(member) offsetof(struct context, member)
enum { SHOWN = FIELD_WIRE | FIELD_ALWAYS };
static const struct field context_fields[] = {
        { "task", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(task), &task_view_record },
        { "current_run", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(current_run), &run_view_record },
        { "execution_profile", FIELD_RECORD, FIELD_WIRE, AT(profile), &profile_record },
        { "handoff_summary", FIELD_STR, FIELD_WIRE, AT(handoff_summary) },
        { "review_continuation", FIELD_RECORD, FIELD_WIRE, AT(review_continuation), &told_record },
        { "review_history", FIELD_LIST, FIELD_WIRE, AT(review_history), &told_record },
        { "prior_attempts", FIELD_LIST, SHOWN, AT(prior_attempts), &run_view_record },
        { "recent_events", FIELD_LIST, SHOWN, AT(recent_events), &event_record },
        { "limits", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(limits), &limits_record },
};
const struct record context_record = { "Context", context_fields, LENGTH(context_fields),
                                       sizeof(struct context), -1 };

/* ---- secrets ---- */

/* In either case.  agh_claim_ is what tasks that come from elsewhere call a claim token. */
static bool is_secret(struct str name)
{
        static const char *const names[] = { "claim_token",   "mcp_auth_token", "oauth_code",
                                             "pkce_verifier", "secret_binding", "secret_bindings" };

        for (size_t i = 0; i < LENGTH(names); i++)
                if (str_is(name, names[i]))
                        return true;
        return str_starts(name, "btk_") || str_starts(name, "agh_claim_") ||
               str_ends(name, "_secret");
}

static bool is_hex(char c)
{
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* Claim tokens in a text, told from other words by their eight digits and more. */
static struct str redact_text(struct arena *arena, struct str s)
{
        struct buf out = BUF_INIT(2 * s.n + 16);
        size_t from = 0;
        struct str clean;

        for (size_t at = 0; at + 12 <= s.n; at++) {
                size_t end = at + 4;

                if (memcmp(s.p + at, "btk_", 4) != 0)
                        continue;
                while (end < s.n && is_hex(s.p[end]))
                        end++;
                if (end - at < 12)
                        continue;
                buf_str(&out, str_slice(s, from, at));
                buf_text(&out, "btk_[REDACTED]");
                from = end;
                at = end - 1;
        }
        buf_str(&out, str_slice(s, from, s.n));
        clean = from ? str_dup(arena, buf_view(&out)) : s;
        buf_done(&out);
        return clean;
}

static void redact(struct scope *scope, json_t *value)
{
        struct str clean;
        const char *name;
        json_t *item;
        void *next;
        size_t i;

        json_object_foreach_safe(value, next, name, item) {
                if (is_secret(str_lower(&scope->arena, str_from(name))))
                        json_object_del(value, name);
                else
                        redact(scope, item);
        }
        json_array_foreach(value, i, item)
                redact(scope, item);
        if (!json_is_string(value))
                return;
        clean = redact_text(&scope->arena, json_view(value));
        if (clean.p != json_view(value).p)
                json_string_setn(value, clean.p, clean.n);
}

struct str redact_json(struct scope *scope, struct str json)
{
        struct str clean;
        json_t *value;

        if (json_parse(scope, json, &value))
                return STR("{}");
        redact(scope, value);
        clean = json_dump(&scope->arena, value);
        json_decref(value);
        return clean;
}

/* ---- size ---- */

static size_t size_of(const struct record *type, const void *item)
{
        struct buf text = BUF_INIT(64 << 20);
        struct json_out j = { .out = &text };
        size_t n;

        json_record(&j, type, item);
        n = text.full ? SIZE_MAX : text.n;
        buf_done(&text);
        return n;
}

/* Keeps the first ones of a list that fit beside what is there without it. */
static void keep(struct context *c, struct list *list, const struct record *type)
{
        const char *item = list->items;
        size_t all = list->n, used;

        list->n = 0;
        used = size_of(&context_record, c);
        while (list->n < all) {
                used += size_of(type, item + list->n * type->size) + (list->n > 0);
                if (used > CONTEXT_MAX)
                        return;
                list->n++;
        }
}

/* Halves a text until all fits, or nothing of it is left; the size that is reached. */
static size_t halve(struct context *c, struct str *text)
{
        size_t n;

        while ((n = size_of(&context_record, c)) > CONTEXT_MAX && text->n)
                *text = str_whole(str_slice(*text, 0, text->n / 2));
        return n;
}

/* Half of what a reviewer misses; false when nothing is left of it. */
static bool lose_missing(struct scope *scope, struct review *review)
{
        json_t *list;
        size_t n;

        if (!review->missing_work.p || json_parse(scope, review->missing_work, &list))
                return false;
        n = json_array_size(list);
        for (size_t i = n; i > n / 2; i--)
                json_array_remove(list, i - 1);
        review->missing_work = n > 1 ? json_dump(&scope->arena, list) : STR_NONE;
        json_decref(list);
        return true;
}

enum err context_fit(struct scope *scope, struct context *c)
{
        struct review none = { 0 }, *rejection = c->review_continuation ? c->review_continuation : &none;
        struct str *texts[] = { &c->handoff_summary, &rejection->next_round_guidance,
                                &rejection->verdict_reason };
        size_t n = 0;

        keep(c, &c->recent_events, &event_record);
        keep(c, &c->prior_attempts, &run_view_record);
        keep(c, &c->review_history, &told_record);
        for (size_t i = 0; i < LENGTH(texts); i++)
                n = halve(c, texts[i]);
        while (n > CONTEXT_MAX && lose_missing(scope, rejection))
                n = size_of(&context_record, c);
        if (n > CONTEXT_MAX && c->profile)
                n = halve(c, &c->profile->coordinator->guidance);
        return n <= CONTEXT_MAX ? ERR_OK :
                                  fail_limit(scope, "title", ERR_TOO_LARGE, CONTEXT_MAX, (int64_t)n,
                                             "bytes of a run's context; shorten the task's title,"
                                             " identifier, owner or capabilities");
}

/* ---- the whole ---- */

static void add_attempts(struct tx *tx, const struct list *runs, struct context *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct run_view *views = arena_array(arena, struct run_view, runs->n + 1);
        struct run *run = runs->items;

        for (size_t i = 0; i < runs->n; i++) {
                run[i].error = redact_text(arena, run[i].error);
                views[i] = run_view(tx, &run[i]);
        }
        out->prior_attempts = (struct list){ views, runs->n };
        /* At most half of what a summary may have. */
        if (runs->n && run[0].error.p)
                out->handoff_summary =
                        str_whole(str_slice(run[0].error, 0, CONTEXT_SUMMARY_MAX / 2));
}

static enum err add_profile(struct tx *tx, int64_t task, struct context *out)
{
        struct profile *p = arena_new(&tx_scope(tx)->arena, struct profile);
        enum err e = profile_of(tx, task, p);

        if (e || !p->created_at)
                return e;
        p->coordinator->guidance = redact_text(&tx_scope(tx)->arena, p->coordinator->guidance);
        out->profile = p;
        return ERR_OK;
}

static struct str shortened(struct arena *arena, struct str text, size_t most)
{
        return text.p ? str_whole(str_slice(redact_text(arena, text), 0, most)) : STR_NONE;
}

static struct str shortened_list(struct scope *scope, struct str json)
{
        json_t *list, *few = json_array(), *item;
        struct str text;
        size_t i;

        if (!json.p || json_parse(scope, json, &list))
                list = json_array();
        json_array_foreach(list, i, item)
                if (i < CONTEXT_MISSING) {
                        text = shortened(&scope->arena, json_view(item), CONTEXT_MISSING_MAX);
                        json_array_append_new(few, json_stringn(text.p, text.n));
                }
        text = json.p ? json_dump(&scope->arena, few) : STR_NONE;
        json_decref(few);
        json_decref(list);
        return text;
}

static void shorten(struct scope *scope, struct review *review)
{
        review->verdict_reason = shortened(&scope->arena, review->verdict_reason, CONTEXT_REASON_MAX);
        review->next_round_guidance =
                shortened(&scope->arena, review->next_round_guidance, CONTEXT_GUIDANCE_MAX);
        review->missing_work = shortened_list(scope, review->missing_work);
}

/* The reviews of the task, and among them the one that the run follows. */
static enum err add_reviews(struct tx *tx, const struct run *run, struct context *out)
{
        struct scope *scope = tx_scope(tx);
        struct review *review, *rejection;
        int64_t rejected = 0;
        enum err e = tx_all(tx, SQL_REVIEW_HISTORY, &out->review_history, INT(run->task_id),
                            INT(CONTEXT_REVIEWS));

        if (!e && run->review.p)
                e = review_of_continuation(tx, run, &rejected);
        review = out->review_history.items;
        for (size_t i = 0; !e && i < out->review_history.n; i++)
                shorten(scope, &review[i]);
        if (e || !rejected)
                return e;
        rejection = arena_new(&scope->arena, struct review);
        e = tx_one(tx, SQL_REVIEW_GET, rejection, INT(rejected));
        if (e)
                return e == ERR_EMPTY ? ERR_OK : e; /* retention has taken it */
        shorten(scope, rejection);
        out->review_continuation = rejection;
        if (rejection->next_round_guidance.n)
                out->handoff_summary = str_whole(
                        str_slice(rejection->next_round_guidance, 0, CONTEXT_SUMMARY_MAX / 2));
        return ERR_OK;
}

static enum err add_events(struct tx *tx, const struct task *task, struct context *out)
{
        enum err e = task_events(tx, task, CONTEXT_EVENTS, &out->recent_events);
        struct event *event = out->recent_events.items;

        for (size_t i = 0; !e && i < out->recent_events.n; i++)
                event[i].payload = redact_json(tx_scope(tx), event[i].payload);
        return e;
}

enum err run_context(struct tx *tx, const struct principal *by, int64_t id, struct context *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct run *run = arena_new(arena, struct run);
        struct list attempts = { 0 };
        struct task task = { 0 };
        enum err e = run_get(tx, by, id, run);

        if (!e && by->session_id.p && !str_eq(run->session_id, by->session_id))
                e = fail(tx_scope(tx), ERR_FOREIGN_RUN,
                         "a session is told the context of the run that it holds, of no other");
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (!e)
                e = tx_all(tx, SQL_RUN_EARLIER, &attempts, INT(task.id),
                           INT(run->kind == RUN_ROOT ? run->attempt : 0), INT(CONTEXT_ATTEMPTS));
        if (e)
                return e;
        *out = (struct context){ .task = arena_new(arena, struct task_view),
                                 .current_run = arena_new(arena, struct run_view),
                                 .limits = arena_new(arena, struct context_limits) };
        run->error = redact_text(arena, run->error);
        *out->current_run = run_view(tx, run);
        *out->limits =
                (struct context_limits){ task.timeout_seconds, CONTEXT_SUMMARY_MAX, CONTEXT_MAX };
        add_attempts(tx, &attempts, out);
        e = add_reviews(tx, run, out);
        if (!e)
                e = add_events(tx, &task, out);
        if (!e)
                e = add_profile(tx, task.id, out);
        if (!e)
                e = task_view(tx, &task, &out->recent_events, out->task);
        return e ? e : context_fit(tx_scope(tx), out);
}
