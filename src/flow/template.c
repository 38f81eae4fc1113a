#include "flow/template.h"

#include <string.h>

enum template_kind { CONSTANT, EXPRESSION, CONCAT, LIST, MAP };
enum { TEMPLATE_MAX_TEXT = 1048576 };

struct template {
        enum template_kind kind;
        struct value constant;
        struct expr *expr;
        struct template *items; /* of CONCAT, LIST, MAP */
        struct value *keys;     /* of MAP */
        size_t n;
};

bool template_is_constant(const struct template *t)
{
        return t->kind == CONSTANT;
}

static struct template constant(struct value v)
{
        return (struct template){ .kind = CONSTANT, .constant = v };
}

/* Where the expression that begins at `from` ends: at "}}" outside quotes and braces; s.n = never. */
static size_t expression_end(struct str s, size_t from)
{
        int braces = 0;
        char quote = 0;

        for (size_t i = from; i < s.n; i++) {
                char c = s.p[i];

                if (quote) {
                        if (c == '\\')
                                i++;
                        else if (c == quote)
                                quote = 0;
                } else if (c == '"' || c == '\'') {
                        quote = c;
                } else if (c == '{') {
                        braces++;
                } else if (c == '}' && braces > 0) {
                        braces--;
                } else if (c == '}' && i + 1 < s.n && s.p[i + 1] == '}') {
                        return i;
                }
        }
        return s.n;
}

static size_t find_mark(struct str s, size_t from)
{
        for (size_t i = from; i + 3 <= s.n; i++)
                if (memcmp(s.p + i, "${{", 3) == 0)
                        return i;
        return s.n;
}

/* The literal text in [from, to): a "$" doubled before the mark has been left out already. */
static void add_text(struct scope *scope, struct template *t, struct str s, size_t from, size_t to)
{
        if (to > from)
                t->items[t->n++] = constant((struct value){
                        .kind = VALUE_STRING,
                        .text = str_dup(&scope->arena, str_slice(s, from, to)) });
}

static enum err compile_text(struct scope *scope, struct str s, struct template *out)
{
        size_t marks = 0, from = 0;
        enum err e;

        for (size_t i = find_mark(s, 0); i < s.n; i = find_mark(s, i + 3))
                marks++;
        *out = constant((struct value){ .kind = VALUE_STRING, .text = s });
        if (!marks)
                return ERR_OK;
        *out = (struct template){ .kind = CONCAT,
                                  .items = arena_array(&scope->arena, struct template,
                                                       2 * marks + 1) };
        while (from < s.n) {
                size_t mark = find_mark(s, from), end;

                if (mark < s.n && mark > from && s.p[mark - 1] == '$') {
                        add_text(scope, out, s, from, mark - 1);
                        add_text(scope, out, s, mark, mark + 3);
                        from = mark + 3;
                        continue;
                }
                add_text(scope, out, s, from, mark);
                if (mark == s.n)
                        break;
                end = expression_end(s, mark + 3);
                if (end == s.n)
                        return fail(scope, ERR_INVALID_CONDITION, "\"${{\" without \"}}\"");
                out->items[out->n] = (struct template){ .kind = EXPRESSION };
                e = expr_compile(scope, str_trim(str_slice(s, mark + 3, end)),
                                 &out->items[out->n].expr);
                if (!e)
                        e = expr_check(scope, out->items[out->n].expr);
                if (e)
                        return e;
                out->n++;
                from = end + 2;
        }
        if (out->n == 1)
                *out = out->items[0];
        return ERR_OK;
}

static enum err compile(struct scope *, struct value, struct template *out, struct str *where);

static enum err compile_list(struct scope *scope, struct value v, struct template *out,
                             struct str *where)
{
        bool all_constant = true;

        *out = (struct template){ .kind = LIST,
                                  .items = arena_array(&scope->arena, struct template,
                                                       v.list->n + 1),
                                  .n = v.list->n };
        for (size_t i = 0; i < v.list->n; i++) {
                struct str below = STR_NONE;
                enum err e = compile(scope, v.list->items[i], &out->items[i], &below);

                if (e) {
                        *where = arena_printf(&scope->arena, "[%zu]" STR_FMT, i, STR_ARG(below));
                        return e;
                }
                all_constant = all_constant && out->items[i].kind == CONSTANT;
        }
        if (all_constant)
                *out = constant(v);
        return ERR_OK;
}

static enum err compile_map(struct scope *scope, struct value v, struct template *out,
                            struct str *where)
{
        bool all_constant = true;

        *out = (struct template){ .kind = MAP,
                                  .items = arena_array(&scope->arena, struct template, v.map->n + 1),
                                  .keys = arena_array(&scope->arena, struct value, v.map->n + 1),
                                  .n = v.map->n };
        for (size_t i = 0; i < v.map->n; i++) {
                struct str below = STR_NONE;
                enum err e = compile(scope, v.map->entries[i].value, &out->items[i], &below);

                out->keys[i] = v.map->entries[i].key;
                if (e) {
                        *where = arena_printf(&scope->arena, "." STR_FMT STR_FMT,
                                              STR_ARG(out->keys[i].text), STR_ARG(below));
                        return e;
                }
                all_constant = all_constant && out->items[i].kind == CONSTANT;
        }
        if (all_constant)
                *out = constant(v);
        return ERR_OK;
}

static enum err compile(struct scope *scope, struct value v, struct template *out, struct str *where)
{
        if (v.kind == VALUE_STRING)
                return compile_text(scope, v.text, out);
        if (v.kind == VALUE_LIST)
                return compile_list(scope, v, out, where);
        if (v.kind == VALUE_MAP)
                return compile_map(scope, v, out, where);
        *out = constant(v);
        return ERR_OK;
}

enum err template_compile(struct scope *scope, struct value v, struct template **out,
                          struct str *where)
{
        struct str below = STR_NONE;
        enum err e;

        *out = arena_new(&scope->arena, struct template);
        e = compile(scope, v, *out, &below);
        if (where)
                *where = below;
        return e;
}

static enum err render_concat(struct scope *scope, const struct template *t,
                              const struct expr_env *env, struct value *out)
{
        struct buf buf = BUF_INIT(TEMPLATE_MAX_TEXT);
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < t->n && !buf.full; i++) {
                struct str text = STR_NONE;
                struct value v;

                e = template_render(scope, &t->items[i], env, &v);
                if (e)
                        break;
                if (v.kind == VALUE_LIST || v.kind == VALUE_MAP)
                        buf.full = !value_dump_limited(scope, v, TEMPLATE_MAX_TEXT, &text);
                else
                        text = value_as_text(scope, v);
                buf_str(&buf, text);
        }
        if (!e && buf.full)
                e = fail(scope, ERR_INVALID_CONDITION, "the text would be longer than %d bytes",
                         TEMPLATE_MAX_TEXT);
        if (!e)
                *out = (struct value){ .kind = VALUE_STRING,
                                       .text = str_dup(&scope->arena, buf_view(&buf)) };
        buf_done(&buf);
        return e;
}

static enum err render_list(struct scope *scope, const struct template *t,
                            const struct expr_env *env, struct value *out)
{
        struct value_list *list = arena_new(&scope->arena, struct value_list);
        enum err e = ERR_OK;

        list->n = t->n;
        list->items = arena_array(&scope->arena, struct value, t->n + 1);
        for (size_t i = 0; !e && i < t->n; i++)
                e = template_render(scope, &t->items[i], env, &list->items[i]);
        *out = (struct value){ .kind = VALUE_LIST, .list = list };
        return e;
}

static enum err render_map(struct scope *scope, const struct template *t,
                           const struct expr_env *env, struct value *out)
{
        struct value_map *map = arena_new(&scope->arena, struct value_map);
        enum err e = ERR_OK;

        map->n = t->n;
        map->entries = arena_array(&scope->arena, struct value_entry, t->n + 1);
        for (size_t i = 0; !e && i < t->n; i++) {
                map->entries[i].key = t->keys[i];
                e = template_render(scope, &t->items[i], env, &map->entries[i].value);
        }
        *out = (struct value){ .kind = VALUE_MAP, .map = map };
        return e;
}

enum err template_render(struct scope *scope, const struct template *t, const struct expr_env *env,
                         struct value *out)
{
        switch (t->kind) {
        case CONSTANT:
                *out = t->constant;
                return ERR_OK;
        case EXPRESSION:
                return expr_eval(scope, t->expr, env, out);
        case CONCAT:
                return render_concat(scope, t, env, out);
        case LIST:
                return render_list(scope, t, env, out);
        case MAP:
                return render_map(scope, t, env, out);
        }
        return ERR_INTERNAL;
}
