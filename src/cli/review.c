#include <string.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum err command_reviews_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "OUTCOME", "outcome", SHOW_STATUS },
                { "RUN", "run_id", SHOW_TEXT },
                { "ROUND", "review_round", SHOW_NUMBER },
                { "ATTEMPT", "attempt", SHOW_NUMBER },
                { "SESSION", "session_id", SHOW_TEXT },
                { "CREATED", "created_at", SHOW_AGE },
                { "DEADLINE", "deadline_at", SHOW_AGE },
                { "WHY", "verdict_reason", SHOW_FREE },
        };
        const char *run = cli_option(cli, "run");
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, run ? path_of(cli, "/v1/runs/", run, "/reviews") : "/v1/reviews");
        path_query(&path, "task_id", cli_option(cli, "task"));
        path_query(&path, "status", cli_option(cli, "status"));
        path_query(&path, "session_id", cli_option(cli, "session"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_reviews_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/reviews/", cli->args[0], NULL));
}

enum err command_reviews_request(struct cli *cli)
{
        struct body body;
        struct str text;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "policy", cli_option(cli, "policy"));
        body_text(&body, "reason", cli_option(cli, "reason"));
        e = body_int(cli, &body, "review_round", "round");
        if (!e)
                e = body_int(cli, &body, "attempt", "attempt");
        if (!e)
                e = body_int(cli, &body, "deadline_seconds", "deadline");
        text = body_end(cli, &body);
        return e ? e :
                   show_post(cli, path_of(cli, "/v1/runs/", cli->args[0], "/reviews"), text, "review");
}

enum err command_reviews_bind(struct cli *cli)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "session_id", cli_option(cli, "session"));
        return show_post(cli, path_of(cli, "/v1/reviews/", cli->args[0], "/bind"), body_end(cli, &body),
                         NULL);
}

/* Every --missing, in order. */
static void body_missing(struct cli *cli, struct body *body)
{
        if (!cli_option(cli, "missing"))
                return;
        json_key(&body->j, "missing_work");
        json_begin_list(&body->j);
        for (size_t i = 0; i < cli->n_given; i++)
                if (strcmp(cli->given[i].option->name, "missing") == 0)
                        json_put_text(&body->j, cli->given[i].value);
        json_end_list(&body->j);
}

static enum err submit(struct cli *cli, const char *outcome)
{
        const char *confidence = cli_option(cli, "confidence"), *delivery = cli_option(cli, "delivery");
        struct body body;
        double share = 1;
        char *end;
        enum err e;

        if (confidence) {
                share = strtod(confidence, &end);
                if (end == confidence || *end || !(share >= 0 && share <= 1))
                        return fail_field(&cli->scope, "confidence", ERR_VALIDATION,
                                          "--confidence must be a number from 0 to 1, not \"%s\"", confidence);
        }
        e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "outcome", outcome);
        json_key(&body.j, "confidence");
        json_put_double(&body.j, share);
        body_text(&body, "reason", cli_option(cli, "reason"));
        body_text(&body, "delivery_id", delivery ? delivery : new_idempotency_key(cli));
        body_missing(cli, &body);
        body_text(&body, "next_round_guidance", cli_option(cli, "guidance"));
        body_text(&body, "review_text", cli_option(cli, "text"));
        return show_post(cli, path_of(cli, "/v1/reviews/", cli->args[0], "/verdict"), body_end(cli, &body),
                         "review");
}

enum err command_reviews_approve(struct cli *cli)
{
        return submit(cli, "approved");
}

enum err command_reviews_reject(struct cli *cli)
{
        return submit(cli, "rejected");
}

enum err command_reviews_submit(struct cli *cli)
{
        return submit(cli, cli_option(cli, "outcome"));
}
