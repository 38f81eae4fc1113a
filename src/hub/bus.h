/*
 * Bus: what a commit of this server tells its own streams and waiting claims (struct hint), told to
 * the other servers of its database too, and theirs to it.  It carries hints only: all of them may be
 * lost, and cost the streams and claims one look of a second, never an event.
 *
 * A thread of its own sends and hears, over one link; whoever tells it something waits for nothing.
 * While the link is away, hints gather; once it is back everybody looks again.
 */
#ifndef BATON_HUB_BUS_H
#define BATON_HUB_BUS_H

#include "hub/hints.h"
#include "hub/link.h"
#include "store/store.h"

struct bus;
struct hooks;

struct bus_options {
        const struct link_type *link;
        const char *url, *place; /* see struct link_type */
        struct store **store;
        struct hooks *hooks;
        const struct world *world;
        bool shared; /* others write to the database too: look for what hints have missed */
};

/* Everything in the options outlives it. */
struct bus *bus_new(const struct bus_options *);
enum err bus_start(struct scope *, struct bus *) NODISCARD; /* the thread; the store has started */
void bus_stop(struct bus *);                                /* joins it, if it was started */
void bus_free(struct bus *);

/* From any thread: others have written to the database, and hints of it may be lost. */
void bus_doubt(struct bus *);
/* On the writing thread, after a commit. */
void bus_tell(struct bus *, const struct hint *);
/* On the writing thread: what was heard since, or NULL; valid up to the next call. */
const struct hint_set *bus_heard(struct bus *);
/* On the writing thread: it is heard once more. */
void bus_hear_again(struct bus *, const struct hint *);

struct bus_stats {
        bool up;
        int64_t sent, received; /* texts */
};
void bus_stats(const struct bus *, struct bus_stats *);

#endif
