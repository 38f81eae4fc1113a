/*
 * Definitions, as JSON when the text begins so, else as YAML: problems are told, and what is
 * accepted is stored as a document that loads again as itself.
 */
#include "flow/definition.h"
#include "fuzz.h"
#include "json/json_in.h"

static struct str report(struct scope *scope, const struct problems *problems,
                         const struct definition *d)
{
        struct buf text = BUF_INIT(64 << 20);
        struct json_out j = { .out = &text };
        struct str copy;
        json_t *read;

        json_record(&j, &definition_report_record, definition_report(scope, problems, d));
        MUST(!text.full);
        copy = str_dup(&scope->arena, buf_view(&text));
        buf_done(&text);
        MUST(!json_parse(scope, copy, &read));
        json_decref(read);
        return copy;
}

void fuzz(struct scope *scope, struct str input)
{
        bool json = input.n && input.p[0] == '{';
        struct definition *d = NULL, *again;
        struct problems problems = { .scope = scope };
        struct str document, stored;
        enum err e;

        e = definition_parse(scope, input, json ? FORMAT_JSON : FORMAT_YAML, STR("unnamed"), &d,
                             &problems);
        if (e) {
                MUST(scope->fault.code == e && scope->fault.detail.n);
                MUST(str_is_utf8(scope->fault.detail));
                report(scope, &problems, NULL);
                return;
        }
        MUST(!problems.n);
        report(scope, &problems, d);
        document = value_dump(scope, d->document);
        MUST(!definition_load(scope, document, &again));
        MUST(str_eq(document, value_dump(scope, again->document)));
        MUST(d->steps.n == again->steps.n && definition_steps_at(d, STR_NONE) == &d->steps);
        if (!definition_input(scope, d, STR("{}"), &stored)) {
                MUST(!definition_input(scope, again, stored, &document));
                MUST(str_eq(stored, document));
        }
}
