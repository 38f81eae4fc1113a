/*
 * Following a run to its end: a step list on standard error, redrawn on a terminal, else a line per
 * event.
 */
#ifndef BATON_CLI_FOLLOW_H
#define BATON_CLI_FOLLOW_H

#include "cli/command.h"

enum { PATIENCE_SECONDS = 60 }; /* for a server that went away */

/* *run is the run as it is at the end; NULL after Ctrl-C, which has been told about.  When not
 * shown, it only waits. */
enum err follow_run(struct cli *, const char *task, const char *run, bool shown,
                    const json_t **out) NODISCARD;
/* The exit status of a run that ended so. */
int exit_status_of(struct str status);

#endif
