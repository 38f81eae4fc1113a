#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours has arguments */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/expr/expr.h"

/* Names are the members of an object. */
static bool find(const struct expr_env *env, struct scope *scope, struct str name, struct value *out)
{
        const struct value *found = value_member(*(const struct value *)env->ctx, name);

        (void)scope;
        if (found)
                *out = *found;
        return found;
}

static struct str known(const struct expr_env *env, struct scope *scope)
{
        (void)env;
        (void)scope;
        return STR("input, steps, last");
}

static enum err run(struct scope *scope, struct str source, const char *env_json, struct value *out)
{
        struct value names = value_from_text(scope, str_from(env_json));
        struct expr_env env = { find, known, &names, .now = INT64_C(1767225600000000) };
        struct expr *expr;
        enum err e = expr_compile(scope, source, &expr);

        return e ? e : expr_eval(scope, expr, &env, out);
}

struct sample {
        const char *source;
        const char *wanted; /* JSON, or "! part of the message" */
        const char *env;
};

static bool check(const struct sample *s)
{
        struct scope scope;
        struct value v;
        struct str text;
        bool error = s->wanted[0] == '!', fine;
        enum err e;

        scope_init(&scope, &system_world);
        e = run(&scope, str_from(s->source), s->env ? s->env : "{}", &v);
        text = e ? scope.fault.detail : value_dump(&scope, v);
        fine = error ? e == ERR_INVALID_CONDITION && str_contains(text, str_from(s->wanted + 2)) :
                       !e && str_is(text, s->wanted);
        if (!fine)
                print_error("%.200s\n  got    " STR_FMT "\n  wanted %s\n", s->source, STR_ARG(text),
                            s->wanted);
        scope_done(&scope);
        return fine;
}

static void check_all(const struct sample *samples, size_t n)
{
        size_t wrong = 0;

        for (size_t i = 0; i < n; i++)
                wrong += !check(&samples[i]);
        assert_int_equal(wrong, 0);
}

static void literals_and_operators(void **state)
{
        static const struct sample samples[] = {
                { "1 + 2 * 3 - 4 % 3", "6" },
                { "(1 + 2) * 3", "9" },
                { "2 - 3 - 4", "-5" },
                { "-9223372036854775808", "-9223372036854775808" },
                { "0xFf", "255" },
                { ".5 + 1e2", "100.5" },
                { "'a' + \"b\" + '''c''' + \"\"\"d'\"e\"\"\"", "\"abcd'\\\"e\"" },
                { "r'\\n' + '\\n\\x41\\101\\u00e4\\U0001F600\\\"'", "\"\\\\n\\nAA\303\244\360\237\230\200\\\"\"" },
                { "1 == 1.0", "true" },
                { "1 == '1'", "false" },
                { "[1, 2.0] == [1.0, 2]", "true" },
                { "{'a': 1, 'b': [2]} == {'b': [2.0], 'a': 1.0}", "true" },
                { "9007199254740993 == 9007199254740992.0", "false" },
                { "9007199254740993 > 9007199254740992.0", "true" },
                { "1 < 1.5 && 2 > 1.5 && 'a' < 'b' && false < true", "true" },
                { "'c' > 'a' && 'c' >= 'a' && !('c' < 'a') && 'a' <= 'c'", "true" },
                { "0.0 / 0.0 == 0.0 / 0.0", "false" },
                { "0.0 / 0.0 < 1 || 0.0 / 0.0 >= 1", "false" },
                { "true ? 1 : 1 / 0", "1" },
                { "false ? 1 : true ? 2 : 3", "2" },
                { "[1, [2, {'a': [3]}]][1][1].a[0]", "3" },
                { "2 in [1, 2.0] && 'k' in {'k': 1} && !(3 in [])", "true" },
                { "{1: 'a', true: 'b', 'c': 'd'}[1.0]", "\"a\"" },
                { "[1, 2,]", "[1,2]" },
                { "{'a': 1,}", "{\"a\":1}" },
                { "-(-3) - -3", "6" },
                { "!!true && !false", "true" },
                { "1 + // one\n 2", "3" },
                { "type(1) == int && type('') != int && type(type(1)) == type", "true" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void names_and_fields(void **state)
{
        static const char env[] = "{\"input\":{\"n\":3,\"note\":null,\"a-b\":{\"c\":[1]},\"if\":7},"
                                  "\"type\":\"bug\",\"xs\":[3,1,2]}";
        static const struct sample samples[] = {
                { "input.n > 2", "true", env },
                { "input['n'] + 1", "4", env },
                { "input.`a-b`.c[0]", "1", env },
                { "input.if", "7", env },
                { "type == 'bug' && type(type) == string", "true", env },
                { "has(input.n) && has(input.note) && !has(input.other)", "true", env },
                { "xs.map(input, input * 2)", "[6,2,4]", env },
                { "xs.map(input, .input.n)", "[3,3,3]", env },
                { "xs.all(x, xs.exists(x, x == 3) && x < 4)", "true", env },
                { "input.fo", "! 1:7: no such key \"fo\"; known keys: n, note, a-b, if", env },
                { "1 +\n  fo", "! 2:3: no such name \"fo\"; known names: input, steps, last", env },
                { "'\303\244' + fo", "! 1:7: no such name", env },
                { "input.n.x", "! 1:9: a value of type int has no fields", env },
                { "has(input.n.x)", "! 1:13: a value of type int", env },
                { "xs[3]", "! 1:3: item 3 is outside the list of 3", env },
                { "xs[-1]", "! 1:3: item -1 is outside", env },
                { "xs['a']", "! no overload of [] for (list, string); it takes (list, number)", env },
                { "fo || true", "true", env },
                { "fo && true", "! 1:1: no such name", env },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void logic_absorbs_errors(void **state)
{
        static const struct sample samples[] = {
                { "1 / 0 == 1 || true", "true" },
                { "1 / 0 == 1 && false", "false" },
                { "1 / 0 == 1 || false", "! 1:3: division by zero" },
                { "1 && true", "! 1:1: each side of && is a bool, not int" },
                { "'x' || false || true", "true" },
                { "[1, 0].exists(x, 1 / x == 1)", "true" },
                { "[0, 2].exists(x, 1 / x == 1)", "! 1:20: division by zero" },
                { "[0, 1].all(x, 1 / x > 1)", "false" },
                { "[0, 1].exists_one(x, 1 / x == 1)", "! division by zero" },
                { "{'a': 1, 'b': 2}.exists_one(k, k == 'a')", "true" },
                { "f(1) || true", "true" },
                { "f(1)", "! 1:1: no such function f()" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void macros(void **state)
{
        static const struct sample samples[] = {
                { "[1, 2, 3].filter(x, x > 1).map(x, x * x)", "[4,9]" },
                { "[1, 2, 3].map(x, x > 1, x * 10)", "[20,30]" },
                { "{'a': 1, 'b': 2}.map(k, k + '!')", "[\"a!\",\"b!\"]" },
                { "[[1, 2], [3]].map(x, x.map(y, y + size(x)))", "[[3,4],[4]]" },
                { "[].all(x, x) && ![].exists(x, x)", "true" },
                { "1.all(x, true)", "! 1:3: all() takes a list or a map, not int" },
                { "[1].all(x.y, true)", "! the first argument of all() is the name of a variable" },
                { "[1].map(x)", "! 1:5: map() takes a variable and one or two expressions" },
                { "[1].filter(x, x)", "! the condition of filter() is a bool, not int" },
                { "has(x)", "! has() takes one field selection" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void texts(void **state)
{
        static const struct sample samples[] = {
                { "size('\303\244\360\237\230\200') + 'abc'.size()", "5" },
                { "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true" },
                { "'\303\244bc'.charAt(1) + 'abc'.charAt(3)", "\"b\"" },
                { "'\303\244b\303\244b'.indexOf('b')", "1" },
                { "'\303\244b\303\244b'.indexOf('b', 2)", "3" },
                { "'\303\244b\303\244b'.lastIndexOf('b')", "3" },
                { "'\303\244b\303\244b'.lastIndexOf('b', 2)", "1" },
                { "'abc'.indexOf('x') + 'abc'.lastIndexOf('abcd')", "-2" },
                { "'abc'.lastIndexOf('')", "3" },
                { "'aB\303\204'.lowerAscii() + 'aB\303\244'.upperAscii()", "\"ab\303\204AB\303\244\"" },
                { "'aXbXc'.replace('X', '--')", "\"a--b--c\"" },
                { "'aXbXc'.replace('X', '', 1)", "\"abXc\"" },
                { "'\303\244b'.replace('', '_')", "\"_\303\244_b_\"" },
                { "'a,b,,c'.split(',')", "[\"a\",\"b\",\"\",\"c\"]" },
                { "'a,b,c'.split(',', 2)", "[\"a\",\"b,c\"]" },
                { "'a,b'.split(',', 0)", "[]" },
                { "'\303\244b'.split('')", "[\"\303\244\",\"b\"]" },
                { "'b\303\244cd'.substring(1, 3) + 'abc'.substring(3)", "\"\303\244c\"" },
                { "'abc'.substring(2, 1)", "! 1:7: the part begins at 2" },
                { "'abc'.substring(4)", "! position 4 is outside the text of 3 characters" },
                { "' \\t\\u2003x y\\n'.trim()", "\"x y\"" },
                { "['a', 'b'].join('-') + ['c', 'd'].join() + [].join(',')", "\"a-bcd\"" },
                { "[1].join()", "! item 0 is int" },
                { "'\303\244bc'.reverse()", "\"cb\303\244\"" },
                { "strings.quote('a\"\\n')", "\"\\\"a\\\\\\\"\\\\n\\\"\"" },
                { "'v1.20'.matches('^v[0-9]+\\\\.[0-9]+$')", "true" },
                { "'ab\\n'.matches('b$')", "false" },
                { "matches('x', '[')", "! 1:1: the pattern is wrong at its byte 1" },
                { "'aa'.matches('(a)\\\\1')", "! references" },
                { "'a'.matches('(*LIMIT_MATCH=1)a')", "! has no place in a pattern" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void numbers_and_conversions(void **state)
{
        static const struct sample samples[] = {
                { "int('-12') + int(3.9) + int('+1')", "-8" },
                { "double('1.5e3') + double(2)", "1502.0" },
                { "string(1) + string(2.5) + string(true) + string(1e100)", "\"12.5true1e+100\"" },
                { "bool('t') && !bool('FALSE')", "true" },
                { "int('+-1')", "! is no int" },
                { "int('1x')", "! 1:1: \"1x\" is no int" },
                { "int(1e300)", "! out of the range" },
                { "double('0x10')", "! is no double" },
                { "bool('yes')", "! is no bool" },
                { "9223372036854775807 + 1", "! 1:21: the result of + does not fit" },
                { "-(-9223372036854775807 - 1)", "! overflow" },
                { "(-9223372036854775807 - 1) / -1", "! overflow" },
                { "5 % 0", "! 1:3: modulus by zero" },
                { "1 + 1.0", "! 1:3: no overload of + for (int, double); it takes (int, int)" },
                { "size(1)", "! no overload of size for (int); it takes (string), (list), (map)" },
                { "size(1, 2)", "! no overload of size for (int, int)" },
                { "math.greatest(1, 2.5, 2) + math.abs(-1.5)", "4.0" },
                { "math.least([3, 1, 2]) + math.sign(-7)", "0" },
                { "math.ceil(1.2) + math.floor(-1.2) + math.round(1.5) + math.trunc(-1.9)", "1.0" },
                { "math.greatest([])", "! an empty list" },
                { "dyn(1) == 1 && type(null) == null_type", "true" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void lists_and_maps(void **state)
{
        static const struct sample samples[] = {
                { "[1] + [2, 'a'] + []", "[1,2,\"a\"]" },
                { "[1, 2, 3, 4].slice(1, 3)", "[2,3]" },
                { "[1, 2, 1.0, 'a', 'a'].distinct()", "[1,2,\"a\"]" },
                { "[1, [2, [3]], []].flatten()", "[1,2,[3]]" },
                { "[3, 1.5, 2].sort() + ['b', 'a'].sort()", "[1.5,2,3,\"a\",\"b\"]" },
                { "['c', 'a', 'e', 'ca'].sort()", "[\"a\",\"c\",\"ca\",\"e\"]" },
                { "[1, 'a'].sort()", "! item 1 is string" },
                { "[1, 2, 3].reverse()", "[3,2,1]" },
                { "lists.range(3)", "[0,1,2]" },
                { "size({'a': 1}) + [1, 2].size()", "3" },
                { "{'a': 1, 'a': 2}", "! 1:10: the key \"a\" stands there twice" },
                { "{1: 1, 1.0: 2}", "! a key is a string, int or bool, not double" },
                { "{null: 1}", "! 1:2: a key is a string" },
                { "{}[[]]", "! no such key of type list" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void instants_and_durations(void **state)
{
        static const struct sample samples[] = {
                { "timestamp('2026-01-31T09:00:00.123456789+01:00')", "\"2026-01-31T08:00:00.123456789Z\"" },
                { "timestamp('2026-01-31T09:00:00Z') + duration('1h30m')", "\"2026-01-31T10:30:00Z\"" },
                { "timestamp('2026-01-31T09:00:00Z') - timestamp('2026-01-31T08:59:58.5Z')", "\"1.5s\"" },
                { "duration('1.5h') == duration('90m') && -duration('2s') < duration('-1s')", "true" },
                { "string(duration('-1ms')) + string(timestamp(0))", "\"-0.001s1970-01-01T00:00:00Z\"" },
                { "[duration('1us'), duration('1ns')]", "[\"0.000001s\",\"0.000000001s\"]" },
                { "timestamp('2026-01-31T23:30:00Z').getDate('+05:30')", "1" },
                { "timestamp('2026-01-31T23:30:00Z').getHours('-01:00')", "22" },
                { "timestamp('1969-12-31T23:59:59.5Z').getMilliseconds()", "500" },
                { "duration('3661.25s').getMinutes()", "61" },
                { "now() == timestamp('2026-01-01T00:00:00Z')", "true" },
                { "timestamp(0).getHours('Europe/Berlin')", "! 1:14: time zone \"Europe/Berlin\" is not known" },
                { "timestamp('yesterday')", "! is no timestamp; write it as 2026" },
                { "duration('5')", "! is no duration; write it as 90s" },
                { "duration('99999999999999999999999999999999999999999999h')", "! out of range" },
                { "timestamp(9223372036854775807)", "! years 1 to 9999" },
                { "timestamp(0) + timestamp(0)", "! no overload of + for (timestamp, timestamp)" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

static void what_does_not_compile_says_why(void **state)
{
        static const struct sample samples[] = {
                { "", "! 1:1: expected a value, but the expression ends here" },
                { "1 +", "! 1:4: expected a value, but the expression ends" },
                { "1 2", "! 1:3: expected an operator or the end, found 2" },
                { "a = 1", "! 1:3: \"=\" is no operator; expected \"==\"" },
                { "a & b", "! expected \"&&\"" },
                { "(1", "! 1:3: expected \")\"" },
                { "[1", "! expected \",\" or \"]\"" },
                { "{'a' 1}", "! 1:6: expected \":\", found 1" },
                { "f(1,)", "! expected an argument" },
                { "'abc", "! 1:1: the text is not closed" },
                { "'\\q'", "! 1:2: unknown escape" },
                { "'\\u12'", "! takes 4 hex digits" },
                { "'\\ud800'", "! is not a character" },
                { "'\\0001'", "! is not a character" },
                { "5u", "! unsigned integers (5u) are not supported" },
                { "b'x'", "! 1:1: bytes are not supported" },
                { "9223372036854775808", "! does not fit in 64 bits" },
                { "99999999999999999999", "! does not fit in 64 bits" },
                { "0x10000000000000000", "! does not fit in 64 bits" },
                { "1e999", "! larger than any double" },
                { "12abc", "! a number runs into a name" },
                { "a.b{c: 1}", "! there are no messages here" },
                { "x ? 1", "! expected \":\"" },
                { "while", "! \"while\" is a reserved word" },
                { "a.`b", "! a closing `" },
                { "a.1", "! expected" },
                { ".in(1)", "! 1:2: expected a name, found in" },
                { "\303\244", "! 1:1: \"\303\244\" begins nothing known" },
                { "'\xff'", "! not UTF-8" },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
}

/* ---- bounds ---- */

static void check_repeated(const char *before, const char *part, size_t times, const char *after,
                           const char *wanted)
{
        char source[EXPR_MAX_SOURCE * 8] = "";
        struct sample s = { source, wanted };

        strcat(source, before);
        for (size_t i = 0; i < times; i++)
                memcpy(source + strlen(before) + i * strlen(part), part, strlen(part) + 1);
        strcat(source, after);
        assert_true(check(&s));
}

static void depth_and_length_are_bounded(void **state)
{
        (void)state;
        check_repeated("", "(", 10000, "", "! at most 4096, got 10000");
        check_repeated("", "(", 4000, "", "! 1:65: nested deeper than 64 levels");
        check_repeated("", "[", 4000, "", "! nested deeper than 64 levels");
        check_repeated("", "{1:", 1300, "", "! nested deeper than 64 levels");
        check_repeated("", "!", 4000, "true", "! nested deeper than 64 levels");
        check_repeated("", "- ", 2000, "x", "! nested deeper than 64 levels");
        check_repeated("", "true ? 1 : ", 300, "2", "! nested deeper than 64 levels");
        check_repeated("", "f(", 2000, "", "! nested deeper than 64 levels");
        check_repeated("x", ".a", 2000, "", "! nested deeper than 64 levels");
        check_repeated("x", "[0]", 1300, "", "! nested deeper than 64 levels");
        check_repeated("1", "+1", 2000, "", "! nested deeper than 64 levels");
        check_repeated("", "(", 50, "1", "! expected \")\"");
        check_repeated("1", "+1", 60, "", "61");
        /* a row of && or || is one level */
        check_repeated("true", "&&true", 600, "", "true");
        check_repeated("false", "||false", 500, "||1/0==1||true", "true");
}

/* {"xs":[0,0,...],"s":"aaa..."} */
static char *large_env(size_t items, size_t bytes)
{
        char *text = xmalloc(2 * items + bytes + 100), *at = text;

        at += sprintf(at, "{\"xs\":[0");
        for (size_t i = 1; i < items; i++)
                at = (char *)memcpy(at, ",0", 2) + 2;
        at += sprintf(at, "],\"s\":\"");
        memset(at, 'a', bytes);
        memcpy(at + bytes, "\"}", 3);
        return text;
}

static void cost_and_size_are_bounded(void **state)
{
        char *env = large_env(2000, 300000);
        struct sample samples[] = {
                { "xs.all(x, x == 0)", "true", env },
                { "xs.all(x, xs.all(y, x == y))", "! takes more steps than 1000000", env },
                { "xs.all(x, xs.all(y, x == y)) || true", "! more steps", env },
                { "true || xs.map(x, xs.map(y, xs)) == []", "true", env },
                { "size(xs.map(x, xs.map(y, xs)))", "! more steps", env },
                { "size(s + s)", "600000", env },
                { "s + s + s + s", "! a text grows beyond the bytes allowed: 1048576", env },
                { "s.replace('', s)", "! a text grows beyond", env },
                { "s.replace('a', s)", "! a text grows beyond", env },
                { "xs.map(x, s).join()", "! a text grows beyond", env },
                { "[s, s, s, s]", "! the result takes more bytes as JSON than 1048576", env },
                { "size([s, s, s, s])", "4", env },
                { "xs.map(x, xs)", "! the result takes more bytes", env },
                { "xs.map(x, s + 'b').size()", "! more steps", env },
                { "xs.all(x, x in [1] || 1 / x == 1 || s.contains('b') || true)", "! more steps", env },
                { "lists.range(9223372036854775807)", "! more steps", env },
                { "size(s.split(''))", "300000", env },
                { "s.matches('^a+$')", "true", env },
                { "s.matches('(a+)+b')", "false", env },
                { "s.matches('(a|a)*[bc]')", "! 1:3: ", env },
                { "s.substring(0, 40).matches('^(a|a)*[bc]$')", "! more steps", env },
                { "'a'.matches(s)", "! at most 1024 bytes", env },
                { "s.lastIndexOf(s.substring(0, 1000) + 'b')", "! more steps", env },
        };

        (void)state;
        check_all(samples, LENGTH(samples));
        free(env);
}

/* Values that share their parts: 2^50 items in fifty steps. */
static void a_value_that_only_looks_large_is_refused_soon(void **state)
{
        (void)state;
        check_repeated("[1]", ".map(a,[a,a])", 50, "", "! the result takes more bytes");
        check_repeated("[[1]", ".map(a,[a,a])", 50, "].map(x, x == x)", "! more steps");
        check_repeated("size([1]", ".map(a,[a,a])", 50, ")", "1");
}

static void a_message_quotes_whole_characters(void **state)
{
        char source[800] = "{}['a";
        struct scope scope;
        struct value v;

        (void)state;
        for (int i = 0; i < 200; i++)
                strcat(source, "\303\244");
        strcat(source, "']");
        scope_init(&scope, &system_world);
        assert_int_equal(run(&scope, str_from(source), "{}", &v), ERR_INVALID_CONDITION);
        assert_true(str_is_utf8(scope.fault.detail) && scope.fault.detail.n < 200);
        scope_done(&scope);
}

/* ---- the tree ---- */

static void printing_keeps_the_tree(void **state)
{
        static const char *const sources[][2] = {
                { "(1+2)*3-4", "(1 + 2) * 3 - 4" },
                { "1-(2-3)", "1 - (2 - 3)" },
                { "-(5)+ -5", "-(5) + -5" },
                { "-(5.f()[0])", "-(5.f()[0])" },
                { "- -x", "--x" },
                { "(-5).f()", "(-5).f()" },
                { "!(a&&b||c)", "!(a && b || c)" },
                { "a&&(b&&c)&&d", "a && (b && c) && d" },
                { "(a?b:c)?d:e?f:g", "(a ? b : c) ? d : e ? f : g" },
                { "a.`b-c`.if[0]['x'].`in`", "a.`b-c`.if[0][\"x\"].`in`" },
                { "has(a.b)&&a.all(x,x>1)", "has(a.b) && a.all(x, x > 1)" },
                { "a.map(x,x>1,[x,{1:x}])", "a.map(x, x > 1, [x, {1: x}])" },
                { "'\\n\\x01\"\303\244'", "\"\\n\\x01\\\"\303\244\"" },
                { "1.0+.5", "1.0 + 0.5" },
                { ".x in y", ".x in y" },
                { "google.protobuf.Duration==type(x)", "google.protobuf.Duration == type(x)" },
                { "strings.quote(x)+x.trim()", "strings.quote(x) + x.trim()" },
        };
        struct scope scope;
        struct expr *expr;

        (void)state;
        scope_init(&scope, &system_world);
        for (size_t i = 0; i < LENGTH(sources); i++) {
                for (size_t k = 0; k < 2; k++) {
                        struct str printed;

                        assert_int_equal(expr_compile(&scope, str_from(sources[i][k]), &expr), ERR_OK);
                        printed = expr_print(&scope, expr);
                        if (!str_is(printed, sources[i][1]))
                                print_error("%s prints as " STR_FMT "\n", sources[i][k],
                                            STR_ARG(printed));
                        assert_true(str_is(printed, sources[i][1]));
                }
        }
        scope_done(&scope);
}

static void calls_are_checked_before_any_run(void **state)
{
        static const char *const wrong[][2] = {
                { "false && f(1)", "1:10: no such function f()" },
                { "[1].map(x, size(x, x))", "1:12: size() does not take 2 arguments" },
                { "'a'.trim(1)", "1:5: trim() does not take 1 argument" },
        };
        struct scope scope;
        struct expr *expr;

        (void)state;
        scope_init(&scope, &system_world);
        for (size_t i = 0; i < LENGTH(wrong); i++) {
                assert_int_equal(expr_compile(&scope, str_from(wrong[i][0]), &expr), ERR_OK);
                assert_int_equal(expr_check(&scope, expr), ERR_INVALID_CONDITION);
                assert_true(str_is(scope.fault.detail, wrong[i][1]));
        }
        assert_int_equal(expr_compile(&scope, STR("size(a) > 1 && a.size() < 2"), &expr), ERR_OK);
        assert_int_equal(expr_check(&scope, expr), ERR_OK);
        scope_done(&scope);
}

static void an_absorbed_error_leaves_no_fault(void **state)
{
        struct scope scope;
        struct value v;

        (void)state;
        scope_init(&scope, &system_world);
        assert_int_equal(run(&scope, STR("1 / 0 == 1 || true"), "{}", &v), ERR_OK);
        assert_int_equal(scope.fault.code, ERR_OK);
        scope_done(&scope);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(literals_and_operators),
                cmocka_unit_test(names_and_fields),
                cmocka_unit_test(logic_absorbs_errors),
                cmocka_unit_test(macros),
                cmocka_unit_test(texts),
                cmocka_unit_test(numbers_and_conversions),
                cmocka_unit_test(lists_and_maps),
                cmocka_unit_test(instants_and_durations),
                cmocka_unit_test(what_does_not_compile_says_why),
                cmocka_unit_test(depth_and_length_are_bounded),
                cmocka_unit_test(cost_and_size_are_bounded),
                cmocka_unit_test(a_value_that_only_looks_large_is_refused_soon),
                cmocka_unit_test(a_message_quotes_whole_characters),
                cmocka_unit_test(printing_keeps_the_tree),
                cmocka_unit_test(calls_are_checked_before_any_run),
                cmocka_unit_test(an_absorbed_error_leaves_no_fault),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
