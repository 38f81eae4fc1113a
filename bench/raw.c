/*
 * What SQLite alone makes of the rows of a run: the same tables, indexes, pragmas and group commit as
 * the server, and nothing else.  Prints one line of JSON.
 *
 *   raw creates|singles|lifecycles FILE SECONDS SCHEMA.sql…
 *
 * creates: a task with its run, its lane entry and two events; 64 to a transaction.
 * singles: the same, each in a transaction of its own.
 * lifecycles: the same, then claimed and completed (five events in all); 1,000 to a transaction, for
 * the server commits at once what its clients ask by the hundred.  Rows are not read.
 */
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHECKPOINT_PAGES = (8 << 20) / 4096, BATCH = 1000, GROUP = 100, CREATES = 64 };

static sqlite3 *db;
static int64_t start_us, serial;
static int log_pages, home_pages;

static void check(int code)
{
        if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW)
                return;
        fprintf(stderr, "raw: %s\n", sqlite3_errmsg(db));
        exit(1);
}

static void script(const char *sql)
{
        check(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int on_wal(void *arg, sqlite3 *of, const char *name, int pages)
{
        (void)arg, (void)of, (void)name;
        log_pages = pages;
        if (pages < home_pages)
                home_pages = 0;
        return SQLITE_OK;
}

static void commit(void)
{
        script("COMMIT");
        if (log_pages - home_pages >= CHECKPOINT_PAGES) {
                check(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
                home_pages = log_pages;
        }
}

/* ---- statements ---- */

/* INSERT with all columns: "a,b" become ?1 and ?2, the others 0, or NULL where they may. */
static sqlite3_stmt *insertion(const char *table, const char *given)
{
        char columns[4096] = "", values[4096] = "", text[9000], info[100], list[512];
        sqlite3_stmt *s, *names;
        char *rest;
        int n = 0;

        snprintf(list, sizeof(list), "%s", given);
        for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
                snprintf(columns + strlen(columns), sizeof(columns) - strlen(columns), ",%s", name);
                snprintf(values + strlen(values), sizeof(values) - strlen(values), ",?%d", ++n);
        }
        snprintf(info, sizeof(info), "PRAGMA table_info(%s)", table);
        check(sqlite3_prepare_v2(db, info, -1, &names, NULL));
        while (sqlite3_step(names) == SQLITE_ROW) {
                const char *name = (const char *)sqlite3_column_text(names, 1);
                char mark[100], all[600];

                snprintf(mark, sizeof(mark), ",%s,", name);
                snprintf(all, sizeof(all), ",%s,", given);
                if (strstr(all, mark) || !sqlite3_column_int(names, 3))
                        continue;
                snprintf(columns + strlen(columns), sizeof(columns) - strlen(columns), ",%s", name);
                snprintf(values + strlen(values), sizeof(values) - strlen(values), ",0");
        }
        sqlite3_finalize(names);
        snprintf(text, sizeof(text), "INSERT INTO %s (%s) VALUES (%s)", table, columns + 1,
                 values + 1);
        check(sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL));
        return s;
}

static sqlite3_stmt *prepared(const char *text)
{
        sqlite3_stmt *s;

        check(sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL));
        return s;
}

static sqlite3_stmt *task_add, *run_add, *ready_add, *event_add, *events_add;
static sqlite3_stmt *run_claim, *ready_drop, *event_head, *run_end, *task_end;

#define EVENT_COLUMNS \
        "INSERT OR FAIL INTO event (tree_id, seq, run_id, type, actor, origin, at, payload) VALUES "

static void prepare_all(void)
{
        task_add = insertion("task", "id,tree_id,workspace_id,depth,title,priority,status,"
                                     "max_attempts,attempts,last_run_id,created_by,origin,"
                                     "created_at,updated_at");
        run_add = insertion("run", "id,task_id,tree_id,workspace_id,attempt,priority,origin,lane,"
                                   "queued_at,claim_token_hash,token_nonce");
        ready_add = insertion("ready", "lane,queued_at,run");
        event_add = prepared(EVENT_COLUMNS "(?1, ?4, ?5, ?6, ?2, 4, ?3, ?7)");
        events_add = prepared(EVENT_COLUMNS "(?1, ?4, ?5, ?6, ?2, 4, ?3, ?7),"
                                            "(?1, ?8, ?9, ?10, ?2, 4, ?3, ?11)");
        run_claim = prepared("UPDATE run SET status = 1, epoch = 1, claimed_by = 3,"
                             " claim_token_hash = ?2, token_nonce = ?3, lease_until = ?4,"
                             " lease_us = 60000000, claimed_at = ?4, heartbeat_at = ?4"
                             " WHERE id = ?1 AND status = 0 AND epoch = 0");
        ready_drop = prepared("DELETE FROM ready WHERE lane = ?1 AND queued_at = ?2 AND run = ?3");
        event_head = prepared("SELECT max(seq) FROM event WHERE tree_id = ?1");
        run_end = prepared("UPDATE run SET status = 9, failure_kind = 0, result = '1',"
                           " ended_at = ?2, lease_until = NULL WHERE id = ?1 AND status = 1"
                           " AND claim_token_hash = ?3");
        task_end = prepared("UPDATE task SET status = 5, last_run_status = 9, closed_at = ?2, updated_at = ?2 WHERE id = ?1");
}

static void step(sqlite3_stmt *s)
{
        check(sqlite3_step(s));
        check(sqlite3_reset(s));
}

static void bind(sqlite3_stmt *s, int n, const int64_t *values)
{
        for (int i = 0; i < n; i++)
                sqlite3_bind_int64(s, i + 1, values[i]);
}
#define BIND(s, ...)                                                  \
        bind(s, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), \
             (int64_t[]){ __VA_ARGS__ })

/* ---- rows: of the n-th run ---- */

/* As the server's: milliseconds in the upper bits. */
static int64_t task_id(int64_t n)
{
        return ((start_us / 1000 + n / 20) << 22) + 2 * n;
}

static int64_t run_id(int64_t n)
{
        return task_id(n) + 1;
}

static int64_t queued(int64_t n)
{
        return start_us + n / GROUP * 1000;
}

struct event {
        bool of_run;
        int type;
        const char *payload;
};

/* One event, or two by one statement. */
static void events(int64_t n, int64_t seq, const struct event *e, int count)
{
        sqlite3_stmt *s = count == 2 ? events_add : event_add;

        BIND(s, task_id(n), 3, queued(n));
        for (int i = 0, at = 4; i < count; i++, at += 4) {
                sqlite3_bind_int64(s, at, seq + i);
                if (e[i].of_run)
                        sqlite3_bind_int64(s, at + 1, run_id(n));
                else
                        sqlite3_bind_null(s, at + 1);
                sqlite3_bind_int(s, at + 2, e[i].type);
                sqlite3_bind_text(s, at + 3, e[i].payload, -1, SQLITE_STATIC);
        }
        step(s);
}

static int64_t next_sequence(int64_t n)
{
        int64_t head;

        BIND(event_head, task_id(n));
        check(sqlite3_step(event_head));
        head = sqlite3_column_int64(event_head, 0);
        check(sqlite3_reset(event_head));
        return head + 1;
}

static void hash_of(int64_t n, unsigned char out[32])
{
        for (int i = 0; i < 4; i++) {
                uint64_t mixed = (uint64_t)(n + i + 1) * UINT64_C(0x5851F42D4C957F2D);

                memcpy(out + 8 * i, &mixed, 8);
        }
}

/* As at birth: the row has its nonce and hash before it is claimed. */
static void bind_token(sqlite3_stmt *s, int64_t n, int hash_at, int nonce_at)
{
        static unsigned char hash[32];

        hash_of(n, hash);
        sqlite3_bind_blob(s, hash_at, hash, 32, SQLITE_STATIC);
        sqlite3_bind_blob(s, nonce_at, hash, 16, SQLITE_STATIC);
}

static void create(int64_t n)
{
        BIND(run_add, run_id(n), task_id(n), task_id(n), 2, 1, 1, 4, 1, queued(n));
        bind_token(run_add, n, 10, 11);
        step(run_add);
        BIND(ready_add, 1, queued(n), run_id(n));
        step(ready_add);
        BIND(task_add, task_id(n), task_id(n), 2, 1, 0, 1, 3, 3, 1, run_id(n), 3, 4, queued(n),
             queued(n));
        sqlite3_bind_text(task_add, 5, "bench", -1, SQLITE_STATIC);
        step(task_add);
        events(n, 1,
               (struct event[]){ { false, 1,
                                   "{\"scope\":\"workspace\",\"workspace_id\":"
                                   "\"00000000-0000-4000-8000-000000000000\",\"status\":\"ready\"}" },
                                 { true, 10, "{\"attempt\":1}" } },
               2);
}

static void claim(int64_t n)
{
        BIND(run_claim, run_id(n), 0, 0, queued(n) + 60000000);
        bind_token(run_claim, n, 2, 3);
        step(run_claim);
        BIND(ready_drop, 1, queued(n), run_id(n));
        step(ready_drop);
        events(n, next_sequence(n), &(struct event){ true, 11, "{\"epoch\":1}" }, 1);
}

static void complete(int64_t n)
{
        unsigned char hash[32];

        hash_of(n, hash);
        BIND(run_end, run_id(n), queued(n) + 1000);
        sqlite3_bind_blob(run_end, 3, hash, 32, SQLITE_STATIC);
        step(run_end);
        if (sqlite3_changes(db) != 1)
                exit(3);
        BIND(task_end, task_id(n), queued(n) + 1000);
        step(task_end);
        events(n, next_sequence(n),
               (struct event[]){ { true, 28, NULL },
                                 { false, 4, "{\"from\":\"ready\",\"to\":\"completed\"}" } },
               2);
}

/* ---- work ---- */

static void in_one(void (*row)(int64_t), int64_t from, int n)
{
        script("BEGIN IMMEDIATE");
        for (int i = 0; i < n; i++)
                row(from + i);
        commit();
}

static void lifecycles(void)
{
        in_one(create, serial, BATCH);
        in_one(claim, serial, BATCH);
        in_one(complete, serial, BATCH);
        serial += BATCH;
}

static void open_database(const char *path, char **schema)
{
        check(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0));
        check(sqlite3_open_v2(path, &db,
                              SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                              NULL));
        script("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
               "PRAGMA wal_autocheckpoint=0; PRAGMA mmap_size=0; PRAGMA cache_size=-16384;"
               "PRAGMA journal_size_limit=67108864; PRAGMA cell_size_check=ON");
        sqlite3_wal_hook(db, on_wal, NULL);
        for (; *schema; schema++) {
                static char text[1 << 20];
                FILE *file = fopen(*schema, "r");

                if (!file) {
                        perror(*schema);
                        exit(1);
                }
                text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
                fclose(file);
                script(text);
        }
}

int main(int argc, char **argv)
{
        double began, took, seconds;
        bool whole;
        int each;

        if (argc < 5) {
                fprintf(stderr, "usage: raw creates|singles|lifecycles FILE SECONDS SCHEMA.sql...\n");
                return 2;
        }
        whole = strcmp(argv[1], "lifecycles") == 0;
        each = strcmp(argv[1], "singles") == 0 ? 1 : CREATES;
        seconds = atof(argv[3]);
        open_database(argv[2], argv + 4);
        prepare_all();
        start_us = (int64_t)time(NULL) * 1000000;
        began = now();
        do {
                if (whole) {
                        lifecycles();
                } else {
                        in_one(create, serial, each);
                        serial += each;
                }
                took = now() - began;
        } while (took < seconds);
        printf("{\"rate\":%.1f,\"done\":%lld,\"seconds\":%.3f}\n", (double)serial / took,
               (long long)serial, took);
        return 0;
}
