/*
 * The commands of a client: everything but `serve`, `config` and `doctor`.  One table (commands.c) names them;
 * the help and the parsing are made from it.  Results go to standard output, progress and errors to
 * standard error.
 *
 * Exit status: that of the error (core/err.def): 2 usage or bad input, 3 not found, 4 not allowed,
 * 5 conflict, 6 server unavailable, 7 a limit, 1 everything else; 130 after Ctrl-C.  A command that
 * waits for a run ends with the run's: 0 completed, 1 failed, 3 canceled, 4 timed_out.
 */
#ifndef BATON_CLI_CLI_H
#define BATON_CLI_CLI_H

/* argv[1] is the first word of the command. */
int cli_main(int argc, char **argv);

#endif
