#include "store/names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024, CHUNKS = 4096 };

struct entry {
        int64_t id;
        struct str text;
        struct entry *next; /* in its bucket */
};

struct names_table {
        pthread_rwlock_t lock; /* of the buckets, for who is not the writing thread */
        struct entry **buckets;
        size_t n_buckets, n;
        struct entry **pending;
        size_t n_pending, size_pending;
        int64_t newest; /* published */
        /* Texts by number, readable by all threads: a chunk and its entries are written once. */
        _Atomic(struct chunk *) chunks[CHUNKS];
};

struct chunk {
        _Atomic(const struct entry *) entries[CHUNK];
};

static uint64_t hash(struct str s)
{
        uint64_t h = UINT64_C(1469598103934665603);

        for (size_t i = 0; i < s.n; i++)
                h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
        return h ^ h >> 29;
}

struct names_table *names_new(void)
{
        struct names_table *t = xcalloc(1, sizeof(*t));

        pthread_rwlock_init(&t->lock, NULL);
        t->n_buckets = 256;
        t->buckets = xcalloc(t->n_buckets, sizeof(struct entry *));
        return t;
}

void names_free(struct names_table *t)
{
        if (!t)
                return;
        for (size_t i = 0; i < t->n_buckets; i++)
                for (struct entry *e = t->buckets[i], *next; e; e = next) {
                        next = e->next;
                        free(e);
                }
        for (size_t i = 0; i < CHUNKS; i++)
                free(t->chunks[i]);
        free(t->buckets);
        free(t->pending);
        pthread_rwlock_destroy(&t->lock);
        free(t);
}

static struct entry **bucket_of(const struct names_table *t, struct str s)
{
        return &t->buckets[hash(s) & (t->n_buckets - 1)];
}

int64_t names_lookup(const struct names_table *t, struct str s)
{
        for (const struct entry *e = *bucket_of(t, s); e; e = e->next)
                if (str_eq(e->text, s))
                        return e->id;
        return 0;
}

struct str names_get(const struct names_table *t, int64_t id)
{
        size_t at = (size_t)id / CHUNK;
        const struct chunk *chunk = id > 0 && at < CHUNKS ? atomic_load(&t->chunks[at]) : NULL;
        const struct entry *e = chunk ? atomic_load(&chunk->entries[id % CHUNK]) : NULL;

        return e ? e->text : STR_NONE;
}

int64_t names_number(struct names_table *t, struct str s)
{
        int64_t id;

        pthread_rwlock_rdlock(&t->lock);
        id = names_lookup(t, s);
        pthread_rwlock_unlock(&t->lock);
        /* By now its call may be undone, and the number another name's. */
        return str_eq(names_get(t, id), s) ? id : 0;
}

static void grow(struct names_table *t)
{
        struct entry **old = t->buckets;
        size_t n = t->n_buckets;

        t->n_buckets *= 4;
        t->buckets = xcalloc(t->n_buckets, sizeof(struct entry *));
        for (size_t i = 0; i < n; i++)
                for (struct entry *e = old[i], *next; e; e = next) {
                        struct entry **home = bucket_of(t, e->text);

                        next = e->next;
                        e->next = *home;
                        *home = e;
                }
        free(old);
}

void names_add(struct names_table *t, int64_t id, struct str text)
{
        struct entry *e = xmalloc(sizeof(*e) + text.n + 1), **home;
        char *copy = (char *)(e + 1);

        memcpy(copy, text.p, text.n);
        copy[text.n] = '\0';
        pthread_rwlock_wrlock(&t->lock);
        if (t->n == t->n_buckets)
                grow(t);
        home = bucket_of(t, text);
        *e = (struct entry){ .id = id, .text = { copy, text.n }, .next = *home };
        *home = e;
        t->n++;
        pthread_rwlock_unlock(&t->lock);
        if (t->n_pending == t->size_pending) {
                t->size_pending = t->size_pending ? t->size_pending * 2 : 64;
                t->pending = xrealloc(t->pending, t->size_pending * sizeof(struct entry *));
        }
        t->pending[t->n_pending++] = e;
}

size_t names_pending(const struct names_table *t)
{
        return t->n_pending;
}

void names_forget(struct names_table *t, size_t down_to)
{
        if (t->n_pending <= down_to)
                return;
        pthread_rwlock_wrlock(&t->lock);
        while (t->n_pending > down_to) {
                struct entry *e = t->pending[--t->n_pending], **at = bucket_of(t, e->text);

                while (*at != e)
                        at = &(*at)->next;
                *at = e->next;
                t->n--;
                free(e);
        }
        pthread_rwlock_unlock(&t->lock);
}

void names_publish(struct names_table *t)
{
        for (size_t i = 0; i < t->n_pending; i++) {
                const struct entry *e = t->pending[i];
                size_t at = (size_t)e->id / CHUNK;
                struct chunk *chunk;

                t->newest = e->id > t->newest ? e->id : t->newest;
                if (at >= CHUNKS)
                        continue; /* found by query instead */
                chunk = atomic_load(&t->chunks[at]);
                if (!chunk) {
                        chunk = xcalloc(1, sizeof(*chunk));
                        atomic_store(&t->chunks[at], chunk);
                }
                atomic_store(&chunk->entries[e->id % CHUNK], e);
        }
        t->n_pending = 0;
}

int64_t names_newest(const struct names_table *t)
{
        return t->newest;
}
