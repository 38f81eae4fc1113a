#include "store/store.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "store/migrate.h"
#include "store/reserve.h"

enum {
        BATCH_CALLS = 256,
        BACKLOG = 64, /* calls that may wait however long the disk takes */
        QUEUE_MAX = 20000,
        READERS_MAX = 8,
        CHECKPOINT_BYTES = 8 << 20,
        IDLE_CHECKPOINT_BYTES = 64 << 10, /* more than the ticks of some seconds */
};
#define BATCH_US (20 * US_PER_MS) /* a batch that took longer goes on after its commit */
#define IDLE_CHECKPOINT_US (500 * US_PER_MS)
#define MEND_EVERY_US (250 * US_PER_MS)

/*
 * What waits, oldest first.  `sheds`: once more than BACKLOG wait, a call is refused on arrival
 * while the oldest has waited for ADMIT_US; on the writer also instead of being served, when it
 * itself has waited for PATIENCE_US.  So those who are served under overload are served while they still listen.
 */
struct queue {
        struct call *first, **last;
        size_t n;
        bool sheds;
        int64_t turns; /* how often calls were taken from it */
};
#define ADMIT_US (500 * US_PER_MS)
#define PATIENCE_US (1 * US_PER_S)

/* Not what a lease-holder or an operator asks: it would cost a lease, or stop no one. */
static const bool class_sheds[CALL_CLASSES] = { [CALL_CLAIM] = true, [CALL_CREATE] = true,
                                                [CALL_IDLE] = true };

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
        int64_t next_tick, last_served, next_mend;

        pthread_mutex_t lock;
        pthread_cond_t writer_ready, reader_ready;
        struct queue write_queue[CALL_CLASSES], read_queue;
        size_t n_queued; /* for the writer, in all classes */
        bool wake, stopping;
        pthread_t writer_thread;
        struct reader readers[READERS_MAX];
        int n_readers;
        _Atomic int64_t commits, calls, refused, last_batch;
        _Atomic bool healthy;
};

/* ---- queues ---- */

static void queue_init(struct queue *q, bool sheds)
{
        *q = (struct queue){ .last = &q->first, .sheds = sheds };
}

static void queue_push(struct queue *q, struct call *call)
{
        call->next = NULL;
        call->queued_turn = q->turns;
        *q->last = call;
        q->last = &call->next;
        q->n++;
}

static void queue_push_front(struct queue *q, struct call *call)
{
        call->next = q->first;
        if (!q->first)
                q->last = &call->next;
        q->first = call;
        q->n++;
}

static struct call *queue_pop(struct queue *q)
{
        struct call *call = q->first;

        if (call) {
                q->first = call->next;
                if (!q->first)
                        q->last = &q->first;
                q->n--;
        }
        return call;
}

/* Whether the oldest has waited for longer than this, and was passed over: a disk that stalls makes
 * everybody old, and is no overload. */
static bool queue_is_late(const struct queue *q, int64_t now, int64_t most)
{
        return q->sheds && q->n > BACKLOG && q->turns - q->first->queued_turn > 2 && now - q->first->queued_at > most;
}

static int64_t boot_now(const struct store *store)
{
        const struct clock *clock = store->options.world->clock;

        return clock->boot(clock->ctx);
}

bool store_submit(struct store *store, struct call *call)
{
        bool reads = call->reads && store->n_readers, fits;
        struct queue *q = reads ? &store->read_queue : &store->write_queue[call->class];

        call->queued_at = boot_now(store);
        pthread_mutex_lock(&store->lock);
        fits = !store->stopping && q->n < QUEUE_MAX &&
               !queue_is_late(q, call->queued_at, ADMIT_US) && !failpoint_fails(FAILPOINT_QUEUE);
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
        call->queued_at = boot_now(store);
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

struct waiting_call {
        struct call *call;
        void (*done)(struct call *);
        pthread_mutex_t lock;
        pthread_cond_t ended;
        bool over;
};

/* A blocking call is embedded in a frame that its done() can find: the scope's arena. */
struct blocking {
        struct call call;
        struct call *inner;
        struct waiting_call *waiting;
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
        struct waiting_call *w = ((struct blocking *)call)->waiting;

        pthread_mutex_lock(&w->lock);
        w->over = true;
        pthread_cond_signal(&w->ended);
        pthread_mutex_unlock(&w->lock);
}

enum err store_call(struct store *store, struct call *call)
{
        struct waiting_call w = { .lock = PTHREAD_MUTEX_INITIALIZER,
                                  .ended = PTHREAD_COND_INITIALIZER };
        struct blocking b = { .call = *call, .inner = call, .waiting = &w };

        b.call.run = blocking_run;
        b.call.done = blocking_done;
        if (!store_submit(store, &b.call))
                return call->result = fail(call->scope, ERR_OVERLOADED,
                                           "the store's queue is full; try again");
        pthread_mutex_lock(&w.lock);
        while (!w.over)
                pthread_cond_wait(&w.ended, &w.lock);
        pthread_mutex_unlock(&w.lock);
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

/* ---- the writer ---- */

static void forget(struct store *store)
{
        store->tx.n_hints = 0;
        names_forget(store->names, 0);
        if (store->options.rolled_back)
                store->options.rolled_back(store->options.hooks, true);
}

/* One call inside the open transaction. */
static void call_run(struct store *store, struct call *call, int64_t now)
{
        struct tx *tx = &store->tx;

        call->scope->now = now;
        call->scope->ids = &store->ids;
        call->scope->fault = (struct fault){ 0 };
        call->keep = call->parked = false;
        tx->scope = call->scope;
        tx->writes = 0;
        call->result = call->run(call, tx);
        if (!call->result)
                call->result = tx_flush(tx);
        if (!call->result && tx->writes)
                call->result = failpoint(call->scope, FAILPOINT_OPERATION_DONE);
        call->scope->ids = NULL;
}

static bool must_roll_back(const struct store *store, const struct call *call)
{
        return call->result && !call->keep && store->tx.writes > 0;
}

/* The same call, with a savepoint that undoes it alone. */
static enum err call_run_guarded(struct store *store, struct call *call, int64_t now)
{
        size_t hints = store->tx.n_hints, names = names_pending(store->names);
        enum err e = engine_savepoint(&store->scope, store->writer);

        if (e)
                return e;
        call_run(store, call, now);
        e = engine_failure(store->writer);
        if (!e && !must_roll_back(store, call)) {
                if (store->options.kept)
                        store->options.kept(store->options.hooks);
                return engine_release(&store->scope, store->writer);
        }
        if (!e)
                e = engine_rollback_to(&store->scope, store->writer);
        store->tx.n_hints = hints;
        names_forget(store->names, names);
        if (store->options.rolled_back)
                store->options.rolled_back(store->options.hooks, false);
        return e;
}

enum batch_end { BATCH_DONE, BATCH_AGAIN, BATCH_BROKEN };

/* Whether the batch may end before this call: never before one of a lease-holder or the tick. */
static bool may_wait(const struct store *store, const struct call *call, int64_t began)
{
        return call->class != CALL_LEASE && boot_now(store) - began > BATCH_US;
}

/*
 * Runs the batch without savepoints in the hope that none is needed; one call that wrote and then
 * failed makes the whole batch run again with them.  What would make it last too long waits for the
 * next one: *n says how many were run.
 */
static enum batch_end batch_run(struct store *store, struct call **batch, size_t *n, int64_t now,
                                bool guarded)
{
        int64_t began = boot_now(store);

        if (engine_begin(&store->scope, store->writer))
                return BATCH_BROKEN;
        for (size_t i = 0; i < *n; i++) {
                if (i && may_wait(store, batch[i], began)) {
                        *n = i;
                        break;
                }
                if (guarded) {
                        if (call_run_guarded(store, batch[i], now))
                                return BATCH_BROKEN;
                        continue;
                }
                call_run(store, batch[i], now);
                if (engine_failure(store->writer)) { /* whatever the call made of it */
                        store->scope.fault = batch[i]->scope->fault; /* for the log */
                        return BATCH_BROKEN;
                }
                if (must_roll_back(store, batch[i]))
                        return BATCH_AGAIN;
        }
        return engine_commit(&store->scope, store->writer) ? BATCH_BROKEN : BATCH_DONE;
}

/* ---- when the storage fails ---- */

/*
 * A commit or a checkpoint has failed.  A full disk gives up the reserve: what frees leases and
 * cancels goes on in its space, what would make the file grow is refused until it is held again.
 */
static void broke(struct store *store, enum err trouble, const char *what)
{
        store->broken = true;
        store->healthy = false;
        store->trouble = trouble;
        store->next_mend = 0;
        if (trouble == ERR_STORAGE_FULL && store->options.reserve) {
                reserve_give(store->options.reserve);
                store->full = true;
        }
        log_write(LOG_ERROR, what, "detail",
                  str_c(&store->scope.arena, store->scope.fault.detail), NULL);
}

/* After a failed commit nothing is known of the file: open it again and empty its log. */
static void reopen(struct store *store)
{
        struct engine *fresh = NULL;
        size_t n = store->options.n_statements + STORE_STATEMENTS;
        enum err e = engine_open(&store->scope, store->options.path, ENGINE_WRITER, store->registry,
                                 n, &fresh);

        if (!e)
                e = failpoint(&store->scope, FAILPOINT_REOPEN);
        if (!e)
                e = engine_checkpoint(&store->scope, fresh, true);
        if (!e)
                e = engine_prepare_all(&store->scope, fresh);
        if (e) {
                if (fresh)
                        engine_close(fresh);
                broke(store, e, "store_broken");
                return;
        }
        engine_close(store->writer);
        store->writer = store->tx.engine = fresh;
        store->broken = false;
        log_write(LOG_WARN, "store_reopened", NULL);
}

/* Tries, now and then, to get back what was lost: the file, then the reserve. */
static void mend(struct store *store)
{
        int64_t now = boot_now(store);

        if ((!store->broken && !store->full) || now < store->next_mend)
                return;
        if (store->broken)
                reopen(store);
        else if (reserve_take(store->options.reserve)) {
                store->full = false;
                log_write(LOG_WARN, "disk_has_room", NULL);
        }
        store->healthy = !store->broken && !store->full;
        store->next_mend = now + MEND_EVERY_US;
        if (store->healthy && store->options.mended)
                store->options.mended(store->options.hooks);
}

static void call_refuse(struct call *call, enum err trouble)
{
        call->result = fail(call->scope, trouble,
                            trouble == ERR_STORAGE_FULL ?
                                    "the disk that holds the database is full; free space and try again" :
                                    "the database could not commit; it is being opened again");
        call->scope->fault.retry_after = 1;
        call->parked = false;
}

/* What ends work, and the tick, may use the space of the reserve. */
static bool ends_work(const struct call *call)
{
        return call->class == CALL_LEASE || call->class == CALL_CANCEL;
}

static void batch_finish(struct store *store, struct call **batch, size_t n)
{
        struct store_options *o = &store->options;

        for (size_t i = 0; i < n; i++) {
                struct call *call = batch[i];

                if (call->result)
                        store->refused++;
                if (call->parked && o->park)
                        o->park(o->hooks, call);
                else
                        call->done(call);
        }
}

/* Nothing of the batch has happened.  What may use the reserve that was given up just now is tried
 * again in its space; the rest is refused. */
static void batch_fail(struct store *store, struct call **batch, size_t n)
{
        enum err trouble = engine_failure(store->writer);
        bool had_reserve = store->options.reserve && !store->full;

        engine_rollback(store->writer);
        forget(store);
        broke(store, trouble ? trouble : ERR_UNAVAILABLE, "commit_failed");
        while (n-- > 0) {
                if (had_reserve && store->full && ends_work(batch[n]) && !batch[n]->again) {
                        batch[n]->again = true;
                        store_resubmit(store, batch[n]);
                } else {
                        call_refuse(batch[n], store->trouble);
                        batch_finish(store, &batch[n], 1);
                }
        }
}

/* Refuses what cannot be served now and returns how many calls are left. */
static size_t batch_sift(struct store *store, struct call **batch, size_t n)
{
        size_t kept = 0;

        for (size_t i = 0; i < n; i++) {
                if (!store->broken && (!store->full || ends_work(batch[i]))) {
                        batch[kept++] = batch[i];
                        continue;
                }
                call_refuse(batch[i], store->broken ? store->trouble : ERR_STORAGE_FULL);
                batch_finish(store, &batch[i], 1);
        }
        return kept;
}

/* What was taken and not run waits where it stood. */
static void batch_put_back(struct store *store, struct call **batch, size_t n)
{
        if (!n)
                return;
        pthread_mutex_lock(&store->lock);
        for (size_t i = n; i-- > 0;)
                queue_push_front(&store->write_queue[batch[i]->class], batch[i]);
        store->n_queued += n;
        pthread_mutex_unlock(&store->lock);
}

/* How many of them were run. */
static size_t batch_serve(struct store *store, struct call **batch, size_t taken)
{
        int64_t now = store->scope.now;
        size_t n = taken;
        enum batch_end ended = batch_run(store, batch, &n, now, false);

        if (ended == BATCH_AGAIN) {
                engine_rollback(store->writer);
                forget(store);
                ended = batch_run(store, batch, &n, now, true);
        }
        if (ended == BATCH_BROKEN) {
                batch_fail(store, batch, taken);
                return taken;
        }
        failpoint_pass(FAILPOINT_AFTER_COMMIT);
        store->commits++;
        names_publish(store->names);
        batch_put_back(store, batch + n, taken - n);
        batch_finish(store, batch, n);
        failpoint_pass(FAILPOINT_CALLS_ANSWERED);
        if (store->options.committed)
                store->options.committed(store->options.hooks, store->tx.hints,
                                         store->tx.n_hints);
        store->tx.n_hints = 0;
        return n;
}

/*
 * The next calls, by class; the tick, if it is due, stands behind those of lease-holders: a heartbeat
 * in the queue counts.  *late becomes those that have waited too long to be served.
 */
static size_t batch_take(struct store *store, struct call *tick, struct call **batch,
                         struct call **late)
{
        size_t n = 0, most = BATCH_CALLS;
        int64_t now = boot_now(store);

        *late = NULL;
        pthread_mutex_lock(&store->lock);
        for (int class = 0; class < CALL_CLASSES; class ++) {
                struct queue *q = &store->write_queue[class];

                q->turns++;
                while (queue_is_late(q, now, PATIENCE_US)) {
                        struct call *call = queue_pop(q);

                        call->next = *late;
                        *late = call;
                        store->n_queued--;
                }
                while (n < most && q->first) {
                        batch[n++] = queue_pop(q);
                        store->n_queued--;
                }
                if (class == CALL_LEASE && tick) {
                        batch[n++] = tick;
                        most++;
                }
        }
        pthread_mutex_unlock(&store->lock);
        return n;
}

static void refuse_late(struct store *store, struct call *late)
{
        for (struct call *call = late, *next; call; call = next) {
                next = call->next;
                call->result = fail(call->scope, ERR_OVERLOADED,
                                    "the request waited too long for its turn; try again");
                store->refused++;
                call->done(call);
        }
}

struct tick_call {
        struct call call;
        struct store *store;
        struct scope scope;
};

static enum err tick_run(struct call *call, struct tx *tx)
{
        struct store *store = ((struct tick_call *)call)->store;
        enum err e = failpoint(call->scope, FAILPOINT_TICK);

        return e ? e : store->options.tick(store->options.hooks, tx);
}

static void tick_done(struct call *call)
{
        if (call->result)
                log_write(LOG_WARN, "tick_failed", "detail",
                          str_c(&call->scope->arena, call->scope->fault.detail), NULL);
}

static bool tick_due(struct store *store)
{
        int64_t now = boot_now(store);

        if (!store->options.tick || now < store->next_tick)
                return false;
        store->next_tick = now + store->options.tick_ms * US_PER_MS;
        return true;
}

static void checkpoint_if_due(struct store *store, bool idle)
{
        int64_t wal = engine_wal_bytes(store->writer);
        bool quiet = idle && boot_now(store) - store->last_served > IDLE_CHECKPOINT_US;
        enum err e;

        if (wal >= CHECKPOINT_BYTES || (quiet && wal >= IDLE_CHECKPOINT_BYTES))
                if ((e = engine_checkpoint(&store->scope, store->writer, false)))
                        broke(store, e, "checkpoint_failed");
}

bool writer_turn(struct store *store)
{
        struct call *batch[BATCH_CALLS + 1], *late;
        /* It is never put off, and never tried once more: the next one comes soon. */
        struct tick_call tick = { .call = { .run = tick_run,
                                            .done = tick_done,
                                            .class = CALL_LEASE,
                                            .again = true },
                                  .store = store };
        size_t taken, n, served;
        bool ticks;

        scope_reset(&store->scope);
        mend(store);
        ticks = tick_due(store) && !store->broken;
        if (ticks) {
                scope_init(&tick.scope, store->options.world);
                tick.call.scope = &tick.scope;
        }
        taken = batch_take(store, ticks ? &tick.call : NULL, batch, &late);
        if (taken > ticks)
                failpoint_pass(FAILPOINT_BATCH_TAKEN);
        refuse_late(store, late);
        n = batch_sift(store, batch, taken);
        served = taken - n + (n ? batch_serve(store, batch, n) : 0) - ticks;
        if (ticks)
                scope_done(&tick.scope);
        if (served) /* the tick alone, which comes always, is rest */
                store->last_served = boot_now(store);
        store->calls += (int64_t)served;
        store->last_batch = (int64_t)served;
        if (!store->broken)
                checkpoint_if_due(store, served == 0);
        return served > 0;
}

/* Waits until there is something to do; false when it is time to stop. */
static bool writer_wait(struct store *store)
{
        int64_t left = store->next_tick - boot_now(store);
        bool go_on;

        pthread_mutex_lock(&store->lock);
        while (!store->n_queued && !store->stopping && !store->wake && left > 0) {
                struct timespec until;
                int64_t ns;

                clock_gettime(CLOCK_MONOTONIC, &until);
                ns = until.tv_nsec + left % US_PER_S * 1000;
                until.tv_sec += left / US_PER_S + ns / 1000000000;
                until.tv_nsec = ns % 1000000000;
                pthread_cond_timedwait(&store->writer_ready, &store->lock, &until);
                left = store->next_tick - boot_now(store);
        }
        store->wake = false;
        go_on = !store->stopping || store->n_queued;
        pthread_mutex_unlock(&store->lock);
        return go_on;
}

static void *writer_main(void *arg)
{
        struct store *store = arg;

        while (writer_wait(store))
                writer_turn(store);
        return NULL;
}

/* ---- readers ---- */

static void reader_serve(struct store *store, struct engine *engine, struct call *call)
{
        struct tx tx = { .engine = engine,
                         .names = store->names,
                         .scope = call->scope,
                         .context = store->options.context };

        call->scope->now = store->options.world->clock->wall(store->options.world->clock->ctx);
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

static void registry_build(struct store *store)
{
        size_t n = store->options.n_statements;

        store->registry = xcalloc(n + STORE_STATEMENTS, sizeof(struct statement));
        if (n)
                memcpy(store->registry, store->options.statements, n * sizeof(struct statement));
        memcpy(store->registry + n, store_statements, sizeof(store_statements));
}

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
        registry_build(store);
        if (options->reserve)
                reserve_give(options->reserve); /* opening may need it; store_start() takes it again */
        scope_init(&store->scope, options->world);
        e = engine_open(scope, options->path, ENGINE_WRITER, store->registry,
                        options->n_statements + STORE_STATEMENTS, &store->writer);
        if (e) {
                store_close(store);
                return e;
        }
        store->tx = (struct tx){ .engine = store->writer,
                                 .names = store->names,
                                 .scope = scope,
                                 .context = options->context,
                                 .writing = true };
        e = migrate(&store->tx, own, options->migrations, options->n_migrations);
        if (!e)
                e = names_load(&store->tx, own);
        if (!e)
                e = engine_prepare_all(scope, store->writer);
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
        enum err e = engine_begin(scope, store->writer);

        if (e)
                return e;
        scope->ids = &store->ids;
        store->tx.scope = scope;
        e = run(&store->tx, arg);
        if (!e)
                e = engine_commit(scope, store->writer);
        if (e) {
                engine_rollback(store->writer);
                forget(store);
        }
        names_publish(store->names);
        store->tx.n_hints = 0;
        scope->ids = NULL;
        return e;
}

enum err store_read(struct scope *scope, const char *path, const struct statement *statements,
                    size_t n, enum err (*run)(struct tx *, void *), void *arg)
{
        struct tx tx = { .scope = scope };
        enum err e = engine_open(scope, path, ENGINE_READER, statements, n, &tx.engine);

        if (e)
                return e;
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
        while (!e && store->n_readers < store->options.readers && store->n_readers < READERS_MAX)
                e = reader_start(scope, store);
        if (!e && pthread_create(&store->writer_thread, NULL, writer_main, store))
                e = fail(scope, ERR_UNAVAILABLE, "cannot start the writer thread");
        if (e) {
                readers_stop(store);
                return e;
        }
        pthread_setname_np(store->writer_thread, "writer");
        return ERR_OK;
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
        out->last_batch = store->last_batch;
        out->healthy = store->healthy;
}
