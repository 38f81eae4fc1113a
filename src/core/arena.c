#include "core/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE = 4096 - 16, BLOCK_KEEP = 64 * 1024 };

/* Under AddressSanitizer an allocation is followed by forbidden bytes, and what an arena has taken
 * back is forbidden too. */
#ifdef GUARDED_ARENAS
#include <sanitizer/asan_interface.h>
enum { GUARD = 16 };
#else
#define ASAN_POISON_MEMORY_REGION(at, n)   ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)0)
enum { GUARD = 0 };
#endif

struct arena_block {
        struct arena_block *next;
        size_t size, used;
        _Alignas(16) char bytes[];
};

static struct arena_block *block_add(struct arena *arena, size_t size)
{
        size_t grown = arena->block ? arena->block->size * 2 : BLOCK_SIZE;
        struct arena_block *block;

        if (grown > BLOCK_KEEP)
                grown = BLOCK_KEEP;
        if (grown < size)
                grown = size;
        block = xmalloc(sizeof(*block) + grown);
        *block = (struct arena_block){ .next = arena->block, .size = grown };
        ASAN_POISON_MEMORY_REGION(block->bytes, grown);
        arena->block = block;
        return block;
}

void *arena_alloc(struct arena *arena, size_t size, size_t align)
{
        struct arena_block *block = arena->block;
        size_t at;
        void *out;

        align = align > GUARD ? align : GUARD;
        at = block ? (block->used + align - 1) & ~(align - 1) : 0;
        if (!block || at + size > block->size || at + size < size) {
                block = block_add(arena, size);
                at = 0;
        }
        out = block->bytes + at;
        block->used = at + size + GUARD;
        arena->used += size;
        ASAN_UNPOISON_MEMORY_REGION(out, size);
        return memset(out, 0, size);
}

struct str arena_printf(struct arena *arena, const char *fmt, ...)
{
        char small[256], *out;
        va_list args;
        int n;

        va_start(args, fmt);
        n = vsnprintf(small, sizeof(small), fmt, args);
        va_end(args);
        BUG_ON(n < 0);
        out = arena_alloc(arena, (size_t)n + 1, 1);
        if ((size_t)n < sizeof(small)) {
                memcpy(out, small, (size_t)n + 1);
                return (struct str){ out, (size_t)n };
        }
        va_start(args, fmt);
        vsnprintf(out, (size_t)n + 1, fmt, args);
        va_end(args);
        return (struct str){ out, (size_t)n };
}

void arena_reset(struct arena *arena)
{
        struct arena_block *block = arena->block;

        while (block && block->next) {
                struct arena_block *next = block->next;

                free(block);
                block = next;
        }
        if (block) {
                block->used = 0;
                ASAN_POISON_MEMORY_REGION(block->bytes, block->size);
        }
        arena->block = block;
        arena->used = 0;
}

void arena_done(struct arena *arena)
{
        arena_reset(arena);
        free(arena->block);
        arena->block = NULL;
}

void bug(const char *file, int line, const char *what)
{
        fprintf(stderr, "baton: internal error at %s:%d: %s\n", file, line, what);
        abort();
}

void *xmalloc(size_t n)
{
        void *p = malloc(n ? n : 1);

        BUG_ON(!p);
        return p;
}

void *xcalloc(size_t n, size_t size)
{
        void *p = calloc(n ? n : 1, size);

        BUG_ON(!p);
        return p;
}

void *xrealloc(void *old, size_t n)
{
        void *p = realloc(old, n ? n : 1);

        BUG_ON(!p);
        return p;
}

char *xstrdup(const char *s)
{
        return strcpy(xmalloc(strlen(s) + 1), s);
}
