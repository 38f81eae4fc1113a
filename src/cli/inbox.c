#include <string.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum err command_inbox(struct cli *cli)
{
        static const struct column columns[] = {
                { "LANE", "lane", SHOW_TEXT },
                { "TASK", "task.id", SHOW_TEXT },
                { "STATUS", "task.status", SHOW_STATUS },
                { "UNREAD", "unread", SHOW_TEXT },
                { "WHY", "blocking_reason", SHOW_TEXT },
                { "ACTIVITY", "task.last_activity_at", SHOW_AGE },
                { "TITLE", "task.title", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/inbox");
        path_query(&path, "lane", cli_option(cli, "lane"));
        path_query(&path, "unread", cli_option(cli, "unread") ? "1" : NULL);
        path_query(&path, "q", cli_option(cli, "query"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_task_triage(struct cli *cli)
{
        static const char *const actions[] = { "read", "archive", "dismiss" };
        const char *path = path_of(cli, "/v1/tasks/", cli->args[1], "/triage/");
        enum err e;

        for (size_t i = 0; i < LENGTH(actions); i++)
                if (strcmp(cli->args[0], actions[i]) == 0) {
                        e = connect_server(cli);
                        return e ? e : show_post(cli, path_of(cli, path, actions[i], NULL), STR("{}"), NULL);
                }
        return fail(&cli->scope, ERR_VALIDATION, "task triage takes read, archive or dismiss, not \"%s\"",
                    cli->args[0]);
}

static void print_runs(struct cli *cli, const char *heading, const json_t *runs)
{
        static const struct column columns[] = {
                { "RUN", "id", SHOW_TEXT },           { "STATUS", "status", SHOW_STATUS },
                { "CLAIMED", "claimed_at", SHOW_AGE }, { "PROGRESS", "progress_at", SHOW_AGE },
                { "BY", "claimed_by", SHOW_TEXT },    { "TITLE", "title", SHOW_FREE },
        };

        if (!json_array_size(runs))
                return;
        fprintf(cli->out.to, "\n%s\n", heading);
        table_print(&cli->out, columns, LENGTH(columns), runs);
}

static void print_dashboard(struct cli *cli, const json_t *reply)
{
        static const char *const parts[] = { "totals", "cards", "queue" };
        static const struct column statuses[] = { { "STATUS", "status", SHOW_STATUS },
                                                  { "TASKS", "count", SHOW_NUMBER } };
        json_t *figures = json_object();

        json_array_append_new(cli->kept, figures);
        json_object_set(figures, "as_of", json_object_get(reply, "as_of"));
        for (size_t i = 0; i < LENGTH(parts); i++)
                json_object_update(figures, json_object_get(reply, parts[i]));
        json_object_del(figures, "runs"); /* of the queue: queued_runs in the totals */
        object_print(&cli->out, figures);
        fputc('\n', cli->out.to);
        table_print(&cli->out, statuses, LENGTH(statuses), json_object_get(reply, "by_status"));
        print_runs(cli, "Stuck runs", json_object_get(reply, "stuck_runs"));
        print_runs(cli, "Active runs", json_object_get(reply, "active_runs"));
}

enum err command_dashboard(struct cli *cli)
{
        const struct http_call call = { .method = "GET", .path = "/v1/dashboard" };
        struct http_response response;
        json_t *reply;
        enum err e = connect_server(cli);

        if (!e)
                e = send_json(cli, &call, &response, &reply);
        if (e)
                return e;
        if (cli->format == OUTPUT_TABLE)
                print_dashboard(cli, reply);
        else
                show_object(cli, &response, reply);
        return ERR_OK;
}
