/*
 * struct hint_set: hints on their way, each kind and key once, with how often it came (its value).
 * Bounded: what does not fit makes it one hint of everything.
 */
#ifndef BATON_HUB_HINTS_H
#define BATON_HUB_HINTS_H

#include "core/buf.h"
#include "store/tx.h"

enum { HINTS_MAX = 2048 };

struct hint_set {
        struct hint hints[HINTS_MAX];
        size_t n;
        uint16_t index[2 * HINTS_MAX]; /* place + 1 by hash */
};

void hint_set_add(struct hint_set *, enum hint_kind, int64_t key, int64_t times);
void hint_set_clear(struct hint_set *);

/* Words of a text: "t17" tree 17, "l4x3" lane 4 three times, … */
enum { HINT_TEXT_MAX = 48 };
void hint_print(struct buf *, const struct hint *);
/* False: not such a word. */
bool hint_parse(struct str, struct hint *out);

#endif
