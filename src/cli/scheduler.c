#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

/* The server's default; what its answer may take. */
enum { DRAIN_SECONDS = 60, DRAIN_PATIENCE = 30 };

enum err command_scheduler_status(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, "/v1/scheduler");
}

enum err command_scheduler_pause(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_post_reason(cli, "/v1/scheduler/pause", NULL);
}

enum err command_scheduler_resume(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_post_reason(cli, "/v1/scheduler/resume", NULL);
}

enum err command_scheduler_drain(struct cli *cli)
{
        const char *timeout = cli_option(cli, "timeout");
        struct http_call call = { .method = "POST", .path = "/v1/scheduler/drain" };
        struct http_response response;
        int64_t seconds = DRAIN_SECONDS;
        struct body body;
        json_t *reply;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "reason", cli_option(cli, "reason"));
        e = body_int(cli, &body, "timeout_seconds", "timeout");
        call.body = body_end(cli, &body);
        if (!e && timeout)
                str_to_int(str_from(timeout), &seconds);
        call.timeout_seconds = (int)seconds + DRAIN_PATIENCE;
        if (!e)
                e = send_json(cli, &call, &response, &reply);
        if (e)
                return e;
        cli->status = json_is_true(json_object_get(reply, "completed")) ? 0 : 1;
        show_object(cli, &response, reply);
        return ERR_OK;
}

enum err command_scheduler_backlog(struct cli *cli)
{
        static const struct column columns[] = {
                { "RUN", "run.id", SHOW_TEXT },
                { "PRIORITY", "run.priority", SHOW_TEXT },
                { "EXECUTOR", "run.executor", SHOW_TEXT },
                { "QUEUED", "run.queued_at", SHOW_AGE },
                { "TASK", "task.id", SHOW_TEXT },
                { "TITLE", "task.title", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/scheduler/backlog");
        path_query(&path, "include_paused", cli_option(cli, "include-paused") ? "1" : NULL);
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}
