/*
 * Engines, private to this folder: a connection to a database, its statements and transactions.  Each
 * kind of database is a table of functions in a file of its own, and no type of its library leaves
 * that file.  One engine is one connection, used by one thread.
 */
#ifndef BATON_STORE_ENGINE_H
#define BATON_STORE_ENGINE_H

#include "store/names.h"
#include "store/store.h"

/* What a server holds while it writes to PostgreSQL, "baton"; what all share that have it open for writing; and
 * what those share that know the same schema, with its number behind it. */
#define TURN_LOCK "421946257262"
#define USERS_LOCK "421946257263"
#define SCHEMA_LOCK "1650554996"

struct engine {
        const struct engine_type *type;
        const struct statement *registry;
        size_t n;
        const char *const *kept; /* store_options.kept_tables */
        enum err failure; /* the storage failed under the open transaction */
};

/* A turn among the servers of one database. */
struct turn {
        int64_t now; /* of the database's clock, UTC microseconds */
        bool others; /* another server has written since this engine did, or may have */
        bool stale;  /* what is kept in memory too */
};

enum engine_mode { ENGINE_WRITER, ENGINE_READER };

/* Where the rows of a query go: structs of the record or, without one, numbers. */
struct rows {
        const struct record *record;
        size_t columns; /* of numbers */
        size_t size;    /* of a row */
        size_t most;    /* so many are wanted */
        void *items;    /* in the scope's arena, or the caller's when there is room from the start */
        size_t n, room;
};

/* Tables as wholes, for copies of a database; names go into texts in double quotes. */
struct table {
        struct str name;
        struct str columns; /* "a","b" */
        struct str key;     /* the same of the primary key, in its order */
        size_t n_columns;
};
enum { TABLE_COLUMNS_MAX = 128 };
/* A row on its way: NULL, INT, TEXT or BLOB each, valid until it returns. */
typedef enum err take_row(void *arg, const struct arg *row, size_t n);

/* Operations on statements are those of tx.h; writes may be queued until the next query, flush or commit. */
struct engine_type {
        enum err (*open)(struct scope *, const char *path, enum engine_mode, const struct statement *,
                         size_t n, struct engine **);
        void (*close)(struct engine *);
        enum err (*script)(struct scope *, struct engine *, const char *sql);
        enum err (*prepare)(struct scope *, struct engine *, int statement);

        enum err (*begin)(struct scope *, struct engine *);
        enum err (*commit)(struct scope *, struct engine *);
        void (*rollback)(struct engine *);
        enum err (*savepoint)(struct scope *, struct engine *);
        enum err (*release)(struct scope *, struct engine *);
        enum err (*rollback_to)(struct scope *, struct engine *);
        enum err (*failure)(struct engine *);

        enum err (*write)(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n);
        /* As write, of a row that is there; NULL: as write. */
        enum err (*write_one)(struct tx *, int statement, int64_t *changed, const struct arg *, size_t n);
        enum err (*insert)(struct tx *, int statement, const void *record);
        enum err (*query)(struct tx *, int statement, const struct arg *, size_t n, struct rows *);
        /* NULL: a query costs no round trip. */
        enum err (*read_ahead)(struct tx *, int statement, const int64_t *keys, size_t n);
        enum err (*flush)(struct tx *);

        /* The first thing of a writer's transaction: from here on no other server writes before it has
         * ended.  NULL: there is no other. */
        enum err (*turn)(struct scope *, struct engine *, struct turn *);
        /* Outside a transaction: whether another has written since. */
        enum err (*look)(struct scope *, struct engine *, bool *others);
        /* NULL where the database does it by itself. */
        enum err (*checkpoint)(struct scope *, struct engine *, bool truncate);
        int64_t (*log_bytes)(struct engine *);

        /* Every row of a query outside the registry, in an open transaction. */
        enum err (*scan)(struct scope *, struct engine *, const char *sql, take_row *, void *arg);
        /* Fills a table with rows, all its columns in their order.  After an error only a rollback helps. */
        enum err (*load_begin)(struct scope *, struct engine *, const struct table *);
        enum err (*load_row)(struct scope *, struct engine *, const struct arg *);
        enum err (*load_end)(struct scope *, struct engine *);
        const char *loaded;            /* what follows when all tables were filled; NULL: nothing */
        const char *const *own_tables; /* that no migration made, NULL at the end; NULL: none */

        /* Its dialect: how SQLite's text is said in it, NULL = the same; what must be there before. */
        struct str (*translate)(struct arena *, const char *text);
        const char *prelude;
};
extern const struct engine_type sqlite_engine, postgres_engine;

/* A path is a file of SQLite, or the URL of a PostgreSQL database. */
enum err engine_open(struct scope *, const char *path, enum engine_mode,
                     const struct statement *, size_t n, struct engine **) NODISCARD;
void engine_close(struct engine *);
/* Runs text of several statements in SQLite's dialect, outside the registry (migrations); `own` is
 * the engine's own text for it, or NULL. */
enum err engine_script(struct scope *, struct engine *, const char *sql, const char *own) NODISCARD;
/* Each that fails is in the log. */
enum err engine_prepare_all(struct scope *, struct engine *) NODISCARD;
/* The text of a statement for this engine, with columns and values in their places. */
const char *engine_text(struct scope *, const struct engine *, int statement);

enum err engine_begin(struct scope *, struct engine *) NODISCARD;
/* Without a failure of the storage, an error means that a statement that was queued has failed. */
enum err engine_commit(struct scope *, struct engine *) NODISCARD;
void engine_rollback(struct engine *);
enum err engine_savepoint(struct scope *, struct engine *) NODISCARD;
enum err engine_release(struct scope *, struct engine *) NODISCARD;
enum err engine_rollback_to(struct scope *, struct engine *) NODISCARD;
/* ERR_STORAGE_FULL or ERR_UNAVAILABLE once disk, file or memory failed since engine_begin(), whatever
 * the operation made of it: nothing of the transaction may be committed. */
enum err engine_failure(struct engine *);

/* Copies committed pages home; truncate also waits and empties the log. */
enum err engine_checkpoint(struct scope *, struct engine *, bool truncate);
/* Bytes of the log that no checkpoint has copied home yet. */
int64_t engine_log_bytes(struct engine *);

/* For engines.  The place of the next row. */
void *rows_next(struct scope *, struct rows *);
/* A field of a record as the argument that is its column, and back: a column is a text or a number. */
struct arg field_arg(const struct field *, const void *base);
bool field_is_text(const struct field *);
enum err field_set(struct tx *, const struct field *, void *base, int64_t number, struct str text) NODISCARD;

struct tx {
        struct engine *engine;
        struct names_table *names;
        struct scope *scope;
        void *context;
        bool writing;
        size_t writes; /* writing statements since the call began, and such as make a rollback due */
        struct hint *hints;
        size_t n_hints, size_hints;
        enum tick_again again;
        bool quiet;   /* nothing but the tick has come for a while */
        int64_t rest; /* microseconds */
        bool full;
};

#endif
