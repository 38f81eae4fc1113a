#include "cli/commands.h"
#include "cli/reply.h"

/* Of this program; what a server is, it says itself: GET /v1/version. */
enum err command_version(struct cli *cli)
{
        struct body body;
        struct str text;

        if (cli->format == OUTPUT_TABLE) {
                fprintf(cli->out.to, "baton %s\n", BATON_VERSION);
                return ERR_OK;
        }
        body_begin(&body);
        body_text(&body, "name", "baton");
        body_text(&body, "version", BATON_VERSION);
        text = body_end(cli, &body);
        fprintf(cli->out.to, STR_FMT "\n", STR_ARG(text));
        return ERR_OK;
}
