#include "rows.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* What must not be.  ?1: the wall clock at the last tick, which dealt with all that was due then. */
static const struct question {
        const char *sentence, *sql;
} questions[] = {
        { "I16: a run has a lease without being held, or is held without",
          "SELECT id FROM run WHERE ended_at IS NULL AND (status BETWEEN 1 AND 3) <>"
          " (lease_until IS NOT NULL)" },
        { "I16: a queued run that nothing holds back is not offered",
          "SELECT id FROM run r WHERE ended_at IS NULL AND status = 0 AND hold = 0 AND NOT EXISTS"
          " (SELECT 1 FROM ready WHERE lane = r.lane AND queued_at = r.queued_at AND run = r.id)" },
        { "I16: a run is offered that is not queued, or is held back",
          "SELECT run FROM ready WHERE NOT EXISTS (SELECT 1 FROM run r WHERE r.id = ready.run AND"
          " r.status = 0 AND r.hold = 0 AND r.lane = ready.lane AND r.queued_at = ready.queued_at)" },
        { "I16: a run is offered in a lane that is not in the table",
          "SELECT run FROM ready WHERE lane NOT IN (SELECT id FROM lane)" },
        { "I16: a run sleeps or is held back without a time to wake",
          "SELECT id FROM run WHERE ended_at IS NULL AND wake_at IS NULL AND (status = 8 OR"
          " (status = 0 AND hold & 12))" },
        { "I16: a run should have been woken by the last tick",
          "SELECT id FROM run WHERE ended_at IS NULL AND wake_at IS NOT NULL AND wake_at < ?1"
          " AND hold & 16 = 0" },
        { "I16: a run's deadline passed before the last tick",
          "SELECT id FROM run WHERE ended_at IS NULL AND due_at IS NOT NULL AND due_at < ?1" },
        { "I16: an approval's time was over before the last tick",
          "SELECT id FROM approval WHERE status = 0 AND expires_at < ?1" },
        { "I22: a run waits for an approval that is not open",
          "SELECT id FROM run r WHERE ended_at IS NULL AND status = 4 AND NOT EXISTS (SELECT 1 FROM"
          " approval a WHERE a.run_id = r.id AND a.status = 0)" },
        { "I22: a run waits for an input that is there",
          "SELECT r.id FROM run r JOIN task_input i ON i.task_id = r.task_id WHERE r.ended_at IS NULL"
          " AND r.status = 5 AND i.status = 0" },
        { "I20: a step took two inputs",
          "SELECT run_id FROM task_input JOIN run ON run.id = run_id WHERE executor = 1 GROUP BY run_id,"
          " step_index HAVING count(*) > 1" },
        { "I8: an input was taken by nobody, or by a run of another task",
          "SELECT i.id FROM task_input i WHERE (status = 1) <> EXISTS (SELECT 1 FROM run r WHERE"
          " r.id = i.run_id AND r.task_id = i.task_id)" },
        { "I24: a canceled task keeps inputs for somebody",
          "SELECT i.id FROM task_input i JOIN task t ON t.id = i.task_id WHERE i.status = 0 AND"
          " t.status = 7" },
        { "I24: an approval is open for a run that has ended",
          "SELECT a.id FROM approval a JOIN run r ON r.id = a.run_id WHERE a.status = 0 AND"
          " r.ended_at IS NOT NULL" },
        { "I22: a run waits for children that have all ended",
          "SELECT id FROM run r WHERE ended_at IS NULL AND status IN (6, 7) AND NOT EXISTS (SELECT 1"
          " FROM run c WHERE c.parent_run_id = r.id AND c.ended_at IS NULL)" },
        { "I24: a child is open although its parent has ended",
          "SELECT c.id FROM run c JOIN run p ON p.id = c.parent_run_id WHERE c.ended_at IS NULL AND"
          " p.ended_at IS NOT NULL" },
        { "I24: a canceled task has an open run",
          "SELECT r.id FROM run r JOIN task t ON t.id = r.task_id WHERE r.ended_at IS NULL AND"
          " t.status = 7" },
        { "I7: a task has two open attempts",
          "SELECT task_id FROM run WHERE ended_at IS NULL AND kind = 0 GROUP BY task_id HAVING"
          " count(*) > 1" },
        { "I21: more branches are let run than max_concurrency",
          "SELECT j.run_id FROM run p JOIN join_point j ON j.run_id = p.id AND j.step_index ="
          " p.current_step WHERE p.ended_at IS NULL AND p.status = 7 AND j.max_concurrency > 0 AND"
          " (SELECT count(*) FROM run c WHERE c.parent_run_id = p.id AND c.parent_step_index ="
          " j.step_index AND c.ended_at IS NULL AND c.hold & 16 = 0) > j.max_concurrency" },
        { "I22: a branch is held back although fewer run than max_concurrency",
          "SELECT j.run_id FROM run p JOIN join_point j ON j.run_id = p.id AND j.step_index ="
          " p.current_step WHERE p.ended_at IS NULL AND p.status = 7 AND j.max_concurrency > 0 AND"
          " EXISTS (SELECT 1 FROM run c WHERE c.parent_run_id = p.id AND c.ended_at IS NULL AND"
          " c.hold & 16) AND (SELECT count(*) FROM run c WHERE c.parent_run_id = p.id AND"
          " c.parent_step_index = j.step_index AND c.ended_at IS NULL AND c.hold & 16 = 0) <"
          " j.max_concurrency" },
        { "I8: a count of unmet dependencies is not what the prerequisites say",
          "SELECT id FROM task t WHERE dependency_count > 0 AND unmet_deps <> (SELECT count(*) FROM dependency d"
          " JOIN task o ON o.id = d.depends_on_task_id WHERE d.task_id = t.id AND o.status <> 5 AND NOT"
          " (d.on_failure = 1 AND o.status IN (6, 7)))" },
        { "I18: tasks wait for each other in a circle",
          "WITH RECURSIVE needed(a, b) AS (SELECT task_id, depends_on_task_id FROM dependency UNION SELECT a,"
          " depends_on_task_id FROM needed JOIN dependency ON task_id = b) SELECT a FROM needed WHERE a = b LIMIT 1" },
        { "I19: a run of a task that is blocked is held by nothing",
          "SELECT r.id FROM run r JOIN task t ON t.id = r.task_id WHERE r.ended_at IS NULL AND r.status = 0 AND"
          " r.kind = 0 AND (t.unmet_deps > 0) <> (r.hold & 1 <> 0)" },
        /* One that had failed before is ready again by a higher max_attempts, and nothing can be started there. */
        { "I24: a task below a canceled one goes on, and no cancel is under way",
          "SELECT t.id FROM task t JOIN task p ON p.id = t.parent_task_id WHERE p.status = 7 AND t.status NOT IN"
          " (5, 6, 7) AND (t.last_run_id IS NULL OR t.status IN (4, 8) OR EXISTS (SELECT 1 FROM run r WHERE"
          " r.task_id = t.id AND r.ended_at IS NULL)) AND NOT EXISTS (SELECT 1 FROM cascade)" },
        { "I24: a canceled task waits for a review", "SELECT id FROM task WHERE status = 7 AND review_id > 0" },
        { "I22: a task waits for a review that is over",
          "SELECT t.id FROM task t WHERE review_id > 0 AND review_circuit_at IS NULL AND NOT EXISTS (SELECT 1 FROM"
          " review v WHERE v.id = t.review_id AND v.status < 2 AND v.run_id = t.last_run_id)" },
        { "I16: a review's time was over before the last tick",
          "SELECT id FROM review WHERE status < 2 AND deadline_at < ?1 AND NOT EXISTS (SELECT 1 FROM cascade)" },
        { "I7: a step is under way in a run that has ended",
          "SELECT run_id FROM step s WHERE status IN (1, 2) AND EXISTS (SELECT 1 FROM run r WHERE"
          " r.id = s.run_id AND r.ended_at IS NOT NULL)" },
};

enum { RUN, TASK, JOIN, HAS_TASK, LAST_EVENT, EVENTS, NAME, TAKEABLE, NEXT_LANE, STATEMENTS };
static const char *const texts[STATEMENTS] = {
        [RUN] = "SELECT task_id, tree_id, kind, executor, coalesce(parent_run_id, 0),"
                " parent_step_index, branch_index, attempt, status, epoch, recoveries, hold,"
                " coalesce(lease_until, 0), coalesce(wake_at, 0), coalesce(session_id, 0),"
                " coalesce(ended_at, 0), coalesce(previous_run_id, 0), claim_token_hash IS NOT NULL,"
                " EXISTS (SELECT 1 FROM ready WHERE"
                " lane = run.lane AND queued_at = run.queued_at AND run = run.id), attention IS NOT NULL, result"
                " FROM run WHERE id = ?1",
        [TASK] = "SELECT status, attempts, max_attempts, coalesce(last_run_id, 0),"
                 " coalesce((SELECT id FROM run WHERE id = last_run_id AND status BETWEEN 1 AND 8), 0),"
                 " priority, title, attention IS NOT NULL FROM task WHERE id = ?1",
        [JOIN] = "SELECT any_one, fail_fast, total, pending, max_concurrency FROM join_point"
                 " WHERE run_id = ?1 AND step_index = ?2",
        [HAS_TASK] = "SELECT 1 FROM task WHERE id = ?1",
        [LAST_EVENT] = "SELECT coalesce(max(pos), 0) FROM event",
        [EVENTS] = "SELECT pos, tree_id, seq, coalesce(task_id, tree_id), coalesce(run_id, 0), type,"
                   " actor, at, payload FROM event WHERE pos > ?1 ORDER BY pos",
        [NAME] = "SELECT id FROM name WHERE text = ?1",
        [TAKEABLE] = "SELECT run FROM ready JOIN lane ON lane.id = ready.lane WHERE executor = ?1"
                     " AND required = 0 AND lane.owner = 0 AND lane.agent = 0 LIMIT 1",
        [NEXT_LANE] = "SELECT lane FROM ready WHERE lane > ?1 ORDER BY lane LIMIT 1",
};

struct rows {
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENTS], *questions[LENGTH(questions)];
        struct stored_event *events;
        size_t size;
};

static void die(struct rows *r, const char *sql)
{
        fprintf(stderr, "sim: %s in: %s\n", sqlite3_errmsg(r->db), sql);
        abort();
}

static sqlite3_stmt *prepared(struct rows *r, sqlite3_stmt **s, const char *sql)
{
        if (!*s && sqlite3_prepare_v3(r->db, sql, -1, SQLITE_PREPARE_PERSISTENT, s, NULL))
                die(r, sql);
        return *s;
}

static sqlite3_stmt *ask(struct rows *r, int statement)
{
        return prepared(r, &r->statements[statement], texts[statement]);
}

static bool step(struct rows *r, sqlite3_stmt *s)
{
        int code = sqlite3_step(s);

        if (code != SQLITE_ROW && code != SQLITE_DONE)
                die(r, sqlite3_sql(s));
        return code == SQLITE_ROW;
}

struct rows *rows_open(const char *path)
{
        struct rows *r = xcalloc(1, sizeof(*r));

        if (sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                                  SQLITE_OPEN_NOMUTEX,
                            NULL))
                die(r, path);
        sqlite3_exec(r->db, "PRAGMA cache_size = -32768", NULL, NULL, NULL);
        return r;
}

void rows_close(struct rows *r)
{
        for (size_t i = 0; i < STATEMENTS; i++)
                sqlite3_finalize(r->statements[i]);
        for (size_t i = 0; i < LENGTH(questions); i++)
                sqlite3_finalize(r->questions[i]);
        sqlite3_close(r->db);
        free(r->events);
        free(r);
}

static uint64_t text_hash(sqlite3_stmt *s, int column)
{
        if (sqlite3_column_type(s, column) == SQLITE_NULL)
                return 0;
        return hash_bytes(HASH_START, sqlite3_column_blob(s, column),
                          (size_t)sqlite3_column_bytes(s, column));
}

bool rows_run(struct rows *r, int64_t id, struct run_row *out)
{
        sqlite3_stmt *s = ask(r, RUN);
        int64_t *const numbers[] = { &out->task,     &out->tree,       &out->kind,
                                     &out->executor, &out->parent,     &out->step,
                                     &out->branch,   &out->attempt,    &out->status,
                                     &out->epoch,    &out->recoveries, &out->hold,
                                     &out->lease_until, &out->wake_at, &out->session,
                                     &out->ended_at, &out->previous };
        bool found;

        sqlite3_bind_int64(s, 1, id);
        found = step(r, s);
        for (size_t i = 0; found && i < LENGTH(numbers); i++)
                *numbers[i] = sqlite3_column_int64(s, (int)i);
        if (found) {
                out->has_token = sqlite3_column_int(s, LENGTH(numbers)) != 0;
                out->ready = sqlite3_column_int(s, LENGTH(numbers) + 1) != 0;
                out->marked = sqlite3_column_int(s, LENGTH(numbers) + 2) != 0;
                out->result = text_hash(s, LENGTH(numbers) + 3);
        }
        sqlite3_reset(s);
        return found;
}

bool rows_task(struct rows *r, int64_t id, struct task_row *out)
{
        sqlite3_stmt *s = ask(r, TASK);
        bool found;

        sqlite3_bind_int64(s, 1, id);
        found = step(r, s);
        if (found)
                *out = (struct task_row){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                                          sqlite3_column_int64(s, 2), sqlite3_column_int64(s, 3),
                                          sqlite3_column_int64(s, 4), sqlite3_column_int64(s, 5),
                                          text_hash(s, 6), sqlite3_column_int(s, 7) != 0 };
        sqlite3_reset(s);
        return found;
}

bool rows_join(struct rows *r, int64_t run, int64_t at, struct join_row *out)
{
        sqlite3_stmt *s = ask(r, JOIN);
        bool found;

        sqlite3_bind_int64(s, 1, run);
        sqlite3_bind_int64(s, 2, at);
        found = step(r, s);
        if (found)
                *out = (struct join_row){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                                          sqlite3_column_int64(s, 2), sqlite3_column_int64(s, 3),
                                          sqlite3_column_int64(s, 4) };
        sqlite3_reset(s);
        return found;
}

static int64_t number(struct rows *r, sqlite3_stmt *s)
{
        int64_t out = step(r, s) ? sqlite3_column_int64(s, 0) : 0;

        sqlite3_reset(s);
        return out;
}

bool rows_has_task(struct rows *r, int64_t id)
{
        sqlite3_bind_int64(ask(r, HAS_TASK), 1, id);
        return number(r, ask(r, HAS_TASK)) != 0;
}

int64_t rows_last_event(struct rows *r)
{
        return number(r, ask(r, LAST_EVENT));
}

int64_t rows_name(struct rows *r, const char *text)
{
        sqlite3_bind_text(ask(r, NAME), 1, text, -1, SQLITE_STATIC);
        return number(r, ask(r, NAME));
}

int64_t rows_takeable(struct rows *r, int64_t executor)
{
        sqlite3_bind_int64(ask(r, TAKEABLE), 1, executor);
        return number(r, ask(r, TAKEABLE));
}

int64_t rows_next_lane(struct rows *r, int64_t after)
{
        sqlite3_bind_int64(ask(r, NEXT_LANE), 1, after);
        return number(r, ask(r, NEXT_LANE));
}

const struct stored_event *rows_events(struct rows *r, int64_t after, size_t *n)
{
        sqlite3_stmt *s = ask(r, EVENTS);

        *n = 0;
        sqlite3_bind_int64(s, 1, after);
        while (step(r, s)) {
                struct stored_event *e;
                const void *payload = sqlite3_column_blob(s, 8);
                size_t bytes = (size_t)sqlite3_column_bytes(s, 8);

                if (*n == r->size) {
                        r->size = r->size ? 2 * r->size : 256;
                        r->events = xrealloc(r->events, r->size * sizeof(*r->events));
                }
                e = &r->events[(*n)++];
                e->pos = sqlite3_column_int64(s, 0);
                e->tree = sqlite3_column_int64(s, 1);
                e->seq = sqlite3_column_int64(s, 2);
                e->task = sqlite3_column_int64(s, 3);
                e->run = sqlite3_column_int64(s, 4);
                e->type = sqlite3_column_int64(s, 5);
                e->actor = sqlite3_column_int64(s, 6);
                e->at = sqlite3_column_int64(s, 7);
                e->payload_hash = text_hash(s, 8);
                if (bytes >= PAYLOAD_SHOWN)
                        bytes = PAYLOAD_SHOWN - 1;
                if (bytes)
                        memcpy(e->payload, payload, bytes);
                e->payload[bytes] = '\0';
        }
        sqlite3_reset(s);
        return r->events;
}

const char *rows_search(struct rows *r, int64_t ticked, int64_t *id)
{
        for (size_t i = 0; i < LENGTH(questions); i++) {
                sqlite3_stmt *s = prepared(r, &r->questions[i], questions[i].sql);

                if (sqlite3_bind_parameter_count(s))
                        sqlite3_bind_int64(s, 1, ticked);
                *id = number(r, s);
                if (*id)
                        return questions[i].sentence;
        }
        return NULL;
}

static void print_all(struct rows *r, const char *sql, int64_t id)
{
        sqlite3_stmt *s = NULL;

        sqlite3_bind_int64(prepared(r, &s, sql), 1, id);
        while (step(r, s)) {
                for (int c = 0; c < sqlite3_column_count(s); c++)
                        if (sqlite3_column_type(s, c) != SQLITE_NULL)
                                printf("  %s %s", sqlite3_column_name(s, c),
                                       sqlite3_column_text(s, c));
                putchar('\n');
        }
        sqlite3_finalize(s);
}

#define TREE_OF \
        "coalesce((SELECT tree_id FROM run WHERE id = ?1), (SELECT tree_id FROM task WHERE id = ?1)," \
        " (SELECT tree_id FROM run WHERE id = (SELECT run_id FROM approval WHERE id = ?1)))"

void rows_tell(struct rows *r, int64_t id)
{
        print_all(r,
                  "SELECT id, kind, parent_run_id parent, parent_step_index step, branch_index branch,"
                  " attempt, status, epoch, hold, wake_at wake, due_at due, ended_at ended FROM run"
                  " WHERE tree_id = " TREE_OF " ORDER BY id",
                  id);
        print_all(r,
                  "SELECT seq, at, run_id run, type, payload FROM event WHERE tree_id = " TREE_OF
                  " ORDER BY seq",
                  id);
}

bool rows_sound(struct rows *r)
{
        sqlite3_stmt *s = NULL;
        bool sound;

        prepared(r, &s, "PRAGMA integrity_check");
        sound = step(r, s) && !strcmp((const char *)sqlite3_column_text(s, 0), "ok");
        sqlite3_finalize(s);
        return sound;
}

uint64_t rows_hash(struct rows *r, uint64_t h)
{
        static const char *const tables[] = { "workspace",  "name",     "definition", "task",
                                              "run",        "lane",     "ready",      "step",
                                              "join_point", "approval", "task_input", "idempotency",
                                              "audit",      "dependency",
                                              "review",     "execution_profile" };

        for (size_t i = 0; i < LENGTH(tables); i++) {
                sqlite3_stmt *s = NULL;
                char sql[64];

                snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY 1, 2", tables[i]);
                prepared(r, &s, sql);
                while (step(r, s))
                        for (int c = 0; c < sqlite3_column_count(s); c++)
                                h = hash_bytes(h ^ (uint64_t)sqlite3_column_type(s, c),
                                               sqlite3_column_blob(s, c),
                                               (size_t)sqlite3_column_bytes(s, c));
                sqlite3_finalize(s);
        }
        return h;
}
