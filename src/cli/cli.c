#include "cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/help.h"
#include "cli/nearest.h"

/* ---- what is not known ---- */

static int usage_error(struct cli *cli, struct str prefix, const char *what, const char *given,
                       struct nearest near, const char *dashes)
{
        const char *start = colour_bold(&cli->err);

        fprintf(stderr, "%sbaton:%s %s \"" STR_FMT "\"", start, *start ? colour_off(&cli->err) : "",
                what, STR_ARG(text_clean(&cli->scope, str_from(given))));
        if (near.best.p)
                fprintf(stderr, "; did you mean %s" STR_FMT "?", dashes, STR_ARG(near.best));
        fprintf(stderr, "\nSee baton " STR_FMT "%s--help.\n", STR_ARG(prefix), prefix.n ? " " : "");
        return 2;
}

static int unknown_command(struct cli *cli, struct str prefix, const char *word)
{
        struct nearest near = { .given = str_from(word), .edits = NEAREST_NONE };
        const char *at = str_c(&cli->scope.arena, prefix);

        for (const struct command *c = cli_commands(); c->words; c++) {
                struct str rest = str_from(c->words);

                if (prefix.n && !command_below(c, str_from(at)))
                        continue;
                if (prefix.n)
                        rest = str_slice(rest, prefix.n + 1, rest.n);
                nearest_consider(&near, str_cut(rest, ' ', &rest));
        }
        return usage_error(cli, prefix, "unknown command", word, near, "");
}

static int unknown_option(struct cli *cli, const char *word)
{
        struct nearest near = { .given = str_from(word + strspn(word, "-")),
                                .edits = NEAREST_NONE };
        const struct cli_option *o = cli->command ? cli->command->options : NULL;

        near.given = str_slice(near.given, 0, str_find(near.given, '=', 0));
        for (; o && o->name; o++)
                nearest_consider(&near, str_from(o->name));
        for (o = cli_common_options(); o->name; o++)
                nearest_consider(&near, str_from(o->name));
        return usage_error(cli, str_from(cli->command ? cli->command->words : ""), "unknown option",
                           word, near, "--");
}

/* ---- parsing ---- */

static const struct cli_option *option_in(const struct cli_option *list, const char *word,
                                          const char **value)
{
        *value = NULL;
        for (; list && list->name; list++) {
                size_t n = strlen(list->name);

                if (word[0] == '-' && word[1] == list->letter && list->letter) {
                        *value = word[2] ? word + 2 : NULL;
                        if (!word[2] || list->argument)
                                return list;
                }
                if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, list->name, n) == 0 &&
                    (word[2 + n] == '\0' || word[2 + n] == '=')) {
                        *value = word[2 + n] ? word + 3 + n : NULL;
                        return list;
                }
        }
        return NULL;
}

/* Takes argv[*i], an option, and its value; an exit status, or 0. */
static int take_option(struct cli *cli, int argc, char **argv, int *i)
{
        const char *word = argv[*i], *value;
        const struct cli_option *o =
                option_in(cli->command ? cli->command->options : NULL, word, &value);

        if (!o)
                o = option_in(cli_common_options(), word, &value);
        if (!o)
                return unknown_option(cli, word);
        if (!o->argument && value) {
                fprintf(stderr, "baton: --%s takes no value\n", o->name);
                return 2;
        }
        if (o->argument && !value && *i + 1 >= argc) {
                fprintf(stderr, "baton: --%s needs a value: %s\n", o->name, o->argument);
                return 2;
        }
        if (o->argument && !value)
                value = argv[++*i];
        cli->given[cli->n_given++] = (struct given){ o, value ? value : "" };
        return 0;
}

static const struct command *find_command(struct str words)
{
        for (const struct command *c = cli_commands(); c->words; c++)
                if (str_is(words, c->words))
                        return c;
        return NULL;
}

static bool is_group(struct str words)
{
        for (const struct command *c = cli_commands(); c->words; c++)
                if (command_below(c, words))
                        return true;
        return false;
}

/* Reads the words of the command from argv[*i] on.  An exit status, or -1 to go on. */
static int take_words(struct cli *cli, int argc, char **argv, int *i)
{
        struct str words = STR("");

        while (*i < argc && !cli->command) {
                struct str longer;
                int status;

                if (argv[*i][0] == '-') {
                        status = take_option(cli, argc, argv, i);
                        if (status)
                                return status;
                        ++*i;
                        continue;
                }
                longer = arena_printf(&cli->scope.arena, STR_FMT "%s%s", STR_ARG(words),
                                      words.n ? " " : "", argv[*i]);
                if (!is_group(longer))
                        return unknown_command(cli, words, argv[*i]);
                words = longer;
                cli->command = find_command(words);
                ++*i;
        }
        if (cli->command)
                return -1;
        if (cli_option(cli, "help")) {
                help_group(stdout, words);
                return 0;
        }
        help_group(stderr, words);
        return 2;
}

static int take_rest(struct cli *cli, int argc, char **argv, int i)
{
        bool literal = false;

        for (; i < argc; i++) {
                int status = 0;

                if (!literal && strcmp(argv[i], "--") == 0)
                        literal = true;
                else if (!literal && argv[i][0] == '-' && argv[i][1])
                        status = take_option(cli, argc, argv, &i);
                else
                        cli->args[cli->n_args++] = argv[i];
                if (status)
                        return status;
        }
        return -1;
}

static int check_arguments(struct cli *cli)
{
        const struct command *c = cli->command;

        if (cli_option(cli, "help") || !c->run) {
                help_command(stdout, c);
                return 0;
        }
        if (cli->n_args < c->min) {
                fprintf(stderr, "baton: %s needs %s\nSee baton %s --help.\n", c->words,
                        c->arguments, c->words);
                return 2;
        }
        if (cli->n_args > c->max) {
                fprintf(stderr, "baton: %s does not take \"" STR_FMT "\"\nSee baton %s --help.\n",
                        c->words, STR_ARG(text_clean(&cli->scope, str_from(cli->args[c->max]))),
                        c->words);
                return 2;
        }
        return -1;
}

static int read_format(struct cli *cli)
{
        static const char *const formats[] = { "table", "json", "jsonl" };
        const char *format = cli_option(cli, "output");

        for (size_t i = 0; format && i < LENGTH(formats); i++)
                if (strcmp(format, formats[i]) == 0) {
                        cli->format = (enum cli_format)i;
                        return -1;
                }
        if (!format)
                return -1;
        fprintf(stderr, "baton: --output must be table, json or jsonl, not \"" STR_FMT "\"\n",
                STR_ARG(text_clean(&cli->scope, str_from(format))));
        return 2;
}

/* ---- what the commands ask ---- */

const char *cli_option(const struct cli *cli, const char *name)
{
        const char *value = NULL;

        for (size_t i = 0; i < cli->n_given; i++)
                if (strcmp(cli->given[i].option->name, name) == 0)
                        value = cli->given[i].value;
        return value;
}

const char *cli_setting(const struct cli *cli, const char *name, const char *variable)
{
        const char *value = cli_option(cli, name);

        if (!value)
                value = getenv(variable);
        return value && *value ? value : NULL;
}

const char *cli_same_server(struct cli *cli)
{
        static const char *const names[] = { "data", "server", "workspace" };
        struct str out = STR("");

        for (size_t i = 0; i < LENGTH(names); i++) {
                const char *value = cli_option(cli, names[i]);

                if (value)
                        out = arena_printf(&cli->scope.arena, STR_FMT " --%s " STR_FMT,
                                           STR_ARG(out), names[i],
                                           STR_ARG(text_clean(&cli->scope, str_from(value))));
        }
        return str_c(&cli->scope.arena, out);
}

static volatile sig_atomic_t interrupt_seen;

static void on_interrupt(int signal)
{
        (void)signal;
        interrupt_seen = 1;
}

void interrupt_catch(void)
{
        struct sigaction action = { .sa_handler = on_interrupt }; /* no SA_RESTART: waits end */

        interrupt_seen = 0;
        sigaction(SIGINT, &action, NULL);
}

void interrupt_release(void)
{
        signal(SIGINT, SIG_DFL);
}

bool interrupted(void)
{
        return interrupt_seen;
}

/* ---- the whole ---- */

static void print_fault(struct cli *cli)
{
        const struct fault *f = &cli->scope.fault;
        struct scope *scope = &cli->scope;

        fprintf(stderr, "%sbaton:%s " STR_FMT " (%s)\n", colour_bold(&cli->err),
                colour_off(&cli->err), STR_ARG(text_clean(scope, f->detail)), err_name(f->code));
        if (f->field.n)
                fprintf(stderr, "  field: " STR_FMT "\n", STR_ARG(text_clean(scope, f->field)));
        if (f->has_limit)
                fprintf(stderr, "  limit: %lld, got %lld\n", (long long)f->limit,
                        (long long)f->actual);
}

static int run_command(struct cli *cli)
{
        enum err e = cli->command->run(cli);

        fflush(stdout);
        if (e)
                print_fault(cli);
        else if (ferror(stdout)) {
                fprintf(stderr, "baton: cannot write the result: %s\n", strerror(errno));
                return 1;
        }
        return e ? err_exit_status(e) : cli->status;
}

static int parse(struct cli *cli, int argc, char **argv)
{
        int i = 1, status = take_words(cli, argc, argv, &i);

        if (status < 0)
                status = take_rest(cli, argc, argv, i);
        if (status < 0)
                status = check_arguments(cli);
        return status < 0 ? read_format(cli) : status;
}

/* `baton help runs list` is `baton runs list --help`. */
static int help(struct cli *cli, int argc, char **argv)
{
        struct str words = STR("");

        for (int i = 2; i < argc; i++) {
                struct str longer = arena_printf(&cli->scope.arena, STR_FMT "%s%s", STR_ARG(words),
                                                 words.n ? " " : "", argv[i]);

                if (!is_group(longer))
                        return unknown_command(cli, words, argv[i]);
                words = longer;
        }
        if (words.n && find_command(words))
                help_command(stdout, find_command(words));
        else
                help_group(stdout, words);
        return 0;
}

int cli_main(int argc, char **argv)
{
        struct cli cli = { .n_args = 0 };
        bool plain = getenv("NO_COLOR") && *getenv("NO_COLOR");
        int status;

        setlocale(LC_CTYPE, "C.UTF-8"); /* for the width of characters */
        signal(SIGPIPE, SIG_IGN);
        scope_init(&cli.scope, &system_world);
        cli.given = arena_array(&cli.scope.arena, struct given, argc + 1);
        cli.args = arena_array(&cli.scope.arena, const char *, argc + 1);
        cli.kept = json_array();
        for (int i = 1; i < argc; i++)
                plain |= strcmp(argv[i], "--no-color") == 0;
        screen_init(&cli.out, &cli.scope, stdout, !plain);
        screen_init(&cli.err, &cli.scope, stderr, !plain);
        if (argc > 1 && strcmp(argv[1], "help") == 0)
                status = help(&cli, argc, argv);
        else
                status = parse(&cli, argc, argv);
        if (status < 0)
                status = run_command(&cli);
        connection_done(&cli);
        json_decref(cli.kept);
        scope_done(&cli.scope);
        return status;
}
