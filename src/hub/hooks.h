/*
 * Hooks of the store: what is kept in memory beside the database follows every transaction of it.
 * The domain's tables keep or forget what they cached, claims that wait are offered what became
 * ready, and subscribers hear that there is something newer, here and, over the bus, on other servers.
 */
#ifndef BATON_HUB_HOOKS_H
#define BATON_HUB_HOOKS_H

#include "domain/domain.h"
#include "domain/waiting.h"
#include "hub/bus.h"
#include "hub/copies.h"
#include "hub/hub.h"
#include "store/store.h"

struct hooks {
        struct domain *domain;
        struct waiting *waiting;
        struct hub *hub;
        struct bus *bus; /* NULL = there are no other servers */
        struct copies *copies; /* NULL = there is no Redis */
        struct store **store;
        int64_t waiting_seen; /* boot clock: when the waiting claims were looked through */
        struct scope refresh_scope;
        struct call refresh; /* a transaction without an operation */
        bool refreshing;
        void (*keys_changed)(void *keys); /* after a commit that changed a key; NULL = nobody asks */
        void *keys;
        void (*webhooks_changed)(void *webhooks); /* likewise, a webhook or what it is to be sent */
        void *webhooks;
        void (*ask)(void *asker, struct claim_call *); /* a claim whose policy asks */
        void *asker;
};

/* Makes the three; *store need not be open yet. */
void hooks_open(struct hooks *, const struct world *, struct store **store);
/* After the store is closed. */
void hooks_close(struct hooks *);
/* From any thread: what another server told, as far as no thread needs to own it. */
void hooks_heard(struct hooks *, const struct hint *);
/* The context, the hooks and the tick of a store's options. */
void hooks_set(struct hooks *, struct store_options *);
/* The tick itself, for who wraps it. */
enum err hooks_tick(void *hooks, struct tx *) NODISCARD;

#endif
