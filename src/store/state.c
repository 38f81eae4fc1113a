#include "store/state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "store/catalogue.h"
#include "store/migrate.h"

static enum err read_engine(struct database *db, struct database_state *out)
{
        struct database_facts facts;
        enum err e = tx_one(&db->tx, CATALOGUE_ENGINE, &facts, NONE());

        if (e)
                return e;
        out->engine = facts.engine;
        out->place = facts.place;
        out->bytes = facts.bytes;
        return tx_number(&db->tx, CATALOGUE_USERS, &out->users, NONE());
}

/* Numbers may have gaps: what is pending is what comes after the newest one. */
static enum err read_schema(struct database *db, const struct catalogue *catalogue, const struct migration *migrations,
                            size_t n, struct database_state *out)
{
        struct list applied;
        const struct applied *row;
        enum err e = catalogue_applied(db, catalogue, &applied);

        row = applied.items;
        for (size_t i = 0; !e && i < applied.n; i++) {
                out->schema = row[i].number;
                if (row[i].min_compatible > out->needs)
                        out->needs = row[i].min_compatible;
        }
        for (size_t i = 0; !e && i < n; i++)
                out->pending += migrations[i].number > out->schema;
        return e;
}

static enum err read_tables(struct database *db, const struct catalogue *catalogue, struct database_state *out)
{
        struct state_table *tables = arena_array(&db->tx.scope->arena, struct state_table, catalogue->n + 1);
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < catalogue->n; i++) {
                tables[i].name = catalogue->tables[i].name;
                e = catalogue_count(db, &catalogue->tables[i], &tables[i].rows);
        }
        out->tables = (struct list){ tables, catalogue->n };
        return e;
}

enum err store_state(struct scope *scope, const char *path, const struct migration *migrations, size_t n,
                     struct database_state *out)
{
        struct catalogue catalogue;
        struct database db;
        enum err e;

        *out = (struct database_state){ 0 };
        if (!store_is_url(path) && access(path, F_OK))
                return fail(scope, ERR_NOT_FOUND, "there is no database %s: %s", path, strerror(errno));
        e = database_open(scope, path, ENGINE_READER, &db);
        if (e)
                return e;
        e = catalogue_read(&db, NULL, &catalogue);
        if (!e)
                e = read_engine(&db, out);
        if (!e)
                e = read_schema(&db, &catalogue, migrations, n, out);
        if (!e)
                e = read_tables(&db, &catalogue, out);
        database_close(&db);
        return e;
}

enum err store_migrate(struct scope *scope, const char *path, const struct migration *migrations, size_t n)
{
        struct database db;
        enum err e = database_open(scope, path, ENGINE_WRITER, &db);

        if (e)
                return e;
        e = migrate_within(&db.tx, CATALOGUE_STATEMENTS, migrations, n);
        if (!e)
                e = engine_commit(scope, db.tx.engine);
        if (!e)
                e = engine_checkpoint(scope, db.tx.engine, true);
        database_close(&db);
        return e;
}
