/*
 * Retention: in a workspace with retention_seconds, trees whose tasks have all ended that long ago
 * are deleted with everything of theirs but one row of the audit log (tree.expired).  A tree stays
 * while a run of it is open or a task outside waits for one of its tasks.
 *
 * The events of trees that somebody deleted go after the same time.
 *
 * It goes on in pieces of bounded size, one with each tick.  What is too much for one goes from the
 * leaves up: child runs and their logs, tasks, the oldest events; the newest event goes with the
 * root, so that numbers are never used twice.  Whether the tree may go is asked again for each
 * piece.
 */
#ifndef BATON_DOMAIN_RETENTION_H
#define BATON_DOMAIN_RETENTION_H

#include "domain/domain.h"

/* One piece. */
enum err retention_tick(struct tx *, struct domain *) NODISCARD;

#endif
