#include <string.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "cli/run.h"
#include "json/json_in.h"

enum err command_task_run(struct cli *cli)
{
        bool stream = cli_option(cli, "stream"), wait = cli_option(cli, "wait");
        struct http_response response;
        struct inputs inputs;
        json_t *started;
        enum err e = inputs_read(cli, false, &inputs);

        if (!e)
                e = connect_server(cli);
        if (!e)
                e = run_definition(cli, cli->args[0], &inputs, &response, &started);
        if (e)
                return e;
        if (stream || wait)
                return run_to_end(cli, started, stream);
        if (cli->format == OUTPUT_TABLE)
                started = json_object_get(started, "run");
        show_object(cli, &response, started);
        return ERR_OK;
}

enum err command_task_create(struct cli *cli)
{
        const char *title = cli_option(cli, "title");
        struct inputs inputs;
        struct body body;
        enum err e = inputs_read(cli, false, &inputs);

        if (!e && !title)
                e = fail_field(&cli->scope, "title", ERR_VALIDATION, "a task needs a --title");
        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "title", title);
        body_text(&body, "description", cli_option(cli, "description"));
        body_text(&body, "identifier", cli_option(cli, "identifier"));
        body_text(&body, "priority", cli_option(cli, "priority"));
        body_text(&body, "definition_id", cli_option(cli, "definition"));
        body_words(&body, "required_capabilities", cli_option(cli, "capabilities"));
        e = body_int(cli, &body, "max_attempts", "max-attempts");
        if (!e)
                e = body_int(cli, &body, "timeout_seconds", "timeout");
        if (json_object_size(inputs.values)) {
                json_key(&body.j, "input");
                json_print(&body.j, inputs.values);
        }
        if (cli_option(cli, "start")) {
                json_key(&body.j, "start");
                json_put_bool(&body.j, true);
        }
        if (e) {
                buf_done(&body.text);
                return e;
        }
        return show_post(cli, "/v1/tasks", body_end(cli, &body), "task");
}

enum err command_task_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "PRIORITY", "priority", SHOW_TEXT },
                { "CURRENT RUN", "current_run_id", SHOW_TEXT },
                { "CREATED", "created_at", SHOW_AGE },
                { "TITLE", "title", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/tasks");
        path_query(&path, "status", cli_option(cli, "status"));
        path_query(&path, "priority", cli_option(cli, "priority"));
        path_query(&path, "definition_id", cli_option(cli, "definition"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_task_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/tasks/", cli->args[0], NULL));
}

enum err command_task_cancel(struct cli *cli)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "reason", cli_option(cli, "reason"));
        return show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/cancel"),
                         body_end(cli, &body), "task");
}

enum err command_task_retry(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e :
                   show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/retry"), STR("{}"),
                             "run");
}
