#include "core/str.h"

#include <string.h>

#include "core/arena.h"

struct str str_from(const char *s)
{
        return (struct str){ s, s ? strlen(s) : 0 };
}

bool str_eq(struct str a, struct str b)
{
        return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_is(struct str s, const char *c)
{
        return str_eq(s, str_from(c));
}

static char lower(char c)
{
        return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_eq_nocase(struct str a, struct str b)
{
        for (size_t i = 0; i < a.n && a.n == b.n; i++)
                if (lower(a.p[i]) != lower(b.p[i]))
                        return false;
        return a.n == b.n;
}

bool str_is_nocase(struct str s, const char *c)
{
        return str_eq_nocase(s, str_from(c));
}

bool str_starts(struct str s, const char *prefix)
{
        size_t n = strlen(prefix);

        return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

bool str_ends(struct str s, const char *suffix)
{
        size_t n = strlen(suffix);

        return s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

int str_cmp(struct str a, struct str b)
{
        size_t n = a.n < b.n ? a.n : b.n;
        int order = n ? memcmp(a.p, b.p, n) : 0;

        return order ? order : (a.n > b.n) - (a.n < b.n);
}

size_t str_find(struct str s, char c, size_t from)
{
        const char *at = from < s.n ? memchr(s.p + from, c, s.n - from) : NULL;

        return at ? (size_t)(at - s.p) : s.n;
}

bool str_contains(struct str haystack, struct str needle)
{
        return needle.n == 0 ||
               (haystack.n >= needle.n && memmem(haystack.p, haystack.n, needle.p, needle.n));
}

struct str str_slice(struct str s, size_t from, size_t to)
{
        if (to > s.n)
                to = s.n;
        if (from > to)
                from = to;
        return (struct str){ s.p ? s.p + from : NULL, to - from };
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
        size_t from = 0, to = s.n;

        while (from < to && is_blank(s.p[from]))
                from++;
        while (from < to && is_blank(s.p[to - 1]))
                to--;
        return str_slice(s, from, to);
}

struct str str_cut(struct str s, char sep, struct str *rest)
{
        size_t at = str_find(s, sep, 0);

        *rest = at < s.n ? str_slice(s, at + 1, s.n) : STR_NONE;
        return str_slice(s, 0, at);
}

struct str str_dup(struct arena *arena, struct str s)
{
        return s.p ? (struct str){ str_c(arena, s), s.n } : STR_NONE;
}

char *str_c(struct arena *arena, struct str s)
{
        char *copy = arena_alloc(arena, s.n + 1, 1);

        if (s.n)
                memcpy(copy, s.p, s.n);
        copy[s.n] = '\0';
        return copy;
}

struct str str_lower(struct arena *arena, struct str s)
{
        char *copy = str_c(arena, s);

        for (size_t i = 0; i < s.n; i++)
                copy[i] = lower(copy[i]);
        return (struct str){ copy, s.n };
}

bool str_to_int(struct str s, int64_t *out)
{
        bool negative = s.n && s.p[0] == '-';
        uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
        size_t i = negative;

        if (i == s.n)
                return false;
        for (; i < s.n; i++) {
                unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';

                if (digit > 9 || value > (limit - digit) / 10)
                        return false;
                value = value * 10 + digit;
        }
        *out = negative ? (int64_t)(0 - value) : (int64_t)value;
        return true;
}

size_t str_character(struct str text)
{
        const unsigned char *s = (const unsigned char *)text.p;
        unsigned char low = 0x80, high = 0xbf;
        size_t length;

        if (s[0] < 0x80)
                return s[0] != 0;
        if (s[0] >= 0xc2 && s[0] <= 0xdf)
                length = 2;
        else if (s[0] >= 0xe0 && s[0] <= 0xef)
                length = 3;
        else if (s[0] >= 0xf0 && s[0] <= 0xf4)
                length = 4;
        else
                return 0;
        if (length > text.n)
                return 0;
        if (s[0] == 0xe0)
                low = 0xa0;
        else if (s[0] == 0xed)
                high = 0x9f; /* no surrogates */
        else if (s[0] == 0xf0)
                low = 0x90;
        else if (s[0] == 0xf4)
                high = 0x8f;
        if (s[1] < low || s[1] > high)
                return 0;
        for (size_t i = 2; i < length; i++)
                if (s[i] < 0x80 || s[i] > 0xbf)
                        return 0;
        return length;
}

bool str_is_utf8(struct str s)
{
        size_t at = 0;

        while (at < s.n) {
                size_t length = str_character(str_slice(s, at, s.n));

                if (!length)
                        return false;
                at += length;
        }
        return true;
}

struct str str_whole(struct str s)
{
        size_t at = s.n;

        while (at > 0 && s.n - at < 3 && ((unsigned char)s.p[at - 1] & 0xc0) == 0x80)
                at--;
        if (at > 0) {
                unsigned char lead = (unsigned char)s.p[at - 1];
                size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;

                if (length > s.n - at + 1)
                        s.n = at - 1;
        }
        return s;
}
