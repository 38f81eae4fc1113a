/*
 * One command under way: what was typed, where the server is, how to print.  Private to this room.
 */
#ifndef BATON_CLI_COMMAND_H
#define BATON_CLI_COMMAND_H

#include <jansson.h>

#include "cli/table.h"
#include "core/scope.h"
#include "http/client.h"

struct cli;

/* An option; `argument` NULL: a flag.  Lists end with a NULL name. */
struct cli_option {
        const char *name, *argument, *help;
        char letter; /* or 0 */
};

struct command {
        const char *words, *arguments, *help;
        const struct cli_option *options;
        enum err (*run)(struct cli *); /* NULL: the caller of cli_main() does it */
        int min, max;                  /* arguments */
        const char *notes;             /* further paragraphs of its help, or NULL */
};

enum cli_format { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_JSONL };

struct given {
        const struct cli_option *option;
        const char *value;
};

struct connection {
        struct http_client *client;
        const char *data, *socket; /* absolute; NULL for a server named by address */
        const char **server_argv;  /* of a server that may be started here */
        int child;                 /* its process, 0 = none was started */
        int64_t started_at;        /* monotonic */
};

struct cli {
        struct scope scope;
        const struct command *command;
        struct given *given;
        const char **args;
        size_t n_given;
        int n_args;
        enum cli_format format;
        struct screen out, err;
        struct connection connection;
        json_t *kept; /* replies, released at the end */
        int status;   /* exit status when there is no error */
};

/* The value of an option that was given (the last one), or NULL; a flag's is "". */
const char *cli_option(const struct cli *, const char *name);
/* The same, else the environment's, else NULL; empty counts as not given. */
const char *cli_setting(const struct cli *, const char *name, const char *variable);
/* " --data DIR" as typed, so that a command proposed to the user finds the same server. */
const char *cli_same_server(struct cli *);

/* Ctrl-C while something is followed: remembered instead of ending the program. */
void interrupt_catch(void);
void interrupt_release(void);
bool interrupted(void);

#endif
