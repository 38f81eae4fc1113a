/* Searching for a text in titles and names. */
#ifndef BATON_DOMAIN_SEARCH_H
#define BATON_DOMAIN_SEARCH_H

#include "core/arena.h"

enum { SEARCH_MAX = 1000 }; /* bytes of what is searched for */

/* The pattern for GLOB that finds it anywhere, its letters in either case (LIKE knows the cases of
 * ASCII alone); absent if it is. */
struct str search_pattern(struct arena *, struct str);

#endif
