/* Inputs of a run, shared by `baton run` and `baton task run`. */
#ifndef BATON_CLI_RUN_H
#define BATON_CLI_RUN_H

#include "cli/command.h"

struct inputs {
        json_t *values;           /* an object; kept by the command */
        const char **directories; /* that were named, absolute */
        size_t n_directories;
};

/* From --input-file and --input.  With `here`, a value that is a directory becomes absolute. */
enum err inputs_read(struct cli *, bool here, struct inputs *) NODISCARD;
/* POST /v1/definitions/{name}/runs. */
enum err run_definition(struct cli *, const char *name, const struct inputs *,
                        struct http_response *, json_t **out) NODISCARD;
/* Follows the run of that answer to its end and prints how it went. */
enum err run_to_end(struct cli *, const json_t *started, bool shown) NODISCARD;

#endif
