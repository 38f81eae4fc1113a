#include "store/tx.h"

#include "store/engine.h"
#include "store/migrate.h"

/* ---- statements ---- */

enum err tx_write(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        return tx->engine->type->write(tx, id, changed, args, n);
}

enum err tx_write_one(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        const struct engine_type *type = tx->engine->type;

        return (type->write_one ? type->write_one : type->write)(tx, id, changed, args, n);
}

enum err tx_insert(struct tx *tx, int id, const void *record)
{
        return tx->engine->type->insert(tx, id, record);
}

enum err tx_flush(struct tx *tx)
{
        return tx->engine->type->flush(tx);
}

bool tx_reads_ahead(const struct tx *tx)
{
        return tx->engine->type->read_ahead;
}

enum err tx_read_ahead(struct tx *tx, int id, const int64_t *keys, size_t n)
{
        return tx_reads_ahead(tx) && n ? tx->engine->type->read_ahead(tx, id, keys, n) : ERR_OK;
}

enum err tx_row(struct tx *tx, int id, void *out, const struct arg *args, size_t n)
{
        const struct record *record = tx->engine->registry[id].record;
        struct rows rows = { record, .size = record->size, .most = 1, .items = out, .room = 1 };
        enum err e = tx->engine->type->query(tx, id, args, n, &rows);

        return e ? e : rows.n ? ERR_OK : ERR_EMPTY;
}

enum err tx_rows(struct tx *tx, int id, struct list *out, const struct arg *args, size_t n)
{
        const struct record *record = tx->engine->registry[id].record;
        struct rows rows = { record, .size = record->size, .most = SIZE_MAX,
                             .items = arena_alloc(&tx->scope->arena, 0, 16) };
        enum err e = tx->engine->type->query(tx, id, args, n, &rows);

        *out = (struct list){ rows.items, rows.n };
        return e;
}

enum err tx_numbers(struct tx *tx, int id, int64_t *out, size_t n_out, const struct arg *args, size_t n)
{
        struct rows rows = { .columns = n_out, .size = n_out * sizeof(int64_t), .most = 1,
                             .items = out, .room = 1 };
        enum err e = tx->engine->type->query(tx, id, args, n, &rows);

        return e ? e : rows.n ? ERR_OK : ERR_EMPTY;
}

enum err tx_number_rows(struct tx *tx, int id, int64_t **out, size_t *n_rows, size_t n_columns,
                        const struct arg *args, size_t n)
{
        struct rows rows = { .columns = n_columns, .size = n_columns * sizeof(int64_t),
                             .most = SIZE_MAX, .items = arena_alloc(&tx->scope->arena, 0, 16) };
        enum err e = tx->engine->type->query(tx, id, args, n, &rows);

        *out = rows.items;
        *n_rows = rows.n;
        return e;
}

/* ---- names ---- */

/* The store's own statements are the last of each registry. */
static int own(const struct tx *tx, int statement)
{
        return (int)tx->engine->n - STORE_STATEMENTS + statement;
}

enum err tx_name_find(struct tx *tx, struct str text, int64_t *id)
{
        enum err e;

        if (tx->writing) {
                *id = names_lookup(tx->names, text);
                return ERR_OK;
        }
        *id = names_number(tx->names, text);
        if (*id)
                return ERR_OK;
        e = tx_number(tx, own(tx, NAME_ID), id, TEXT(text)); /* of another server, in this very moment */
        if (e != ERR_EMPTY)
                return e;
        *id = 0;
        return ERR_OK;
}

enum err tx_name(struct tx *tx, struct str text, int64_t *id)
{
        enum err e = tx_name_find(tx, text, id);

        if (e || *id || !tx->writing)
                return e;
        e = tx_number(tx, own(tx, NAME_ADD), id, TEXT(text));
        if (!e)
                names_add(tx->names, *id, text);
        return e;
}

struct str tx_name_text(struct tx *tx, int64_t id)
{
        struct str text = names_get(tx->names, id);
        struct name_row row;

        if (text.p)
                return text;
        /* Committed but not published yet, or made in this very transaction.  A failure is told by
         * engine_failure(). */
        return tx_one(tx, own(tx, NAME_GET), &row, INT(id)) ? STR_NONE : row.text;
}
