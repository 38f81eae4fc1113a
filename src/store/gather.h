/*
 * Gather: writes of one statement that wait, to be sent as one for all their rows.  It holds them column
 * by column, as arrays in PostgreSQL's binary form, and knows their keys.
 */
#ifndef BATON_STORE_GATHER_H
#define BATON_STORE_GATHER_H

#include "core/buf.h"

enum { GATHER_ROWS = 256, GATHER_BYTES = 1 << 20 };

struct gather {
        size_t n;        /* rows */
        size_t bytes;    /* about */
        size_t expected; /* of them must change a row each */
        bool keyless;    /* a row has no key, or none that is a number */
        int n_columns;
        struct gathered *columns;
        int64_t *keys; /* a hash table of those that are not 0 */
        bool zero;     /* is one too */
};

/* A value in PostgreSQL's binary form; p == NULL: NULL. */
void gather_begin(struct gather *, const unsigned *types, int n_columns);
void gather_add(struct gather *, int column, const char *p, int n);
/* After a row's columns.  NULL: it has no key. */
void gather_row(struct gather *, const int64_t *key);
bool gather_is_full(const struct gather *);
bool gather_has(const struct gather *, int64_t key);
/* The column as one array, valid up to the next call. */
struct str gather_array(struct gather *, int column);
/* The value of the only row; absent: NULL. */
struct str gather_single(const struct gather *, int column);
void gather_clear(struct gather *); /* memory kept */
void gather_done(struct gather *);

#endif
