/*
 * What every process on a database is made of, whether it serves clients or only works: data directory,
 * spawner, store with its hooks, worker, webhooks, bus.
 */
#ifndef BATON_SERVER_ASSEMBLY_H
#define BATON_SERVER_ASSEMBLY_H

#include <signal.h>

#include "flow/definition_cache.h"
#include "http/egress.h"
#include "hub/hooks.h"
#include "server/directory.h"
#include "server/options.h"
#include "webhook/asker.h"
#include "webhook/deliverer.h"
#include "worker/spawner.h"
#include "worker/worker.h"

struct assembly {
        struct hooks hooks;
        struct store *store;
        struct spawner *spawner;
        struct definition_cache *definitions;
        struct worker *worker; /* NULL: it has none */
        struct deliverer *deliverer;
        struct asker *asker;
        struct egress egress;
        const struct options *options;
        char host[256];
        struct directory data;
        struct str volume; /* of its directory of workspaces; "": the store is a file */
        int boost; /* of the thread that writes, privileges.h */
        bool made_vault; /* there was no secret.key */
        bool started; /* the store's threads run */
};
#define ASSEMBLY_INIT { .data = { .lock = -1 } }

/* In this order, each once; the two ends also after an open or a start that failed half-way. */

/* No thread runs yet: the database is open, and this process is one of those on it. */
enum err assembly_open(struct scope *, struct assembly *, const struct options *) NODISCARD;
/* The threads, the worker among them. */
enum err assembly_start(struct scope *, struct assembly *) NODISCARD;
/* Nothing new is taken; what is under way may end until its time is over.  False: a signal came. */
bool assembly_drain(struct assembly *, const sigset_t *);
/* Nobody works any more, and no call is accepted; those under way have got their answer. */
void assembly_stop(struct scope *, struct assembly *);
void assembly_close(struct assembly *);

#endif
