/*
 * Fuzz targets: one file each, with a function that is given one input and ends the process when an
 * invariant does not hold.  `make fuzz` links it with libFuzzer; every other build links it with
 * replay.c, which runs the corpus and the cases that were found.
 */
#ifndef BATON_FUZZ_FUZZ_H
#define BATON_FUZZ_FUZZ_H

#include "core/scope.h"

#define MUST(condition) BUG_ON(!(condition))

/* The target.  The input is bounded by memory that ends with it; the scope is reset afterwards. */
void fuzz(struct scope *, struct str input);

/* Time begins with 2026 and goes on where a target moves it; random bytes are counted. */
extern const struct world fuzz_world;
void fuzz_clock_move(int64_t us);

/* What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#endif
