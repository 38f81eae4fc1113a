#include "worker/worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/slot.h"
#include "worker/sweep.h"

enum { STACK = 1 << 20, KEEPER_MS = 1000 };

int64_t worker_boot_now(const struct worker *w)
{
        return w->options.world->clock->boot(w->options.world->clock->ctx);
}

/* ---- keeping leases ---- */

struct beat_call {
        struct call call;
        struct fence fence;
        int64_t run;
        struct heartbeat beat;
};

static enum err beat_run(struct call *call, struct tx *tx)
{
        struct beat_call *c = (struct beat_call *)call;

        return claim_heartbeat(tx, &c->fence, c->run, WORKER_LEASE, &c->beat);
}

static bool is_due(struct slot *s, int64_t now, int64_t *run, char token[TOKEN_MAX])
{
        bool due;

        pthread_mutex_lock(&s->lock);
        due = s->holds && now - s->beat >= WORKER_BEAT * US_PER_S;
        if (due) {
                s->beat = now;
                *run = s->run;
                memcpy(token, s->token, TOKEN_MAX);
        }
        pthread_mutex_unlock(&s->lock);
        return due;
}

/* The answer concerns the slot only if it still holds that very lease. */
static void tell(struct slot *s, const char *token, enum err e, bool cancel)
{
        bool lost = e == ERR_STALE_TOKEN || e == ERR_LEASE_EXPIRED || e == ERR_INVALID_TRANSITION ||
                    e == ERR_NOT_FOUND || (!e && cancel);

        pthread_mutex_lock(&s->lock);
        if (s->holds && strcmp(s->token, token) == 0) {
                if (lost)
                        s->stop = SLOT_LOST;
                else if (e)
                        s->beat -= (WORKER_BEAT - 1) * US_PER_S; /* again in a second */
        }
        pthread_mutex_unlock(&s->lock);
}

static void beat(struct worker *w, struct slot *s, struct scope *scope)
{
        char token[TOKEN_MAX];
        struct beat_call c = { .call = { .run = beat_run, .scope = scope } };
        enum err e;

        if (!is_due(s, worker_boot_now(w), &c.run, token))
                return;
        scope_reset(scope);
        c.fence = fence_of(&s->by, str_from(token));
        e = store_call(w->options.store, &c.call);
        tell(s, token, e, !e && c.beat.cancel_requested);
}

static void *keeper_main(void *arg)
{
        const struct timespec moment = { .tv_sec = KEEPER_MS / 1000,
                                         .tv_nsec = KEEPER_MS % 1000 * 1000000L };
        struct worker *w = arg;
        struct scope scope;
        int64_t next_sweep = 0;

        scope_init(&scope, w->options.world);
        while (!w->over) {
                for (int i = 0; i < w->n_started; i++)
                        beat(w, &w->slots[i], &scope);
                if (!w->draining)
                        sweep(&w->options, &scope, &next_sweep);
                nanosleep(&moment, NULL);
        }
        scope_done(&scope);
        return NULL;
}

/* ---- life ---- */

static enum err start_slot(struct scope *scope, struct worker *w, struct slot *s,
                           const pthread_attr_t *attributes)
{
        s->worker = w;
        s->by = (struct principal){ .origin = STR("daemon:worker"),
                                    .all_workspaces = true,
                                    .scopes = SCOPE_RUNS_CLAIM | SCOPE_WORKER };
        scope_init(&s->scope, w->options.world);
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->answered, NULL);
        if (pthread_create(&s->thread, attributes, slot_main, s))
                return fail(scope, ERR_UNAVAILABLE, "cannot start a thread of the worker");
        w->n_started++;
        return ERR_OK;
}

enum err worker_start(struct scope *scope, const struct worker_options *options,
                      struct worker **out)
{
        struct worker *w = xcalloc(1, sizeof(*w));
        pthread_attr_t attributes;
        enum err e = ERR_OK;

        w->options = *options;
        w->slots = xcalloc((size_t)options->concurrency, sizeof(*w->slots));
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK);
        for (int i = 0; !e && i < options->concurrency; i++)
                e = start_slot(scope, w, &w->slots[i], &attributes);
        if (!e && pthread_create(&w->keeper, &attributes, keeper_main, w))
                e = fail(scope, ERR_UNAVAILABLE, "cannot start a thread of the worker");
        w->keeper_started = !e;
        pthread_attr_destroy(&attributes);
        *out = w;
        return e;
}

void worker_drain(struct worker *w)
{
        w->draining = true;
        for (int i = 0; i < w->n_started; i++)
                w->slots[i].claim.gone = true;
        store_wake(w->options.store);
}

int worker_active(struct worker *w)
{
        int n = 0;

        for (int i = 0; i < w->n_started; i++) {
                pthread_mutex_lock(&w->slots[i].lock);
                n += w->slots[i].holds;
                pthread_mutex_unlock(&w->slots[i].lock);
        }
        return n;
}

void worker_stop(struct worker *w)
{
        worker_drain(w);
        w->stopping = true;
        for (int i = 0; i < w->n_started; i++)
                pthread_join(w->slots[i].thread, NULL);
        w->over = true;
        if (w->keeper_started)
                pthread_join(w->keeper, NULL);
}

void worker_free(struct worker *w)
{
        for (int i = 0; i < w->n_started; i++) {
                scope_done(&w->slots[i].scope);
                pthread_mutex_destroy(&w->slots[i].lock);
                pthread_cond_destroy(&w->slots[i].answered);
        }
        free(w->slots);
        free(w);
}
