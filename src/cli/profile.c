#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/definition.h"
#include "cli/reply.h"

static const char *profile_path(struct cli *cli)
{
        return path_of(cli, "/v1/tasks/", cli->args[0], "/execution-profile");
}

enum err command_profile_inspect(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, profile_path(cli));
}

enum err command_profile_delete(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_delete(cli, profile_path(cli));
}

/* What the options say; blocks of which they say nothing are left out. */
static struct str profile_body(struct cli *cli)
{
        const char *guidance = cli_option(cli, "guidance");
        struct body body;

        body_begin(&body);
        json_key(&body.j, "worker");
        json_begin_object(&body.j);
        body_text(&body, "agent_name", cli_option(cli, "agent"));
        body_text(&body, "provider", cli_option(cli, "provider"));
        body_text(&body, "model", cli_option(cli, "model"));
        body_words(&body, "allowed_agent_names", cli_option(cli, "agents"));
        body_words(&body, "preferred_agent_names", cli_option(cli, "preferred-agents"));
        body_words(&body, "required_capabilities", cli_option(cli, "capabilities"));
        body_words(&body, "preferred_capabilities", cli_option(cli, "preferred"));
        json_end_object(&body.j);
        if (guidance) {
                json_key(&body.j, "coordinator");
                json_begin_object(&body.j);
                body_text(&body, "guidance", guidance);
                json_end_object(&body.j);
        }
        return body_end(cli, &body);
}

/* A file says everything: nothing beside it. */
static enum err check_alone(struct cli *cli)
{
        for (size_t i = 0; i < cli->n_given; i++)
                for (const struct cli_option *o = cli->command->options; o->name; o++)
                        if (cli->given[i].option == o && !str_is(STR("file"), o->name))
                                return fail_field(&cli->scope, o->name, ERR_VALIDATION,
                                                  "--file is the whole profile: leave --%s out", o->name);
        return ERR_OK;
}

enum err command_profile_update(struct cli *cli)
{
        struct http_call call = { .method = "PUT", .path = profile_path(cli) };
        const char *file = cli_option(cli, "file");
        struct http_response response;
        json_t *reply;
        enum err e = file ? check_alone(cli) : ERR_OK;

        if (!e && file)
                e = file_read(cli, file, &call.body);
        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        if (!file)
                call.body = profile_body(cli);
        e = send_json(cli, &call, &response, &reply);
        if (!e)
                show_object(cli, &response, reply);
        return e;
}
