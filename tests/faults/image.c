#include "image.h"

#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"

static sqlite3 *image_open(const char *path)
{
        sqlite3 *db;

        BUG_ON(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix") != SQLITE_OK);
        return db;
}

/* ---- digest ---- */

static void digest_value(crypto_generichash_state *hash, sqlite3_stmt *row, int column)
{
        int32_t head[2] = { sqlite3_column_type(row, column), 0 };
        const void *bytes = sqlite3_column_blob(row, column);

        head[1] = sqlite3_column_bytes(row, column);
        crypto_generichash_update(hash, (const void *)head, sizeof(head));
        if (bytes)
                crypto_generichash_update(hash, bytes, (size_t)head[1]);
}

/* The rows of a query; an error, too, is part of what the file says. */
static void digest_rows(sqlite3 *db, crypto_generichash_state *hash, const char *sql)
{
        sqlite3_stmt *rows = NULL;
        int code = sqlite3_prepare_v2(db, sql, -1, &rows, NULL);

        while (code == SQLITE_OK || code == SQLITE_ROW) {
                code = sqlite3_step(rows);
                for (int i = 0; code == SQLITE_ROW && i < sqlite3_column_count(rows); i++)
                        digest_value(hash, rows, i);
        }
        crypto_generichash_update(hash, (const void *)&code, sizeof(code));
        sqlite3_finalize(rows);
}

struct digest image_digest(const char *path)
{
        static const char names[] =
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
        crypto_generichash_state hash;
        struct digest out;
        sqlite3 *db = image_open(path);
        sqlite3_stmt *tables = NULL;
        char sql[128];

        crypto_generichash_init(&hash, NULL, 0, sizeof(out.bytes));
        digest_rows(db, &hash, names);
        sqlite3_prepare_v2(db, names, -1, &tables, NULL);
        while (sqlite3_step(tables) == SQLITE_ROW) {
                snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY 1, 2",
                         (const char *)sqlite3_column_text(tables, 0));
                digest_rows(db, &hash, sql);
        }
        sqlite3_finalize(tables);
        sqlite3_close(db);
        crypto_generichash_final(&hash, out.bytes, sizeof(out.bytes));
        return out;
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
        return memcmp(a, b, sizeof(*a)) == 0;
}

int image_count(const char *path, const char *table)
{
        sqlite3 *db = image_open(path);
        char sql[128];
        sqlite3_stmt *row;
        int n;

        snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
        BUG_ON(sqlite3_prepare_v2(db, sql, -1, &row, NULL) != SQLITE_OK ||
               sqlite3_step(row) != SQLITE_ROW);
        n = sqlite3_column_int(row, 0);
        sqlite3_finalize(row);
        sqlite3_close(db);
        return n;
}

/* ---- what must hold ---- */

/* Numbers of events and states are written down once more: nothing is taken from the program. */
static const char folds[] =
        "WITH target(type, status) AS (VALUES (10,0), (11,1), (12,2), (13,3), (24,3), (25,0), (26,0),"
        "  (27,0), (28,9), (29,10), (30,11), (31,12)),"
        " moved AS (SELECT run_id, status, max(seq) FROM event JOIN target USING (type)"
        "  WHERE run_id IS NOT NULL GROUP BY run_id),"
        " counted AS (SELECT run_id, sum(type = 11) AS claims, sum(type = 25) AS expiries FROM event"
        "  WHERE run_id IS NOT NULL GROUP BY run_id),"
        " said AS (SELECT tree_id, max(seq),"
        "  CASE type WHEN 3 THEN 'canceled' ELSE json_extract(payload, '$.to') END AS status"
        "  FROM event WHERE type IN (3, 4) GROUP BY tree_id),"
        " word(status, text) AS (VALUES (3,'ready'), (4,'in_progress'), (5,'completed'),"
        "  (6,'failed'), (7,'canceled'))"
        /* I27 */
        "SELECT 'tree ' || tree_id || ' has ' || count(*) || ' events, from ' || min(seq) || ' to '"
        "  || max(seq) FROM event GROUP BY tree_id HAVING min(seq) <> 1 OR max(seq) <> count(*)"
        " UNION ALL SELECT 'events of no tree: ' || tree_id FROM event"
        "  WHERE tree_id NOT IN (SELECT tree_id FROM task)"
        /* I8 */
        " UNION ALL SELECT 'run ' || id || ' is ' || run.status || ', its events say ' ||"
        "  coalesce(moved.status, 'nothing') FROM run LEFT JOIN moved ON run_id = id"
        "  WHERE run.status IS NOT moved.status"
        " UNION ALL SELECT 'run ' || id || ' has epoch ' || epoch || ', claims ' || claims"
        "  FROM run JOIN counted ON run_id = id WHERE epoch <> claims OR recoveries <> expiries"
        " UNION ALL SELECT 'run ' || id || ': lease, end or token do not go with status ' || status"
        "  FROM run WHERE (lease_until IS NOT NULL) <> (status BETWEEN 1 AND 3)"
        "  OR (ended_at IS NOT NULL) <> (status >= 9)"
        "  OR (status BETWEEN 1 AND 3 AND claim_token_hash IS NULL)"
        " UNION ALL SELECT 'run ' || id || ' is ' || status || ', hold ' || hold || ', on offer ' ||"
        "  (ready.run IS NOT NULL) FROM run LEFT JOIN ready ON ready.run = id"
        "  WHERE (ready.run IS NOT NULL) <> (status = 0 AND hold = 0)"
        " UNION ALL SELECT 'offered run that does not exist: ' || run FROM ready"
        "  WHERE run NOT IN (SELECT id FROM run)"
        " UNION ALL SELECT 'task ' || id || ' has ' || attempts || ' attempts' FROM task WHERE attempts"
        "  <> (SELECT coalesce(max(attempt), 0) FROM run WHERE task_id = task.id AND kind = 0)"
        " UNION ALL SELECT 'task ' || id || ' is ' || word.text || ', its events say ' || said.status"
        "  FROM task JOIN word USING (status) LEFT JOIN said ON said.tree_id = id"
        "  WHERE word.text <> coalesce(said.status, 'ready')"
        " UNION ALL SELECT 'task without events: ' || id FROM task"
        "  WHERE tree_id NOT IN (SELECT tree_id FROM event)";

/* The first row that is not "ok", or the error that came instead. */
static bool query_is_clean(sqlite3 *db, const char *sql, char *why, size_t n)
{
        sqlite3_stmt *rows = NULL;
        int code = sqlite3_prepare_v2(db, sql, -1, &rows, NULL);
        const char *text = NULL;

        while (code == SQLITE_OK || code == SQLITE_ROW) {
                code = sqlite3_step(rows);
                text = code == SQLITE_ROW ? (const char *)sqlite3_column_text(rows, 0) : NULL;
                if (text && strcmp(text, "ok") != 0)
                        break;
        }
        if (code != SQLITE_DONE)
                snprintf(why, n, "%s", text ? text : sqlite3_errmsg(db));
        sqlite3_finalize(rows);
        return code == SQLITE_DONE;
}

bool image_holds(const char *path, char *why, size_t n)
{
        sqlite3 *db = image_open(path);
        bool ok = query_is_clean(db, "PRAGMA integrity_check", why, n) &&
                  query_is_clean(db, "PRAGMA foreign_key_check", why, n) &&
                  query_is_clean(db, folds, why, n);

        sqlite3_close(db);
        return ok;
}

/* ---- copies ---- */

static void file_copy(const char *from, const char *to)
{
        int in = open(from, O_RDONLY | O_CLOEXEC), out;
        struct stat st;

        unlink(to);
        if (in < 0)
                return;
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        BUG_ON(out < 0 || fstat(in, &st));
        while (sendfile(out, in, NULL, (size_t)st.st_size) > 0)
                ;
        close(in);
        close(out);
}

void image_copy(const char *path, const char *to)
{
        static const char *const tails[] = { "", "-wal", "-journal" };
        char a[256], b[256];

        snprintf(b, sizeof(b), "%s-shm", to);
        unlink(b);
        for (size_t i = 0; i < LENGTH(tails); i++) {
                snprintf(a, sizeof(a), "%s%s", path, tails[i]);
                snprintf(b, sizeof(b), "%s%s", to, tails[i]);
                file_copy(a, b);
        }
}
