#include "store/store.h"

#include <semaphore.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "store/migrate.h"
#include "store/reserve.h"
#include "store/writer.h"

enum { QUEUE_MAX = 20000 };

/* Not what a lease-holder or an operator asks: it would cost a lease, or stop no one. */
static const bool class_sheds[CALL_CLASSES] = { [CALL_CLAIM] = true, [CALL_CREATE] = true,
                                                [CALL_IDLE] = true };

int64_t store_boot_now(const struct store *store)
{
        const struct clock *clock = store->options.world->clock;

        return clock->boot(clock->ctx);
}

bool store_submit(struct store *store, struct call *call)
{
        bool reads = call->reads && store->n_readers, fits;
        struct queue *q = reads ? &store->read_queue : &store->write_queue[call->class];

        call->queued_at = store_boot_now(store);
        call->woken = false;
        pthread_mutex_lock(&store->lock);
        fits = !store->stopping && q->n < QUEUE_MAX &&
               !queue_is_late(q, call->queued_at, QUEUE_ADMIT_US) && !failpoint_fails(FAILPOINT_QUEUE);
        if (fits)
                queue_push(q, call);
        if (fits && reads)
                pthread_cond_signal(&store->reader_ready);
        else if (fits && store->n_queued++ == 0)
                pthread_cond_signal(&store->writer_ready);
        pthread_mutex_unlock(&store->lock);
        return fits;
}

void store_resubmit(struct store *store, struct call *call)
{
        call->queued_at = store_boot_now(store);
        call->woken = true;
        pthread_mutex_lock(&store->lock);
        queue_push_front(&store->write_queue[call->class], call);
        store->n_queued++;
        pthread_cond_signal(&store->writer_ready);
        pthread_mutex_unlock(&store->lock);
}

void store_wake(struct store *store)
{
        pthread_mutex_lock(&store->lock);
        store->wake = true;
        pthread_cond_signal(&store->writer_ready);
        pthread_mutex_unlock(&store->lock);
}

/* A semaphore and not a condition: the writer wakes up to 64 of these after a commit, and none of
 * them then waits for a lock that it still holds. */
struct blocking {
        struct call call;
        struct call *inner;
        sem_t ended;
};

static enum err blocking_run(struct call *call, struct tx *tx)
{
        struct blocking *b = (struct blocking *)call;
        enum err e = b->inner->run(b->inner, tx);

        call->keep = b->inner->keep;
        return e;
}

static void blocking_done(struct call *call)
{
        sem_post(&((struct blocking *)call)->ended);
}

enum err store_call(struct store *store, struct call *call)
{
        struct blocking b = { .call = *call, .inner = call };

        sem_init(&b.ended, 0, 0);
        b.call.run = blocking_run;
        b.call.done = blocking_done;
        if (!store_submit(store, &b.call))
                return call->result = fail(call->scope, ERR_OVERLOADED,
                                           "the store's queue is full; try again");
        while (sem_wait(&b.ended)) /* a signal */
                ;
        sem_destroy(&b.ended);
        call->result = b.call.result;
        return call->result;
}

/* ---- hints ---- */

void tx_hint(struct tx *tx, enum hint_kind kind, int64_t key, int64_t value)
{
        if (tx->n_hints == tx->size_hints) {
                tx->size_hints = tx->size_hints ? tx->size_hints * 2 : 64;
                tx->hints = xrealloc(tx->hints, tx->size_hints * sizeof(*tx->hints));
        }
        tx->hints[tx->n_hints++] = (struct hint){ kind, key, value };
}

void tx_tick_again(struct tx *tx, enum tick_again when)
{
        if (when > tx->again)
                tx->again = when;
}

bool tx_may_rest(const struct tx *tx)
{
        return tx->quiet && !tx->writes;
}

void tx_tick_rest(struct tx *tx, int64_t us)
{
        tx->rest = us;
}

bool tx_disk_is_full(const struct tx *tx)
{
        return tx->full;
}

struct scope *tx_scope(struct tx *tx)
{
        return tx->scope;
}

int64_t tx_now(struct tx *tx)
{
        return tx->scope->now;
}

void *tx_context(struct tx *tx)
{
        return tx->context;
}

/* ---- readers ---- */

static void reader_serve(struct store *store, struct engine *engine, struct call *call)
{
        struct tx tx = { .engine = engine,
                         .names = store->names,
                         .scope = call->scope,
                         .context = store->options.context };

        call->scope->now = store->options.world->clock->wall(store->options.world->clock->ctx) + store->ahead;
        call->result = failpoint(call->scope, FAILPOINT_READ);
        if (!call->result)
                call->result = engine_begin(call->scope, engine);
        if (!call->result)
                call->result = call->run(call, &tx);
        if (engine_failure(engine)) /* whatever the call made of it */
                call->result = fail(call->scope, ERR_UNAVAILABLE,
                                    "the database could not be read; try again");
        engine_rollback(engine); /* nothing was written: ends the snapshot */
        free(tx.hints);
        call->done(call);
}

static struct call *reader_wait(struct store *store)
{
        struct call *call;

        pthread_mutex_lock(&store->lock);
        while (!store->read_queue.first && !store->stopping)
                pthread_cond_wait(&store->reader_ready, &store->lock);
        call = queue_pop(&store->read_queue);
        store->read_queue.turns++;
        pthread_mutex_unlock(&store->lock);
        return call;
}

static void *reader_main(void *arg)
{
        struct reader *reader = arg;
        struct call *call;

        while ((call = reader_wait(reader->store)))
                reader_serve(reader->store, reader->engine, call);
        return NULL;
}

static enum err reader_start(struct scope *scope, struct store *store)
{
        struct reader *reader = &store->readers[store->n_readers];
        enum err e = engine_open(scope, store->options.path, ENGINE_READER, store->registry,
                                 store->options.n_statements + STORE_STATEMENTS, &reader->engine);

        if (e)
                return e;
        reader->store = store;
        if (pthread_create(&reader->thread, NULL, reader_main, reader)) {
                engine_close(reader->engine);
                return fail(scope, ERR_UNAVAILABLE, "cannot start a reader thread");
        }
        pthread_setname_np(reader->thread, "reader");
        store->n_readers++;
        return ERR_OK;
}

/* ---- life ---- */

static void init_sync(struct store *store)
{
        pthread_condattr_t monotonic;

        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_mutex_init(&store->lock, NULL);
        pthread_cond_init(&store->writer_ready, &monotonic);
        pthread_cond_init(&store->reader_ready, NULL);
        pthread_condattr_destroy(&monotonic);
        for (int i = 0; i < CALL_CLASSES; i++)
                queue_init(&store->write_queue[i], class_sheds[i]);
        queue_init(&store->read_queue, true);
}

enum err store_open(struct scope *scope, const struct store_options *options, struct store **out)
{
        struct store *store = xcalloc(1, sizeof(*store));
        int own = (int)options->n_statements;
        enum err e;

        BUG_ON(sodium_init() < 0);
        store->options = *options;
        store->names = names_new();
        store->ids.server = options->server;
        store->healthy = true;
        init_sync(store);
        store->registry = registry_build(options->statements, options->n_statements);
        if (options->reserve)
                reserve_give(options->reserve); /* opening may need it; store_start() takes it again */
        scope_init(&store->scope, options->world);
        e = engine_open(scope, options->path, ENGINE_WRITER, store->registry,
                        options->n_statements + STORE_STATEMENTS, &store->writer);
        if (e) {
                store_close(store);
                return e;
        }
        store->writer->kept = options->kept_tables;
        store->tx = (struct tx){ .engine = store->writer,
                                 .names = store->names,
                                 .scope = scope,
                                 .context = options->context,
                                 .writing = true };
        e = migrate(&store->tx, own, options->migrations, options->n_migrations);
        if (!e)
                e = names_load(&store->tx, own);
        if (e) {
                store_close(store);
                return e;
        }
        *out = store;
        return ERR_OK;
}

void store_close(struct store *store)
{
        if (store->writer) {
                engine_checkpoint(&store->scope, store->writer, true);
                engine_close(store->writer);
        }
        names_free(store->names);
        free(store->tx.hints);
        free(store->registry);
        scope_done(&store->scope);
        free(store);
}

enum err store_run(struct store *store, struct scope *scope, enum err (*run)(struct tx *, void *),
                   void *arg)
{
        enum err e = writer_begin(store, scope);

        if (!e)
                e = run(&store->tx, arg);
        if (!e)
                e = engine_commit(scope, store->writer);
        if (e) {
                engine_rollback(store->writer);
                writer_forget(store);
        }
        names_publish(store->names);
        store->tx.n_hints = 0;
        scope->ids = NULL;
        return e;
}

enum err store_read(struct scope *scope, const char *path, const struct statement *statements,
                    size_t n, enum err (*run)(struct tx *, void *), void *arg)
{
        struct statement *registry = registry_build(statements, n);
        struct tx tx = { .scope = scope };
        enum err e = engine_open(scope, path, ENGINE_READER, registry, n + STORE_STATEMENTS, &tx.engine);

        if (e) {
                free(registry);
                return e;
        }
        tx.names = names_new();
        e = engine_begin(scope, tx.engine);
        if (!e)
                e = run(&tx, arg);
        if (!e)
                e = engine_failure(tx.engine);
        engine_rollback(tx.engine);
        engine_close(tx.engine);
        names_free(tx.names);
        free(tx.hints);
        free(registry);
        return e;
}

static void readers_stop(struct store *store)
{
        pthread_mutex_lock(&store->lock);
        store->stopping = true;
        pthread_cond_broadcast(&store->reader_ready);
        pthread_mutex_unlock(&store->lock);
        for (int i = 0; i < store->n_readers; i++) {
                pthread_join(store->readers[i].thread, NULL);
                engine_close(store->readers[i].engine);
        }
}

enum err store_start(struct scope *scope, struct store *store)
{
        enum err e = ERR_OK;

        if (store->options.reserve && !reserve_take(store->options.reserve)) {
                store->full = true;
                store->healthy = false;
                log_write(LOG_WARN, "disk_full", "then", "what would make it grow is refused", NULL);
        }
        if (pthread_create(&store->writer_thread, NULL, writer_main, store))
                return fail(scope, ERR_UNAVAILABLE, "cannot start the writer thread");
        pthread_setname_np(store->writer_thread, "writer");
        /* The writer has inherited it; this thread and the readers are as all others again. */
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + store->options.boost);
        while (!e && store->n_readers < store->options.readers && store->n_readers < READERS_MAX)
                e = reader_start(scope, store);
        if (e)
                store_stop(store);
        return e;
}

void store_stop(struct store *store)
{
        pthread_mutex_lock(&store->lock);
        store->stopping = true;
        pthread_cond_broadcast(&store->writer_ready);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->writer_thread, NULL);
        readers_stop(store);
}

void store_stats(struct store *store, struct store_stats *out)
{
        pthread_mutex_lock(&store->lock);
        *out = (struct store_stats){ .queued = (int64_t)store->n_queued };
        pthread_mutex_unlock(&store->lock);
        out->commits = store->commits;
        out->calls = store->calls;
        out->refused = store->refused;
        for (size_t i = 0; i < LENGTH(out->turns); i++)
                out->turns[i] = store->turns[i];
        out->turns_us = store->turns_us;
        out->healthy = store->healthy;
}
