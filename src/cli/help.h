/*
 * The help, made from the command table.
 */
#ifndef BATON_CLI_HELP_H
#define BATON_CLI_HELP_H

#include <stdio.h>

#include "cli/command.h"

/* Of all commands that begin with these words, NUL-terminated. */
void help_group(FILE *to, struct str words);
void help_command(FILE *to, const struct command *);

#endif
