#include "core/tally.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/arena.h"

enum { BUCKETS = 1024 };

struct count {
        struct count *next;
        uint64_t key;
        size_t n;
};

struct tally {
        pthread_mutex_t lock;
        struct count *buckets[BUCKETS]; /* keys with at least one */
};

struct tally *tally_new(void)
{
        struct tally *tally = xcalloc(1, sizeof(*tally));

        pthread_mutex_init(&tally->lock, NULL);
        return tally;
}

void tally_free(struct tally *tally)
{
        for (size_t i = 0; i < BUCKETS; i++)
                BUG_ON(tally->buckets[i]);
        pthread_mutex_destroy(&tally->lock);
        free(tally);
}

/* Where the count of the key is, or would be. */
static struct count **find(struct tally *tally, uint64_t key)
{
        struct count **at = &tally->buckets[key * UINT64_C(0x9e3779b97f4a7c15) >> 54];

        while (*at && (*at)->key != key)
                at = &(*at)->next;
        return at;
}

bool tally_enter(struct tally *tally, uint64_t key, size_t most)
{
        struct count **at;
        bool fits;

        pthread_mutex_lock(&tally->lock);
        at = find(tally, key);
        fits = (*at ? (*at)->n : 0) < most;
        if (fits && !*at) {
                *at = xcalloc(1, sizeof(**at));
                (*at)->key = key;
        }
        if (fits)
                (*at)->n++;
        pthread_mutex_unlock(&tally->lock);
        return fits;
}

void tally_leave(struct tally *tally, uint64_t key)
{
        struct count **at, *count;

        pthread_mutex_lock(&tally->lock);
        at = find(tally, key);
        count = *at;
        BUG_ON(!count);
        if (--count->n == 0) {
                *at = count->next;
                free(count);
        }
        pthread_mutex_unlock(&tally->lock);
}
