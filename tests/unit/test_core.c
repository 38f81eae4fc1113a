#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <string.h>

#include "json/json_in.h"

static void ids_only_grow_and_survive_a_clock_that_goes_back(void **state)
{
        struct idgen gen = { .server = 3 };
        int64_t now = (ID_EPOCH_MS + 1000) * 1000, last = 0;

        (void)state;
        for (int i = 0; i < 20000; i++) {
                int64_t id = id_next(&gen, i == 5000 ? now - 1000000 : now + i / 100);

                assert_true(id > last);
                last = id;
        }
}

static void an_id_reads_back_from_its_text(void **state)
{
        char text[ID_TEXT_SIZE];
        int64_t id;

        (void)state;
        assert_int_equal(id_print("task", INT64_MAX, text), 18);
        assert_true(id_parse("task", str_from(text), &id) && id == INT64_MAX);
        assert_false(id_parse("run", str_from(text), &id));
        assert_false(id_parse("task", STR("task_zzzzzzzzzzzzz"), &id));
        assert_false(id_parse("task", STR("task_0000000000000"), &id));
        assert_false(id_parse("task", STR("task_000000000000u"), &id));
}

static void times_read_back_and_bad_ones_are_refused(void **state)
{
        static const struct {
                const char *text;
                bool valid;
                int64_t us;
        } rows[] = {
                { "1970-01-01T00:00:00Z", true, 0 },
                { "2026-11-21T01:26:00.123456Z", true, 1795224360123456 },
                { "2024-02-29T23:59:59+01:00", true, 1709247599000000 },
                { "2023-02-29T00:00:00Z", false, 0 },
                { "2026-13-01T00:00:00Z", false, 0 },
                { "2026-01-01T24:00:00Z", false, 0 },
                { "2026-01-01T00:00:00", false, 0 },
                { "2026-01-01T00:00:00.Z", false, 0 },
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                char text[TIME_TEXT_SIZE];
                int64_t us = -1, again;

                assert_int_equal(time_parse(str_from(rows[i].text), &us), rows[i].valid);
                if (!rows[i].valid)
                        continue;
                assert_int_equal(us, rows[i].us);
                time_print(us, text);
                assert_true(time_parse(str_from(text), &again) && again == us);
        }
}

static void only_whole_numbers_in_range_are_numbers(void **state)
{
        int64_t n;

        (void)state;
        assert_true(str_to_int(STR("-9223372036854775808"), &n) && n == INT64_MIN);
        assert_true(str_to_int(STR("9223372036854775807"), &n) && n == INT64_MAX);
        assert_false(str_to_int(STR("9223372036854775808"), &n));
        assert_false(str_to_int(STR(""), &n));
        assert_false(str_to_int(STR("-"), &n));
        assert_false(str_to_int(STR("1 "), &n));
}

static void only_letters_are_the_same_in_either_case(void **state)
{
        (void)state;
        assert_true(str_is_nocase(STR("cOnTeNt-Type1"), "CoNtEnT-tYPE1"));
        assert_true(str_is_nocase(STR_NONE, ""));
        assert_false(str_is_nocase(STR("content"), "content-type"));
        assert_false(str_is_nocase(STR("content-type"), "content"));
        assert_false(str_is_nocase(STR("content\rtype"), "content-type")); /* they differ by 0x20 */
        assert_false(str_is_nocase(STR("a\0b"), "a"));
        assert_false(str_is_nocase(STR("@["), "`{"));
        assert_false(str_is_nocase(STR("\xc3\x84"), "\xc3\xa4"));
}

static void utf8_is_checked_strictly(void **state)
{
        (void)state;
        assert_true(str_is_utf8(STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
        assert_false(str_is_utf8(STR("\xc0\x80")));         /* overlong */
        assert_false(str_is_utf8(STR("\xed\xa0\x80")));     /* surrogate */
        assert_false(str_is_utf8(STR("\xf4\x90\x80\x80"))); /* above U+10FFFF */
        assert_false(str_is_utf8(STR("\xe2\x82")));         /* cut off */
}

static void a_buffer_stops_at_its_cap(void **state)
{
        struct buf b = BUF_INIT(4);

        (void)state;
        buf_text(&b, "abc");
        assert_false(b.full);
        buf_text(&b, "de");
        assert_true(b.full && b.n == 3);
        buf_text(&b, "f");
        assert_int_equal(b.n, 3);
        buf_done(&b);
}

static void doubles_are_written_by_their_shortest_text(void **state)
{
        static const struct {
                double value;
                const char *text;
        } rows[] = { { 0.1, "0.1" }, { 1, "1.0" }, { 1e300, "1e+300" },
                     { 1.0 / 3, "0.3333333333333333" }, { -2.5, "-2.5" } };

        (void)state;
        for (size_t i = 0; i < LENGTH(rows); i++) {
                struct buf b = BUF_INIT(100);
                struct json_out j = { .out = &b };

                json_put_double(&j, rows[i].value);
                assert_string_equal(b.p, rows[i].text);
                buf_done(&b);
        }
}

static void json_keeps_what_it_reads(void **state)
{
        struct scope scope;
        json_t *value;
        const char *text = "{\"z\":[1,-2.5,true,null,\"a\\\"\\u0001\\n\xc3\xa9\"],\"a\":{},"
                           "\"b\\\"\\\\\\n\\u0001\":{\"\\\":1,\\\"c\":2}}";

        (void)state;
        scope_init(&scope, &system_world);
        assert_int_equal(json_parse(&scope, str_from(text), &value), ERR_OK);
        assert_true(str_is(json_dump(&scope.arena, value), text));
        json_decref(value);
        assert_int_equal(json_parse(&scope, STR("{\"a\":1,\"a\":2}"), &value), ERR_INVALID_JSON);
        scope_done(&scope);
}

static void a_refusal_is_text_whatever_it_quotes(void **state)
{
        struct scope scope;
        char longer[3000];

        (void)state;
        scope_init(&scope, &system_world);
        fail(&scope, ERR_VALIDATION, "unknown field \"%.4s\"", "abc\xc3\xa9");
        assert_true(str_is(scope.fault.detail, "unknown field \"abc\xef\xbf\xbd\""));
        memset(longer, 0xc3, sizeof(longer));
        fail(&scope, ERR_VALIDATION, STR_FMT, (int)sizeof(longer), longer);
        assert_true(scope.fault.detail.n > 1000 && str_is_utf8(scope.fault.detail));
        scope_done(&scope);
}

static void names_are_found_in_any_spelling(void **state)
{
        static const char *const text[] = { "timed_out", "canceled", "", NULL };
        static const struct alias aliases[] = { { "timeout", 0 }, { NULL, 0 } };
        const struct names names = { text, aliases };

        (void)state;
        assert_int_equal(names_find(&names, STR("TimedOut")), 0);
        assert_int_equal(names_find(&names, STR("timed-out")), 0);
        assert_int_equal(names_find(&names, STR("Timeout")), 0);
        assert_int_equal(names_find(&names, STR("other")), -1);
        assert_int_equal(names_find(&names, STR("")), -1); /* 2 has no name */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ids_only_grow_and_survive_a_clock_that_goes_back),
                cmocka_unit_test(an_id_reads_back_from_its_text),
                cmocka_unit_test(times_read_back_and_bad_ones_are_refused),
                cmocka_unit_test(only_whole_numbers_in_range_are_numbers),
                cmocka_unit_test(only_letters_are_the_same_in_either_case),
                cmocka_unit_test(utf8_is_checked_strictly),
                cmocka_unit_test(a_buffer_stops_at_its_cap),
                cmocka_unit_test(doubles_are_written_by_their_shortest_text),
                cmocka_unit_test(json_keeps_what_it_reads),
                cmocka_unit_test(a_refusal_is_text_whatever_it_quotes),
                cmocka_unit_test(names_are_found_in_any_spelling),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
