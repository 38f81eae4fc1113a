#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "json/json_in.h"

/* ---- to become the holder of a run ---- */

static enum err show_claims(struct cli *cli, const char *path, struct str body)
{
        static const struct column columns[] = {
                { "RUN", "run.id", SHOW_TEXT },
                { "TASK", "task.id", SHOW_TEXT },
                { "CLAIM TOKEN", "claim_token", SHOW_TEXT },
                { "LEASE UNTIL", "lease_until", SHOW_TIME },
                { "TITLE", "task.title", SHOW_FREE },
        };
        struct http_response response;
        json_t *reply = NULL;
        enum err e = post_json(cli, path, body, &response, &reply);

        if (e)
                return e;
        if (reply) {
                show_rows(cli, &response, json_object_get(reply, "claims"), columns, LENGTH(columns));
                return ERR_OK;
        }
        fprintf(cli->err.to, "nothing to claim\n");
        cli->status = 3;
        return ERR_OK;
}

/* Each command knows the options of its own; the others are not given. */
static enum err claim_at(struct cli *cli, const char *path, const char *token)
{
        struct body body;
        struct str text;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "session_id", cli_option(cli, "session"));
        body_text(&body, "agent_name", cli_option(cli, "agent"));
        body_text(&body, "channel", cli_option(cli, "channel"));
        body_text(&body, "priority_min", cli_option(cli, "priority-min"));
        body_text(&body, "claim_token", token);
        body_words(&body, "capabilities", cli_option(cli, "capabilities"));
        e = body_int(cli, &body, "lease_seconds", "lease");
        if (!e)
                e = body_int(cli, &body, "wait_seconds", "wait");
        if (!e)
                e = body_int(cli, &body, "max", "max");
        text = body_end(cli, &body);
        return e ? e : show_claims(cli, path, text);
}

static const char *token(struct cli *cli)
{
        return cli_setting(cli, "token", "BATON_CLAIM_TOKEN");
}

enum err command_runs_claim(struct cli *cli)
{
        return claim_at(cli, cli->n_args ? path_of(cli, "/v1/runs/", cli->args[0], "/claim") :
                                           "/v1/runs/claim",
                        NULL);
}

enum err command_runs_attach_session(struct cli *cli)
{
        return claim_at(cli, path_of(cli, "/v1/runs/", cli->args[0], "/attach-session"), token(cli));
}

/* ---- to hold it ---- */

static enum err begin_holding(struct cli *cli, struct body *body)
{
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(body);
        body_text(body, "claim_token", token(cli));
        return ERR_OK;
}

static enum err end_holding(struct cli *cli, const char *verb, struct body *body)
{
        return show_post(cli, path_of(cli, "/v1/runs/", cli->args[0], verb), body_end(cli, body), NULL);
}

enum err command_runs_start(struct cli *cli)
{
        struct body body;
        enum err e = begin_holding(cli, &body);

        return e ? e : end_holding(cli, "/start", &body);
}

enum err command_runs_heartbeat(struct cli *cli)
{
        struct body body;
        enum err e = begin_holding(cli, &body);

        if (e)
                return e;
        e = body_int(cli, &body, "lease_seconds", "lease");
        if (e) {
                buf_done(&body.text);
                return e;
        }
        return end_holding(cli, "/heartbeat", &body);
}

enum err command_runs_complete(struct cli *cli)
{
        const char *result = cli_option(cli, "result");
        json_t *value = NULL;
        struct body body;
        enum err e = result ? json_parse(&cli->scope, str_from(result), &value) : ERR_OK;

        if (value)
                json_array_append_new(cli->kept, value);
        if (!e)
                e = begin_holding(cli, &body);
        if (e)
                return e;
        if (value) {
                json_key(&body.j, "result");
                json_print(&body.j, value);
        }
        return end_holding(cli, "/complete", &body);
}

enum err command_runs_fail(struct cli *cli)
{
        struct body body;
        enum err e = begin_holding(cli, &body);

        if (e)
                return e;
        body_text(&body, "error", cli_option(cli, "error"));
        body_text(&body, "kind", cli_option(cli, "kind"));
        return end_holding(cli, "/fail", &body);
}

enum err command_runs_release(struct cli *cli)
{
        struct body body;
        enum err e = begin_holding(cli, &body);

        if (e)
                return e;
        body_text(&body, "reason", cli_option(cli, "reason"));
        return end_holding(cli, "/release", &body);
}

enum err command_runs_consume(struct cli *cli)
{
        const char *inputs = path_of(cli, "/v1/runs/", cli->args[0], "/inputs/");
        struct body body;
        enum err e = begin_holding(cli, &body);

        return e ? e :
                   show_post(cli, path_of(cli, inputs, cli->args[1], "/consume"), body_end(cli, &body),
                             NULL);
}
