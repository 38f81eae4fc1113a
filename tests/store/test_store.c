#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/attr.h"
#include "store/store.h"

struct colored {
        int color;
};
static const struct names colors = { (const char *const[]){ "red", "green", NULL }, NULL };
static const struct field colored_fields[] = {
        { "color", FIELD_ENUM, FIELD_COLUMN | FIELD_WIRE, offsetof(struct colored, color), &colors },
};
static const struct record colored_record = { "Colored", colored_fields, 1, sizeof(struct colored),
                                              -1 };

enum { ADD, COUNT, SUM, COLORED, STATEMENTS };
static const struct statement statements[] = {
        [ADD] = { "add", "INSERT INTO item (n, label) VALUES (?1, ?2)", NULL },
        [COUNT] = { "count", "SELECT count(*), max(n) FROM item", NULL },
        [SUM] = { "sum", "SELECT coalesce(sum(n), 0) FROM item", NULL },
        [COLORED] = { "colored", "SELECT ?1", &colored_record },
};
static const struct migration first = {
        1, 1, "item", "CREATE TABLE item (n INTEGER PRIMARY KEY, label INTEGER) STRICT;"
};

struct fixture {
        char directory[64], path[96];
        struct store *store;
        struct scope scope;
        int rolled_back, committed;
        int64_t hints;
};

static void on_rolled_back(void *hooks, bool whole)
{
        (void)whole;
        ((struct fixture *)hooks)->rolled_back++;
}

static void on_committed(void *hooks, const struct hint *hints, size_t n)
{
        struct fixture *f = hooks;

        (void)hints;
        f->committed++;
        f->hints += (int64_t)n;
}

static enum err open_it(struct fixture *f, const struct migration *migrations, size_t n)
{
        struct store_options options = { .path = f->path,
                                         .world = &system_world,
                                         .statements = statements,
                                         .n_statements = STATEMENTS,
                                         .migrations = migrations,
                                         .n_migrations = n,
                                         .hooks = f,
                                         .rolled_back = on_rolled_back,
                                         .committed = on_committed };

        return store_open(&f->scope, &options, &f->store);
}

static int setup(void **state)
{
        struct fixture *f = xcalloc(1, sizeof(*f));

        strcpy(f->directory, "/tmp/baton-store-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        snprintf(f->path, sizeof(f->path), "%s/db", f->directory);
        scope_init(&f->scope, &system_world);
        assert_int_equal(open_it(f, &first, 1), ERR_OK);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char command[128];

        if (f->store)
                store_close(f->store);
        scope_done(&f->scope);
        snprintf(command, sizeof(command), "rm -rf %s", f->directory);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

struct add {
        struct call call;
        struct scope scope;
        int64_t n;
        const char *label;
        enum err then;
        bool keep;
        int runs, done;
};

static enum err add_run(struct call *call, struct tx *tx)
{
        struct add *a = (struct add *)call;
        enum err e = tx_exec(tx, ADD, INT(a->n), NAME(str_from(a->label)));

        a->runs++;
        tx_hint(tx, HINT_TREE, a->n, 0);
        a->call.keep = a->keep;
        return e ? e : a->then ? fail(tx_scope(tx), a->then, "on purpose") : ERR_OK;
}

static void add_done(struct call *call)
{
        ((struct add *)call)->done++;
}

static void queue(struct fixture *f, struct add *a)
{
        scope_init(&a->scope, &system_world);
        a->call = (struct call){ .run = add_run, .done = add_done, .scope = &a->scope };
        assert_true(store_submit(f->store, &a->call));
}

struct counts {
        int64_t n, max;
};

static enum err count_run(struct tx *tx, void *arg)
{
        return tx_numbers(tx, COUNT, arg, 2, NULL, 0);
}

static int64_t count(struct fixture *f)
{
        struct counts c = { 0 };

        assert_int_equal(store_run(f->store, &f->scope, count_run, &c), ERR_OK);
        return c.n;
}

static void a_turn_commits_what_is_queued_at_once(void **state)
{
        struct fixture *f = *state;
        struct add adds[10] = { 0 };

        for (int i = 0; i < 10; i++) {
                adds[i].n = i + 1;
                adds[i].label = i % 2 ? "odd" : "even";
                queue(f, &adds[i]);
        }
        assert_true(writer_turn(f->store));
        assert_int_equal(f->committed, 1);
        assert_int_equal(f->hints, 10);
        for (int i = 0; i < 10; i++) {
                assert_int_equal(adds[i].done, 1);
                assert_int_equal(adds[i].call.result, ERR_OK);
                scope_done(&adds[i].scope);
        }
        assert_int_equal(count(f), 10);
        assert_false(writer_turn(f->store));
}

static void a_call_that_fails_after_writing_is_undone_alone(void **state)
{
        struct fixture *f = *state;
        struct add adds[3] = { { .n = 1, .label = "a" },
                               { .n = 2, .label = "b", .then = ERR_CONFLICT },
                               { .n = 3, .label = "c" } };

        for (int i = 0; i < 3; i++)
                queue(f, &adds[i]);
        writer_turn(f->store);
        assert_int_equal(adds[0].call.result, ERR_OK);
        assert_int_equal(adds[1].call.result, ERR_CONFLICT);
        assert_int_equal(adds[2].call.result, ERR_OK);
        assert_int_equal(count(f), 2);
        assert_int_equal(f->hints, 2);
        assert_true(f->rolled_back >= 1);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(adds[i].done, 1);
                scope_done(&adds[i].scope);
        }
}

static void a_refusal_may_keep_what_it_wrote(void **state)
{
        struct fixture *f = *state;
        struct add add = { .n = 1, .label = "a", .then = ERR_CONFLICT, .keep = true };

        queue(f, &add);
        writer_turn(f->store);
        assert_int_equal(add.call.result, ERR_CONFLICT);
        assert_int_equal(count(f), 1);
        scope_done(&add.scope);
}

static void a_name_made_by_an_undone_call_is_made_again(void **state)
{
        struct fixture *f = *state;
        struct add bad = { .n = 1, .label = "new", .then = ERR_CONFLICT };
        struct add good = { .n = 2, .label = "new" };

        queue(f, &bad);
        writer_turn(f->store);
        queue(f, &good);
        writer_turn(f->store);
        assert_int_equal(good.call.result, ERR_OK);
        assert_int_equal(count(f), 1);
        scope_done(&bad.scope);
        scope_done(&good.scope);
}

static void what_was_committed_is_there_after_reopening(void **state)
{
        struct fixture *f = *state;
        struct add add = { .n = 7, .label = "kept" };

        queue(f, &add);
        writer_turn(f->store);
        scope_done(&add.scope);
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(open_it(f, &first, 1), ERR_OK);
        assert_int_equal(count(f), 1);
}

static void a_changed_migration_is_refused(void **state)
{
        struct fixture *f = *state;
        struct migration other = first;

        other.text = "CREATE TABLE item (n INTEGER PRIMARY KEY, label INTEGER, x TEXT) STRICT;";
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(open_it(f, &other, 1), ERR_UNAVAILABLE);
        assert_true(str_contains(f->scope.fault.detail, STR("different build")));
}

static void a_newer_database_is_refused_unless_it_says_it_is_compatible(void **state)
{
        struct fixture *f = *state;
        struct migration two[] = { first, { 2, 1, "more", "CREATE TABLE more (a TEXT) STRICT;" } };

        store_close(f->store);
        f->store = NULL;
        assert_int_equal(open_it(f, two, 2), ERR_OK);
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(open_it(f, &first, 1), ERR_OK);
        store_close(f->store);
        f->store = NULL;
        struct migration three[] = { two[0], two[1], { 3, 3, "break", "DROP TABLE more;" } };

        assert_int_equal(open_it(f, three, 3), ERR_OK);
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(open_it(f, &first, 1), ERR_UNAVAILABLE);
        assert_true(str_contains(f->scope.fault.detail, STR("newer baton")));
}

static enum err read_colored(struct tx *tx, void *arg)
{
        int64_t number = *(int64_t *)arg;
        struct colored one;
        struct list all;
        enum err e = tx_one(tx, COLORED, &one, INT(number));

        assert_int_equal(tx_all(tx, COLORED, &all, INT(number)), e);
        if (!e)
                assert_int_equal(one.color, number);
        return e;
}

/* Nobody says that the file was written by this program. */
static void a_number_without_a_name_is_refused(void **state)
{
        struct fixture *f = *state;
        int64_t known = 1, unknown[] = { 2, -1, INT64_C(1) << 32 };

        assert_int_equal(store_run(f->store, &f->scope, read_colored, &known), ERR_OK);
        for (size_t i = 0; i < LENGTH(unknown); i++) {
                assert_int_equal(store_run(f->store, &f->scope, read_colored, &unknown[i]),
                                 ERR_INTERNAL);
                assert_true(str_contains(f->scope.fault.detail, STR("as color")));
        }
        assert_int_equal(store_run(f->store, &f->scope, read_colored, &known), ERR_OK);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
                ROW(a_turn_commits_what_is_queued_at_once),
                ROW(a_number_without_a_name_is_refused),
                ROW(a_call_that_fails_after_writing_is_undone_alone),
                ROW(a_refusal_may_keep_what_it_wrote),
                ROW(a_name_made_by_an_undone_call_is_made_again),
                ROW(what_was_committed_is_there_after_reopening),
                ROW(a_changed_migration_is_refused),
                ROW(a_newer_database_is_refused_unless_it_says_it_is_compatible),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
