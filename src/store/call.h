/*
 * struct call: one operation on its way through a store thread.  The caller owns the memory until
 * `done` is called, which happens once, on a store thread, after COMMIT (or after the refusal is
 * certain); nothing may be acknowledged before.
 */
#ifndef BATON_STORE_CALL_H
#define BATON_STORE_CALL_H

#include "store/tx.h"

/* Order in which a loaded server serves: what frees leases first, what adds work last. */
enum call_class { CALL_LEASE, CALL_CANCEL, CALL_CLAIM, CALL_CREATE, CALL_IDLE, CALL_CLASSES };

struct call {
        struct call *next;
        enum call_class class;
        bool reads; /* runs on a reader in a snapshot */
        int64_t queued_at, queued_turn; /* the store's: boot clock, turn of the queue */
        bool woken; /* the store's: had been parked */
        /* May run more than once before it is committed: it must derive everything from the
         * arguments and the rows. */
        enum err (*run)(struct call *, struct tx *);
        void (*done)(struct call *);
        struct scope *scope;
        enum err result;
        bool keep;   /* set by run: commit what was written although the result is a refusal */
        bool parked; /* set by run: nothing to give yet; kept by the store's park hook */
        bool again;  /* the store's own: was tried once more in the space of the reserve */
        /* What run is likely to read: for all calls of a batch together where a query costs a round trip. */
        struct likely likely[LIKELY_MAX];
};

#endif
