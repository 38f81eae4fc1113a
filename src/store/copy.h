/* Copies of a database from one engine to another, or to the same. */
#ifndef BATON_STORE_COPY_H
#define BATON_STORE_COPY_H

#include "store/store.h"

enum { COPY_DIGEST = 32 };

struct copied_table {
        struct str name;
        int64_t rows;
        unsigned char digest[COPY_DIGEST]; /* BLAKE2b of all rows in the order of the primary key; equal in both */
};

struct copy_options {
        const char *from, *to; /* files or URLs */
        const struct migration *migrations;
        size_t n_migrations;
        const char *const *left_out; /* tables that stay as the migrations made them; NULL at the end */
};

/*
 * Reads every table of `from` in one snapshot, writes it to `to` in one transaction, reads it there again
 * and compares.  `from` must have this program's schema.  `to` must be empty or freshly migrated and used
 * by nobody; a file must not be there.  After an error `to` is what it was.  *tables: struct copied_table.
 */
enum err store_copy(struct scope *, const struct copy_options *, struct list *tables) NODISCARD;

#endif
