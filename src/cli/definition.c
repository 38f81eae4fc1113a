#include "cli/definition.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "flow/definition.h"
#include "json/json_in.h"

enum { FILE_MAX = 16 << 20, NESTED_FILES = 32 };

/* ---- documents ---- */

enum err file_read(struct cli *cli, const char *file, struct str *out)
{
        struct buf text = BUF_INIT(FILE_MAX);
        int fd = strcmp(file, "-") == 0 ? dup(0) : open(file, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : 0;
        char piece[65536];

        while (fd >= 0 && !text.full && (n = read(fd, piece, sizeof(piece))) > 0)
                buf_bytes(&text, piece, (size_t)n);
        if (n < 0)
                fail_field(&cli->scope, "FILE", ERR_VALIDATION, "cannot read %s: %s", file,
                           strerror(errno));
        else if (text.full)
                fail_field(&cli->scope, "FILE", ERR_TOO_LARGE, "%s is larger than %d bytes", file,
                           FILE_MAX);
        else
                *out = (struct str){ str_c(&cli->scope.arena, buf_view(&text)), text.n };
        if (fd >= 0)
                close(fd);
        n = n < 0 ? ERR_VALIDATION : text.full ? ERR_TOO_LARGE : ERR_OK;
        buf_done(&text);
        return (enum err)n;
}

struct document {
        const char *file, *base; /* base: the file's name without its ending, or NULL */
        struct str text;
        bool yaml, sound;
        struct definition *definition;
        struct problems problems;
};

static const char *base_name(struct cli *cli, const char *file)
{
        const char *slash = strrchr(file, '/');
        struct str base = str_from(slash ? slash + 1 : file);
        static const char *const endings[] = { ".yaml", ".yml", ".json" };

        for (size_t i = 0; i < LENGTH(endings); i++)
                if (str_ends(base, endings[i]) && base.n > strlen(endings[i]))
                        base.n -= strlen(endings[i]);
        return strcmp(file, "-") == 0 ? NULL : str_c(&cli->scope.arena, base);
}

static enum err document_read(struct cli *cli, const char *file, struct document *out)
{
        const char *given = cli_option(cli, "name");
        struct str start;
        enum err e;

        *out = (struct document){ .file = file, .base = base_name(cli, file) };
        e = file_read(cli, file, &out->text);
        if (e)
                return e;
        if (given)
                out->base = given;
        start = str_trim(out->text);
        out->yaml = !str_ends(str_from(file), ".json") && !str_starts(start, "{");
        out->sound = !definition_parse(&cli->scope, out->text, out->yaml ? FORMAT_YAML : FORMAT_JSON,
                                       out->base ? str_from(out->base) : STR_NONE,
                                       &out->definition, &out->problems);
        return ERR_OK;
}

/* What cannot be stored is not sent: the first problem is the error. */
static enum err document_read_sound(struct cli *cli, const char *file, struct document *out)
{
        enum err e = document_read(cli, file, out);

        return e || out->sound ? e : cli->scope.fault.code;
}

static struct http_call document_call(struct cli *cli, const char *method, const char *path,
                                      const struct document *d)
{
        struct path with_name = PATH_INIT(cli);

        path_add(&with_name, path);
        path_query(&with_name, "name", d->base);
        return (struct http_call){ .method = method,
                                   .path = path_end(&with_name),
                                   .body = d->text,
                                   .content_type = d->yaml ? "application/yaml" : NULL };
}

static enum err create(struct cli *cli, const struct document *d, struct http_response *response,
                       json_t **out)
{
        struct http_call call = document_call(cli, "POST", "/v1/definitions", d);

        call.idempotency_key = new_idempotency_key(cli);
        return send_json(cli, &call, response, out);
}

/* ---- storing what a run needs ---- */

static bool same_spec(struct cli *cli, const struct document *d, const json_t *stored)
{
        json_t *ours;
        bool same;

        if (json_parse(&cli->scope, value_dump(&cli->scope, d->definition->document), &ours))
                return false;
        same = json_equal(ours, stored);
        json_decref(ours);
        return same;
}

static enum err replace(struct cli *cli, const struct document *d, const json_t *stored,
                        json_t **out)
{
        const char *path = path_of(cli, "/v1/definitions/", member_c(cli, stored, "id"), NULL);
        struct http_call call = document_call(cli, "PUT", path, d);
        struct http_response response;

        call.if_match =
                arena_printf(&cli->scope.arena, "\"%lld\"",
                             (long long)json_integer_value(json_object_get(stored, "version")))
                        .p;
        return send_json(cli, &call, &response, out);
}

/* Somebody else may store the same document meanwhile: then look again. */
static enum err store(struct cli *cli, const struct document *d, json_t **out)
{
        const char *path = path_of(cli, "/v1/definitions/",
                                   str_c(&cli->scope.arena, d->definition->name), NULL);
        struct http_response response;
        enum err e = ERR_OK;

        for (int i = 0; i < 3; i++) {
                json_t *stored;

                e = get_json(cli, path, &stored);
                if (e == ERR_NOT_FOUND)
                        e = create(cli, d, &response, out);
                else if (!e && same_spec(cli, d, json_object_get(stored, "spec")))
                        *out = stored;
                else if (!e)
                        e = replace(cli, d, stored, out);
                if (e != ERR_CONFLICT && e != ERR_VERSION_MISMATCH)
                        break;
        }
        return e;
}

struct nested {
        const char *seen[NESTED_FILES];
        size_t n;
};

static bool is_plain_name(struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-",
                            s.p[i]))
                        return false;
        return s.n > 0 && s.n <= 200 && s.p[0] != '.';
}

/* The file beside `file` that a reference means, or NULL. */
static const char *beside(struct cli *cli, const char *file, struct str reference)
{
        static const char *const endings[] = { "yaml", "yml", "json" };
        const char *slash = strrchr(file, '/');
        int n = slash ? (int)(slash - file) + 1 : 0;

        for (size_t i = 0; i < LENGTH(endings); i++) {
                const char *path = arena_printf(&cli->scope.arena, "%.*s" STR_FMT ".%s", n, file,
                                                STR_ARG(reference), endings[i])
                                           .p;

                if (access(path, R_OK) == 0)
                        return path;
        }
        return NULL;
}

static enum err ensure(struct cli *, const char *file, struct nested *, json_t **out);

static enum err ensure_reference(struct cli *cli, const char *file, struct str name,
                                 struct nested *nested)
{
        const char *other = is_plain_name(name) ? beside(cli, file, name) : NULL;
        json_t *stored;
        enum err e;

        if (!other)
                return ERR_OK; /* the server knows whether it exists */
        for (size_t i = 0; i < nested->n; i++)
                if (strcmp(nested->seen[i], other) == 0)
                        return ERR_OK;
        e = get_json(cli, path_of(cli, "/v1/definitions/", str_c(&cli->scope.arena, name), NULL),
                     &stored);
        return e == ERR_NOT_FOUND ? ensure(cli, other, nested, &stored) : e;
}

static enum err ensure_references(struct cli *cli, const struct document *d, struct nested *nested)
{
        size_t n;
        const struct str *names = definition_references(&cli->scope, d->definition, &n);
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < n; i++)
                e = ensure_reference(cli, d->file, names[i], nested);
        return e;
}

static enum err ensure(struct cli *cli, const char *file, struct nested *nested, json_t **out)
{
        struct document d;
        enum err e;

        if (nested->n == NESTED_FILES)
                return fail(&cli->scope, ERR_GRAPH_LIMIT, "more than %d files refer to each other",
                            NESTED_FILES);
        nested->seen[nested->n++] = file;
        e = document_read_sound(cli, file, &d);
        if (!e)
                e = ensure_references(cli, &d, nested);
        return e ? e : store(cli, &d, out);
}

enum err definition_ensure(struct cli *cli, const char *file, const char **name)
{
        struct nested nested = { .n = 0 };
        json_t *stored;
        enum err e = ensure(cli, file, &nested, &stored);

        if (!e)
                *name = member_c(cli, stored, "id");
        return e;
}

/* ---- commands ---- */

enum err command_definition_create(struct cli *cli)
{
        struct http_response response;
        struct document d;
        json_t *reply;
        enum err e = document_read_sound(cli, cli->args[0], &d);

        if (!e)
                e = connect_server(cli);
        if (!e)
                e = create(cli, &d, &response, &reply);
        if (e)
                return e;
        if (cli->format == OUTPUT_TABLE)
                json_object_del(reply, "spec");
        show_object(cli, &response, reply);
        return ERR_OK;
}

enum err command_definition_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "NAME", "name", SHOW_TEXT },
                { "VERSION", "version", SHOW_NUMBER },
                { "CREATED", "created_at", SHOW_AGE },
                { "DESCRIPTION", "description", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/definitions");
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

static void print_spec(struct cli *cli, const json_t *spec)
{
        static const struct column columns[] = {
                { "STEP", "id", SHOW_TEXT },
                { "ACTION", "action", SHOW_TEXT },
                { "LABEL", "label", SHOW_FREE },
        };
        const json_t *steps = json_object_get(spec, "steps");

        if (!json_array_size(steps))
                return;
        fputc('\n', cli->out.to);
        table_print(&cli->out, columns, LENGTH(columns), steps);
}

enum err command_definition_get(struct cli *cli)
{
        struct path path = PATH_INIT(cli);
        struct http_call call = { .method = "GET" };
        struct http_response response;
        json_t *reply, *spec;
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/definitions/", cli->args[0], NULL));
        path_query(&path, "version", cli_option(cli, "version"));
        call.path = path_end(&path);
        if (!e)
                e = send_json(cli, &call, &response, &reply);
        if (e)
                return e;
        if (cli->format != OUTPUT_TABLE) {
                show_object(cli, &response, reply);
                return ERR_OK;
        }
        spec = json_incref(json_object_get(reply, "spec"));
        json_object_del(reply, "spec");
        object_print(&cli->out, reply);
        print_spec(cli, spec);
        json_decref(spec);
        return ERR_OK;
}

/* ---- validating ---- */

static enum err validate_there(struct cli *cli, const struct document *d,
                               struct http_response *response, json_t **out)
{
        struct http_call call = document_call(cli, "POST", "/v1/definitions/validate", d);

        return send_json(cli, &call, response, out);
}

/* The one cycle that can be seen without the other definitions. */
static void check_itself(struct cli *cli, struct document *d)
{
        size_t n;
        const struct str *names = definition_references(&cli->scope, d->definition, &n);

        for (size_t i = 0; i < n; i++)
                if (str_eq(names[i], d->definition->name))
                        problem_add(&d->problems, STR("steps"), "subtask_cycle", NULL,
                                    "the sub-task \"" STR_FMT "\" leads back to this definition",
                                    STR_ARG(names[i]));
        d->sound = d->problems.n == 0;
}

static enum err validate_here(struct cli *cli, struct document *d, struct http_response *response,
                              json_t **out)
{
        struct buf reply = BUF_INIT(FILE_MAX);
        struct json_out j = { .out = &reply };
        enum err e;

        if (d->sound)
                check_itself(cli, d);
        json_record(&j, &definition_report_record,
                    definition_report(&cli->scope, &d->problems, d->sound ? d->definition : NULL));
        *response = (struct http_response){ .status = 200,
                                            .body = str_dup(&cli->scope.arena,
                                                            buf_view(&reply)) };
        buf_done(&reply);
        e = json_parse(&cli->scope, response->body, out);
        if (!e)
                json_array_append_new(cli->kept, *out);
        return e;
}

static void print_problems(struct cli *cli, const json_t *reply)
{
        const json_t *problems = json_object_get(reply, "problems"), *problem;
        struct scope *scope = &cli->scope;
        size_t i;

        json_array_foreach(problems, i, problem) {
                struct str hint = text_clean(scope, member_text(problem, "hint"));
                struct str path = text_clean(scope, member_text(problem, "path"));

                fprintf(cli->out.to, "%s" STR_FMT "%s" STR_FMT " (" STR_FMT ")\n",
                        path.n ? colour_bold(&cli->out) : "", STR_ARG(path),
                        path.n && *colour_off(&cli->out) ? "\033[0m: " :
                        path.n                           ? ": " :
                                                           "",
                        STR_ARG(text_clean(scope, member_text(problem, "message"))),
                        STR_ARG(text_clean(scope, member_text(problem, "code"))));
                if (hint.n)
                        fprintf(cli->out.to, "  " STR_FMT "\n", STR_ARG(hint));
        }
}

enum err command_definition_validate(struct cli *cli)
{
        struct http_response response;
        struct document d;
        json_t *reply = NULL;
        bool valid;
        enum err e = document_read(cli, cli->args[0], &d);

        if (e)
                return e;
        /* A server also knows which definitions there are to refer to. */
        if (server_is_there(cli))
                e = validate_there(cli, &d, &response, &reply);
        else
                e = validate_here(cli, &d, &response, &reply);
        if (e)
                return e;
        valid = json_is_true(json_object_get(reply, "valid"));
        if (cli->format != OUTPUT_TABLE)
                show_object(cli, &response, reply);
        else if (valid)
                fprintf(cli->out.to, "%s is valid\n", d.file);
        if (cli->format == OUTPUT_TABLE)
                print_problems(cli, reply);
        cli->status = valid ? 0 : 2;
        return ERR_OK;
}
