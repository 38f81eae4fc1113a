#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/failpoint.h"
#include "store/engine.h"

enum { PAGE_BYTES = 4096 };

struct engine {
        sqlite3 *db;
        const struct statement *registry;
        size_t n;
        sqlite3_stmt **prepared;
        sqlite3_stmt *begin, *commit, *name_add, *name_text, *name_id;
        int64_t log_pages, home_pages; /* in the log; of these at the last checkpoint */
        enum err failure;              /* the storage failed under the open transaction */
};

/* ---- opening ---- */

/* Errors that the statement itself has earned; all others come from below it. */
static bool is_of_the_statement(int code)
{
        return code == SQLITE_ERROR || code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH ||
               code == SQLITE_TOOBIG || code == SQLITE_RANGE;
}

/* No room: the engine's own word for it, or what the system said when a file could not grow. */
static bool is_full(struct engine *engine, int code)
{
        int system = sqlite3_system_errno(engine->db);

        return code == SQLITE_FULL ||
               (code == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT));
}

static enum err broken(struct scope *scope, struct engine *engine)
{
        int code = sqlite3_extended_errcode(engine->db) & 0xff;
        enum err e = is_full(engine, code) ? ERR_STORAGE_FULL : ERR_UNAVAILABLE;

        if (!is_of_the_statement(code))
                engine->failure = e;
        if (e == ERR_STORAGE_FULL)
                return fail(scope, e,
                            "the disk that holds the database is full; free space and try again");
        return fail(scope, e, "the database failed: %s", sqlite3_errmsg(engine->db));
}

static int on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
        struct engine *engine = ctx;

        (void)db;
        (void)name;
        engine->log_pages = pages;
        if (pages < engine->home_pages)
                engine->home_pages = 0; /* the log was begun anew */
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

enum err engine_script(struct scope *scope, struct engine *engine, const char *sql)
{
        return sqlite3_exec(engine->db, sql, NULL, NULL, NULL) == SQLITE_OK ?
                       ERR_OK :
                       broken(scope, engine);
}

static enum err prepare(struct scope *scope, struct engine *engine, const char *sql,
                        sqlite3_stmt **out)
{
        int code = sqlite3_prepare_v3(engine->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);

        if (code == SQLITE_OK)
                return ERR_OK;
        if (!is_of_the_statement(code & 0xff))
                return broken(scope, engine);
        return fail(scope, ERR_INTERNAL, "%s in: %.400s", sqlite3_errmsg(engine->db), sql);
}

const char *store_engine_version(void)
{
        return sqlite3_libversion();
}

enum err engine_open(struct scope *scope, const char *path, enum engine_mode mode,
                     const struct statement *registry, size_t n, struct engine **out)
{
        struct engine *engine = xcalloc(1, sizeof(*engine));
        bool writer = mode == ENGINE_WRITER;
        int flags = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
        enum err e;

        /* Counting allocations would cost a lock each.  Refused when SQLite is in use already: then
         * an earlier writer has set it. */
        if (writer)
                sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        engine->registry = registry;
        engine->n = n;
        engine->prepared = xcalloc(n, sizeof(sqlite3_stmt *));
        if (sqlite3_open_v2(path, &engine->db,
                            flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL)) {
                e = fail(scope, ERR_UNAVAILABLE, "cannot open %s: %s", path,
                         sqlite3_errmsg(engine->db));
                engine_close(engine);
                return e;
        }
        sqlite3_busy_timeout(engine->db, 2000);
        e = engine_script(scope, engine, writer ? writer_pragmas : reader_pragmas);
        /* After the pragmas: wal_autocheckpoint would take the hook away. */
        sqlite3_wal_hook(engine->db, on_wal, engine);
        if (!e)
                e = prepare(scope, engine, writer ? "BEGIN IMMEDIATE" : "BEGIN", &engine->begin);
        if (!e)
                e = prepare(scope, engine, "COMMIT", &engine->commit);
        if (e) {
                engine_close(engine);
                return e;
        }
        *out = engine;
        return ERR_OK;
}

void engine_close(struct engine *engine)
{
        sqlite3_stmt *own[] = { engine->begin, engine->commit, engine->name_add,
                                engine->name_text, engine->name_id };

        for (size_t i = 0; i < engine->n; i++)
                sqlite3_finalize(engine->prepared[i]);
        for (size_t i = 0; i < LENGTH(own); i++)
                sqlite3_finalize(own[i]);
        sqlite3_close(engine->db);
        free(engine->prepared);
        free(engine);
}

/* ---- statements ---- */

static void substitute(struct buf *out, const char *text, const char *mark, struct str by)
{
        const char *at;

        while ((at = strstr(text, mark))) {
                buf_bytes(out, text, (size_t)(at - text));
                buf_str(out, by);
                text = at + strlen(mark);
        }
        buf_text(out, text);
        buf_char(out, '\0');
}

static enum err statement_prepare(struct scope *scope, struct engine *engine, int id)
{
        const struct statement *s = &engine->registry[id];
        struct buf columns = BUF_INIT(1 << 20), text = BUF_INIT(1 << 20);
        enum err e;

        substitute(&columns, s->text, "{columns}",
                   s->record ? record_columns(&scope->arena, s->record) : STR(""));
        substitute(&text, columns.p, "{values}",
                   s->record ? record_placeholders(&scope->arena, s->record) : STR(""));
        e = prepare(scope, engine, text.p, &engine->prepared[id]);
        buf_done(&columns);
        buf_done(&text);
        return e;
}

enum err engine_prepare_all(struct scope *scope, struct engine *engine)
{
        for (size_t i = 0; i < engine->n; i++) {
                enum err e = engine->prepared[i] ? ERR_OK :
                                                   statement_prepare(scope, engine, (int)i);

                if (e)
                        return e;
        }
        return ERR_OK;
}

static enum err statement(struct tx *tx, int id, sqlite3_stmt **out)
{
        enum err e = ERR_OK;

        BUG_ON(id < 0 || (size_t)id >= tx->engine->n);
        if (!tx->engine->prepared[id])
                e = statement_prepare(tx->scope, tx->engine, id);
        *out = tx->engine->prepared[id];
        return e;
}

static void bind_text(sqlite3_stmt *s, int at, struct str text)
{
        if (text.p)
                sqlite3_bind_text(s, at, text.p, (int)text.n, SQLITE_STATIC);
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

static enum err bind(struct tx *tx, sqlite3_stmt *s, const struct arg *args, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int at = (int)i + 1;
                enum err e = ERR_OK;

                switch (args[i].kind) {
                case ARG_NULL:
                        sqlite3_bind_null(s, at);
                        break;
                case ARG_INT:
                        sqlite3_bind_int64(s, at, args[i].number);
                        break;
                case ARG_TEXT:
                        bind_text(s, at, args[i].text);
                        break;
                case ARG_BLOB:
                        if (args[i].text.p)
                                sqlite3_bind_blob(s, at, args[i].text.p, (int)args[i].text.n,
                                                  SQLITE_STATIC);
                        else
                                sqlite3_bind_null(s, at);
                        break;
                case ARG_NAME:
                        e = bind_name(tx, s, at, args[i].text);
                        break;
                }
                if (e)
                        return e;
        }
        return ERR_OK;
}

static enum err bind_field(struct tx *tx, sqlite3_stmt *s, int at, const struct field *f,
                           const void *base)
{
        const struct str *text = FIELD_IN(base, f, struct str);
        int64_t number;

        switch (f->kind) {
        case FIELD_INT:
                sqlite3_bind_int64(s, at, *FIELD_IN(base, f, int64_t));
                break;
        case FIELD_TIME:
        case FIELD_ID:
                number = *FIELD_IN(base, f, int64_t);
                if (number)
                        sqlite3_bind_int64(s, at, number);
                else
                        sqlite3_bind_null(s, at);
                break;
        case FIELD_BOOL:
                sqlite3_bind_int(s, at, *FIELD_IN(base, f, bool));
                break;
        case FIELD_ENUM:
                sqlite3_bind_int(s, at, *FIELD_IN(base, f, int));
                break;
        case FIELD_STR:
        case FIELD_JSON:
                bind_text(s, at, *text);
                break;
        case FIELD_BYTES:
                if (text->p)
                        sqlite3_bind_blob(s, at, text->p, (int)text->n, SQLITE_STATIC);
                else
                        sqlite3_bind_null(s, at);
                break;
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS:
                return bind_name(tx, s, at, *text);
        case FIELD_SET:
        case FIELD_RECORD:
        case FIELD_LIST:
                BUG_ON(true);
                break;
        }
        return ERR_OK;
}

static struct str column_text(struct arena *arena, sqlite3_stmt *s, int at)
{
        const char *p;

        if (sqlite3_column_type(s, at) == SQLITE_NULL)
                return STR_NONE;
        p = sqlite3_column_blob(s, at);
        return str_dup(arena, (struct str){ p ? p : "", (size_t)sqlite3_column_bytes(s, at) });
}

/* The file may have been written by anybody: a number that has no name leads out of the table. */
static enum err read_enum(struct tx *tx, const struct field *f, int64_t number, int *out)
{
        if (!names_has(f->type, number))
                return fail(tx->scope, ERR_INTERNAL, "the database holds %lld as %s, which means"
                            " nothing", (long long)number, f->name);
        *out = (int)number;
        return ERR_OK;
}

static enum err read_field(struct tx *tx, sqlite3_stmt *s, int at, const struct field *f, void *base)
{
        int64_t name;

        switch (f->kind) {
        case FIELD_INT:
        case FIELD_TIME:
        case FIELD_ID:
                *FIELD_AT(base, f, int64_t) = sqlite3_column_int64(s, at);
                break;
        case FIELD_BOOL:
                *FIELD_AT(base, f, bool) = sqlite3_column_int(s, at) != 0;
                break;
        case FIELD_ENUM:
                return read_enum(tx, f, sqlite3_column_int64(s, at), FIELD_AT(base, f, int));
        case FIELD_STR:
        case FIELD_JSON:
        case FIELD_BYTES:
                *FIELD_AT(base, f, struct str) = column_text(&tx->scope->arena, s, at);
                break;
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS:
                name = sqlite3_column_int64(s, at); /* numbers of names begin at 1 */
                *FIELD_AT(base, f, struct str) = name ? tx_name_text(tx, name) : STR_NONE;
                break;
        case FIELD_SET:
        case FIELD_RECORD:
        case FIELD_LIST:
                break;
        }
        return ERR_OK;
}

static enum err read_row(struct tx *tx, sqlite3_stmt *s, const struct record *record, void *out)
{
        int column = 0;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < record->n; i++)
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
                                                                 broken(tx->scope, tx->engine);

        sqlite3_reset(s);
        return e;
}

enum err tx_write(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);

        if (e)
                return e;
        e = end(tx, s, sqlite3_step(s));
        if (!e && changed)
                *changed = sqlite3_changes64(tx->engine->db);
        return e;
}

enum err tx_insert(struct tx *tx, int id, const void *in)
{
        const struct record *record = tx->engine->registry[id].record;
        sqlite3_stmt *s;
        enum err e = statement(tx, id, &s);
        int column = 0;

        for (size_t i = 0; !e && i < record->n; i++)
                if (record->fields[i].flags & FIELD_COLUMN)
                        e = bind_field(tx, s, ++column, &record->fields[i], in);
        if (!e)
                e = failpoint(tx->scope, FAILPOINT_WRITE);
        if (e)
                return e;
        tx->writes++;
        return end(tx, s, sqlite3_step(s));
}

enum err tx_row(struct tx *tx, int id, void *out, const struct arg *args, size_t n)
{
        const struct record *record = tx->engine->registry[id].record;
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);
        int code;

        if (e)
                return e;
        code = sqlite3_step(s);
        if (code == SQLITE_ROW) {
                memset(out, 0, record->size);
                e = read_row(tx, s, record, out);
        }
        if (e) {
                sqlite3_reset(s);
                return e;
        }
        e = end(tx, s, code);
        return e ? e : code == SQLITE_ROW ? ERR_OK : ERR_EMPTY;
}

enum err tx_rows(struct tx *tx, int id, struct list *out, const struct arg *args, size_t n)
{
        const struct record *record = tx->engine->registry[id].record;
        size_t room = 0;
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);
        int code = SQLITE_DONE;

        *out = (struct list){ arena_alloc(&tx->scope->arena, 0, 16), 0 };
        if (e)
                return e;
        while (!e && (code = sqlite3_step(s)) == SQLITE_ROW) {
                if (out->n == room) {
                        void *grown;

                        room = room ? room * 2 : 8;
                        grown = arena_alloc(&tx->scope->arena, room * record->size, 16);
                        memcpy(grown, out->items, out->n * record->size);
                        out->items = grown;
                }
                e = read_row(tx, s, record, (char *)out->items + out->n++ * record->size);
        }
        if (!e)
                return end(tx, s, code);
        sqlite3_reset(s);
        return e;
}

enum err tx_numbers(struct tx *tx, int id, int64_t *out, size_t n_out, const struct arg *args,
                    size_t n)
{
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);
        int code;

        if (e)
                return e;
        code = sqlite3_step(s);
        for (size_t i = 0; code == SQLITE_ROW && i < n_out; i++)
                out[i] = sqlite3_column_int64(s, (int)i);
        e = end(tx, s, code);
        return e ? e : code == SQLITE_ROW ? ERR_OK : ERR_EMPTY;
}

enum err tx_number_rows(struct tx *tx, int id, int64_t **out, size_t *n_rows, size_t n_columns,
                        const struct arg *args, size_t n)
{
        size_t room = 8, row = n_columns * sizeof(int64_t);
        sqlite3_stmt *s;
        enum err e = begin(tx, id, args, n, &s);
        int code;

        *n_rows = 0;
        *out = arena_array(&tx->scope->arena, int64_t, room * n_columns);
        if (e)
                return e;
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                if (*n_rows == room) {
                        int64_t *grown;

                        room *= 2;
                        grown = arena_array(&tx->scope->arena, int64_t, room * n_columns);
                        memcpy(grown, *out, *n_rows * row);
                        *out = grown;
                }
                for (size_t i = 0; i < n_columns; i++)
                        (*out)[*n_rows * n_columns + i] = sqlite3_column_int64(s, (int)i);
                ++*n_rows;
        }
        return end(tx, s, code);
}

enum err tx_flush(struct tx *tx)
{
        (void)tx; /* SQLite has already run everything */
        return ERR_OK;
}

/* ---- names ---- */

static enum err own(struct tx *tx, sqlite3_stmt **s, const char *sql)
{
        return *s ? ERR_OK : prepare(tx->scope, tx->engine, sql, s);
}

static enum err name_query(struct tx *tx, struct str text, int64_t *id)
{
        sqlite3_stmt **s = &tx->engine->name_id;
        enum err e = own(tx, s, "SELECT id FROM name WHERE text = ?1");
        int code;

        if (e)
                return e;
        bind_text(*s, 1, text);
        code = sqlite3_step(*s);
        *id = code == SQLITE_ROW ? sqlite3_column_int64(*s, 0) : 0;
        return end(tx, *s, code);
}

enum err tx_name_find(struct tx *tx, struct str text, int64_t *id)
{
        if (!tx->writing)
                return name_query(tx, text, id);
        *id = names_lookup(tx->names, text);
        return ERR_OK;
}

enum err tx_name(struct tx *tx, struct str text, int64_t *id)
{
        sqlite3_stmt **s = &tx->engine->name_add;
        enum err e = tx_name_find(tx, text, id);

        if (e || *id || !tx->writing)
                return e;
        e = own(tx, s, "INSERT INTO name (text) VALUES (?1)");
        if (e)
                return e;
        bind_text(*s, 1, text);
        tx->writes++;
        e = end(tx, *s, sqlite3_step(*s));
        if (e)
                return e;
        *id = sqlite3_last_insert_rowid(tx->engine->db);
        names_add(tx->names, *id, text);
        return ERR_OK;
}

struct str tx_name_text(struct tx *tx, int64_t id)
{
        struct str text = names_get(tx->names, id);
        sqlite3_stmt **s = &tx->engine->name_text;
        int code;

        if (text.p || own(tx, s, "SELECT text FROM name WHERE id = ?1"))
                return text;
        /* Committed but not published yet, or made in this very transaction. */
        sqlite3_bind_int64(*s, 1, id);
        code = sqlite3_step(*s);
        if (code == SQLITE_ROW)
                text = column_text(&tx->scope->arena, *s, 0);
        return end(tx, *s, code) ? STR_NONE : text; /* a failure is told by engine_failure() */
}

/* ---- transactions ---- */

static enum err run_own(struct scope *scope, struct engine *engine, sqlite3_stmt *s)
{
        int code = sqlite3_step(s);
        enum err e = code == SQLITE_DONE ? ERR_OK : broken(scope, engine);

        sqlite3_reset(s);
        return e;
}

enum err engine_begin(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_BEGIN);

        engine->failure = ERR_OK;
        return e ? e : run_own(scope, engine, engine->begin);
}

enum err engine_commit(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_BEFORE_COMMIT);

        return e ? e : run_own(scope, engine, engine->commit);
}

void engine_rollback(struct engine *engine)
{
        if (!sqlite3_get_autocommit(engine->db))
                sqlite3_exec(engine->db, "ROLLBACK", NULL, NULL, NULL);
}

enum err engine_savepoint(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_SAVEPOINT);

        return e ? e : engine_script(scope, engine, "SAVEPOINT call");
}

enum err engine_release(struct scope *scope, struct engine *engine)
{
        return engine_script(scope, engine, "RELEASE call");
}

enum err engine_rollback_to(struct scope *scope, struct engine *engine)
{
        return engine_script(scope, engine, "ROLLBACK TO call; RELEASE call");
}

enum err engine_failure(struct engine *engine)
{
        return engine->failure || !sqlite3_get_autocommit(engine->db) ? engine->failure :
                                                                        ERR_UNAVAILABLE;
}

enum err engine_checkpoint(struct scope *scope, struct engine *engine, bool truncate)
{
        int log = 0, done = 0, code;
        enum err e = failpoint(scope, FAILPOINT_CHECKPOINT);

        if (e)
                return e;
        code = sqlite3_wal_checkpoint_v2(engine->db, NULL,
                                         truncate ? SQLITE_CHECKPOINT_TRUNCATE :
                                                    SQLITE_CHECKPOINT_PASSIVE,
                                         &log, &done);
        failpoint_pass(FAILPOINT_CHECKPOINT_DONE);
        if (code == SQLITE_OK) {
                engine->log_pages = truncate ? 0 : engine->log_pages;
                engine->home_pages = truncate ? 0 : done; /* readers may have held some back */
                return ERR_OK;
        }
        if (!truncate && ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED))
                return ERR_OK;
        return broken(scope, engine);
}

int64_t engine_wal_bytes(struct engine *engine)
{
        return (engine->log_pages - engine->home_pages) * PAGE_BYTES;
}
