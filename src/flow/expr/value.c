#include "flow/expr/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json/json_in.h"

static struct value value_from_json(struct scope *scope, const json_t *json)
{
        struct value v = { .kind = VALUE_NULL };

        switch (json_typeof(json)) {
        case JSON_TRUE:
        case JSON_FALSE:
                v.kind = VALUE_BOOL;
                v.truth = json_is_true(json);
                break;
        case JSON_INTEGER:
                v.kind = VALUE_INT;
                v.number = json_integer_value(json);
                break;
        case JSON_REAL:
                v.kind = VALUE_DOUBLE;
                v.real = json_real_value(json);
                break;
        case JSON_STRING:
                v.kind = VALUE_STRING;
                v.text = str_dup(&scope->arena, json_view(json));
                break;
        case JSON_ARRAY: {
                v.kind = VALUE_LIST;
                v.list = arena_new(&scope->arena, struct value_list);
                v.list->n = json_array_size(json);
                v.list->items = arena_array(&scope->arena, struct value, v.list->n);
                for (size_t i = 0; i < v.list->n; i++)
                        v.list->items[i] = value_from_json(scope, json_array_get(json, i));
                break;
        }
        case JSON_OBJECT: {
                json_t *object = json_incref((json_t *)(uintptr_t)json);
                struct value_entry *e;

                v.kind = VALUE_MAP;
                v.map = arena_new(&scope->arena, struct value_map);
                v.map->n = json_object_size(json);
                v.map->entries = e = arena_array(&scope->arena, struct value_entry, v.map->n);
                for (void *it = json_object_iter(object); it;
                     it = json_object_iter_next(object, it), e++) {
                        e->key = value_text(str_dup(&scope->arena,
                                                    str_from(json_object_iter_key(it))));
                        e->value = value_from_json(scope, json_object_iter_value(it));
                }
                json_decref(object);
                break;
        }
        case JSON_NULL:
        default:
                break;
        }
        return v;
}

enum err value_read(struct scope *scope, struct str text, struct value *out)
{
        json_t *json;
        enum err e = json_parse(scope, text, &json);

        if (e)
                return e;
        *out = value_from_json(scope, json);
        json_decref(json);
        return ERR_OK;
}

struct value value_from_text(struct scope *scope, struct str json)
{
        struct value v = { .kind = VALUE_NULL };
        struct fault kept = scope->fault;

        /* What cannot be read is shown as it stands; nothing that a run stores may stop the program. */
        if (json.n && value_read(scope, json, &v))
                v = value_text(json);
        scope->fault = kept;
        return v;
}

struct value value_text(struct str text)
{
        return (struct value){ .kind = VALUE_STRING, .text = text };
}

struct value value_int(int64_t number)
{
        return (struct value){ .kind = VALUE_INT, .number = number };
}

struct value value_bool(bool truth)
{
        return (struct value){ .kind = VALUE_BOOL, .truth = truth };
}

struct value value_list_of(struct scope *scope, struct value *items, size_t n)
{
        struct value v = { .kind = VALUE_LIST, .list = arena_new(&scope->arena, struct value_list) };

        *v.list = (struct value_list){ items, n };
        return v;
}

struct value value_map_of(struct scope *scope, size_t room)
{
        struct value v = { .kind = VALUE_MAP, .map = arena_new(&scope->arena, struct value_map) };

        v.map->entries = arena_array(&scope->arena, struct value_entry, room);
        return v;
}

void value_put(struct value map, struct str key, struct value value)
{
        map.map->entries[map.map->n++] = (struct value_entry){ value_text(key), value };
}

/* ---- writing ---- */

static void print(struct scope *scope, struct json_out *j, struct value v)
{
        switch (v.kind) {
        case VALUE_NULL:
                json_put_null(j);
                break;
        case VALUE_BOOL:
                json_put_bool(j, v.truth);
                break;
        case VALUE_INT:
                json_put_int(j, v.number);
                break;
        case VALUE_DOUBLE:
                json_put_double(j, v.real);
                break;
        case VALUE_STRING:
        case VALUE_TYPE:
                json_put_str(j, v.text);
                break;
        case VALUE_TIMESTAMP:
        case VALUE_DURATION:
                json_put_str(j, value_moment_text(scope, v));
                break;
        case VALUE_LIST:
                json_begin_list(j);
                for (size_t i = 0; i < v.list->n && !j->out->full; i++)
                        print(scope, j, v.list->items[i]);
                json_end_list(j);
                break;
        case VALUE_MAP:
                json_begin_object(j);
                for (size_t i = 0; i < v.map->n && !j->out->full; i++) {
                        json_key_str(j, value_as_text(scope, v.map->entries[i].key));
                        print(scope, j, v.map->entries[i].value);
                }
                json_end_object(j);
                break;
        }
}

bool value_dump_limited(struct scope *scope, struct value v, size_t limit, struct str *out)
{
        struct buf buf = BUF_INIT(limit + 1);
        struct json_out j = { .out = &buf };
        bool fits;

        print(scope, &j, v);
        fits = !buf.full && buf.n <= limit;
        *out = fits ? str_dup(&scope->arena, buf_view(&buf)) : STR_NONE;
        buf_done(&buf);
        return fits;
}

struct str value_dump(struct scope *scope, struct value v)
{
        struct str text;

        if (!value_dump_limited(scope, v, SIZE_MAX / 4, &text))
                bug(__FILE__, __LINE__, "a value larger than memory");
        return text;
}

struct str value_head(struct scope *scope, struct value v, size_t n)
{
        struct buf buf = BUF_INIT(n + 1);
        struct json_out j = { .out = &buf };
        struct str text;

        if (v.kind == VALUE_STRING)
                return str_whole(str_slice(v.text, 0, v.text.n < n ? v.text.n : n));
        print(scope, &j, v);
        text = str_dup(&scope->arena, str_whole(str_slice(buf_view(&buf), 0, buf.n < n ? buf.n : n)));
        buf_done(&buf);
        return text;
}

static bool keys_differ(struct scope *scope, const struct value_map *map)
{
        bool plain = true;

        for (size_t i = 0; i < map->n; i++)
                plain = plain && map->entries[i].key.kind == VALUE_STRING;
        for (size_t i = 0; !plain && i < map->n; i++)
                for (size_t k = 0; k < i; k++)
                        if (str_eq(value_as_text(scope, map->entries[i].key),
                                   value_as_text(scope, map->entries[k].key)))
                                return false;
        return true;
}

bool value_is_storable(struct scope *scope, struct value v, int depth)
{
        if (v.kind == VALUE_LIST) {
                for (size_t i = 0; i < v.list->n; i++)
                        if (depth == 0 || !value_is_storable(scope, v.list->items[i], depth - 1))
                                return false;
        } else if (v.kind == VALUE_MAP) {
                if (depth == 0 || !keys_differ(scope, v.map))
                        return false;
                for (size_t i = 0; i < v.map->n; i++)
                        if (!value_is_storable(scope, v.map->entries[i].value, depth - 1))
                                return false;
        }
        return true;
}

struct str value_as_text(struct scope *scope, struct value v)
{
        if (v.kind == VALUE_TIMESTAMP || v.kind == VALUE_DURATION)
                return value_moment_text(scope, v);
        return v.kind == VALUE_STRING ? v.text : value_dump(scope, v);
}

/* ---- comparing ---- */

static bool number_equal(struct value a, struct value b)
{
        if (a.kind == VALUE_INT && b.kind == VALUE_INT)
                return a.number == b.number;
        if (a.kind == VALUE_DOUBLE && b.kind == VALUE_DOUBLE)
                return !(a.real < b.real) && !(a.real > b.real) && !isnan(a.real) && !isnan(b.real);
        if (b.kind == VALUE_INT)
                return number_equal(b, a);
        /* an int and a double: equal only when the double is that very integer */
        return b.real >= -9223372036854775808.0 && b.real < 9223372036854775808.0 && !(floor(b.real) < b.real) &&
               (int64_t)b.real == a.number;
}

static const struct value *entry_of(struct value map, struct value key)
{
        for (size_t i = 0; i < map.map->n; i++)
                if (value_equal(map.map->entries[i].key, key))
                        return &map.map->entries[i].value;
        return NULL;
}

static bool map_equal(struct value a, struct value b)
{
        if (a.map->n != b.map->n)
                return false;
        for (size_t i = 0; i < a.map->n; i++) {
                const struct value *other = entry_of(b, a.map->entries[i].key);

                if (!other || !value_equal(a.map->entries[i].value, *other))
                        return false;
        }
        return true;
}

static bool list_equal(struct value a, struct value b)
{
        if (a.list->n != b.list->n)
                return false;
        for (size_t i = 0; i < a.list->n; i++)
                if (!value_equal(a.list->items[i], b.list->items[i]))
                        return false;
        return true;
}

static bool is_number(struct value v)
{
        return v.kind == VALUE_INT || v.kind == VALUE_DOUBLE;
}

bool value_equal(struct value a, struct value b)
{
        if (is_number(a) && is_number(b))
                return number_equal(a, b);
        if (a.kind != b.kind)
                return false;
        switch (a.kind) {
        case VALUE_NULL:
                return true;
        case VALUE_BOOL:
                return a.truth == b.truth;
        case VALUE_STRING:
        case VALUE_TYPE:
                return str_eq(a.text, b.text);
        case VALUE_LIST:
                return list_equal(a, b);
        case VALUE_MAP:
                return map_equal(a, b);
        case VALUE_TIMESTAMP:
        case VALUE_DURATION:
        case VALUE_INT:
        case VALUE_DOUBLE:
                break;
        }
        return a.number == b.number && a.nanos == b.nanos;
}

const struct value *value_member(struct value map, struct str key)
{
        if (map.kind != VALUE_MAP)
                return NULL;
        for (size_t i = 0; i < map.map->n; i++)
                if (map.map->entries[i].key.kind == VALUE_STRING &&
                    str_eq(map.map->entries[i].key.text, key))
                        return &map.map->entries[i].value;
        return NULL;
}
