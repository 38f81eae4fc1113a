/* Templates: a text, or a JSON value whose texts hold expressions. */
#include "flow/template.h"
#include "fuzz.h"
#include "members.h"

void fuzz(struct scope *scope, struct str input)
{
        struct value names =
                value_from_text(scope, STR("{\"input\":{\"n\":3,\"s\":\"a\",\"l\":[1]}}"));
        struct expr_env env = { .find = members_find, .ctx = &names, .now = scope->now };
        struct value source, out;
        struct template *t;
        struct str where = STR_NONE;
        enum err e;

        if (value_read(scope, input, &source)) {
                if (!str_is_utf8(input))
                        return;
                source = value_text(input);
        }
        if (template_compile(scope, source, &t, &where)) {
                MUST(scope->fault.code == ERR_INVALID_CONDITION && scope->fault.detail.n);
                return;
        }
        e = template_render(scope, t, &env, &out);
        MUST(!e || !template_is_constant(t));
        if (e) {
                MUST(scope->fault.detail.n);
                return;
        }
        MUST(str_is_utf8(value_dump(scope, out)));
        if (template_is_constant(t))
                MUST(str_eq(value_dump(scope, out), value_dump(scope, source)) ||
                     str_contains(input, STR("$$")));
}
