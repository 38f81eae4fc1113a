/* JSON: what is read prints as text that reads back as the same value. */
#include "fuzz.h"
#include "json/json_in.h"

void fuzz(struct scope *scope, struct str input)
{
        json_t *value, *again;
        struct str text;

        if (json_parse(scope, input, &value)) {
                MUST(scope->fault.code == ERR_INVALID_JSON && scope->fault.detail.n);
                MUST(str_is_utf8(scope->fault.detail));
                return;
        }
        text = json_dump(&scope->arena, value);
        MUST(str_is_utf8(text));
        MUST(!json_parse(scope, text, &again));
        MUST(json_equal(value, again));
        MUST(str_eq(text, json_dump(&scope->arena, again)));
        json_decref(value);
        json_decref(again);
}
