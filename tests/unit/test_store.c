#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "store/gather.h"
#include "store/names.h"
#include "store/shape.h"

/* ---- shapes ---- */

static void a_text_tells_the_table_and_the_key_of_its_rows(void **state)
{
        static const struct {
                const char *text, *table, *key;
                enum shape_kind kind;
                bool is_set;
        } rows[] = {
                { "INSERT INTO run (id,task_id) VALUES ($1,$2)", "run", "id", SHAPE_INSERT, true },
                { "INSERT INTO event (tree_id, seq) VALUES ($1, $2),($1, $3)", "event", "tree_id", SHAPE_INSERT, true },
                { "INSERT INTO event (tree_id, seq) VALUES ($1, $2),($3, $4)", "event", NULL, SHAPE_INSERT, true },
                { "INSERT INTO setting (name, value) VALUES ($1, 0)", "setting", "name", SHAPE_INSERT, true },
                { "INSERT INTO setting (value, name) VALUES (0, $1)", "setting", NULL, SHAPE_INSERT, true },
                { "INSERT INTO setting (name, value) VALUES ($1, NULL)", "setting", NULL, SHAPE_INSERT, false },
                { "INSERT INTO setting (name) VALUES ($1) ON CONFLICT DO NOTHING", "setting", NULL, SHAPE_INSERT, false },
                { "INSERT INTO step (run, n) VALUES ($1, $2),($1, $3) ON CONFLICT (run, n) DO UPDATE SET a = excluded.a",
                  "step", "run", SHAPE_UPSERT, true },
                { "INSERT INTO a (id, b) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET b = $3", "a", NULL, SHAPE_INSERT, false },
                { "INSERT INTO a (id, b) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET b = 1 WHERE a.b = 0", "a", NULL, SHAPE_INSERT, false },
                { "INSERT INTO name (text) VALUES ($1) RETURNING id", "name", NULL, SHAPE_INSERT, false },
                { "INSERT INTO a (id) SELECT id FROM b WHERE id = $1", "a", NULL, SHAPE_INSERT, false },
                { "UPDATE run SET hold = $2 WHERE id = $1", "run", "id", SHAPE_UPDATE, true },
                { "UPDATE run SET hold = $2, due_at = NULL WHERE id = $1 AND epoch = $3"
                  " AND ($4 IS NULL OR token = $4)", "run", "id", SHAPE_UPDATE, true },
                { "UPDATE run SET hold = $2 WHERE id = $1 OR id = $3", "run", NULL, SHAPE_UPDATE, false },
                { "UPDATE run SET hold = $1 WHERE id = $2", "run", NULL, SHAPE_UPDATE, false },
                { "UPDATE run SET hold = $2 WHERE id = $12", "run", NULL, SHAPE_UPDATE, false },
                { "UPDATE run SET hold = (SELECT 1) WHERE id = $1", "run", NULL, SHAPE_UPDATE, false },
                { "UPDATE run SET hold = $2 WHERE id = $1 AND EXISTS (SELECT 1)", "run", NULL, SHAPE_UPDATE, false },
                { "UPDATE scheduler SET paused = 1", "scheduler", NULL, SHAPE_UPDATE, false },
                { "DELETE FROM ready WHERE lane = $1 AND run = $2", "ready", "lane", SHAPE_DELETE, true },
                { "DELETE FROM ready WHERE run IN (SELECT id FROM run)", "ready", NULL, SHAPE_DELETE, false },
                { "SELECT id, epoch FROM run WHERE id = $1", "run", "id", SHAPE_SELECT, true },
                { "SELECT seq FROM event WHERE tree_id = $1 ORDER BY seq DESC LIMIT 1", "event", "tree_id", SHAPE_SELECT, true },
                { "SELECT run FROM ready WHERE lane = $1 LIMIT $2", "ready", "lane", SHAPE_SELECT, false },
                { "SELECT id FROM run JOIN task ON true WHERE id = $1", "run", NULL, SHAPE_SELECT, true },
                { "SELECT id FROM run WHERE id = $1 UNION SELECT id FROM task", "run", NULL, SHAPE_SELECT, true },
                { "SELECT id FROM run WHERE id = $12", "run", NULL, SHAPE_SELECT, false },
                { "SELECT id FROM run", "run", NULL, SHAPE_SELECT, false },
                { "WITH x AS (SELECT 1) DELETE FROM run", NULL, NULL, SHAPE_OTHER, false },
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct shape s = shape_of(rows[i].text);

                if (s.kind != rows[i].kind || s.is_set != rows[i].is_set ||
                    !str_eq(s.table, str_from(rows[i].table)) || !str_eq(s.key, str_from(rows[i].key)))
                        fail_msg("%s", rows[i].text);
        }
}

static void a_text_is_read_word_by_word(void **state)
{
        static const char *const words[] = { "SELECT", "task_id", "FROM", "run", "task", "1", "" };
        const char *at = " SELECT (task_id)FROM run,task\n=$1 ";

        (void)state;
        for (size_t i = 0; i < LENGTH(words); i++)
                assert_true(str_is(shape_word(&at), words[i]));
}

static void a_statement_is_said_for_many_rows_at_once(void **state)
{
        static const char *const types[] = { "bigint", "text", "bytea" };
        static const struct {
                const char *one, *many;
                int n;
        } rows[] = {
                { "INSERT INTO a (id, b) VALUES ($1, $2),($1, $3)",
                  "INSERT INTO a (id, b) SELECT new.* FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS bytea[]))"
                  " AS given(p1, p2, p3), LATERAL (VALUES (given.p1, given.p2),(given.p1, given.p3)) AS new", 3 },
                { "INSERT INTO a (id, b) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET b = excluded.b",
                  "INSERT INTO a (id, b) SELECT new.* FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]))"
                  " AS given(p1, p2), LATERAL (VALUES (given.p1, given.p2)) AS new"
                  " ON CONFLICT (id) DO UPDATE SET b = excluded.b", 2 },
                { "UPDATE a SET b = $2 WHERE id = $1",
                  "UPDATE a SET b = given.p2 FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[])) AS given(p1, p2)"
                  " WHERE id = given.p1", 2 },
                { "DELETE FROM a WHERE id = $1",
                  "DELETE FROM a USING unnest(CAST($1 AS bigint[])) AS given(p1) WHERE id = given.p1", 1 },
                { "SELECT b FROM a WHERE id = $1",
                  "SELECT found.*, given.number FROM unnest(CAST($1 AS bigint[])) WITH ORDINALITY AS given(p1, number),"
                  " LATERAL (SELECT b FROM a WHERE id = given.p1) AS found", 1 },
        };
        struct arena arena = { 0 };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++)
                assert_string_equal(shape_set_text(&arena, rows[i].one, types, rows[i].n), rows[i].many);
        arena_done(&arena);
}

/* ---- names ---- */

static void other_threads_know_a_name_when_it_is_published(void **state)
{
        struct names_table *names = names_new();

        (void)state;
        names_add(names, 7, STR("agent:bo"));
        assert_int_equal(names_lookup(names, STR("agent:bo")), 7);
        assert_int_equal(names_number(names, STR("agent:bo")), 0);
        names_forget(names, 0); /* its call was undone, and another name gets the number */
        names_add(names, 7, STR("agent:al"));
        assert_int_equal(names_number(names, STR("agent:al")), 0);
        names_publish(names);
        assert_int_equal(names_number(names, STR("agent:al")), 7);
        assert_int_equal(names_number(names, STR("agent:bo")), 0);
        for (int64_t id = 8; id < 2000; id++) { /* the buckets grow */
                char text[32];

                snprintf(text, sizeof(text), "agent:%lld", (long long)id);
                names_add(names, id, str_from(text));
        }
        assert_int_equal(names_number(names, STR("agent:al")), 7);
        names_publish(names);
        assert_int_equal(names_number(names, STR("agent:1999")), 1999);
        names_free(names);
}

/* ---- gathered rows ---- */

static void add(struct gather *g, int64_t key, const char *text)
{
        gather_add(g, 0, (const char *)&key, sizeof(key));
        gather_add(g, 1, text, text ? (int)strlen(text) : 0);
        gather_add(g, 2, NULL, 0);
        gather_row(g, &key);
}

static void gathered_rows_are_arrays_and_are_found_by_their_keys(void **state)
{
        static const unsigned types[] = { 20, 25, 25 };
        static const char texts[] = "\0\0\0\1" "\0\0\0\1" "\0\0\0\31" "\0\0\0\2" "\0\0\0\1"
                                    "\0\0\0\2hi" "\377\377\377\377";
        static const char nothing[] = "\0\0\0\0" "\0\0\0\0" "\0\0\0\31";
        struct gather g = { 0 };

        (void)state;
        gather_begin(&g, types, 3);
        for (int round = 0; round < 2; round++) {
                struct str array;

                add(&g, 0, "hi");
                assert_true(str_is(gather_single(&g, 1), "hi"));
                assert_null(gather_single(&g, 2).p);
                assert_true(gather_has(&g, 0) && !gather_has(&g, 7));
                add(&g, 7, NULL);
                assert_true(gather_has(&g, 7));
                array = gather_array(&g, 1);
                assert_int_equal(array.n, sizeof(texts) - 1);
                assert_memory_equal(array.p, texts, array.n);
                array = gather_array(&g, 2); /* NULL for every row */
                assert_int_equal(array.n, sizeof(nothing) - 1);
                assert_memory_equal(array.p, nothing, array.n);
                assert_int_equal(gather_array(&g, 0).n, 20 + 2 * 12);
                gather_clear(&g);
                assert_false(gather_has(&g, 0) || gather_has(&g, 7));
        }
        for (int64_t key = 1; !gather_is_full(&g); key++)
                add(&g, key << 22, "x");
        assert_int_equal(g.n, GATHER_ROWS);
        assert_true(gather_has(&g, (int64_t)GATHER_ROWS << 22));
        assert_false(gather_has(&g, (int64_t)(GATHER_ROWS + 1) << 22));
        gather_clear(&g);
        gather_add(&g, 0, "12345678", 8);
        gather_row(&g, NULL);
        assert_true(gather_has(&g, 99)); /* nobody knows */
        gather_done(&g);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_text_tells_the_table_and_the_key_of_its_rows),
                cmocka_unit_test(a_text_is_read_word_by_word),
                cmocka_unit_test(a_statement_is_said_for_many_rows_at_once),
                cmocka_unit_test(other_threads_know_a_name_when_it_is_published),
                cmocka_unit_test(gathered_rows_are_arrays_and_are_found_by_their_keys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
