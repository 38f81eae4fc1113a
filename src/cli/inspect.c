#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

static const struct column run_columns[] = {
        { "RUN", "id", SHOW_TEXT },
        { "STATUS", "status", SHOW_STATUS },
        { "ATTEMPT", "attempt", SHOW_NUMBER },
        { "QUEUED", "queued_at", SHOW_AGE },
        { "ENDED", "ended_at", SHOW_AGE },
        { "ERROR", "last_error", SHOW_FREE },
};
static const struct column event_columns[] = {
        { "EVENT", "sequence", SHOW_NUMBER }, { "WHEN", "timestamp", SHOW_AGE },
        { "TYPE", "type", SHOW_TEXT },        { "ACTOR", "actor", SHOW_TEXT },
        { "PAYLOAD", "payload", SHOW_FREE },
};
static const struct column diagnostic_columns[] = {
        { "DIAGNOSTIC", "code", SHOW_TEXT },
        { "SEVERITY", "severity", SHOW_TEXT },
        { "TRY", "suggested_command", SHOW_TEXT },
        { "MESSAGE", "message", SHOW_FREE },
};
static const struct column reason_columns[] = {
        { "REASON", "code", SHOW_TEXT },
        { "RESOURCE", "resource", SHOW_TEXT },
        { "UNTIL", "until", SHOW_AGE },
        { "DETAIL", "detail", SHOW_FREE },
};

/* A paragraph of its own, if there is anything to say. */
static void show_part(struct cli *cli, const struct column *columns, size_t n, const json_t *items)
{
        if (!json_array_size(items))
                return;
        fputc('\n', cli->out.to);
        table_print(&cli->out, columns, n, items);
}

static void show_one(struct cli *cli, const char *title, const json_t *object)
{
        if (!object)
                return;
        fprintf(cli->out.to, "\n%s%s%s\n", colour_bold(&cli->out), title, colour_off(&cli->out));
        object_print(&cli->out, object);
}

static void show_inspection(struct cli *cli, const json_t *seen)
{
#define PART(columns, name) show_part(cli, columns, LENGTH(columns), json_object_get(seen, name))
        fprintf(cli->out.to, "%sNEXT ACTION%s  " STR_FMT "\n", colour_bold(&cli->out),
                colour_off(&cli->out),
                STR_ARG(text_clean(&cli->scope, member_text(seen, "next_action"))));
        show_one(cli, "TASK", json_object_get(seen, "task"));
        show_one(cli, "CURRENT RUN", json_object_get(seen, "current_run"));
        PART(diagnostic_columns, "diagnostics");
        PART(reason_columns, "reasons");
        PART(run_columns, "recent_runs");
        PART(event_columns, "recent_events");
#undef PART
}

/* Which of the two it is, the id says. */
enum err command_inspect(struct cli *cli)
{
        struct str id = str_from(cli->args[0]);
        const char *at = str_starts(id, "run_")  ? "/v1/runs/" :
                         str_starts(id, "task_") ? "/v1/tasks/" :
                                                   NULL;
        struct http_call call = { .method = "GET" };
        struct http_response response;
        json_t *seen;
        enum err e;

        if (!at)
                return fail(&cli->scope, ERR_VALIDATION,
                            "an id of a task (task_…) or of a run (run_…) is wanted");
        e = connect_server(cli);
        call.path = path_of(cli, at, cli->args[0], "/inspect");
        if (!e)
                e = send_json(cli, &call, &response, &seen);
        if (e)
                return e;
        if (cli->format == OUTPUT_TABLE)
                show_inspection(cli, seen);
        else
                show_object(cli, &response, seen);
        return ERR_OK;
}
