/*
 * struct scope: one call, tick, worker's turn or client command.  It owns the arena in which
 * everything of that turn lives, carries the injected time, ids and randomness, and keeps the one
 * fault that explains a refusal.
 */
#ifndef BATON_CORE_SCOPE_H
#define BATON_CORE_SCOPE_H

#include "core/arena.h"
#include "core/err.h"
#include "core/id.h"
#include "core/time.h"

/* Everything that is not a pure function of the input; replaced as a whole by a simulator. */
struct world {
        const struct clock *clock;
        void (*random)(void *ctx, void *bytes, size_t n); /* unpredictable in production */
        void *random_ctx;
};

extern const struct world system_world; /* the kernel's clocks and getrandom */

struct scope {
        struct arena arena;
        const struct world *world;
        struct idgen *ids; /* set where ids may be made: on a store's writing thread */
        int64_t now;       /* UTC microseconds; fixed while an operation runs */
        struct fault fault;
};

void scope_init(struct scope *, const struct world *); /* also reads the clock */
void scope_reset(struct scope *);                      /* arena and fault; reads the clock again */
void scope_done(struct scope *);

int64_t scope_id(struct scope *);
void scope_random(struct scope *, void *bytes, size_t n);

/* Record why and return the code: return fail(scope, ERR_CONFLICT, "run %s has ended", id);  The
 * sentence is UTF-8 whatever was quoted in it. */
enum err fail(struct scope *, enum err, const char *fmt, ...) PRINTF(3, 4);
/* The same with a code of the fact itself, where one error code stands for several. */
enum err fail_diagnosed(struct scope *, const char *diagnostic, enum err, const char *fmt, ...)
        PRINTF(4, 5);
/* The same for a field of the request, named by its path. */
enum err fail_field(struct scope *, const char *field, enum err, const char *fmt, ...) PRINTF(4, 5);
/* A bound was passed: states both figures. */
enum err fail_limit(struct scope *, const char *field, enum err, int64_t limit, int64_t actual,
                    const char *what);
/* 404: "no such <resource>"; the same words whether it is missing or belongs to somebody else. */
enum err fail_missing(struct scope *, const char *resource);

#endif
