#include "store/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "store/migrate.h"

struct table_row {
        struct str name;
};
static const struct field table_fields[] = {
        { "name", FIELD_STR, FIELD_COLUMN, offsetof(struct table_row, name) },
};
static const struct record table_record = { "table", table_fields, LENGTH(table_fields),
                                            sizeof(struct table_row), -1 };

struct column_row {
        struct str of, name;
        int64_t key; /* its place in the primary key, from 1; 0: it is not in it */
};
static const struct field column_fields[] = {
        { "of", FIELD_STR, FIELD_COLUMN, offsetof(struct column_row, of) },
        { "name", FIELD_STR, FIELD_COLUMN, offsetof(struct column_row, name) },
        { "key", FIELD_INT, FIELD_COLUMN, offsetof(struct column_row, key) },
};
static const struct record column_record = { "column", column_fields, LENGTH(column_fields),
                                             sizeof(struct column_row), -1 };

static const struct field text_fields[] = { { "text", FIELD_STR, FIELD_COLUMN, 0 } };
static const struct record text_record = { "text", text_fields, 1, sizeof(struct str), -1 };

static const struct field facts_fields[] = {
        { "engine", FIELD_STR, FIELD_COLUMN, offsetof(struct database_facts, engine) },
        { "place", FIELD_STR, FIELD_COLUMN, offsetof(struct database_facts, place) },
        { "bytes", FIELD_INT, FIELD_COLUMN, offsetof(struct database_facts, bytes) },
};
static const struct record facts_record = { "facts", facts_fields, LENGTH(facts_fields),
                                              sizeof(struct database_facts), -1 };

#define TABLES_OF_POSTGRES                                                            \
        " FROM pg_class t WHERE t.relnamespace = current_schema()::regnamespace"      \
        " AND t.relkind IN ('r', 'p') AND NOT t.relispartition"

static const struct statement statements[CATALOGUE_STATEMENTS] = {
        [CATALOGUE_TABLES] = { "catalogue_tables",
                               "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
                               " AND name NOT LIKE 'sqlite@_%' ESCAPE '@' ORDER BY name",
                               &table_record,
                               "SELECT t.relname::text" TABLES_OF_POSTGRES " ORDER BY t.relname::text COLLATE \"C\"" },
        [CATALOGUE_COLUMNS] = { "catalogue_columns",
                                "SELECT t.name, c.name, c.pk FROM pragma_table_list t, pragma_table_info(t.name) c"
                                " WHERE t.schema = 'main' AND t.type = 'table' ORDER BY t.name, c.cid",
                                &column_record,
                                "SELECT t.relname::text, a.attname::text, coalesce((SELECT o.at FROM pg_index i,"
                                " unnest(i.indkey::int2[]) WITH ORDINALITY o (key, at)"
                                " WHERE i.indrelid = t.oid AND i.indisprimary AND o.key = a.attnum), 0)"
                                " FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid"
                                " WHERE t.relnamespace = current_schema()::regnamespace AND a.attnum > 0"
                                " AND t.relkind IN ('r', 'p') AND NOT a.attisdropped"
                                " ORDER BY t.relname::text COLLATE \"C\", a.attnum" },
        [CATALOGUE_ENGINE] = { "catalogue_engine",
                               "SELECT 'SQLite ' || sqlite_version(), file, page_count * page_size"
                               " FROM pragma_page_count, pragma_page_size, pragma_database_list WHERE name = 'main'",
                               &facts_record,
                               "SELECT 'PostgreSQL ' || current_setting('server_version'), current_database() || ' on '"
                               " || coalesce(host(inet_server_addr()), 'a socket of this machine'),"
                               " pg_database_size(current_database())" },
        [CATALOGUE_USERS] = { "catalogue_users", "SELECT 0", NULL,
                              "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
                              " (SELECT oid FROM pg_database WHERE datname = current_database())"
                              " AND (classid::bigint << 32 | objid::bigint) = " USERS_LOCK " AND objsubid = 1" },
        [CATALOGUE_INTEGRITY] = { "catalogue_integrity", "SELECT integrity_check FROM pragma_integrity_check(20)",
                                  &text_record, "SELECT 'ok'" },
        [CATALOGUE_FOREIGN] = { "catalogue_foreign",
                                "SELECT \"table\" || ' refers to a row of ' || parent || ' that is not there'"
                                " FROM pragma_foreign_key_check LIMIT 20",
                                &text_record, "SELECT 'ok' WHERE FALSE" },
};

/* ---- a connection ---- */

enum err database_open(struct scope *scope, const char *path, enum engine_mode mode, struct database *out)
{
        struct database db = { .registry = registry_build(statements, CATALOGUE_STATEMENTS) };
        enum err e = engine_open(scope, path, mode, db.registry, CATALOGUE_STATEMENTS + STORE_STATEMENTS,
                                 &db.tx.engine);

        if (!e && (e = engine_begin(scope, db.tx.engine)))
                engine_close(db.tx.engine);
        if (e) {
                free(db.registry);
                return e;
        }
        db.tx.scope = scope;
        *out = db;
        return ERR_OK;
}

void database_close(struct database *db)
{
        if (!db->tx.engine)
                return;
        engine_rollback(db->tx.engine);
        engine_close(db->tx.engine);
        free(db->registry);
        *db = (struct database){ 0 };
}

/* ---- tables ---- */

static struct str quoted(struct scope *scope, struct str list, struct str name)
{
        return arena_printf(&scope->arena, STR_FMT "%s\"" STR_FMT "\"", STR_ARG(list), list.n ? "," : "",
                            STR_ARG(name));
}

static void describe(struct scope *scope, struct table *table, const struct column_row *columns, size_t n)
{
        size_t in_key = 0;

        for (size_t i = 0; i < n; i++) {
                if (!str_eq(columns[i].of, table->name))
                        continue;
                table->columns = quoted(scope, table->columns, columns[i].name);
                table->n_columns++;
                in_key += columns[i].key != 0;
        }
        for (size_t place = 1; place <= in_key; place++)
                for (size_t i = 0; i < n; i++)
                        if (columns[i].key == (int64_t)place && str_eq(columns[i].of, table->name))
                                table->key = quoted(scope, table->key, columns[i].name);
}

static bool is_among(const char *const *names, struct str name)
{
        while (names && *names && !str_is(name, *names))
                names++;
        return names && *names;
}

enum err catalogue_read(struct database *db, const char *const *left_out, struct catalogue *out)
{
        struct scope *scope = db->tx.scope;
        struct list tables, columns;
        enum err e = tx_rows(&db->tx, CATALOGUE_TABLES, &tables, NULL, 0);
        const struct table_row *row;

        if (!e)
                e = tx_rows(&db->tx, CATALOGUE_COLUMNS, &columns, NULL, 0);
        if (e)
                return e;
        row = tables.items;
        *out = (struct catalogue){ .tables = arena_array(&scope->arena, struct table, tables.n + 1) };
        for (size_t i = 0; i < tables.n; i++) {
                struct table *table = &out->tables[out->n];

                if (is_among(db->tx.engine->type->own_tables, row[i].name) || is_among(left_out, row[i].name))
                        continue;
                *table = (struct table){ .name = row[i].name };
                describe(scope, table, columns.items, columns.n);
                out->migrated |= str_is(table->name, "migration");
                out->n++;
        }
        return ERR_OK;
}

enum err catalogue_expect(struct scope *scope, const struct migration *migrations, size_t n,
                          const char *const *left_out, struct catalogue *out, int64_t **rows)
{
        struct database fresh;
        enum err e = database_open(scope, ":memory:", ENGINE_WRITER, &fresh);

        if (e)
                return e;
        e = migrate_within(&fresh.tx, CATALOGUE_STATEMENTS, migrations, n);
        if (!e)
                e = catalogue_read(&fresh, left_out, out);
        if (!e)
                *rows = arena_array(&scope->arena, int64_t, out->n + 1);
        for (size_t i = 0; !e && i < out->n; i++)
                e = catalogue_count(&fresh, &out->tables[i], &(*rows)[i]);
        database_close(&fresh);
        return e;
}

/* Texts of two engines may have added columns in another order: they are compared as sets. */
static bool same_columns(const struct table *a, const struct table *b)
{
        struct str rest = a->columns;
        bool same = a->n_columns == b->n_columns;

        while (same && rest.n)
                same = str_contains(b->columns, str_cut(rest, ',', &rest));
        return same;
}

enum err catalogue_compare(struct database *db, const struct catalogue *expected, const struct catalogue *found)
{
        size_t i = 0, j = 0;

        while (i < expected->n || j < found->n) {
                const struct table *a = &expected->tables[i], *b = &found->tables[j];
                int order = i == expected->n ? 1 : j == found->n ? -1 : str_cmp(a->name, b->name);

                if (order < 0)
                        return fail(db->tx.scope, ERR_CONFLICT, "table " STR_FMT " is missing in the database",
                                    STR_ARG(a->name));
                if (order > 0)
                        return fail(db->tx.scope, ERR_CONFLICT,
                                    "table " STR_FMT " is not of this program's schema; it would be lost: move it"
                                    " elsewhere",
                                    STR_ARG(b->name));
                if (!same_columns(a, b))
                        return fail(db->tx.scope, ERR_CONFLICT,
                                    "table " STR_FMT " has the columns " STR_FMT ", not " STR_FMT,
                                    STR_ARG(a->name), STR_ARG(b->columns), STR_ARG(a->columns));
                i++;
                j++;
        }
        return ERR_OK;
}

static enum err take_number(void *arg, const struct arg *row, size_t n)
{
        BUG_ON(n != 1);
        *(int64_t *)arg = row->number;
        return ERR_OK;
}

enum err catalogue_count(struct database *db, const struct table *table, int64_t *rows)
{
        struct scope *scope = db->tx.scope;
        const char *sql =
                arena_printf(&scope->arena, "SELECT count(*) FROM \"" STR_FMT "\"", STR_ARG(table->name)).p;

        return db->tx.engine->type->scan(scope, db->tx.engine, sql, take_number, rows);
}

enum err catalogue_applied(struct database *db, const struct catalogue *catalogue, struct list *out)
{
        *out = (struct list){ 0 };
        return catalogue->migrated ?
                       tx_rows(&db->tx, CATALOGUE_STATEMENTS + MIGRATION_APPLIED, out, NULL, 0) :
                       ERR_OK;
}
