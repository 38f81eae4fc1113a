#include "api/request.h"
#include "domain/definition.h"
#include "domain/run.h"
#include "domain/sql.h"
#include "domain/task.h"

/* ---- documents ---- */

struct document {
        struct definition *definition;
        struct problems problems;
        bool sound;
};

static enum err format_of(struct request *r, enum definition_format *out)
{
        *out = FORMAT_JSON;
        if (!r->content_type.n || request_media_is(r, "application/json"))
                return ERR_OK;
        *out = FORMAT_YAML;
        if (request_media_is(r, "application/yaml") || request_media_is(r, "application/x-yaml") ||
            request_media_is(r, "text/yaml"))
                return ERR_OK;
        return fail(&r->scope, ERR_MEDIA_TYPE,
                    "send a definition as Content-Type: application/json or application/yaml");
}

struct name_filter {
        struct str name;
};
static const struct field name_fields[] = {
        { "name", FIELD_STR, FIELD_WIRE, 0, .doc = "of a document that has none" },
};
static const struct record name_filter = { "Name", name_fields, 1, sizeof(struct name_filter), -1 };

/* What a document without a name is called: ?name=, or the name that the path says. */
static struct str default_name(struct request *r)
{
        struct str name = ((const struct name_filter *)r->filter)->name;
        int64_t id;

        return name.p || !r->params[0].p || id_parse("def", r->params[0], &id) ? name : r->params[0];
}

static enum err read_document(struct request *r, struct document **out)
{
        enum definition_format format;
        enum err e = format_of(r, &format);

        *out = arena_new(&r->scope.arena, struct document);
        if (e)
                return e;
        e = definition_parse(&r->scope, r->raw_body, format, default_name(r), &(*out)->definition,
                             &(*out)->problems);
        (*out)->sound = !e;
        return e;
}

static enum err prepare_document(struct request *r)
{
        struct document *d;
        enum err e = read_document(r, &d);

        r->body = d;
        return e;
}

/* Problems are the answer here; only what is no document at all is refused. */
static enum err prepare_validation(struct request *r)
{
        struct document *d;
        enum err e = read_document(r, &d);

        r->body = d;
        if (e == ERR_MEDIA_TYPE || e == ERR_TOO_LARGE)
                return e;
        r->scope.fault = (struct fault){ 0 };
        return ERR_OK;
}

static struct definition_text text_of(struct request *r, const struct definition *d)
{
        struct definition_text text = { .name = d->name,
                                        .description = d->description,
                                        .document = value_dump(&r->scope, d->document) };

        text.references = definition_references(&r->scope, d, &text.n_references);
        return text;
}

static enum err post_definition(struct request *r, struct tx *tx)
{
        const struct document *d = r->body;
        struct definition_row *row = arena_new(&r->scope.arena, struct definition_row);
        struct definition_text text = text_of(r, d->definition);
        enum err e = definition_create(tx, &r->by, &text, row);

        return e ? e : request_reply(r, 201, &definition_record, row);
}

static enum err expected_version(struct request *r, int64_t *out)
{
        struct str text = r->if_match;

        if (str_starts(text, "W/"))
                text = str_slice(text, 2, text.n);
        if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"')
                text = str_slice(text, 1, text.n - 1);
        if (text.p && str_to_int(text, out))
                return ERR_OK;
        return fail_field(&r->scope, "If-Match", ERR_VERSION_MISMATCH,
                          "say which version you change: If-Match: \"<version>\"");
}

static enum err put_definition(struct request *r, struct tx *tx)
{
        const struct document *d = r->body;
        struct definition_row *row = arena_new(&r->scope.arena, struct definition_row);
        struct definition_text text = text_of(r, d->definition);
        int64_t expected;
        enum err e = expected_version(r, &expected);

        if (!e)
                e = definition_update(tx, &r->by, r->params[0], expected, &text, row);
        return e ? e : request_reply(r, 200, &definition_record, row);
}

static enum err delete_definition(struct request *r, struct tx *tx)
{
        r->status = 204;
        return definition_archive(tx, &r->by, r->params[0]);
}

/* ---- validation ---- */

static enum err check_references(struct request *r, struct tx *tx, struct document *d)
{
        struct definition_text text = text_of(r, d->definition);
        struct definition_row own, to;
        enum err e = definition_find(tx, &r->by, text.name, &own);
        bool exists = !e, back = false;

        if (e && e != ERR_NOT_FOUND)
                return e;
        for (size_t i = 0; i < text.n_references; i++) {
                struct str name = text.references[i];

                e = definition_find(tx, &r->by, name, &to);
                if (e && e != ERR_NOT_FOUND)
                        return e;
                if (!e && exists && (e = definition_reaches(tx, to.id, own.id, &back)))
                        return e;
                if (str_eq(name, text.name) || (!e && exists && back))
                        problem_add(&d->problems, STR("steps"), "subtask_cycle", NULL,
                                    "the sub-task \"" STR_FMT "\" leads back to this definition",
                                    STR_ARG(name));
                else if (e)
                        problem_add(&d->problems, STR("steps"), "unknown_reference",
                                    "create that definition first",
                                    "there is no definition \"" STR_FMT "\"", STR_ARG(name));
        }
        r->scope.fault = (struct fault){ 0 };
        return ERR_OK;
}

static enum err validate_definition(struct request *r, struct tx *tx)
{
        struct document *d = r->body;
        enum err e = d->sound ? check_references(r, tx, d) : ERR_OK;

        return e ? e :
                   request_reply(r, 200, &definition_report_record,
                                 definition_report(&r->scope, &d->problems,
                                                   d->sound ? d->definition : NULL));
}

/* ---- reading ---- */

static enum err find(struct request *r, struct tx *tx, struct definition_row **row)
{
        *row = arena_new(&r->scope.arena, struct definition_row);
        return definition_find(tx, &r->by, r->params[0], *row);
}

struct version_filter {
        int64_t version;
};
static const struct field version_fields[] = {
        { "version", FIELD_INT, FIELD_WIRE, 0, NULL, 1, INT64_MAX, "the newest if absent" },
};
static const struct record version_filter = { "Version", version_fields, 1,
                                              sizeof(struct version_filter), -1 };

/* With the document of ?version=, by default the newest. */
static enum err find_version(struct request *r, struct tx *tx, struct definition_row **row)
{
        const struct version_filter *f = r->filter;
        enum err e = find(r, tx, row);

        return e ? e : definition_document(tx, *row, f->version);
}

static enum err get_definition(struct request *r, struct tx *tx)
{
        struct definition_row *row = NULL;
        enum err e = find_version(r, tx, &row);

        return e ? e : request_reply(r, 200, &definition_record, row);
}

static enum err list_definitions(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        struct list items;
        enum err e = definition_list(tx, &r->by, page->before, (int)page->limit + 1, &items);

        return e ? e :
                   request_reply_list(r, &definition_record, items, (int)page->limit,
                                      offsetof(struct definition_row, id));
}

static enum err list_versions(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        struct definition_row *row = NULL;
        struct list items;
        enum err e = find(r, tx, &row);

        if (!e)
                e = definition_versions(tx, row->id, page->before, (int)page->limit + 1, &items);
        return e ? e :
                   request_reply_list(r, &definition_version_record, items, (int)page->limit,
                                      offsetof(struct definition_version_row, version));
}

static enum err get_graph(struct request *r, struct tx *tx)
{
        struct definition_row *row = NULL;
        struct definition *definition = NULL;
        enum err e = find_version(r, tx, &row);

        if (!e)
                e = definition_load(&r->scope, row->spec, &definition);
        return e ? e :
                   request_reply(r, 200, &definition_graph_record,
                                 definition_graph(&r->scope, definition));
}

static enum err list_definition_runs(struct request *r, struct tx *tx)
{
        const struct runs_filter *q = r->filter;
        struct run_filter f = { .status = q->status, .of_definition = true };
        struct definition_row *row = NULL;
        enum err e = find(r, tx, &row);

        if (e)
                return e;
        f.definition_id = row->id;
        return request_reply_runs(r, tx, &f);
}

/* ---- running ---- */

enum err request_definition(struct request *r, struct tx *tx, int64_t id, int64_t version,
                            const struct definition **out)
{
        struct definition_cache *cache = api_options(r->api)->definitions;
        struct definition_row row = { .id = id, .version = version };
        enum err e;

        *out = definition_cache_get(cache, id, version);
        if (*out)
                return ERR_OK;
        e = definition_document(tx, &row, version);
        return e ? e : definition_cache_add(cache, &r->scope, id, version, row.spec, out);
}

enum err request_bind_definition(struct request *r, struct tx *tx, struct str name,
                                 struct task_spec *spec)
{
        const struct definition *d;
        struct definition_row row;
        struct task_retry retry;
        enum err e = definition_find(tx, &r->by, name, &row);

        if (!e && row.archived_at)
                e = fail_field(&r->scope, "definition_id", ERR_INVALID_TRANSITION,
                               "the definition is archived");
        if (!e)
                e = request_definition(r, tx, row.id, row.version, &d);
        if (e)
                return e;
        spec->definition_id = row.id;
        spec->definition_version = row.version;
        if (!spec->title.p)
                spec->title = str_dup(&r->scope.arena, d->name);
        if (!spec->timeout_seconds)
                spec->timeout_seconds = d->timeout_seconds;
        if (!spec->retry.p && d->retry.p)
                spec->retry = str_dup(&r->scope.arena, d->retry);
        spec->review_policy = d->review_policy;
        e = retry_parse(&r->scope, spec->retry, &retry);
        if (!e && !spec->max_attempts)
                spec->max_attempts = retry.max_attempts;
        spec->required_capabilities = definition_capabilities(&r->scope, d,
                                                              spec->required_capabilities);
        if (!e)
                e = definition_input(&r->scope, d, spec->input, &spec->input);
        definition_cache_release(api_options(r->api)->definitions, d);
        return e;
}

struct run_body {
        struct str title, input, source_session_id, source_conversation_id, source_message_id;
        struct str conversation_context;
        int priority;
        int64_t timeout_seconds;
        uint64_t given;
};
#define AT(member) offsetof(struct run_body, member)
static const struct field run_body_fields[] = {
        { "priority", FIELD_ENUM, FIELD_WIRE, AT(priority), &priority_names },
        { "input", FIELD_JSON, FIELD_WIRE, AT(input), NULL, 0, INPUT_MAX },
        { "title", FIELD_STR, FIELD_WIRE, AT(title), NULL, 1, TITLE_MAX },
        { "timeout_seconds", FIELD_INT, FIELD_WIRE, AT(timeout_seconds), NULL, 1,
          DEFINITION_MAX_TIMEOUT },
        { "source_session_id", FIELD_STR, FIELD_WIRE, AT(source_session_id), NULL, 1, 200 },
        { "source_conversation_id", FIELD_STR, FIELD_WIRE, AT(source_conversation_id), NULL, 1,
          200 },
        { "source_message_id", FIELD_STR, FIELD_WIRE, AT(source_message_id), NULL, 1, 200 },
        { "conversation_context", FIELD_JSON, FIELD_WIRE, AT(conversation_context), NULL, 0,
          TEXT_MAX },
};
enum { GIVEN_PRIORITY = 1 };
static const struct record run_body = { "DefinitionRun", run_body_fields, LENGTH(run_body_fields),
                                        sizeof(struct run_body), offsetof(struct run_body, given) };

static enum err run_definition(struct request *r, struct tx *tx)
{
        const struct run_body *b = r->body;
        struct task *task = arena_new(&r->scope.arena, struct task);
        struct run *run = NULL;
        struct task_spec spec = {
                .title = b->title,
                .priority = b->given & GIVEN_PRIORITY ? b->priority : PRIORITY_MEDIUM,
                .timeout_seconds = b->timeout_seconds,
                .input = b->input,
                .source_session_id = b->source_session_id,
                .source_conversation_id = b->source_conversation_id,
                .source_message_id = b->source_message_id,
                .conversation_context = b->conversation_context,
                .start = true,
        };
        enum err e = request_bind_definition(r, tx, r->params[0], &spec);

        if (!e)
                e = task_create(tx, &r->by, &spec, task, &run);
        return e ? e : reply_started(r, tx, 201, task, run, NULL, false);
}

const struct route definition_routes[] = {
        { HTTP_POST, "/v1/definitions", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, NULL, &definition_record, post_definition, CALL_CREATE,
          "Create a definition", prepare_document, .filter = &name_filter },
        { HTTP_GET, "/v1/definitions", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &definition_record,
          list_definitions, 0, "List definitions", .filter = &page_filter_record },
        { HTTP_POST, "/v1/definitions/validate", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &definition_report_record, validate_definition, 0,
          "Check a document without storing it", prepare_validation, .filter = &name_filter },
        { HTTP_GET, "/v1/definitions/{definition}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &definition_record, get_definition, 0, "Get a definition", .filter = &version_filter },
        { HTTP_PUT, "/v1/definitions/{definition}", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_IF_MATCH, NULL, &definition_record, put_definition, CALL_CREATE, "Make a new version",
          prepare_document, .filter = &name_filter },
        { HTTP_DELETE, "/v1/definitions/{definition}", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL,
          NULL, delete_definition, CALL_CREATE, "Archive a definition" },
        { HTTP_GET, "/v1/definitions/{definition}/versions", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &definition_version_record, list_versions, 0, "Versions of a definition",
          .filter = &page_filter_record },
        { HTTP_GET, "/v1/definitions/{definition}/graph", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &definition_graph_record, get_graph, 0, "Nodes and edges for drawing",
          .filter = &version_filter },
        { HTTP_POST, "/v1/definitions/{definition}/runs", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &run_body, &started_record, run_definition, CALL_CREATE,
          "Run a definition" },
        { HTTP_GET, "/v1/definitions/{definition}/runs", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &run_record, list_definition_runs, 0, "Runs of a definition", .filter = &runs_filter_record },
        { 0 },
};
