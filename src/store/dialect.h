/*
 * How PostgreSQL says what the texts of statements and migrations say in SQLite's dialect.  Words are
 * replaced one for one, outside of quotes and comments: types, ?N, and what only SQLite knows.  A text
 * that means something else there, or that PostgreSQL does not take, has a second one beside it, which
 * goes the same way.
 *
 * What both take, and so needs no second text: `hold & 2 <> 0` for a condition, count(*) FILTER (WHERE …)
 * for a sum of conditions, CASE for iif(), IS NOT DISTINCT FROM for IS, TRUE for 1, INT64_MAX for no
 * limit, a name for every subquery in FROM, the table's name before a column in DO UPDATE, no row
 * twice in one INSERT … DO UPDATE, CAST(?1 AS INTEGER) where nothing else tells a parameter's type.
 */
#ifndef BATON_STORE_DIALECT_H
#define BATON_STORE_DIALECT_H

#include "core/arena.h"

/* NUL-terminated. */
struct str dialect_postgres(struct arena *, const char *text);

/* What the translated texts and the engine need in the database; may be run again. */
extern const char dialect_prelude[];

#endif
