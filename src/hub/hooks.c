#include "hub/hooks.h"

enum { TICK_MS = 250 };

void hooks_open(struct hooks *h, const struct world *world, struct store **store)
{
        h->store = store;
        h->domain = domain_new(world);
        h->waiting = waiting_new(store, h->domain);
        h->hub = hub_new();
        scope_init(&h->refresh_scope, world);
}

void hooks_close(struct hooks *h)
{
        scope_done(&h->refresh_scope);
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

/* ---- what was told, here or by another server ---- */

/* What is for those who wait, but for a lane's runs: by the thread that owns them. */
static void tell_waiting(struct hooks *h, const struct hint *hint)
{
        if (hint->kind == HINT_TREE)
                waiting_tree(h->waiting, hint->key);
        else if (hint->kind == HINT_RESUMED || hint->kind == HINT_EVERYTHING)
                waiting_again(h->waiting);
}

void hooks_heard(struct hooks *h, const struct hint *hint)
{
        bool all = hint->kind == HINT_EVERYTHING;

        if (hint->kind == HINT_TREE)
                hub_publish(h->hub, hint->key);
        if (all)
                hub_publish_all(h->hub);
        if ((all || hint->kind == HINT_TREE) && h->copies)
                copies_wake(h->copies);
        if ((all || hint->kind == HINT_KEYS) && h->keys_changed)
                h->keys_changed(h->keys);
        if ((all || hint->kind == HINT_WEBHOOKS) && h->webhooks_changed)
                h->webhooks_changed(h->webhooks);
}

/* A run that one who waits here is woken for is no news to the other servers. */
static void committed(void *context, const struct hint *hints, size_t n)
{
        struct hooks *h = context;

        domain_committed(h->domain);
        for (size_t i = 0; i < n; i++) {
                bool used = hints[i].kind == HINT_NONE || (hints[i].kind == HINT_LANE &&
                                                           waiting_lane(h->waiting, hints[i].key));

                hooks_heard(h, &hints[i]);
                tell_waiting(h, &hints[i]);
                if (h->bus && !used)
                        bus_tell(h->bus, &hints[i]);
        }
}

/* ---- what other servers told ---- */

static enum err look_only(struct call *call, struct tx *tx)
{
        (void)call;
        (void)tx;
        return ERR_OK;
}

static void refreshed(struct call *call)
{
        struct hooks *h = (struct hooks *)(void *)((char *)call - offsetof(struct hooks, refresh));

        h->refreshing = false;
}

/* A lane that another server has made is known after the next transaction, which may be this one. */
static void refresh(struct hooks *h)
{
        if (h->refreshing)
                return;
        scope_reset(&h->refresh_scope);
        h->refresh = (struct call){ .run = look_only, .done = refreshed, .class = CALL_CLAIM,
                                    .scope = &h->refresh_scope };
        h->refreshing = store_submit(*h->store, &h->refresh);
}

/* As many runs, as many of those who wait.  A lane that is not known is heard of once more, with a number
 * below 0. */
static void hear_lane(struct hooks *h, const struct hint *hint)
{
        int64_t left = hint->value < 0 ? -hint->value : hint->value;

        if (lane_get(h->domain->lanes, hint->key)) {
                while (left-- > 0 && waiting_lane(h->waiting, hint->key))
                        ;
        } else if (hint->value > 0) {
                bus_hear_again(h->bus, &(struct hint){ HINT_LANE, hint->key, -hint->value });
                refresh(h);
        }
}

static void turned(void *context)
{
        struct hooks *h = context;
        const struct clock *clock = h->domain->world->clock;
        const struct hint_set *set = h->bus ? bus_heard(h->bus) : NULL;
        int64_t now = clock->boot(clock->ctx);

        if (now - h->waiting_seen >= TICK_MS * US_PER_MS) {
                h->waiting_seen = now;
                waiting_tick(h->waiting, now);
        }

        for (size_t i = 0; set && i < set->n && waiting_count(h->waiting); i++) {
                if (set->hints[i].kind == HINT_LANE)
                        hear_lane(h, &set->hints[i]);
                else
                        tell_waiting(h, &set->hints[i]);
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

/* Who reads or waits hears of it by the bus, or by its look. */
static enum err others(void *hooks, struct tx *tx, bool stale)
{
        struct hooks *h = hooks;

        if (h->bus)
                bus_doubt(h->bus);
        if (stale && h->keys_changed)
                h->keys_changed(h->keys);
        return domain_others(h->domain, tx, stale);
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
        return domain_tick(((struct hooks *)hooks)->domain, tx);
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
        o->kept_tables = domain_kept_tables;
        o->mended = mended;
        o->park = park;
        o->tick = hooks_tick;
        o->turned = turned;
        o->tick_ms = TICK_MS;
}
