/*
 * The OpenAPI 3.1 description, made from the tables that the server itself reads and writes by:
 * routes, records of bodies, filters and answers, headers, errors.  Nothing is described twice.
 */
#include <string.h>

#include "api/request.h"
#include "domain/key.h"

/* What a record is read from or written to; it decides what its flags mean. */
enum use { ASKED, ANSWERED, FILTERED };

static void member(struct json_out *j, const char *key, const char *text)
{
        json_key(j, key);
        json_put_text(j, text);
}

static void member_raw(struct json_out *j, const char *key, struct str json)
{
        json_key(j, key);
        json_put_raw(j, json);
}

static void reference(struct json_out *j, const char *name, const char *suffix)
{
        json_key(j, "$ref");
        buf_printf(j->out, "\"#/components/schemas/%s%s\"", name, suffix);
        j->comma = true;
}

/* ---- a field ---- */

static void type(struct json_out *j, const char *name, bool null)
{
        json_key(j, "type");
        if (null)
                json_begin_list(j);
        json_put_text(j, name);
        if (!null)
                return;
        json_put_text(j, "null");
        json_end_list(j);
}

static void enumeration(struct json_out *j, const struct names *names, bool null)
{
        json_key(j, "enum");
        json_begin_list(j);
        for (int i = 0; names->text[i]; i++)
                if (names->text[i][0])
                        json_put_text(j, names->text[i]);
        if (null)
                json_put_null(j);
        json_end_list(j);
}

static void object_of(struct json_out *j, const char *name, bool null)
{
        if (!null) {
                reference(j, name, "");
                return;
        }
        json_key(j, "anyOf");
        json_begin_list(j);
        json_begin_object(j);
        reference(j, name, "");
        json_end_object(j);
        json_put_raw(j, STR("{\"type\":\"null\"}"));
        json_end_list(j);
}

/* A list of names: as the reader takes it, and as it is written. */
static void names_of(struct json_out *j, enum use use)
{
        if (use == ASKED)
                json_put_raw(j, STR("{\"type\":\"string\",\"maxLength\":128,"
                                    "\"pattern\":\"^[^, \\\\t\\\\r\\\\n]+$\"}"));
        else
                json_put_raw(j, STR("{\"type\":\"string\"}"));
}

static void kind(struct json_out *j, const struct field *f, enum use use, bool null)
{
        static const char *const types[] = {
                [FIELD_INT] = "integer",  [FIELD_BOOL] = "boolean", [FIELD_TIME] = "string",
                [FIELD_ID] = "string",    [FIELD_ENUM] = "string",  [FIELD_SET] = "array",
                [FIELD_STR] = "string",   [FIELD_NAME] = "string",  [FIELD_CAPS] = "array",
                [FIELD_BYTES] = "string", [FIELD_LIST] = "array",   [FIELD_JSON] = NULL,
                [FIELD_ACTOR] = NULL,     [FIELD_RECORD] = NULL,
        };
        const char *name = f->kind == FIELD_JSON ? f->type : types[f->kind];

        if (name)
                type(j, name, null);
        if (f->kind == FIELD_INT)
                member(j, "format", "int64");
        if (f->kind == FIELD_TIME)
                member(j, "format", "date-time");
        if (f->kind == FIELD_ENUM)
                enumeration(j, f->type, null);
        if (f->kind == FIELD_BYTES)
                member(j, "pattern", "^[0-9a-f]*$");
        if (f->kind == FIELD_ID) {
                json_key(j, "pattern");
                buf_printf(j->out, "\"^%s_[0-9a-hjkmnp-tv-z]{13}$\"", (const char *)f->type);
                j->comma = true;
        }
        if (f->kind == FIELD_ACTOR)
                object_of(j, "Actor", null);
        if (f->kind == FIELD_RECORD)
                object_of(j, ((const struct record *)f->type)->name, null);
        if (f->kind != FIELD_CAPS && f->kind != FIELD_SET && f->kind != FIELD_LIST)
                return;
        json_key(j, "items");
        if (f->kind == FIELD_CAPS) {
                names_of(j, use);
                return;
        }
        json_begin_object(j);
        if (f->kind == FIELD_LIST) {
                reference(j, ((const struct record *)f->type)->name, "");
        } else {
                type(j, "string", false);
                enumeration(j, f->type, false);
        }
        json_end_object(j);
}

static void number(struct json_out *j, const char *key, int64_t value)
{
        json_key(j, key);
        json_put_int(j, value);
}

/* Those that the reader keeps.  It counts the bytes of a text, of which a character has 1 to 4. */
static void bounds(struct json_out *j, const struct field *f)
{
        if (!f->min && !f->max)
                return;
        if (f->kind == FIELD_INT) {
                number(j, "minimum", f->min);
                if (f->max != INT64_MAX)
                        number(j, "maximum", f->max);
        } else if (f->kind == FIELD_STR) {
                number(j, "minLength", (f->min + 3) / 4);
                number(j, "maxLength", f->max);
        }
}

static void description(struct json_out *j, const struct field *f)
{
        if (f->doc) {
                member(j, "description", f->doc);
        } else if (f->kind == FIELD_JSON && f->max) {
                json_key(j, "description");
                buf_printf(j->out, "\"at most %lld bytes\"", (long long)f->max);
                j->comma = true;
        }
}

/* The reader takes null for what need not be there; the writer writes it for what must. */
static bool may_be_null(const struct field *f, enum use use)
{
        if (use == ANSWERED)
                return (f->flags & FIELD_ALWAYS) && !(f->flags & FIELD_REQUIRED) &&
                       field_has_null(f) && f->kind != FIELD_ENUM;
        return use == ASKED && !(f->flags & FIELD_REQUIRED) && f->kind != FIELD_JSON;
}

static void field_schema(struct json_out *j, const struct field *f, enum use use)
{
        const struct names *names = f->type;

        json_begin_object(j);
        kind(j, f, use, may_be_null(f, use));
        if (use != ANSWERED)
                bounds(j, f);
        if (use == FILTERED && f->kind == FIELD_INT && f->preset)
                number(j, "default", f->preset);
        if (use == FILTERED && f->kind == FIELD_ENUM && f->preset >= 0 && names->text[f->preset][0])
                member(j, "default", names->text[f->preset]);
        if (use != FILTERED)
                description(j, f);
        json_end_object(j);
}

/* ---- a record ---- */

static bool is_told(const struct field *f)
{
        return (f->flags & (FIELD_WIRE | FIELD_FIXED)) == FIELD_WIRE;
}

static bool is_required(const struct field *f, enum use use)
{
        return is_told(f) && (use == ANSWERED ? field_is_sure(f) : f->flags & FIELD_REQUIRED);
}

static void properties(struct json_out *j, const struct record *record, enum use use)
{
        if (record->base)
                properties(j, record->base, use);
        for (size_t i = 0; i < record->n; i++)
                if (is_told(&record->fields[i])) {
                        json_key(j, record->fields[i].name);
                        field_schema(j, &record->fields[i], use);
                }
}

static bool has_required(const struct record *record, enum use use)
{
        bool has = record->base && has_required(record->base, use);

        for (size_t i = 0; i < record->n; i++)
                has |= is_required(&record->fields[i], use);
        return has;
}

static void required(struct json_out *j, const struct record *record, enum use use)
{
        if (record->base)
                required(j, record->base, use);
        for (size_t i = 0; i < record->n; i++)
                if (is_required(&record->fields[i], use))
                        json_put_text(j, record->fields[i].name);
}

/* A component.  What a body says beyond its table is refused; an answer may come to say more. */
static void schema(struct json_out *j, const struct record *record, enum use use)
{
        json_key(j, record->name);
        json_begin_object(j);
        type(j, "object", false);
        json_key(j, "properties");
        json_begin_object(j);
        properties(j, record, use);
        json_end_object(j);
        if (has_required(record, use)) {
                json_key(j, "required");
                json_begin_list(j);
                required(j, record, use);
                json_end_list(j);
        }
        if (use == ASKED)
                member_raw(j, "additionalProperties", STR("false"));
        json_end_object(j);
}

/* One row of a batch, as request_reply_batch() writes it. */
static void outcome(struct json_out *j, const struct record *record)
{
        buf_printf(j->out, "%s\"%sOutcome\":", j->comma ? "," : "", record->name);
        j->comma = false;
        json_begin_object(j);
        type(j, "object", false);
        json_key(j, "properties");
        json_begin_object(j);
        member_raw(j, "ok", STR("{\"type\":\"boolean\"}"));
        member_raw(j, "run_id",
                   STR("{\"type\":\"string\",\"description\":\"what the row is about, where rows"
                       " do not follow the request's\"}"));
        json_key(j, "error");
        json_begin_object(j);
        reference(j, problem_record.name, "");
        json_end_object(j);
        properties(j, record, ANSWERED);
        json_end_object(j);
        json_key(j, "oneOf");
        json_begin_list(j);
        json_begin_object(j);
        member_raw(j, "properties", STR("{\"ok\":{\"const\":true}}"));
        json_key(j, "required");
        json_begin_list(j);
        json_put_text(j, "ok");
        required(j, record, ANSWERED);
        json_end_list(j);
        json_end_object(j);
        json_put_raw(
                j,
                STR("{\"properties\":{\"ok\":{\"const\":false}},\"required\":[\"ok\",\"error\"]}"));
        json_end_list(j);
        json_end_object(j);
}

/* Records that the routes name, and those within them, once each. */
struct seen {
        struct {
                const struct record *record;
                enum use use;
        } all[160];
        size_t n;
        const struct record *outcomes[16];
        size_t n_outcomes;
};

static void collect(struct seen *seen, const struct record *record, enum use use)
{
        for (size_t i = 0; i < seen->n; i++)
                if (strcmp(seen->all[i].record->name, record->name) == 0) {
                        BUG_ON(seen->all[i].record != record || seen->all[i].use != use);
                        return;
                }
        BUG_ON(seen->n == LENGTH(seen->all));
        seen->all[seen->n].record = record;
        seen->all[seen->n++].use = use;
        for (const struct record *part = record; part; part = part->base)
                for (size_t i = 0; i < part->n; i++)
                        if (is_told(&part->fields[i]) && (part->fields[i].kind == FIELD_RECORD ||
                                                          part->fields[i].kind == FIELD_LIST))
                                collect(seen, part->fields[i].type, use);
}

static void collect_outcome(struct seen *seen, const struct record *record)
{
        for (size_t i = 0; i < seen->n_outcomes; i++)
                if (seen->outcomes[i] == record)
                        return;
        BUG_ON(seen->n_outcomes == LENGTH(seen->outcomes));
        seen->outcomes[seen->n_outcomes++] = record;
        for (size_t i = 0; i < record->n; i++)
                if (record->fields[i].kind == FIELD_RECORD || record->fields[i].kind == FIELD_LIST)
                        collect(seen, record->fields[i].type, ANSWERED);
}

static void collect_route(struct seen *seen, const struct route *r)
{
        if (r->body)
                collect(seen, r->body, ASKED);
        if (r->reply && r->flags & ROUTE_OUTCOMES)
                collect_outcome(seen, r->reply);
        else if (r->reply)
                collect(seen, r->reply, ANSWERED);
        if (r->other)
                collect(seen, r->other, ANSWERED);
}

/* ---- a request ---- */

static void begin_parameter(struct json_out *j, struct str name, const char *in, bool needed)
{
        json_begin_object(j);
        json_key(j, "name");
        json_put_str(j, name);
        member(j, "in", in);
        if (needed)
                member_raw(j, "required", STR("true"));
}

static void path_parameters(struct json_out *j, const char *path)
{
        static const struct {
                const char *name, *doc;
        } named[] = { { "definition", "id or name" }, { "workspace", "id or slug" } };

        for (const char *open = strchr(path, '{'); open; open = strchr(open + 1, '{')) {
                struct str name = { open + 1, strcspn(open + 1, "}") };

                begin_parameter(j, name, "path", true);
                for (size_t i = 0; i < LENGTH(named); i++)
                        if (str_is(name, named[i].name))
                                member(j, "description", named[i].doc);
                member_raw(j, "schema", STR("{\"type\":\"string\"}"));
                json_end_object(j);
        }
}

static void query_parameters(struct json_out *j, const struct record *filter)
{
        for (size_t i = 0; i < filter->n; i++) {
                const struct field *f = &filter->fields[i];

                if (!is_told(f))
                        continue;
                begin_parameter(j, str_from(f->name), "query", false);
                description(j, f);
                json_key(j, "schema");
                field_schema(j, f, FILTERED);
                json_end_object(j);
        }
}

static void header_parameters(struct json_out *j, const struct route *r)
{
        for (size_t i = 0; i < REQUEST_HEADERS; i++) {
                const struct request_header *h = &request_headers[i];

                if (!route_reads(r, h))
                        continue;
                begin_parameter(j, str_from(h->name), "header", h->required);
                member(j, "description", h->doc);
                json_key(j, "schema");
                json_begin_object(j);
                type(j, "string", false);
                if (h->max) {
                        number(j, "minLength", 1);
                        number(j, "maxLength", (int64_t)h->max);
                }
                json_end_object(j);
                json_end_object(j);
        }
}

static void parameters(struct json_out *j, const struct route *r)
{
        json_key(j, "parameters");
        json_begin_list(j);
        path_parameters(j, r->path);
        if (r->filter)
                query_parameters(j, r->filter);
        header_parameters(j, r);
        json_end_list(j);
}

static void begin_content(struct json_out *j, const char *media)
{
        json_key(j, media);
        json_begin_object(j);
        json_key(j, "schema");
        json_begin_object(j);
}

static void end_content(struct json_out *j)
{
        json_end_object(j);
        json_end_object(j);
}

static void request_body(struct json_out *j, const struct route *r)
{
        if (!r->body && !r->prepare)
                return;
        json_key(j, "requestBody");
        json_begin_object(j);
        if (r->prepare)
                member(j, "description", "a definition, as docs/DEFINITIONS.md describes it");
        if (r->prepare || has_required(r->body, ASKED))
                member_raw(j, "required", STR("true"));
        json_key(j, "content");
        json_begin_object(j);
        begin_content(j, "application/json");
        if (r->body)
                reference(j, r->body->name, "");
        else
                type(j, "object", false);
        end_content(j);
        if (r->prepare) {
                begin_content(j, "application/yaml");
                type(j, "string", false);
                end_content(j);
        }
        json_end_object(j);
        json_end_object(j);
}

/* ---- an answer ---- */

/* {"items": […]} of what a list or a batch has. */
static void items_of(struct json_out *j, const struct route *r)
{
        bool page = r->flags & ROUTE_LIST;

        type(j, "object", false);
        json_key(j, "properties");
        json_begin_object(j);
        json_key(j, "items");
        json_begin_object(j);
        type(j, "array", false);
        json_key(j, "items");
        json_begin_object(j);
        reference(j, r->reply->name, page ? "" : "Outcome");
        json_end_object(j);
        json_end_object(j);
        if (page)
                member_raw(j, "next_cursor", STR("{\"type\":[\"string\",\"null\"]}"));
        if (r->beside)
                properties(j, r->beside, ANSWERED);
        json_end_object(j);
        json_key(j, "required");
        json_begin_list(j);
        json_put_text(j, "items");
        if (page)
                json_put_text(j, "next_cursor");
        json_end_list(j);
}

static void either_of(struct json_out *j, const struct route *r)
{
        const struct record *const records[] = { r->reply, r->other };

        json_key(j, "anyOf");
        json_begin_list(j);
        for (size_t i = 0; i < LENGTH(records); i++) {
                json_begin_object(j);
                reference(j, records[i]->name, "");
                json_end_object(j);
        }
        json_end_list(j);
}

static void content(struct json_out *j, const struct route *r)
{
        json_key(j, "content");
        json_begin_object(j);
        if (r->text) {
                begin_content(j, r->text);
                type(j, "string", false);
                end_content(j);
        }
        if (r->flags & ROUTE_STREAM) {
                begin_content(j, "text/event-stream");
                type(j, "string", false);
                member(j, "description", "frames; the data of each but gap and stream.end is:");
                member(j, "contentMediaType", "application/json");
                json_key(j, "contentSchema");
                json_begin_object(j);
                reference(j, r->reply->name, "");
                json_end_object(j);
                end_content(j);
        } else if (r->reply) {
                begin_content(j, "application/json");
                if (r->flags & (ROUTE_LIST | ROUTE_OUTCOMES))
                        items_of(j, r);
                else if (r->other)
                        either_of(j, r);
                else
                        reference(j, r->reply->name, "");
                end_content(j);
        }
        json_end_object(j);
}

static void answer(struct json_out *j, const struct route *r, const char *status)
{
        json_key(j, status);
        json_begin_object(j);
        member(j, "description", "done");
        content(j, r);
        json_end_object(j);
}

static void responses(struct json_out *j, const struct route *r)
{
        bool tells = r->reply || r->text;

        json_key(j, "responses");
        json_begin_object(j);
        if (tells)
                answer(j, r, r->flags & ROUTE_CREATES ? "201" : "200");
        if (r->flags & ROUTE_OR_THERE)
                answer(j, r, "200");
        if (!tells || (r->flags & ROUTE_OR_EMPTY))
                member_raw(j, "204",
                           tells ? STR("{\"description\":\"there is nothing to tell\"}") :
                                   STR("{\"description\":\"done\"}"));
        member_raw(j, "4XX", STR("{\"$ref\":\"#/components/responses/Problem\"}"));
        member_raw(j, "5XX", STR("{\"$ref\":\"#/components/responses/Problem\"}"));
        json_end_object(j);
}

/* ---- operations ---- */

static void security(struct json_out *j, const struct route *r)
{
        json_key(j, "security");
        json_begin_list(j);
        if (r->mode != ROUTE_OPEN) {
                json_begin_object(j);
                json_key(j, "key");
                json_begin_list(j);
                for (int i = 0; key_scope_names.text[i]; i++)
                        if (r->scope >> i & 1)
                                json_put_text(j, key_scope_names.text[i]);
                json_end_list(j);
                json_end_object(j);
        }
        json_end_list(j);
}

static const char *const methods[] = { "get", "get", "post", "put", "patch", "delete" };

static void operation(struct json_out *j, const struct route *r)
{
        json_key(j, methods[r->method]);
        json_begin_object(j);
        member(j, "summary", r->summary);
        json_key(j, "operationId");
        buf_printf(j->out, "\"%s", methods[r->method]);
        for (const char *c = r->path; *c; c++)
                buf_char(j->out, strchr("/{}.-", *c) ? '_' : *c);
        buf_char(j->out, '"');
        j->comma = true;
        security(j, r);
        parameters(j, r);
        request_body(j, r);
        responses(j, r);
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
                        collect_route(seen, r);
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

/* ---- components ---- */

static const struct str key_scheme =
        STR("{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\",\"description\":\"A key of this "
            "server; an"
            " operation names the scopes that it needs. The server's Unix socket needs none.\"}}");
static const struct str problem_response =
        STR("{\"Problem\":{\"description\":\"refused: a problem document (RFC 9457)\",\"headers\":"
            "{\"Retry-After\":{\"description\":\"seconds, with 429 and "
            "503\",\"schema\":{\"type\":\"integer\"}}},"
            "\"content\":{\"application/problem+json\":{\"schema\":"
            "{\"$ref\":\"#/components/schemas/Problem\"}}}}}");
/* A FIELD_ACTOR. */
static const struct str actor_schema =
        STR("{\"type\":\"object\",\"properties\":{\"kind\":{\"type\":\"string\",\"minLength\":1},"
            "\"ref\":{\"type\":\"string\",\"minLength\":1}},\"required\":[\"kind\",\"ref\"],"
            "\"additionalProperties\":false}");

static void components(struct json_out *j, const struct seen *seen)
{
        json_begin_object(j);
        member_raw(j, "securitySchemes", key_scheme);
        member_raw(j, "responses", problem_response);
        json_key(j, "schemas");
        json_begin_object(j);
        member_raw(j, "Actor", actor_schema);
        for (size_t i = 0; i < seen->n; i++)
                schema(j, seen->all[i].record, seen->all[i].use);
        for (size_t i = 0; i < seen->n_outcomes; i++)
                outcome(j, seen->outcomes[i]);
        json_end_object(j);
        json_end_object(j);
}

void openapi_print(struct json_out *j)
{
        struct seen seen = { .n = 0 };

        collect(&seen, &problem_record, ANSWERED);
        json_begin_object(j);
        member(j, "openapi", "3.1.0");
        member_raw(j, "info",
                   STR("{\"title\":\"Baton\",\"version\":\"1\",\"license\":{\"name\":\"MIT\","
                       "\"identifier\":\"MIT\"}}"));
        member_raw(j, "servers", STR("[{\"url\":\"/\"}]"));
        json_key(j, "paths");
        paths(j, &seen);
        json_key(j, "components");
        components(j, &seen);
        json_end_object(j);
}
