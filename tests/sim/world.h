/* The simulated world: clocks that only move when told to, and dice from one seed. */
#ifndef BATON_SIM_WORLD_H
#define BATON_SIM_WORLD_H

#include "core/scope.h"

struct sim_world {
        struct world world; /* what the code under test sees */
        struct clock clock;
        uint64_t state;
        int64_t wall, boot; /* microseconds */
};

void world_init(struct sim_world *, uint64_t seed);
/* 0..n-1 */
int64_t roll(struct sim_world *, int64_t n);
bool one_in(struct sim_world *, int64_t n);

/* Objects by id. */
struct map {
        struct map_slot {
                int64_t key; /* 0 = free */
                void *value;
        } *slots;
        size_t n, size;
};
void *map_get(const struct map *, int64_t key);
void map_put(struct map *, int64_t key, void *value);

/* FNV-1a, to be continued from what it gave before. */
#define HASH_START UINT64_C(14695981039346656037)
uint64_t hash_bytes(uint64_t, const void *, size_t);
uint64_t hash_number(uint64_t, int64_t);

#endif
