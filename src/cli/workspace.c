#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum err command_workspace_create(struct cli *cli)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "name", cli->args[0]);
        body_text(&body, "slug", cli_option(cli, "slug"));
        e = body_int(cli, &body, "retention_seconds", "retention");
        if (e) {
                buf_done(&body.text);
                return e;
        }
        return show_post(cli, "/v1/workspaces", body_end(cli, &body), NULL);
}

enum err command_workspace_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "SLUG", "slug", SHOW_TEXT },
                { "CREATED", "created_at", SHOW_AGE },
                { "NAME", "name", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/workspaces");
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_workspace_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/workspaces/", cli->args[0], NULL));
}

enum err command_workspace_update(struct cli *cli)
{
        struct http_call call = { .method = "PATCH",
                                  .path = path_of(cli, "/v1/workspaces/", cli->args[0], NULL) };
        struct http_response response;
        struct body body;
        json_t *reply;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "name", cli_option(cli, "name"));
        body_text(&body, "slug", cli_option(cli, "slug"));
        e = body_int(cli, &body, "quota_bytes", "quota");
        if (!e)
                e = body_int(cli, &body, "retention_seconds", "retention");
        call.body = body_end(cli, &body);
        if (!e)
                e = send_json(cli, &call, &response, &reply);
        if (!e)
                show_object(cli, &response, reply);
        return e;
}

enum err command_workspace_delete(struct cli *cli)
{
        const struct http_call call = { .method = "DELETE",
                                        .path = path_of(cli, "/v1/workspaces/", cli->args[0], NULL) };
        struct http_response response;
        enum err e = connect_server(cli);

        if (!e)
                e = send_call(cli, &call, &response);
        if (!e && cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "deleted\n");
        return e;
}
