#include "world.h"

#include <stdlib.h>
#include <string.h>

#define WALL_START INT64_C(1780300800000000) /* 2026-06-01 */
#define BOOT_START (3600 * US_PER_S)

static uint64_t next(struct sim_world *w)
{
        uint64_t z = w->state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static int64_t wall(void *ctx)
{
        return ((struct sim_world *)ctx)->wall;
}

static int64_t boot(void *ctx)
{
        return ((struct sim_world *)ctx)->boot;
}

static void random_bytes(void *ctx, void *bytes, size_t n)
{
        unsigned char *at = bytes;

        for (size_t i = 0; i < n; i += 8) {
                uint64_t r = next(ctx);

                memcpy(at + i, &r, n - i < 8 ? n - i : 8);
        }
}

void world_init(struct sim_world *w, uint64_t seed)
{
        *w = (struct sim_world){ .clock = { wall, boot, w },
                                 .state = seed,
                                 .wall = WALL_START,
                                 .boot = BOOT_START };
        w->world = (struct world){ &w->clock, random_bytes, w };
}

int64_t roll(struct sim_world *w, int64_t n)
{
        return (int64_t)(next(w) % (uint64_t)n);
}

bool one_in(struct sim_world *w, int64_t n)
{
        return roll(w, n) == 0;
}

static struct map_slot *slot_of(const struct map *m, int64_t key)
{
        size_t at = (size_t)((uint64_t)key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (m->size - 1);

        while (m->slots[at].key && m->slots[at].key != key)
                at = (at + 1) & (m->size - 1);
        return &m->slots[at];
}

void *map_get(const struct map *m, int64_t key)
{
        return m->size ? slot_of(m, key)->value : NULL;
}

void map_put(struct map *m, int64_t key, void *value)
{
        struct map_slot *slot;

        if (2 * m->n >= m->size) {
                struct map grown = { .size = m->size ? 2 * m->size : 1024 };

                grown.slots = xcalloc(grown.size, sizeof(*grown.slots));
                for (size_t i = 0; i < m->size; i++)
                        if (m->slots[i].key)
                                *slot_of(&grown, m->slots[i].key) = m->slots[i];
                grown.n = m->n;
                free(m->slots);
                *m = grown;
        }
        slot = slot_of(m, key);
        m->n += !slot->key;
        *slot = (struct map_slot){ key, value };
}

uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
        const unsigned char *at = bytes;

        for (size_t i = 0; i < n; i++)
                h = (h ^ at[i]) * UINT64_C(1099511628211);
        return h;
}

uint64_t hash_number(uint64_t h, int64_t number)
{
        return hash_bytes(h, &number, sizeof(number));
}
