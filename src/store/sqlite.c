#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/failpoint.h"
#include "store/engine.h"

enum { PAGE_BYTES = 4096 };

struct sqlite {
        struct engine engine;
        sqlite3 *db;
        sqlite3_stmt **prepared;
        sqlite3_stmt *begin, *commit;
        sqlite3_stmt *load; /* of the table that is being filled */
        int64_t log_pages, home_pages; /* in the log; of these at the last checkpoint */
};

static struct sqlite *sqlite_of(struct engine *engine)
{
        return (struct sqlite *)engine;
}

/* ---- opening ---- */

/* Errors that the statement itself has earned; all others come from below it. */
static bool is_of_the_statement(int code)
{
        return code == SQLITE_ERROR || code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH ||
               code == SQLITE_TOOBIG || code == SQLITE_RANGE;
}

/* No room: the engine's own word for it, or what the system said when a file could not grow. */
static bool is_full(const struct sqlite *sqlite, int code)
{
        int system = sqlite3_system_errno(sqlite->db);

        return code == SQLITE_FULL ||
               (code == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT));
}

static enum err broken(struct scope *scope, struct sqlite *sqlite)
{
        int code = sqlite3_extended_errcode(sqlite->db) & 0xff;
        enum err e = is_full(sqlite, code) ? ERR_STORAGE_FULL : ERR_UNAVAILABLE;

        if (!is_of_the_statement(code))
                sqlite->engine.failure = e;
        if (e == ERR_STORAGE_FULL)
                return fail(scope, e,
                            "the disk that holds the database is full; free space and try again");
        return fail(scope, e, "the database failed: %s", sqlite3_errmsg(sqlite->db));
}

static int on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
        struct sqlite *sqlite = ctx;

        (void)db;
        (void)name;
        sqlite->log_pages = pages;
        if (pages < sqlite->home_pages)
                sqlite->home_pages = 0; /* the log was begun anew */
        return SQLITE_OK;
}

/*
 * One connection writes and checkpoints; the others are read-only and never checkpoint, because
 * several connections doing so at once can corrupt the log in SQLite before 3.51.3.  No automatic
 * checkpoint from the first statement on: setting auto_vacuum writes, and would bring a long log home
 * while everybody waits for the start.
 *
 * The writer's cache is small on purpose: a split of a page makes the next COMMIT walk all of it.
 */
static const char *const writer_pragmas =
        "PRAGMA wal_autocheckpoint=0;"
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "PRAGMA mmap_size=0; PRAGMA foreign_keys=OFF;"
        "PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;"
        "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON";
static const char *const reader_pragmas =
        "PRAGMA query_only=ON; PRAGMA wal_autocheckpoint=0; PRAGMA mmap_size=0;"
        "PRAGMA cache_size=-8192; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF";

static enum err script(struct scope *scope, struct engine *engine, const char *sql)
{
        struct sqlite *sqlite = sqlite_of(engine);

        return sqlite3_exec(sqlite->db, sql, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK :
                                                                             broken(scope, sqlite);
}

static enum err prepare_text(struct scope *scope, struct sqlite *sqlite, const char *sql,
                             sqlite3_stmt **out)
{
        int code = sqlite3_prepare_v3(sqlite->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);

        if (code == SQLITE_OK)
                return ERR_OK;
        if (!is_of_the_statement(code & 0xff))
                return broken(scope, sqlite);
        return fail(scope, ERR_INTERNAL, "%s in: %.400s", sqlite3_errmsg(sqlite->db), sql);
}

const char *store_engine_version(void)
{
        return sqlite3_libversion();
}

static void sqlite_close(struct engine *engine)
{
        struct sqlite *sqlite = sqlite_of(engine);

        for (size_t i = 0; i < engine->n; i++)
                sqlite3_finalize(sqlite->prepared[i]);
        sqlite3_finalize(sqlite->begin);
        sqlite3_finalize(sqlite->commit);
        sqlite3_finalize(sqlite->load);
        sqlite3_close(sqlite->db);
        free(sqlite->prepared);
        free(sqlite);
}

static enum err sqlite_open(struct scope *scope, const char *path, enum engine_mode mode,
                            const struct statement *registry, size_t n, struct engine **out)
{
        struct sqlite *sqlite = xcalloc(1, sizeof(*sqlite));
        struct engine *engine = &sqlite->engine;
        bool writer = mode == ENGINE_WRITER;
        int flags = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
        enum err e;

        /* Counting allocations would cost a lock each.  Refused when SQLite is in use already: then
         * an earlier writer has set it. */
        if (writer)
                sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        *engine = (struct engine){ .type = &sqlite_engine, .registry = registry, .n = n };
        sqlite->prepared = xcalloc(n, sizeof(sqlite3_stmt *));
        if (sqlite3_open_v2(path, &sqlite->db,
                            flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL)) {
                e = fail(scope, ERR_UNAVAILABLE, "cannot open %s: %s", path,
                         sqlite3_errmsg(sqlite->db));
                sqlite_close(engine);
                return e;
        }
        sqlite3_busy_timeout(sqlite->db, 2000);
        e = script(scope, engine, writer ? writer_pragmas : reader_pragmas);
        /* After the pragmas: wal_autocheckpoint would take the hook away. */
        sqlite3_wal_hook(sqlite->db, on_wal, sqlite);
        if (!e)
                e = prepare_text(scope, sqlite, writer ? "BEGIN IMMEDIATE" : "BEGIN", &sqlite->begin);
        if (!e)
                e = prepare_text(scope, sqlite, "COMMIT", &sqlite->commit);
        if (e) {
                sqlite_close(engine);
                return e;
        }
        *out = engine;
        return ERR_OK;
}

/* ---- statements ---- */

static enum err prepare(struct scope *scope, struct engine *engine, int id)
{
        struct sqlite *sqlite = sqlite_of(engine);

        return sqlite->prepared[id] ? ERR_OK :
                                      prepare_text(scope, sqlite, engine_text(scope, engine, id),
                                                   &sqlite->prepared[id]);
}

static enum err statement(struct tx *tx, int id, sqlite3_stmt **out)
{
        enum err e;

        BUG_ON(id < 0 || (size_t)id >= tx->engine->n);
        e = prepare(tx->scope, tx->engine, id);
        *out = sqlite_of(tx->engine)->prepared[id];
        return e;
}

static void bind_text(sqlite3_stmt *s, int at, struct str text)
{
        if (text.p)
                sqlite3_bind_text(s, at, text.p, (int)text.n, SQLITE_STATIC);
        else
                sqlite3_bind_null(s, at);
}

/* Anything but a name. */
static void bind_value(sqlite3_stmt *s, int at, const struct arg *value)
{
        if (value->kind == ARG_INT)
                sqlite3_bind_int64(s, at, value->number);
        else if (value->kind == ARG_TEXT)
                bind_text(s, at, value->text);
        else if (value->kind == ARG_BLOB && value->text.p)
                sqlite3_bind_blob(s, at, value->text.p, (int)value->text.n, SQLITE_STATIC);
        else
                sqlite3_bind_null(s, at);
}

static enum err bind_name(struct tx *tx, sqlite3_stmt *s, int at, struct str text)
{
        int64_t id = 0;
        enum err e;

        if (!text.p) {
                sqlite3_bind_null(s, at);
                return ERR_OK;
        }
        e = tx_name(tx, text, &id);
        sqlite3_bind_int64(s, at, id);
        return e;
}

static enum err bind_arg(struct tx *tx, sqlite3_stmt *s, int at, const struct arg *arg)
{
        if (arg->kind == ARG_NAME)
                return bind_name(tx, s, at, arg->text);
        bind_value(s, at, arg);
        return ERR_OK;
}

static enum err bind(struct tx *tx, sqlite3_stmt *s, const struct arg *args, size_t n)
{
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < n; i++)
                e = bind_arg(tx, s, (int)i + 1, &args[i]);
        return e;
}

static struct str column_text(struct arena *arena, sqlite3_stmt *s, int at)
{
        const char *p;

        if (sqlite3_column_type(s, at) == SQLITE_NULL)
                return STR_NONE;
        p = sqlite3_column_blob(s, at);
        return str_dup(arena, (struct str){ p ? p : "", (size_t)sqlite3_column_bytes(s, at) });
}

static enum err read_field(struct tx *tx, sqlite3_stmt *s, int at, const struct field *f, void *base)
{
        bool is_text = field_is_text(f);

        return field_set(tx, f, base, is_text ? 0 : sqlite3_column_int64(s, at),
                         is_text ? column_text(&tx->scope->arena, s, at) : STR_NONE);
}

static enum err read_row(struct tx *tx, sqlite3_stmt *s, struct rows *rows)
{
        const struct record *record = rows->record;
        void *out = rows_next(tx->scope, rows);
        int column = 0;
        enum err e = ERR_OK;

        for (size_t i = 0; i < rows->columns; i++)
                ((int64_t *)out)[i] = sqlite3_column_int64(s, (int)i);
        for (size_t i = 0; !e && record && i < record->n; i++)
                if (record->fields[i].flags & FIELD_COLUMN)
                        e = read_field(tx, s, column++, &record->fields[i], out);
        return e;
}

/* The statement with its arguments, ready to be stepped. */
static enum err begin(struct tx *tx, int id, const struct arg *args, size_t n, sqlite3_stmt **s)
{
        enum err e = statement(tx, id, s);

        if (!e)
                e = bind(tx, *s, args, n);
        /* A row may come from INSERT … RETURNING: a write, which only costs a savepoint. */
        if (!e && !sqlite3_stmt_readonly(*s)) {
                tx->writes++;
                e = failpoint(tx->scope, FAILPOINT_WRITE);
        }
        return e;
}

static enum err end(struct tx *tx, sqlite3_stmt *s, int code)
{
        enum err e = code == SQLITE_DONE || code == SQLITE_ROW ? ERR_OK :
                                                                 broken(tx->scope, sqlite_of(tx->engine));

        sqlite3_reset(s);
        return e;
}

static enum err write_rows(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);

        if (e)
                return e;
        e = end(tx, s, sqlite3_step(s));
        if (!e && changed)
                *changed = sqlite3_changes64(sqlite_of(tx->engine)->db);
        return e;
}

static enum err insert(struct tx *tx, int id, const void *in)
{
        const struct record *record = tx->engine->registry[id].record;
        sqlite3_stmt *s;
        enum err e = statement(tx, id, &s);
        int column = 0;

        for (size_t i = 0; !e && i < record->n; i++)
                if (record->fields[i].flags & FIELD_COLUMN) {
                        const struct arg arg = field_arg(&record->fields[i], in);

                        e = bind_arg(tx, s, ++column, &arg);
                }
        if (!e)
                e = failpoint(tx->scope, FAILPOINT_WRITE);
        if (e)
                return e;
        tx->writes++;
        return end(tx, s, sqlite3_step(s));
}

static enum err query(struct tx *tx, int id, const struct arg *args, size_t n, struct rows *rows)
{
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);
        int code = SQLITE_DONE;

        if (e)
                return e;
        while (!e && rows->n < rows->most && (code = sqlite3_step(s)) == SQLITE_ROW)
                e = read_row(tx, s, rows);
        if (!e)
                return end(tx, s, code);
        sqlite3_reset(s);
        return e;
}

static enum err flush(struct tx *tx)
{
        (void)tx; /* everything has run already */
        return ERR_OK;
}

/* ---- whole tables ---- */

static enum err run_own(struct scope *scope, struct sqlite *sqlite, sqlite3_stmt *s)
{
        int code = sqlite3_step(s);
        enum err e = code == SQLITE_DONE ? ERR_OK : broken(scope, sqlite);

        sqlite3_reset(s);
        return e;
}

static struct arg column_value(sqlite3_stmt *s, int at)
{
        struct arg value = { .kind = ARG_NULL };
        int type = sqlite3_column_type(s, at);

        if (type == SQLITE_INTEGER)
                return INT(sqlite3_column_int64(s, at));
        if (type == SQLITE_NULL)
                return value;
        value.kind = type == SQLITE_BLOB ? ARG_BLOB : ARG_TEXT;
        value.text.p = sqlite3_column_blob(s, at);
        value.text.n = (size_t)sqlite3_column_bytes(s, at);
        if (!value.text.p) /* of no bytes */
                value.text.p = "";
        return value;
}

static enum err scan(struct scope *scope, struct engine *engine, const char *sql, take_row *take, void *arg)
{
        struct arg row[TABLE_COLUMNS_MAX];
        sqlite3_stmt *s = NULL;
        enum err e = prepare_text(scope, sqlite_of(engine), sql, &s);
        int code = SQLITE_DONE, n = e ? 0 : sqlite3_column_count(s);

        BUG_ON(n > TABLE_COLUMNS_MAX);
        while (!e && (code = sqlite3_step(s)) == SQLITE_ROW) {
                for (int i = 0; i < n; i++)
                        row[i] = column_value(s, i);
                e = take(arg, row, (size_t)n);
        }
        if (!e && code != SQLITE_DONE)
                e = broken(scope, sqlite_of(engine));
        sqlite3_finalize(s);
        return e;
}

static enum err load_begin(struct scope *scope, struct engine *engine, const struct table *table)
{
        struct buf text = BUF_INIT(1 << 16);
        enum err e;

        buf_printf(&text, "INSERT INTO \"" STR_FMT "\" (" STR_FMT ") VALUES (?1", STR_ARG(table->name),
                   STR_ARG(table->columns));
        for (size_t i = 2; i <= table->n_columns; i++)
                buf_printf(&text, ",?%zu", i);
        buf_char(&text, ')');
        e = prepare_text(scope, sqlite_of(engine), text.p, &sqlite_of(engine)->load);
        buf_done(&text);
        return e;
}

static enum err load_row(struct scope *scope, struct engine *engine, const struct arg *row)
{
        struct sqlite *sqlite = sqlite_of(engine);
        sqlite3_stmt *s = sqlite->load;

        for (int i = 0; i < sqlite3_bind_parameter_count(s); i++)
                bind_value(s, i + 1, &row[i]);
        return run_own(scope, sqlite, s);
}

static enum err load_end(struct scope *scope, struct engine *engine)
{
        (void)scope; /* every row is in */
        sqlite3_finalize(sqlite_of(engine)->load);
        sqlite_of(engine)->load = NULL;
        return ERR_OK;
}

/* ---- transactions ---- */

static enum err sqlite_begin(struct scope *scope, struct engine *engine)
{
        return run_own(scope, sqlite_of(engine), sqlite_of(engine)->begin);
}

static enum err sqlite_commit(struct scope *scope, struct engine *engine)
{
        return run_own(scope, sqlite_of(engine), sqlite_of(engine)->commit);
}

static void sqlite_rollback(struct engine *engine)
{
        if (!sqlite3_get_autocommit(sqlite_of(engine)->db))
                sqlite3_exec(sqlite_of(engine)->db, "ROLLBACK", NULL, NULL, NULL);
}

static enum err savepoint(struct scope *scope, struct engine *engine)
{
        return script(scope, engine, "SAVEPOINT call");
}

static enum err release(struct scope *scope, struct engine *engine)
{
        return script(scope, engine, "RELEASE call");
}

static enum err rollback_to(struct scope *scope, struct engine *engine)
{
        return script(scope, engine, "ROLLBACK TO call; RELEASE call");
}

static enum err failure(struct engine *engine)
{
        return engine->failure || !sqlite3_get_autocommit(sqlite_of(engine)->db) ? engine->failure :
                                                                                  ERR_UNAVAILABLE;
}

static enum err checkpoint(struct scope *scope, struct engine *engine, bool truncate)
{
        struct sqlite *sqlite = sqlite_of(engine);
        int log = 0, done = 0;
        int code = sqlite3_wal_checkpoint_v2(sqlite->db, NULL,
                                             truncate ? SQLITE_CHECKPOINT_TRUNCATE :
                                                        SQLITE_CHECKPOINT_PASSIVE,
                                             &log, &done);

        if (code == SQLITE_OK) {
                sqlite->log_pages = truncate ? 0 : sqlite->log_pages;
                sqlite->home_pages = truncate ? 0 : done; /* readers may have held some back */
                return ERR_OK;
        }
        if (!truncate && ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED))
                return ERR_OK;
        return broken(scope, sqlite);
}

static int64_t log_bytes(struct engine *engine)
{
        return (sqlite_of(engine)->log_pages - sqlite_of(engine)->home_pages) * PAGE_BYTES;
}

const struct engine_type sqlite_engine = {
        .open = sqlite_open,
        .close = sqlite_close,
        .script = script,
        .prepare = prepare,
        .begin = sqlite_begin,
        .commit = sqlite_commit,
        .rollback = sqlite_rollback,
        .savepoint = savepoint,
        .release = release,
        .rollback_to = rollback_to,
        .failure = failure,
        .write = write_rows,
        .insert = insert,
        .query = query,
        .flush = flush,
        .checkpoint = checkpoint,
        .log_bytes = log_bytes,
        .scan = scan,
        .load_begin = load_begin,
        .load_row = load_row,
        .load_end = load_end,
};
