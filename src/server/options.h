/* Options of the server and of a worker, from flags and the environment, by one table (options.def). */
#ifndef BATON_SERVER_OPTIONS_H
#define BATON_SERVER_OPTIONS_H

#include "core/scope.h"

enum {
#define OPTION(name, member, whose, kind, most, fallback, help) OPTION_AT_##member,
#include "server/options.def"
#undef OPTION
        OPTION_COUNT
};

struct options {
#define OPTION(name, member, whose, kind, most, fallback, help) OPTION_##kind member;
#define OPTION_TEXT const char *
#define OPTION_NUMBER int64_t
#define OPTION_COUNT int64_t
#define OPTION_FLAG bool
#define OPTION_LIST const char *const *
#include "server/options.def"
#undef OPTION
#undef OPTION_TEXT
#undef OPTION_NUMBER
#undef OPTION_COUNT
#undef OPTION_FLAG
#undef OPTION_LIST
        const char *source[OPTION_COUNT]; /* of each, in the table's order */
};

/* A worker has none of the options that concern clients. */
enum command { COMMAND_SERVE, COMMAND_WORKER };

/* Reads argv[0..argc): ERR_VALIDATION names the option.  The texts live in the scope. */
enum err options_read(struct scope *, enum command, int argc, char **argv, struct options *) NODISCARD;
/* To standard output. */
void options_help(enum command);
void options_print(const struct options *, bool json);

#endif
