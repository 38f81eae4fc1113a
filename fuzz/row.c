/*
 * Rows of a database that somebody else may have written: a line with the name of a record, then a
 * line for each column: a number, text between quotes, or anything else for NULL.
 */
#include <string.h>

#include "core/json_out.h"
#include "domain/sql.h"
#include "fuzz.h"
#include "store/store.h"

enum { COLUMNS_MAX = 128 };

struct row {
        const struct record *record;
        struct arg args[COLUMNS_MAX];
        size_t n;
        struct str json; /* absent when the row was refused */
};

static const struct record *find(struct str name)
{
        for (size_t i = 0; i < SQL_COUNT; i++)
                if (domain_statements[i].record && str_is(name, domain_statements[i].record->name))
                        return domain_statements[i].record;
        return NULL;
}

static struct arg column(struct str line)
{
        int64_t number;

        if (str_to_int(line, &number))
                return INT(number);
        if (line.n > 1 && line.p[0] == '"' && line.p[line.n - 1] == '"')
                return TEXT(str_slice(line, 1, line.n - 1));
        return NONE();
}

static enum err read_row(struct tx *tx, void *arg)
{
        struct row *row = arg;
        struct scope *scope = tx_scope(tx);
        void *value = arena_alloc(&scope->arena, row->record->size, 16);
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        enum err e = tx_row(tx, 0, value, row->args, row->n);

        if (!e) {
                json_record(&j, row->record, value);
                row->json = str_dup(&scope->arena, buf_view(&text));
        }
        buf_done(&text);
        return e;
}

void fuzz(struct scope *scope, struct str input)
{
        struct str rest, name = str_cut(input, '\n', &rest);
        struct row row = { .record = find(name) };
        struct statement statement = { "row", "SELECT {values}", row.record };
        struct store_options options = { .path = ":memory:",
                                         .world = &fuzz_world,
                                         .statements = &statement,
                                         .n_statements = 1 };
        struct store *store;
        enum err e;

        if (!row.record)
                return;
        while (rest.n && row.n < COLUMNS_MAX)
                row.args[row.n++] = column(str_cut(rest, '\n', &rest));
        for (size_t i = row.n = 0; i < row.record->n; i++)
                row.n += (row.record->fields[i].flags & FIELD_COLUMN) != 0;
        MUST(row.n <= COLUMNS_MAX);
        MUST(!store_open(scope, &options, &store));
        e = store_run(store, scope, read_row, &row);
        MUST(e ? scope->fault.code == e && scope->fault.detail.n : row.json.p != NULL);
        store_close(store);
}
