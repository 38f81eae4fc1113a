/*
 * Which server a command speaks to: the one named by --server, else the one of the data directory,
 * by its socket.  `baton run` may start that one.
 */
#ifndef BATON_CLI_CONNECT_H
#define BATON_CLI_CONNECT_H

#include "cli/command.h"

/* Which data directory, into cli->connection; with `make` it and those above it are made. */
enum err find_data(struct cli *, bool make) NODISCARD;
/* Does a server answer there?  After find_data(). */
bool data_is_served(struct cli *);
enum err connect_server(struct cli *) NODISCARD;
/* Starts a server for the data directory when none runs; it ends when it is idle.  The roots are
 * directories that git may clone from. */
enum err connect_or_start(struct cli *, const char *const *git_roots, size_t n) NODISCARD;
bool connection_may_start(const struct cli *);
/* Is there somebody at all? */
bool server_is_there(struct cli *);
void connection_done(struct cli *);

#endif
