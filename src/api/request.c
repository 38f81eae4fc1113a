#include "api/request.h"

struct str request_listed(struct request *r, struct str json)
{
        struct buf text = BUF_INIT(16384);
        struct json_out j = { .out = &text };

        if (json.n <= LISTED_MAX)
                return json;
        json_begin_object(&j);
        json_key(&j, "preview");
        json_put_str(&j, str_whole(str_slice(json, 0, 1024)));
        json_key(&j, "truncated");
        json_put_bool(&j, true);
        json_end_object(&j);
        json = str_dup(&r->scope.arena, buf_view(&text));
        buf_done(&text);
        return json;
}

void request_show_runs(struct request *r, struct tx *tx, struct list runs)
{
        struct run *run = runs.items;

        for (size_t i = 0; i < runs.n; i++) {
                run_show(tx, &run[i]);
                run[i].result = request_listed(r, run[i].result);
                run[i].input = request_listed(r, run[i].input);
        }
}

static const struct field runs_filter_fields[] = {
        PAGE_FIELDS(struct runs_filter),
        { "status", FIELD_ENUM, FIELD_WIRE, offsetof(struct runs_filter, status), &run_status_names,
          .preset = -1 },
};
const struct record runs_filter_record = { "RunsFilter", runs_filter_fields,
                                           LENGTH(runs_filter_fields), sizeof(struct runs_filter),
                                           -1 };

enum err request_reply_runs(struct request *r, struct tx *tx, struct run_filter *f)
{
        const struct paging *page = r->filter;
        struct list items;
        enum err e;

        f->before = page->before;
        f->limit = (int)page->limit + 1;
        e = run_list(tx, &r->by, f, &items);
        if (e)
                return e;
        request_show_runs(r, tx, items);
        return request_reply_list(r, &run_record, items, (int)page->limit,
                                  offsetof(struct run, id));
}

enum err request_reply(struct request *r, int status, const struct record *record,
                       const void *value)
{
        r->status = status;
        r->reply = record;
        r->reply_value = value;
        return ERR_OK;
}

static void render_list(struct request *r, struct json_out *j)
{
        json_begin_object(j);
        json_key(j, "items");
        json_begin_list(j);
        for (size_t i = 0; i < r->items.n; i++)
                json_record(j, r->reply, (const char *)r->items.items + i * r->reply->size);
        json_end_list(j);
        json_key(j, "next_cursor");
        if (r->next_cursor)
                json_put_id(j, r->cursor_prefix ? r->cursor_prefix : "cur", r->next_cursor);
        else
                json_put_null(j);
        if (r->beside)
                json_members(j, r->route->beside, r->beside);
        json_end_object(j);
}

enum err request_reply_list(struct request *r, const struct record *record, struct list items,
                            int limit, size_t id_offset)
{
        r->status = 200;
        r->reply = record;
        r->render = render_list;
        r->next_cursor = 0;
        /* One more than the page was read: it only says that there is a next page. */
        if (items.n > (size_t)limit) {
                items.n = (size_t)limit;
                r->next_cursor = *(const int64_t *)(const void *)((const char *)items.items +
                                                                  (items.n - 1) * record->size +
                                                                  id_offset);
        }
        r->items = items;
        return ERR_OK;
}

static const struct field page_filter_fields[] = { PAGE_FIELDS(struct page_filter) };
const struct record page_filter_record = { "Page", page_filter_fields, LENGTH(page_filter_fields),
                                           sizeof(struct page_filter), -1 };

enum err request_reply_part(struct request *r, const struct record *record, struct list all)
{
        const struct paging *page = r->filter;
        size_t from = (size_t)page->before < all.n ? (size_t)page->before : all.n;
        size_t n = all.n - from < (size_t)page->limit ? all.n - from : (size_t)page->limit;

        r->status = 200;
        r->reply = record;
        r->render = render_list;
        r->items = (struct list){ (char *)all.items + from * record->size, n };
        r->next_cursor = from + n < all.n ? (int64_t)(from + n) : 0;
        return ERR_OK;
}

static void render_batch(struct request *r, struct json_out *j)
{
        const struct batch_item *item = r->items.items;

        json_begin_object(j);
        json_key(j, "items");
        json_begin_list(j);
        for (size_t i = 0; i < r->items.n; i++) {
                json_begin_object(j);
                json_key(j, "ok");
                json_put_bool(j, !item[i].result);
                if (item[i].run_id.p) {
                        json_key(j, "run_id");
                        json_put_str(j, item[i].run_id);
                }
                if (item[i].result) {
                        json_key(j, "error");
                        json_problem(j, &item[i].fault, STR_NONE);
                } else {
                        json_members(j, item[i].record, item[i].value);
                }
                json_end_object(j);
        }
        json_end_list(j);
        json_end_object(j);
}

enum err request_reply_batch(struct request *r, struct list items)
{
        r->status = 200;
        r->render = render_batch;
        r->items = items;
        return ERR_OK;
}

enum err request_id(struct request *r, int param, const char *prefix, const char *resource,
                    int64_t *out)
{
        return id_parse(prefix, r->params[param], out) ? ERR_OK : fail_missing(&r->scope, resource);
}

static int hex_digit(char c)
{
        return c >= '0' && c <= '9' ? c - '0' :
               c >= 'a' && c <= 'f' ? c - 'a' + 10 :
               c >= 'A' && c <= 'F' ? c - 'A' + 10 :
                                      -1;
}

static struct str percent_decode(struct arena *arena, struct str s)
{
        char *out = arena_alloc(arena, s.n + 1, 1);
        size_t n = 0;

        for (size_t i = 0; i < s.n; i++) {
                if (s.p[i] == '%' && i + 2 < s.n + 0 && hex_digit(s.p[i + 1]) >= 0 &&
                    hex_digit(s.p[i + 2]) >= 0) {
                        out[n++] = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
                        i += 2;
                } else {
                        out[n++] = s.p[i] == '+' ? ' ' : s.p[i];
                }
        }
        return (struct str){ out, n };
}

/* ---- the query ---- */

/* Of the first that has the name; absent if there is none. */
static struct str parameter(struct request *r, const char *name)
{
        struct str rest = r->query;

        while (rest.p && rest.n) {
                struct str value, pair = str_cut(rest, '&', &rest);
                struct str key = str_cut(pair, '=', &value);

                if (str_is(percent_decode(&r->scope.arena, key), name))
                        return percent_decode(&r->scope.arena, value.p ? value : STR(""));
        }
        return STR_NONE;
}

static const char *const flag_texts[] = { "false", "true", NULL };
static const struct alias flag_aliases[] = { { "0", 0 }, { "1", 1 }, { NULL, 0 } };
static const struct names flag_names = { flag_texts, flag_aliases };

/* NULL when the text was taken, else what it should be. */
static const char *take(struct request *r, const struct field *f, struct str text, void *base)
{
        struct arena *arena = &r->scope.arena;
        int64_t number;
        int found;

        switch (f->kind) {
        case FIELD_INT:
                if (!str_to_int(text, &number) || number < f->min || number > f->max)
                        return arena_printf(arena, "a whole number from %lld to %lld",
                                            (long long)f->min, (long long)f->max)
                                .p;
                *FIELD_AT(base, f, int64_t) = number;
                return NULL;
        case FIELD_BOOL:
                found = names_find(&flag_names, text);
                *FIELD_AT(base, f, bool) = found == 1;
                return found < 0 ? "true or false" : NULL;
        case FIELD_ENUM:
                found = names_find(f->type, text);
                if (found < 0)
                        return str_c(arena, names_list(arena, f->type));
                *FIELD_AT(base, f, int) = found;
                return NULL;
        case FIELD_ID:
                return id_parse(f->type, text, FIELD_AT(base, f, int64_t)) ?
                               NULL :
                               arena_printf(arena, "an id such as %s_0c5q8v2k7m1xa",
                                            (const char *)f->type)
                                       .p;
        case FIELD_TIME:
                return time_parse(text, FIELD_AT(base, f, int64_t)) ?
                               NULL :
                               "an RFC 3339 time such as 2026-01-31T09:00:00Z";
        case FIELD_STR:
                *FIELD_AT(base, f, struct str) = text;
                return NULL;
        case FIELD_SET:
        case FIELD_JSON:
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS:
        case FIELD_BYTES:
        case FIELD_RECORD:
        case FIELD_LIST:
                break;
        }
        BUG_ON(true);
        return NULL;
}

static enum err read_parameter(struct request *r, const struct field *f, void *base)
{
        struct str text = parameter(r, f->name);
        bool cursor = f->flags & FIELD_CURSOR;
        const char *expected;

        if (f->kind == FIELD_INT)
                *FIELD_AT(base, f, int64_t) = f->preset;
        if (f->kind == FIELD_ENUM)
                *FIELD_AT(base, f, int) = (int)f->preset;
        /* An empty cursor is none. */
        if (!text.p || (cursor && !text.n))
                return ERR_OK;
        expected = take(r, f, text, base);
        if (!expected)
                return ERR_OK;
        return fail_field(&r->scope, f->name, cursor ? ERR_INVALID_CURSOR : ERR_VALIDATION,
                          "%s must be %s", f->name, cursor ? f->doc : expected);
}

enum err request_read_query(struct request *r)
{
        const struct record *record = r->route->filter;
        enum err e = ERR_OK;

        if (!record)
                return ERR_OK;
        r->filter = arena_alloc(&r->scope.arena, record->size, 16);
        for (size_t i = 0; !e && i < record->n; i++)
                e = read_parameter(r, &record->fields[i], r->filter);
        return e;
}

/* ---- headers ---- */

bool request_media_is(const struct request *r, const char *type)
{
        struct str rest;

        return str_is_nocase(str_trim(str_cut(r->content_type, ';', &rest)), type);
}

#define AT(member) offsetof(struct request, member)
const struct request_header request_headers[REQUEST_HEADERS] = {
        { "X-Workspace-ID", 0, false, AT(workspace_header), 0,
          "which workspace, by id or slug, when the key sees several" },
        { "Idempotency-Key", ROUTE_IDEMPOTENT, false, AT(idempotency_key), 200,
          "sent again with the same body, the call is done once and answered the same" },
        { "X-Claim-Token", ROUTE_HOLDER, false, AT(claim_token), 0,
          "instead of claim_token in the body" },
        { "If-Match", ROUTE_IF_MATCH, true, AT(if_match), 0,
          "the version that is changed, in quotes" },
        { "Last-Event-ID", ROUTE_STREAM, false, AT(last_event_id), 0,
          "go on behind this event; wins over the query" },
};
#undef AT

bool route_reads(const struct route *route, const struct request_header *header)
{
        return header->flags ? route->flags & header->flags : route->mode != ROUTE_OPEN;
}

struct fence request_fence(struct request *r, struct str body_token)
{
        return fence_of(&r->by, r->claim_token.n ? r->claim_token : body_token);
}
