#include "domain/waiting.h"

#include <stdlib.h>

#include "core/failpoint.h"
#include "domain/domain.h"

struct waiting {
        struct store **store;
        struct domain *domain;
        struct claim_call *first, **last;
        _Atomic int64_t n;
};

struct waiting *waiting_new(struct store **store, struct domain *domain)
{
        struct waiting *w = xcalloc(1, sizeof(*w));

        w->store = store;
        w->domain = domain;
        w->last = &w->first;
        return w;
}

void waiting_free(struct waiting *w)
{
        free(w);
}

void waiting_park(struct waiting *w, struct claim_call *c)
{
        failpoint_pass(FAILPOINT_CLAIM_PARKED);
        c->woken_by = 0;
        c->next = NULL;
        c->link = w->last;
        *w->last = c;
        w->last = &c->next;
        w->n++;
}

static void leave(struct waiting *w, struct claim_call *c)
{
        failpoint_pass(FAILPOINT_CLAIM_WOKEN);
        *c->link = c->next;
        if (c->next)
                c->next->link = c->link;
        else
                w->last = c->link;
        w->n--;
        store_resubmit(*w->store, &c->call);
}

static bool took_from(const struct list *claims, int64_t lane)
{
        const struct claim *claim = claims->items;

        for (size_t i = 0; i < claims->n; i++)
                if (claim[i].run->lane == lane)
                        return true;
        return false;
}

enum err waiting_claim(struct tx *tx, const struct principal *by, struct claim_call *c,
                       struct list *out)
{
        const struct clock *clock = tx_scope(tx)->world->clock;
        bool gone = c->gone;
        enum err e = gone ? ERR_EMPTY : claim_next(tx, by, &c->request, out);

        c->call.keep = e == ERR_EMPTY; /* it may have met runs of a canceled tree, and ended them */
        if (e == ERR_EMPTY && !gone)
                c->call.parked = clock->boot(clock->ctx) < c->wait_until;
        else if (c->woken_by && (e || !took_from(out, c->woken_by)))
                tx_hint(tx, HINT_LANE, c->woken_by, 0);
        return e;
}

bool waiting_lane(struct waiting *w, int64_t id)
{
        const struct lane *lane = lane_get(w->domain->lanes, id);

        if (w->domain->now.paused) /* all look again when it is resumed */
                return false;
        for (struct claim_call *c = w->first, *next; lane && c; c = next) {
                next = c->next;
                if (c->n_trees || !lane_allows(lane, &c->request.criteria))
                        continue;
                c->woken_by = c->gone ? 0 : id;
                leave(w, c);
                if (c->woken_by)
                        return true;
        }
        return false;
}

static bool waits_for(const struct claim_call *c, int64_t tree)
{
        for (size_t i = 0; i < c->n_trees; i++)
                if (c->trees[i] == tree)
                        return true;
        return false;
}

void waiting_tree(struct waiting *w, int64_t tree)
{
        for (struct claim_call *c = w->first, *next; c; c = next) {
                next = c->next;
                if (waits_for(c, tree))
                        leave(w, c);
        }
}

/* Each goes back to the front of the store's queue: the last in line first, so that they stay in line. */
void waiting_again(struct waiting *w)
{
        struct claim_call *backwards = NULL;

        for (struct claim_call *c = w->first, *next; c; c = next) {
                next = c->next;
                c->next = backwards;
                backwards = c;
        }
        w->first = NULL;
        w->last = &w->first;
        w->n = 0;
        for (struct claim_call *c = backwards, *next; c; c = next) {
                next = c->next;
                failpoint_pass(FAILPOINT_CLAIM_WOKEN);
                store_resubmit(*w->store, &c->call);
        }
}

void waiting_tick(struct waiting *w, int64_t boot_now)
{
        for (struct claim_call *c = w->first, *next; c; c = next) {
                next = c->next;
                if (c->wait_until <= boot_now || c->gone)
                        leave(w, c);
        }
}

int64_t waiting_count(const struct waiting *w)
{
        return w->n;
}
