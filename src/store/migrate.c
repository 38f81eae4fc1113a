#include "store/migrate.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "core/failpoint.h"

static const struct field applied_fields[] = {
        { "number", FIELD_INT, FIELD_COLUMN, offsetof(struct applied, number) },
        { "min_compatible", FIELD_INT, FIELD_COLUMN, offsetof(struct applied, min_compatible) },
        { "checksum", FIELD_STR, FIELD_COLUMN, offsetof(struct applied, checksum) },
};
static const struct record applied_record = { "migration", applied_fields, LENGTH(applied_fields),
                                              sizeof(struct applied), -1 };

static const struct field name_fields[] = {
        { "id", FIELD_INT, FIELD_COLUMN, offsetof(struct name_row, id) },
        { "text", FIELD_STR, FIELD_COLUMN, offsetof(struct name_row, text) },
};
static const struct record name_record = { "name", name_fields, LENGTH(name_fields),
                                           sizeof(struct name_row), -1 };

const struct statement store_statements[STORE_STATEMENTS] = {
        [MIGRATION_APPLIED] = { "migration_applied",
                                "SELECT {columns} FROM migration ORDER BY number",
                                &applied_record },
        [MIGRATION_ADD] = { "migration_add",
                            "INSERT INTO migration (number, min_compatible, checksum, name, at)"
                            " VALUES (?1, ?2, ?3, ?4, ?5)",
                            NULL },
        [MIGRATION_NEEDS] = { "migration_needs", "SELECT coalesce(max(min_compatible), 0) FROM migration", NULL },
        /* A file has one program. */
        [SCHEMA_KNOWN] = { "schema_known", "SELECT 0", NULL,
                           "SELECT count(*) FROM pg_advisory_lock_shared(" SCHEMA_LOCK ", ?1::integer)" },
        [SCHEMA_OLDER] = { "schema_older", "SELECT 0", NULL,
                           "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
                           " (SELECT oid FROM pg_database WHERE datname = current_database())"
                           " AND classid = " SCHEMA_LOCK " AND objsubid = 2 AND objid::bigint < ?1" },
        [NAME_NEWER] = { "name_newer", "SELECT {columns} FROM name WHERE id > ?1", &name_record },
        [NAME_GET] = { "name_get", "SELECT {columns} FROM name WHERE id = ?1", &name_record },
        [NAME_ID] = { "name_id", "SELECT id FROM name WHERE text = ?1", NULL },
        [NAME_ADD] = { "name_add", "INSERT INTO name (text) VALUES (?1) RETURNING id", NULL },
};

struct statement *registry_build(const struct statement *statements, size_t n)
{
        struct statement *registry = xcalloc(n + STORE_STATEMENTS, sizeof(struct statement));

        if (n)
                memcpy(registry, statements, n * sizeof(struct statement));
        memcpy(registry + n, store_statements, sizeof(store_statements));
        return registry;
}

static const char base[] =
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, min_compatible INTEGER"
        " NOT NULL, checksum TEXT NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL) STRICT;"
        "CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;";

static void checksum(const char *text, char hex[65])
{
        unsigned char digest[crypto_hash_sha256_BYTES];

        crypto_hash_sha256(digest, (const unsigned char *)text, strlen(text));
        sodium_bin2hex(hex, 65, digest, sizeof(digest));
}

/* Numbers may have gaps. */
static int newest(const struct migration *all, size_t n)
{
        return n ? all[n - 1].number : 0;
}

/* Those that have the database open go on with what they know. */
static enum err spare_others(struct tx *tx, int own, const struct migration *m)
{
        int64_t older = 0;
        enum err e = tx_number(tx, own + SCHEMA_OLDER, &older, INT(m->min_compatible));

        return e || !older ? e :
                             fail(tx->scope, ERR_CONFLICT,
                                  "programs older than this one use the database (%lld), and after migration %d could"
                                  " not, since they do not know schema %d: stop them first",
                                  (long long)older, m->number, m->min_compatible);
}

static enum err apply(struct tx *tx, int own, const struct migration *m)
{
        enum err e = spare_others(tx, own, m);
        char sum[65];

        if (!e)
                e = engine_script(tx->scope, tx->engine, m->text, m->postgres);
        checksum(m->text, sum);
        if (!e)
                e = tx_exec(tx, own + MIGRATION_ADD, INT(m->number), INT(m->min_compatible),
                            TEXT(str_from(sum)), TEXT(str_from(m->name)), INT(tx->scope->now));
        return e ? e : failpoint(tx->scope, FAILPOINT_BOOT_MIGRATION);
}

enum err migrations_check(struct scope *scope, const struct list *rows, const struct migration *all,
                          size_t n)
{
        const struct applied *applied = rows->items;
        int known = newest(all, n);

        for (size_t i = 0; i < rows->n; i++) {
                char sum[65];

                if (i >= n) {
                        if (applied[i].min_compatible > known)
                                return fail(scope, ERR_UNAVAILABLE,
                                            "the database has schema %lld and needs a program that"
                                            " knows schema %lld; this one knows %d: use a newer"
                                            " baton",
                                            (long long)applied[rows->n - 1].number,
                                            (long long)applied[i].min_compatible, known);
                        continue;
                }
                checksum(all[i].text, sum);
                if (!str_is(applied[i].checksum, sum))
                        return fail(scope, ERR_UNAVAILABLE,
                                    "migration %d was applied with another text than this program"
                                    " has: the database belongs to a different build",
                                    all[i].number);
        }
        return ERR_OK;
}

enum err migrate_within(struct tx *tx, int own, const struct migration *all, size_t n)
{
        struct list rows = { 0 };
        enum err e = ERR_OK;

        if (tx->engine->type->prelude)
                e = tx->engine->type->script(tx->scope, tx->engine, tx->engine->type->prelude);
        if (!e)
                e = engine_script(tx->scope, tx->engine, base, NULL);
        if (!e)
                e = tx_rows(tx, own + MIGRATION_APPLIED, &rows, NULL, 0);
        if (!e)
                e = migrations_check(tx->scope, &rows, all, n);
        for (size_t i = rows.n; !e && i < n; i++)
                e = apply(tx, own, &all[i]);
        return e;
}

static enum err stay(struct tx *tx, int own, const struct migration *all, size_t n)
{
        int64_t ignored;

        return tx_number(tx, own + SCHEMA_KNOWN, &ignored, INT(newest(all, n)));
}

enum err migrate(struct tx *tx, int own, const struct migration *all, size_t n)
{
        enum err e = engine_begin(tx->scope, tx->engine);

        if (!e)
                e = stay(tx, own, all, n);
        if (!e)
                e = migrate_within(tx, own, all, n);
        if (!e)
                e = engine_commit(tx->scope, tx->engine);
        if (e)
                engine_rollback(tx->engine);
        return e;
}

enum err migrations_again(struct tx *tx, int own, const struct migration *all, size_t n)
{
        int64_t needs = 0;
        enum err e = engine_begin(tx->scope, tx->engine);

        if (!e)
                e = stay(tx, own, all, n);
        if (!e)
                e = tx_number(tx, own + MIGRATION_NEEDS, &needs, NONE());
        if (!e && needs > newest(all, n))
                e = fail(tx->scope, ERR_UNAVAILABLE,
                         "the database was migrated meanwhile and needs a program that knows schema %lld; this one"
                         " knows %d: use a newer baton",
                         (long long)needs, newest(all, n));
        engine_rollback(tx->engine);
        return e;
}

enum err names_load(struct tx *tx, int own)
{
        struct list rows;
        enum err e = tx_all(tx, own + NAME_NEWER, &rows, INT(names_newest(tx->names)));
        const struct name_row *row = rows.items;

        for (size_t i = 0; !e && i < rows.n; i++)
                names_add(tx->names, row[i].id, row[i].text);
        names_publish(tx->names);
        return e;
}
