/* `baton serve`: the composition root. */
#ifndef BATON_SERVER_SERVE_H
#define BATON_SERVER_SERVE_H

#include "server/options.h"

/* Runs until SIGTERM or SIGINT; the fault says why it could not. */
enum err serve(struct scope *, const struct options *) NODISCARD;

#endif
