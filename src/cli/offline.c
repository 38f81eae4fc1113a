/* What a document says, without a server. */
#include "cli/cli.h"
#include "json/json_in.h"

enum err cli_validate_offline(struct scope *scope, struct str text, bool yaml, struct str name,
                              struct buf *json_reply)
{
        (void)text, (void)yaml, (void)name, (void)json_reply;
        return fail(scope, ERR_UNAVAILABLE,
                    "no server answers, and this program cannot check documents without one");
}

enum err cli_read_document(struct scope *scope, struct str text, bool yaml, json_t **out)
{
        *out = NULL;
        return yaml ? ERR_OK : json_parse(scope, text, out);
}
