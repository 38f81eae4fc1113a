/* Expressions: every evaluation ends, and the printer's text means what the source means. */
#include "fuzz.h"
#include "members.h"

static const char names[] =
        "{\"input\":{\"n\":3,\"s\":\"a-b\",\"list\":[1,2.5,\"x\",null,[true]],\"map\":{\"k\":1},"
        "\"odd name\":0,\"big\":9223372036854775807},\"a.b\":{\"c\":[{\"d\":\"e\"}]},\"x\":-1}";

/* NaN differs from itself, and is still the same outcome: what is printed decides. */
static bool same(struct scope *scope, struct value a, struct value b)
{
        return a.kind == b.kind &&
               (value_equal(a, b) || str_eq(value_dump(scope, a), value_dump(scope, b)));
}

void fuzz(struct scope *scope, struct str input)
{
        struct value environment = value_from_text(scope, str_from(names)), a, b;
        struct expr_env env = { .find = members_find, .ctx = &environment, .now = scope->now };
        struct expr *first, *second;
        struct str printed, again;
        enum err e, f;

        env.dotted = input.n % 2;
        if (expr_compile(scope, input, &first)) {
                MUST(scope->fault.code == ERR_INVALID_CONDITION && scope->fault.detail.n);
                return;
        }
        printed = expr_print(scope, first);
        if (printed.n > EXPR_MAX_SOURCE)
                return;
        MUST(!expr_compile(scope, printed, &second));
        again = expr_print(scope, second);
        MUST(str_eq(printed, again));
        MUST(!expr_check(scope, first) == !expr_check(scope, second));
        e = expr_eval(scope, first, &env, &a);
        f = expr_eval(scope, second, &env, &b);
        MUST(e == f && (!e || e == ERR_INVALID_CONDITION));
        if (e)
                return;
        MUST(same(scope, a, b));
        MUST(str_is_utf8(value_dump(scope, a)));
}
