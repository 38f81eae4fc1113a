#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/follow.h"
#include "cli/reply.h"
#include "json/json_in.h"

enum err command_runs_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "TASK", "task_id", SHOW_TEXT },
                { "KIND", "kind", SHOW_TEXT },
                { "ATTEMPT", "attempt", SHOW_NUMBER },
                { "STEPS", "usage.steps", SHOW_NUMBER },
                { "ATTENTION", "attention", SHOW_TEXT },
                { "QUEUED", "queued_at", SHOW_AGE },
                { "ENDED", "ended_at", SHOW_AGE },
                { "ERROR", "error", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/runs");
        path_query(&path, "status", cli_option(cli, "status"));
        path_query(&path, "task_id", cli_option(cli, "task"));
        path_query(&path, "definition_id", cli_option(cli, "definition"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_runs_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/runs/", cli->args[0], NULL));
}

enum err command_runs_steps(struct cli *cli)
{
        static const struct column columns[] = {
                { "#", "index", SHOW_NUMBER },         { "ID", "id", SHOW_TEXT },
                { "ACTION", "action", SHOW_TEXT },     { "STATUS", "status", SHOW_STATUS },
                { "ATTEMPT", "attempt", SHOW_NUMBER }, { "MS", "duration_ms", SHOW_NUMBER },
                { "LABEL", "label", SHOW_FREE },       { "ERROR", "error", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/runs/", cli->args[0], "/steps"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

/* ---- streams ---- */

struct tail {
        struct cli *cli;
        void (*show)(struct cli *, const json_t *event);
        enum err failed;
};

static bool on_event(void *ctx, const struct http_event *event)
{
        struct tail *tail = ctx;
        json_t *value;

        if (json_parse(&tail->cli->scope, event->data, &value))
                return true;
        if (tail->cli->format == OUTPUT_TABLE)
                tail->show(tail->cli, value);
        else
                print_line(tail->cli, value);
        json_decref(value);
        fflush(tail->cli->out.to);
        return !interrupted() && !ferror(tail->cli->out.to);
}

static bool on_idle(void *ctx)
{
        (void)ctx;
        return !interrupted();
}

static enum err tail_stream(struct cli *cli, const char *path,
                            void (*show)(struct cli *, const json_t *))
{
        struct tail tail = { .cli = cli, .show = show };
        const struct http_follower follower = { .on_event = on_event,
                                                .on_idle = on_idle,
                                                .ctx = &tail,
                                                .patience_seconds = PATIENCE_SECONDS };
        enum err e;

        interrupt_catch();
        e = http_follow(&cli->scope, cli->connection.client, path, &follower);
        if (interrupted()) {
                fprintf(cli->err.to,
                        "\nstopped following; the run goes on. Cancel it with: baton"
                        " runs cancel %s%s\n",
                        cli->args[0], cli_same_server(cli));
                cli->status = 130;
                e = ERR_OK;
        }
        interrupt_release();
        return e;
}

/* ---- logs ---- */

static void show_log(struct cli *cli, const json_t *line)
{
        struct str text = text_clean_lines(&cli->scope, member_text(line, "text"));

        fprintf(cli->out.to, STR_FMT "%s", STR_ARG(text), str_ends(text, "\n") ? "" : "\n");
}

static enum err print_log_object(struct cli *cli, struct str text)
{
        json_t *value = json_pack("{s:s, s:s%}", "run_id", cli->args[0], "text", text.p ? text.p : "",
                                  text.n);

        if (!value)
                return fail(&cli->scope, ERR_INTERNAL, "the log is not UTF-8");
        json_array_append_new(cli->kept, value);
        print_line(cli, value);
        return ERR_OK;
}

static enum err print_logs(struct cli *cli)
{
        const struct http_call call = { .method = "GET",
                                        .path = path_of(cli, "/v1/runs/", cli->args[0], "/logs") };
        struct http_response response;
        enum err e = send_call(cli, &call, &response);
        struct str text;

        if (e)
                return e;
        if (cli->format != OUTPUT_TABLE)
                return print_log_object(cli, response.body);
        text = cli->out.terminal ? text_clean_lines(&cli->scope, response.body) : response.body;
        fwrite(text.p, 1, text.n, cli->out.to);
        return ERR_OK;
}

enum err command_runs_logs(struct cli *cli)
{
        enum err e = connect_server(cli);

        if (e)
                return e;
        if (!cli_option(cli, "follow"))
                return print_logs(cli);
        return tail_stream(cli, path_of(cli, "/v1/runs/", cli->args[0], "/logs?follow=1"),
                           show_log);
}

/* ---- events ---- */

static const struct column event_columns[] = {
        { "SEQUENCE", "sequence", SHOW_NUMBER }, { "TIME", "timestamp", SHOW_TIME },
        { "TYPE", "type", SHOW_TEXT },           { "ACTOR", "actor", SHOW_TEXT },
        { "PAYLOAD", "payload", SHOW_FREE },
};

static void show_event(struct cli *cli, const json_t *event)
{
        struct str type = member_text(event, "type"), time = member_text(event, "timestamp");
        struct str payload = json_dump(&cli->scope.arena, json_object_get(event, "payload"));

        fprintf(cli->out.to, "%s" STR_FMT "%s  %-24.*s " STR_FMT "\n", colour_dim(&cli->out),
                STR_ARG(text_clean(&cli->scope, time)), colour_off(&cli->out),
                STR_ARG(text_clean(&cli->scope, type)), STR_ARG(text_clean(&cli->scope, payload)));
}

static enum err follow_events(struct cli *cli)
{
        struct path path = PATH_INIT(cli);
        json_t *run;
        enum err e = get_json(cli, path_of(cli, "/v1/runs/", cli->args[0], NULL), &run);

        if (e)
                return e;
        path_add(&path, path_of(cli, "/v1/tasks/", member_c(cli, run, "task_id"), "/runs/"));
        path_add(&path, path_of(cli, "", cli->args[0], "/events/stream"));
        path_query(&path, "after_sequence", cli_option(cli, "after"));
        return tail_stream(cli, path_end(&path), show_event);
}

enum err command_runs_events(struct cli *cli)
{
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        if (e)
                return e;
        if (cli_option(cli, "follow"))
                return follow_events(cli);
        path_add(&path, path_of(cli, "/v1/runs/", cli->args[0], "/events"));
        path_query(&path, "after_sequence", cli_option(cli, "after"));
        return show_list(cli, &path, event_columns, LENGTH(event_columns));
}

/* ---- changes ---- */

/* POST /v1/runs/ID/verb with --reason. */
static enum err post_reason(struct cli *cli, const char *verb)
{
        enum err e = connect_server(cli);

        return e ? e : show_post_reason(cli, path_of(cli, "/v1/runs/", cli->args[0], verb), "run");
}

enum err command_runs_cancel(struct cli *cli)
{
        return post_reason(cli, "/cancel");
}

enum err command_runs_retry(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e :
                   show_post(cli, path_of(cli, "/v1/runs/", cli->args[0], "/retry"), STR("{}"),
                             "run");
}

static void body_ids(struct cli *cli, struct body *body)
{
        json_key(&body->j, "run_ids");
        json_begin_list(&body->j);
        for (int i = 0; i < cli->n_args; i++)
                json_put_text(&body->j, cli->args[i]);
        json_end_list(&body->j);
}

/* One run by its own route, several by that of many. */
static enum err force(struct cli *cli, const char *verb, const char *bulk)
{
        static const struct column columns[] = {
                { "ID", "run_id", SHOW_TEXT },
                { "STATUS", "run.status", SHOW_STATUS },
                { "REFUSED", "error.code", SHOW_TEXT },
                { "WHY", "error.detail", SHOW_FREE },
        };
        struct http_response response;
        struct body body;
        json_t *reply, *row;
        size_t i;
        enum err e;

        if (cli->n_args == 1)
                return post_reason(cli, verb);
        e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "reason", cli_option(cli, "reason"));
        body_ids(cli, &body);
        e = post_json(cli, bulk, body_end(cli, &body), &response, &reply);
        if (e)
                return e;
        show_rows(cli, &response, reply, columns, LENGTH(columns));
        json_array_foreach (member_items(reply), i, row)
                if (!json_is_true(json_object_get(row, "ok")))
                        cli->status = 1;
        return ERR_OK;
}

enum err command_runs_force_release(struct cli *cli)
{
        return force(cli, "/force-release", "/v1/runs/bulk/release");
}

enum err command_runs_force_fail(struct cli *cli)
{
        return force(cli, "/force-fail", "/v1/runs/bulk/fail");
}

enum err command_runs_recover(struct cli *cli)
{
        return post_reason(cli, "/recover");
}

enum err command_runs_explain(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/runs/", cli->args[0], "/explain"));
}
