/*
 * Deliverer: sends the events of the committed log to the webhooks, on a thread of its own.  Each
 * turn it makes deliveries of what is new, begins those whose time has come, waits for answers and
 * records them.  What is not recorded is sent again, under the same id: nothing is lost by a crash.
 */
#ifndef BATON_WEBHOOK_DELIVERER_H
#define BATON_WEBHOOK_DELIVERER_H

#include "domain/delivery.h"
#include "http/egress.h"
#include "store/store.h"

enum { DELIVERER_SECONDS = 10 /* that a receiver has for its answer */ };

struct deliverer;

/* Everything outlives the deliverer. */
struct deliverer_options {
        struct store *store;
        const struct world *world;
        const struct egress *egress;
        struct task_retry policy;
        int64_t keep_us; /* how long ended deliveries stay */
};

enum err deliverer_start(struct scope *, const struct deliverer_options *,
                         struct deliverer **) NODISCARD;
/* A webhook has changed, or what it is to be sent; from any thread. */
void deliverer_wake(void *deliverer);
/* Begins nothing more; what is under way may end. */
void deliverer_drain(struct deliverer *);
/* Breaks off what is under way, joins the thread. */
void deliverer_stop(struct deliverer *);
void deliverer_free(struct deliverer *); /* stopped, and nobody asks deliverer_counts() any more */
struct delivery_counts deliverer_counts(const struct deliverer *);

#endif
