/*
 * Arena: memory that dies all at once.  One belongs to each scope (a call, a tick, a worker's turn,
 * a client command); what lives in it is never freed singly.  Allocation failure aborts: the store
 * is durable and a restart is the recovery.  xmalloc and friends do the same for objects that
 * outlive a scope.
 */
#ifndef BATON_CORE_ARENA_H
#define BATON_CORE_ARENA_H

#include <stddef.h>

#include "core/attr.h"
#include "core/str.h"

struct arena {
        struct arena_block *block;
        size_t used; /* bytes handed out since the last reset */
};

/* Zeroed memory. */
void *arena_alloc(struct arena *, size_t size, size_t align) NEVER_NULL;
#define arena_new(arena, type) ((type *)arena_alloc((arena), sizeof(type), _Alignof(type)))
#define arena_array(arena, type, n) \
        ((type *)arena_alloc((arena), sizeof(type) * (size_t)(n), _Alignof(type)))

struct str arena_printf(struct arena *, const char *fmt, ...) PRINTF(2, 3);

/* Forgets everything but keeps one block for the next use; an all-zero arena is a valid empty one. */
void arena_reset(struct arena *);
void arena_done(struct arena *);

void *xmalloc(size_t) NEVER_NULL;
void *xcalloc(size_t n, size_t size) NEVER_NULL;
void *xrealloc(void *, size_t) NEVER_NULL;
char *xstrdup(const char *) NEVER_NULL;

/* Ends the process: for our own mistakes, never for input. */
void bug(const char *file, int line, const char *what) NORETURN;
#define BUG_ON(cond) ((cond) ? bug(__FILE__, __LINE__, #cond) : (void)0)

#endif
