#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */

#include "core/attr.h"
#include "domain/retry.h"
#include "domain/run.h"
#include "domain/webhook.h"

/* The example that the libraries of Standard Webhooks are tested with. */
static void a_webhook_is_signed_as_the_standard_says(void **state)
{
        static const char key[] = "\x31\xf2\x90\xf6\xbf\x06\x29\x8a\xab\x4f\x08\xd4\x3c\x3f"
                                  "\x08\x2c\xf6\x48\xa3\x62\xda\x2d\xa4\xb0";
        struct arena arena = { 0 };
        struct str made = webhook_signature(&arena, (struct str){ key, sizeof(key) - 1 },
                                            STR("msg_p5jXN8AQM9LWM0D4loKWxJek"),
                                            STR("1614265330"), STR("{\"test\": 2432232314}"));

        (void)state;
        assert_true(str_is(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        arena_done(&arena);
}

static void task_status_follows_from_the_facts(void **state)
{
        static const struct {
                int stored, open_run;
                int64_t last, attempts, max, unmet;
                int want;
                const char *why;
        } rows[] = {
                { TASK_READY, RUN_NONE, RUN_NONE, 0, 3, 0, TASK_READY, "nothing happened yet" },
                { TASK_READY, RUN_NONE, RUN_NONE, 0, 3, 1, TASK_BLOCKED, "a dependency is open" },
                { TASK_READY, RUN_QUEUED, RUN_NONE, 1, 3, 0, TASK_READY, "queued is not started" },
                { TASK_READY, RUN_CLAIMED, RUN_NONE, 1, 3, 0, TASK_READY, "nor is claimed" },
                { TASK_READY, RUN_STARTING, RUN_NONE, 1, 3, 0, TASK_IN_PROGRESS, "starting" },
                { TASK_READY, RUN_SLEEPING, RUN_NONE, 1, 3, 0, TASK_IN_PROGRESS, "waiting counts" },
                { TASK_IN_PROGRESS, RUN_NONE, RUN_COMPLETED, 1, 3, 0, TASK_COMPLETED, "done" },
                { TASK_IN_PROGRESS, RUN_NONE, RUN_FAILED, 1, 3, 0, TASK_READY, "budget left" },
                { TASK_IN_PROGRESS, RUN_NONE, RUN_FAILED, 3, 3, 0, TASK_FAILED, "budget spent" },
                { TASK_IN_PROGRESS, RUN_NONE, RUN_TIMED_OUT, 3, 3, 0, TASK_FAILED, "as failed" },
                { TASK_CANCELED, RUN_RUNNING, RUN_NONE, 1, 3, 0, TASK_CANCELED, "sticky" },
                { TASK_DRAFT, RUN_NONE, RUN_NONE, 0, 3, 0, TASK_DRAFT, "sticky" },
                { TASK_COMPLETED, RUN_QUEUED, RUN_COMPLETED, 2, 3, 0, TASK_READY, "again" },
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct task task = { .status = rows[i].stored,
                                     .last_run_status = rows[i].last,
                                     .attempts = rows[i].attempts,
                                     .max_attempts = rows[i].max,
                                     .unmet_deps = rows[i].unmet };

                if ((int)task_derive(&task, rows[i].open_run) != rows[i].want)
                        _fail(rows[i].why, (int)i); /* prints "why:row" as the place */
        }
}

static void terminal_runs_never_move(void **state)
{
        (void)state;
        for (int from = RUN_COMPLETED; from < RUN_STATUSES; from++)
                for (int to = 0; to < RUN_STATUSES; to++)
                        assert_false(run_may_move(from, to));
}

static void runs_move_only_as_published(void **state)
{
        (void)state;
        assert_true(run_may_move(RUN_QUEUED, RUN_CLAIMED));
        assert_false(run_may_move(RUN_QUEUED, RUN_RUNNING));
        assert_false(run_may_move(RUN_QUEUED, RUN_COMPLETED));
        assert_true(run_may_move(RUN_CLAIMED, RUN_COMPLETED));
        assert_false(run_may_move(RUN_CLAIMED, RUN_SLEEPING));
        for (int waiting = RUN_AWAITING_APPROVAL; waiting <= RUN_SLEEPING; waiting++) {
                assert_true(run_may_move(RUN_RUNNING, waiting));
                assert_true(run_may_move(waiting, RUN_QUEUED));
                assert_true(run_may_move(waiting, RUN_CANCELED));
                assert_false(run_may_move(waiting, RUN_COMPLETED));
                assert_false(run_may_move(waiting, RUN_RUNNING));
        }
}

static void capabilities_are_sets(void **state)
{
        (void)state;
        assert_true(caps_within(STR_NONE, STR_NONE));
        assert_true(caps_within(STR("a"), STR("a")));
        assert_true(caps_within(STR("a,c"), STR("a,b,c")));
        assert_false(caps_within(STR("a,d"), STR("a,b,c")));
        assert_false(caps_within(STR("a"), STR("aa")));
        assert_false(caps_within(STR("aa"), STR("a")));
        assert_int_equal(caps_common(STR("a,c,x"), STR("a,b,c")), 2);
}

static void owners_decide_who_may_claim(void **state)
{
        static const struct {
                const char *owner, *agent, *session;
                bool want;
        } rows[] = {
                { NULL, NULL, NULL, true },        { "pool:builders", "builders", NULL, true },
                { "pool:builders", "x", NULL, false }, { "pool:builders", NULL, NULL, false },
                { "agent_session:s1", NULL, "s1", true }, { "agent_session:s1", NULL, "s2", false },
                { "human:ann", "ann", "ann", false },
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct lane lane = { .owner = str_from(rows[i].owner) };
                struct claim_criteria c = { .agent_name = str_from(rows[i].agent),
                                            .session_id = str_from(rows[i].session) };

                assert_int_equal(lane_allows(&lane, &c), rows[i].want);
        }
}

static void delays_grow_to_their_cap(void **state)
{
        struct task_retry p = { .delay_ms = 1000, .max_delay_ms = 5000, .backoff = 2, .jitter = 0.5 };

        (void)state;
        assert_int_equal(retry_delay_us(&p, 1, 0), 1000000);
        assert_int_equal(retry_delay_us(&p, 2, 0), 2000000);
        assert_int_equal(retry_delay_us(&p, 3, 0), 4000000);
        assert_int_equal(retry_delay_us(&p, 4, 0), 5000000);
        assert_int_equal(retry_delay_us(&p, 9, 1), 2500000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_webhook_is_signed_as_the_standard_says),
                cmocka_unit_test(task_status_follows_from_the_facts),
                cmocka_unit_test(terminal_runs_never_move),
                cmocka_unit_test(runs_move_only_as_published),
                cmocka_unit_test(capabilities_are_sets),
                cmocka_unit_test(owners_decide_who_may_claim),
                cmocka_unit_test(delays_grow_to_their_cap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
