#include "cli/run.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/definition.h"
#include "cli/follow.h"
#include "cli/reply.h"
#include "json/json_in.h"

enum { RESULT_SHOWN = 8192, LINE_SHOWN = 80 };

/* ---- inputs ---- */

/* The value as text and, when it is a directory of this machine, as its real path. */
static json_t *input_value(struct cli *cli, struct str text, bool here, struct inputs *inputs)
{
        const char *word = str_c(&cli->scope.arena, text);
        char real[PATH_MAX];
        struct stat status;
        json_t *value;

        if (here && text.n && stat(word, &status) == 0 && S_ISDIR(status.st_mode) &&
            realpath(word, real)) {
                word = str_c(&cli->scope.arena, str_from(real));
                inputs->directories[inputs->n_directories++] = word;
                return json_string(word);
        }
        value = json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES,
                           NULL);
        return value ? value : json_stringn(text.p ? text.p : "", text.n);
}

static enum err input_file(struct cli *cli, const char *file, json_t **out)
{
        struct str text;
        enum err e = file_read(cli, file, &text);

        if (!e)
                e = json_parse(&cli->scope, text, out);
        if (!e && !json_is_object(*out)) {
                json_decref(*out);
                e = fail_field(&cli->scope, "input-file", ERR_VALIDATION,
                               "%s must hold a JSON object", file);
        }
        return e;
}

enum err inputs_read(struct cli *cli, bool here, struct inputs *out)
{
        const char *file = cli_option(cli, "input-file");
        json_t *values = NULL;

        *out = (struct inputs){ .directories = arena_array(&cli->scope.arena, const char *,
                                                           cli->n_given + 1) };
        if (file) {
                enum err e = input_file(cli, file, &values);

                if (e)
                        return e;
        }
        if (!values)
                values = json_object();
        json_array_append_new(cli->kept, values);
        for (size_t i = 0; i < cli->n_given; i++) {
                struct str name, text;
                json_t *value;

                if (strcmp(cli->given[i].option->name, "input") != 0)
                        continue;
                name = str_cut(str_from(cli->given[i].value), '=', &text);
                value = text.p && name.n ? input_value(cli, text, here, out) : NULL;
                if (!value || json_object_set_new(values, str_c(&cli->scope.arena, name), value))
                        return fail_field(&cli->scope, "input", ERR_VALIDATION,
                                          "--input must be NAME=VALUE in UTF-8, not \"%s\"",
                                          cli->given[i].value);
        }
        out->values = values;
        return ERR_OK;
}

/* ---- starting ---- */

enum err run_definition(struct cli *cli, const char *name, const struct inputs *inputs,
                        struct http_response *response, json_t **out)
{
        struct body body;
        enum err e;

        body_begin(&body);
        if (json_object_size(inputs->values)) {
                json_key(&body.j, "input");
                json_print(&body.j, inputs->values);
        }
        body_text(&body, "title", cli_option(cli, "title"));
        e = post_json(cli, path_of(cli, "/v1/definitions/", name, "/runs"), body_end(cli, &body),
                      response, out);
        if (!e && !json_is_object(json_object_get(*out, "run")))
                e = fail(&cli->scope, ERR_INTERNAL, "the server's reply has no run");
        return e;
}

/* ---- how it went ---- */

static struct str took(struct cli *cli, const json_t *run)
{
        int64_t from, to;

        if (!time_parse(member_text(run, "queued_at"), &from) ||
            !time_parse(member_text(run, "ended_at"), &to))
                return STR("");
        return arena_printf(&cli->scope.arena, " in " STR_FMT,
                            STR_ARG(duration_text(&cli->scope, to - from)));
}

static void print_result(struct cli *cli, const json_t *run)
{
        const json_t *result = json_object_get(run, "result");
        struct str text;
        char *dump;

        if (!result || json_is_null(result))
                return;
        dump = json_dumps(result, JSON_ENCODE_ANY);
        if (dump && strlen(dump) > LINE_SHOWN) {
                free(dump);
                dump = json_dumps(result, JSON_INDENT(2) | JSON_ENCODE_ANY);
        }
        text = text_clean_lines(&cli->scope, str_from(dump ? dump : ""));
        free(dump);
        if (cli->out.terminal && text.n > RESULT_SHOWN)
                fprintf(cli->out.to,
                        "result: " STR_FMT "\n… (all of it: baton runs get %s -o json%s)\n",
                        STR_ARG(str_slice(text, 0, RESULT_SHOWN)), member_c(cli, run, "id"),
                        cli_same_server(cli));
        else
                fprintf(cli->out.to, "result: " STR_FMT "\n", STR_ARG(text));
}

/* Usually a text; anything else is shown as JSON. */
static struct str content_of(struct cli *cli, const json_t *step)
{
        const json_t *input = json_object_get(step, "input");
        const json_t *places[] = { json_object_get(step, "output"), input,
                                   json_object_get(input, "parameters") };
        struct str text;
        char *dump;

        for (size_t i = 0; i < LENGTH(places); i++) {
                const json_t *content = json_object_get(places[i], "content");

                if (json_is_string(content))
                        return json_view(content);
                if (!content)
                        continue;
                dump = json_dumps(content, JSON_INDENT(2) | JSON_ENCODE_ANY);
                text = str_dup(&cli->scope.arena, str_from(dump ? dump : ""));
                free(dump);
                return text;
        }
        return STR("");
}

/* What the last step that writes a file wrote: usually the report. */
static void print_written(struct cli *cli, const json_t *run)
{
        const char *path = path_of(cli, "/v1/runs/", member_c(cli, run, "id"), "/steps?limit=500");
        struct str content = STR("");
        const json_t *items, *step;
        json_t *reply;
        size_t i;

        if (get_json(cli, path, &reply))
                return;
        items = member_items(reply);
        json_array_foreach(items, i, step)
                if (str_is(member_text(step, "action"), "write_file") &&
                    str_is(member_text(step, "status"), "completed"))
                        content = content_of(cli, step);
        content = text_clean_lines(&cli->scope, content);
        if (content.n)
                fprintf(cli->out.to, STR_FMT "%s\n", STR_ARG(content),
                        str_ends(content, "\n") ? "" : "\n");
}

static void print_end(struct cli *cli, const json_t *run)
{
        struct scope *scope = &cli->scope;
        struct str status = text_clean(scope, member_text(run, "status"));
        struct str error = text_clean_lines(scope, member_text(run, "error"));

        print_written(cli, run);
        print_result(cli, run);
        if (error.n)
                fprintf(cli->out.to, "error: " STR_FMT "\n", STR_ARG(error));
        fprintf(cli->out.to, "run " STR_FMT " %s" STR_FMT "%s" STR_FMT "\n",
                STR_ARG(text_clean(scope, member_text(run, "id"))),
                status_colour(&cli->out, status), STR_ARG(status), colour_off(&cli->out),
                STR_ARG(took(cli, run)));
}

enum err run_to_end(struct cli *cli, const json_t *started, bool shown)
{
        const char *task = member_c(cli, json_object_get(started, "task"), "id");
        const char *id = member_c(cli, json_object_get(started, "run"), "id");
        const json_t *run = NULL;
        enum err e;

        if (shown)
                fprintf(cli->err.to, "run %s\n", id);
        e = follow_run(cli, task, id, shown, &run);
        if (e || !run)
                return e;
        cli->status = exit_status_of(member_text(run, "status"));
        if (cli->format == OUTPUT_TABLE)
                print_end(cli, run);
        else
                print_line(cli, run);
        return ERR_OK;
}

/* ---- baton run ---- */

/* A server that was about to end when it was found is left for another one. */
static enum err prepare(struct cli *cli, const struct inputs *inputs, json_t **started)
{
        const struct timespec moment = { 0, 200000000 };
        struct http_response response;
        const char *definition;
        enum err e = ERR_OK;

        for (int i = 0; i < 5; i++) {
                e = connect_or_start(cli, inputs->directories, inputs->n_directories);
                if (e)
                        break;
                e = definition_ensure(cli, cli->args[0], &definition);
                if (!e)
                        e = run_definition(cli, definition, inputs, &response, started);
                if ((e != ERR_DRAINING && e != ERR_UNAVAILABLE) || !connection_may_start(cli))
                        break;
                nanosleep(&moment, NULL);
        }
        return e;
}

enum err command_run(struct cli *cli)
{
        struct inputs inputs;
        struct str text;
        json_t *started;
        enum err e = inputs_read(cli, true, &inputs);

        /* Before a server is started for it. */
        if (!e && strcmp(cli->args[0], "-") == 0)
                e = fail_field(&cli->scope, "FILE", ERR_VALIDATION,
                               "run needs a file: its name and place have a meaning");
        if (!e)
                e = file_read(cli, cli->args[0], &text);
        if (!e)
                e = prepare(cli, &inputs, &started);
        return e ? e : run_to_end(cli, started, true);
}
