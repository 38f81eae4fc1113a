/*
 * Failpoints: named places on every hand-over at which a test lets the program die, fail or stall
 * for 200 ms.  They exist in builds with -Dfailpoints=true only; in every other build the functions
 * are constants and nothing of them is in the program.
 *
 * A process reads the file that the environment variable BATON_FAILPOINTS names, when it reaches
 * its first point: a struct failpoint_slot for each point, in the order of failpoint.def, shared
 * with the test, which arms points and reads the counts while the server runs.
 */
#ifndef BATON_CORE_FAILPOINT_H
#define BATON_CORE_FAILPOINT_H

#include "core/scope.h"

enum failpoint {
#define FAILPOINT(name, fails, what) FAILPOINT_##name,
#include "core/failpoint.def"
#undef FAILPOINT
        FAILPOINTS
};

#ifdef BATON_WITH_FAILPOINTS

/* True when it shall fail here. */
bool failpoint_fails(enum failpoint);
/* ERR_UNAVAILABLE when it shall fail here. */
enum err failpoint(struct scope *, enum failpoint) NODISCARD;
void failpoint_pass(enum failpoint);

#else

static inline bool failpoint_fails(enum failpoint point)
{
        (void)point;
        return false;
}

static inline enum err failpoint(struct scope *scope, enum failpoint point)
{
        (void)scope;
        (void)point;
        return ERR_OK;
}

static inline void failpoint_pass(enum failpoint point)
{
        (void)point;
}

#endif
#endif
