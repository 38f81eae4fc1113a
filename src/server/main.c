#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "core/log.h"
#include "server/doctor.h"
#include "server/serve.h"
#include "server/worker_process.h"

static bool log_setup(const struct options *o)
{
        static const char *const levels[] = { "error", "warn", "info", "debug" };

        for (int i = 0; i < 4; i++)
                if (strcmp(o->log_level, levels[i]) == 0) {
                        log_configure((enum log_level)i, strcmp(o->log_format, "json") == 0);
                        return true;
                }
        return false;
}

static int run(enum command command, int argc, char **argv)
{
        static enum err (*const commands[])(struct scope *, const struct options *) = {
                [COMMAND_SERVE] = serve, [COMMAND_WORKER] = work,
        };
        struct options options;
        struct scope scope;
        enum err e;

        if (argc > 0 && strcmp(argv[0], "--help") == 0) {
                options_help(command);
                return 0;
        }
        scope_init(&scope, &system_world);
        e = options_read(&scope, command, argc, argv, &options);
        if (!e && !log_setup(&options))
                e = fail(&scope, ERR_VALIDATION, "--log-level must be error, warn, info or debug");
        if (!e)
                e = commands[command](&scope, &options);
        if (e)
                fprintf(stderr, "baton: " STR_FMT "\n", STR_ARG(scope.fault.detail));
        scope_done(&scope);
        return err_exit_status(e);
}

/* `baton config [options] [-o json]`: what `baton serve [options]` would run with. */
static int run_config(int argc, char **argv)
{
        struct options options;
        struct scope scope;
        bool json = false;
        int kept = 0;
        enum err e;

        for (int i = 0; i < argc; i++) {
                bool asks = strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0;

                if (asks && i + 1 < argc && strcmp(argv[i + 1], "json") == 0)
                        json = ++i;
                else
                        argv[kept++] = argv[i];
        }
        scope_init(&scope, &system_world);
        e = options_read(&scope, COMMAND_SERVE, kept, argv, &options);
        if (e)
                fprintf(stderr, "baton: " STR_FMT "\n", STR_ARG(scope.fault.detail));
        else
                options_print(&options, json);
        scope_done(&scope);
        return err_exit_status(e);
}

int main(int argc, char **argv)
{
        if (argc < 2)
                return cli_main(argc, argv);
        if (strcmp(argv[1], "serve") == 0)
                return run(COMMAND_SERVE, argc - 2, argv + 2);
        if (strcmp(argv[1], "worker") == 0)
                return run(COMMAND_WORKER, argc - 2, argv + 2);
        if (strcmp(argv[1], "config") == 0 && !(argc > 2 && strcmp(argv[2], "--help") == 0))
                return run_config(argc - 2, argv + 2);
        if (strcmp(argv[1], "doctor") == 0 &&
            !(argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)))
                return doctor(argc - 2, argv + 2);
        if (strcmp(argv[1], "--version") == 0)
                argv[1] += strlen("--");
        return cli_main(argc, argv);
}
