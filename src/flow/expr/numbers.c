/* Numbers, comparison and conversion. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/expr/parts.h"

static const double int_end = 9223372036854775808.0; /* 2^63, the first that is no int */

static struct value real(double d)
{
        return (struct value){ .kind = VALUE_DOUBLE, .real = d };
}

static bool is_double(const struct value *v)
{
        return v->kind == VALUE_DOUBLE;
}

/* ---- order ---- */

static int order_ints(int64_t a, int64_t b)
{
        return (a > b) - (a < b);
}

/* Exact, although not every int is a double. */
static int order_int_real(int64_t a, double b)
{
        if (isnan(b))
                return UNORDERED;
        if (b >= int_end)
                return -1;
        if (b < -int_end)
                return 1;
        if (a != (int64_t)b)
                return order_ints(a, (int64_t)b);
        return (0 > b - trunc(b)) - (0 < b - trunc(b));
}

static int order_numbers(struct value a, struct value b)
{
        int order;

        if (is_double(&a) && is_double(&b))
                return isnan(a.real) || isnan(b.real) ? UNORDERED :
                                                         (a.real > b.real) - (a.real < b.real);
        if (!is_double(&a))
                return is_double(&b) ? order_int_real(a.number, b.real) :
                                       order_ints(a.number, b.number);
        order = order_int_real(b.number, a.real);
        return order == UNORDERED ? UNORDERED : -order;
}

int value_order(struct value a, struct value b)
{
        if (a.kind == VALUE_STRING)
                return order_ints(str_cmp(a.text, b.text), 0);
        if (a.kind == VALUE_BOOL)
                return order_ints(a.truth, b.truth);
        if (a.kind == VALUE_TIMESTAMP || a.kind == VALUE_DURATION)
                return a.number != b.number ? order_ints(a.number, b.number) :
                                              order_ints(a.nanos, b.nanos);
        return order_numbers(a, b);
}

static enum err order(struct eval *ev, const struct value *args, int *out)
{
        enum err e = args[0].kind == VALUE_STRING ?
                             eval_charge_bytes(ev, args[0].text.n < args[1].text.n ? args[0].text.n :
                                                                                     args[1].text.n) :
                             ERR_OK;

        *out = value_order(args[0], args[1]);
        return e;
}

enum err run_less(struct eval *ev, const struct value *args, struct value *out)
{
        int n;
        enum err e = order(ev, args, &n);

        *out = value_bool(n < 0);
        return e;
}

enum err run_less_equal(struct eval *ev, const struct value *args, struct value *out)
{
        int n;
        enum err e = order(ev, args, &n);

        *out = value_bool(n <= 0);
        return e;
}

enum err run_greater(struct eval *ev, const struct value *args, struct value *out)
{
        int n;
        enum err e = order(ev, args, &n);

        *out = value_bool(n > 0 && n != UNORDERED);
        return e;
}

enum err run_greater_equal(struct eval *ev, const struct value *args, struct value *out)
{
        int n;
        enum err e = order(ev, args, &n);

        *out = value_bool(n >= 0 && n != UNORDERED);
        return e;
}

enum err run_equal(struct eval *ev, const struct value *args, struct value *out)
{
        bool equal = false;
        enum err e = eval_equal(ev, args[0], args[1], &equal);

        *out = value_bool(equal);
        return e;
}

enum err run_unequal(struct eval *ev, const struct value *args, struct value *out)
{
        bool equal = false;
        enum err e = eval_equal(ev, args[0], args[1], &equal);

        *out = value_bool(!equal);
        return e;
}

enum err run_not(struct eval *ev, const struct value *args, struct value *out)
{
        (void)ev;
        *out = value_bool(!args[0].truth);
        return ERR_OK;
}

/* ---- arithmetic ---- */

static enum err overflow(struct eval *ev, const char *sign)
{
        return eval_fail(ev, "the result of %s does not fit in an int of 64 bits (overflow)", sign);
}

enum err run_add(struct eval *ev, const struct value *args, struct value *out)
{
        int64_t n;

        if (is_double(args)) {
                *out = real(args[0].real + args[1].real);
                return ERR_OK;
        }
        if (__builtin_add_overflow(args[0].number, args[1].number, &n))
                return overflow(ev, "+");
        *out = value_int(n);
        return ERR_OK;
}

enum err run_subtract(struct eval *ev, const struct value *args, struct value *out)
{
        int64_t n;

        if (is_double(args)) {
                *out = real(args[0].real - args[1].real);
                return ERR_OK;
        }
        if (__builtin_sub_overflow(args[0].number, args[1].number, &n))
                return overflow(ev, "-");
        *out = value_int(n);
        return ERR_OK;
}

enum err run_multiply(struct eval *ev, const struct value *args, struct value *out)
{
        int64_t n;

        if (is_double(args)) {
                *out = real(args[0].real * args[1].real);
                return ERR_OK;
        }
        if (__builtin_mul_overflow(args[0].number, args[1].number, &n))
                return overflow(ev, "*");
        *out = value_int(n);
        return ERR_OK;
}

enum err run_divide(struct eval *ev, const struct value *args, struct value *out)
{
        double by = is_double(args) ? args[1].real : 1;

        if (is_double(args)) {
                /* The language asks for IEEE 754: an infinity or NaN, no error. */
                *out = real(args[0].real / by);
                return ERR_OK;
        }
        if (args[1].number == 0)
                return eval_fail(ev, "division by zero");
        if (args[0].number == INT64_MIN && args[1].number == -1)
                return overflow(ev, "/");
        *out = value_int(args[0].number / args[1].number);
        return ERR_OK;
}

enum err run_modulo(struct eval *ev, const struct value *args, struct value *out)
{
        if (args[1].number == 0)
                return eval_fail(ev, "modulus by zero");
        if (args[0].number == INT64_MIN && args[1].number == -1)
                return overflow(ev, "%");
        *out = value_int(args[0].number % args[1].number);
        return ERR_OK;
}

enum err run_negate(struct eval *ev, const struct value *args, struct value *out)
{
        if (is_double(args)) {
                *out = real(-args[0].real);
                return ERR_OK;
        }
        if (args[0].number == INT64_MIN)
                return overflow(ev, "-");
        *out = value_int(-args[0].number);
        return ERR_OK;
}

enum err run_abs(struct eval *ev, const struct value *args, struct value *out)
{
        if (is_double(args)) {
                *out = real(fabs(args[0].real));
                return ERR_OK;
        }
        if (args[0].number >= 0) {
                *out = args[0];
                return ERR_OK;
        }
        return run_negate(ev, args, out);
}

enum err run_sign(struct eval *ev, const struct value *args, struct value *out)
{
        double d = args[0].real;

        (void)ev;
        if (is_double(args))
                *out = real(isnan(d) ? d : (double)((d > 0) - (d < 0)));
        else
                *out = value_int((args[0].number > 0) - (args[0].number < 0));
        return ERR_OK;
}

#define RUN_REAL(name, expression)                                                       \
        enum err name(struct eval *ev, const struct value *args, struct value *out)      \
        {                                                                                \
                double d = args[0].real;                                                 \
                                                                                         \
                (void)ev;                                                                \
                *out = expression;                                                       \
                return ERR_OK;                                                           \
        }

RUN_REAL(run_ceil, real(ceil(d)))
RUN_REAL(run_floor, real(floor(d)))
RUN_REAL(run_round, real(round(d)))
RUN_REAL(run_trunc, real(trunc(d)))
RUN_REAL(run_is_nan, value_bool(isnan(d)))
RUN_REAL(run_is_inf, value_bool(isinf(d)))

static enum err extreme(struct eval *ev, const struct value *items, size_t n, int sign,
                        struct value *out)
{
        enum err e = eval_charge(ev, n);

        if (!e && !n)
                return eval_fail(ev, "an empty list has no greatest or least number");
        for (size_t i = 0; i < n && !e; i++) {
                if (items[i].kind != VALUE_INT && items[i].kind != VALUE_DOUBLE)
                        return eval_fail(ev, "expected numbers, got " STR_FMT,
                                         STR_ARG(type_of(items[i])));
                if (i == 0 || value_order(items[i], *out) == sign)
                        *out = items[i];
        }
        return e;
}

enum err run_greatest(struct eval *ev, const struct value *args, struct value *out)
{
        return args[0].kind == VALUE_LIST ?
                       extreme(ev, args[0].list->items, args[0].list->n, 1, out) :
                       extreme(ev, args, ev->given, 1, out);
}

enum err run_least(struct eval *ev, const struct value *args, struct value *out)
{
        return args[0].kind == VALUE_LIST ?
                       extreme(ev, args[0].list->items, args[0].list->n, -1, out) :
                       extreme(ev, args, ev->given, -1, out);
}

/* ---- conversion ---- */

enum err run_same(struct eval *ev, const struct value *args, struct value *out)
{
        (void)ev;
        *out = args[0];
        return ERR_OK;
}

enum err run_type(struct eval *ev, const struct value *args, struct value *out)
{
        (void)ev;
        *out = (struct value){ .kind = VALUE_TYPE, .text = type_of(args[0]) };
        return ERR_OK;
}

static enum err not_a(struct eval *ev, const char *what, struct str text)
{
        return eval_fail(ev, "\"%.*s\" is no %s", STR_ARG(expr_clip(text)), what);
}

static enum err text_to_int(struct eval *ev, struct str text, struct value *out)
{
        int64_t n;

        if (text.n > 1 && text.p[0] == '+' && text.p[1] != '-')
                text = str_slice(text, 1, text.n);
        if (!text.n || !str_to_int(text, &n))
                return not_a(ev, "int", text);
        *out = value_int(n);
        return ERR_OK;
}

enum err run_to_int(struct eval *ev, const struct value *args, struct value *out)
{
        double d = args[0].real;

        if (args[0].kind == VALUE_STRING)
                return text_to_int(ev, args[0].text, out);
        if (args[0].kind == VALUE_TIMESTAMP) {
                int64_t us = args[0].number;

                *out = value_int(us / US_PER_S - (us % US_PER_S < 0));
                return ERR_OK;
        }
        if (is_double(args)) {
                /* -2^63 too is refused: it may stand for any smaller number. */
                if (!(d > -int_end && d < int_end))
                        return eval_fail(ev, "the double is out of the range of int");
                *out = value_int((int64_t)d);
                return ERR_OK;
        }
        *out = args[0];
        return ERR_OK;
}

static const struct {
        const char *text;
        double real;
} odd_doubles[] = {
        { "NaN", (double)NAN },
        { "Infinity", (double)INFINITY },
        { "+Infinity", (double)INFINITY },
        { "-Infinity", -(double)INFINITY },
};

static enum err text_to_double(struct eval *ev, struct str text, struct value *out)
{
        char digits[400], *end;

        for (size_t i = 0; i < LENGTH(odd_doubles); i++)
                if (str_is(text, odd_doubles[i].text)) {
                        *out = real(odd_doubles[i].real);
                        return ERR_OK;
                }
        if (!text.n || text.n >= sizeof(digits))
                return not_a(ev, "double", text);
        for (size_t i = 0; i < text.n; i++)
                if (!strchr("0123456789+-.eE", text.p[i]))
                        return not_a(ev, "double", text);
        memcpy(digits, text.p, text.n);
        digits[text.n] = '\0';
        *out = real(strtod(digits, &end));
        return *end ? not_a(ev, "double", text) : ERR_OK;
}

enum err run_to_double(struct eval *ev, const struct value *args, struct value *out)
{
        if (args[0].kind == VALUE_STRING)
                return text_to_double(ev, args[0].text, out);
        *out = is_double(args) ? args[0] : real((double)args[0].number);
        return ERR_OK;
}

enum err run_to_bool(struct eval *ev, const struct value *args, struct value *out)
{
        static const char *const words[] = { "true", "TRUE", "True", "t", "1",
                                             "false", "FALSE", "False", "f", "0" };

        if (args[0].kind == VALUE_BOOL) {
                *out = args[0];
                return ERR_OK;
        }
        for (size_t i = 0; i < LENGTH(words); i++)
                if (str_is(args[0].text, words[i])) {
                        *out = value_bool(i < LENGTH(words) / 2);
                        return ERR_OK;
                }
        return not_a(ev, "bool", args[0].text);
}

struct str number_text(struct scope *scope, double d)
{
        char text[40];

        if (isnan(d))
                return STR("NaN");
        if (isinf(d))
                return d > 0 ? STR("Infinity") : STR("-Infinity");
        for (int precision = 15; precision <= 17; precision++) {
                snprintf(text, sizeof(text), "%.*g", precision, d);
                if (!(strtod(text, NULL) < d) && !(strtod(text, NULL) > d))
                        break;
        }
        return str_dup(&scope->arena, str_from(text));
}

enum err run_to_text(struct eval *ev, const struct value *args, struct value *out)
{
        struct value v = args[0];

        if (v.kind == VALUE_DOUBLE)
                v.text = number_text(ev->scope, v.real);
        else if (v.kind == VALUE_INT)
                v.text = arena_printf(&ev->scope->arena, "%" PRId64, v.number);
        else if (v.kind == VALUE_BOOL)
                v.text = v.truth ? STR("true") : STR("false");
        else if (v.kind != VALUE_STRING)
                v.text = value_moment_text(ev->scope, v);
        *out = value_text(v.text);
        return eval_charge(ev, 2);
}
