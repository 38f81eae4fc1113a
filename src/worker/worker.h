/*
 * Worker: claims runs of definitions and performs their steps.  Each slot is a thread that claims a
 * run, plans, performs an effectful step, applies what happened in one fenced transaction, and so on
 * until the run ends or waits.  One more thread keeps the leases alive.
 */
#ifndef BATON_WORKER_WORKER_H
#define BATON_WORKER_WORKER_H

#include "flow/definition_cache.h"
#include "http/egress.h"
#include "hub/hub.h"
#include "store/store.h"
#include "worker/spawner.h"

enum { WORKER_CONCURRENCY = 3, WORKER_CONCURRENCY_MAX = 256 };

struct worker;

/* Everything outlives the worker. */
struct worker_options {
        struct store *store;
        struct hub *hub;
        struct spawner *spawner;
        struct definition_cache *definitions;
        const struct world *world;
        int concurrency;         /* slots; 1..WORKER_CONCURRENCY_MAX */
        struct str capabilities; /* sorted "a,b", or absent */
        struct str volume;       /* its directory of workspaces, see domain/volume.h; "": that of all */
        const struct egress *egress; /* where steps may connect to */
};

enum err worker_start(struct scope *, const struct worker_options *, struct worker **) NODISCARD;

/* Claims nothing more; what is under way goes on. */
void worker_drain(struct worker *);
int worker_active(struct worker *); /* runs under way */
/* Kills what is still under way, gives those runs back, joins the threads. */
void worker_stop(struct worker *);
void worker_free(struct worker *); /* stopped, and nobody asks worker_active() any more */

#endif
