/*
 * Asker: puts the questions of policies (domain/policy.h) to their receivers, on a thread of its
 * own, many at once.  A claim that asks is parked here and goes back to the store with its answer,
 * or with none after POLICY_MS.
 */
#ifndef BATON_WEBHOOK_ASKER_H
#define BATON_WEBHOOK_ASKER_H

#include "domain/waiting.h"
#include "http/egress.h"

struct asker;

/* Everything outlives the asker. */
enum err asker_start(struct scope *, struct store *, const struct egress *,
                     struct asker **) NODISCARD;
/* Takes a call over whose policy asks; on the store's writing thread. */
void asker_ask(void *asker, struct claim_call *);
/* All go back unanswered, later ones at once; joins the thread. */
void asker_stop(struct asker *);
void asker_free(struct asker *); /* after the store has stopped */

#endif
