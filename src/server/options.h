/* Options of the server, from flags and the environment, by one table (options.def). */
#ifndef BATON_SERVER_OPTIONS_H
#define BATON_SERVER_OPTIONS_H

#include "core/scope.h"

struct options {
#define OPTION(name, member, kind, most, fallback, help) OPTION_##kind member;
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
};

/* Reads argv[0..argc): ERR_VALIDATION names the option.  The texts live in the scope. */
enum err options_read(struct scope *, int argc, char **argv, struct options *) NODISCARD;
/* The data directory: as given, else below the home directory. */
const char *options_data(struct scope *, const struct options *);
void options_help(void); /* to standard output */

#endif
