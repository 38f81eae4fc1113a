/*
 * Which of the words that are known somebody may have meant.
 */
#ifndef BATON_CLI_NEAREST_H
#define BATON_CLI_NEAREST_H

#include "core/str.h"

/* Begins as { .given = …, .edits = NEAREST_NONE }; best.p NULL: none is near. */
struct nearest {
        struct str given, best;
        size_t edits;
};

#define NEAREST_NONE 99

void nearest_consider(struct nearest *, struct str word);

#endif
