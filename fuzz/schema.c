/* Input schemas: {"schema": …, "value": …}.  Applying a second time changes nothing. */
#include "flow/schema.h"
#include "fuzz.h"

void fuzz(struct scope *scope, struct str input)
{
        struct problems problems = { .scope = scope };
        struct value all, once, twice;
        const struct value *schema, *value;

        if (value_read(scope, input, &all) || all.kind != VALUE_MAP)
                return;
        schema = value_member(all, STR("schema"));
        value = value_member(all, STR("value"));
        if (!schema || !value)
                return;
        schema_check(&problems, STR("input"), *schema);
        if (problems.n)
                return;
        if (schema_apply(scope, *schema, STR("input"), *value, &once)) {
                MUST(scope->fault.code == ERR_VALIDATION && scope->fault.detail.n);
                return;
        }
        MUST(!schema_apply(scope, *schema, STR("input"), once, &twice));
        MUST(str_eq(value_dump(scope, once), value_dump(scope, twice)));
}
