/*
 * The help, made from the command table.
 */
#ifndef BATON_CLI_HELP_H
#define BATON_CLI_HELP_H

#include <stdio.h>

#include "cli/command.h"

/* Whether the command begins with these words; none begin all.  words: NUL-terminated, as all here. */
bool command_below(const struct command *, struct str words);

/* Of all commands that begin with these words. */
void help_group(FILE *to, struct str words);
void help_command(FILE *to, const struct command *);

#endif
