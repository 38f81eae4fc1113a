#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>
#undef fail /* ours has arguments */

#include "core/attr.h"
#include "domain/claimer.h"
#include "domain/context.h"
#include "domain/retry.h"
#include "domain/run.h"
#include "domain/search.h"
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
                int64_t review, circuit;
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
                { TASK_IN_PROGRESS, RUN_NONE, RUN_COMPLETED, 1, 3, 0, TASK_IN_REVIEW, "judged", 1, 0 },
                { TASK_IN_PROGRESS, RUN_NONE, RUN_FAILED, 3, 3, 1, TASK_IN_REVIEW, "so too", 1, 0 },
                { TASK_IN_REVIEW, RUN_NONE, RUN_COMPLETED, 1, 3, 0, TASK_BLOCKED, "no judgement", 1, 1 },
                { TASK_CANCELED, RUN_NONE, RUN_COMPLETED, 1, 3, 0, TASK_CANCELED, "sticky", 1, 0 },
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct task task = { .status = rows[i].stored,
                                     .last_run_status = rows[i].last,
                                     .attempts = rows[i].attempts,
                                     .max_attempts = rows[i].max,
                                     .unmet_deps = rows[i].unmet,
                                     .review_id = rows[i].review,
                                     .review_circuit_at = rows[i].circuit };

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

static void lists_are_joined_and_cut(void **state)
{
        struct arena arena = { 0 };
        struct str rule = STR("ops\n\nx\na,b\n\n\n");

        (void)state;
        assert_true(str_is(caps_union(&arena, STR("a,c"), STR("b,c,d")), "a,b,c,d"));
        assert_true(str_is(caps_union(&arena, STR("a"), STR_NONE), "a"));
        assert_null(caps_union(&arena, STR_NONE, STR_NONE).p);
        assert_true(str_is(caps_both(&arena, STR("a,b,d"), STR("b,c,d")), "b,d"));
        assert_null(caps_both(&arena, STR("a"), STR("b")).p);
        assert_true(str_is(rule_part(rule, RULE_CHANNELS), "ops"));
        assert_true(str_is(rule_part(rule, RULE_AGENTS), "a,b"));
        assert_int_equal(rule_part(rule, RULE_PEERS_PREFERRED).n, 0);
        assert_true(str_is(rule_from(rule, RULE_AGENTS), "a,b\n\n\n"));
        assert_null(rule_from(rule, RULE_AGENTS_PREFERRED).p);
        assert_null(rule_from(STR_NONE, RULE_AGENTS).p);
        arena_done(&arena);
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

static void the_next_action_follows_from_the_facts(void **state)
{
        enum { NOW = 1000 };
        static const struct {
                int status;
                int64_t hold, heard, queued; /* seconds ago */
                int64_t lease;               /* seconds that are left */
                bool superseded, gone, claimer;
                unsigned found;
                const char *next;
        } rows[] = {
                { RUN_CLAIMED, 0, 120, 0, 9, 0, 0, 0, 0, "running" },
                { RUN_CLAIMED, 0, 121, 0, 9, 0, 0, 0, FOUND_STUCK, "recovery_required" },
                { RUN_RUNNING, 0, 121, 0, 9, 0, 0, 0, 0, "running" },
                { RUN_CLAIMED, 0, 0, 0, 0, 0, 0, 0, FOUND_STALE_LEASE, "recovery_required" },
                { RUN_RUNNING, 0, 0, 0, -1, 0, 1, 0, FOUND_STALE_LEASE | FOUND_ORPHAN,
                  "recovery_required" },
                { RUN_FAILED, 0, 0, 0, 0, 0, 0, 0, FOUND_CRASHED, "recovery_required" },
                { RUN_TIMED_OUT, 0, 0, 0, 0, 0, 0, 0, FOUND_CRASHED, "recovery_required" },
                { RUN_FAILED, 0, 0, 0, 0, 1, 0, 0, 0, "terminal" },
                { RUN_CANCELED, 0, 0, 0, 0, 0, 0, 0, 0, "terminal" },
                { RUN_QUEUED, 0, 0, 299, 0, 0, 0, 0, 0, "waiting_for_session" },
                { RUN_QUEUED, 0, 0, 300, 0, 0, 0, 0, FOUND_STRANDED, "stranded" },
                { RUN_QUEUED, HOLD_PAUSED, 0, 300, 0, 0, 0, 1, 0, "waiting_for_session" },
                { RUN_QUEUED, 0, 0, 300, 0, 0, 0, 1, 0, "claim_available" },
                { RUN_SLEEPING, 0, 0, 300, 0, 0, 0, 0, 0, "waiting_for_session" },
        };
        struct run_facts none = { .closed = false };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct run run = { .status = rows[i].status,
                                   .hold = rows[i].hold,
                                   .heartbeat_at = (NOW - rows[i].heard) * US_PER_S,
                                   .queued_at = (NOW - rows[i].queued) * US_PER_S,
                                   .lease_until = rows[i].lease * US_PER_S };
                struct run_facts facts = { .run = &run,
                                           .superseded = rows[i].superseded,
                                           .holder_gone = rows[i].gone,
                                           .claimer = rows[i].claimer,
                                           .now = NOW * US_PER_S };

                assert_int_equal(run_findings(&facts), rows[i].found);
                assert_string_equal(run_next_action(&facts, rows[i].found), rows[i].next);
        }
        assert_string_equal(run_next_action(&none, 0), "waiting_for_session");
        none.closed = true;
        assert_string_equal(run_next_action(&none, 0), "terminal");
}

static struct str controls(struct arena *arena, size_t n)
{
        char *text = arena_alloc(arena, n + 1, 1);

        memset(text, 1, n); /* six bytes each in JSON */
        return (struct str){ text, n };
}

static size_t size_of(const struct context *c)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        size_t n;

        json_record(&j, &context_record, c);
        n = text.n;
        buf_done(&text);
        return n;
}

/* One thing at a time, as the rule is written; false when nothing is left to drop. */
static bool drop_one(struct context *c)
{
        if (c->recent_events.n)
                c->recent_events.n--;
        else if (c->prior_attempts.n)
                c->prior_attempts.n--;
        else if (c->handoff_summary.n)
                c->handoff_summary.n /= 2;
        else
                return false;
        return true;
}

static void a_context_drops_in_order_what_does_not_fit_and_no_more(void **state)
{
        enum { KEPT_ALL, LOST_EVENTS, LOST_ATTEMPTS, LOST_HANDOFF, REFUSED, OUTCOMES };
        int seen[OUTCOMES] = { 0 };
        struct scope scope;

        (void)state;
        srand(7);
        scope_init(&scope, &system_world);
        for (int i = 0; i < 2000; i++) {
                struct event *events = arena_array(&scope.arena, struct event, CONTEXT_EVENTS);
                struct run_view attempts[CONTEXT_ATTEMPTS] = { 0 }, run = { 0 };
                struct task_view task = { .task.title = controls(&scope.arena, (size_t)rand() % 1400) };
                struct context c = { .task = &task,
                                     .current_run = &run,
                                     .handoff_summary = controls(&scope.arena, (size_t)rand() % 600),
                                     .prior_attempts = { attempts, (size_t)rand() % 6 },
                                     .recent_events = { events, (size_t)rand() % 51 } };
                struct context slow;
                int longest = 1 << rand() % 12;

                for (int k = 0; k < CONTEXT_EVENTS; k++)
                        events[k].payload = arena_printf(&scope.arena, "\"%0*d\"", 1 + rand() % longest, 0);
                for (int k = 0; k < CONTEXT_ATTEMPTS; k++)
                        attempts[k].run.error = controls(&scope.arena, (size_t)rand() % 160);
                for (slow = c; size_of(&slow) > CONTEXT_MAX && drop_one(&slow);)
                        ;
                seen[size_of(&slow) > CONTEXT_MAX                            ? REFUSED :
                     slow.handoff_summary.n < c.handoff_summary.n            ? LOST_HANDOFF :
                     slow.prior_attempts.n < c.prior_attempts.n              ? LOST_ATTEMPTS :
                     slow.recent_events.n < c.recent_events.n                ? LOST_EVENTS :
                                                                               KEPT_ALL]++;
                assert_int_equal(context_fit(&scope, &c),
                                 size_of(&slow) > CONTEXT_MAX ? ERR_TOO_LARGE : ERR_OK);
                assert_int_equal(c.recent_events.n, slow.recent_events.n);
                assert_int_equal(c.prior_attempts.n, slow.prior_attempts.n);
                assert_int_equal(c.handoff_summary.n, slow.handoff_summary.n);
                scope_reset(&scope);
        }
        scope_done(&scope);
        for (int outcome = 0; outcome < OUTCOMES; outcome++)
                assert_true(seen[outcome] > 0);
}

static void secrets_are_taken_out_of_json(void **state)
{
        static const struct {
                const char *in, *out;
        } rows[] = {
                { "{}", "{}" },
                { "{\"a\":[{\"Claim_Token\":1,\"b\":{\"x_SECRET\":2}},3]}", "{\"a\":[{\"b\":{}},3]}" },
                { "{\"secret\":1,\"token\":2,\"secret_binding\":3}", "{\"secret\":1,\"token\":2}" },
                { "{\"a\":\"x btk_0123456789abcdef. btk_1234567 btk_00000000\"}",
                  "{\"a\":\"x btk_[REDACTED]. btk_1234567 btk_[REDACTED]\"}" },
                { "\"btk_btk_AAAAAAAA\"", "\"btk_btk_[REDACTED]\"" },
        };
        struct scope scope;

        (void)state;
        scope_init(&scope, &system_world);
        for (size_t i = 0; i < LENGTH(rows); i++)
                assert_string_equal(redact_json(&scope, str_from(rows[i].in)).p, rows[i].out);
        scope_done(&scope);
}

/* Three of the same. */
static struct str word_of(struct arena *arena, wint_t c)
{
        char *text = arena_alloc(arena, 3 * MB_LEN_MAX, 1);
        struct str words[SEARCH_GROUPS];
        size_t n = 0;

        for (int i = 0; i < 3; i++)
                n += (size_t)wctomb(text + n, (wchar_t)c);
        return search_groups(arena, (struct str){ text, n }, words) == 1 ? words[0] : STR_NONE;
}

/* The pattern takes a letter in its upper and its lower case: the index must know both as the same. */
static void the_index_knows_no_case_that_the_pattern_does_not(void **state)
{
        locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before = uselocale(utf8);
        struct arena arena = { 0 };
        struct str words[SEARCH_GROUPS];
        int letters = 0;

        (void)state;
        for (wint_t c = 1; c < 0x110000; c++) {
                struct str word;

                if (towlower(c) == towupper(c))
                        continue;
                word = word_of(&arena, c);
                assert_true(word.p && str_eq(word, word_of(&arena, towlower(c))) &&
                            str_eq(word, word_of(&arena, towupper(c))));
                letters++;
        }
        assert_true(letters > 2000);
        assert_int_equal(search_groups(&arena, STR("a\"Bc"), words), 2);
        assert_true(str_is(words[0], "\"a\"\"b\"") && str_is(words[1], "\"\"\"bc\""));
        assert_int_equal(search_groups(&arena, STR("ab"), words), 0);
        uselocale(before);
        freelocale(utf8);
        arena_done(&arena);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_index_knows_no_case_that_the_pattern_does_not),
                cmocka_unit_test(a_webhook_is_signed_as_the_standard_says),
                cmocka_unit_test(task_status_follows_from_the_facts),
                cmocka_unit_test(terminal_runs_never_move),
                cmocka_unit_test(runs_move_only_as_published),
                cmocka_unit_test(capabilities_are_sets),
                cmocka_unit_test(lists_are_joined_and_cut),
                cmocka_unit_test(owners_decide_who_may_claim),
                cmocka_unit_test(delays_grow_to_their_cap),
                cmocka_unit_test(the_next_action_follows_from_the_facts),
                cmocka_unit_test(a_context_drops_in_order_what_does_not_fit_and_no_more),
                cmocka_unit_test(secrets_are_taken_out_of_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
