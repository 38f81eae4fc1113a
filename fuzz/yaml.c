/* YAML documents: what is read is a JSON value that reads back the same, or is refused as such. */
#include "flow/yaml.h"
#include "fuzz.h"

void fuzz(struct scope *scope, struct str input)
{
        struct value v, again;
        struct str text;

        if (yaml_read(scope, input, &v)) {
                MUST(scope->fault.code == ERR_INVALID_YAML && scope->fault.detail.n);
                return;
        }
        if (!value_is_storable(scope, v, YAML_MAX_DEPTH))
                return;
        text = value_dump(scope, v);
        MUST(str_is_utf8(text));
        MUST(!value_read(scope, text, &again));
        MUST(str_eq(text, value_dump(scope, again)));
}
