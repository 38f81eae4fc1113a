/*
 * Copies in Redis of what the database says, for readers of the workspace worker's keys: a table in
 * copies.c names them.  Written best effort by one server at a time from committed rows, on a thread
 * of its own, and never read as truth: when they are gone they are written anew.
 */
#ifndef BATON_HUB_COPIES_H
#define BATON_HUB_COPIES_H

#include "store/store.h"

struct copies;

struct copies_options {
        const char *url, *prefix;
        struct store **store;
        const struct world *world;
};

/* Everything in the options outlives it. */
struct copies *copies_new(const struct copies_options *);
/* The thread; the store has started.  `worker`: whose heartbeat is written, absent for none. */
enum err copies_start(struct scope *, struct copies *, struct str worker) NODISCARD;
/* Something was committed, here or on another server; from any thread. */
void copies_wake(struct copies *);
void copies_stop(struct copies *); /* joins it, if it was started */
void copies_free(struct copies *);

#endif
