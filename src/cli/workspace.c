#include <string.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum err command_workspace_create(struct cli *cli)
{
        struct body body;
        struct str text;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "name", cli->args[0]);
        body_text(&body, "slug", cli_option(cli, "slug"));
        body_words(&body, "network_channels", cli_option(cli, "channels"));
        e = body_int(cli, &body, "retention_seconds", "retention");
        text = body_end(cli, &body);
        return e ? e : show_post(cli, "/v1/workspaces", text, NULL);
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

static void body_volume(struct cli *cli, struct body *body)
{
        const char *volume = cli_option(cli, "volume");

        if (!volume || strcmp(volume, "none") != 0) {
                body_text(body, "volume", volume);
                return;
        }
        json_key(&body->j, "volume");
        json_put_null(&body->j);
}

enum err command_workspace_update(struct cli *cli)
{
        struct body body;
        struct str text;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "name", cli_option(cli, "name"));
        body_text(&body, "slug", cli_option(cli, "slug"));
        body_words(&body, "network_channels", cli_option(cli, "channels"));
        body_volume(cli, &body);
        e = body_int(cli, &body, "quota_bytes", "quota");
        if (!e)
                e = body_int(cli, &body, "retention_seconds", "retention");
        text = body_end(cli, &body);
        return e ? e : show_patch(cli, path_of(cli, "/v1/workspaces/", cli->args[0], NULL), text);
}

enum err command_workspace_delete(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_delete(cli, path_of(cli, "/v1/workspaces/", cli->args[0], NULL));
}
