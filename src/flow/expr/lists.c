/* Functions of lists and maps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flow/expr/parts.h"

enum err run_list_size(struct eval *ev, const struct value *args, struct value *out)
{
        (void)ev;
        *out = value_int((int64_t)args[0].list->n);
        return ERR_OK;
}

enum err run_map_size(struct eval *ev, const struct value *args, struct value *out)
{
        (void)ev;
        *out = value_int((int64_t)args[0].map->n);
        return ERR_OK;
}

static void copy(struct value *out, const struct value_list *list)
{
        if (list->n)
                memcpy(out, list->items, list->n * sizeof(*out));
}

enum err run_concat(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *a = args[0].list, *b = args[1].list;
        struct value *items = NULL;
        enum err e = eval_items(ev, a->n + b->n, &items);

        if (e)
                return e;
        copy(items, a);
        copy(items + a->n, b);
        *out = value_list_of(ev->scope, items, a->n + b->n);
        return ERR_OK;
}

enum err run_at(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        int64_t i = args[1].number;

        if (args[1].kind == VALUE_DOUBLE) {
                double d = args[1].real;

                if (!(d >= 0 && d < 9007199254740992.0) || d > trunc(d))
                        return eval_fail(ev, "a list has no item %.15g", d);
                i = (int64_t)d;
        }
        if (i < 0 || (uint64_t)i >= list->n)
                return eval_fail(ev, "item %lld is outside the list of %zu (index out of range)",
                                 (long long)i, list->n);
        *out = list->items[i];
        return ERR_OK;
}

static enum err is_in(struct eval *ev, struct value v, const struct value *items, size_t n, bool *out)
{
        enum err e = ERR_OK;

        *out = false;
        for (size_t i = 0; i < n && !*out && !e; i++)
                e = eval_equal(ev, v, items[i], out);
        return e;
}

enum err run_in_list(struct eval *ev, const struct value *args, struct value *out)
{
        bool found;
        enum err e = is_in(ev, args[0], args[1].list->items, args[1].list->n, &found);

        *out = value_bool(found);
        return e;
}

enum err run_in_map(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value *found;
        enum err e = eval_lookup(ev, args[1], args[0], &found);

        *out = value_bool(found);
        return e;
}

enum err run_join(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        struct str sep = ev->given == 2 ? args[1].text : STR("");
        size_t n = 0;
        char *text = NULL;
        enum err e = eval_charge(ev, list->n);

        for (size_t i = 0; i < list->n && !e; i++) {
                if (list->items[i].kind != VALUE_STRING)
                        return eval_fail(ev, "join() takes a list of strings; item %zu is " STR_FMT, i,
                                         STR_ARG(type_of(list->items[i])));
                n += list->items[i].text.n + (i ? sep.n : 0);
        }
        if (!e)
                e = eval_bytes(ev, n, &text);
        if (e)
                return e;
        *out = value_text((struct str){ text, n });
        for (size_t i = 0; i < list->n; i++) {
                struct str s = list->items[i].text;

                if (i && sep.n)
                        text = (char *)memcpy(text, sep.p, sep.n) + sep.n;
                if (s.n)
                        text = (char *)memcpy(text, s.p, s.n) + s.n;
        }
        return ERR_OK;
}

enum err run_slice(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        int64_t from = args[1].number, to = args[2].number;

        if (from < 0 || to < from || (uint64_t)to > list->n)
                return eval_fail(ev, "items %lld to %lld are outside the list of %zu",
                                 (long long)from, (long long)to, list->n);
        *out = value_list_of(ev->scope, list->n ? list->items + from : NULL, (size_t)(to - from));
        return ERR_OK;
}

enum err run_distinct(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        struct value *items = NULL;
        size_t n = 0;
        enum err e = eval_items(ev, list->n, &items);

        for (size_t i = 0; !e && i < list->n; i++) {
                bool known;

                e = is_in(ev, list->items[i], items, n, &known);
                if (!e && !known)
                        items[n++] = list->items[i];
        }
        if (!e)
                *out = value_list_of(ev->scope, items, n);
        return e;
}

/* One level, as the language has it. */
enum err run_flatten(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        struct value *items = NULL;
        size_t n = 0, at = 0;
        enum err e = eval_charge(ev, list->n);

        for (size_t i = 0; i < list->n; i++)
                n += list->items[i].kind == VALUE_LIST ? list->items[i].list->n : 1;
        if (!e)
                e = eval_items(ev, n, &items);
        if (e)
                return e;
        for (size_t i = 0; i < list->n; i++) {
                if (list->items[i].kind == VALUE_LIST) {
                        copy(items + at, list->items[i].list);
                        at += list->items[i].list->n;
                } else {
                        items[at++] = list->items[i];
                }
        }
        *out = value_list_of(ev->scope, items, n);
        return ERR_OK;
}

enum err run_reverse_list(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        struct value *items = NULL;
        enum err e = eval_items(ev, list->n, &items);

        for (size_t i = 0; i < list->n && !e; i++)
                items[i] = list->items[list->n - 1 - i];
        if (!e)
                *out = value_list_of(ev->scope, items, list->n);
        return e;
}

/* ---- sorting ---- */

static bool is_number(struct value v)
{
        return v.kind == VALUE_INT || v.kind == VALUE_DOUBLE;
}

static bool is_ordered(struct value v)
{
        return is_number(v) || v.kind == VALUE_STRING || v.kind == VALUE_BOOL ||
               v.kind == VALUE_TIMESTAMP || v.kind == VALUE_DURATION;
}

static int by_order(const void *a, const void *b)
{
        int n = value_order(*(const struct value *)a, *(const struct value *)b);

        return n == UNORDERED ? 0 : n;
}

enum err run_sort(struct eval *ev, const struct value *args, struct value *out)
{
        const struct value_list *list = args[0].list;
        struct value *items = NULL;
        uint64_t bytes = 0;
        enum err e = eval_items(ev, list->n, &items);

        for (size_t i = 0; i < list->n && !e; i++) {
                struct value v = list->items[i];

                if (!is_ordered(v) || (v.kind != list->items[0].kind &&
                                       !(is_number(v) && is_number(list->items[0]))))
                        return eval_fail(ev, "sort() takes values of one ordered kind; item %zu "
                                             "is " STR_FMT, i, STR_ARG(type_of(v)));
                bytes += v.kind == VALUE_STRING ? 1 + v.text.n : 1;
        }
        if (!e)
                e = eval_charge(ev, bytes); /* log n comparisons of each, 16 bytes a step */
        if (e)
                return e;
        copy(items, list);
        if (list->n)
                qsort(items, list->n, sizeof(*items), by_order);
        *out = value_list_of(ev->scope, items, list->n);
        return ERR_OK;
}

enum err run_range(struct eval *ev, const struct value *args, struct value *out)
{
        size_t n = args[0].number > 0 ? (size_t)args[0].number : 0;
        struct value *items = NULL;
        enum err e = eval_items(ev, n, &items);

        for (size_t i = 0; i < n && !e; i++)
                items[i] = value_int((int64_t)i);
        if (!e)
                *out = value_list_of(ev->scope, items, n);
        return e;
}
