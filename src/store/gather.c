#include "store/gather.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

/* What stands before an array's elements: dimensions, whether one is NULL, type, length, first index. */
struct head {
        uint32_t dimensions, has_null, type, length, first;
};

struct gathered {
        uint32_t type;
        bool has_null, has_value;
        struct buf array;
};

enum { SLOTS = 4 * GATHER_ROWS };

static size_t slot_of(int64_t key)
{
        return (size_t)(((uint64_t)key * 0x9E3779B97F4A7C15u) >> 40) % SLOTS;
}

/* Where the key is, or would be. */
static int64_t *place_of(const struct gather *g, int64_t key)
{
        size_t at = slot_of(key);

        while (g->keys[at] && g->keys[at] != key)
                at = (at + 1) % SLOTS;
        return &g->keys[at];
}

static void column_clear(struct gathered *c)
{
        static const struct head none;

        buf_clear(&c->array);
        buf_bytes(&c->array, &none, sizeof(none));
        c->has_null = c->has_value = false;
}

void gather_begin(struct gather *g, const unsigned *types, int n_columns)
{
        g->n_columns = n_columns;
        g->columns = xcalloc((size_t)n_columns + 1, sizeof(struct gathered));
        g->keys = xcalloc(SLOTS, sizeof(int64_t));
        for (int i = 0; i < n_columns; i++) {
                g->columns[i] = (struct gathered){ .type = types[i], .array = BUF_INIT(1 << 30) };
                column_clear(&g->columns[i]);
        }
}

void gather_add(struct gather *g, int column, const char *p, int n)
{
        struct gathered *c = &g->columns[column];
        uint32_t length = htobe32(p ? (uint32_t)n : UINT32_MAX);

        buf_bytes(&c->array, &length, sizeof(length));
        if (p)
                buf_bytes(&c->array, p, (size_t)n);
        *(p ? &c->has_value : &c->has_null) = true;
        g->bytes += p ? (size_t)n : 0;
}

void gather_row(struct gather *g, const int64_t *key)
{
        g->n++;
        if (!key)
                g->keyless = true;
        else if (!*key)
                g->zero = true;
        else
                *place_of(g, *key) = *key;
}

bool gather_is_full(const struct gather *g)
{
        return g->n >= GATHER_ROWS || g->bytes >= GATHER_BYTES;
}

bool gather_has(const struct gather *g, int64_t key)
{
        return g->n && (g->keyless || (key ? *place_of(g, key) == key : g->zero));
}

struct str gather_array(struct gather *g, int column)
{
        struct gathered *c = &g->columns[column];
        const struct head head = { .dimensions = htobe32(1), .has_null = htobe32(c->has_null),
                                   .type = htobe32(c->type), .length = htobe32((uint32_t)g->n),
                                   .first = htobe32(1) };
        const struct head empty = { .type = head.type };

        BUG_ON(c->array.full);
        /* Gives NULL for every row, and costs nothing; the first column says how many rows there are. */
        if (!c->has_value && column) {
                memcpy(c->array.p, &empty, sizeof(empty));
                return (struct str){ c->array.p, offsetof(struct head, length) };
        }
        memcpy(c->array.p, &head, sizeof(head));
        return buf_view(&c->array);
}

struct str gather_single(const struct gather *g, int column)
{
        const struct gathered *c = &g->columns[column];
        size_t before = sizeof(struct head) + sizeof(uint32_t);

        BUG_ON(g->n != 1);
        return c->has_value ? (struct str){ c->array.p + before, c->array.n - before } : STR_NONE;
}

void gather_clear(struct gather *g)
{
        if (!g->n)
                return;
        for (int i = 0; i < g->n_columns; i++)
                column_clear(&g->columns[i]);
        memset(g->keys, 0, SLOTS * sizeof(int64_t));
        g->n = g->bytes = g->expected = 0;
        g->keyless = g->zero = false;
}

void gather_done(struct gather *g)
{
        for (int i = 0; i < g->n_columns; i++)
                buf_done(&g->columns[i].array);
        free(g->columns);
        free(g->keys);
        *g = (struct gather){ 0 };
}
