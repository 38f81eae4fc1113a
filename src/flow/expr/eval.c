#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "flow/expr/parts.h"

static enum err eval(struct eval *, const struct node *, struct value *out);

/* ---- errors and bounds ---- */

enum err eval_fail(struct eval *ev, const char *fmt, ...)
{
        char text[900];
        va_list args;
        enum err e;

        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        e = expr_refuse(ev->scope, ev->expr->source, ev->at, "%s", text);
        /* An absorbed error has its price too: its text stays in the arena. */
        if (!ev->over && eval_charge(ev, 16 + ev->scope->fault.detail.n / 16))
                return ERR_INVALID_CONDITION;
        return e;
}

static enum err eval_over(struct eval *ev, const char *what, int64_t limit)
{
        ev->over = true;
        return expr_refuse(ev->scope, ev->expr->source, ev->at, "%s %lld", what, (long long)limit);
}

enum err eval_charge(struct eval *ev, uint64_t cost)
{
        if (cost > EXPR_MAX_COST || (ev->cost += (int64_t)cost) > EXPR_MAX_COST)
                return eval_over(ev, "the evaluation takes more steps than", EXPR_MAX_COST);
        return ERR_OK;
}

enum err eval_charge_bytes(struct eval *ev, uint64_t bytes)
{
        return eval_charge(ev, bytes / 16);
}

enum err eval_bytes(struct eval *ev, size_t n, char **out)
{
        enum err e;

        if (n > EXPR_MAX_BYTES)
                return eval_over(ev, "a text grows beyond the bytes allowed:", EXPR_MAX_BYTES);
        e = eval_charge_bytes(ev, n);
        if (!e)
                *out = arena_array(&ev->scope->arena, char, n + 1);
        return e;
}

enum err eval_items(struct eval *ev, size_t n, struct value **out)
{
        enum err e = eval_charge(ev, n);

        if (!e)
                *out = arena_array(&ev->scope->arena, struct value, n);
        return e;
}

/* ---- types ---- */

static const struct {
        const char *name;
        enum value_kind kind;
} types[] = {
        { "null_type", VALUE_NULL },
        { "bool", VALUE_BOOL },
        { "int", VALUE_INT },
        { "double", VALUE_DOUBLE },
        { "string", VALUE_STRING },
        { "list", VALUE_LIST },
        { "map", VALUE_MAP },
        { "type", VALUE_TYPE },
        { "google.protobuf.Timestamp", VALUE_TIMESTAMP },
        { "google.protobuf.Duration", VALUE_DURATION },
};

bool type_by_name(struct str name, struct value *out)
{
        for (size_t i = 0; i < LENGTH(types); i++)
                if (str_is(name, types[i].name)) {
                        *out = (struct value){ .kind = VALUE_TYPE, .text = str_from(types[i].name) };
                        return true;
                }
        return false;
}

struct str type_of(struct value v)
{
        for (size_t i = 0; i < LENGTH(types); i++)
                if (types[i].kind == v.kind)
                        return str_from(types[i].name);
        return STR("unknown");
}

/* ---- equality and lookup ---- */

static enum err lists_equal(struct eval *ev, struct value a, struct value b, bool *out)
{
        enum err e = ERR_OK;

        *out = a.list->n == b.list->n;
        for (size_t i = 0; i < a.list->n && *out && !e; i++)
                e = eval_equal(ev, a.list->items[i], b.list->items[i], out);
        return e;
}

static enum err maps_equal(struct eval *ev, struct value a, struct value b, bool *out)
{
        enum err e = ERR_OK;

        *out = a.map->n == b.map->n;
        for (size_t i = 0; i < a.map->n && *out && !e; i++) {
                const struct value *other = NULL;

                e = eval_lookup(ev, b, a.map->entries[i].key, &other);
                if (!e && !other)
                        *out = false;
                else if (!e)
                        e = eval_equal(ev, a.map->entries[i].value, *other, out);
        }
        return e;
}

/* Shared parts make small values look large, so that even comparing is charged as it goes. */
enum err eval_equal(struct eval *ev, struct value a, struct value b, bool *out)
{
        enum err e = eval_charge(ev, 1);

        if (!e && a.kind == VALUE_LIST && b.kind == VALUE_LIST)
                return lists_equal(ev, a, b, out);
        if (!e && a.kind == VALUE_MAP && b.kind == VALUE_MAP)
                return maps_equal(ev, a, b, out);
        if (!e && a.kind == VALUE_STRING && b.kind == VALUE_STRING)
                e = eval_charge_bytes(ev, a.text.n == b.text.n ? a.text.n : 0);
        if (!e)
                *out = value_equal(a, b);
        return e;
}

enum err eval_lookup(struct eval *ev, struct value map, struct value key, const struct value **out)
{
        const struct value_entry *entries = map.map->entries;
        uint64_t bytes = 0;

        *out = NULL;
        if (key.kind == VALUE_LIST || key.kind == VALUE_MAP)
                return ERR_OK; /* no key is one */
        for (size_t i = 0; i < map.map->n && !*out; i++) {
                bytes += 2;
                if (key.kind == VALUE_STRING && entries[i].key.kind == VALUE_STRING)
                        bytes += entries[i].key.text.n == key.text.n ? key.text.n : 0;
                if (value_equal(entries[i].key, key))
                        *out = &entries[i].value;
        }
        return eval_charge_bytes(ev, bytes);
}

/* ---- names and fields ---- */

static struct str known_names(struct eval *ev)
{
        if (!ev->known.p)
                ev->known = ev->env->known ? ev->env->known(ev->env, ev->scope) : STR("none");
        return ev->known;
}

static const struct binding *bound(const struct eval *ev, const struct node *node)
{
        const struct binding *b = node->absolute ? NULL : ev->bindings;

        while (b && !str_eq(b->name, node->name))
                b = b->up;
        return b;
}

static bool find_name(struct eval *ev, struct str name, struct value *out)
{
        return ev->env && ev->env->find && ev->env->find(ev->env, ev->scope, name, out);
}

static enum err eval_name(struct eval *ev, const struct node *node, struct value *out)
{
        const struct binding *b = bound(ev, node);

        if (b) {
                *out = b->value;
                return ERR_OK;
        }
        if (find_name(ev, node->name, out) || type_by_name(node->name, out))
                return ERR_OK;
        if (!ev->env || !ev->env->known)
                return eval_fail(ev, "no such name \"" STR_FMT "\"",
                                 STR_ARG(expr_clip(node->name)));
        return eval_fail(ev, "no such name \"" STR_FMT "\"; known names: " STR_FMT,
                         STR_ARG(expr_clip(node->name)), STR_ARG(known_names(ev)));
}

/* "a.b.c" when that is all the node says, for environments whose names hold dots. */
static struct str dotted(struct eval *ev, const struct node *node)
{
        struct str left;

        if (node->kind == NODE_NAME)
                return bound(ev, node) ? STR_NONE : node->name;
        if (node->kind != NODE_SELECT)
                return STR_NONE;
        left = dotted(ev, node->args[0]);
        return left.p ? arena_printf(&ev->scope->arena, STR_FMT "." STR_FMT, STR_ARG(left),
                                     STR_ARG(node->name)) :
                        STR_NONE;
}

static enum err no_such_key(struct eval *ev, struct value map, struct str key)
{
        struct buf keys = BUF_INIT(300);
        enum err e;

        for (size_t i = 0; i < map.map->n && i < 12; i++) {
                struct value k = map.map->entries[i].key;

                if (k.kind == VALUE_STRING && k.text.n < 60)
                        buf_printf(&keys, "%s" STR_FMT, keys.n ? ", " : "; known keys: ",
                                   STR_ARG(k.text));
        }
        e = eval_fail(ev, "no such key " STR_FMT STR_FMT, STR_ARG(key), STR_ARG(buf_view(&keys)));
        buf_done(&keys);
        return e;
}

static struct str key_text(struct eval *ev, struct value key)
{
        struct arena *arena = &ev->scope->arena;

        switch (key.kind) {
        case VALUE_STRING:
                return arena_printf(arena, "\"" STR_FMT "\"", STR_ARG(expr_clip(key.text)));
        case VALUE_INT:
                return arena_printf(arena, "%lld", (long long)key.number);
        case VALUE_DOUBLE:
                return number_text(ev->scope, key.real);
        case VALUE_BOOL:
                return key.truth ? STR("true") : STR("false");
        case VALUE_NULL:
        case VALUE_LIST:
        case VALUE_MAP:
        case VALUE_TIMESTAMP:
        case VALUE_DURATION:
        case VALUE_TYPE:
                break;
        }
        return arena_printf(arena, "of type " STR_FMT, STR_ARG(type_of(key)));
}

enum err run_at_key(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value *found;
        enum err e = eval_lookup(ev, args[0], args[1], &found);

        if (!e && !found)
                return no_such_key(ev, args[0], key_text(ev, args[1]));
        if (!e)
                *out = *found;
        return e;
}

static enum err eval_select(struct eval *ev, const struct node *node, struct value *out)
{
        struct value args[2] = { { .kind = VALUE_NULL }, value_text(node->name) };
        enum err e;

        if (node->kind == NODE_SELECT && ev->env && ev->env->dotted) {
                struct str name = dotted(ev, node);

                if (name.p && find_name(ev, name, out))
                        return ERR_OK;
        }
        e = eval(ev, node->args[0], &args[0]);
        ev->at = node->at;
        if (e)
                return e;
        if (args[0].kind != VALUE_MAP)
                return eval_fail(ev, "a value of type " STR_FMT " has no fields, so none is \"" STR_FMT "\"",
                                 STR_ARG(type_of(args[0])), STR_ARG(expr_clip(node->name)));
        if (node->kind == NODE_HAS) {
                const struct value *found;

                e = eval_lookup(ev, args[0], args[1], &found);
                if (!e)
                        *out = value_bool(found);
                return e;
        }
        return run_at_key(ev, args, out);
}

/* ---- lists and maps ---- */

static enum err eval_args(struct eval *ev, const struct node *node, struct value *items)
{
        enum err e = ERR_OK;

        for (size_t i = 0; i < node->n && !e; i++)
                e = eval(ev, node->args[i], &items[i]);
        ev->at = node->at;
        return e;
}

static enum err eval_list(struct eval *ev, const struct node *node, struct value *out)
{
        struct value *items;
        enum err e = eval_items(ev, node->n, &items);

        if (!e)
                e = eval_args(ev, node, items);
        if (!e)
                *out = value_list_of(ev->scope, items, node->n);
        return e;
}

static enum err put_entry(struct eval *ev, struct value map, struct value key, struct value value)
{
        const struct value *twice;
        enum err e;

        if (key.kind != VALUE_STRING && key.kind != VALUE_INT && key.kind != VALUE_BOOL)
                return eval_fail(ev, "a key is a string, int or bool, not " STR_FMT,
                                 STR_ARG(type_of(key)));
        e = eval_lookup(ev, map, key, &twice);
        if (!e && twice)
                return eval_fail(ev, "the key " STR_FMT " stands there twice",
                                 STR_ARG(key_text(ev, key)));
        if (!e)
                map.map->entries[map.map->n++] = (struct value_entry){ key, value };
        return e;
}

static enum err eval_map(struct eval *ev, const struct node *node, struct value *out)
{
        struct value map = value_map_of(ev->scope, node->n / 2);
        enum err e = eval_charge(ev, node->n);

        for (size_t i = 0; i < node->n && !e; i += 2) {
                struct value key = { .kind = VALUE_NULL }, value = key;

                e = eval(ev, node->args[i], &key);
                if (!e)
                        e = eval(ev, node->args[i + 1], &value);
                ev->at = node->args[i]->at;
                if (!e)
                        e = put_entry(ev, map, key, value);
        }
        if (!e)
                *out = map;
        return e;
}

/* ---- logic ---- */

static enum err eval_truth(struct eval *ev, const struct node *node, const char *what, bool *out)
{
        struct value v;
        enum err e = eval(ev, node, &v);

        if (e)
                return e;
        ev->at = node->at;
        if (v.kind != VALUE_BOOL)
                return eval_fail(ev, "%s is a bool, not " STR_FMT, what, STR_ARG(type_of(v)));
        *out = v.truth;
        return ERR_OK;
}

/*
 * Truths that are joined by && or ||, one after the other.  The one that decides wins over errors of
 * the others, wherever they stand; without it the first error is the result.
 */
struct row {
        bool decides;
        struct fault before, first;
        enum err e;
};

static struct row row_begin(struct eval *ev, bool decides)
{
        return (struct row){ .decides = decides, .before = ev->scope->fault };
}

/* True when the row is decided or may not go on. */
static bool row_add(struct eval *ev, struct row *row, enum err e, bool truth)
{
        if (e && ev->over) {
                row->e = e;
                row->first = ev->scope->fault;
                return true;
        }
        if (e && !row->e) {
                row->e = e;
                row->first = ev->scope->fault;
        }
        if (e || truth != row->decides)
                return false;
        row->e = ERR_OK;
        return true;
}

static enum err row_end(struct eval *ev, const struct row *row, bool decided, struct value *out)
{
        ev->scope->fault = row->e ? row->first : row->before;
        *out = value_bool(decided == row->decides);
        return row->e;
}

static enum err eval_row(struct eval *ev, const struct node *node, struct value *out)
{
        struct row row = row_begin(ev, node->kind == NODE_OR);
        const char *what = node->kind == NODE_OR ? "each side of ||" : "each side of &&";
        bool decided = false;

        for (size_t i = 0; i < node->n && !decided; i++) {
                bool truth = false;
                enum err e = eval_truth(ev, node->args[i], what, &truth);

                decided = row_add(ev, &row, e, truth);
        }
        return row_end(ev, &row, decided, out);
}

static enum err eval_choice(struct eval *ev, const struct node *node, struct value *out)
{
        bool truth = false;
        enum err e = eval_truth(ev, node->args[0], "the condition before ?", &truth);

        return e ? e : eval(ev, node->args[truth ? 1 : 2], out);
}

/* ---- macros ---- */

static size_t range_size(struct value range)
{
        return range.kind == VALUE_LIST ? range.list->n : range.map->n;
}

static struct value range_item(struct value range, size_t i)
{
        return range.kind == VALUE_LIST ? range.list->items[i] : range.map->entries[i].key;
}

static enum err fold_truth(struct eval *ev, const struct node *node, const struct node *body,
                           bool *out)
{
        char what[40];

        snprintf(what, sizeof(what), "the condition of %s()", fold_name(node->fold));
        return eval_truth(ev, body, what, out);
}

static enum err fold_row(struct eval *ev, const struct node *node, struct value range,
                         struct value *item, struct value *out)
{
        struct row row = row_begin(ev, node->fold == FOLD_EXISTS);
        bool decided = false;

        for (size_t i = 0; i < range_size(range) && !decided; i++) {
                bool truth = false;
                enum err e;

                *item = range_item(range, i);
                e = fold_truth(ev, node, node->args[1], &truth);
                decided = row_add(ev, &row, e, truth);
        }
        return row_end(ev, &row, decided, out);
}

static enum err fold_one(struct eval *ev, const struct node *node, struct value range,
                         struct value *item, struct value *out)
{
        size_t found = 0;
        enum err e = ERR_OK;

        for (size_t i = 0; i < range_size(range) && !e; i++) {
                bool truth = false;

                *item = range_item(range, i);
                e = fold_truth(ev, node, node->args[1], &truth);
                found += truth;
        }
        if (!e)
                *out = value_bool(found == 1);
        return e;
}

/* filter() keeps items, map() what an expression makes of them, with a condition or without. */
static enum err fold_list(struct eval *ev, const struct node *node, struct value range,
                          struct value *item, struct value *out)
{
        bool condition = node->fold != FOLD_MAP;
        struct value *items;
        size_t n = 0;
        enum err e = eval_items(ev, range_size(range), &items);

        for (size_t i = 0; !e && i < range_size(range); i++) {
                bool keep = true;

                *item = range_item(range, i);
                if (condition)
                        e = fold_truth(ev, node, node->args[1], &keep);
                if (e || !keep)
                        continue;
                if (node->fold == FOLD_FILTER)
                        items[n++] = *item;
                else
                        e = eval(ev, node->args[condition ? 2 : 1], &items[n++]);
        }
        if (!e)
                *out = value_list_of(ev->scope, items, n);
        return e;
}

static enum err eval_fold(struct eval *ev, const struct node *node, struct value *out)
{
        struct binding own = { .name = node->name, .up = ev->bindings };
        struct value range;
        enum err e = eval(ev, node->args[0], &range);

        ev->at = node->at;
        if (e)
                return e;
        if (range.kind != VALUE_LIST && range.kind != VALUE_MAP)
                return eval_fail(ev, "%s() takes a list or a map, not " STR_FMT,
                                 fold_name(node->fold), STR_ARG(type_of(range)));
        /* cppcheck-suppress autoVariables ; taken back below */
        ev->bindings = &own;
        switch (node->fold) {
        case FOLD_ALL:
        case FOLD_EXISTS:
                e = fold_row(ev, node, range, &own.value, out);
                break;
        case FOLD_EXISTS_ONE:
                e = fold_one(ev, node, range, &own.value, out);
                break;
        case FOLD_MAP:
        case FOLD_MAP_IF:
        case FOLD_FILTER:
                e = fold_list(ev, node, range, &own.value, out);
                break;
        }
        ev->bindings = own.up;
        return e;
}

/* ---- all together ---- */

static enum err eval_call(struct eval *ev, const struct node *node, struct value *out)
{
        struct value few[4] = { { .kind = VALUE_NULL } }, *args = few;
        enum err e;

        if (!node->function)
                return eval_fail(ev, "no such function " STR_FMT "()",
                                 STR_ARG(expr_clip(node->name)));
        if (node->n > LENGTH(few))
                args = arena_array(&ev->scope->arena, struct value, node->n);
        e = node->n > LENGTH(few) ? eval_charge(ev, node->n) : ERR_OK;
        if (!e)
                e = eval_args(ev, node, args);
        return e ? e : function_call(ev, node, args, out);
}

static enum err eval(struct eval *ev, const struct node *node, struct value *out)
{
        enum err e;

        ev->at = node->at;
        e = eval_charge(ev, 1);
        if (e)
                return e;
        switch (node->kind) {
        case NODE_LITERAL:
                *out = node->literal;
                return ERR_OK;
        case NODE_NAME:
                return eval_name(ev, node, out);
        case NODE_SELECT:
        case NODE_HAS:
                return eval_select(ev, node, out);
        case NODE_CALL:
                return eval_call(ev, node, out);
        case NODE_LIST:
                return eval_list(ev, node, out);
        case NODE_MAP:
                return eval_map(ev, node, out);
        case NODE_AND:
        case NODE_OR:
                return eval_row(ev, node, out);
        case NODE_CHOICE:
                return eval_choice(ev, node, out);
        case NODE_FOLD:
                return eval_fold(ev, node, out);
        }
        bug(__FILE__, __LINE__, "a node of no kind");
}

/* ---- the size of the result ---- */

static size_t text_size(struct str s)
{
        size_t n = 2;

        for (size_t i = 0; i < s.n; i++) {
                unsigned char c = (unsigned char)s.p[i];

                n += c == '"' || c == '\\' ? 2 : c < 0x20 || c == 0x7f ? 6 : 1;
        }
        return n;
}

/* Takes from *left what the value needs as JSON at most; false when there is not enough. */
static bool take_size(struct value v, size_t *left)
{
        size_t size = v.kind == VALUE_STRING ? text_size(v.text) :
                      v.kind == VALUE_LIST || v.kind == VALUE_MAP ? 2 : 5;

        if (size > *left)
                return false;
        *left -= size;
        if (v.kind == VALUE_LIST)
                for (size_t i = 0; i < v.list->n; i++)
                        if (!take_size(v.list->items[i], left))
                                return false;
        if (v.kind == VALUE_MAP)
                for (size_t i = 0; i < v.map->n; i++)
                        if (!take_size(v.map->entries[i].key, left) ||
                            !take_size(v.map->entries[i].value, left))
                                return false;
        return true;
}

/* First without writing, since shared parts could make the text endless; then exactly. */
static enum err check_size(struct eval *ev, struct value v)
{
        size_t left = 8 * EXPR_MAX_BYTES;
        struct str text;

        if (v.kind != VALUE_STRING && v.kind != VALUE_LIST && v.kind != VALUE_MAP)
                return ERR_OK;
        if (take_size(v, &left) &&
            (8 * EXPR_MAX_BYTES - left < EXPR_MAX_BYTES / 8 ||
             value_dump_limited(ev->scope, v, EXPR_MAX_BYTES, &text)))
                return ERR_OK;
        ev->at = ev->expr->root->at;
        return eval_over(ev, "the result takes more bytes as JSON than", EXPR_MAX_BYTES);
}

enum err expr_eval(struct scope *scope, const struct expr *expr, const struct expr_env *env,
                   struct value *out)
{
        struct eval ev = { .scope = scope, .expr = expr, .env = env };
        struct value v;
        enum err e = eval(&ev, expr->root, &v);

        regex_done(&ev);
        if (!e)
                e = check_size(&ev, v);
        if (!e)
                *out = v;
        return e;
}
