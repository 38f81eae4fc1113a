/*
 * Bodies of requests over the record tables of the routes: a line with method and path of the
 * route, then the JSON.  What was read prints as JSON that reads into the same record.
 */
#include <string.h>

#include "api/request.h"
#include "fuzz.h"

static const struct route *find(struct str line)
{
        static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" };
        struct str path, method = str_cut(line, ' ', &path);

        for (size_t t = 0; all_routes[t]; t++)
                for (const struct route *r = all_routes[t]; r->path; r++)
                        if (r->body && str_is(method, methods[r->method]) && str_is(path, r->path))
                                return r;
        return NULL;
}

static struct str print(struct scope *scope, const struct record *record, const void *value)
{
        struct buf text = BUF_INIT(16 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_record(&j, record, value);
        MUST(!text.full);
        copy = str_dup(&scope->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

/* Bytes are read as text and written in hexadecimal, and only what has a name can be written of an
 * enumeration: such records do not come back. */
static bool comes_back(const struct record *record)
{
        for (size_t i = 0; i < record->n; i++) {
                const struct field *f = &record->fields[i];

                if (f->kind == FIELD_BYTES ||
                    ((f->kind == FIELD_RECORD || f->kind == FIELD_LIST) && !comes_back(f->type)))
                        return false;
        }
        return true;
}

void fuzz(struct scope *scope, struct str input)
{
        struct str json, line = str_cut(input, '\n', &json), text;
        const struct route *route = find(line);
        void *first, *second;

        if (!route)
                return;
        first = arena_alloc(&scope->arena, route->body->size, 16);
        second = arena_alloc(&scope->arena, route->body->size, 16);
        if (json_read(scope, json, route->body, first)) {
                MUST(scope->fault.code && scope->fault.detail.n);
                MUST(str_is_utf8(scope->fault.detail) && str_is_utf8(scope->fault.field));
                return;
        }
        text = print(scope, route->body, first);
        if (!comes_back(route->body))
                return;
        MUST(!json_read(scope, text, route->body, second));
        MUST(str_eq(text, print(scope, route->body, second)));
}
