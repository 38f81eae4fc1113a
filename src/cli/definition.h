/* Documents: read from files, stored as definitions. */
#ifndef BATON_CLI_DEFINITION_H
#define BATON_CLI_DEFINITION_H

#include "cli/command.h"

/* Stores the document unless the server has the same already, and before it the documents beside it
 * that it refers to and that are not stored.  *name is what the definition is called. */
enum err definition_ensure(struct cli *, const char *file, const char **name) NODISCARD;
/* The whole file; "-" is standard input. */
enum err file_read(struct cli *, const char *file, struct str *out) NODISCARD;

#endif
