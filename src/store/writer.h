/*
 * What a store is made of, and its writer; of this room alone.  The writer's thread has everything to
 * itself but the queues, for which it takes the lock.
 */
#ifndef BATON_STORE_WRITER_H
#define BATON_STORE_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/engine.h"
#include "store/queue.h"
#include "store/store.h"

enum { READERS_MAX = 8 };

struct reader {
        struct store *store;
        struct engine *engine;
        pthread_t thread;
};

struct store {
        struct store_options options;
        struct statement *registry;
        struct names_table *names;
        struct engine *writer;
        struct tx tx;       /* the writer's */
        struct scope scope; /* of begin, commit and tick */
        struct idgen ids;
        bool broken; /* a commit failed: nothing is acknowledged before the file was reopened */
        bool full;   /* the reserve is given away: nothing is taken on that makes the file grow */
        enum err trouble; /* what broke it */
        _Atomic int64_t ahead; /* of this machine's clock, the database's; 0 where they are one */
        int64_t next_tick, last_served, next_mend;
        enum tick_again again; /* committed */
        int64_t rest_until, next_look; /* the tick need not come before */

        pthread_mutex_t lock;
        pthread_cond_t writer_ready, reader_ready;
        struct queue write_queue[CALL_CLASSES], read_queue;
        size_t n_queued; /* for the writer, in all classes */
        bool wake, stopping;
        pthread_t writer_thread;
        struct reader readers[READERS_MAX];
        int n_readers;
        _Atomic int64_t commits, calls, refused;
        _Atomic int64_t turns[TURN_BOUNDS + 1], turns_us;
        _Atomic bool healthy;
};

int64_t store_boot_now(const struct store *);
/* Begins a transaction, in this server's turn, at scope->now. */
enum err writer_begin(struct store *, struct scope *) NODISCARD;
/* What the writer's open transaction said besides its rows is forgotten with it. */
void writer_forget(struct store *);
/* The body of the writer's thread: writer_turn() whenever there is something to do. */
void *writer_main(void *store);

#endif
