#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/dialect.h"
#include "store/postgres.h"

/* ---- failing ---- */

enum err pg_lost(struct scope *scope, struct postgres *pg)
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

enum err pg_refused(struct scope *scope, struct postgres *pg, const PGresult *result)
{
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

        if (!state || PQstatus(pg->conn) == CONNECTION_BAD)
                return pg_lost(scope, pg);
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

bool pg_queue(struct postgres *pg, int sent, int expected)
{
        if (sent != 1)
                return false;
        BUG_ON(pg->queued == QUEUE_MAX);
        pg->expected[(pg->first + pg->queued++) % QUEUE_MAX] = expected;
        pg->counted += expected >= 0;
        return true;
}

static bool queue_sync(struct postgres *pg)
{
        return pg_queue(pg, PQpipelineSync(pg->conn), -1);
}

/* Also where nobody asks for a result ever: transactions that read nothing, calls that are refused at once. */
enum err pg_command(struct scope *scope, struct postgres *pg, const char *sql)
{
        enum err e = pg->queued < QUEUE_MOST ? ERR_OK : pg_settle(scope, pg, NULL);

        if (e)
                return e;
        return pg->conn && pg_queue(pg, PQsendQueryParams(pg->conn, sql, 0, NULL, NULL, NULL, NULL, 1), -1) ?
                       ERR_OK :
                       pg_lost(scope, pg);
}

/* The next result, NULL when the connection is gone. */
static PGresult *next_result(struct postgres *pg, int *expected)
{
        PGresult *result;

        do
                result = PQgetResult(pg->conn); /* NULL stands between two of them */
        while (!result && PQstatus(pg->conn) != CONNECTION_BAD);
        *expected = pg->expected[pg->first];
        pg->first = (pg->first + 1) % QUEUE_MAX;
        pg->queued--;
        pg->counted -= *expected >= 0;
        return result;
}

/* After a statement that failed, what was skipped. */
static enum err skip_rest(struct scope *scope, struct postgres *pg)
{
        while (pg->queued) {
                int expected;
                PGresult *result = next_result(pg, &expected);

                if (!result)
                        return pg_lost(scope, pg);
                PQclear(result);
        }
        pg->stale = 0;
        return ERR_OK;
}

static enum err check(struct scope *scope, struct postgres *pg, PGresult *result, int expected)
{
        ExecStatusType status = PQresultStatus(result);

        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                return pg_refused(scope, pg, result);
        if (expected < 0 || strtol(PQcmdTuples(result), NULL, 10) == expected)
                return ERR_OK;
        pg->aborted = true;
        return fail(scope, ERR_UNAVAILABLE, "a row that was to be changed has been changed meanwhile");
}

/*
 * The synchronization makes the server answer, and wait for more as one that is idle: only then does
 * idle_in_transaction_session_timeout count.
 */
enum err pg_settle(struct scope *scope, struct postgres *pg, PGresult **last)
{
        PGresult *result = NULL;
        enum err e;

        if (!pg->conn || !queue_sync(pg))
                return pg_lost(scope, pg);
        while (pg->queued) {
                int expected;
                PGresult *next = next_result(pg, &expected);
                bool stale = pg->stale > 0;

                pg->stale -= stale;
                if (PQresultStatus(next) == PGRES_PIPELINE_SYNC) {
                        PQclear(next);
                        continue;
                }
                PQclear(result);
                result = next;
                if (!result)
                        return pg_lost(scope, pg);
                e = stale ? ERR_OK : check(scope, pg, result, expected);
                if (!e)
                        continue;
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
        "SET statement_timeout = '60s';"
        /* The statements are written for loops over indexes; a young table would be read as a whole. */
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SELECT pg_advisory_lock_shared(" USERS_LOCK ")";

enum err pg_plain(struct scope *scope, struct postgres *pg, const char *sql)
{
        PGresult *result = PQexec(pg->conn, sql);
        ExecStatusType status = PQresultStatus(result);
        bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
        enum err e = ok ? ERR_OK : pg_refused(scope, pg, result);

        PQclear(result);
        return e;
}

static void hang_up(struct postgres *pg)
{
        PQfinish(pg->conn);
        pg->conn = NULL;
        pg->queued = pg->stale = pg->counted = 0;
        pg->open = pg->aborted = pg->guarded = false;
        pg_forget(pg);
        for (size_t i = 0; i < pg->engine.n; i++)
                pg->prepared[i].is = pg->prepared[i].many = false;
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
                e = pg_lost(scope, pg);
        if (!e) {
                PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
                e = pg_plain(scope, pg, session);
        }
        if (!e && pg->mode == ENGINE_WRITER)
                e = pg_plain(scope, pg, writer_session);
        if (!e && !PQenterPipelineMode(pg->conn))
                e = pg_lost(scope, pg);
        if (e)
                hang_up(pg);
        return e;
}

static void postgres_close(struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);

        hang_up(pg);
        buf_done(&pg->load);
        pg_statements_done(pg);
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
        if (mode == ENGINE_WRITER)
                pg_read_texts(scope, pg);
        *out = &pg->engine;
        return ERR_OK;
}

/* Several statements, which only the simple protocol takes. */
static enum err script(struct scope *scope, struct engine *engine, const char *sql)
{
        struct postgres *pg = postgres_of(engine);
        enum err e = pg_send_waiting(scope, pg);

        if (!e)
                e = pg_settle(scope, pg, NULL);
        if (!e && !PQexitPipelineMode(pg->conn))
                e = pg_lost(scope, pg);
        if (!e) {
                e = pg_plain(scope, pg, sql);
                if (!PQenterPipelineMode(pg->conn))
                        e = pg_lost(scope, pg);
        }
        return e;
}

/* ---- transactions ---- */

static const char *const own_tables[] = { "commit_mark", NULL };

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
                e = pg_command(scope, pg, pg->mode == ENGINE_READER ?
                                                     "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" :
                                                     "BEGIN ISOLATION LEVEL READ COMMITTED");
        if (!e && pg->mode == ENGINE_WRITER)
                e = pg_command(scope, pg, "SELECT pg_advisory_xact_lock(" TURN_LOCK ")");
        pg->open = !e;
        pg->wrote = pg->aborted = false;
        pg->written = 0;
        return e;
}

static enum err look(struct scope *scope, struct engine *engine, bool *others)
{
        struct postgres *pg = postgres_of(engine);
        PGresult *result = NULL;
        enum err e = pg_command(scope, pg, "SELECT mark FROM commit_mark");

        if (!e)
                e = pg_settle(scope, pg, &result);
        *others = e || PQntuples(result) != 1 || pg_number(result, 0, 0) != pg->mark;
        PQclear(result);
        return e;
}

/* How often what servers keep in memory has been written. */
static uint32_t generation(int64_t mark)
{
        return (uint32_t)(mark >> 32);
}

/* Who finds another mark than the one it left knows that others have written. */
static enum err turn(struct scope *scope, struct engine *engine, struct turn *out)
{
        struct postgres *pg = postgres_of(engine);
        PGresult *result = NULL;
        enum err e = pg_command(scope, pg,
                                   "SELECT mark, CAST(extract(epoch FROM clock_timestamp()) * 1000000"
                                   " AS bigint) FROM commit_mark");

        if (!e)
                e = pg_settle(scope, pg, &result);
        if (!e && PQntuples(result) != 1)
                e = fail(scope, ERR_UNAVAILABLE, "the database has lost its row of commit_mark");
        if (!e) {
                int64_t mark = pg_number(result, 0, 0);

                *out = (struct turn){ .now = pg_number(result, 0, 1), .others = mark != pg->mark,
                                      .stale = !pg->mark || generation(mark) != generation(pg->mark) };
                pg->found = mark;
        }
        PQclear(result);
        return e;
}

static bool wrote_kept(struct postgres *pg)
{
        const char *const *table = pg->engine.kept;

        if (!pg->kept) {
                pg->kept = pg_table_bit(pg, STR("name"));
                for (; table && *table; table++)
                        pg->kept |= pg_table_bit(pg, str_from(*table));
        }
        return pg->written & pg->kept;
}

/* Written with everything else: the generation, and a number that is new each time. */
static enum err queue_mark(struct scope *scope, struct postgres *pg, int64_t *mark)
{
        uint32_t is_new;
        char sql[64];

        scope_random(scope, &is_new, sizeof(is_new));
        *mark = (int64_t)((generation(pg->found) + wrote_kept(pg)) & INT32_MAX) << 32 | is_new | 1;
        snprintf(sql, sizeof(sql), "UPDATE commit_mark SET mark = %lld", (long long)*mark);
        return pg_command(scope, pg, sql);
}

/* COMMIT of a transaction in which a statement failed is answered ROLLBACK. */
static enum err postgres_commit(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        PGresult *result = NULL;
        int64_t mark = 0;
        enum err e = pg_send_waiting(scope, pg);

        pg_forget(pg);
        /* What changed fewer rows than it must has not failed there: it would be committed. */
        if (!e && pg->counted)
                e = pg_settle(scope, pg, NULL);
        if (!e && pg->wrote)
                e = queue_mark(scope, pg, &mark);
        if (!e)
                e = pg_command(scope, pg, "COMMIT");
        if (!e)
                e = pg_settle(scope, pg, &result);
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
        pg_forget(pg);
        if (!pg->open)
                return;
        sent = (!pg->queued || queue_sync(pg)) &&
               pg_queue(pg, PQsendQueryParams(pg->conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 1), -1) &&
               queue_sync(pg) && PQflush(pg->conn) == 0;
        pg->stale = pg->queued;
        pg->open = pg->aborted = pg->guarded = false;
        if (!sent)
                hang_up(pg);
}

static enum err savepoint(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        enum err e = pg_send_waiting(scope, pg);

        pg->guarded = true;
        return e ? e : pg_command(scope, pg, "SAVEPOINT call");
}

static enum err release(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);

        pg->guarded = false;
        return pg_command(scope, pg, "RELEASE call");
}

static enum err rollback_to(struct scope *scope, struct engine *engine)
{
        struct postgres *pg = postgres_of(engine);
        /* What is queued and fails must do so before. */
        enum err e = pg->aborted ? ERR_OK : pg_settle(scope, pg, NULL);

        if (engine->failure)
                return e;
        pg_forget(pg);
        pg->aborted = pg->guarded = false;
        e = pg_command(scope, pg, "ROLLBACK TO call");
        return e ? e : pg_command(scope, pg, "RELEASE call");
}

static enum err failure(struct engine *engine)
{
        return engine->failure;
}

const struct engine_type postgres_engine = {
        .open = postgres_open,
        .close = postgres_close,
        .script = script,
        .prepare = pg_prepare,
        .begin = postgres_begin,
        .commit = postgres_commit,
        .rollback = postgres_rollback,
        .savepoint = savepoint,
        .release = release,
        .rollback_to = rollback_to,
        .failure = failure,
        .write = pg_write,
        .write_one = pg_write_one,
        .insert = pg_insert,
        .query = pg_query,
        .read_ahead = pg_read_ahead,
        .flush = pg_flush,
        .scan = pg_scan,
        .load_begin = pg_load_begin,
        .load_row = pg_load_row,
        .load_end = pg_load_end,
        .loaded = pg_loaded,
        .own_tables = own_tables,
        .turn = turn,
        .look = look,
        .translate = dialect_postgres,
        .prelude = dialect_prelude,
};
