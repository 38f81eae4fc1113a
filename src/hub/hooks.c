#include "hub/hooks.h"

enum { TICK_MS = 250 };

void hooks_open(struct hooks *h, const struct world *world, struct store **store)
{
        h->domain = domain_new(world);
        h->waiting = waiting_new(store, h->domain);
        h->hub = hub_new();
}

void hooks_close(struct hooks *h)
{
        hub_free(h->hub);
        waiting_free(h->waiting);
        domain_free(h->domain);
}

/* One run, one waiter.  Where there is none, one may be among the calls that are parked after the
 * commit. */
static void ready(void *context, struct hint *hints, size_t n)
{
        struct hooks *h = context;

        for (size_t i = 0; i < n; i++)
                if (hints[i].kind == HINT_LANE && waiting_lane(h->waiting, hints[i].key))
                        hints[i].kind = HINT_NONE;
}

static void committed(void *context, const struct hint *hints, size_t n)
{
        struct hooks *h = context;

        domain_committed(h->domain);
        for (size_t i = 0; i < n; i++) {
                if (hints[i].kind == HINT_TREE) {
                        hub_publish(h->hub, hints[i].key);
                        waiting_tree(h->waiting, hints[i].key);
                } else if (hints[i].kind == HINT_LANE) {
                        waiting_lane(h->waiting, hints[i].key);
                } else if (hints[i].kind == HINT_RESUMED) {
                        waiting_again(h->waiting);
                } else if (hints[i].kind == HINT_KEYS && h->keys_changed) {
                        h->keys_changed(h->keys);
                } else if (hints[i].kind == HINT_WEBHOOKS && h->webhooks_changed) {
                        h->webhooks_changed(h->webhooks);
                }
        }
}

static void kept(void *hooks)
{
        domain_kept(((struct hooks *)hooks)->domain);
}

static void rolled_back(void *hooks, bool whole)
{
        domain_rolled_back(((struct hooks *)hooks)->domain, whole);
}

static void turn(void *hooks, int64_t now)
{
        domain_turn(((struct hooks *)hooks)->domain, now);
}

/* Keys are looked up again at once; who waits looks again with the next tick, however often others write. */
static enum err others(void *hooks, struct tx *tx)
{
        struct hooks *h = hooks;
        bool ready;
        enum err e = domain_others(h->domain, tx, &ready);

        h->others = true;
        h->ready |= ready;
        if (h->keys_changed)
                h->keys_changed(h->keys);
        return e;
}

static void look_again(struct hooks *h)
{
        if (!h->others)
                return;
        h->others = false;
        hub_publish_all(h->hub);
        if (h->ready)
                waiting_again(h->waiting);
        h->ready = false;
        if (h->webhooks_changed)
                h->webhooks_changed(h->webhooks);
}

static void mended(void *hooks)
{
        waiting_again(((struct hooks *)hooks)->waiting);
}

static void park(void *hooks, struct call *call)
{
        struct hooks *h = hooks;
        struct claim_call *c = (struct claim_call *)call;

        if (c->policy.state == POLICY_ASKS)
                h->ask(h->asker, c);
        else
                waiting_park(h->waiting, c);
}

enum err hooks_tick(void *hooks, struct tx *tx)
{
        struct hooks *h = hooks;
        const struct clock *clock = h->domain->world->clock;

        waiting_tick(h->waiting, clock->boot(clock->ctx));
        look_again(h);
        return domain_tick(h->domain, tx);
}

void hooks_set(struct hooks *h, struct store_options *o)
{
        o->context = h->domain; /* operations see only the domain */
        o->hooks = h;
        o->ready = ready;
        o->committed = committed;
        o->kept = kept;
        o->rolled_back = rolled_back;
        o->turn = turn;
        o->others = others;
        o->mended = mended;
        o->park = park;
        o->tick = hooks_tick;
        o->tick_ms = TICK_MS;
}
