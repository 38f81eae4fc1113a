/*
 * The catalogue: what a database says of itself, read without a server.  Which tables there are comes from a
 * schema that was made anew by the migrations, never from a list, so that none is forgotten.
 */
#ifndef BATON_STORE_CATALOGUE_H
#define BATON_STORE_CATALOGUE_H

#include "store/engine.h"

/* Statements of this noun; the first of a registry of their own. */
enum { CATALOGUE_TABLES, CATALOGUE_COLUMNS, CATALOGUE_ENGINE, CATALOGUE_USERS, CATALOGUE_INTEGRITY, CATALOGUE_FOREIGN,
       CATALOGUE_STATEMENTS };

/* The row of CATALOGUE_ENGINE. */
struct database_facts {
        struct str engine, place;
        int64_t bytes;
};

struct catalogue {
        struct table *tables; /* by name; those that hold rows of their own */
        size_t n;
        bool migrated; /* the table of migrations is there */
};

/* A connection to a database that belongs to nobody else, with the catalogue's registry. */
struct database {
        struct tx tx; /* tx.engine is NULL when it is not open */
        struct statement *registry;
};
enum err database_open(struct scope *, const char *path, enum engine_mode, struct database *) NODISCARD;
void database_close(struct database *);

/* Of an open transaction.  Virtual tables and those that they keep their rows in are not among them, nor
 * what the engine made for itself, nor those left out (NULL: none). */
enum err catalogue_read(struct database *, const char *const *left_out, struct catalogue *) NODISCARD;
/* That of this program's schema, from a database in memory; with the rows that a fresh one has. */
enum err catalogue_expect(struct scope *, const struct migration *, size_t n, const char *const *left_out,
                          struct catalogue *, int64_t **rows) NODISCARD;
/* ERR_CONFLICT, naming the table, when they have not the same tables and columns. */
enum err catalogue_compare(struct database *, const struct catalogue *expected, const struct catalogue *found) NODISCARD;
enum err catalogue_count(struct database *, const struct table *, int64_t *rows) NODISCARD;

/* The migrations that were applied, `struct applied`; none where there is no table of them. */
enum err catalogue_applied(struct database *, const struct catalogue *, struct list *) NODISCARD;

#endif
