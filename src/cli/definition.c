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
        const char *file, *base, *name; /* base: the file's name without its ending */
        struct str text;
        bool yaml;
        json_t *spec; /* NULL: not readable here */
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

/* A scalar at the beginning of `s`: quoted, or up to what ends a plain one. */
static struct str scalar(struct str s)
{
        size_t end;

        s = str_trim(s);
        if (s.n && (s.p[0] == '"' || s.p[0] == '\''))
                return str_slice(s, 1, str_find(s, s.p[0], 1));
        for (end = 0; end < s.n && !strchr(",}]\r\n", s.p[end]); end++)
                if (s.p[end] == '#' && end && s.p[end - 1] == ' ')
                        break;
        return str_trim(str_slice(s, 0, end));
}

/* The name of a YAML document that cannot be read here: its member at the left edge. */
static struct str name_in_text(struct str text)
{
        while (text.n) {
                struct str line = str_cut(text, '\n', &text);

                if (str_starts(line, "name:"))
                        return scalar(str_slice(line, 5, line.n));
        }
        return STR_NONE;
}

static enum err document_read(struct cli *cli, const char *file, struct document *out)
{
        const char *given = cli_option(cli, "name");
        struct str name, start;
        enum err e;

        *out = (struct document){ .file = file, .base = base_name(cli, file) };
        e = file_read(cli, file, &out->text);
        if (e)
                return e;
        if (given)
                out->base = given;
        start = str_trim(out->text);
        out->yaml = !str_ends(str_from(file), ".json") && !str_starts(start, "{");
        e = cli_read_document(&cli->scope, out->text, out->yaml, &out->spec);
        if (e)
                return e;
        if (out->spec)
                json_array_append_new(cli->kept, out->spec);
        name = out->spec ? member_text(out->spec, "name") : name_in_text(out->text);
        out->name = name.n ? str_c(&cli->scope.arena, name) : out->base;
        return ERR_OK;
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

/* A document need not repeat its name, and the server may add it. */
static bool same_spec(const json_t *a, const json_t *b)
{
        json_t *left = json_copy((json_t *)(uintptr_t)a),
               *right = json_copy((json_t *)(uintptr_t)b);
        bool same;

        json_object_del(left, "name");
        json_object_del(right, "name");
        same = left && right && json_equal(left, right);
        json_decref(left);
        json_decref(right);
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
        const char *path = path_of(cli, "/v1/definitions/", d->name, NULL);
        struct http_response response;
        enum err e = ERR_OK;

        for (int i = 0; i < 3; i++) {
                json_t *stored;

                e = get_json(cli, path, &stored);
                if (e == ERR_NOT_FOUND)
                        e = create(cli, d, &response, out);
                else if (!e && d->spec && same_spec(d->spec, json_object_get(stored, "spec")))
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

/* Found in the text, so that both languages are served alike. */
static enum err ensure_references(struct cli *cli, const struct document *d, struct nested *nested)
{
        static const char word[] = "referenced_task_id";
        struct str rest = d->text;
        enum err e = ERR_OK;

        while (!e && rest.n) {
                const char *at = memmem(rest.p, rest.n, word, sizeof(word) - 1);

                if (!at)
                        break;
                rest = str_slice(rest, (size_t)(at - rest.p) + sizeof(word) - 1, rest.n);
                if (rest.n && (rest.p[0] == '"' || rest.p[0] == '\''))
                        rest = str_slice(rest, 1, rest.n);
                rest = str_trim(rest);
                if (rest.n && rest.p[0] == ':')
                        e = ensure_reference(cli, d->file, scalar(str_slice(rest, 1, rest.n)),
                                             nested);
        }
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
        e = document_read(cli, file, &d);
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
        enum err e = document_read(cli, cli->args[0], &d);

        if (!e)
                e = connect_server(cli);
        if (!e)
                e = create(cli, &d, &response, &reply);
        if (e)
                return e;
        if (cli->format == FORMAT_TABLE)
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
        if (cli->format != FORMAT_TABLE) {
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

static enum err validate_here(struct cli *cli, const struct document *d,
                              struct http_response *response, json_t **out)
{
        struct buf reply = BUF_INIT(FILE_MAX);
        enum err e = cli_validate_offline(&cli->scope, d->text, d->yaml,
                                          str_from(d->base ? d->base : ""), &reply);

        if (!e) {
                *response = (struct http_response){
                        .status = 200, .body = str_dup(&cli->scope.arena, buf_view(&reply))
                };
                e = json_parse(&cli->scope, response->body, out);
                if (!e)
                        json_array_append_new(cli->kept, *out);
        }
        buf_done(&reply);
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
        struct document d = { .yaml = true };
        json_t *reply = NULL;
        bool valid;
        enum err e = file_read(cli, cli->args[0], &d.text);

        if (e)
                return e;
        /* Not document_read(): what cannot be read is for the checker to explain. */
        d.file = cli->args[0];
        d.base = cli_option(cli, "name") ? cli_option(cli, "name") : base_name(cli, d.file);
        d.yaml = !str_ends(str_from(d.file), ".json") && !str_starts(str_trim(d.text), "{");
        if (server_is_there(cli))
                e = validate_there(cli, &d, &response, &reply);
        else
                e = validate_here(cli, &d, &response, &reply);
        if (e)
                return e;
        valid = json_is_true(json_object_get(reply, "valid"));
        if (cli->format != FORMAT_TABLE)
                show_object(cli, &response, reply);
        else if (valid)
                fprintf(cli->out.to, "%s is valid\n", d.file);
        if (cli->format == FORMAT_TABLE)
                print_problems(cli, reply);
        cli->status = valid ? 0 : 2;
        return ERR_OK;
}
