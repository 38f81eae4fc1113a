/*
 * What the text of a statement tells about the rows that it touches, and the same statement for many of
 * them at once: a set of parameters instead of one.  Only such texts are understood as the registry
 * holds, in PostgreSQL's dialect; of all others nothing is claimed.
 */
#ifndef BATON_STORE_SHAPE_H
#define BATON_STORE_SHAPE_H

#include "core/arena.h"
#include "core/str.h"

/* An upsert is an INSERT that changes the row which is there already: ON CONFLICT … DO UPDATE. */
enum shape_kind { SHAPE_OTHER, SHAPE_INSERT, SHAPE_UPSERT, SHAPE_UPDATE, SHAPE_DELETE, SHAPE_SELECT };

/* Parts of the text that it was made of. */
struct shape {
        enum shape_kind kind;
        struct str table; /* the one that is written; of SHAPE_SELECT the first that is read */
        /* The column that has the value of $1 in each row that is touched; absent: none is known. */
        struct str key;
        bool is_set; /* shape_set_text() can say it for many */
};
struct shape shape_of(const char *text);

/*
 * In the arena.  The parameters are arrays, of the types that are given ("bigint", ...), and the n-th
 * elements of all are the parameters of the n-th row; an array that is shorter gives NULL.  A query's
 * rows come with the number of the parameters that they are for, from 1 on, in a column more, the last.
 */
const char *shape_set_text(struct arena *, const char *text, const char *const *types, int n);

/* The next word of a text, *at being left behind it; empty at the end. */
struct str shape_word(const char **at);

#endif
