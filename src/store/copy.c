#include "store/copy.h"

#include <endian.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "store/catalogue.h"
#include "store/migrate.h"
#include "store/part.h"

struct copy {
        struct scope *scope;
        const struct copy_options *options;
        struct catalogue expected;
        int64_t *rows_of_fresh; /* as many as a schema that was just made has, of each table */
        struct database from, to;
};

/* ---- digests ---- */

struct digest {
        crypto_generichash_state state;
        int64_t rows;
};

static void digest_begin(struct digest *d)
{
        d->rows = 0;
        crypto_generichash_init(&d->state, NULL, 0, COPY_DIGEST);
}

static void digest_bytes(struct digest *d, const void *bytes, size_t n)
{
        crypto_generichash_update(&d->state, bytes, n);
}

/* A value: its kind, then eight bytes, the number or a length, most significant first, then the text. */
static void digest_row(struct digest *d, const struct arg *row, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                unsigned char kind = (unsigned char)row[i].kind;
                bool is_number = row[i].kind == ARG_INT;
                uint64_t wide = htobe64(is_number ? (uint64_t)row[i].number : row[i].text.n);

                digest_bytes(d, &kind, 1);
                digest_bytes(d, &wide, sizeof(wide));
                if (!is_number && row[i].text.n)
                        digest_bytes(d, row[i].text.p, row[i].text.n);
        }
        d->rows++;
}

/* ---- one table ---- */

struct passage {
        struct copy *copy;
        struct digest digest;
        bool loads;
};

static enum err pass_row(void *arg, const struct arg *row, size_t n)
{
        struct passage *p = arg;
        struct engine *to = p->copy->to.tx.engine;

        digest_row(&p->digest, row, n);
        return p->loads ? to->type->load_row(p->copy->scope, to, row) : ERR_OK;
}

static enum err pass(struct copy *copy, struct database *db, const struct table *table, struct passage *p)
{
        const char *sql = arena_printf(&copy->scope->arena, "SELECT " STR_FMT " FROM \"" STR_FMT "\" ORDER BY " STR_FMT,
                                       STR_ARG(table->columns), STR_ARG(table->name), STR_ARG(table->key))
                                  .p;

        p->copy = copy;
        digest_begin(&p->digest);
        return db->tx.engine->type->scan(copy->scope, db->tx.engine, sql, pass_row, p);
}

static enum err load(struct copy *copy, const struct table *table, struct passage *p)
{
        struct engine *to = copy->to.tx.engine;
        enum err e = to->type->load_begin(copy->scope, to, table);

        p->loads = true;
        if (!e)
                e = pass(copy, &copy->from, table, p);
        return e ? e : to->type->load_end(copy->scope, to);
}

static enum err copy_table(struct copy *copy, const struct table *table, struct copied_table *out)
{
        struct passage there = { 0 }, here = { 0 };
        unsigned char digest[COPY_DIGEST];
        enum err e = load(copy, table, &there);

        if (e && !copy->to.tx.engine->failure && !copy->from.tx.engine->failure)
                return fail(copy->scope, e, "table " STR_FMT ": " STR_FMT, STR_ARG(table->name),
                            STR_ARG(copy->scope->fault.detail));
        if (!e)
                e = pass(copy, &copy->to, table, &here);
        if (e)
                return e;
        *out = (struct copied_table){ .name = table->name, .rows = there.digest.rows };
        crypto_generichash_final(&there.digest.state, out->digest, COPY_DIGEST);
        crypto_generichash_final(&here.digest.state, digest, COPY_DIGEST);
        if (here.digest.rows != out->rows || memcmp(digest, out->digest, COPY_DIGEST) != 0)
                return fail(copy->scope, ERR_INTERNAL,
                            "table " STR_FMT " is not the same in both: %lld rows were read, %lld arrived",
                            STR_ARG(table->name), (long long)out->rows, (long long)here.digest.rows);
        return ERR_OK;
}

/* ---- both ends ---- */

static enum err open_source(struct copy *copy)
{
        const struct copy_options *o = copy->options;
        struct catalogue found;
        struct list applied = { 0 };
        enum err e = database_open(copy->scope, o->from, ENGINE_READER, &copy->from);

        if (!e)
                e = catalogue_read(&copy->from, o->left_out, &found);
        if (!e && !found.migrated)
                e = fail(copy->scope, ERR_NOT_FOUND, "there is no database of this program to copy");
        if (!e)
                e = catalogue_applied(&copy->from, &found, &applied);
        if (!e)
                e = migrations_check(copy->scope, &applied, o->migrations, o->n_migrations);
        if (!e && applied.n != o->n_migrations)
                e = fail(copy->scope, ERR_CONFLICT,
                         "the database has %zu migrations and this program %zu: use the newest program, after"
                         " `baton db migrate --apply`",
                         applied.n, o->n_migrations);
        return e ? e : catalogue_compare(&copy->from, &copy->expected, &found);
}

static enum err empty_table(struct copy *copy, const struct table *table, int64_t fresh)
{
        const char *sql = arena_printf(&copy->scope->arena, "DELETE FROM \"" STR_FMT "\"", STR_ARG(table->name)).p;
        struct engine *to = copy->to.tx.engine;
        int64_t rows;
        enum err e = catalogue_count(&copy->to, table, &rows);

        if (!e && rows != fresh)
                e = fail(copy->scope, ERR_CONFLICT,
                         "the target is not empty: table " STR_FMT " has %lld rows; choose another --to",
                         STR_ARG(table->name), (long long)rows);
        return e || !rows ? e : to->type->script(copy->scope, to, sql);
}

/* In the transaction that fills it, so that it is as it was if that fails. */
static enum err open_target(struct copy *copy, const char *path)
{
        const struct copy_options *o = copy->options;
        struct catalogue found;
        int64_t users;
        enum err e = database_open(copy->scope, path, ENGINE_WRITER, &copy->to);

        if (!e)
                e = tx_number(&copy->to.tx, CATALOGUE_USERS, &users, NONE());
        if (!e && users > 1)
                e = fail(copy->scope, ERR_UNAVAILABLE, "a server uses the target; stop it, or choose another --to");
        if (!e)
                e = migrate_within(&copy->to.tx, CATALOGUE_STATEMENTS, o->migrations, o->n_migrations);
        if (!e)
                e = catalogue_read(&copy->to, o->left_out, &found);
        if (!e)
                e = catalogue_compare(&copy->to, &copy->expected, &found);
        for (size_t i = 0; !e && i < copy->expected.n; i++)
                e = empty_table(copy, &copy->expected.tables[i], copy->rows_of_fresh[i]);
        return e;
}

static enum err fill(struct copy *copy, struct list *tables)
{
        struct copied_table *out = arena_array(&copy->scope->arena, struct copied_table, copy->expected.n + 1);
        struct engine *to = copy->to.tx.engine;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < copy->expected.n; i++)
                e = copy_table(copy, &copy->expected.tables[i], &out[i]);
        if (!e && to->type->loaded)
                e = to->type->script(copy->scope, to, to->type->loaded);
        if (!e)
                e = engine_commit(copy->scope, to);
        *tables = (struct list){ out, copy->expected.n };
        return e;
}

static enum err run(struct copy *copy, const char *path, struct list *tables)
{
        const struct copy_options *o = copy->options;
        enum err e = catalogue_expect(copy->scope, o->migrations, o->n_migrations, o->left_out, &copy->expected,
                                      &copy->rows_of_fresh);

        if (!e)
                e = open_source(copy);
        if (!e)
                e = open_target(copy, path);
        if (!e)
                e = fill(copy, tables);
        if (!e)
                e = engine_checkpoint(copy->scope, copy->to.tx.engine, true);
        database_close(&copy->from);
        database_close(&copy->to);
        return e;
}

enum err store_copy(struct scope *scope, const struct copy_options *options, struct list *tables)
{
        struct copy copy = { .scope = scope, .options = options };
        struct part part;
        enum err e;

        BUG_ON(sodium_init() < 0);
        if (store_is_url(options->to))
                return run(&copy, options->to, tables);
        e = part_begin(scope, options->to, false, &part);
        if (e)
                return e;
        e = run(&copy, part.temporary, tables);
        if (!e)
                return part_finish(scope, &part);
        part_drop(scope, &part);
        return e;
}
