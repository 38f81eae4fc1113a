/* The files of deleted workspaces: removed in pieces, a workspace after another. */
#ifndef BATON_WORKER_SWEEP_H
#define BATON_WORKER_SWEEP_H

#include "worker/worker.h"

/* A piece, if there is something to remove; *next becomes when (boot clock) to look again. */
void sweep(const struct worker_options *, struct scope *, int64_t *next);

#endif
