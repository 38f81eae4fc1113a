/* The schema's migrations, embedded from sql/ at build time. */
#ifndef BATON_DOMAIN_MIGRATIONS_H
#define BATON_DOMAIN_MIGRATIONS_H

#include "store/store.h"

extern const struct migration migrations[];
extern const size_t migrations_n;

#endif
