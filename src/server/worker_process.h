/* `baton worker`: a worker without a server, beside those on its database. */
#ifndef BATON_SERVER_WORKER_PROCESS_H
#define BATON_SERVER_WORKER_PROCESS_H

#include "server/options.h"

/* Runs until SIGTERM or SIGINT; the fault says why it could not. */
enum err work(struct scope *, const struct options *) NODISCARD;

#endif
