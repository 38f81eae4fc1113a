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

enum err request_reply(struct request *r, int status, const struct record *record, const void *value)
{
        r->status = status;
        r->reply = record;
        r->reply_value = value;
        return ERR_OK;
}

void request_put_page(struct request *r, struct json_out *j)
{
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
}

static void render_list(struct request *r, struct json_out *j)
{
        json_begin_object(j);
        request_put_page(r, j);
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

struct str request_query(struct request *r, const char *name)
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

enum err query_int(struct request *r, const char *name, int64_t min, int64_t max, int64_t *out)
{
        struct str text = request_query(r, name);
        int64_t value;

        if (!text.p)
                return ERR_OK;
        if (!str_to_int(text, &value) || value < min || value > max)
                return fail_field(&r->scope, name, ERR_VALIDATION,
                                  "%s must be a whole number from %lld to %lld", name,
                                  (long long)min, (long long)max);
        *out = value;
        return ERR_OK;
}

enum err query_flag(struct request *r, const char *name, bool *out)
{
        static const char *const texts[] = { "false", "true", NULL };
        static const struct alias aliases[] = { { "0", 0 }, { "1", 1 }, { NULL, 0 } };
        static const struct names names = { texts, aliases };
        int value = *out;
        enum err e = query_enum(r, name, &names, &value);

        *out = value != 0;
        return e;
}

enum err query_enum(struct request *r, const char *name, const struct names *names, int *out)
{
        struct str text = request_query(r, name);
        int value;

        if (!text.p)
                return ERR_OK;
        value = names_find(names, text);
        if (value < 0)
                return fail_field(&r->scope, name, ERR_VALIDATION, "%s must be " STR_FMT, name,
                                  STR_ARG(names_list(&r->scope.arena, names)));
        *out = value;
        return ERR_OK;
}

enum err query_id(struct request *r, const char *name, const char *prefix, int64_t *out)
{
        struct str text = request_query(r, name);

        if (!text.p || id_parse(prefix, text, out))
                return ERR_OK;
        return fail_field(&r->scope, name, ERR_VALIDATION,
                          "%s must be an id such as %s_0c5q8v2k7m1xa", name, prefix);
}

enum err query_time(struct request *r, const char *name, int64_t *out)
{
        struct str text = request_query(r, name);

        if (!text.p || time_parse(text, out))
                return ERR_OK;
        return fail_field(&r->scope, name, ERR_VALIDATION,
                          "%s must be an RFC 3339 time such as 2026-01-31T09:00:00Z", name);
}

enum err query_page(struct request *r, int *limit, int64_t *before)
{
        struct str cursor = request_query(r, "cursor");
        int64_t n = 50;
        enum err e = query_int(r, "limit", 1, 500, &n);

        *limit = (int)n;
        *before = 0;
        if (!e && cursor.n && !id_parse("cur", cursor, before))
                e = fail_field(&r->scope, "cursor", ERR_INVALID_CURSOR,
                               "cursor must be the next_cursor of an earlier page");
        return e;
}

struct fence request_fence(struct request *r, struct str body_token)
{
        return fence_of(&r->by, r->claim_token.n ? r->claim_token : body_token);
}
