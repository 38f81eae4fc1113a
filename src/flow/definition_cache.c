#include "flow/definition_cache.h"

#include <pthread.h>
#include <stdlib.h>

enum { PLACES = 128 };

struct entry {
        int64_t id, version;
        int64_t used; /* turn of the last use */
        int holders;  /* and one while it has a place */
        struct scope scope; /* owns the definition */
        struct definition *definition;
};

struct definition_cache {
        pthread_mutex_t lock;
        const struct world *world;
        int64_t turn;
        struct entry *places[PLACES];
};

struct definition_cache *definition_cache_new(const struct world *world)
{
        struct definition_cache *c = xcalloc(1, sizeof(*c));

        c->world = world;
        pthread_mutex_init(&c->lock, NULL);
        return c;
}

static void drop(struct entry *e)
{
        if (--e->holders > 0)
                return;
        scope_done(&e->scope);
        free(e);
}

void definition_cache_free(struct definition_cache *c)
{
        for (size_t i = 0; i < PLACES; i++)
                if (c->places[i])
                        drop(c->places[i]);
        pthread_mutex_destroy(&c->lock);
        free(c);
}

/* With the lock held. */
static struct entry *find(struct definition_cache *c, int64_t id, int64_t version)
{
        for (size_t i = 0; i < PLACES; i++) {
                struct entry *e = c->places[i];

                if (e && e->id == id && e->version == version) {
                        e->used = ++c->turn;
                        e->holders++;
                        return e;
                }
        }
        return NULL;
}

const struct definition *definition_cache_get(struct definition_cache *c, int64_t id, int64_t version)
{
        struct entry *e;

        pthread_mutex_lock(&c->lock);
        e = find(c, id, version);
        pthread_mutex_unlock(&c->lock);
        return e ? e->definition : NULL;
}

static size_t place_for(const struct definition_cache *c)
{
        size_t oldest = 0;

        for (size_t i = 0; i < PLACES; i++) {
                if (!c->places[i])
                        return i;
                if (c->places[i]->used < c->places[oldest]->used)
                        oldest = i;
        }
        return oldest;
}

enum err definition_cache_add(struct definition_cache *c, struct scope *scope, int64_t id,
                              int64_t version, struct str document, const struct definition **out)
{
        struct entry *e = xcalloc(1, sizeof(*e)), *there;
        enum err error;
        size_t place;

        scope_init(&e->scope, c->world);
        *e = (struct entry){ .id = id, .version = version, .holders = 2, .scope = e->scope };
        error = definition_load(&e->scope, document, &e->definition);
        if (error) {
                fail(scope, error, "stored definition: " STR_FMT, STR_ARG(e->scope.fault.detail));
                e->holders = 1;
                drop(e);
                return error;
        }
        e->definition->entry = e;
        pthread_mutex_lock(&c->lock);
        there = find(c, id, version);
        if (there) { /* somebody was faster */
                e->holders = 1;
                drop(e);
                e = there;
        } else {
                place = place_for(c);
                if (c->places[place])
                        drop(c->places[place]);
                c->places[place] = e;
                e->used = ++c->turn;
        }
        pthread_mutex_unlock(&c->lock);
        *out = e->definition;
        return ERR_OK;
}

void definition_cache_release(struct definition_cache *c, const struct definition *definition)
{
        struct entry *held = NULL;

        if (!definition)
                return;
        pthread_mutex_lock(&c->lock);
        held = definition->entry;
        drop(held);
        pthread_mutex_unlock(&c->lock);
}
