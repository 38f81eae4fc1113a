#include "cli/reply.h"

#include <string.h>

#include "json/json_in.h"

/* ---- paths ---- */

static void add_encoded(struct path *path, const char *text)
{
        struct buf out = BUF_INIT(1 << 16);

        for (; *text; text++) {
                unsigned char c = (unsigned char)*text;

                if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    strchr("-_.~", c))
                        buf_char(&out, (char)c);
                else
                        buf_printf(&out, "%%%02X", c);
        }
        path_add(path, out.n ? out.p : "");
        buf_done(&out);
}

void path_add(struct path *path, const char *text)
{
        path->text = arena_printf(&path->cli->scope.arena, STR_FMT "%s", STR_ARG(path->text), text);
}

void path_query(struct path *path, const char *name, const char *value)
{
        if (!value)
                return;
        path_add(path, path->query ? "&" : "?");
        path_add(path, name);
        path_add(path, "=");
        add_encoded(path, value);
        path->query = true;
}

const char *path_end(const struct path *path)
{
        return str_c(&path->cli->scope.arena, path->text);
}

const char *path_of(struct cli *cli, const char *prefix, const char *part, const char *suffix)
{
        struct path path = PATH_INIT(cli);

        path_add(&path, prefix);
        add_encoded(&path, part);
        path_add(&path, suffix ? suffix : "");
        return path_end(&path);
}

/* ---- bodies ---- */

void body_begin(struct body *body)
{
        *body = (struct body){ .text = BUF_INIT(8 << 20) };
        body->j.out = &body->text;
        json_begin_object(&body->j);
}

void body_text(struct body *body, const char *name, const char *value)
{
        if (!value)
                return;
        json_key(&body->j, name);
        json_put_str(&body->j, str_from(value));
}

enum err body_int(struct cli *cli, struct body *body, const char *name, const char *option)
{
        const char *value = cli_option(cli, option);
        int64_t number;

        if (!value)
                return ERR_OK;
        if (!str_to_int(str_from(value), &number))
                return fail_field(&cli->scope, option, ERR_VALIDATION,
                                  "--%s must be a whole number, not \"%s\"", option, value);
        json_key(&body->j, name);
        json_put_int(&body->j, number);
        return ERR_OK;
}

void body_words(struct body *body, const char *name, const char *comma_separated)
{
        struct str rest = str_from(comma_separated ? comma_separated : "");

        if (!comma_separated)
                return;
        json_key(&body->j, name);
        json_begin_list(&body->j);
        while (rest.n) {
                struct str word = str_trim(str_cut(rest, ',', &rest));

                if (word.n)
                        json_put_str(&body->j, word);
        }
        json_end_list(&body->j);
}

struct str body_end(struct cli *cli, struct body *body)
{
        struct str text;

        json_end_object(&body->j);
        text = str_dup(&cli->scope.arena, buf_view(&body->text));
        buf_done(&body->text);
        return text;
}

/* ---- calls ---- */

enum err send_call(struct cli *cli, const struct http_call *call, struct http_response *out)
{
        enum err e;

        /* What is typed may be any bytes; JSON is UTF-8. */
        if (call->body.n && !str_is_utf8(call->body))
                return fail(&cli->scope, ERR_VALIDATION, "the text must be UTF-8");
        e = http_call(&cli->scope, cli->connection.client, call, out);
        if (e)
                return e;
        return out->status >= 200 && out->status < 300 ? ERR_OK : http_problem(&cli->scope, out);
}

enum err send_json(struct cli *cli, const struct http_call *call, struct http_response *response,
                   json_t **out)
{
        json_t *value = NULL;
        enum err e = send_call(cli, call, response);

        if (!e && response->body.n) {
                e = json_parse(&cli->scope, response->body, &value);
                if (e)
                        return fail(&cli->scope, ERR_INTERNAL,
                                    "what answers there is no Baton server: its reply is not JSON");
                json_array_append_new(cli->kept, value);
        }
        if (!e)
                *out = value;
        return e;
}

enum err get_json(struct cli *cli, const char *path, json_t **out)
{
        const struct http_call call = { .method = "GET", .path = path };
        struct http_response response;

        return send_json(cli, &call, &response, out);
}

const char *new_idempotency_key(struct cli *cli)
{
        unsigned char b[16];
        struct str text = STR("cli-");

        scope_random(&cli->scope, b, sizeof(b));
        for (size_t i = 0; i < sizeof(b); i++)
                text = arena_printf(&cli->scope.arena, STR_FMT "%02x", STR_ARG(text), b[i]);
        return text.p;
}

enum err post_json(struct cli *cli, const char *path, struct str body,
                   struct http_response *response, json_t **out)
{
        const struct http_call call = { .method = "POST",
                                        .path = path,
                                        .body = body,
                                        .idempotency_key = new_idempotency_key(cli) };

        return send_json(cli, &call, response, out);
}

/* ---- members ---- */

struct str member_text(const json_t *object, const char *name)
{
        struct str text = json_view(json_object_get(object, name));

        return text.p ? text : STR("");
}

const char *member_c(struct cli *cli, const json_t *object, const char *name)
{
        return str_c(&cli->scope.arena, member_text(object, name));
}

const json_t *member_items(const json_t *reply)
{
        return json_is_array(reply) ? reply : json_object_get(reply, "items");
}

/* ---- printing ---- */

static void print_body(struct cli *cli, const struct http_response *response)
{
        fwrite(response->body.p, 1, response->body.n, cli->out.to);
        fputc('\n', cli->out.to);
}

void print_line(struct cli *cli, const json_t *value)
{
        struct str text = json_dump(&cli->scope.arena, value);

        fprintf(cli->out.to, STR_FMT "\n", STR_ARG(text));
}

void show_object(struct cli *cli, const struct http_response *response, const json_t *value)
{
        if (!value)
                return;
        if (cli->format == OUTPUT_JSON)
                print_body(cli, response);
        else if (cli->format == OUTPUT_JSONL)
                print_line(cli, value);
        else
                object_print(&cli->out, value);
}

static void show_items(struct cli *cli, const struct column *columns, size_t n, const json_t *reply)
{
        const json_t *items = member_items(reply), *item;
        struct str cursor = member_text(reply, "next_cursor");
        size_t i;

        if (cli->format == OUTPUT_JSONL)
                json_array_foreach(items, i, item)
                        print_line(cli, item);
        else
                table_print(&cli->out, columns, n, items);
        if (cursor.n)
                fprintf(cli->err.to, "there are more: --cursor " STR_FMT "\n",
                        STR_ARG(text_clean(&cli->scope, cursor)));
}

void show_rows(struct cli *cli, const struct http_response *response, const json_t *rows,
               const struct column *columns, size_t n)
{
        if (cli->format == OUTPUT_JSON)
                print_body(cli, response);
        else
                show_items(cli, columns, n, rows);
}

enum err show_list(struct cli *cli, struct path *path, const struct column *columns, size_t n)
{
        struct http_response response;
        struct http_call call = { .method = "GET" };
        json_t *reply;
        enum err e;

        path_query(path, "limit", cli_option(cli, "limit"));
        path_query(path, "cursor", cli_option(cli, "cursor"));
        call.path = path_end(path);
        e = send_json(cli, &call, &response, &reply);
        if (e)
                return e;
        show_rows(cli, &response, reply, columns, n);
        return ERR_OK;
}

enum err show_get(struct cli *cli, const char *path)
{
        const struct http_call call = { .method = "GET", .path = path };
        struct http_response response;
        json_t *reply;
        enum err e = send_json(cli, &call, &response, &reply);

        if (!e)
                show_object(cli, &response, reply);
        return e;
}

enum err show_patch(struct cli *cli, const char *path, struct str body)
{
        const struct http_call call = { .method = "PATCH", .path = path, .body = body };
        struct http_response response;
        json_t *value;
        enum err e = send_json(cli, &call, &response, &value);

        if (!e)
                show_object(cli, &response, value);
        return e;
}

enum err show_delete(struct cli *cli, const char *path)
{
        const struct http_call call = { .method = "DELETE", .path = path };
        struct http_response response;
        enum err e = send_call(cli, &call, &response);

        if (!e && cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "deleted\n");
        return e;
}

/* Without what stands beside it, but for the id of a run that came with it. */
static json_t *shown_member(const json_t *reply, const char *member)
{
        json_t *shown = json_object_get(reply, member), *run = json_object_get(reply, "run");

        if (run && run != shown)
                json_object_set(shown, "run_id", json_object_get(run, "id"));
        return shown;
}

enum err show_post(struct cli *cli, const char *path, struct str body, const char *member)
{
        struct http_response response;
        json_t *reply;
        enum err e = post_json(cli, path, body, &response, &reply);

        if (e)
                return e;
        if (cli->format == OUTPUT_TABLE && member && json_object_get(reply, member))
                reply = shown_member(reply, member);
        show_object(cli, &response, reply);
        return ERR_OK;
}

enum err show_post_reason(struct cli *cli, const char *path, const char *member)
{
        struct body body;

        body_begin(&body);
        body_text(&body, "reason", cli_option(cli, "reason"));
        return show_post(cli, path, body_end(cli, &body), member);
}
