#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/failpoint.h"
#include "store/dialect.h"
#include "store/engine.h"

/*
 * The connection is always in pipeline mode.  What is sent is queued, and its results are read, in
 * order, when one of them is needed: a query pays one round trip for itself and all writes before it,
 * COMMIT for the rest.  A statement that fails makes PostgreSQL skip what follows up to a
 * synchronization, and its transaction accepts nothing more up to a rollback.
 */

/* Types of PostgreSQL, by the numbers that never change. */
enum { BOOL_TYPE = 16, BYTEA_TYPE = 17, INT8_TYPE = 20, INT2_TYPE = 21, INT4_TYPE = 23, TEXT_TYPE = 25,
       NUMERIC_TYPE = 1700 };

enum { PARAMETERS_MAX = 128, QUEUE_MOST = 200 };

struct prepared {
        bool is, writes;
        int n;
        Oid *types; /* of its parameters */
};

struct postgres {
        struct engine engine;
        enum engine_mode mode;
        char *url;
        PGconn *conn; /* NULL: lost */
        struct prepared *prepared;
        size_t queued; /* results to be read */
        size_t stale;  /* the first of them, which nobody asks for any more */
        bool open;     /* a transaction was begun */
        bool wrote;    /* something in it */
        bool aborted;  /* a statement of it has failed */
        struct buf load; /* rows of the table that is being filled */
        size_t load_columns;
        int64_t mark;  /* what its last transaction left; 0: none yet */
        int64_t found; /* what the open one found */
};

struct value {
        const char *p;
        int n;
        int64_t number;
};

static struct postgres *postgres_of(struct engine *engine)
{
        return (struct postgres *)engine;
}

/* ---- failing ---- */

static enum err lost(struct scope *scope, struct postgres *pg)
{
        pg->engine.failure = ERR_UNAVAILABLE;
        return fail(scope, ERR_UNAVAILABLE, "the database cannot be reached: %s",
                    pg->conn ? PQerrorMessage(pg->conn) : "the connection was closed");
}

/* Classes of errors that the statement has earned, or its transaction among others: data, constraints,
 * state, deadlocks and such, syntax.  All others come from below. */
static bool is_of_the_statement(const char *state)
{
        static const char *const classes[] = { "0A", "21", "22", "23", "25", "40", "42" };

        for (size_t i = 0; i < LENGTH(classes); i++)
                if (strncmp(state, classes[i], 2) == 0)
                        return true;
        return false;
}

static enum err refused(struct scope *scope, struct postgres *pg, const PGresult *result)
{
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

        if (!state || PQstatus(pg->conn) == CONNECTION_BAD)
                return lost(scope, pg);
        pg->aborted = true;
        if (!is_of_the_statement(state))
                pg->engine.failure = ERR_UNAVAILABLE;
        if (strcmp(state, "53100") == 0) {
                pg->engine.failure = ERR_STORAGE_FULL;
                return fail(scope, ERR_STORAGE_FULL,
                            "the disk that holds the database is full; free space and try again");
        }
        return fail(scope, ERR_UNAVAILABLE, "the database failed: %s", message);
}

/* ---- the queue ---- */

static bool queue(struct postgres *pg, int sent)
{
        pg->queued += sent == 1;
        return sent == 1;
}

static bool queue_sync(struct postgres *pg)
{
        return queue(pg, PQpipelineSync(pg->conn));
}

static enum err queue_command(struct scope *scope, struct postgres *pg, const char *sql)
{
        return pg->conn && queue(pg, PQsendQueryParams(pg->conn, sql, 0, NULL, NULL, NULL, NULL, 1)) ?
                       ERR_OK :
                       lost(scope, pg);
}

/* The next result, NULL when the connection is gone. */
static PGresult *next_result(struct postgres *pg)
{
        PGresult *result;

        do
                result = PQgetResult(pg->conn); /* NULL stands between two of them */
        while (!result && PQstatus(pg->conn) != CONNECTION_BAD);
        pg->queued--;
        return result;
}

/* After a statement that failed, what was skipped. */
static enum err skip_rest(struct scope *scope, struct postgres *pg)
{
        while (pg->queued) {
                PGresult *result = next_result(pg);

                if (!result)
                        return lost(scope, pg);
                PQclear(result);
        }
        pg->stale = 0;
        return ERR_OK;
}

/*
 * Reads what is queued and reports the first error; *last, when wanted, becomes the result of the last
 * statement.  The synchronization makes the server answer, and wait for more as one that is idle: only
 * then does idle_in_transaction_session_timeout count.
 */
static enum err settle(struct scope *scope, struct postgres *pg, PGresult **last)
{
        PGresult *result = NULL;
        enum err e;

        if (!pg->conn || !queue_sync(pg))
                return lost(scope, pg);
        while (pg->queued) {
                PGresult *next = next_result(pg);
                ExecStatusType status = PQresultStatus(next);
                bool stale = pg->stale > 0;

                pg->stale -= stale;
                if (status == PGRES_PIPELINE_SYNC) {
                        PQclear(next);
                        continue;
                }
                PQclear(result);
                result = next;
                if (!result)
                        return lost(scope, pg);
                if (stale || status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
                        continue;
                e = refused(scope, pg, result);
                PQclear(result);
                if (!pg->engine.failure)
                        e = skip_rest(scope, pg) ? ERR_UNAVAILABLE : e;
                return e;
        }
        if (last)
                *last = result;
        else
                PQclear(result);
        return ERR_OK;
}

/* ---- opening ---- */

static void ignore_notice(void *ctx, const PGresult *result)
{
        (void)ctx;
        (void)result;
}

/* An acknowledged change is on the disk whatever the database's default is. */
static const char *const session =
        "SET client_min_messages = warning; SET jit = off; SET lock_timeout = '5s';"
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'";

/* A server that stops in its turn loses it before the others lose patience. */
static const char *const writer_session =
        "SET lock_timeout = '15s'; SET idle_in_transaction_session_timeout = '4s';"
        "SET statement_timeout = '60s'; SELECT pg_advisory_lock_shared(" USERS_LOCK ")";

static enum err run_plain(struct scope *scope, struct postgres *pg, const char *sql)
{
        PGresult *result = PQexec(pg->conn, sql);
        ExecStatusType status = PQresultStatus(result);
        bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
        enum err e = ok ? ERR_OK : refused(scope, pg, result);

        PQclear(result);
        return e;
}

static void hang_up(struct postgres *pg)
{
        PQfinish(pg->conn);
        pg->conn = NULL;
        pg->queued = pg->stale = 0;
        pg->open = pg->aborted = false;
        for (size_t i = 0; i < pg->engine.n; i++) {
                free(pg->prepared[i].types);
                pg->prepared[i] = (struct prepared){ 0 };
        }
}

/* What the URL says counts before what is said here. */
static enum err call_up(struct scope *scope, struct postgres *pg)
{
        const char *const keywords[] = { "fallback_application_name", "connect_timeout",
                                         "keepalives_idle", "tcp_user_timeout", "dbname",
                                         "client_encoding", NULL };
        const char *const values[] = { "baton", "10", "10", "30000", pg->url, "UTF8", NULL };
        enum err e = ERR_OK;

        pg->conn = PQconnectdbParams(keywords, values, 1);
        if (PQstatus(pg->conn) != CONNECTION_OK)
                e = lost(scope, pg);
        if (!e) {
                PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
                e = run_plain(scope, pg, session);
        }
        if (!e && pg->mode == ENGINE_WRITER)
                e = run_plain(scope, pg, writer_session);
        if (!e && !PQenterPipelineMode(pg->conn))
                e = lost(scope, pg);
        if (e)
                hang_up(pg);
        return e;
}

static void postgres_close(struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);

        hang_up(pg);
        buf_done(&pg->load);
        free(pg->prepared);
        free(pg->url);
        free(pg);
}

static enum err postgres_open(struct scope *scope, const char *path, enum engine_mode mode,
                              const struct statement *registry, size_t n, struct engine **out)
{
        struct postgres *pg = xcalloc(1, sizeof(*pg));
        enum err e;

        pg->engine = (struct engine){ .type = &postgres_engine, .registry = registry, .n = n };
        pg->mode = mode;
        pg->url = xstrdup(path);
        pg->prepared = xcalloc(n, sizeof(struct prepared));
        e = call_up(scope, pg);
        if (e) {
                postgres_close(&pg->engine);
                return e;
        }
        *out = &pg->engine;
        return ERR_OK;
}

/* Several statements, which only the simple protocol takes. */
static enum err script(struct scope *scope, struct engine *engine, const char *sql)
{
        struct postgres *pg = postgres_of(engine);
        enum err e = settle(scope, pg, NULL);

        if (!e && !PQexitPipelineMode(pg->conn))
                e = lost(scope, pg);
        if (!e) {
                e = run_plain(scope, pg, sql);
                if (!PQenterPipelineMode(pg->conn))
                        e = lost(scope, pg);
        }
        return e;
}

/* ---- statements ---- */

static bool has_word(const char *text, const char *word)
{
        return strstr(text, word) != NULL;
}

/* Our own words are in capitals. */
static bool text_writes(const char *text)
{
        return has_word(text, "INSERT ") || has_word(text, "UPDATE ") || has_word(text, "DELETE ");
}

/* What PostgreSQL takes a parameter for by its place; every number is sent as the widest one. */
static Oid parameter_type(Oid understood)
{
        return understood == TEXT_TYPE || understood == BYTEA_TYPE ? understood : INT8_TYPE;
}

/* `$1 IS NULL` tells no type, and is refused for it however clear the other places are: it is left out. */
static const char *without_null_tests(struct arena *arena, const char *text)
{
        static const char *const tests[] = { " IS NULL", " IS NOT NULL" };
        char *copy = str_c(arena, str_from(text));

        for (char *at = strchr(copy, '$'); at; at = strchr(at + 1, '$')) {
                char *end = at + 1 + strspn(at + 1, "0123456789");

                for (size_t i = 0; i < LENGTH(tests); i++) {
                        size_t n = strlen(tests[i]);

                        if (strncmp(end, tests[i], n) != 0)
                                continue;
                        memset(at, ' ', (size_t)(end - at) + n);
                        memcpy(at, "TRUE", 4);
                }
        }
        return copy;
}

/* A number that stands at no place, for the text is one of several that take the same parameters, is
 * taken for a number; 0: PostgreSQL tells.  The length of the array. */
static int unplaced(const char *text, Oid types[PARAMETERS_MAX])
{
        int n = 0;

        for (int i = 0; i < PARAMETERS_MAX; i++)
                types[i] = INT8_TYPE;
        for (const char *at = strchr(text, '$'); at; at = strchr(at + 1, '$')) {
                int number = (int)strtol(at + 1, NULL, 10);

                BUG_ON(number > PARAMETERS_MAX);
                if (number)
                        types[number - 1] = 0;
                n = number > n ? number : n;
        }
        return n;
}

static enum err describe(struct scope *scope, struct postgres *pg, const char *text, struct prepared *out)
{
        PGresult *result = NULL;
        Oid types[PARAMETERS_MAX];
        enum err e;
        int n;

        text = without_null_tests(&scope->arena, text);
        n = unplaced(text, types);
        if (!queue(pg, PQsendPrepare(pg->conn, "", text, n, types)) ||
            !queue(pg, PQsendDescribePrepared(pg->conn, "")))
                return lost(scope, pg);
        e = settle(scope, pg, &result);
        if (e)
                return e;
        out->n = PQnparams(result);
        BUG_ON(out->n > PARAMETERS_MAX);
        out->types = xcalloc((size_t)out->n + 1, sizeof(Oid));
        for (int i = 0; i < out->n; i++)
                out->types[i] = parameter_type(PQparamtype(result, i));
        PQclear(result);
        return ERR_OK;
}

static const char *name_of(int id, char name[16])
{
        snprintf(name, 16, "s%d", id);
        return name;
}

static enum err prepare(struct scope *scope, struct engine *engine, int id)
{
        struct postgres *pg = postgres_of(engine);
        struct prepared *p = &pg->prepared[id];
        const char *text;
        char name[16];
        enum err e;

        BUG_ON(id < 0 || (size_t)id >= engine->n);
        if (p->is)
                return ERR_OK;
        if (!pg->conn)
                return lost(scope, pg);
        text = engine_text(scope, engine, id);
        e = describe(scope, pg, text, p);
        if (!e)
                e = queue(pg, PQsendPrepare(pg->conn, name_of(id, name), text, p->n, p->types)) ?
                            settle(scope, pg, NULL) :
                            lost(scope, pg);
        if (e && !engine->failure)
                e = fail(scope, ERR_INTERNAL, STR_FMT " in: %.2000s", STR_ARG(scope->fault.detail), text);
        if (e) {
                free(p->types);
                p->types = NULL;
                return e;
        }
        p->writes = text_writes(text);
        p->is = true;
        return ERR_OK;
}

/* ---- parameters ---- */

static void value_text(struct value *v, struct str text)
{
        v->p = text.p;
        v->n = (int)text.n;
}

static void value_number(struct value *v, int64_t number)
{
        v->number = (int64_t)htobe64((uint64_t)number);
        v->p = (const char *)&v->number;
        v->n = sizeof(v->number);
}

static enum err value_name(struct tx *tx, struct value *v, struct str text)
{
        int64_t id = 0;
        enum err e = text.p ? tx_name(tx, text, &id) : ERR_OK;

        if (text.p)
                value_number(v, id);
        return e;
}

static enum err value_arg(struct tx *tx, struct value *v, const struct arg *arg)
{
        switch (arg->kind) {
        case ARG_NULL:
                break;
        case ARG_INT:
                value_number(v, arg->number);
                break;
        case ARG_TEXT:
        case ARG_BLOB:
                value_text(v, arg->text);
                break;
        case ARG_NAME:
                return value_name(tx, v, arg->text);
        }
        return ERR_OK;
}

/* Sent for something else it would be read wrongly, or not at all. */
static bool suits(const struct value *v, Oid type)
{
        bool is_number = v->p == (const char *)&v->number;

        return !v->p || is_number == (type == INT8_TYPE);
}

/* Queues a statement; what is not given is NULL. */
static enum err send(struct tx *tx, int id, const struct value *values, size_t n)
{
        struct postgres *pg = postgres_of(tx->engine);
        const struct prepared *p = &pg->prepared[id];
        const char *at[PARAMETERS_MAX] = { 0 };
        int lengths[PARAMETERS_MAX] = { 0 }, binary[PARAMETERS_MAX];
        char name[16];
        enum err e = ERR_OK;

        BUG_ON(n > PARAMETERS_MAX);
        for (int i = 0; i < p->n; i++) {
                binary[i] = 1;
                if (i >= (int)n)
                        continue;
                if (!suits(&values[i], p->types[i]))
                        return fail(tx->scope, ERR_INTERNAL, "parameter %d of %s is of another type",
                                    i + 1, tx->engine->registry[id].name);
                at[i] = values[i].p;
                lengths[i] = values[i].n;
        }
        if (p->writes) {
                pg->wrote = true;
                tx->writes++;
                e = failpoint(tx->scope, FAILPOINT_WRITE);
        }
        if (e)
                return e;
        return queue(pg, PQsendQueryPrepared(pg->conn, name_of(id, name), p->n, at, lengths, binary, 1)) ?
                       ERR_OK :
                       lost(tx->scope, pg);
}

/* An error makes a rollback due, whether or not something was written. */
static enum err answer(struct tx *tx, PGresult **result)
{
        enum err e = settle(tx->scope, postgres_of(tx->engine), result);

        tx->writes += e != ERR_OK;
        return e;
}

static enum err send_args(struct tx *tx, int id, const struct arg *args, size_t n)
{
        struct value values[PARAMETERS_MAX] = { 0 };
        enum err e = prepare(tx->scope, tx->engine, id);

        BUG_ON(n > PARAMETERS_MAX);
        for (size_t i = 0; !e && i < n; i++)
                e = value_arg(tx, &values[i], &args[i]);
        return e ? e : send(tx, id, values, n);
}

/* ---- rows ---- */

static uint16_t digit(const char *p, int at)
{
        uint16_t d;

        memcpy(&d, p + 2 * at, 2);
        return be16toh(d);
}

/* A whole number of PostgreSQL's own kind, which sum() gives: count, weight, sign, scale, then digits
 * to the base of 10,000. */
static int64_t numeric(const char *p)
{
        int n = digit(p, 0), weight = (int16_t)digit(p, 1);
        int64_t value = 0;

        for (int i = 0; i <= weight; i++)
                value = value * 10000 + (i < n ? digit(p, 4 + i) : 0);
        return digit(p, 2) ? -value : value;
}

static int64_t column_number(const PGresult *result, int row, int column)
{
        const char *p = PQgetvalue(result, row, column);
        uint64_t wide;
        uint32_t narrow;

        if (PQgetisnull(result, row, column))
                return 0;
        switch (PQftype(result, column)) {
        case INT8_TYPE:
                memcpy(&wide, p, sizeof(wide));
                return (int64_t)be64toh(wide);
        case INT4_TYPE:
                memcpy(&narrow, p, sizeof(narrow));
                return (int32_t)be32toh(narrow);
        case INT2_TYPE:
                return (int16_t)digit(p, 0);
        case BOOL_TYPE:
                return *p != 0;
        case NUMERIC_TYPE:
                return numeric(p);
        default:
                return 0;
        }
}

static struct str column_text(struct arena *arena, const PGresult *result, int row, int column)
{
        if (PQgetisnull(result, row, column))
                return STR_NONE;
        return str_dup(arena, (struct str){ PQgetvalue(result, row, column),
                                            (size_t)PQgetlength(result, row, column) });
}

static enum err read_field(struct tx *tx, const PGresult *result, int row, int column,
                           const struct field *f, void *base)
{
        bool is_text = field_is_text(f);

        return field_set(tx, f, base, is_text ? 0 : column_number(result, row, column),
                         is_text ? column_text(&tx->scope->arena, result, row, column) : STR_NONE);
}

static enum err read_row(struct tx *tx, const PGresult *result, int row, struct rows *rows)
{
        const struct record *record = rows->record;
        void *out = rows_next(tx->scope, rows);
        int column = 0, columns = PQnfields(result);
        enum err e = ERR_OK;

        for (; column < (int)rows->columns && column < columns; column++)
                ((int64_t *)out)[column] = column_number(result, row, column);
        for (size_t i = 0; !e && record && i < record->n && column < columns; i++)
                if (record->fields[i].flags & FIELD_COLUMN)
                        e = read_field(tx, result, row, column++, &record->fields[i], out);
        return e;
}

static enum err query(struct tx *tx, int id, const struct arg *args, size_t n, struct rows *rows)
{
        PGresult *result = NULL;
        enum err e = send_args(tx, id, args, n);

        if (!e)
                e = answer(tx, &result);
        for (int i = 0; !e && i < PQntuples(result) && rows->n < rows->most; i++)
                e = read_row(tx, result, i, rows);
        PQclear(result);
        return e;
}

static enum err flush(struct tx *tx)
{
        return answer(tx, NULL);
}

/* A long queue is read now and then: its results need memory. */
static enum err write_queued(struct tx *tx)
{
        return postgres_of(tx->engine)->queued < QUEUE_MOST ? ERR_OK : flush(tx);
}

static enum err write_rows(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        PGresult *result = NULL;
        enum err e = send_args(tx, id, args, n);

        if (e)
                return e;
        if (!changed)
                return write_queued(tx);
        e = answer(tx, &result);
        if (!e)
                *changed = strtoll(PQcmdTuples(result), NULL, 10);
        PQclear(result);
        return e;
}

static enum err insert(struct tx *tx, int id, const void *in)
{
        const struct record *record = tx->engine->registry[id].record;
        struct value values[PARAMETERS_MAX] = { 0 };
        enum err e = prepare(tx->scope, tx->engine, id);
        size_t n = 0;

        for (size_t i = 0; !e && i < record->n; i++)
                if (record->fields[i].flags & FIELD_COLUMN) {
                        const struct arg arg = field_arg(&record->fields[i], in);

                        BUG_ON(n == PARAMETERS_MAX);
                        e = value_arg(tx, &values[n++], &arg);
                }
        if (!e)
                e = send(tx, id, values, n);
        return e ? e : write_queued(tx);
}

/* ---- whole tables ---- */

enum { LOAD_BYTES = 1 << 20 }; /* sent at a time */

static struct arg column_value(const PGresult *result, int row, int column)
{
        Oid type = PQftype(result, column);

        if (PQgetisnull(result, row, column))
                return NONE();
        if (type != TEXT_TYPE && type != BYTEA_TYPE)
                return INT(column_number(result, row, column));
        return (struct arg){ .kind = type == TEXT_TYPE ? ARG_TEXT : ARG_BLOB,
                             .text = { PQgetvalue(result, row, column),
                                       (size_t)PQgetlength(result, row, column) } };
}

/* Some rows at a time, so that memory does not depend on how many there are. */
static enum err scan(struct scope *scope, struct engine *engine, const char *sql, take_row *take, void *arg)
{
        static const char fetch[] = "FETCH 500 FROM scan";
        struct postgres *pg = postgres_of(engine);
        struct buf text = BUF_INIT(1 << 16);
        struct arg row[TABLE_COLUMNS_MAX];
        int n = 1;
        enum err e;

        buf_printf(&text, "DECLARE scan NO SCROLL CURSOR FOR %s", sql);
        e = queue_command(scope, pg, text.p);
        buf_done(&text);
        while (!e && n) {
                PGresult *result = NULL;

                e = queue_command(scope, pg, fetch);
                if (!e)
                        e = settle(scope, pg, &result);
                n = PQntuples(result);
                for (int i = 0; !e && i < n; i++) {
                        BUG_ON(PQnfields(result) > TABLE_COLUMNS_MAX);
                        for (int j = 0; j < PQnfields(result); j++)
                                row[j] = column_value(result, i, j);
                        e = take(arg, row, (size_t)PQnfields(result));
                }
                PQclear(result);
        }
        return e ? e : queue_command(scope, pg, "CLOSE scan");
}

/* COPY does not go with pipeline mode. */
static enum err load_begin(struct scope *scope, struct engine *engine, const struct table *table)
{
        /* Signature, no flags, no extension. */
        static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
        struct postgres *pg = postgres_of(engine);
        struct buf text = BUF_INIT(1 << 16);
        enum err e = settle(scope, pg, NULL);
        PGresult *result;

        if (!e && !PQexitPipelineMode(pg->conn))
                e = lost(scope, pg);
        if (!e) /* nobody waits for this turn */
                e = run_plain(scope, pg, "SET LOCAL statement_timeout = 0;"
                                         "SET LOCAL idle_in_transaction_session_timeout = 0");
        if (e)
                return e;
        buf_printf(&text, "COPY \"" STR_FMT "\" (" STR_FMT ") FROM STDIN (FORMAT binary)",
                   STR_ARG(table->name), STR_ARG(table->columns));
        result = PQexec(pg->conn, text.p);
        buf_done(&text);
        if (PQresultStatus(result) != PGRES_COPY_IN)
                e = refused(scope, pg, result);
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
        return sent ? ERR_OK : lost(scope, pg);
}

static void load_length(struct postgres *pg, size_t n)
{
        uint32_t wide = htobe32((uint32_t)n);

        buf_bytes(&pg->load, &wide, sizeof(wide));
}

static enum err load_row(struct scope *scope, struct engine *engine, const struct arg *row)
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

static enum err load_end(struct scope *scope, struct engine *engine)
{
        static const uint16_t trailer = 0xffff;
        struct postgres *pg = postgres_of(engine);
        PGresult *result;
        enum err e;

        buf_bytes(&pg->load, &trailer, sizeof(trailer));
        e = load_send(scope, pg);
        if (!e && PQputCopyEnd(pg->conn, NULL) != 1)
                e = lost(scope, pg);
        while (!e && (result = PQgetResult(pg->conn))) {
                if (PQresultStatus(result) != PGRES_COMMAND_OK)
                        e = refused(scope, pg, result);
                PQclear(result);
        }
        if (!e && !PQenterPipelineMode(pg->conn))
                e = lost(scope, pg);
        pg->wrote = true;
        return e;
}

/* What gives numbers goes on after the highest that is there. */
static const char loaded[] =
        "DO $do$ DECLARE c record; BEGIN\n"
        "FOR c IN SELECT table_name AS t, column_name AS n FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND is_identity = 'YES' LOOP\n"
        "EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false)"
        " FROM %I', quote_ident(c.t), c.n, c.n, c.t);\n"
        "END LOOP; END $do$; ANALYZE";

static const char *const own_tables[] = { "commit_mark", NULL };

/* ---- transactions ---- */

/* A reader whose connection was lost while nobody used it calls up again; the writer is opened again
 * by the store. */
static enum err postgres_begin(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        enum err e = ERR_OK;

        if (pg->mode == ENGINE_READER) {
                if (pg->conn && (!PQconsumeInput(pg->conn) || PQstatus(pg->conn) == CONNECTION_BAD))
                        hang_up(pg);
                if (!pg->conn)
                        e = call_up(scope, pg);
        }
        if (!e)
                e = queue_command(scope, pg, pg->mode == ENGINE_READER ?
                                                     "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" :
                                                     "BEGIN ISOLATION LEVEL READ COMMITTED");
        if (!e && pg->mode == ENGINE_WRITER)
                e = queue_command(scope, pg, "SELECT pg_advisory_xact_lock(" TURN_LOCK ")");
        pg->open = !e;
        pg->wrote = pg->aborted = false;
        return e;
}

/* Who finds another mark than the one it left knows that others have written. */
static enum err turn(struct scope *scope, struct engine *engine, struct turn *out)
{
        struct postgres *pg = postgres_of(engine);
        PGresult *result = NULL;
        enum err e = queue_command(scope, pg,
                                   "SELECT mark, CAST(extract(epoch FROM clock_timestamp()) * 1000000"
                                   " AS bigint) FROM commit_mark");

        if (!e)
                e = settle(scope, pg, &result);
        if (!e && PQntuples(result) != 1)
                e = fail(scope, ERR_UNAVAILABLE, "the database has lost its row of commit_mark");
        if (!e) {
                int64_t mark = column_number(result, 0, 0);

                *out = (struct turn){ .now = column_number(result, 0, 1), .others = mark != pg->mark };
                pg->found = mark;
        }
        PQclear(result);
        return e;
}

/* Written with everything else. */
static enum err queue_mark(struct scope *scope, struct postgres *pg, int64_t *mark)
{
        char sql[64];

        scope_random(scope, mark, sizeof(*mark));
        *mark = (*mark & INT64_MAX) | 1;
        snprintf(sql, sizeof(sql), "UPDATE commit_mark SET mark = %lld", (long long)*mark);
        return queue_command(scope, pg, sql);
}

/* COMMIT of a transaction in which a statement failed is answered ROLLBACK. */
static enum err postgres_commit(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        PGresult *result = NULL;
        int64_t mark = 0;
        enum err e = pg->wrote ? queue_mark(scope, pg, &mark) : ERR_OK;

        if (!e)
                e = queue_command(scope, pg, "COMMIT");
        if (!e)
                e = settle(scope, pg, &result);
        if (!e && strcmp(PQcmdStatus(result), "COMMIT") != 0)
                e = fail(scope, ERR_UNAVAILABLE, "the database rolled back instead of committing");
        PQclear(result);
        if (e)
                return e;
        pg->open = false;
        pg->mark = mark ? mark : pg->found;
        return ERR_OK;
}

/* Nobody waits for it.  The first synchronization is for what was queued and may have failed.
 * After a failure nothing is known of the connection. */
static void postgres_rollback(struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        bool sent;

        if (engine->failure || !pg->conn) {
                hang_up(pg);
                return;
        }
        if (!pg->open)
                return;
        sent = (!pg->queued || queue_sync(pg)) &&
               queue(pg, PQsendQueryParams(pg->conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 1)) &&
               queue_sync(pg) && PQflush(pg->conn) == 0;
        pg->stale = pg->queued;
        pg->open = pg->aborted = false;
        if (!sent)
                hang_up(pg);
}

static enum err savepoint(struct scope *scope, struct engine *engine)
{
        return queue_command(scope, postgres_of(engine), "SAVEPOINT call");
}

static enum err release(struct scope *scope, struct engine *engine)
{
        return queue_command(scope, postgres_of(engine), "RELEASE call");
}

static enum err rollback_to(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        /* What is queued and fails must do so before. */
        enum err e = pg->aborted ? ERR_OK : settle(scope, pg, NULL);

        if (engine->failure)
                return e;
        pg->aborted = false;
        e = queue_command(scope, pg, "ROLLBACK TO call");
        return e ? e : queue_command(scope, pg, "RELEASE call");
}

static enum err failure(struct engine *engine)
{
        return engine->failure;
}

const struct engine_type postgres_engine = {
        .open = postgres_open,
        .close = postgres_close,
        .script = script,
        .prepare = prepare,
        .begin = postgres_begin,
        .commit = postgres_commit,
        .rollback = postgres_rollback,
        .savepoint = savepoint,
        .release = release,
        .rollback_to = rollback_to,
        .failure = failure,
        .write = write_rows,
        .insert = insert,
        .query = query,
        .flush = flush,
        .scan = scan,
        .load_begin = load_begin,
        .load_row = load_row,
        .load_end = load_end,
        .loaded = loaded,
        .own_tables = own_tables,
        .turn = turn,
        .translate = dialect_postgres,
        .prelude = dialect_prelude,
};
