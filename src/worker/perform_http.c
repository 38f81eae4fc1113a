/* http_request: one request to a server outside, within the egress rules. */
#include <string.h>

#include "core/utf8.h"
#include "http/fetch.h"
#include "worker/performer.h"

enum { HTTP_SECONDS = 60, BODY_KEPT = 500000, HEADERS_MAX = 202 };

struct headers {
        struct fetch_header items[HEADERS_MAX];
        size_t n;
};

static enum err add(struct slot *s, struct headers *h, struct str name, struct str value)
{
        BUG_ON(h->n == HEADERS_MAX);
        if (!fetch_header_is_valid(name, value))
                return fail(&s->scope, ERR_VALIDATION,
                            "headers: \"" STR_FMT "\" cannot be set, or its value is not one line",
                            STR_ARG(name));
        h->items[h->n++] = (struct fetch_header){ name, value };
        return ERR_OK;
}

static enum err add_all(struct slot *s, struct headers *h, struct value map, bool secret)
{
        enum err e = ERR_OK;

        for (size_t i = 0; map.kind == VALUE_MAP && !e && i < map.map->n; i++) {
                struct str value = map.map->entries[i].value.text;

                if (secret)
                        e = secret_find(s, value, &value);
                if (!e)
                        e = add(s, h, map.map->entries[i].key.text,
                                secret ? str_trim(value) : value);
        }
        return e;
}

static enum err read_headers(struct slot *s, struct value parameters, struct value body,
                             struct headers *h)
{
        struct str token = text_param(parameters, "token_secret", STR_NONE);
        bool typed = false;
        enum err e = add_all(s, h, param(parameters, "headers"), false);

        if (!e)
                e = add_all(s, h, param(parameters, "secret_headers"), true);
        if (!e && token.p)
                e = secret_find(s, token, &token);
        if (!e && token.p)
                e = add(s, h, STR("Authorization"),
                        arena_printf(&s->scope.arena, "Bearer " STR_FMT, STR_ARG(str_trim(token))));
        for (size_t i = 0; i < h->n; i++)
                typed |= str_is_nocase(h->items[i].name, "content-type");
        if (!e && !typed && body.kind != VALUE_NULL && body.kind != VALUE_STRING)
                e = add(s, h, STR("Content-Type"), STR("application/json"));
        return e;
}

static bool is_expected(struct value expected, int status)
{
        if (expected.kind != VALUE_LIST)
                return status >= 200 && status < 300;
        for (size_t i = 0; i < expected.list->n; i++)
                if (expected.list->items[i].number == status)
                        return true;
        return false;
}

static bool is_json(const struct fetch_result *r)
{
        for (size_t i = 0; i < r->n_headers; i++)
                if (str_is(r->headers[i].name, "content-type"))
                        return str_starts(r->headers[i].value, "application/json") ||
                               str_contains(r->headers[i].value, STR("+json"));
        return false;
}

/* Keys that spelled a secret with escapes, which the text did not show; true = there were some. */
static bool redact_keys(struct slot *s, struct value v)
{
        bool changed = false;

        for (size_t i = 0; v.kind == VALUE_LIST && i < v.list->n; i++)
                changed |= redact_keys(s, v.list->items[i]);
        for (size_t i = 0; v.kind == VALUE_MAP && i < v.map->n; i++) {
                struct value_entry *entry = &v.map->entries[i];
                struct str key = slot_redact(s, entry->key.text, false);

                changed |= redact_keys(s, entry->value) || !str_eq(key, entry->key.text);
                entry->key.text = key;
        }
        return changed;
}

/* JSON becomes a value, so that later steps can look into it; everything else is text. */
static struct value body_value(struct slot *s, const struct fetch_result *r)
{
        struct str text =
                slot_redact(s, utf8_clean(&s->scope.arena, r->body, r->truncated), r->truncated);
        struct value v;

        if (!r->truncated && is_json(r) && !value_read(&s->scope, text, &v) &&
            value_is_storable(&s->scope, v, OUTPUT_DEPTH - 2)) {
                if (!redact_keys(s, v))
                        return v;
                /* Two keys may read the same now, which no value has. */
                text = value_dump(&s->scope, v);
                if (!value_read(&s->scope, text, &v))
                        return v;
        }
        s->scope.fault = (struct fault){ 0 };
        return value_text(text);
}

static struct value response_value(struct slot *s, const struct fetch_result *r)
{
        struct value v = value_map_of(&s->scope, 4),
                     headers = value_map_of(&s->scope, r->n_headers);

        for (size_t i = 0; i < r->n_headers; i++)
                value_put(headers,
                          slot_redact(s, utf8_clean(&s->scope.arena, r->headers[i].name, false),
                                      false),
                          value_text(utf8_clean(&s->scope.arena, r->headers[i].value, false)));
        value_put(v, STR("status"), value_int(r->status));
        value_put(v, STR("headers"), headers);
        value_put(v, STR("body"), body_value(s, r));
        value_put(v, STR("truncated"), value_bool(r->truncated));
        return v;
}

static struct performed judge_status(struct slot *s, const struct fetch_result *r, bool expected)
{
        struct performed done = { .outcome = OUTCOME_OK };

        if (!expected) {
                done.outcome =
                        r->status >= 500 || r->status == 429 ? OUTCOME_TRANSIENT : OUTCOME_FAILED;
                done.message = arena_printf(&s->scope.arena, "the server answers with status %d",
                                            r->status);
        }
        done.output = response_value(s, r);
        return done;
}

static bool is_stopped(void *slot)
{
        return slot_is_stopped(slot);
}

struct performed http_request(struct slot *s, const struct step_spec *step, struct value parameters)
{
        struct value body = param(parameters, "body");
        struct headers headers = { .n = 0 };
        struct fetch_spec spec = {
                .method = text_param(parameters, "method", STR("GET")),
                .url = text_param(parameters, "url", STR("")),
                .headers = headers.items,
                .body_cap = BODY_KEPT,
                .timeout_us = step->timeout_us ? step->timeout_us : HTTP_SECONDS * US_PER_S,
                .egress = s->worker->options.egress,
                .canceled = is_stopped,
                .ctx = s,
        };
        struct fetch_result result;
        enum err e = read_headers(s, parameters, body, &headers);

        spec.n_headers = headers.n;
        if (body.kind != VALUE_NULL)
                spec.body = value_as_text(&s->scope, body);
        if (!e)
                e = fetch(&s->scope, &spec, &result);
        if (e)
                return refused(s, e);
        if (result.canceled)
                return failed(OUTCOME_CANCELED, STR("it was stopped"));
        return judge_status(s, &result,
                            is_expected(param(parameters, "expect_status"), result.status));
}
