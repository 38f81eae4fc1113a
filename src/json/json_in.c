#include "json/json_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 10000 };

/* Deepest nesting of brackets outside strings; linear, before anything is built. */
static int nesting(struct str text)
{
        int depth = 0, deepest = 0;
        bool quoted = false;

        for (size_t i = 0; i < text.n; i++) {
                char c = text.p[i];

                if (quoted) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                quoted = false;
                } else if (c == '"') {
                        quoted = true;
                } else if (c == '{' || c == '[') {
                        if (++depth > deepest)
                                deepest = depth;
                } else if (c == '}' || c == ']') {
                        depth--;
                }
        }
        return deepest;
}

enum err json_parse(struct scope *scope, struct str text, json_t **out)
{
        json_error_t error;
        json_t *value;

        if (nesting(text) > JSON_MAX_DEPTH)
                return fail_limit(scope, "", ERR_INVALID_JSON, JSON_MAX_DEPTH, nesting(text),
                                  "nesting of JSON values");
        value = json_loadb(text.p ? text.p : "", text.n,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (!value)
                return fail(scope, ERR_INVALID_JSON, "not valid JSON at line %d, column %d: %s",
                            error.line, error.column, error.text);
        *out = value;
        return ERR_OK;
}

struct str json_view(const json_t *string)
{
        return (struct str){ json_string_value(string), json_string_length(string) };
}

void json_print(struct json_out *j, const json_t *value)
{
        const char *key;
        json_t *member;
        size_t i;

        switch (json_typeof(value)) {
        case JSON_OBJECT:
                json_begin_object(j);
                json_object_foreach ((json_t *)(uintptr_t)value, key, member) {
                        json_key_str(j, str_from(key));
                        json_print(j, member);
                }
                json_end_object(j);
                break;
        case JSON_ARRAY:
                json_begin_list(j);
                json_array_foreach (value, i, member)
                        json_print(j, member);
                json_end_list(j);
                break;
        case JSON_STRING:
                json_put_str(j, json_view(value));
                break;
        case JSON_INTEGER:
                json_put_int(j, json_integer_value(value));
                break;
        case JSON_REAL:
                json_put_double(j, json_real_value(value));
                break;
        case JSON_TRUE:
        case JSON_FALSE:
                json_put_bool(j, json_is_true(value));
                break;
        case JSON_NULL:
                json_put_null(j);
                break;
        }
}

struct str json_dump(struct arena *arena, const json_t *value)
{
        struct buf text = BUF_INIT(64 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_print(&j, value);
        copy = str_dup(arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

bool json_same(struct scope *scope, struct str a, struct str b)
{
        json_t *x = NULL, *y = NULL;
        bool same = str_eq(a, b);

        if (!same && a.p && b.p && !json_parse(scope, a, &x) && !json_parse(scope, b, &y))
                same = json_equal(x, y);
        json_decref(x);
        json_decref(y);
        return same;
}

static enum err wrong(struct scope *scope, const char *path, const char *expected)
{
        return fail_field(scope, path, ERR_VALIDATION, "%s must be %s", path, expected);
}

static enum err bounded(struct scope *scope, const struct field *f, const char *path,
                        int64_t actual, const char *what)
{
        if (f->min == 0 && f->max == 0)
                return ERR_OK;
        if (actual > f->max)
                return fail_limit(scope, path,
                                  f->kind == FIELD_JSON || f->kind == FIELD_STR ? ERR_TOO_LARGE :
                                                                                  ERR_VALIDATION,
                                  f->max, actual, what);
        if (actual < f->min)
                return fail_field(scope, path, ERR_VALIDATION, "%s must be at least %lld%s", path,
                                  (long long)f->min,
                                  f->kind == FIELD_INT ? "" : " bytes long");
        return ERR_OK;
}

static enum err read_text(struct scope *scope, const struct field *f, const char *path,
                          const json_t *v, struct str *out)
{
        if (!json_is_string(v))
                return wrong(scope, path, "a string");
        if (memchr(json_string_value(v), 0, json_string_length(v)))
                return wrong(scope, path, "text without NUL");
        *out = str_dup(&scope->arena, json_view(v));
        return bounded(scope, f, path, (int64_t)out->n, path);
}

/* {"kind": "...", "ref": "..."} as "kind:ref". */
static enum err read_actor(struct scope *scope, const char *path, const json_t *v, struct str *out)
{
        const json_t *kind = json_object_get(v, "kind"), *ref = json_object_get(v, "ref");

        if (!json_is_string(kind) || !json_is_string(ref) || json_object_size(v) != 2 ||
            json_string_length(kind) == 0 || json_string_length(ref) == 0 ||
            strchr(json_string_value(kind), ':'))
                return wrong(scope, path, "{\"kind\": …, \"ref\": …}");
        *out = arena_printf(&scope->arena, "%s:%s", json_string_value(kind),
                            json_string_value(ref));
        return ERR_OK;
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A list of names as one sorted "a,b". */
static enum err read_caps(struct scope *scope, const struct field *f, const char *path, const json_t *v,
                          struct str *out)
{
        bool trims = f->flags & FIELD_TRIMS;
        size_t n = json_array_size(v), i;
        const char **names = arena_array(&scope->arena, const char *, n + 1);
        json_t *item;

        if (!json_is_array(v))
                return wrong(scope, path, "a list of names");
        if (n > 64)
                return fail_limit(scope, path, ERR_VALIDATION, 64, (int64_t)n, path);
        json_array_foreach (v, i, item) {
                struct str name = trims ? str_trim(json_view(item)) : json_view(item);

                if (!name.n || name.n > 128 || memchr(name.p, 0, name.n))
                        return wrong(scope, path, "a list of names of 1 to 128 bytes");
                names[i] = str_c(&scope->arena, name);
                if (strpbrk(names[i], trims ? ",\t\r\n" : ", \t\r\n"))
                        return wrong(scope, path, trims ? "a list of names without commas, tabs and line ends" :
                                                          "a list of names without blanks or commas");
        }
        qsort(names, n, sizeof(*names), by_text);
        *out = n ? STR("") : STR_NONE;
        for (i = 0; i < n; i++) {
                bool again = i && strcmp(names[i], names[i - 1]) == 0;

                if (again && trims)
                        continue;
                if (again)
                        return fail_field(scope, path, ERR_VALIDATION,
                                          "%s names \"%s\" twice", path, names[i]);
                *out = arena_printf(&scope->arena, STR_FMT "%s%s", STR_ARG(*out), i ? "," : "",
                                    names[i]);
        }
        return ERR_OK;
}

static enum err read_set(struct scope *scope, const struct field *f, const char *path,
                         const json_t *v, int64_t *out)
{
        json_t *item;
        size_t i;

        if (!json_is_array(v))
                return wrong(scope, path, "a list of names");
        *out = 0;
        json_array_foreach (v, i, item) {
                int found = json_is_string(item) ? names_find(f->type, json_view(item)) : -1;

                if (found < 0)
                        return fail_field(scope, path, ERR_VALIDATION, "%s[%zu] must be " STR_FMT,
                                          path, i, STR_ARG(names_list(&scope->arena, f->type)));
                *out |= INT64_C(1) << found;
        }
        return ERR_OK;
}

/* Of the type that the table says, if it says one. */
static enum err read_json(struct scope *scope, const struct field *f, const char *path,
                          const json_t *v, struct str *out)
{
        static const char *const names[] = {
                [JSON_OBJECT] = "object", [JSON_ARRAY] = "array",  [JSON_STRING] = "string",
                [JSON_INTEGER] = "integer", [JSON_REAL] = "number", [JSON_TRUE] = "boolean",
                [JSON_FALSE] = "boolean", [JSON_NULL] = "null",
        };

        if (f->type && strcmp(f->type, names[json_typeof(v)]) != 0)
                return fail_field(scope, path, ERR_VALIDATION, "%s must be an %s", path,
                                  (const char *)f->type);
        *out = json_dump(&scope->arena, v);
        return bounded(scope, f, path, (int64_t)out->n, path);
}

static enum err read_list(struct scope *scope, const struct field *f, const char *path,
                          const json_t *v, struct list *out)
{
        const struct record *type = f->type;
        size_t n = json_array_size(v), i;
        char item_path[256];
        json_t *item;

        if (!json_is_array(v))
                return wrong(scope, path, "a list");
        if (n > LIST_MAX)
                return fail_limit(scope, path, ERR_VALIDATION, LIST_MAX, (int64_t)n, path);
        out->items = arena_alloc(&scope->arena, type->size * n, 16);
        out->n = n;
        json_array_foreach (v, i, item) {
                char *at = (char *)out->items + i * type->size;
                enum err e;

                snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
                e = json_to_record(scope, item, item_path, type, at);
                if (e && !type->fault_offset)
                        return e;
                if (e) {
                        *(struct fault *)(void *)(at + type->fault_offset) = scope->fault;
                        scope->fault = (struct fault){ 0 };
                }
        }
        return ERR_OK;
}

static enum err read_number(struct scope *scope, const struct field *f, const char *path,
                            const json_t *v, int64_t *out)
{
        if (!json_is_integer(v))
                return wrong(scope, path, "a whole number");
        *out = json_integer_value(v);
        return bounded(scope, f, path, *out, path);
}

static enum err read_value(struct scope *scope, const struct field *f, const char *path,
                           const json_t *v, void *base)
{
        struct str *text = FIELD_AT(base, f, struct str);
        int found;

        switch (f->kind) {
        case FIELD_INT:
                return read_number(scope, f, path, v, FIELD_AT(base, f, int64_t));
        case FIELD_BOOL:
                if (!json_is_boolean(v))
                        return wrong(scope, path, "true or false");
                *FIELD_AT(base, f, bool) = json_is_true(v);
                return ERR_OK;
        case FIELD_TIME:
                if (!json_is_string(v) || !time_parse(json_view(v), FIELD_AT(base, f, int64_t)))
                        return wrong(scope, path, "an RFC 3339 time such as 2026-01-31T09:00:00Z");
                return ERR_OK;
        case FIELD_ID:
                if (!json_is_string(v) ||
                    !id_parse(f->type, json_view(v), FIELD_AT(base, f, int64_t)))
                        return fail_field(scope, path, ERR_VALIDATION,
                                          "%s must be an id such as %s_0c5q8v2k7m1xa", path,
                                          (const char *)f->type);
                return ERR_OK;
        case FIELD_ENUM:
                found = json_is_string(v) ? names_find(f->type, str_trim(json_view(v))) : -1;
                if (found < 0)
                        return fail_field(scope, path, ERR_VALIDATION, "%s must be " STR_FMT, path,
                                          STR_ARG(names_list(&scope->arena, f->type)));
                *FIELD_AT(base, f, int) = found;
                return ERR_OK;
        case FIELD_SET:
                return read_set(scope, f, path, v, FIELD_AT(base, f, int64_t));
        case FIELD_STR:
        case FIELD_NAME:
        case FIELD_BYTES:
                return read_text(scope, f, path, v, text);
        case FIELD_JSON:
                return read_json(scope, f, path, v, text);
        case FIELD_ACTOR:
                return read_actor(scope, path, v, text);
        case FIELD_CAPS:
                return read_caps(scope, f, path, v, text);
        case FIELD_RECORD:
                *FIELD_AT(base, f, void *) =
                        arena_alloc(&scope->arena, ((const struct record *)f->type)->size, 16);
                return json_to_record(scope, v, path, f->type, *FIELD_AT(base, f, void *));
        case FIELD_LIST:
                return read_list(scope, f, path, v, FIELD_AT(base, f, struct list));
        }
        return ERR_INTERNAL;
}

static void mark(const struct record *record, const struct field *f, void *base)
{
        if (record->given_offset >= 0)
                *(uint64_t *)(void *)((char *)base + record->given_offset) |=
                        UINT64_C(1) << (f - record->fields);
}

static const char *path_of(struct scope *scope, const char *path, const char *name)
{
        return *path ? arena_printf(&scope->arena, "%s.%s", path, name).p : name;
}

enum err json_to_record(struct scope *scope, const json_t *object, const char *path,
                        const struct record *record, void *out)
{
        uint64_t seen = 0;
        const char *key;
        json_t *v;

        if (!json_is_object(object))
                return wrong(scope, *path ? path : "body", "an object");
        json_object_foreach ((json_t *)(uintptr_t)object, key, v) {
                const struct field *f = record_field(record, str_from(key));
                enum err e;

                if (!f)
                        return fail_field(scope, path_of(scope, path, key), ERR_UNKNOWN_FIELD,
                                          "unknown field \"%.64s\"", key);
                if (f->flags & FIELD_FIXED)
                        return fail_field(scope, path_of(scope, path, key), ERR_IMMUTABLE_FIELD,
                                          "%s cannot be changed", key);
                if (json_is_null(v) && (f->kind != FIELD_JSON || (f->flags & FIELD_CLEARS))) {
                        if (f->flags & FIELD_CLEARS)
                                mark(record, f, out);
                        continue;
                }
                e = read_value(scope, f, path_of(scope, path, key), v, out);
                if (e)
                        return e;
                seen |= UINT64_C(1) << (f - record->fields);
                mark(record, f, out);
        }
        for (size_t i = 0; i < record->n; i++)
                if ((record->fields[i].flags & FIELD_REQUIRED) && !(seen >> i & 1))
                        return fail_field(scope, path_of(scope, path, record->fields[i].name),
                                          ERR_VALIDATION, "%s is required",
                                          path_of(scope, path, record->fields[i].name));
        return ERR_OK;
}

enum err json_read(struct scope *scope, struct str text, const struct record *record, void *out)
{
        json_t *object = NULL;
        enum err e = ERR_OK;

        if (str_trim(text).n)
                e = json_parse(scope, text, &object);
        else
                object = json_object();
        if (!e)
                e = json_to_record(scope, object, "", record, out);
        json_decref(object);
        return e;
}
