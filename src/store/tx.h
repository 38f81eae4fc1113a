/*
 * struct tx: one open transaction, as an operation of the domain sees it.  An operation reads rows,
 * applies rules, writes rows and leaves hints; it never begins or commits.  Statements are named by
 * their number in the registry that the composition root hands to the store; all are prepared at
 * boot, so a wrong column name stops the start and not a customer.
 *
 * Errors: ERR_OK; ERR_EMPTY where a row was asked for and there is none; ERR_STORAGE_FULL and
 * ERR_UNAVAILABLE from below, after which the whole batch is void.  Writes may be queued by an
 * engine: a failure can surface at the next read or at tx_flush().
 */
#ifndef BATON_STORE_TX_H
#define BATON_STORE_TX_H

#include "core/record.h"
#include "core/scope.h"

struct tx;

struct statement {
        const char *name;
        const char *text;            /* ?N parameters; {columns} and {values} of the record */
        const struct record *record; /* of its rows; NULL when it has none or they are scalars */
        const char *postgres;        /* where the translated text would not do (store/dialect.h) */
};

enum arg_kind { ARG_NULL, ARG_INT, ARG_TEXT, ARG_BLOB, ARG_NAME };

struct arg {
        enum arg_kind kind;
        int64_t number;
        struct str text;
};

#define INT(v) ((struct arg){ .kind = ARG_INT, .number = (v) })
/* 0 is NULL: optional ids and times. */
#define OPT(v) ((v) ? INT(v) : (struct arg){ .kind = ARG_NULL })
#define NONE() ((struct arg){ .kind = ARG_NULL })
#define TEXT(s) ((struct arg){ .kind = ARG_TEXT, .text = (s) })
#define BLOB(s) ((struct arg){ .kind = ARG_BLOB, .text = (s) })
/* Text that is stored as its number in the table of names; absent is NULL. */
#define NAME(s) ((struct arg){ .kind = ARG_NAME, .text = (s) })

#define ARGS(...)                                   \
        (const struct arg[]){ __VA_ARGS__ },        \
                sizeof((const struct arg[]){ __VA_ARGS__ }) / sizeof(struct arg)

struct scope *tx_scope(struct tx *);
int64_t tx_now(struct tx *);    /* UTC microseconds of this turn */
void *tx_context(struct tx *);  /* what the composition root gave the store: struct domain */

/* Runs a writing statement; *changed, when wanted, is the number of rows it touched. */
enum err tx_write(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n) NODISCARD;
#define tx_exec(tx, statement, ...) tx_write(tx, statement, NULL, ARGS(__VA_ARGS__))
#define tx_exec_changed(tx, statement, changed, ...) tx_write(tx, statement, changed, ARGS(__VA_ARGS__))
/* The same, of one row by its key that hardly ever fails to change.  An engine may answer
 * that it did before it knows: if it did not, the transaction fails, and its calls run again one by one,
 * each then being told at once. */
enum err tx_write_one(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n) NODISCARD;
#define tx_exec_one(tx, statement, changed, ...) tx_write_one(tx, statement, changed, ARGS(__VA_ARGS__))
/* Inserts a record: the statement says INSERT … ({columns}) VALUES ({values}). */
enum err tx_insert(struct tx *, int statement, const void *record) NODISCARD;

/* The first row into *out (zeroed before); ERR_EMPTY when there is none. */
enum err tx_row(struct tx *, int statement, void *out, const struct arg *, size_t n) NODISCARD;
#define tx_one(tx, statement, out, ...) tx_row(tx, statement, out, ARGS(__VA_ARGS__))
/* All rows, in the scope's arena. */
enum err tx_rows(struct tx *, int statement, struct list *out, const struct arg *, size_t n) NODISCARD;
#define tx_all(tx, statement, out, ...) tx_rows(tx, statement, out, ARGS(__VA_ARGS__))
/* The columns of the first row as numbers (NULL = 0); ERR_EMPTY when there is none. */
enum err tx_numbers(struct tx *, int statement, int64_t *out, size_t n_out, const struct arg *,
                    size_t n) NODISCARD;
#define tx_number(tx, statement, out, ...) tx_numbers(tx, statement, out, 1, ARGS(__VA_ARGS__))
/* All rows as numbers, n_columns each, in the scope's arena. */
enum err tx_number_rows(struct tx *, int statement, int64_t **out, size_t *n_rows,
                        size_t n_columns, const struct arg *, size_t n) NODISCARD;

/* Rows that tx_row() or tx_numbers() will be asked for by these keys, the query's only argument, AHEAD_MAX at most: where a query
 * costs a round trip they are read by one.  A row that is written meanwhile is read again. */
enum { AHEAD_MAX = 256 };
enum err tx_read_ahead(struct tx *, int statement, const int64_t *keys, size_t n) NODISCARD;
/* Whether that does anything. */
bool tx_reads_ahead(const struct tx *);
/* Such a row of an operation that has not begun yet; key 0: none. */
struct likely {
        int statement;
        int64_t key;
};
enum { LIKELY_MAX = 3 };

/* Sends what is queued and reports its errors; COMMIT does so too. */
enum err tx_flush(struct tx *) NODISCARD;

/* The number of a name, made if it is new (writing) or 0 if it is unknown (reading). */
enum err tx_name(struct tx *, struct str text, int64_t *id) NODISCARD;
/* The number of a name that is there, 0 of one that is not. */
enum err tx_name_find(struct tx *, struct str text, int64_t *id) NODISCARD;
/* The text of a number; lives as long as the store. */
struct str tx_name_text(struct tx *, int64_t id);

/* What the rest of the program should hear of after COMMIT; dropped with a rollback. */
enum hint_kind { HINT_NONE, HINT_TREE, HINT_LANE, HINT_KEYS, HINT_RESUMED, HINT_WEBHOOKS,
                 HINT_EVERYTHING /* from a bus: others were lost */ };
struct hint {
        enum hint_kind kind;
        int64_t key, value;
};
void tx_hint(struct tx *, enum hint_kind, int64_t key, int64_t value);

/* The disk is full: what only makes the file grow, and can wait, is left to another time. */
bool tx_disk_is_full(const struct tx *);

/* The tick has more to do than it can at once: it comes again without waiting for its time, as soon as
 * the batch is committed or as soon as no call has come for 20 ms.  Dropped with a rollback of the batch. */
enum tick_again { TICK_IN_TIME, TICK_WHEN_IDLE, TICK_AT_ONCE };
void tx_tick_again(struct tx *, enum tick_again);
/* The tick has found nothing to do and nobody has asked anything for a while: where servers share the database, it
 * need not come before so many microseconds have passed, a call has come or another server has written. */
bool tx_may_rest(const struct tx *);
void tx_tick_rest(struct tx *, int64_t us);

#endif
