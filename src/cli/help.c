#include "cli/help.h"

#include <ctype.h>
#include <string.h>

#include "cli/commands.h"

static void print_options(FILE *to, const struct cli_option *options)
{
        for (; options && options->name; options++) {
                char left[64];

                snprintf(left, sizeof(left), "--%s%s%s", options->name,
                         options->argument ? " " : "", options->argument ? options->argument : "");
                if (options->letter)
                        fprintf(to, "  -%c, %-24s %s\n", options->letter, left, options->help);
                else
                        fprintf(to, "  %-28s %s\n", left, options->help);
        }
}

static void print_commands(FILE *to, struct str words)
{
        for (const struct command *c = cli_commands(); c->words; c++) {
                char left[80];

                if (!command_below(c, words))
                        continue;
                snprintf(left, sizeof(left), "%s %s", c->words, c->arguments);
                fprintf(to, "  %-36s %s\n", left, c->help);
        }
}

void help_group(FILE *to, struct str words)
{
        fprintf(to, "usage: baton %s%s<command> [options]\n\n", words.n ? words.p : "",
                words.n ? " " : "");
        print_commands(to, words);
        fprintf(to, "\nOptions of every command but serve:\n");
        print_options(to, cli_common_options());
        if (!words.n)
                fprintf(to, "\nExit status: 0 done, 2 usage or bad input, 3 not found, 4 not"
                            " allowed, 5 conflict,\n6 server unavailable, 7 a limit, 1 everything"
                            " else, 130 after Ctrl-C. `run` and\n`task run --wait` end with that"
                            " of the run: 0 completed, 1 failed, 3 canceled,\n4 timed out.\n");
}

void help_command(FILE *to, const struct command *c)
{
        fprintf(to, "usage: baton %s%s%s%s\n\n%c%s.\n\n", c->words, *c->arguments ? " " : "", c->arguments,
                c->run ? " [options]" : "", toupper(c->help[0]), c->help + 1);
        if (c->notes)
                fprintf(to, "%s\n\n", c->notes);
        if (c->options) {
                fprintf(to, "Options:\n");
                print_options(to, c->options);
                fprintf(to, "\n");
        }
        if (c->run) {
                fprintf(to, "Options of every command:\n");
                print_options(to, cli_common_options());
        } else if (strcmp(c->words, "serve") == 0 || strcmp(c->words, "worker") == 0) {
                fprintf(to, "See baton %s --help.\n", c->words);
        }
}
