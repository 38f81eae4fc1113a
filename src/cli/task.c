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

static void body_flag(struct cli *cli, struct body *body, const char *name, const char *option)
{
        if (!cli_option(cli, option))
                return;
        json_key(&body->j, name);
        json_put_bool(&body->j, true);
}

/* KIND:REF as {"kind","ref"}. */
static enum err body_owner(struct cli *cli, struct body *body)
{
        const char *owner = cli_option(cli, "owner");
        struct str ref, kind = str_cut(str_from(owner ? owner : ""), ':', &ref);

        if (!owner)
                return ERR_OK;
        if (!ref.n)
                return fail_field(&cli->scope, "owner", ERR_VALIDATION, "--owner takes KIND:REF");
        json_key(&body->j, "owner");
        json_begin_object(&body->j);
        json_key(&body->j, "kind");
        json_put_str(&body->j, kind);
        json_key(&body->j, "ref");
        json_put_str(&body->j, ref);
        json_end_object(&body->j);
        return ERR_OK;
}

/* What a task may be given and what may be changed of it. */
static enum err body_task(struct cli *cli, struct body *body)
{
        enum err e;

        body_text(body, "title", cli_option(cli, "title"));
        body_text(body, "description", cli_option(cli, "description"));
        body_text(body, "priority", cli_option(cli, "priority"));
        body_text(body, "network_channel", cli_option(cli, "channel"));
        body_text(body, "approval_policy", cli_option(cli, "approval"));
        body_text(body, "review_policy", cli_option(cli, "review"));
        body_words(body, "required_capabilities", cli_option(cli, "capabilities"));
        body_words(body, "preferred_capabilities", cli_option(cli, "preferred"));
        body_flag(cli, body, "auto_enqueue_on_ready", "auto-enqueue");
        e = body_int(cli, body, "max_attempts", "max-attempts");
        if (!e)
                e = body_int(cli, body, "timeout_seconds", "timeout");
        return e ? e : body_owner(cli, body);
}

/* What create and children take. */
static enum err create_at(struct cli *cli, const char *path)
{
        const char *title = cli_option(cli, "title");
        struct inputs inputs;
        struct body body;
        struct str text;
        enum err e = inputs_read(cli, false, &inputs);

        if (!e && !title)
                e = fail_field(&cli->scope, "title", ERR_VALIDATION, "a task needs a --title");
        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "identifier", cli_option(cli, "identifier"));
        body_text(&body, "definition_id", cli_option(cli, "definition"));
        body_flag(cli, &body, "start", "start");
        body_flag(cli, &body, "draft", "draft");
        e = body_task(cli, &body);
        if (json_object_size(inputs.values)) {
                json_key(&body.j, "input");
                json_print(&body.j, inputs.values);
        }
        text = body_end(cli, &body);
        return e ? e : show_post(cli, path, text, "task");
}

enum err command_task_create(struct cli *cli)
{
        return create_at(cli, "/v1/tasks");
}

enum err command_task_child(struct cli *cli)
{
        return create_at(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/children"));
}

enum err command_task_update(struct cli *cli)
{
        struct body body;
        struct str text;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_flag(cli, &body, "clear_owner", "clear-owner");
        e = body_task(cli, &body);
        text = body_end(cli, &body);
        return e ? e : show_patch(cli, path_of(cli, "/v1/tasks/", cli->args[0], NULL), text);
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
        path_query(&path, "parent_task_id", cli_option(cli, "parent"));
        path_query(&path, "include_drafts", cli_option(cli, "drafts") ? "1" : NULL);
        path_query(&path, "q", cli_option(cli, "search"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_task_get(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_get(cli, path_of(cli, "/v1/tasks/", cli->args[0], NULL));
}

enum err command_task_cancel(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e :
                   show_post_reason(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/cancel"), "task");
}

enum err command_task_retry(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e :
                   show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/retry"), STR("{}"),
                             "run");
}

/* POST /v1/tasks/ID/verb with the texts of these options. */
static enum err post_verb(struct cli *cli, const char *verb, const char *option, const char *member)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        if (option)
                body_text(&body, option, cli_option(cli, option));
        return show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], verb), body_end(cli, &body),
                         member);
}

enum err command_task_publish(struct cli *cli)
{
        return post_verb(cli, "/publish", NULL, "run");
}

enum err command_task_start(struct cli *cli)
{
        return post_verb(cli, "/start", NULL, "run");
}

enum err command_task_enqueue(struct cli *cli)
{
        return post_verb(cli, "/runs", NULL, NULL);
}

enum err command_task_approve(struct cli *cli)
{
        return post_verb(cli, "/approve", "comment", "task");
}

enum err command_task_reject(struct cli *cli)
{
        return post_verb(cli, "/reject", "comment", "task");
}

enum err command_task_pause(struct cli *cli)
{
        return post_verb(cli, "/pause", "reason", "task");
}

enum err command_task_resume(struct cli *cli)
{
        return post_verb(cli, "/resume", NULL, "task");
}

static enum err delete_at(struct cli *cli, const char *path)
{
        enum err e = connect_server(cli);

        return e ? e : show_delete(cli, path);
}

enum err command_task_delete(struct cli *cli)
{
        return delete_at(cli, path_of(cli, "/v1/tasks/", cli->args[0], NULL));
}

enum err command_task_tree(struct cli *cli)
{
        static const struct column columns[] = {
                { "ID", "id", SHOW_TEXT },         { "DEPTH", "depth", SHOW_NUMBER },
                { "STATUS", "status", SHOW_STATUS }, { "PARENT", "parent_task_id", SHOW_TEXT },
                { "TITLE", "title", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/tasks/", cli->args[0], "/tree"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_task_depend(struct cli *cli)
{
        struct body body;
        enum err e = connect_server(cli);

        if (e)
                return e;
        body_begin(&body);
        body_text(&body, "depends_on_task_id", cli->args[1]);
        body_text(&body, "on_failure", cli_option(cli, "on-failure"));
        return show_post(cli, path_of(cli, "/v1/tasks/", cli->args[0], "/dependencies"),
                         body_end(cli, &body), "task");
}

enum err command_task_undepend(struct cli *cli)
{
        const char *edges = path_of(cli, "/v1/tasks/", cli->args[0], "/dependencies/");

        return delete_at(cli, path_of(cli, edges, cli->args[1], NULL));
}

enum err command_task_dependencies(struct cli *cli)
{
        static const struct column columns[] = {
                { "DEPENDS ON", "depends_on_task_id", SHOW_TEXT },
                { "STATUS", "status", SHOW_STATUS },
                { "ON FAILURE", "on_failure", SHOW_TEXT },
                { "TITLE", "title", SHOW_FREE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, path_of(cli, "/v1/tasks/", cli->args[0], "/dependencies"));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}
