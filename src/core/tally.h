/*
 * Tally: how many there are of each key, so that nobody has more than a share.  Shared by threads.
 */
#ifndef BATON_CORE_TALLY_H
#define BATON_CORE_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/attr.h"

struct tally;

struct tally *tally_new(void);
void tally_free(struct tally *);
/* Counts one more; false, and nothing counted, when there are `most` already. */
bool tally_enter(struct tally *, uint64_t key, size_t most) NODISCARD;
void tally_leave(struct tally *, uint64_t key); /* one that entered */

#endif
