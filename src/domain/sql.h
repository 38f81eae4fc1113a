/*
 * The registry of statements: the texts stand beside their nouns in *_sql.def, one row each:
 * SQL(NAME, record of its rows or NULL, text), and a second text for PostgreSQL where the one that is
 * translated from the first would not do (store/dialect.h).
 */
#ifndef BATON_DOMAIN_SQL_H
#define BATON_DOMAIN_SQL_H

#include "store/tx.h"

#define SQL_FILES "domain/sql_files.def"

enum sql {
#define SQL(name, ...) SQL_##name,
#include SQL_FILES
#undef SQL
        SQL_COUNT
};

extern const struct statement domain_statements[SQL_COUNT];

#endif
