/* What a database is: engine, schema, size, rows; and the step from one schema to the next. */
#ifndef BATON_STORE_STATE_H
#define BATON_STORE_STATE_H

#include "store/store.h"

struct state_table {
        struct str name;
        int64_t rows;
};

struct database_state {
        struct str engine;    /* "SQLite 3.40.1" */
        struct str place;     /* the file, or the database's name and host */
        int64_t bytes;        /* of the database, without a log */
        int64_t schema;       /* newest migration that was applied; 0 = none */
        int64_t needs;        /* the schema that a program must know to use it */
        size_t pending;       /* the last so many of the program's migrations are missing */
        int64_t users;        /* who have it open for writing, where the engine knows: PostgreSQL */
        struct list tables;   /* struct state_table, by name */
};

/* Changes nothing.  ERR_NOT_FOUND: no file. */
enum err store_state(struct scope *, const char *path, const struct migration *, size_t n,
                     struct database_state *) NODISCARD;
/* Applies what is missing, all or nothing, making the database if need be.  The caller sees to it that no
 * server uses a file; on PostgreSQL one that does is found. */
enum err store_migrate(struct scope *, const char *path, const struct migration *, size_t n) NODISCARD;

#endif
