#include "flow/schema.h"

#include <math.h>
#include <string.h>

enum { SCHEMA_MAX_DEPTH = 16 };

static const char *const keywords[] = { "type",      "required",  "properties",  "items",
                                        "enum",      "default",   "minimum",     "maximum",
                                        "minLength", "maxLength", "minItems",    "maxItems",
                                        "title",     "description", NULL };
static const char *const types[] = { "string", "integer", "number", "boolean",
                                     "array",  "object",  "null",   NULL };

static const struct value *keyword(struct value schema, const char *name)
{
        return value_member(schema, str_from(name));
}

static bool is_number(struct value v)
{
        return v.kind == VALUE_INT || v.kind == VALUE_DOUBLE;
}

static double number_of(struct value v)
{
        return v.kind == VALUE_INT ? (double)v.number : v.real;
}

/* ---- the schema ---- */

static bool is_type_name(struct value v)
{
        for (size_t i = 0; v.kind == VALUE_STRING && types[i]; i++)
                if (str_is(v.text, types[i]))
                        return true;
        return false;
}

static bool is_text_list(struct value v)
{
        if (v.kind != VALUE_LIST)
                return false;
        for (size_t i = 0; i < v.list->n; i++)
                if (v.list->items[i].kind != VALUE_STRING)
                        return false;
        return true;
}

static void check_keyword(struct problems *p, struct str path, struct str name, struct value v)
{
        if (str_is(name, "type") && !is_type_name(v))
                problem_add(p, path, "type", "string, integer, number, boolean, array, object or null",
                            "not a type");
        else if (str_is(name, "required") && !is_text_list(v))
                problem_add(p, path, "type", NULL, "must be a list of names");
        else if (str_is(name, "enum") && (v.kind != VALUE_LIST || !v.list->n))
                problem_add(p, path, "type", NULL, "must be a list of values");
        else if ((str_is(name, "minimum") || str_is(name, "maximum")) && !is_number(v))
                problem_add(p, path, "type", NULL, "must be a number");
        else if ((str_starts(name, "minL") || str_starts(name, "maxL") ||
                  str_starts(name, "minI") || str_starts(name, "maxI")) &&
                 (v.kind != VALUE_INT || v.number < 0))
                problem_add(p, path, "type", NULL, "must be a whole number, 0 or more");
}

static void check(struct problems *p, struct str path, struct value schema, int depth)
{
        struct scope *scope = p->scope;

        if (schema.kind != VALUE_MAP) {
                problem_add(p, path, "type", NULL, "a schema must be an object");
                return;
        }
        if (depth > SCHEMA_MAX_DEPTH) {
                problem_add(p, path, "limit", NULL, "schemas nest at most %d deep",
                            SCHEMA_MAX_DEPTH);
                return;
        }
        for (size_t i = 0; i < schema.map->n; i++) {
                struct str name = schema.map->entries[i].key.text;
                struct value v = schema.map->entries[i].value;
                struct str at = path_member(scope, path, name);
                size_t k = 0;

                while (keywords[k] && !str_is(name, keywords[k]))
                        k++;
                if (!keywords[k])
                        problem_add(p, at, "unknown_field", nearest_hint(scope, name, keywords),
                                    "the keyword \"" STR_FMT "\" is not supported", STR_ARG(name));
                else if (str_is(name, "items"))
                        check(p, at, v, depth + 1);
                else if (!str_is(name, "properties"))
                        check_keyword(p, at, name, v);
                else if (v.kind != VALUE_MAP)
                        problem_add(p, at, "type", NULL, "must be an object of schemas");
                else
                        for (size_t j = 0; j < v.map->n; j++)
                                check(p, path_member(scope, at, v.map->entries[j].key.text),
                                      v.map->entries[j].value, depth + 1);
        }
}

/* A default that its own schema refuses would fail every run that uses it. */
static void check_defaults(struct problems *p, struct str path, struct value schema)
{
        const struct value *standard = keyword(schema, "default"), *items = keyword(schema, "items");
        const struct value *properties = keyword(schema, "properties");
        struct fault kept = p->scope->fault;
        struct value ignored;

        if (standard && schema_apply(p->scope, schema, path, *standard, &ignored)) {
                struct str said = p->scope->fault.detail;

                p->scope->fault = kept;
                problem_add(p, path_member(p->scope, path, STR("default")), "default",
                            "give a default that the schema allows", STR_FMT, STR_ARG(said));
        }
        if (items)
                check_defaults(p, path_member(p->scope, path, STR("items")), *items);
        for (size_t i = 0; properties && i < properties->map->n; i++)
                check_defaults(p,
                               path_member(p->scope, path_member(p->scope, path, STR("properties")),
                                           properties->map->entries[i].key.text),
                               properties->map->entries[i].value);
}

void schema_check(struct problems *p, struct str path, struct value schema)
{
        size_t before = p->n;

        check(p, path, schema, 0);
        if (p->n == before)
                check_defaults(p, path, schema);
}

/* ---- a value ---- */

static bool has_type(struct value v, struct str type)
{
        if (str_is(type, "string"))
                return v.kind == VALUE_STRING;
        if (str_is(type, "integer"))
                return v.kind == VALUE_INT || (v.kind == VALUE_DOUBLE && v.real == floor(v.real));
        if (str_is(type, "number"))
                return is_number(v);
        if (str_is(type, "boolean"))
                return v.kind == VALUE_BOOL;
        if (str_is(type, "array"))
                return v.kind == VALUE_LIST;
        if (str_is(type, "object"))
                return v.kind == VALUE_MAP;
        return v.kind == VALUE_NULL;
}

static size_t characters(struct str s)
{
        size_t n = 0;

        for (size_t i = 0; i < s.n; i++)
                n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
        return n;
}

static enum err refuse(struct scope *scope, struct str path, const char *what, struct str than)
{
        const char *name = str_c(&scope->arena, path);

        return fail_field(scope, name, ERR_VALIDATION, "%s %s" STR_FMT, name, what, STR_ARG(than));
}

static enum err within(struct scope *scope, struct value schema, struct str path, double size,
                       const char *min, const char *max, const char *what)
{
        const struct value *low = keyword(schema, min), *high = keyword(schema, max);

        if (low && size < number_of(*low))
                return refuse(scope, path,
                              str_c(&scope->arena,
                                    arena_printf(&scope->arena, "must %s at least ", what)),
                              value_dump(scope, *low));
        if (high && size > number_of(*high))
                return refuse(scope, path,
                              str_c(&scope->arena,
                                    arena_printf(&scope->arena, "must %s at most ", what)),
                              value_dump(scope, *high));
        return ERR_OK;
}

static enum err check_plain(struct scope *scope, struct value schema, struct str path,
                            struct value v)
{
        const struct value *type = keyword(schema, "type"), *choices = keyword(schema, "enum");
        bool chosen = !choices;

        if (type && !has_type(v, type->text))
                return refuse(scope, path, "must be of type ", type->text);
        for (size_t i = 0; choices && i < choices->list->n; i++)
                chosen = chosen || value_equal(choices->list->items[i], v);
        if (!chosen)
                return refuse(scope, path, "must be one of ", value_dump(scope, *choices));
        if (is_number(v))
                return within(scope, schema, path, number_of(v), "minimum", "maximum", "be");
        if (v.kind == VALUE_STRING)
                return within(scope, schema, path, (double)characters(v.text), "minLength",
                              "maxLength", "be of a length of");
        if (v.kind == VALUE_LIST)
                return within(scope, schema, path, (double)v.list->n, "minItems", "maxItems",
                              "have a number of items of");
        return ERR_OK;
}

static enum err apply_items(struct scope *scope, struct value items, struct str path,
                            struct value in, struct value *out)
{
        struct value_list *list = arena_new(&scope->arena, struct value_list);
        enum err e = ERR_OK;

        list->n = in.list->n;
        list->items = arena_array(&scope->arena, struct value, list->n + 1);
        for (size_t i = 0; !e && i < list->n; i++)
                e = schema_apply(scope, items, path_item(scope, path, i), in.list->items[i],
                                 &list->items[i]);
        *out = (struct value){ .kind = VALUE_LIST, .list = list };
        return e;
}

static enum err apply_properties(struct scope *scope, struct value properties, struct str path,
                                 struct value in, struct value *out)
{
        struct value_map *map = arena_new(&scope->arena, struct value_map);
        enum err e = ERR_OK;

        map->entries = arena_array(&scope->arena, struct value_entry,
                                   in.map->n + properties.map->n + 1);
        for (size_t i = 0; !e && i < in.map->n; i++) {
                struct value_entry *entry = &map->entries[map->n++];
                const struct value *schema = value_member(properties, in.map->entries[i].key.text);

                *entry = in.map->entries[i];
                if (schema)
                        e = schema_apply(scope, *schema, path_member(scope, path, entry->key.text),
                                         entry->value, &entry->value);
        }
        for (size_t i = 0; !e && i < properties.map->n; i++) {
                const struct value_entry *property = &properties.map->entries[i];
                const struct value *standard = keyword(property->value, "default");

                struct value_entry *entry = &map->entries[map->n];

                if (!standard || value_member(in, property->key.text))
                        continue;
                entry->key = property->key;
                e = schema_apply(scope, property->value, path_member(scope, path, entry->key.text),
                                 *standard, &entry->value);
                map->n++;
        }
        *out = (struct value){ .kind = VALUE_MAP, .map = map };
        return e;
}

enum err schema_apply(struct scope *scope, struct value schema, struct str path, struct value in,
                      struct value *out)
{
        const struct value *required = keyword(schema, "required");
        const struct value *properties = keyword(schema, "properties");
        const struct value *items = keyword(schema, "items");
        enum err e = check_plain(scope, schema, path, in);

        *out = in;
        if (!e && items && in.kind == VALUE_LIST)
                e = apply_items(scope, *items, path, in, out);
        if (!e && properties && in.kind == VALUE_MAP)
                e = apply_properties(scope, *properties, path, in, out);
        for (size_t i = 0; !e && required && in.kind == VALUE_MAP && i < required->list->n; i++)
                if (!value_member(*out, required->list->items[i].text))
                        e = refuse(scope, path_member(scope, path, required->list->items[i].text),
                                   "is required", STR_NONE);
        return e;
}
