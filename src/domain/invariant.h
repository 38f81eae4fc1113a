/* Rows that must agree with each other: domain/invariant.def. */
#ifndef BATON_DOMAIN_INVARIANT_H
#define BATON_DOMAIN_INVARIANT_H

#include "store/tx.h"

/* A registry of its own: each counts the rows that break what its name says. */
extern const struct statement invariants[];
extern const size_t invariants_n;

/* list: the sentences that do not hold, struct str. */
enum err invariants_ask(struct tx *, void *list) NODISCARD;

#endif
