/*
 * Attention: a mark on runs that a person should look at.  It hinders nothing; it goes as soon as the
 * run moves or its holder is heard of, or by run_recover().
 *
 *   starved   it was the first in its lane, free to be taken, for so long, and nobody took it
 *   stuck     it was claimed, and for so long its holder neither began nor sent a heartbeat
 */
#ifndef BATON_DOMAIN_ATTENTION_H
#define BATON_DOMAIN_ATTENTION_H

#include "domain/run.h"

#define ATTENTION_AFTER (120 * US_PER_S)

struct domain;
struct attention;

/* What a tick remembers of the one before: which run was at the head of each lane, and since when. */
struct attention *attention_new(void);
void attention_free(struct attention *);
/* Looks at a bounded piece of the lanes and of the leases, in turn. */
enum err attention_tick(struct tx *, struct domain *) NODISCARD;
/* What the transaction of a tick saw did happen; or may not have: a run that it had queued lay in no lane. */
void attention_committed(struct attention *);
void attention_rolled_back(struct attention *);
/* When the next that was looked at will have starved, by the lease clock; INT64_MAX: none. */
int64_t attention_due(const struct domain *);
/* Of the run and, if it is its root run, of its task; absent = none. */
enum err attention_set(struct tx *, struct run *, struct str mark) NODISCARD;

#endif
