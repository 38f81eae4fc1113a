/*
 * Store: the database behind the calls, SQLite's or PostgreSQL's: one writer thread with group commit
 * and a pool of readers.  No type of an engine leaves this folder.
 */
#ifndef BATON_STORE_STORE_H
#define BATON_STORE_STORE_H

#include "store/call.h"

struct store;

struct migration {
        int number;
        int min_compatible; /* oldest program version's schema number that may still run on it */
        const char *name, *text;
        const char *postgres; /* where the translated text would not do */
};

struct store_options {
        const char *path; /* database file, ":memory:", or postgres://… */
        const char *reserve; /* file that keeps space for a full disk; NULL = none */
        const struct world *world;
        const struct statement *statements;
        size_t n_statements;
        const struct migration *migrations;
        size_t n_migrations;
        int readers;      /* reader threads; 0 = reads run on the writer */
        int boost;        /* by so much the nice value of who calls store_start() is lowered: for the writer alone */
        int64_t server;   /* 0..1023: part of every id */
        void *context;    /* tx_context(): what operations see */
        void *hooks;      /* first argument of what follows */
        /* On the writing thread, before COMMIT, once for every hint: parked calls that what the batch
         * has made can serve are to be resubmitted, and are served in the same transaction.  A hint
         * that needs nothing more becomes HINT_NONE. */
        void (*ready)(void *hooks, struct hint *, size_t n);
        /* On the writing thread, after COMMIT, when the calls of the batch have been answered. */
        void (*committed)(void *hooks, const struct hint *, size_t n);
        /* On the writing thread, where calls of a batch are undone singly: what the operations have
         * cached up to now stays, unless the whole batch is undone. */
        void (*kept)(void *hooks);
        /* On the writing thread: what they cached of this batch is void; if not of the whole batch,
         * then what came after kept(). */
        void (*rolled_back)(void *hooks, bool whole);
        /* Where several servers use the database, on the writing thread, at the begin of each transaction:
         * the time by the database's clock, UTC microseconds, which is tx_now() there. */
        void (*turn)(void *hooks, int64_t now);
        /* Then, if others have written since this server did, or may have; again, if the transaction is rolled
         * back.  `stale`: to the kept tables too, so what is kept in memory of them is to be brought up to date. */
        enum err (*others)(void *hooks, struct tx *, bool stale);
        const char *const *kept_tables; /* up to NULL; the store knows its own */
        /* On the writing thread: what was refused because the storage had failed would be served now. */
        void (*mended)(void *hooks);
        /* Takes over a parked call after COMMIT. */
        void (*park)(void *hooks, struct call *);
        /* On the writing thread, at the end of each turn, whether or not it had a transaction. */
        void (*turned)(void *hooks);
        /* Runs on the writing thread, inside a transaction, every tick_ms. */
        enum err (*tick)(void *hooks, struct tx *);
        int tick_ms;
};

/* Whether a path is the URL of a database on a server, and no file. */
bool store_is_url(const char *path);

/* Opens and migrates.  Refuses a database of a newer program. */
enum err store_open(struct scope *, const struct store_options *, struct store **) NODISCARD;
void store_close(struct store *); /* after store_stop(); checkpoints */

/* The threads; the writer prepares every statement before it serves. */
enum err store_start(struct scope *, struct store *) NODISCARD;
void store_stop(struct store *); /* serves what is queued, then joins the threads */

/* Queues a call; false when the queue is full, or so late that the caller would not wait for its
 * turn (answer 429 and try again later). */
bool store_submit(struct store *, struct call *);
/* Queues again what was parked, ahead of its class; never refused. */
void store_resubmit(struct store *, struct call *);
/* Submits and waits: for threads that have nothing else to do.  The call must not park. */
enum err store_call(struct store *, struct call *);
/* Makes the writer turn soon although nothing is queued. */
void store_wake(struct store *);

/*
 * One turn of the writer without its thread: takes what is queued, runs it in one transaction,
 * commits once and finishes the calls.  True if there was something to do.  This is the whole of
 * the writing side; the thread only repeats it, and so does a simulator.
 */
bool writer_turn(struct store *);
/* Runs one operation in a transaction of its own, before the threads are started. */
enum err store_run(struct store *, struct scope *, enum err (*run)(struct tx *, void *), void *arg);

/* Runs one operation that reads on a database of any server or none, without migrating it;
 * tx_context() is NULL. */
enum err store_read(struct scope *, const char *path, const struct statement *, size_t n,
                    enum err (*run)(struct tx *, void *), void *arg) NODISCARD;

const char *store_engine_version(void); /* "3.40.1" */

/* The writer's turns by how long each held it, commit included: those of up to so many microseconds, then the longer ones. */
enum { TURN_BOUNDS = 10 };
extern const int64_t store_turn_bounds[TURN_BOUNDS];
struct store_stats {
        int64_t commits, calls, refused, queued;
        int64_t turns[TURN_BOUNDS + 1], turns_us; /* us: of all together */
        bool healthy; /* it can commit, and the disk has room */
};
void store_stats(struct store *, struct store_stats *);

#endif
