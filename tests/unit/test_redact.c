/* Redaction: no form of a secret gets through, however the stream is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/attr.h"
#include "worker/redact.h"

#define TOKEN "ghp_A1b2C3/d4+E5 f6&g7\"h8"

static struct redactor *redactor_of(const char *const *secrets, size_t n)
{
        struct redactor *r = redactor_new();

        for (size_t i = 0; i < n; i++)
                redactor_add(r, str_from(secrets[i]));
        redactor_ready(r);
        return r;
}

/* The text in pieces of `piece` bytes. */
static void check_pieces(const struct redactor *r, struct str text, size_t piece, bool cut,
                         const char *expected)
{
        struct buf out = BUF_INIT(1 << 24);
        struct redaction s;

        redaction_begin(&s, r);
        for (size_t i = 0; i < text.n; i += piece)
                redaction_feed(&s, str_slice(text, i, i + piece < text.n ? i + piece : text.n),
                               &out);
        redaction_end(&s, cut, &out);
        assert_string_equal(out.p ? out.p : "", expected);
        buf_done(&out);
}

static void check(const struct redactor *r, const char *text, bool cut, const char *expected)
{
        for (size_t piece = 1; piece < 40; piece++)
                check_pieces(r, str_from(text), piece, cut, expected);
        check_pieces(r, str_from(text), SIZE_MAX / 2, cut, expected);
}

static void every_form_of_a_secret_is_hidden(void **state)
{
        const char *const secrets[] = { TOKEN };
        struct redactor *r = redactor_of(secrets, 1);
        static const char *const forms[] = {
                TOKEN,
                "GHP_a1b2c3/D4+e5 F6&G7\"H8",
                "ghp_A1b2C3%2Fd4%2BE5%20f6%26g7%22h8",
                "ghp_A1b2C3%2fd4%2bE5+f6%26g7%22h8",
                "ghp_A1b2C3/d4%2BE5%20f6%26g7%22h8",
                "ghp_A1b2C3/d4+E5 f6&g7\\\"h8",
                "6768705f4131623243332f64342b4535206636266737226838",
                "6768705F4131623243332F64342B4535206636266737226838",
        };

        (void)state;
        for (size_t i = 0; i < LENGTH(forms); i++) {
                char text[256];

                snprintf(text, sizeof(text), "before %s after", forms[i]);
                check(r, text, false, "before *** after");
        }
        redactor_free(r);
}

/* Made with base64(1) of "", "a", "ab" and the secret, then "zz". */
static void base64_is_found_at_every_alignment(void **state)
{
        const char *const secrets[] = { "correct horse battery" };
        struct redactor *r = redactor_of(secrets, 1);

        (void)state;
        check(r, "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5enoK", false, "***enoK");
        check(r, "YWNvcnJlY3QgaG9yc2UgYmF0dGVyeXp6Cg==", false, "YW***Xp6Cg==");
        check(r, "YWJjb3JyZWN0IGhvcnNlIGJhdHRlcnl6ego=", false, "YWJ***l6ego=");
        redactor_free(r);
}

static void line_ends_do_not_hide_a_secret(void **state)
{
        const char *const secrets[] = { "0123456789abcdef", "-----BEGIN\nabcdefgh\n\nijkl\n" };
        struct redactor *r = redactor_of(secrets, 2);

        (void)state;
        check(r, "a 01234\n56789\r\nabcdef b", false, "a *** b");
        check(r, "-----BEGIN\r\nabcdefgh\r\n\r\nijkl\r\n.", false, "***\r\n.");
        check(r, "-----BEGIN abcdefgh", false, "-----BEGIN abcdefgh");
        check(r, "01234\n\n\n\n\n\n56789abcdef", false, "01234\n\n\n\n\n\n56789abcdef");
        redactor_free(r);
}

static void what_only_begins_like_a_secret_is_kept(void **state)
{
        const char *const secrets[] = { "abcabcabd" };
        struct redactor *r = redactor_of(secrets, 1);

        (void)state;
        check(r, "abcabcabcabd!", false, "abc***!");
        check(r, "abcabcab", false, "abcabcab");
        check(r, "x abcabcab", true, "x ***");
        check(r, "abcabcabdabcabcabd", false, "***");
        check(r, "", true, "");
        redactor_free(r);
}

static void secrets_that_overlap_are_hidden_whole(void **state)
{
        const char *const secrets[] = { "abcd", "abcdefgh", "ghijkl", "bcdef" };
        struct redactor *r = redactor_of(secrets, 4);

        (void)state;
        check(r, "-abcdefghijkl-", false, "-***-");
        check(r, "-abcde-", false, "-***e-");
        check(r, "-abcd-ghijkl-", false, "-***-***-");
        redactor_free(r);
}

/* A naive search would look at each of these bytes as often as the secret is long. */
static void a_long_stream_of_one_byte_is_bounded(void **state)
{
        char *text = malloc(8 << 20);
        char secret[4097];
        const char *const secrets[] = { secret };
        struct redactor *r;

        (void)state;
        memset(secret, 'a', 4096);
        secret[4096] = '\0';
        r = redactor_of(secrets, 1);
        memset(text, 'a', (8 << 20) - 1);
        text[(8 << 20) - 1] = '\0';
        check_pieces(r, (struct str){ text, (8 << 20) - 1 }, 65536, false, "***");
        redactor_free(r);
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_form_of_a_secret_is_hidden),
                cmocka_unit_test(base64_is_found_at_every_alignment),
                cmocka_unit_test(line_ends_do_not_hide_a_secret),
                cmocka_unit_test(what_only_begins_like_a_secret_is_kept),
                cmocka_unit_test(secrets_that_overlap_are_hidden_whole),
                cmocka_unit_test(a_long_stream_of_one_byte_is_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
