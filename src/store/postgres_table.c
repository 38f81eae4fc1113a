#include <endian.h>
#include <libpq-fe.h>
#include <string.h>

#include "store/postgres.h"

enum { LOAD_BYTES = 1 << 20 }; /* sent at a time */

static struct arg column_value(const PGresult *result, int row, int column)
{
        Oid type = PQftype(result, column);

        if (PQgetisnull(result, row, column))
                return NONE();
        if (type != TEXT_TYPE && type != BYTEA_TYPE)
                return INT(pg_number(result, row, column));
        return (struct arg){ .kind = type == TEXT_TYPE ? ARG_TEXT : ARG_BLOB,
                             .text = { PQgetvalue(result, row, column),
                                       (size_t)PQgetlength(result, row, column) } };
}

/* Some rows at a time, so that memory does not depend on how many there are. */
enum err pg_scan(struct scope *scope, struct engine *engine, const char *sql, take_row *take, void *arg)
{
        static const char fetch[] = "FETCH 500 FROM scan";
        struct postgres *pg = postgres_of(engine);
        struct buf text = BUF_INIT(1 << 16);
        struct arg row[TABLE_COLUMNS_MAX];
        int n = 1;
        enum err e = pg_send_waiting(scope, pg);

        buf_printf(&text, "DECLARE scan NO SCROLL CURSOR FOR %s", sql);
        if (!e)
                e = pg_command(scope, pg, text.p);
        buf_done(&text);
        while (!e && n) {
                PGresult *result = NULL;

                e = pg_command(scope, pg, fetch);
                if (!e)
                        e = pg_settle(scope, pg, &result);
                n = PQntuples(result);
                for (int i = 0; !e && i < n; i++) {
                        BUG_ON(PQnfields(result) > TABLE_COLUMNS_MAX);
                        for (int j = 0; j < PQnfields(result); j++)
                                row[j] = column_value(result, i, j);
                        e = take(arg, row, (size_t)PQnfields(result));
                }
                PQclear(result);
        }
        return e ? e : pg_command(scope, pg, "CLOSE scan");
}

/* COPY does not go with pipeline mode. */
enum err pg_load_begin(struct scope *scope, struct engine *engine, const struct table *table)
{
        /* Signature, no flags, no extension. */
        static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
        struct postgres *pg = postgres_of(engine);
        struct buf text = BUF_INIT(1 << 16);
        enum err e = pg_send_waiting(scope, pg);
        PGresult *result;

        if (!e)
                e = pg_settle(scope, pg, NULL);
        if (!e && !PQexitPipelineMode(pg->conn))
                e = pg_lost(scope, pg);
        if (!e) /* nobody waits for this turn */
                e = pg_plain(scope, pg, "SET LOCAL statement_timeout = 0;"
                                         "SET LOCAL idle_in_transaction_session_timeout = 0");
        if (e)
                return e;
        buf_printf(&text, "COPY \"" STR_FMT "\" (" STR_FMT ") FROM STDIN (FORMAT binary)",
                   STR_ARG(table->name), STR_ARG(table->columns));
        result = PQexec(pg->conn, text.p);
        buf_done(&text);
        if (PQresultStatus(result) != PGRES_COPY_IN)
                e = pg_refused(scope, pg, result);
        PQclear(result);
        buf_done(&pg->load);
        pg->load = BUF_INIT(1 << 30);
        pg->load_columns = table->n_columns;
        buf_bytes(&pg->load, header, 19);
        return e;
}

static enum err load_send(struct scope *scope, struct postgres *pg)
{
        bool sent = PQputCopyData(pg->conn, pg->load.p, (int)pg->load.n) == 1;

        buf_clear(&pg->load);
        return sent ? ERR_OK : pg_lost(scope, pg);
}

static void load_length(struct postgres *pg, size_t n)
{
        uint32_t wide = htobe32((uint32_t)n);

        buf_bytes(&pg->load, &wide, sizeof(wide));
}

enum err pg_load_row(struct scope *scope, struct engine *engine, const struct arg *row)
{
        struct postgres *pg = postgres_of(engine);
        uint16_t columns = htobe16((uint16_t)pg->load_columns);

        buf_bytes(&pg->load, &columns, sizeof(columns));
        for (size_t i = 0; i < pg->load_columns; i++) {
                int64_t number = (int64_t)htobe64((uint64_t)row[i].number);
                struct str text = row[i].kind == ARG_INT ? (struct str){ (char *)&number, sizeof(number) } :
                                                           row[i].text;

                if (row[i].kind == ARG_TEXT && memchr(text.p, 0, text.n))
                        return fail(scope, ERR_VALIDATION,
                                    "a text holds the character NUL, which PostgreSQL does not take");
                load_length(pg, row[i].kind == ARG_NULL ? UINT32_MAX : text.n);
                if (row[i].kind != ARG_NULL)
                        buf_str(&pg->load, text);
        }
        BUG_ON(pg->load.full);
        return pg->load.n < LOAD_BYTES ? ERR_OK : load_send(scope, pg);
}

enum err pg_load_end(struct scope *scope, struct engine *engine)
{
        static const uint16_t trailer = 0xffff;
        struct postgres *pg = postgres_of(engine);
        PGresult *result;
        enum err e;

        buf_bytes(&pg->load, &trailer, sizeof(trailer));
        e = load_send(scope, pg);
        if (!e && PQputCopyEnd(pg->conn, NULL) != 1)
                e = pg_lost(scope, pg);
        while (!e && (result = PQgetResult(pg->conn))) {
                if (PQresultStatus(result) != PGRES_COMMAND_OK)
                        e = pg_refused(scope, pg, result);
                PQclear(result);
        }
        if (!e && !PQenterPipelineMode(pg->conn))
                e = pg_lost(scope, pg);
        pg->wrote = true;
        pg->written = UINT64_MAX;
        return e;
}

/* What gives numbers goes on after the highest that is there. */
const char pg_loaded[] =
        "DO $do$ DECLARE c record; BEGIN\n"
        "FOR c IN SELECT table_name AS t, column_name AS n FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND is_identity = 'YES' LOOP\n"
        "EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false)"
        " FROM %I', quote_ident(c.t), c.n, c.n, c.t);\n"
        "END LOOP; END $do$; ANALYZE";
