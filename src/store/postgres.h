/*
 * The engine of PostgreSQL, private to its files: postgres.c has the connection, its queue and its
 * transactions, postgres_statement.c the statements, postgres_many.c those of many rows at once, and
 * postgres_table.c tables as wholes.
 *
 * The connection is always in pipeline mode.  What is sent is queued, and its results are read, in
 * order, when one of them is needed: a query pays one round trip for itself and all writes before it,
 * COMMIT for the rest.  A statement that fails makes PostgreSQL skip what follows up to a
 * synchronization, and its transaction accepts nothing more up to a rollback.
 */
#ifndef BATON_STORE_POSTGRES_H
#define BATON_STORE_POSTGRES_H

#include "core/arena.h"
#include "core/buf.h"
#include "store/engine.h"
#include "store/gather.h"
#include "store/shape.h"

/* Types of PostgreSQL, by the numbers that never change. */
enum { BOOL_TYPE = 16, BYTEA_TYPE = 17, INT8_TYPE = 20, INT2_TYPE = 21, INT4_TYPE = 23, TEXT_TYPE = 25,
       NUMERIC_TYPE = 1700 };

enum { PARAMETERS_MAX = 128, QUEUE_MOST = 200, QUEUE_MAX = 512, TOGETHER_MAX = 32, TABLES_MAX = 64 };

/* libpq's PGconn and PGresult. */
struct pg_conn;
struct pg_result;

/* A parameter in PostgreSQL's binary form; p NULL: NULL. */
struct value {
        const char *p;
        int n;
        int64_t number; /* where p points to, if it is one */
};

struct foreseen_row {
        int64_t key;
        int row;      /* of the result; -1: there is none */
        bool is_void; /* written since */
};
/* Rows that were read before they are asked for. */
struct foreseen {
        struct pg_result *result;
        struct foreseen_row *rows; /* in the order of the keys */
        size_t n, next;
};

struct prepared {
        const char *text;
        struct shape shape;
        uint64_t table;   /* a bit of the one that it writes, 0: none is known */
        uint64_t touches; /* of those that it may read or write */
        bool writes;
        bool is;    /* prepared */
        bool many;  /* for many rows too */
        int n;      /* parameters */
        unsigned *types; /* of them */
        struct gather gather;
        struct foreseen foreseen;
};

struct postgres {
        struct engine engine;
        enum engine_mode mode;
        char *url;
        struct pg_conn *conn; /* NULL: lost */
        struct arena arena;
        struct prepared *prepared;
        int expected[QUEUE_MAX]; /* rows that the results must tell of; -1: any number */
        size_t first;            /* of these, a ring */
        size_t queued; /* results to be read */
        size_t counted; /* of them such as must tell of a number of rows */
        size_t stale;  /* the first of them, which nobody asks for any more */
        int waiting[TOGETHER_MAX]; /* statements with rows that are gathered, not sent */
        size_t n_waiting;
        int ahead[TOGETHER_MAX]; /* statements with rows that were read before they are asked for */
        size_t n_ahead;
        struct str tables[TABLES_MAX]; /* those that statements write, by their bits */
        uint64_t kept;  /* of those that engine.kept names */
        uint64_t written; /* in the open transaction */
        bool open;     /* a transaction was begun */
        bool wrote;    /* something in it */
        bool aborted;  /* a statement of it has failed */
        bool guarded;  /* a savepoint stands: each write is told of by itself */
        struct buf load; /* rows of the table that is being filled */
        size_t load_columns;
        int64_t mark;  /* what its last transaction left; 0: none yet */
        int64_t found; /* what the open one found */
};

static inline struct postgres *postgres_of(struct engine *engine)
{
        return (struct postgres *)engine;
}

/* ---- the connection (postgres.c) ---- */

/* The error of a connection that is lost; of a result that is one. */
enum err pg_lost(struct scope *, struct postgres *);
enum err pg_refused(struct scope *, struct postgres *, const struct pg_result *);
/* What was sent by libpq, which said so by 1, has a result that must tell of so many rows; -1: of any number. */
bool pg_queue(struct postgres *, int sent, int expected);
enum err pg_command(struct scope *, struct postgres *, const char *sql);
/* Reads what is queued and reports the first error; *last, when wanted, becomes the result of the last
 * statement. */
enum err pg_settle(struct scope *, struct postgres *, struct pg_result **last);
/* Statements outside pipeline mode, by the simple protocol. */
enum err pg_plain(struct scope *, struct postgres *, const char *sql);

/* ---- statements (postgres_statement.c) ---- */

/* Finds out which tables the statements are about, for who writes; a reader's are read one by one. */
void pg_read_texts(struct scope *, struct postgres *);
/* The bit of a table that statements write; a new one gets one. */
uint64_t pg_table_bit(struct postgres *, struct str table);
void pg_statements_done(struct postgres *);
int64_t pg_number(const struct pg_result *, int row, int column); /* 0 of NULL */

enum err pg_prepare(struct scope *, struct engine *, int statement);
/* Queues the preparation of a statement for many rows; what writes is prepared so from the start. */
enum err pg_prepare_many(struct scope *, struct postgres *, int statement);
enum err pg_write(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n);
/* Queues a statement with all its parameters, or with arrays of them. */
enum { SINGLE = 's', MANY = 'm' };
enum err pg_send(struct scope *, struct postgres *, char kind, int statement, const struct value *, int expected);
/* Reads what is queued.  An error makes a rollback due, whether or not something was written. */
enum err pg_answer(struct tx *, struct pg_result **last);
enum err pg_write_one(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n);
enum err pg_insert(struct tx *, int statement, const void *record);
enum err pg_query(struct tx *, int statement, const struct arg *, size_t n, struct rows *);
enum err pg_flush(struct tx *);

/* ---- many rows at once (postgres_many.c) ---- */

/* Takes a write to be sent with others of its statement.  The key: of the rows that it is about, NULL: unknown. */
enum err pg_gather(struct tx *, int statement, const struct value *, const int64_t *key, bool expected);
/* Before a statement: sends what waits and may be about the same rows. */
enum err pg_send_before(struct scope *, struct postgres *, int statement, const int64_t *key);
enum err pg_send_waiting(struct scope *, struct postgres *);
/* Each key's first row of a query, to be had by pg_was_read(), which false means is to be asked; *row -1: there is none. */
enum err pg_read_ahead(struct tx *, int statement, const int64_t *keys, size_t n);
bool pg_was_read(struct foreseen *, const int64_t *key, int *row);
/* Before a write: rows that it may be about are not what was read any more. */
void pg_void_ahead(struct postgres *, int statement, const int64_t *key);
/* Forgets what waits and what was read ahead. */
void pg_forget(struct postgres *);

/* ---- tables as wholes (postgres_table.c) ---- */

enum err pg_scan(struct scope *, struct engine *, const char *sql, take_row *, void *arg);
enum err pg_load_begin(struct scope *, struct engine *, const struct table *);
enum err pg_load_row(struct scope *, struct engine *, const struct arg *);
enum err pg_load_end(struct scope *, struct engine *);
extern const char pg_loaded[];

#endif
