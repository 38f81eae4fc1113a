#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

/* Without an Idempotency-Key: asked again, the answer would come without the key. */
static enum err create(struct cli *cli, struct str body)
{
        const struct http_call call = { .method = "POST", .path = "/v1/keys", .body = body };
        struct http_response response;
        json_t *reply;
        enum err e = send_json(cli, &call, &response, &reply);

        if (e)
                return e;
        show_object(cli, &response, reply);
        if (cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "keep the key: it is not shown again\n");
        return ERR_OK;
}

enum err command_key_create(struct cli *cli)
{
        const char *name = cli_option(cli, "name"), *scopes = cli_option(cli, "scopes");
        const char *kind = cli_option(cli, "actor-kind"), *ref = cli_option(cli, "ref");
        const char *bound = cli_option(cli, "bound-to");
        struct body body;
        enum err e;

        if (!name || !scopes)
                return fail_field(&cli->scope, name ? "scopes" : "name", ERR_VALIDATION,
                                  "a key needs --name and --scopes, such as tasks:read,runs:claim");
        e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "name", name);
        body_text(&body, "actor_kind", kind ? kind : "human");
        body_text(&body, "ref", ref ? ref : name);
        body_text(&body, "session_id", cli_option(cli, "session"));
        body_text(&body, "agent_name", cli_option(cli, "agent"));
        body_words(&body, "capabilities", cli_option(cli, "capabilities"));
        body_words(&body, "scopes", scopes);
        body_text(&body, "workspace_id", bound ? bound : cli_option(cli, "workspace"));
        body_text(&body, "expires_at", cli_option(cli, "expires-at"));
        return create(cli, body_end(cli, &body));
}

enum err command_key_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "ACTOR", "actor", SHOW_TEXT },
                { "SCOPES", "scopes", SHOW_TEXT },
                { "CREATED", "created_at", SHOW_AGE },
                { "EXPIRES", "expires_at", SHOW_AGE },
                { "REVOKED", "revoked_at", SHOW_AGE },
                { "NAME", "name", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/keys");
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_key_revoke(struct cli *cli)
{
        struct http_call call = { .method = "DELETE" };
        struct http_response response;
        enum err e = connect_server(cli);

        call.path = path_of(cli, "/v1/keys/", cli->args[0], NULL);
        if (!e)
                e = send_call(cli, &call, &response);
        if (!e && cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "revoked\n");
        return e;
}
