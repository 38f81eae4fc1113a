/*
 * What PostgreSQL alone makes of the rows of a run: the tables of a server, filled by a bare loop over
 * libpq in pipeline mode.  Prints one line of JSON.
 *
 *   raw_postgres creates|lifecycles URL SECONDS     the database has been migrated and has no tasks
 *
 * creates: a task with its run, its lane entry and two events; 64 to a transaction.
 * lifecycles: the same, then claimed and completed (five events in all); 1,000 to a transaction.
 * Rows are not read.
 */
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000, CREATES = 64, VALUES_MAX = 24, TURN = 200 };

static PGconn *db;
static int64_t start_us, serial;
static int queued;

static void die(const char *what)
{
        fprintf(stderr, "raw_postgres: %s: %s\n", what, PQerrorMessage(db));
        exit(1);
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the queue ---- */

static void settle(void)
{
        if (!PQsendFlushRequest(db))
                die("flush");
        while (queued) {
                PGresult *result = PQgetResult(db);
                ExecStatusType status = PQresultStatus(result);

                if (!result)
                        continue; /* stands between two of them */
                queued--;
                if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_PIPELINE_SYNC)
                        die("statement");
                PQclear(result);
        }
}

static void command(const char *text)
{
        if (!PQsendQueryParams(db, text, 0, NULL, NULL, NULL, NULL, 1))
                die(text);
        queued++;
}

/* ---- statements ---- */

static void prepare(const char *name, const char *text)
{
        if (!PQsendPrepare(db, name, text, 0, NULL))
                die(name);
        queued++;
        settle();
}

/* INSERT with all columns: "a,b" become $1 and $2, others that must have a value 0. */
static void prepare_insertion(const char *table, const char *given)
{
        char columns[4096], values[4096] = "", text[9000], query[512], list[512];
        char *rest;
        PGresult *others;
        int n = 0;

        snprintf(columns, sizeof(columns), "%s", given);
        snprintf(list, sizeof(list), "%s", given);
        for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
                snprintf(values + strlen(values), sizeof(values) - strlen(values), "%s$%d", n ? "," : "", n + 1), n++;
        snprintf(query, sizeof(query),
                 "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '%s'"
                 " AND is_nullable = 'NO' AND is_identity = 'NO' AND column_default IS NULL"
                 " AND column_name <> ALL (string_to_array('%s', ','))",
                 table, given);
        others = PQexec(db, query);
        if (PQresultStatus(others) != PGRES_TUPLES_OK)
                die(query);
        for (int i = 0; i < PQntuples(others); i++) {
                snprintf(columns + strlen(columns), sizeof(columns) - strlen(columns), ",%s", PQgetvalue(others, i, 0));
                snprintf(values + strlen(values), sizeof(values) - strlen(values), ",0");
        }
        PQclear(others);
        snprintf(text, sizeof(text), "INSERT INTO %s (%s) VALUES (%s)", table, columns, values);
        others = PQprepare(db, table, text, 0, NULL);
        if (PQresultStatus(others) != PGRES_COMMAND_OK)
                die(text);
        PQclear(others);
}

static void prepare_all(void)
{
        prepare_insertion("task", "id,tree_id,workspace_id,depth,title,priority,status,max_attempts,attempts,"
                                  "last_run_id,created_by,origin,created_at,updated_at");
        prepare_insertion("run", "id,task_id,tree_id,workspace_id,attempt,priority,origin,lane,queued_at,"
                                 "claim_token_hash,token_nonce");
        prepare_insertion("ready", "lane,queued_at,run");
        prepare_insertion("event", "tree_id,seq,run_id,type,actor,origin,at,payload");
        if (!PQenterPipelineMode(db))
                die("pipeline mode");
        prepare("claim", "UPDATE run SET status = 1, epoch = 1, claimed_by = 3, claim_token_hash = $2, token_nonce = $3,"
                         " lease_until = $4, lease_us = 60000000, claimed_at = $4, heartbeat_at = $4"
                         " WHERE id = $1 AND status = 0 AND epoch = 0");
        prepare("drop", "DELETE FROM ready WHERE lane = $1 AND queued_at = $2 AND run = $3");
        prepare("end", "UPDATE run SET status = 9, failure_kind = 0, result = '1', ended_at = $2, lease_until = NULL"
                       " WHERE id = $1 AND status = 1 AND claim_token_hash = $3");
        prepare("close", "UPDATE task SET status = 5, last_run_status = 9, closed_at = $2, updated_at = $2 WHERE id = $1");
}

/* Values as a format of %lld, %s and "-" for NULL, separated by '|'. */
static void execute(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void execute(const char *name, const char *format, ...)
{
        char text[1024];
        const char *values[VALUES_MAX];
        int n = 0;
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        for (char *at = text; at; n++) {
                char *end = strchr(at, '|');

                if (end)
                        *end++ = '\0';
                values[n] = strcmp(at, "-") ? at : NULL;
                at = end;
        }
        if (!PQsendQueryPrepared(db, name, n, values, NULL, NULL, 1))
                die(name);
        if (++queued == TURN)
                settle();
}

/* ---- rows: of the n-th run ---- */

/* As the server's: milliseconds in the upper bits. */
static long long task_id(int64_t n)
{
        return ((start_us / 1000 + n / 20) << 22) + 2 * n;
}

static long long run_id(int64_t n)
{
        return task_id(n) + 1;
}

static long long at(int64_t n)
{
        return start_us + n / 100 * 1000;
}

static const char *hash_of(int64_t n)
{
        static char text[67];

        snprintf(text, sizeof(text), "\\x%016llx%048llx", (unsigned long long)n * 0x5851F42D4C957F2D, (unsigned long long)n);
        return text;
}

static void event(int64_t n, int seq, bool of_run, int type, const char *payload)
{
        char run[24] = "-";

        if (of_run)
                snprintf(run, sizeof(run), "%lld", run_id(n));
        execute("event", "%lld|%d|%s|%d|3|4|%lld|%s", task_id(n), seq, run, type, at(n), payload);
}

static void create(int64_t n)
{
        execute("run", "%lld|%lld|%lld|2|1|1|4|1|%lld|%s|\\x%032llx", run_id(n), task_id(n), task_id(n), at(n), hash_of(n),
                (unsigned long long)n);
        execute("ready", "1|%lld|%lld", at(n), run_id(n));
        execute("task", "%lld|%lld|2|1|bench|1|3|3|1|%lld|3|4|%lld|%lld", task_id(n), task_id(n), run_id(n), at(n), at(n));
        event(n, 1, false, 1,
              "{\"scope\":\"workspace\",\"workspace_id\":\"00000000-0000-4000-8000-000000000000\",\"status\":\"ready\"}");
        event(n, 2, true, 10, "{\"attempt\":1}");
}

static void claim(int64_t n)
{
        execute("claim", "%lld|%s|\\x%032llx|%lld", run_id(n), hash_of(n), (unsigned long long)n, at(n) + 60000000);
        execute("drop", "1|%lld|%lld", at(n), run_id(n));
        event(n, 3, true, 11, "{\"epoch\":1}");
}

static void complete(int64_t n)
{
        execute("end", "%lld|%lld|%s", run_id(n), at(n), hash_of(n));
        execute("close", "%lld|%lld", task_id(n), at(n));
        event(n, 4, true, 28, "-");
        event(n, 5, false, 4, "{\"from\":\"ready\",\"to\":\"completed\"}");
}

static void in_one(void (*row)(int64_t), int n)
{
        command("BEGIN");
        for (int i = 0; i < n; i++)
                row(serial + i);
        command("COMMIT");
        settle();
        if (!PQpipelineSync(db))
                die("sync");
        queued++;
        settle();
}

int main(int argc, char **argv)
{
        double began, took, seconds;
        bool whole;

        if (argc != 4) {
                fprintf(stderr, "usage: raw_postgres creates|lifecycles URL SECONDS\n");
                return 2;
        }
        whole = strcmp(argv[1], "lifecycles") == 0;
        seconds = atof(argv[3]);
        db = PQconnectdb(argv[2]);
        if (PQstatus(db) != CONNECTION_OK)
                die("connect");
        prepare_all();
        start_us = (int64_t)time(NULL) * 1000000;
        began = now();
        do {
                in_one(create, whole ? BATCH : CREATES);
                if (whole) {
                        in_one(claim, BATCH);
                        in_one(complete, BATCH);
                }
                serial += whole ? BATCH : CREATES;
                took = now() - began;
        } while (took < seconds);
        printf("{\"rate\":%.1f,\"done\":%lld,\"seconds\":%.3f}\n", (double)serial / took, (long long)serial, took);
        PQfinish(db);
        return 0;
}
