/* The OpenAPI 3.1 description, made from the route tables and the records. */
#include <string.h>

#include "api/request.h"

static void type(struct json_out *j, const struct field *f)
{
        static const char *const names[] = {
                [FIELD_INT] = "integer",  [FIELD_BOOL] = "boolean", [FIELD_TIME] = "string",
                [FIELD_ID] = "string",    [FIELD_ENUM] = "string",  [FIELD_STR] = "string",
                [FIELD_NAME] = "string",  [FIELD_ACTOR] = "object", [FIELD_CAPS] = "array",
                [FIELD_BYTES] = "string", [FIELD_LIST] = "array",   [FIELD_RECORD] = "object",
                [FIELD_JSON] = NULL,
        };

        if (names[f->kind]) {
                json_key(j, "type");
                json_put_text(j, names[f->kind]);
        }
        if (f->kind == FIELD_TIME) {
                json_key(j, "format");
                json_put_text(j, "date-time");
        }
        if (f->kind == FIELD_CAPS) {
                json_key(j, "items");
                json_put_raw(j, STR("{\"type\":\"string\"}"));
        }
        if (f->kind == FIELD_ENUM) {
                const struct names *values = f->type;

                json_key(j, "enum");
                json_begin_list(j);
                for (int i = 0; values->text[i]; i++)
                        if (values->text[i][0])
                                json_put_text(j, values->text[i]);
                json_end_list(j);
        }
}

static void reference(struct json_out *j, const struct record *record)
{
        json_key(j, "$ref");
        buf_printf(j->out, "\"#/components/schemas/%s\"", record->name);
        j->comma = true;
}

static void property(struct json_out *j, const struct field *f)
{
        json_key(j, f->name);
        json_begin_object(j);
        if (f->kind == FIELD_RECORD) {
                reference(j, f->type);
        } else if (f->kind == FIELD_LIST) {
                json_key(j, "type");
                json_put_text(j, "array");
                json_key(j, "items");
                json_begin_object(j);
                reference(j, f->type);
                json_end_object(j);
        } else {
                type(j, f);
        }
        if (f->kind == FIELD_INT && (f->min || f->max)) {
                json_key(j, "minimum");
                json_put_int(j, f->min);
                json_key(j, "maximum");
                json_put_int(j, f->max);
        }
        json_end_object(j);
}

static void schema(struct json_out *j, const struct record *record)
{
        bool required = false;

        json_begin_object(j);
        json_key(j, "type");
        json_put_text(j, "object");
        json_key(j, "properties");
        json_begin_object(j);
        for (size_t i = 0; i < record->n; i++)
                if ((record->fields[i].flags & (FIELD_WIRE | FIELD_FIXED)) == FIELD_WIRE)
                        property(j, &record->fields[i]);
        json_end_object(j);
        for (size_t i = 0; i < record->n; i++)
                required |= (record->fields[i].flags & FIELD_REQUIRED) != 0;
        if (required) {
                json_key(j, "required");
                json_begin_list(j);
                for (size_t i = 0; i < record->n; i++)
                        if (record->fields[i].flags & FIELD_REQUIRED)
                                json_put_text(j, record->fields[i].name);
                json_end_list(j);
        }
        json_end_object(j);
}

/* Records that the routes name, and those within them, once each. */
struct seen {
        const struct record *records[128];
        size_t n;
};

static void collect(struct seen *seen, const struct record *record)
{
        for (size_t i = 0; i < seen->n; i++)
                if (strcmp(seen->records[i]->name, record->name) == 0)
                        return;
        BUG_ON(seen->n == LENGTH(seen->records));
        seen->records[seen->n++] = record;
        for (size_t i = 0; i < record->n; i++)
                if (record->fields[i].kind == FIELD_RECORD || record->fields[i].kind == FIELD_LIST)
                        collect(seen, record->fields[i].type);
}

static void parameters(struct json_out *j, const char *path, unsigned flags)
{
        json_key(j, "parameters");
        json_begin_list(j);
        for (const char *open = strchr(path, '{'); open; open = strchr(open + 1, '{')) {
                struct str name = { open + 1, strcspn(open + 1, "}") };

                json_begin_object(j);
                json_key(j, "name");
                json_put_str(j, name);
                json_key(j, "in");
                json_put_text(j, "path");
                json_key(j, "required");
                json_put_bool(j, true);
                json_key(j, "schema");
                json_put_raw(j, STR("{\"type\":\"string\"}"));
                json_end_object(j);
        }
        if (flags & ROUTE_IDEMPOTENT)
                json_put_raw(j, STR("{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"schema\":{\"type\":\"string\","
                                    "\"minLength\":1,\"maxLength\":200}}"));
        if (flags & ROUTE_LIST) {
                json_put_raw(j, STR("{\"name\":\"limit\",\"in\":\"query\",\"schema\":{\"type\":\"integer\"}}"));
                json_put_raw(j, STR("{\"name\":\"cursor\",\"in\":\"query\",\"schema\":{\"type\":\"string\"}}"));
        }
        json_end_list(j);
}

/* {"items": […], "next_cursor": …}. */
static void page_of(struct json_out *j, const struct record *record)
{
        json_key(j, "type");
        json_put_text(j, "object");
        json_key(j, "required");
        json_put_raw(j, STR("[\"items\",\"next_cursor\"]"));
        json_key(j, "properties");
        json_begin_object(j);
        json_key(j, "items");
        json_begin_object(j);
        json_key(j, "type");
        json_put_text(j, "array");
        json_key(j, "items");
        json_begin_object(j);
        reference(j, record);
        json_end_object(j);
        json_end_object(j);
        json_key(j, "next_cursor");
        json_put_raw(j, STR("{\"type\":[\"string\",\"null\"]}"));
        json_end_object(j);
}

static void content(struct json_out *j, const char *media, const struct record *record, bool list)
{
        json_key(j, "content");
        json_begin_object(j);
        json_key(j, media);
        json_begin_object(j);
        json_key(j, "schema");
        json_begin_object(j);
        if (list)
                page_of(j, record);
        else if (record)
                reference(j, record);
        json_end_object(j);
        json_end_object(j);
        json_end_object(j);
}

static const char *const methods[] = { "get", "get", "post", "put", "patch", "delete" };

static void operation(struct json_out *j, const struct route *r)
{
        json_key(j, methods[r->method]);
        json_begin_object(j);
        json_key(j, "summary");
        json_put_text(j, r->summary);
        json_key(j, "operationId");
        buf_printf(j->out, "\"%s", methods[r->method]);
        for (const char *c = r->path; *c; c++)
                buf_char(j->out, strchr("/{}.-", *c) ? '_' : *c);
        buf_char(j->out, '"');
        j->comma = true;
        if (r->mode == ROUTE_OPEN) {
                json_key(j, "security");
                json_put_raw(j, STR("[]"));
        }
        parameters(j, r->path, r->flags);
        if (r->body) {
                json_key(j, "requestBody");
                json_begin_object(j);
                content(j, "application/json", r->body, false);
                json_end_object(j);
        }
        json_key(j, "responses");
        json_begin_object(j);
        json_key(j, "2XX");
        json_begin_object(j);
        json_key(j, "description");
        json_put_text(j, "done");
        if (r->reply)
                content(j, r->flags & ROUTE_STREAM ? "text/event-stream" : "application/json",
                        r->reply, r->flags & ROUTE_LIST);
        json_end_object(j);
        json_key(j, "4XX");
        json_put_raw(j, STR("{\"$ref\":\"#/components/responses/Problem\"}"));
        json_key(j, "5XX");
        json_put_raw(j, STR("{\"$ref\":\"#/components/responses/Problem\"}"));
        json_end_object(j);
        json_end_object(j);
}

static bool first_of_path(const struct route *const *table, const struct route *r)
{
        for (; *table; table++)
                for (const struct route *s = *table; s->path; s++) {
                        if (s == r)
                                return true;
                        if (strcmp(s->path, r->path) == 0)
                                return false;
                }
        return false;
}

static void paths(struct json_out *j, struct seen *seen)
{
        json_begin_object(j);
        for (size_t t = 0; all_routes[t]; t++)
                for (const struct route *r = all_routes[t]; r->path; r++) {
                        if (r->body)
                                collect(seen, r->body);
                        if (r->reply)
                                collect(seen, r->reply);
                        if (!first_of_path(all_routes, r))
                                continue;
                        json_key(j, r->path);
                        json_begin_object(j);
                        for (size_t u = 0; all_routes[u]; u++)
                                for (const struct route *s = all_routes[u]; s->path; s++)
                                        if (strcmp(s->path, r->path) == 0)
                                                operation(j, s);
                        json_end_object(j);
                }
        json_end_object(j);
}

/* What json_problem() writes. */
static const struct str problem_response =
        STR("{\"Problem\":{\"description\":\"refused: a problem document (RFC 9457)\","
            "\"content\":{\"application/problem+json\":{\"schema\":"
            "{\"$ref\":\"#/components/schemas/Problem\"}}}}}");
static const struct str problem_schema =
        STR("{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\",\"format\":\"uri\"},"
            "\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"
            "\"code\":{\"type\":\"string\"},\"detail\":{\"type\":\"string\"},"
            "\"instance\":{\"type\":\"string\"},\"resource\":{\"type\":\"string\"},"
            "\"field\":{\"type\":\"string\"},\"limit\":{\"type\":\"integer\"},"
            "\"actual\":{\"type\":\"integer\"}},"
            "\"required\":[\"type\",\"title\",\"status\",\"code\",\"detail\"]}");

void openapi_print(struct json_out *j)
{
        struct seen seen = { .n = 0 };

        json_begin_object(j);
        json_key(j, "openapi");
        json_put_text(j, "3.1.0");
        json_key(j, "info");
        json_put_raw(j, STR("{\"title\":\"Baton\",\"version\":\"1\",\"license\":{\"name\":\"MIT\","
                            "\"identifier\":\"MIT\"}}"));
        json_key(j, "servers");
        json_put_raw(j, STR("[{\"url\":\"/\"}]"));
        json_key(j, "security");
        json_put_raw(j, STR("[{\"key\":[]}]"));
        json_key(j, "paths");
        paths(j, &seen);
        json_key(j, "components");
        json_begin_object(j);
        json_key(j, "securitySchemes");
        json_put_raw(j, STR("{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}"));
        json_key(j, "responses");
        json_put_raw(j, problem_response);
        json_key(j, "schemas");
        json_begin_object(j);
        json_key(j, "Problem");
        json_put_raw(j, problem_schema);
        for (size_t i = 0; i < seen.n; i++) {
                json_key(j, seen.records[i]->name);
                schema(j, seen.records[i]);
        }
        json_end_object(j);
        json_end_object(j);
        json_end_object(j);
}
