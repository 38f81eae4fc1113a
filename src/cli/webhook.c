#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

static void body_fields(struct cli *cli, struct body *body, const char *url)
{
        body_text(body, "url", url);
        body_words(body, "events", cli_option(cli, "events"));
        body_text(body, "description", cli_option(cli, "description"));
}

/* Without an Idempotency-Key: asked again, the answer would come without the secret. */
enum err command_webhook_create(struct cli *cli)
{
        struct http_call call = { .method = "POST", .path = "/v1/webhooks" };
        struct http_response response;
        struct body body;
        json_t *reply;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_fields(cli, &body, cli->args[0]);
        call.body = body_end(cli, &body);
        e = send_json(cli, &call, &response, &reply);
        if (e)
                return e;
        show_object(cli, &response, reply);
        if (cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "keep the secret: it is not shown again\n");
        return ERR_OK;
}

enum err command_webhook_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },         { "ENABLED", "enabled", SHOW_TEXT },
                { "EVENTS", "events", SHOW_TEXT }, { "CREATED", "created_at", SHOW_AGE },
                { "URL", "url", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/webhooks");
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_webhook_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/webhooks/", cli->args[0], NULL));
}

enum err command_webhook_update(struct cli *cli)
{
        bool enable = cli_option(cli, "enable"), disable = cli_option(cli, "disable");
        struct body body;
        enum err e = ERR_OK;

        if (enable && disable)
                e = fail_field(&cli->scope, "disable", ERR_VALIDATION,
                               "--enable and --disable exclude each other");
        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_fields(cli, &body, cli_option(cli, "url"));
        if (enable || disable) {
                json_key(&body.j, "enabled");
                json_put_bool(&body.j, enable);
        }
        return show_patch(cli, path_of(cli, "/v1/webhooks/", cli->args[0], NULL), body_end(cli, &body));
}

enum err command_webhook_delete(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_delete(cli, path_of(cli, "/v1/webhooks/", cli->args[0], NULL));
}

enum err command_webhook_deliveries(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "TYPE", "type", SHOW_TEXT },
                { "TASK", "task_id", SHOW_TEXT },
                { "ATTEMPTS", "attempts", SHOW_NUMBER },
                { "ANSWER", "response_status", SHOW_NUMBER },
                { "CREATED", "created_at", SHOW_AGE },
                { "ERROR", "error", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/webhooks/", cli->args[0], "/deliveries"));
        path_query(&path, "status", cli_option(cli, "status"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_webhook_replay(struct cli *cli)
{
        const char *deliveries = path_of(cli, "/v1/webhooks/", cli->args[0], "/deliveries/");
        enum err e = connect_server(cli);

        return e ? e :
                   show_post(cli, path_of(cli, deliveries, cli->args[1], "/replay"), STR("{}"),
                             NULL);
}
