#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum err command_approvals_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "RISK", "risk_level", SHOW_TEXT },
                { "RUN", "run_id", SHOW_TEXT },
                { "STEP", "step_index", SHOW_NUMBER },
                { "CREATED", "created_at", SHOW_AGE },
                { "EXPIRES", "expires_at", SHOW_AGE },
                { "SUMMARY", "summary", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/approvals");
        path_query(&path, "status", cli_option(cli, "status"));
        path_query(&path, "run_id", cli_option(cli, "run"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

static enum err decide(struct cli *cli, const char *decision)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "decision", decision);
        body_text(&body, "comment", cli_option(cli, "comment"));
        return show_post(cli, path_of(cli, "/v1/approvals/", cli->args[0], "/decide"),
                         body_end(cli, &body), NULL);
}

enum err command_approvals_approve(struct cli *cli)
{
        return decide(cli, "approve");
}

enum err command_approvals_deny(struct cli *cli)
{
        return decide(cli, "deny");
}
