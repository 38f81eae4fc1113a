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

enum { ADD, COUNT, SUM, NAMED, COLORED, STATEMENTS };
static const struct statement statements[] = {
        [ADD] = { "add", "INSERT INTO item (n, label) VALUES (?1, ?2)", NULL },
        [COUNT] = { "count", "SELECT count(*), max(n) FROM item", NULL },
        [SUM] = { "sum", "SELECT coalesce(sum(n), 0) FROM item", NULL },
        [NAMED] = { "named", "SELECT count(*) FROM item JOIN name ON name.id = item.label", NULL },
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
        struct call *parked;
        int64_t boot; /* what the clock shows to the store */
        struct clock clock;
        struct world world;
};

static int64_t fixture_boot(void *ctx)
{
        return ((struct fixture *)ctx)->boot;
}

static int64_t fixture_wall(void *ctx)
{
        (void)ctx;
        return system_clock.wall(system_clock.ctx);
}

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

static void on_park(void *hooks, struct call *call)
{
        ((struct fixture *)hooks)->parked = call;
}

static void on_ready(void *hooks, struct hint *hints, size_t n)
{
        struct fixture *f = hooks;

        for (size_t i = 0; i < n && f->parked; i++) {
                store_resubmit(f->store, f->parked);
                f->parked = NULL;
                hints[i].kind = HINT_NONE;
        }
}

static enum err open_it(struct fixture *f, const struct migration *migrations, size_t n)
{
        struct store_options options = { .path = f->path,
                                         .world = &f->world,
                                         .statements = statements,
                                         .n_statements = STATEMENTS,
                                         .migrations = migrations,
                                         .n_migrations = n,
                                         .hooks = f,
                                         .rolled_back = on_rolled_back,
                                         .park = on_park,
                                         .ready = on_ready,
                                         .committed = on_committed };

        return store_open(&f->scope, &options, &f->store);
}

static int setup(void **state)
{
        struct fixture *f = xcalloc(1, sizeof(*f));

        strcpy(f->directory, "/tmp/baton-store-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        snprintf(f->path, sizeof(f->path), "%s/db", f->directory);
        f->clock = (struct clock){ fixture_wall, fixture_boot, f };
        f->world = system_world;
        f->world.clock = &f->clock;
        scope_init(&f->scope, &f->world);
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
        struct fixture *f;
        int64_t takes; /* microseconds of the fixture's clock */
};

static enum err add_run(struct call *call, struct tx *tx)
{
        struct add *a = (struct add *)call;
        enum err e = tx_exec(tx, ADD, INT(a->n), NAME(str_from(a->label)));

        a->runs++;
        if (a->f)
                a->f->boot += a->takes;
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

/* Waits until there is a row. */
static enum err wait_run(struct call *call, struct tx *tx)
{
        int64_t n[2];
        enum err e = tx_numbers(tx, COUNT, n, 2, NULL, 0);

        ((struct add *)call)->runs++;
        call->parked = !e && n[0] == 0;
        return e;
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

static enum err named_run(struct tx *tx, void *arg)
{
        return tx_numbers(tx, NAMED, arg, 1, NULL, 0);
}

/* Rows whose label stands in the table of names. */
static int64_t count_named(struct fixture *f)
{
        int64_t n = 0;

        assert_int_equal(store_run(f->store, &f->scope, named_run, &n), ERR_OK);
        return n;
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
        assert_int_equal(count_named(f), 1);
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

static void migrations_are_applied_together_or_not_at_all(void **state)
{
        struct fixture *f = *state;
        const char *more = "CREATE TABLE more (a TEXT) STRICT;";
        struct migration bad[] = { first, { 2, 1, "more", more }, { 3, 1, "again", more } };

        store_close(f->store);
        f->store = NULL;
        assert_int_not_equal(open_it(f, bad, 3), ERR_OK);
        bad[2].text = "CREATE TABLE else_ (a TEXT) STRICT;";
        bad[1].text = "CREATE TABLE more (b INTEGER) STRICT;"; /* it would be refused had it stayed */
        assert_int_equal(open_it(f, bad, 3), ERR_OK);
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

/* Adds of one class; how many of them the queue took. */
static size_t queue_many(struct fixture *f, struct add *adds, size_t n, enum call_class class,
                         int64_t number)
{
        size_t taken = 0;

        for (size_t i = 0; i < n; i++) {
                struct add *a = &adds[i];

                *a = (struct add){ .n = number + (int64_t)i, .label = "x", .f = f, .takes = a->takes };
                scope_init(&a->scope, &f->world);
                a->call = (struct call){ .run = add_run, .done = add_done, .scope = &a->scope,
                                         .class = class };
                taken += store_submit(f->store, &a->call);
        }
        return taken;
}

static void discard(struct add *adds, size_t n)
{
        for (size_t i = 0; i < n; i++)
                scope_done(&adds[i].scope);
        free(adds);
}

/* Three turns that leave creates waiting: heartbeats fill each batch. */
static void pass_over(struct fixture *f, int64_t number)
{
        struct add *beats = xcalloc(3 * 256, sizeof(*beats));

        assert_int_equal(queue_many(f, beats, 3 * 256, CALL_LEASE, number), 3 * 256);
        for (int i = 0; i < 3; i++)
                assert_true(writer_turn(f->store));
        discard(beats, 3 * 256);
}

enum { MANY = 300 }; /* more than may wait, and than one batch */

static void an_old_queue_takes_no_more_work_but_what_a_lease_holder_asks(void **state)
{
        struct fixture *f = *state;
        struct add *old = xcalloc(MANY, sizeof(*old)), *more = xcalloc(1, sizeof(*more));
        struct add *beat = xcalloc(1, sizeof(*beat));

        assert_int_equal(queue_many(f, old, MANY, CALL_CREATE, 1), MANY);
        pass_over(f, 2000);
        f->boot += 600 * US_PER_MS;
        assert_int_equal(queue_many(f, more, 1, CALL_CREATE, 1000), 0);
        assert_int_equal(queue_many(f, beat, 1, CALL_LEASE, 1001), 1);
        assert_true(writer_turn(f->store));
        assert_int_equal(beat->done, 1);
        assert_int_equal(beat->call.result, ERR_OK);
        assert_int_equal(queue_many(f, more, 1, CALL_CREATE, 1000), 1);
        while (writer_turn(f->store))
                ;
        assert_int_equal(count(f), MANY + 2 + 3 * 256);
        discard(old, MANY);
        discard(more, 1);
        discard(beat, 1);
}

static void what_waited_too_long_is_refused_instead_of_served_late(void **state)
{
        struct fixture *f = *state;
        struct add *old = xcalloc(MANY, sizeof(*old)), *beats = xcalloc(MANY, sizeof(*beats));
        size_t served = 0, refused = 0;

        assert_int_equal(queue_many(f, old, MANY, CALL_CREATE, 1), MANY);
        pass_over(f, 2000);
        assert_int_equal(queue_many(f, beats, MANY, CALL_LEASE, 1000), MANY);
        f->boot += 3 * US_PER_S;
        while (writer_turn(f->store))
                ;
        for (size_t i = 0; i < MANY; i++) {
                assert_int_equal(beats[i].call.result, ERR_OK);
                assert_int_equal(old[i].done, 1);
                served += old[i].call.result == ERR_OK;
                refused += old[i].call.result == ERR_OVERLOADED && old[i].runs == 0;
        }
        assert_int_equal(served, 64); /* so few are no backlog */
        assert_int_equal(refused, MANY - 64);
        assert_int_equal(count(f), MANY + 64 + 3 * 256);
        discard(old, MANY);
        discard(beats, MANY);
}

static void a_stall_of_the_disk_refuses_nobody(void **state)
{
        struct fixture *f = *state;
        struct add *old = xcalloc(MANY, sizeof(*old)), *more = xcalloc(1, sizeof(*more));

        assert_int_equal(queue_many(f, old, MANY, CALL_CREATE, 1), MANY);
        f->boot += 5 * US_PER_S;
        assert_int_equal(queue_many(f, more, 1, CALL_CREATE, 1000), 1);
        while (writer_turn(f->store))
                ;
        assert_int_equal(count(f), MANY + 1);
        discard(old, MANY);
        discard(more, 1);
}

static void a_batch_that_lasts_ends_before_what_may_wait(void **state)
{
        struct fixture *f = *state;
        struct add *slow = xcalloc(3, sizeof(*slow)), *beats = xcalloc(3, sizeof(*beats));

        for (int i = 0; i < 3; i++)
                slow[i].takes = beats[i].takes = 30 * US_PER_MS;
        assert_int_equal(queue_many(f, slow, 3, CALL_CREATE, 1), 3);
        assert_int_equal(queue_many(f, beats, 3, CALL_LEASE, 1000), 3);
        for (int turn = 0; turn < 4; turn++) {
                assert_int_equal(slow[0].done + slow[1].done + slow[2].done, turn ? turn - 1 : 0);
                assert_true(writer_turn(f->store));
                assert_int_equal(beats[0].done + beats[1].done + beats[2].done, 3);
        }
        assert_int_equal(slow[0].done + slow[1].done + slow[2].done, 3);
        assert_int_equal(count(f), 6);
        discard(slow, 3);
        discard(beats, 3);
}

static void wait_for_a_row(struct fixture *f, struct add *waiter)
{
        scope_init(&waiter->scope, &system_world);
        waiter->call = (struct call){
                .run = wait_run, .done = add_done, .class = CALL_CLAIM, .scope = &waiter->scope
        };
        assert_true(store_submit(f->store, &waiter->call));
        writer_turn(f->store);
        assert_ptr_equal(f->parked, &waiter->call);
        assert_int_equal(waiter->done, 0);
}

static void who_waits_is_served_in_the_transaction_that_makes_what_it_waits_for(void **state)
{
        struct fixture *f = *state;
        struct add add = { .n = 1, .label = "a" }, waiter = { 0 };
        int before;

        wait_for_a_row(f, &waiter);
        before = f->committed;
        queue(f, &add);
        writer_turn(f->store);
        assert_int_equal(f->committed, before + 1);
        assert_int_equal(waiter.done, 1);
        assert_false(writer_turn(f->store));
        scope_done(&add.scope);
        scope_done(&waiter.scope);
}

static void who_was_woken_for_what_is_undone_goes_on_waiting(void **state)
{
        struct fixture *f = *state;
        struct add undone = { .n = 1, .label = "a", .then = ERR_CONFLICT }, waiter = { 0 };
        struct add add = { .n = 2, .label = "b" };

        wait_for_a_row(f, &waiter);
        queue(f, &undone);
        writer_turn(f->store);
        assert_int_equal(undone.done, 1);
        assert_int_equal(waiter.done, 0);
        queue(f, &add);
        writer_turn(f->store);
        assert_int_equal(waiter.done, 1);
        scope_done(&undone.scope);
        scope_done(&add.scope);
        scope_done(&waiter.scope);
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
                ROW(migrations_are_applied_together_or_not_at_all),
                ROW(a_newer_database_is_refused_unless_it_says_it_is_compatible),
                ROW(an_old_queue_takes_no_more_work_but_what_a_lease_holder_asks),
                ROW(what_waited_too_long_is_refused_instead_of_served_late),
                ROW(a_stall_of_the_disk_refuses_nobody),
                ROW(a_batch_that_lasts_ends_before_what_may_wait),
                ROW(who_waits_is_served_in_the_transaction_that_makes_what_it_waits_for),
                ROW(who_was_woken_for_what_is_undone_goes_on_waiting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
