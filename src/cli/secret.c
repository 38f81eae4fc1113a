#include <errno.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"

enum { VALUE_MAX = 1 << 20 };

static enum err read_all(struct cli *cli, struct buf *text)
{
        ssize_t n = 1;

        while (n > 0 && buf_reserve(text, 4096)) {
                n = read(STDIN_FILENO, text->p + text->n, 4096);
                text->n += n > 0 ? (size_t)n : 0;
                if (n > 0 && isatty(STDIN_FILENO) && text->p[text->n - 1] == '\n')
                        break;
        }
        if (n < 0)
                return fail(&cli->scope, ERR_UNAVAILABLE, "cannot read the value: %s",
                            strerror(errno));
        if (text->full)
                return fail(&cli->scope, ERR_TOO_LARGE, "the value is too large for a secret");
        return ERR_OK;
}

/* A line without echo from a terminal, else all of standard input; without a line end at its end.
 */
static enum err read_value(struct cli *cli, const char *name, struct str *out)
{
        struct buf text = BUF_INIT(VALUE_MAX);
        struct termios shown, hidden;
        bool typed = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &shown);
        enum err e;

        if (typed) {
                hidden = shown;
                hidden.c_lflag &= ~(tcflag_t)ECHO;
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
                fprintf(cli->err.to, "value of %s: ",
                        str_c(&cli->scope.arena, text_clean(&cli->scope, str_from(name))));
                fflush(cli->err.to);
        }
        e = read_all(cli, &text);
        if (typed) {
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
                fputc('\n', cli->err.to);
        }
        *out = str_dup(&cli->scope.arena, buf_view(&text));
        buf_done(&text);
        if (str_ends(*out, "\n"))
                out->n--;
        if (str_ends(*out, "\r"))
                out->n--;
        if (!e && !str_is_utf8(*out))
                e = fail_field(&cli->scope, "value", ERR_VALIDATION,
                               "the value is no text (UTF-8): encode it, with base64 for example");
        return e;
}

enum err command_secret_set(struct cli *cli)
{
        struct http_call call = { .method = "PUT",
                                  .path = path_of(cli, "/v1/secrets/", cli->args[0], NULL) };
        struct http_response response;
        struct str value;
        struct body body;
        enum err e = read_value(cli, cli->args[0], &value);

        if (!e)
                e = connect_server(cli);
        if (e)
                return e;
        body_begin(&body);
        json_key(&body.j, "value");
        json_put_str(&body.j, value);
        call.body = body_end(cli, &body);
        e = send_call(cli, &call, &response);
        if (!e && cli->format == OUTPUT_TABLE)
                fprintf(cli->err.to, "set\n");
        return e;
}

enum err command_secret_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "NAME", "name", SHOW_TEXT },
                { "CREATED", "created_at", SHOW_AGE },
                { "UPDATED", "updated_at", SHOW_AGE },
        };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/secrets");
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

enum err command_secret_delete(struct cli *cli)
{
        enum err e = connect_server(cli);

        return e ? e : show_delete(cli, path_of(cli, "/v1/secrets/", cli->args[0], NULL));
}
