#include "store/backup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/buf.h"
#include "store/catalogue.h"
#include "store/migrate.h"
#include "store/part.h"

/* ---- copies ---- */

/* In a statement. */
static const char *literal(struct scope *scope, const char *text)
{
        struct buf out = BUF_INIT(1 << 16);
        const char *copy;

        buf_char(&out, '\'');
        for (; *text; text++)
                buf_text(&out, *text == '\'' ? "''" : (const char[]){ *text, 0 });
        buf_char(&out, '\'');
        copy = str_c(&scope->arena, buf_view(&out));
        buf_done(&out);
        return copy;
}

/* One statement, so one snapshot: as with every reader, the writer waits for nothing. */
static enum err copy_into(struct scope *scope, const char *from, const char *to)
{
        const char *sql = arena_printf(&scope->arena, "PRAGMA query_only = OFF; VACUUM INTO %s", literal(scope, to)).p;
        struct database db;
        enum err e = database_open(scope, from, ENGINE_READER, &db);

        if (e)
                return e;
        engine_rollback(db.tx.engine);
        e = db.tx.engine->type->script(scope, db.tx.engine, sql);
        database_close(&db);
        if (e == ERR_STORAGE_FULL)
                e = fail(scope, e, "the disk that should hold %s is full; free space there and try again", to);
        return e;
}

enum err store_backup(struct scope *scope, const char *from, const char *to, bool replace)
{
        struct part part;
        enum err e = part_begin(scope, to, replace, &part);

        if (e)
                return e;
        e = copy_into(scope, from, part.temporary);
        if (!e)
                return part_finish(scope, &part);
        part_drop(scope, &part);
        return e;
}

/* ---- back ---- */

static const char *beside(struct scope *scope, const char *path, const char *suffix)
{
        return arena_printf(&scope->arena, "%s%s", path, suffix).p;
}

/* What its log holds is brought home first, so that the one file is the whole at every moment. */
static enum err set_aside(struct scope *scope, const char *path, const char **aside)
{
        struct database db;
        char name[32];
        time_t now = (time_t)(scope->now / US_PER_S);
        struct tm utc;

        if (database_open(scope, path, ENGINE_WRITER, &db) == ERR_OK) {
                engine_rollback(db.tx.engine);
                if (engine_checkpoint(scope, db.tx.engine, true))
                        scope->fault = (struct fault){ 0 };
                database_close(&db);
        }
        scope->fault = (struct fault){ 0 }; /* one that cannot be opened is kept too */
        gmtime_r(&now, &utc);
        strftime(name, sizeof(name), ".before-%Y%m%dT%H%M%SZ", &utc);
        *aside = beside(scope, path, name);
        if (rename(beside(scope, path, "-wal"), beside(scope, *aside, "-wal")) && errno != ENOENT)
                return fail(scope, ERR_UNAVAILABLE, "cannot keep the log of %s: %s", path, strerror(errno));
        unlink(beside(scope, path, "-shm"));
        if (link(path, *aside))
                return fail(scope, ERR_UNAVAILABLE, "cannot keep %s as %s: %s", path, *aside, strerror(errno));
        return ERR_OK;
}

enum err store_restore(struct scope *scope, const char *from, const char *to, bool replace, const char **aside)
{
        struct part part;
        enum err e = part_begin(scope, to, replace, &part);

        *aside = NULL;
        if (e)
                return e;
        e = copy_into(scope, from, part.temporary);
        if (!e && access(to, F_OK) == 0)
                e = set_aside(scope, to, aside);
        if (!e)
                return part_finish(scope, &part);
        part_drop(scope, &part);
        return e;
}

/* ---- looking ---- */

struct faults {
        struct scope *scope;
        struct str items[64]; /* of many the first say enough */
        size_t n;
};

static void add(struct faults *f, struct str sentence)
{
        if (f->n < LENGTH(f->items))
                f->items[f->n++] = sentence;
}

/* What was refused is something that was found. */
static void add_fault(struct faults *f)
{
        add(f, str_dup(&f->scope->arena, f->scope->fault.detail));
        f->scope->fault = (struct fault){ 0 };
}

static void add_rows(struct faults *f, struct database *db, int statement)
{
        struct list rows;

        if (tx_rows(&db->tx, statement, &rows, NULL, 0)) {
                add_fault(f);
                return;
        }
        for (size_t i = 0; i < rows.n; i++)
                if (!str_is(((const struct str *)rows.items)[i], "ok"))
                        add(f, ((const struct str *)rows.items)[i]);
}

static void look_at_schema(struct faults *f, struct database *db, const struct migration *migrations, size_t n,
                           bool *current)
{
        struct catalogue expected, found;
        int64_t *rows_of_fresh;
        struct list applied = { 0 };
        enum err e = catalogue_read(db, NULL, &found);

        if (!e && !found.migrated)
                e = fail(f->scope, ERR_CONFLICT, "it is no database of this program");
        if (!e)
                e = catalogue_applied(db, &found, &applied);
        if (!e)
                e = migrations_check(f->scope, &applied, migrations, n);
        *current = !e && applied.n == n;
        if (*current)
                e = catalogue_expect(f->scope, migrations, n, NULL, &expected, &rows_of_fresh);
        if (*current && !e)
                e = catalogue_compare(db, &expected, &found);
        if (e)
                add_fault(f);
}

enum err store_verify(struct scope *scope, const char *path, const struct migration *migrations, size_t n,
                      struct list *faults, bool *current)
{
        struct faults *f = arena_new(&scope->arena, struct faults);
        struct database db;

        *current = false;
        f->scope = scope;
        if (access(path, R_OK))
                return fail(scope, ERR_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
        if (database_open(scope, path, ENGINE_READER, &db)) {
                add_fault(f);
        } else {
                add_rows(f, &db, CATALOGUE_INTEGRITY);
                add_rows(f, &db, CATALOGUE_FOREIGN);
                look_at_schema(f, &db, migrations, n, current);
                database_close(&db);
        }
        *faults = (struct list){ f->items, f->n };
        return ERR_OK;
}
