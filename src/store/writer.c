#include "store/writer.h"

#include "core/failpoint.h"
#include "core/log.h"
#include "store/migrate.h"
#include "store/reserve.h"

enum {
        BATCH_CALLS = 256, /* of those that are queued */
        BATCH_WOKEN = 64,  /* and of those that become servable by them */
        CHECKPOINT_BYTES = 8 << 20,
        IDLE_CHECKPOINT_BYTES = 64 << 10, /* more than the ticks of some seconds */
};
#define BATCH_US (20 * US_PER_MS) /* a batch that took longer goes on after its commit */
#define IDLE_CHECKPOINT_US (500 * US_PER_MS)
#define MEND_EVERY_US (250 * US_PER_MS)
#define REST_US (20 * US_PER_MS) /* without a call: the writer is idle, not between two batches */
#define QUIET_US US_PER_S          /* so long: it may rest */
#define LOOK_EVERY_US (5 * US_PER_S)

/* ---- a batch ---- */

struct batch {
        struct call *calls[BATCH_CALLS + 1 + BATCH_WOKEN]; /* the tick is the one */
        size_t n;
        size_t offered; /* so many hints of the transaction were */
};

void writer_forget(struct store *store)
{
        store->tx.n_hints = 0;
        store->tx.again = TICK_IN_TIME;
        names_forget(store->names, 0);
        if (store->options.rolled_back)
                store->options.rolled_back(store->options.hooks, true);
}

static enum err catch_up(struct store *store, bool stale)
{
        enum err e = stale ? names_load(&store->tx, (int)store->options.n_statements) : ERR_OK;

        if (!e && store->options.others)
                e = store->options.others(store->options.hooks, &store->tx, stale);
        return e;
}

enum err writer_begin(struct store *store, struct scope *scope)
{
        struct turn turn;
        enum err e = engine_begin(scope, store->writer);

        scope->ids = &store->ids;
        store->tx.scope = scope;
        if (e || !store->writer->type->turn)
                return e;
        e = store->writer->type->turn(scope, store->writer, &turn);
        if (e)
                return e;
        store->ahead = turn.now - store->options.world->clock->wall(store->options.world->clock->ctx);
        scope->now = turn.now;
        if (store->options.turn)
                store->options.turn(store->options.hooks, turn.now);
        return turn.others ? catch_up(store, turn.stale) : ERR_OK;
}

/* One call inside the open transaction.  Its writes may be queued still. */
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
        if (!call->result || call->keep) {
                e = tx_flush(&store->tx);
                call->result = e ? e : call->result;
                call->keep = call->keep && !e;
        }
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
        return call->class != CALL_LEASE && store_boot_now(store) - began > BATCH_US;
}

/* The calls from this one on go back to where they stood. */
static void batch_cut(struct store *store, struct batch *b, size_t at)
{
        pthread_mutex_lock(&store->lock);
        while (b->n > at) {
                struct call *call = b->calls[--b->n];

                queue_push_front(&store->write_queue[call->class], call);
                store->n_queued++;
        }
        pthread_mutex_unlock(&store->lock);
}

/* What the batch has made servable goes to the front of its queue. */
static void batch_offer(struct store *store, struct batch *b)
{
        const struct tx *tx = &store->tx;

        if (tx->n_hints > b->offered && store->options.ready)
                store->options.ready(store->options.hooks, tx->hints + b->offered,
                                     tx->n_hints - b->offered);
        b->offered = tx->n_hints;
}

/* Claims that waited for a run of this batch are served in the same transaction, which is one sync
 * less between a run's birth and its start.  False when there are none, or no room. */
static bool batch_join(struct store *store, struct batch *b)
{
        struct queue *claims = &store->write_queue[CALL_CLAIM];
        size_t n = b->n;

        batch_offer(store, b);
        pthread_mutex_lock(&store->lock);
        while (claims->first && claims->first->woken && b->n < LENGTH(b->calls)) {
                b->calls[b->n++] = queue_pop(claims);
                store->n_queued--;
        }
        pthread_mutex_unlock(&store->lock);
        return b->n > n;
}

/* What the calls are likely to read: of each place the first one's statement, for all that have the same there. */
static enum err batch_read_ahead(struct store *store, const struct batch *b)
{
        enum err e = ERR_OK;

        for (size_t place = 0; !e && place < LIKELY_MAX; place++) {
                int64_t keys[BATCH_CALLS];
                int statement = 0;
                size_t n = 0;

                for (size_t i = 0; i < b->n && n < BATCH_CALLS; i++) {
                        const struct likely *l = &b->calls[i]->likely[place];

                        if (!l->key || (n && l->statement != statement))
                                continue;
                        statement = l->statement;
                        keys[n++] = l->key;
                }
                if (n > 1)
                        e = tx_read_ahead(&store->tx, statement, keys, n);
        }
        return e;
}

/*
 * Runs the batch without savepoints in the hope that none is needed; one call that wrote and then
 * failed, or a queued write that fails, makes the whole batch run again with them.  What would make it
 * last too long waits for the next one.
 */
static enum batch_end batch_run(struct store *store, struct batch *b, bool guarded)
{
        int64_t began = store_boot_now(store), now;

        b->offered = 0;
        store->tx.full = store->full;
        store->tx.rest = 0;
        if (writer_begin(store, &store->scope))
                return BATCH_BROKEN;
        if (!guarded && tx_reads_ahead(&store->tx) && batch_read_ahead(store, b))
                return engine_failure(store->writer) ? BATCH_BROKEN : BATCH_AGAIN;
        now = store->scope.now;
        for (size_t i = 0; i < b->n || batch_join(store, b); i++) {
                struct call *call = b->calls[i];

                if (i && may_wait(store, call, began)) {
                        batch_cut(store, b, i);
                        batch_offer(store, b);
                        break;
                }
                if (guarded) {
                        if (call_run_guarded(store, call, now))
                                return BATCH_BROKEN;
                        continue;
                }
                call_run(store, call, now);
                if (engine_failure(store->writer)) { /* whatever the call made of it */
                        store->scope.fault = call->scope->fault; /* for the log */
                        return BATCH_BROKEN;
                }
                if (must_roll_back(store, call))
                        return BATCH_AGAIN;
        }
        if (!engine_commit(&store->scope, store->writer))
                return BATCH_DONE;
        return guarded || engine_failure(store->writer) ? BATCH_BROKEN : BATCH_AGAIN;
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

/*
 * After a failed commit nothing is known of the file: open it again and empty its log.  Who waits need
 * not wait for the preparation of all statements: each is prepared when it is called.
 */
static void reopen(struct store *store)
{
        struct engine *fresh = NULL;
        size_t n = store->options.n_statements + STORE_STATEMENTS;
        enum err e = engine_open(&store->scope, store->options.path, ENGINE_WRITER, store->registry,
                                 n, &fresh);

        if (!e)
                fresh->kept = store->options.kept_tables;
        if (!e)
                e = failpoint(&store->scope, FAILPOINT_REOPEN);
        if (!e) {
                struct tx tx = { .engine = fresh, .scope = &store->scope };

                e = migrations_again(&tx, (int)store->options.n_statements, store->options.migrations,
                                     store->options.n_migrations);
        }
        if (!e)
                e = engine_checkpoint(&store->scope, fresh, true);
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
        int64_t now = store_boot_now(store);

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

/* ---- serving ---- */

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

static void call_finish(struct store *store, struct call *call)
{
        struct store_options *o = &store->options;

        if (call->result)
                store->refused++;
        if (call->parked && o->park)
                o->park(o->hooks, call);
        else
                call->done(call);
}

/* Nothing of the batch has happened.  What may use the reserve that was given up just now is tried
 * again in its space, who waited goes on waiting, and the rest is refused. */
static void batch_fail(struct store *store, struct batch *b)
{
        enum err trouble = engine_failure(store->writer);
        bool had_reserve = store->options.reserve && !store->full;

        trouble = store->writer->failure = trouble ? trouble : ERR_UNAVAILABLE;
        engine_rollback(store->writer);
        writer_forget(store);
        broke(store, trouble, "commit_failed");
        for (size_t i = b->n; i-- > 0;) {
                struct call *call = b->calls[i];

                if (had_reserve && store->full && ends_work(call) && !call->again) {
                        call->again = true;
                        store_resubmit(store, call);
                } else if (call->woken && store->options.park) {
                        store->options.park(store->options.hooks, call);
                } else {
                        call_refuse(call, store->trouble);
                        call_finish(store, call);
                }
        }
}

/* Refuses what cannot be served now; how many. */
static size_t batch_sift(struct store *store, struct batch *b)
{
        size_t n = b->n;

        b->n = 0;
        for (size_t i = 0; i < n; i++) {
                if (!store->broken && (!store->full || ends_work(b->calls[i]))) {
                        b->calls[b->n++] = b->calls[i];
                        continue;
                }
                call_refuse(b->calls[i], store->broken ? store->trouble : ERR_STORAGE_FULL);
                call_finish(store, b->calls[i]);
        }
        return n - b->n;
}

static void batch_serve(struct store *store, struct batch *b)
{
        enum batch_end ended = batch_run(store, b, false);

        if (ended == BATCH_AGAIN) {
                engine_rollback(store->writer);
                writer_forget(store);
                ended = batch_run(store, b, true);
        }
        if (ended == BATCH_BROKEN) {
                batch_fail(store, b);
                return;
        }
        failpoint_pass(FAILPOINT_AFTER_COMMIT);
        store->commits++;
        names_publish(store->names); /* before anybody hears of a number */
        for (size_t i = 0; i < b->n; i++)
                call_finish(store, b->calls[i]);
        failpoint_pass(FAILPOINT_CALLS_ANSWERED);
        if (store->options.committed)
                store->options.committed(store->options.hooks, store->tx.hints,
                                         store->tx.n_hints);
        store->tx.n_hints = 0;
        if (store->options.tick && store->tx.again > store->again)
                store->again = store->tx.again;
        store->tx.again = TICK_IN_TIME;
        store->rest_until = store->tx.rest && !store->again ? store_boot_now(store) + store->tx.rest : 0;
}

/*
 * The next calls, by class; the tick, if it is due, stands behind those of lease-holders: a heartbeat
 * in the queue counts.  Returns those that have waited too long to be served.
 */
static struct call *batch_take(struct store *store, struct call *tick, struct batch *b)
{
        struct call *late = NULL;
        size_t most = BATCH_CALLS;
        int64_t now = store_boot_now(store);

        b->n = 0;
        pthread_mutex_lock(&store->lock);
        for (int class = 0; class < CALL_CLASSES; class ++) {
                struct queue *q = &store->write_queue[class];

                q->turns++;
                while (queue_is_late(q, now, QUEUE_PATIENCE_US)) {
                        struct call *call = queue_pop(q);

                        call->next = late;
                        late = call;
                        store->n_queued--;
                }
                while (b->n < most && q->first) {
                        b->calls[b->n++] = queue_pop(q);
                        store->n_queued--;
                }
                if (class == CALL_LEASE && tick) {
                        b->calls[b->n++] = tick;
                        most++;
                }
        }
        pthread_mutex_unlock(&store->lock);
        return late;
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

/* ---- turns ---- */

/* When the next one comes, boot clock.  Under the lock. */
static int64_t tick_time(const struct store *store)
{
        int64_t rested = store->last_served + REST_US;

        if (store->again == TICK_AT_ONCE)
                return 0;
        return store->again == TICK_WHEN_IDLE && !store->n_queued && rested < store->next_tick ?
                       rested :
                       store->next_tick;
}

/* While it rests, one look now and then takes the place of the ticks' transactions. */
static bool rests(struct store *store, int64_t now)
{
        bool others = false;

        if (now >= store->rest_until)
                return false;
        if (now >= store->next_look) {
                store->next_look = now + LOOK_EVERY_US;
                if (store->writer->type->look(&store->scope, store->writer, &others) || others)
                        store->rest_until = 0;
        }
        return store->rest_until > 0;
}

/* The first call ends a rest, and has the tick beside it: what the server told of its rest is taken back
 * before it can hold anything. */
static bool tick_due(struct store *store)
{
        int64_t now = store_boot_now(store), due;
        bool called;

        pthread_mutex_lock(&store->lock);
        due = tick_time(store);
        called = store->n_queued;
        pthread_mutex_unlock(&store->lock);
        if (called && now < store->rest_until)
                due = store->rest_until = 0;
        if (!store->options.tick || now < due)
                return false;
        store->again = TICK_IN_TIME;
        store->next_tick = now + store->options.tick_ms * US_PER_MS;
        return !rests(store, now);
}

static void checkpoint_if_due(struct store *store, bool idle)
{
        int64_t wal = engine_log_bytes(store->writer);
        bool quiet = idle && store_boot_now(store) - store->last_served > IDLE_CHECKPOINT_US;
        enum err e;

        if (wal >= CHECKPOINT_BYTES || (quiet && wal >= IDLE_CHECKPOINT_BYTES))
                if ((e = engine_checkpoint(&store->scope, store->writer, false)))
                        broke(store, e, "checkpoint_failed");
}

const int64_t store_turn_bounds[] = { 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 500000, 2500000 };

static void note_turn(struct store *store, int64_t us)
{
        size_t i = 0;

        while (i < TURN_BOUNDS && us > store_turn_bounds[i])
                i++;
        store->turns[i]++;
        store->turns_us += us;
}

bool writer_turn(struct store *store)
{
        struct batch batch;
        struct call *late;
        /* It is never put off, and never tried once more: the next one comes soon. */
        struct tick_call tick = { .call = { .run = tick_run,
                                            .done = tick_done,
                                            .class = CALL_LEASE,
                                            .again = true },
                                  .store = store };
        size_t served;
        bool ticks;

        scope_reset(&store->scope);
        mend(store);
        ticks = tick_due(store) && !store->broken;
        if (ticks) {
                scope_init(&tick.scope, store->options.world);
                tick.call.scope = &tick.scope;
        }
        late = batch_take(store, ticks ? &tick.call : NULL, &batch);
        if (batch.n > ticks)
                failpoint_pass(FAILPOINT_BATCH_TAKEN);
        refuse_late(store, late);
        served = batch_sift(store, &batch);
        store->tx.quiet = store->writer->type->look && batch.n == 1 && ticks && !served &&
                          store_boot_now(store) - store->last_served > QUIET_US;
        if (batch.n) {
                int64_t began = store_boot_now(store);

                batch_serve(store, &batch);
                note_turn(store, store_boot_now(store) - began);
        }
        served += batch.n - ticks;
        if (ticks)
                scope_done(&tick.scope);
        if (served) /* the tick alone, which comes always, is rest */
                store->last_served = store_boot_now(store);
        store->calls += (int64_t)served;
        if (store->options.turned)
                store->options.turned(store->options.hooks);
        if (!store->broken)
                checkpoint_if_due(store, served == 0);
        return served > 0;
}

/* Waits until there is something to do; false when it is time to stop. */
static bool writer_wait(struct store *store)
{
        int64_t left;
        bool go_on;

        pthread_mutex_lock(&store->lock);
        left = tick_time(store) - store_boot_now(store);
        while (!store->n_queued && !store->stopping && !store->wake && left > 0) {
                struct timespec until;
                int64_t ns;

                clock_gettime(CLOCK_MONOTONIC, &until);
                ns = until.tv_nsec + left % US_PER_S * 1000;
                until.tv_sec += left / US_PER_S + ns / 1000000000;
                until.tv_nsec = ns % 1000000000;
                pthread_cond_timedwait(&store->writer_ready, &store->lock, &until);
                left = tick_time(store) - store_boot_now(store);
        }
        store->wake = false;
        go_on = !store->stopping || store->n_queued;
        pthread_mutex_unlock(&store->lock);
        return go_on;
}

void *writer_main(void *arg)
{
        struct store *store = arg;
        enum err e = engine_prepare_all(&store->scope, store->writer);

        if (e)
                broke(store, e, "store_broken");
        while (writer_wait(store))
                writer_turn(store);
        return NULL;
}
