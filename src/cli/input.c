#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "json/json_in.h"

enum err command_task_input(struct cli *cli)
{
        const char *data = cli_option(cli, "value");
        json_t *value = NULL;
        struct body body;
        enum err e = data ? json_parse(&cli->scope, str_from(data), &value) : ERR_OK;

        if (value)
                json_array_append_new(cli->kept, value);
        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "message", cli_option(cli, "message"));
        body_text(&body, "name", cli_option(cli, "name"));
        if (value) {
                json_key(&body.j, "data");
                json_print(&body.j, value);
        }
        return show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/inputs"),
                         body_end(cli, &body), NULL);
}

enum err command_task_inputs(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },           { "STATUS", "status", SHOW_STATUS },
                { "NAME", "name", SHOW_TEXT },       { "FROM", "sent_by.ref", SHOW_TEXT },
                { "SENT", "sent_at", SHOW_AGE },     { "TAKEN BY", "run_id", SHOW_TEXT },
                { "MESSAGE", "message", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/tasks/", cli->args[0], "/inputs"));
        path_query(&path, "status", cli_option(cli, "status"));
        path_query(&path, "name", cli_option(cli, "name"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}
