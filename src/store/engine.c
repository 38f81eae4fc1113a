#include "store/engine.h"

#include <string.h>

#include "core/buf.h"
#include "core/failpoint.h"
#include "core/log.h"

enum { TEXT_MAX = 1 << 20 };

/* ---- connections ---- */

bool store_is_url(const char *path)
{
        struct str text = str_from(path);

        return str_starts(text, "postgres://") || str_starts(text, "postgresql://");
}

enum err engine_open(struct scope *scope, const char *path, enum engine_mode mode,
                     const struct statement *registry, size_t n, struct engine **out)
{
        const struct engine_type *type = store_is_url(path) ? &postgres_engine : &sqlite_engine;

        return type->open(scope, path, mode, registry, n, out);
}

void engine_close(struct engine *engine)
{
        engine->type->close(engine);
}

/* ---- texts ---- */

static void substitute(struct buf *out, const char *text, const char *mark, struct str by)
{
        const char *at;

        while ((at = strstr(text, mark))) {
                buf_bytes(out, text, (size_t)(at - text));
                buf_str(out, by);
                text = at + strlen(mark);
        }
        buf_text(out, text);
}

static const char *in_dialect(struct scope *scope, const struct engine *engine, const char *text)
{
        return engine->type->translate ? engine->type->translate(&scope->arena, text).p : text;
}

const char *engine_text(struct scope *scope, const struct engine *engine, int id)
{
        const struct statement *s = &engine->registry[id];
        const char *own = engine->type->translate ? s->postgres : NULL;
        struct buf columns = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX);
        const char *out;

        substitute(&columns, own ? own : s->text, "{columns}",
                   s->record ? record_columns(&scope->arena, s->record) : STR(""));
        substitute(&text, columns.p, "{values}",
                   s->record ? record_placeholders(&scope->arena, s->record) : STR(""));
        out = in_dialect(scope, engine, str_c(&scope->arena, buf_view(&text)));
        buf_done(&columns);
        buf_done(&text);
        return out;
}

enum err engine_script(struct scope *scope, struct engine *engine, const char *sql, const char *own)
{
        const char *text = own && engine->type->translate ? own : sql;

        return engine->type->script(scope, engine, in_dialect(scope, engine, text));
}

enum err engine_prepare_all(struct scope *scope, struct engine *engine)
{
        enum err first = ERR_OK;

        for (size_t i = 0; i < engine->n && !engine->failure; i++) {
                enum err e = engine->type->prepare(scope, engine, (int)i);

                if (!e)
                        continue;
                log_write(LOG_ERROR, "statement", "name", engine->registry[i].name, "detail",
                          str_c(&scope->arena, scope->fault.detail), NULL);
                first = first ? first : e;
        }
        return first;
}

/* ---- transactions ---- */

enum err engine_begin(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_BEGIN);

        engine->failure = ERR_OK;
        return e ? e : engine->type->begin(scope, engine);
}

enum err engine_commit(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_BEFORE_COMMIT);

        if (e)
                engine->failure = e;
        return e ? e : engine->type->commit(scope, engine);
}

void engine_rollback(struct engine *engine)
{
        engine->type->rollback(engine);
}

enum err engine_savepoint(struct scope *scope, struct engine *engine)
{
        enum err e = failpoint(scope, FAILPOINT_SAVEPOINT);

        return e ? e : engine->type->savepoint(scope, engine);
}

enum err engine_release(struct scope *scope, struct engine *engine)
{
        return engine->type->release(scope, engine);
}

enum err engine_rollback_to(struct scope *scope, struct engine *engine)
{
        return engine->type->rollback_to(scope, engine);
}

enum err engine_failure(struct engine *engine)
{
        return engine->type->failure(engine);
}

enum err engine_checkpoint(struct scope *scope, struct engine *engine, bool truncate)
{
        enum err e;

        if (!engine->type->checkpoint)
                return ERR_OK;
        e = failpoint(scope, FAILPOINT_CHECKPOINT);
        if (e)
                return e;
        e = engine->type->checkpoint(scope, engine, truncate);
        failpoint_pass(FAILPOINT_CHECKPOINT_DONE);
        return e;
}

int64_t engine_log_bytes(struct engine *engine)
{
        return engine->type->log_bytes ? engine->type->log_bytes(engine) : 0;
}

/* ---- rows ---- */

void *rows_next(struct scope *scope, struct rows *rows)
{
        void *at;

        if (rows->n == rows->room) {
                void *before = rows->items;

                rows->room = rows->room ? rows->room * 2 : 8;
                rows->items = arena_alloc(&scope->arena, rows->room * rows->size, 16);
                if (rows->n)
                        memcpy(rows->items, before, rows->n * rows->size);
        }
        at = (char *)rows->items + rows->n++ * rows->size;
        return memset(at, 0, rows->size);
}

struct arg field_arg(const struct field *f, const void *base)
{
        switch (f->kind) {
        case FIELD_INT:
                return INT(*FIELD_IN(base, f, int64_t));
        case FIELD_TIME:
        case FIELD_ID:
                return OPT(*FIELD_IN(base, f, int64_t));
        case FIELD_BOOL:
                return INT(*FIELD_IN(base, f, bool));
        case FIELD_ENUM:
                return INT(*FIELD_IN(base, f, int));
        case FIELD_STR:
        case FIELD_JSON:
                return TEXT(*FIELD_IN(base, f, struct str));
        case FIELD_BYTES:
                return BLOB(*FIELD_IN(base, f, struct str));
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS:
                return NAME(*FIELD_IN(base, f, struct str));
        case FIELD_SET:
        case FIELD_RECORD:
        case FIELD_LIST:
                break;
        }
        BUG_ON(true); /* no column */
        return NONE();
}

bool field_is_text(const struct field *f)
{
        return f->kind == FIELD_STR || f->kind == FIELD_JSON || f->kind == FIELD_BYTES;
}

/* The rows may have been written by anybody: a number that has no name leads out of the table. */
static enum err enum_set(struct scope *scope, const struct field *f, int64_t number, int *out)
{
        if (!names_has(f->type, number))
                return fail(scope, ERR_INTERNAL, "the database holds %lld as %s, which means nothing",
                            (long long)number, f->name);
        *out = (int)number;
        return ERR_OK;
}

enum err field_set(struct tx *tx, const struct field *f, void *base, int64_t number, struct str text)
{
        switch (f->kind) {
        case FIELD_INT:
        case FIELD_TIME:
        case FIELD_ID:
                *FIELD_AT(base, f, int64_t) = number;
                break;
        case FIELD_BOOL:
                *FIELD_AT(base, f, bool) = number != 0;
                break;
        case FIELD_ENUM:
                return enum_set(tx->scope, f, number, FIELD_AT(base, f, int));
        case FIELD_STR:
        case FIELD_JSON:
        case FIELD_BYTES:
                *FIELD_AT(base, f, struct str) = text;
                break;
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS: /* numbers of names begin at 1 */
                *FIELD_AT(base, f, struct str) = number ? tx_name_text(tx, number) : STR_NONE;
                break;
        case FIELD_SET:
        case FIELD_RECORD:
        case FIELD_LIST:
                break;
        }
        return ERR_OK;
}
