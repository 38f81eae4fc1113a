#include "domain/delivery.h"

#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "domain/event.h"
#include "domain/run.h"
#include "domain/secret.h"
#include "domain/sql.h"

enum {
        SPAN = 5000,         /* events that one look passes */
        CURSOR_STEP = 20000, /* events without a match after which the cursor is written */
        ERROR_SHOWN = 2000,
        BODY_MAX = PAYLOAD_MAX + 65536, /* with every escape there may be */
        RETURNED = 3,                   /* failed attempts that make the next success news */
        RETRY_AFTER_MAX = 86400,
        TRIM_ROWS = 500,
};

static const char *const statuses[] = { "pending", "delivered", "dead", NULL };
const struct names delivery_status_names = { statuses, NULL };

#define AT(member) offsetof(struct delivery, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field delivery_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "dlv" },
        { "webhook_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(webhook_id), "hook" },
        { "type", FIELD_ENUM, BOTH | FIELD_REQUIRED, AT(type), &event_names },
        { "tree_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(tree_id), "task" },
        { "sequence", FIELD_INT, BOTH | FIELD_REQUIRED, AT(sequence) },
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "run_id", FIELD_ID, BOTH, AT(run_id), "run" },
        { "body", FIELD_JSON, FIELD_COLUMN, AT(body) },
        { "status", FIELD_ENUM, BOTH, AT(status), &delivery_status_names },
        { "attempts", FIELD_INT, BOTH | FIELD_ALWAYS, AT(attempts) },
        { "next_attempt_at", FIELD_TIME, BOTH, AT(next_attempt_at) },
        { "response_status", FIELD_INT, BOTH, AT(response_status) },
        { "response", FIELD_STR, BOTH, AT(response) },
        { "error", FIELD_STR, BOTH, AT(error) },
        { "duration_ms", FIELD_INT, BOTH, AT(duration_ms) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "finished_at", FIELD_TIME, BOTH, AT(finished_at) },
};
const struct record delivery_record = { "Delivery", delivery_fields, LENGTH(delivery_fields),
                                        sizeof(struct delivery), -1 };

/* ---- the body ---- */

/* An event with what the hook points tell beside it. */
struct occurrence {
        int64_t pos;
        struct event event;
        struct str workspace_id, network_channel;
        int64_t definition_id;
        bool has_task;
        int task_status;
        int64_t attempt; /* 0 = there is no run */
        int run_status;
        struct str coordination_channel_id, session_id, claimed_by, idempotency_key, error;
};
#undef AT
#define AT(member) offsetof(struct occurrence, member)
static const struct field occurrence_fields[] = {
        { "pos", FIELD_INT, FIELD_COLUMN, AT(pos) },
        { "type", FIELD_ENUM, FIELD_COLUMN, AT(event.type), &event_names },
        { "timestamp", FIELD_TIME, FIELD_COLUMN, AT(event.timestamp) },
        { "has_task", FIELD_BOOL, FIELD_COLUMN, AT(has_task) },
        { "workspace_id", FIELD_NAME, BOTH, AT(workspace_id) },
        { "tree_id", FIELD_ID, BOTH, AT(event.tree_id), "task" },
        { "sequence", FIELD_INT, BOTH, AT(event.sequence) },
        { "task_id", FIELD_ID, BOTH, AT(event.task_id), "task" },
        { "run_id", FIELD_ID, BOTH, AT(event.run_id), "run" },
        { "actor", FIELD_ACTOR, BOTH, AT(event.actor) },
        { "origin", FIELD_ACTOR, BOTH, AT(event.origin) },
        { "payload", FIELD_JSON, BOTH, AT(event.payload) },
        /* If the task is there still. */
        { "task_status", FIELD_ENUM, BOTH, AT(task_status), &task_status_names },
        { "definition_id", FIELD_ID, BOTH, AT(definition_id), "def" },
        { "network_channel", FIELD_NAME, BOTH, AT(network_channel) },
        /* If there is a run. */
        { "attempt", FIELD_INT, BOTH, AT(attempt) },
        { "run_status", FIELD_ENUM, BOTH, AT(run_status), &run_status_names },
        { "coordination_channel_id", FIELD_NAME, BOTH, AT(coordination_channel_id) },
        { "session_id", FIELD_NAME, BOTH, AT(session_id) },
        { "claimed_by", FIELD_ACTOR, BOTH, AT(claimed_by) },
        { "idempotency_key", FIELD_STR, BOTH, AT(idempotency_key) },
        { "error", FIELD_STR, BOTH, AT(error) },
};
enum { RUN_FIELDS = 7, TASK_FIELDS = 3 };
const struct record occurrence_record = { "Occurrence", occurrence_fields,
                                          LENGTH(occurrence_fields), sizeof(struct occurrence),
                                          -1 };

/* Without the members of what is not there. */
static struct record shown(const struct occurrence *o)
{
        struct record r = occurrence_record;

        r.n -= o->attempt ? 0 : o->has_task ? RUN_FIELDS : RUN_FIELDS + TASK_FIELDS;
        return r;
}

static struct str body_of(struct arena *arena, struct occurrence *o)
{
        struct buf text = BUF_INIT(BODY_MAX);
        struct json_out j = { .out = &text };
        const char *hook = webhook_hook(o->event.type);
        bool omitted = o->event.payload.n > PAYLOAD_MAX;
        struct record members = shown(o);
        struct str copy;

        if (omitted)
                o->event.payload = STR_NONE;
        if (o->error.n > ERROR_SHOWN)
                o->error = str_whole(str_slice(o->error, 0, ERROR_SHOWN));
        json_begin_object(&j);
        json_key(&j, "type");
        json_put_text(&j, names_text(&event_names, o->event.type));
        json_key(&j, "timestamp");
        json_put_time(&j, o->event.timestamp);
        if (hook) {
                json_key(&j, "hook");
                json_put_text(&j, hook);
        }
        json_key(&j, "data");
        json_begin_object(&j);
        json_members(&j, &members, o);
        if (omitted) {
                json_key(&j, "payload_omitted");
                json_put_bool(&j, true);
        }
        json_end_object(&j);
        json_end_object(&j);
        BUG_ON(text.full);
        copy = str_dup(arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

/* ---- making them ---- */

static void deliveries_of(struct tx *tx, int64_t webhook, struct list occurrences, struct list *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct occurrence *o = occurrences.items;
        struct delivery *d = arena_array(arena, struct delivery, occurrences.n);

        for (size_t i = 0; i < occurrences.n; i++)
                d[i] = (struct delivery){ .webhook_id = webhook,
                                          .type = o[i].event.type,
                                          .tree_id = o[i].event.tree_id,
                                          .sequence = o[i].event.sequence,
                                          .task_id = o[i].event.task_id,
                                          .run_id = o[i].event.run_id,
                                          .body = body_of(arena, &o[i]) };
        *out = (struct list){ d, occurrences.n };
}

/* `most`: deliveries there is room for. */
static enum err find_for(struct tx *tx, const struct webhook *w, int64_t after, int64_t to, size_t most,
                         struct finding *out)
{
        struct type_set types = webhook_types(w);
        struct list occurrences;
        enum err e = tx_all(tx, SQL_WEBHOOK_EVENTS, &occurrences, NAME(w->workspace_id), INT(after), INT(to),
                            INT((int64_t)types.bits[0]), INT((int64_t)types.bits[1]), INT((int64_t)most));

        if (e)
                return e;
        if (occurrences.n == most)
                to = ((struct occurrence *)occurrences.items)[most - 1].pos;
        out->to = to;
        deliveries_of(tx, w->id, occurrences, &out->deliveries);
        return ERR_OK;
}

/* Up to where a webhook has nothing to be sent, beyond its cursor. */
struct lookout_place {
        int64_t webhook, upto;
};

void lookout_free(struct lookout *l)
{
        free(l->places);
        *l = (struct lookout){ 0 };
}

/* By what both begin with. */
static int by_id(const void *a, const void *b)
{
        const int64_t *p = a, *q = b;

        return (*p > *q) - (*p < *q);
}

static int64_t place_of(const struct lookout *l, const struct webhook *w)
{
        const struct lookout_place *place = NULL;

        if (l->n)
                place = bsearch(&w->id, l->places, l->n, sizeof(*place), by_id);
        return place && place->upto > w->cursor ? place->upto : w->cursor;
}

/* Where the newest events were deleted, their places are given again. */
static enum err check_memory(struct tx *tx, struct lookout *l)
{
        int64_t one;
        enum err e = tx_number(tx, SQL_EVENT_IS_AT, &one, INT(l->passed), INT(l->tree), INT(l->sequence));

        if (e == ERR_EMPTY) {
                l->passed = 0;
                l->n = 0;
        }
        return e == ERR_EMPTY ? ERR_OK : e;
}

/* From where the log is read for all: the first place of those who are not far behind, and are looked for alone. */
static int64_t first_place(const struct lookout *l, const struct list *open, int64_t end)
{
        const struct webhook *w = open->items;
        int64_t least = l->passed ? l->passed : end - 2 * CURSOR_STEP, first = INT64_MAX;

        for (size_t i = 0; i < open->n; i++) {
                int64_t place = place_of(l, &w[i]);

                if (place >= least && place < first)
                        first = place;
        }
        return first < INT64_MAX ? first : l->passed ? l->passed : end;
}

/* A piece of the log, up to what is `passed` then. */
struct piece {
        int64_t from;
        int64_t *concerned; /* webhooks in whose workspaces something happened, by id */
        size_t n;
};

/* The next one, read once for all. */
static enum err read_on(struct tx *tx, struct lookout *l, struct piece *piece)
{
        int64_t newest[] = { piece->from, l->tree, l->sequence };
        enum err e = tx_numbers(tx, SQL_EVENT_AFTER, newest, 3, ARGS(INT(piece->from), INT(SPAN)));

        if (e && e != ERR_EMPTY)
                return e;
        e = tx_number_rows(tx, SQL_WEBHOOK_CONCERNED, &piece->concerned, &piece->n, 1,
                           ARGS(INT(piece->from), INT(newest[0])));
        if (e)
                return e;
        l->passed = newest[0];
        l->tree = newest[1];
        l->sequence = newest[2];
        return ERR_OK;
}

/* Who is concerned, or behind the piece, is looked for alone, if there is room for a delivery. */
static enum err look_for(struct tx *tx, struct lookout *l, const struct piece *piece, const struct webhook *w,
                         size_t left, struct finding *out)
{
        int64_t upto = place_of(l, w), to = upto + SPAN < l->passed ? upto + SPAN : l->passed;

        *out = (struct finding){ .webhook = w->id, .from = w->cursor, .to = upto };
        if (upto >= piece->from && !bsearch(&w->id, piece->concerned, piece->n, sizeof(w->id), by_id)) {
                out->to = upto > l->passed ? upto : l->passed;
                return ERR_OK;
        }
        if (!left || upto >= to)
                return ERR_OK;
        l->last = w->id;
        return find_for(tx, w, upto, to, left, out);
}

static void remember(struct lookout *l, const struct lookout_place *places, size_t n)
{
        l->places = xrealloc(l->places, (n + 1) * sizeof(*places));
        if (n)
                memcpy(l->places, places, n * sizeof(*places));
        l->n = n;
        qsort(l->places, n, sizeof(*places), by_id);
}

enum err deliveries_find(struct tx *tx, struct lookout *l, struct list *findings)
{
        struct arena *arena = &tx_scope(tx)->arena;
        size_t left = DELIVERIES_PAGE, n = 0;
        struct piece piece;
        int64_t end;
        struct lookout_place *places;
        const struct webhook *w;
        struct finding *found;
        struct list open;
        enum err e = check_memory(tx, l);

        if (!e)
                e = tx_number(tx, SQL_EVENT_END, &end);
        if (!e)
                e = tx_all(tx, SQL_WEBHOOK_OPEN, &open, INT(end), INT(l->last),
                           INT(DELIVERIES_PENDING - DELIVERIES_PAGE));
        if (e)
                return e;
        *findings = (struct list){ 0 };
        l->more = false;
        if (!open.n) {
                l->passed = 0;
                return ERR_OK;
        }
        piece.from = first_place(l, &open, end);
        e = read_on(tx, l, &piece);
        l->more = l->passed < end;
        w = open.items;
        found = arena_array(arena, struct finding, open.n);
        places = arena_array(arena, struct lookout_place, open.n);
        for (size_t i = 0; !e && i < open.n; i++) {
                struct finding *f = &found[n];

                e = look_for(tx, l, &piece, &w[i], left, f);
                left -= f->deliveries.n;
                l->more |= !f->deliveries.n && left && f->to < l->passed;
                /* What is found is not passed before it is made. */
                places[i] = (struct lookout_place){ w[i].id, f->deliveries.n ? place_of(l, &w[i]) : f->to };
                /* A cursor that has passed nothing of interest is not worth a commit. */
                n += f->deliveries.n || f->to - f->from >= CURSOR_STEP;
        }
        if (e)
                return e;
        remember(l, places, open.n);
        *findings = (struct list){ found, n };
        return ERR_OK;
}

static enum err make(struct tx *tx, const struct finding *f)
{
        struct delivery *d = f->deliveries.items;
        int64_t moved = 0;
        enum err e = tx_exec_changed(tx, SQL_WEBHOOK_ADVANCE, &moved, INT(f->webhook), INT(f->from),
                                     INT(f->to));

        if (!e && moved)
                e = failpoint(tx_scope(tx), FAILPOINT_CURSOR_MOVED);
        for (size_t i = 0; !e && moved && i < f->deliveries.n; i++) {
                d[i].id = scope_id(tx_scope(tx));
                d[i].created_at = d[i].next_attempt_at = tx_now(tx);
                e = tx_insert(tx, SQL_DELIVERY_ADD, &d[i]);
        }
        return e;
}

enum err deliveries_make(struct tx *tx, struct list findings)
{
        const struct finding *f = findings.items;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < findings.n; i++)
                e = make(tx, &f[i]);
        return e;
}

/* ---- sending them ---- */

enum err deliveries_expected(struct tx *tx, int64_t *any)
{
        return tx_number(tx, SQL_WEBHOOK_ANY, any);
}

enum err deliveries_due(struct tx *tx, int each, int64_t **pairs, size_t *n)
{
        return tx_number_rows(tx, SQL_DELIVERY_DUE, pairs, n, 2, ARGS(INT(tx_now(tx)), INT(each)));
}

enum err delivery_prepare(struct tx *tx, int64_t id, struct posting *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        char text[ID_TEXT_SIZE];
        struct delivery d;
        struct webhook w;
        struct str key;
        enum err e = tx_one(tx, SQL_DELIVERY_GET, &d, INT(id));

        if (!e)
                e = tx_one(tx, SQL_WEBHOOK_GET, &w, INT(d.webhook_id));
        if (!e && (d.status != DELIVERY_PENDING || !w.enabled))
                e = ERR_EMPTY;
        if (e)
                return e;
        id_print("dlv", id, text);
        *out = (struct posting){ .delivery = id,
                                 .webhook = w.id,
                                 .attempts = d.attempts,
                                 .url = w.url,
                                 .id = str_dup(arena, str_from(text)),
                                 .timestamp = arena_printf(arena, "%lld",
                                                           (long long)(tx_now(tx) / US_PER_S)),
                                 .body = d.body };
        key = webhook_key(tx, &w);
        if (!key.p)
                return fail(tx_scope(tx), ERR_UNAVAILABLE,
                            "the webhook's secret does not open with this server's secret.key;"
                            " create the webhook anew");
        out->signature = webhook_signature(arena, key, out->id, out->timestamp, out->body);
        secret_wipe(key);
        return ERR_OK;
}

static int64_t next_attempt(struct tx *tx, const struct task_retry *policy, const struct sent *s)
{
        int64_t asked = s->retry_after_s < RETRY_AFTER_MAX ? s->retry_after_s : RETRY_AFTER_MAX;
        int64_t wait;
        uint32_t dice;

        scope_random(tx_scope(tx), &dice, sizeof(dice));
        wait = retry_delay_us(policy, s->attempts + 1, dice / 4294967296.0);
        return tx_now(tx) + (wait > asked * US_PER_S ? wait : asked * US_PER_S);
}

enum err delivery_sent(struct tx *tx, const struct task_retry *policy, struct sent *s)
{
        bool taken = s->status >= 200 && s->status < 300, gone = s->status == 410;
        int64_t changed = 0;
        enum err e;

        s->outcome = taken                                           ? DELIVERY_DELIVERED :
                     gone || s->attempts + 1 >= policy->max_attempts ? DELIVERY_DEAD :
                                                                       DELIVERY_PENDING;
        e = tx_exec_changed(tx, SQL_DELIVERY_SENT, &changed, INT(s->delivery), INT(s->attempts),
                            INT(s->outcome),
                            OPT(s->outcome == DELIVERY_PENDING ? next_attempt(tx, policy, s) : 0),
                            INT(s->status), TEXT(s->response), TEXT(s->error), INT(s->duration_ms),
                            OPT(s->outcome == DELIVERY_PENDING ? 0 : tx_now(tx)));
        if (!e && changed && gone)
                e = webhook_disable(tx, s->webhook, STR("the receiver answered 410 Gone"));
        if (!e && changed && taken && s->attempts >= RETURNED)
                e = tx_exec(tx, SQL_DELIVERY_HURRY, INT(s->webhook), INT(tx_now(tx)));
        return e;
}

/* ---- for people ---- */

enum err delivery_list(struct tx *tx, const struct principal *by, int64_t webhook, int status,
                       int64_t before, int limit, struct list *out)
{
        struct webhook w;
        enum err e = webhook_get(tx, by, webhook, &w);

        return e ? e :
                   tx_all(tx, SQL_DELIVERY_LIST, out, INT(webhook), INT(before), INT(status),
                          INT(limit));
}

enum err delivery_replay(struct tx *tx, const struct principal *by, int64_t webhook, int64_t id,
                         struct delivery *out)
{
        struct delivery d;
        struct webhook w;
        enum err e = webhook_get(tx, by, webhook, &w);

        if (!e)
                e = tx_one(tx, SQL_DELIVERY_GET, &d, INT(id));
        if (e == ERR_EMPTY || (!e && d.webhook_id != webhook))
                return fail_missing(tx_scope(tx), "delivery");
        if (e)
                return e;
        d.status = DELIVERY_PENDING;
        d.attempts = d.finished_at = 0;
        d.next_attempt_at = tx_now(tx);
        e = tx_exec(tx, SQL_DELIVERY_REPLAY, INT(id), INT(d.next_attempt_at));
        if (e)
                return e;
        tx_hint(tx, HINT_WEBHOOKS, webhook, 0);
        *out = d;
        return ERR_OK;
}

/* ---- retention ---- */

enum err deliveries_trim(struct tx *tx, int64_t ended_before, bool *more)
{
        int64_t old = 0, orphans = 0;
        enum err e =
                tx_exec_changed(tx, SQL_DELIVERY_TRIM, &old, INT(ended_before), INT(TRIM_ROWS));

        if (!e)
                e = tx_exec_changed(tx, SQL_DELIVERY_DROP, &orphans, INT(TRIM_ROWS));
        if (!e)
                e = tx_exec(tx, SQL_WEBHOOK_DROP);
        if (!e)
                e = tx_exec(tx, SQL_DELETED_TASK_TRIM);
        *more = !e && (old == TRIM_ROWS || orphans == TRIM_ROWS);
        return e;
}
