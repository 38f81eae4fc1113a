/*
 * Runs the public conformance cases of the Common Expression Language against src/flow/expr:
 *
 *      conformance DIR
 *
 * DIR holds the cases, *.textproto.  Cases that need what JSON values do not have are skipped by
 * rule and counted by their reason.  Each expression is also printed, compiled again and run again.
 * The last line is "N passed, N failed, N skipped".
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/expr/expr.h"

/* ---- protobuf's text format ---- */

struct part {
        struct str name;
        struct str scalar;   /* text or a bare word; absent for a message */
        struct part *first; /* of a message */
        struct part *next;
};

struct reader {
        struct arena *arena;
        const char *file;
        struct str text;
        size_t at;
};

static char peek(const struct reader *r)
{
        return r->at < r->text.n ? r->text.p[r->at] : '\0';
}

static void die(const struct reader *r, const char *what)
{
        int line = 1;

        for (size_t i = 0; i < r->at && i < r->text.n; i++)
                line += r->text.p[i] == '\n';
        fprintf(stderr, "%s:%d: %s\n", r->file, line, what);
        exit(2);
}

static void blanks(struct reader *r)
{
        for (; peek(r) && strchr(" \t\r\n,;#", peek(r)); r->at++)
                if (peek(r) == '#')
                        r->at = str_find(r->text, '\n', r->at);
}

static bool take(struct reader *r, char c)
{
        blanks(r);
        if (peek(r) != c)
                return false;
        r->at++;
        return true;
}

static struct str word(struct reader *r)
{
        size_t from = r->at;

        while (peek(r) && !strchr(" \t\r\n,;:{}<>#", peek(r)))
                r->at++;
        if (r->at == from)
                die(r, "expected a word");
        return str_slice(r->text, from, r->at);
}

static void put_utf8(struct buf *out, unsigned long c)
{
        if (c < 0x80) {
                buf_char(out, (char)c);
        } else if (c < 0x800) {
                buf_char(out, (char)(0xc0 | c >> 6));
                buf_char(out, (char)(0x80 | (c & 0x3f)));
        } else if (c < 0x10000) {
                buf_char(out, (char)(0xe0 | c >> 12));
                buf_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
                buf_char(out, (char)(0x80 | (c & 0x3f)));
        } else {
                buf_char(out, (char)(0xf0 | c >> 18));
                buf_char(out, (char)(0x80 | (c >> 12 & 0x3f)));
                buf_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
                buf_char(out, (char)(0x80 | (c & 0x3f)));
        }
}

static unsigned long digits(struct reader *r, size_t most, int base)
{
        char text[9] = "";
        size_t n = 0;
        const char *known = base == 8 ? "01234567" : "0123456789abcdefABCDEF";

        for (; n < most && peek(r) && strchr(known, peek(r)); n++, r->at++)
                text[n] = peek(r);
        return strtoul(text, NULL, base);
}

/* \xff and \377 are bytes here, unlike in an expression. */
static void escape(struct reader *r, struct buf *out)
{
        static const char plain[] = "a\ab\bf\fn\nr\rt\tv\v??";
        char c = peek(r);

        for (size_t i = 0; plain[i]; i += 2)
                if (c == plain[i]) {
                        buf_char(out, plain[i + 1]);
                        r->at++;
                        return;
                }
        if (c >= '0' && c <= '7') {
                buf_char(out, (char)digits(r, 3, 8));
                return;
        }
        r->at++;
        if (c == 'x' || c == 'X')
                buf_char(out, (char)digits(r, 2, 16));
        else if (c == 'u')
                put_utf8(out, digits(r, 4, 16));
        else if (c == 'U')
                put_utf8(out, digits(r, 8, 16));
        else
                buf_char(out, c);
}

static void quoted(struct reader *r, struct buf *out)
{
        char quote = peek(r);

        for (r->at++; peek(r) != quote;) {
                if (!peek(r) || peek(r) == '\n')
                        die(r, "the text is not closed");
                if (peek(r) == '\\') {
                        r->at++;
                        escape(r, out);
                } else {
                        buf_char(out, r->text.p[r->at++]);
                }
        }
        r->at++;
}

static struct str scalar(struct reader *r)
{
        struct buf out = BUF_INIT(1 << 20);
        struct str text;

        blanks(r);
        if (peek(r) != '"' && peek(r) != '\'')
                return word(r);
        for (; peek(r) == '"' || peek(r) == '\''; blanks(r))
                quoted(r, &out);
        text = out.n ? str_dup(r->arena, buf_view(&out)) : STR("");
        buf_done(&out);
        return text;
}

/* Fields up to the closing brace, or to the end of the file when there is none to come. */
static struct part *message(struct reader *r, bool inner)
{
        struct part *first = NULL, **last = &first;

        while (!take(r, '}')) {
                struct part *f;

                blanks(r);
                if (r->at == r->text.n && !inner)
                        return first;
                f = arena_new(r->arena, struct part);
                f->name = word(r);
                if (take(r, ':'))
                        blanks(r);
                if (take(r, '{'))
                        f->first = message(r, true);
                else
                        f->scalar = scalar(r);
                *last = f;
                last = &f->next;
        }
        return first;
}

static const struct part *get(const struct part *message, const char *name)
{
        for (const struct part *f = message; f; f = f->next)
                if (str_is(f->name, name))
                        return f;
        return NULL;
}

/* The content of a message within a message; none when it is not there. */
static const struct part *inside(const struct part *message, const char *name)
{
        const struct part *f = get(message, name);

        return f ? f->first : NULL;
}

static struct str get_text(const struct part *message, const char *name)
{
        const struct part *f = get(message, name);

        return f && f->scalar.p ? f->scalar : STR("");
}

/* ---- values ---- */

static int64_t get_number(const struct part *message, const char *name)
{
        struct str text = get_text(message, name);

        return text.n ? strtoll(text.p, NULL, 10) : 0;
}

static struct value make(struct scope *, const struct part *);

static size_t count(const struct part *message)
{
        size_t n = 0;

        for (; message; message = message->next)
                n++;
        return n;
}

static struct value make_list(struct scope *scope, const struct part *message)
{
        struct value *items = arena_array(&scope->arena, struct value, count(message));
        size_t n = 0;

        for (const struct part *f = message; f; f = f->next)
                items[n++] = make(scope, f->first);
        return value_list_of(scope, items, n);
}

static struct value make_map(struct scope *scope, const struct part *message)
{
        struct value map = value_map_of(scope, count(message));

        for (const struct part *f = message; f; f = f->next)
                map.map->entries[map.map->n++] = (struct value_entry){
                        make(scope, inside(f->first, "key")),
                        make(scope, inside(f->first, "value")),
                };
        return map;
}

/* One of the well-known messages that are values of the language. */
static struct value make_moment(const struct part *message)
{
        const struct part *content = message->first;
        int64_t nanos = get_number(content, "nanos");

        return (struct value){
                .kind = str_ends(message->name, "Duration]") ? VALUE_DURATION : VALUE_TIMESTAMP,
                .number = get_number(content, "seconds") * US_PER_S + nanos / 1000,
                .nanos = (uint32_t)(nanos % 1000),
        };
}

static struct value make(struct scope *scope, const struct part *f)
{
        struct value v = { .kind = VALUE_NULL };

        if (!f || str_is(f->name, "null_value"))
                return v;
        if (str_is(f->name, "list_value"))
                return make_list(scope, f->first);
        if (str_is(f->name, "map_value"))
                return make_map(scope, f->first);
        if (str_is(f->name, "object_value"))
                return make_moment(f->first);
        if (str_is(f->name, "int64_value"))
                return value_int(strtoll(f->scalar.p, NULL, 10));
        if (str_is(f->name, "bool_value"))
                return value_bool(str_is(f->scalar, "true"));
        v.kind = VALUE_STRING;
        v.text = f->scalar;
        if (str_is(f->name, "type_value"))
                v.kind = VALUE_TYPE;
        if (str_is(f->name, "double_value")) {
                v.kind = VALUE_DOUBLE;
                v.real = strtod(str_c(&scope->arena, f->scalar), NULL);
        }
        return v;
}

static bool same(struct value a, struct value b)
{
        if (a.kind != b.kind)
                return false;
        if (a.kind == VALUE_DOUBLE && __builtin_isnan(a.real))
                return __builtin_isnan(b.real);
        if (a.kind != VALUE_LIST)
                return value_equal(a, b);
        if (a.list->n != b.list->n)
                return false;
        for (size_t i = 0; i < a.list->n; i++)
                if (!same(a.list->items[i], b.list->items[i]))
                        return false;
        return true;
}

/* ---- what is skipped ---- */

static const char *const reasons[] = {
        "protobuf messages",
        "enums",
        "unsigned integers",
        "bytes",
        "time zones by name",
};
static int skipped_by[LENGTH(reasons)];

enum { MESSAGES, ENUMS, UNSIGNED, BYTES, ZONES, NOTHING };

static bool is_letter(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

/* A literal or function of a kind that is not here: 5u, uint(5), b'x', bytes('x'). */
static int unsupported_word(struct str w, char after)
{
        bool number = w.p[0] >= '0' && w.p[0] <= '9';
        char last = w.p[w.n - 1];

        if (after == '"' || after == '\'')
                return memchr(w.p, 'b', w.n) || memchr(w.p, 'B', w.n) ? BYTES : NOTHING;
        if (str_is(w, "uint") || (number && (last == 'u' || last == 'U')))
                return UNSIGNED;
        return str_is(w, "bytes") ? BYTES : NOTHING;
}

static bool is_zone(struct str s)
{
        size_t slash = str_find(s, '/', 0);

        return slash > 0 && slash + 1 < s.n && s.p[0] >= 'A' && s.p[0] <= 'Z';
}

static int needs_of_source(struct str s)
{
        bool getter = str_contains(s, STR(".get"));
        int need = NOTHING;

        for (size_t i = 0, from; i < s.n && need == NOTHING; i++) {
                if (s.p[i] == '"' || s.p[i] == '\'') {
                        char quote = s.p[i];

                        for (from = ++i; i < s.n && s.p[i] != quote; i++)
                                i += s.p[i] == '\\';
                        if (getter && i <= s.n && is_zone(str_slice(s, from, i)))
                                need = ZONES;
                } else if (is_letter(s.p[i])) {
                        for (from = i; i < s.n && is_letter(s.p[i]); i++)
                                ;
                        need = unsupported_word(str_slice(s, from, i), i < s.n ? s.p[i] : ' ');
                        i--;
                }
        }
        return need;
}

static int needs_of_fields(const struct part *message)
{
        static const struct {
                const char *name;
                int need;
        } kinds[] = { { "uint64_value", UNSIGNED }, { "bytes_value", BYTES },
                      { "enum_value", ENUMS },      { "container", MESSAGES } };
        int need = NOTHING;

        for (const struct part *f = message; f && need == NOTHING; f = f->next) {
                for (size_t i = 0; i < LENGTH(kinds); i++)
                        if (str_is(f->name, kinds[i].name))
                                need = kinds[i].need;
                if (str_starts(f->name, "[type.") && !str_ends(f->name, "protobuf.Duration]") &&
                    !str_ends(f->name, "protobuf.Timestamp]"))
                        need = MESSAGES;
                if (need == NOTHING)
                        need = needs_of_fields(f->first);
        }
        return need;
}

/* ---- cases ---- */

static int passed, failed, skipped;

struct test {
        const char *file;
        struct str section;
        const struct part *fields;
        struct str source;
};

static bool find_binding(const struct expr_env *env, struct scope *scope, struct str name,
                         struct value *out)
{
        for (const struct part *f = env->ctx; f; f = f->next)
                if (str_is(f->name, "bindings") && str_eq(get_text(f->first, "key"), name)) {
                        *out = make(scope, inside(inside(f->first, "value"), "value"));
                        return true;
                }
        return false;
}

static void complain(const struct test *t, struct str got, struct str wanted)
{
        printf("FAILED %s, %.*s, %.*s\n  expression: %.*s\n  got: %.*s\n  wanted: %.*s\n", t->file,
               STR_ARG(t->section), STR_ARG(get_text(t->fields, "name")), STR_ARG(t->source),
               STR_ARG(got), STR_ARG(wanted));
}

static struct str describe(struct scope *scope, struct value v)
{
        return arena_printf(&scope->arena, "%.*s (kind %d)", STR_ARG(value_dump(scope, v)),
                            (int)v.kind);
}

/* One evaluation against the expected value or error. */
static bool judge(struct scope *scope, const struct test *t, const struct expr *expr, enum err compiled)
{
        const struct expr_env env = { .find = find_binding, .ctx = t->fields, .dotted = true };
        const struct part *wanted = get(t->fields, "value");
        struct value got = { .kind = VALUE_NULL }, value;
        enum err e = compiled ? compiled : expr_eval(scope, expr, &env, &got);

        if (!wanted && get(t->fields, "eval_error")) {
                if (!e)
                        complain(t, describe(scope, got), STR("an error"));
                return e != ERR_OK;
        }
        value = wanted ? make(scope, wanted->first) : value_bool(true);
        if (e)
                complain(t, scope->fault.detail, describe(scope, value));
        else if (!same(got, value))
                complain(t, describe(scope, got), describe(scope, value));
        return !e && same(got, value);
}

/* Printed source compiles to the same tree: printing that gives the same text again. */
static bool judge_printed(struct scope *scope, const struct test *t, const struct expr *expr)
{
        struct str once = expr_print(scope, expr);
        struct expr *again;

        if (expr_compile(scope, once, &again)) {
                complain(t, scope->fault.detail, once);
                return false;
        }
        if (!str_eq(once, expr_print(scope, again))) {
                complain(t, expr_print(scope, again), once);
                return false;
        }
        return judge(scope, t, again, ERR_OK);
}

static void run_test(const struct test *t)
{
        int need = needs_of_source(t->source);
        struct scope scope;
        struct expr *expr = NULL;
        enum err e;
        bool fine;

        if (need == NOTHING)
                need = needs_of_fields(t->fields);
        if (need != NOTHING) {
                skipped_by[need]++;
                skipped++;
                return;
        }
        scope_init(&scope, &system_world);
        e = expr_compile(&scope, t->source, &expr);
        fine = judge(&scope, t, expr, e) && (e || judge_printed(&scope, t, expr));
        *(fine ? &passed : &failed) += 1;
        scope_done(&scope);
}

static void run_file(struct arena *arena, const char *path)
{
        struct reader r = { .arena = arena, .file = path };
        struct buf text = BUF_INIT(16 << 20);
        FILE *in = fopen(path, "r");
        char block[4096];

        if (!in)
                die(&r, "cannot be read");
        for (size_t n; (n = fread(block, 1, sizeof(block), in)) > 0;)
                buf_bytes(&text, block, n);
        fclose(in);
        r.text = buf_view(&text);
        for (const struct part *s = message(&r, false); s; s = s->next)
                for (const struct part *f = s->first; str_is(s->name, "section") && f; f = f->next)
                        if (str_is(f->name, "test"))
                                run_test(&(struct test){ .file = path,
                                                         .section = get_text(s->first, "name"),
                                                         .fields = f->first,
                                                         .source = get_text(f->first, "expr") });
        buf_done(&text);
}

int main(int argc, char **argv)
{
        struct arena arena = { 0 };
        char pattern[4096];
        glob_t files = { 0 };

        if (argc != 2) {
                fprintf(stderr, "usage: conformance DIR\n");
                return 2;
        }
        snprintf(pattern, sizeof(pattern), "%s/*.textproto", argv[1]);
        if (glob(pattern, 0, NULL, &files)) {
                fprintf(stderr, "%s: no such files\n", pattern);
                return 2;
        }
        for (size_t i = 0; i < files.gl_pathc; i++)
                run_file(&arena, files.gl_pathv[i]);
        for (size_t i = 0; i < LENGTH(reasons); i++)
                if (skipped_by[i])
                        printf("skipped, needs %s: %d\n", reasons[i], skipped_by[i]);
        printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
        globfree(&files);
        arena_done(&arena);
        return failed || !passed;
}
