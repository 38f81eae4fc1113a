#include "domain/event.h"

#include <string.h>

#include "core/attr.h"
#include "core/failpoint.h"
#include "domain/sql.h"

static const char *const type_names[] = {
        [0] = "",          [38] = "", [39] = "",
        [45 ... 59] = "",  [64 ... 89] = "", [93 ... 99] = "", [103 ... 104] = "",
#define EVENT(code, number, name) [number] = name,
#include "domain/event.def"
#undef EVENT
        NULL,
};
const struct names event_names = { type_names, NULL };

#define AT(member) offsetof(struct event, member)
static const struct field event_fields[] = {
        { "pos", FIELD_INT, FIELD_COLUMN, AT(pos) },
        { "sequence", FIELD_INT, FIELD_COLUMN | FIELD_WIRE | FIELD_ALWAYS, AT(sequence) },
        { "tree_id", FIELD_ID, FIELD_COLUMN | FIELD_WIRE, AT(tree_id), "task" },
        { "task_id", FIELD_ID, FIELD_COLUMN | FIELD_WIRE, AT(task_id), "task" },
        { "run_id", FIELD_ID, FIELD_COLUMN | FIELD_WIRE, AT(run_id), "run" },
        { "type", FIELD_ENUM, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(type), &event_names },
        { "actor", FIELD_ACTOR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(actor) },
        { "origin", FIELD_ACTOR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(origin) },
        { "payload", FIELD_JSON, FIELD_COLUMN | FIELD_WIRE, AT(payload) },
        { "timestamp", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(timestamp) },
};
const struct record event_record = { "Event", event_fields, LENGTH(event_fields),
                                     sizeof(struct event), -1 };

void events_add(struct tx *tx, struct events *events, enum event_type type, int64_t task,
               int64_t run, struct str payload)
{
        if (events->n == events->size) {
                struct event_row *old = events->rows;

                events->size = events->size ? events->size * 2 : 8;
                events->rows = arena_array(&tx_scope(tx)->arena, struct event_row, events->size);
                if (events->n)
                        memcpy(events->rows, old, events->n * sizeof(*old));
        }
        events->rows[events->n++] = (struct event_row){ type, task, run, payload };
}

/* 1, 2, 4 or 8 rows, numbered from `first`. */
static enum err add_rows(struct tx *tx, const struct events *events, const struct event_row *rows,
                         size_t n, int64_t first)
{
        static const enum sql statements[] = { [1] = SQL_EVENT_ADD,
                                               [2] = SQL_EVENT_ADD_2,
                                               [4] = SQL_EVENT_ADD_4,
                                               [8] = SQL_EVENT_ADD_8 };
        struct arg args[4 + 8 * 5] = { INT(events->tree), NAME(events->by->actor),
                                       NAME(events->by->origin), INT(tx_now(tx)) };
        struct arg *at = args + 4;

        for (size_t i = 0; i < n; i++) {
                *at++ = INT(first + (int64_t)i);
                *at++ = OPT(rows[i].task == events->tree ? 0 : rows[i].task);
                *at++ = OPT(rows[i].run);
                *at++ = INT(rows[i].type);
                *at++ = TEXT(rows[i].payload);
        }
        return tx_write(tx, statements[n], NULL, args, (size_t)(at - args));
}

enum err events_append(struct tx *tx, struct events *events)
{
        int64_t head = 0, last;
        enum err e = ERR_OK;

        if (!events->n)
                return ERR_OK;
        if (!events->new_tree)
                e = events_head(tx, events->tree, &head);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_EVENTS_NUMBERED);
        events->new_tree = false;
        events->last = last = head + (int64_t)events->n;
        for (size_t i = 0; !e && i < events->n;) {
                size_t n = events->n - i >= 8 ? 8 :
                           events->n - i >= 4 ? 4 :
                           events->n - i >= 2 ? 2 :
                                                1;

                e = add_rows(tx, events, &events->rows[i], n, last - (int64_t)(events->n - 1 - i));
                i += n;
        }
        if (!e)
                tx_hint(tx, HINT_TREE, events->tree, last);
        events->n = 0;
        return e;
}

struct str payload_of(struct tx *tx, const struct record *record, const void *value)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_record(&j, record, value);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

struct str payload_said(struct tx *tx, const char *key, struct str value, struct str metadata)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        if (value.p) {
                json_key(&j, key);
                json_put_str(&j, value);
        }
        if (metadata.p) {
                json_key(&j, "metadata");
                json_put_raw(&j, metadata);
        }
        json_end_object(&j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

struct str payload_change(struct tx *tx, const char *from, const char *to)
{
        return arena_printf(&tx_scope(tx)->arena, "{\"from\":\"%s\",\"to\":\"%s\"}", from, to);
}

enum err events_read(struct tx *tx, const struct event_page *p, struct list *out)
{
        enum err e = tx_all(tx, p->descending ? SQL_EVENT_PAGE_DESC : SQL_EVENT_PAGE, out,
                            INT(p->tree), INT(p->after), INT(p->task), INT(p->run), INT(p->type),
                            INT(p->limit), INT(p->before ? p->before : INT64_MAX));
        struct event *event = out->items;

        for (size_t i = 0; !e && i < out->n; i++)
                if (!event[i].payload.p)
                        event[i].payload = STR("{}");
        return e;
}

enum err events_head(struct tx *tx, int64_t tree, int64_t *seq)
{
        return tx_number(tx, SQL_EVENT_HEAD, seq, INT(tree));
}

enum err events_first(struct tx *tx, int64_t tree, int64_t *seq)
{
        return tx_number(tx, SQL_EVENT_FIRST, seq, INT(tree));
}
