/* Functions of texts.  Positions count code points. */
#include <string.h>

#include "flow/expr/parts.h"

static bool is_begin(char c)
{
        return ((unsigned char)c & 0xc0) != 0x80;
}

static size_t count(struct str s)
{
        size_t n = 0;

        for (size_t i = 0; i < s.n; i++)
                n += is_begin(s.p[i]);
        return n;
}

/* The byte where code point number i begins; s.n for the one past the end. */
static size_t byte_of(struct str s, size_t i)
{
        size_t at = 0;

        for (; at < s.n; at++)
                if (is_begin(s.p[at]) && i-- == 0)
                        break;
        return at;
}

static size_t after(struct str s, size_t at)
{
        do
                at++;
        while (at < s.n && !is_begin(s.p[at]));
        return at;
}

/* Where part begins in s at `from` or later; SIZE_MAX when nowhere. */
static size_t find(struct str s, struct str part, size_t from)
{
        const char *at;

        if (!part.n)
                return from;
        at = from < s.n ? memmem(s.p + from, s.n - from, part.p, part.n) : NULL;
        return at ? (size_t)(at - s.p) : SIZE_MAX;
}

static bool begins(struct str s, struct str part, size_t at)
{
        return part.n <= s.n - at && (!part.n || memcmp(s.p + at, part.p, part.n) == 0);
}

static enum err charge_texts(struct eval *ev, const struct value *args, size_t n)
{
        uint64_t bytes = 0;

        for (size_t i = 0; i < n; i++)
                bytes += args[i].text.n;
        return eval_charge_bytes(ev, bytes);
}

/* A position from 0 to the text's length. */
static enum err position(struct eval *ev, struct value v, size_t length, size_t *out)
{
        if (v.number < 0 || (uint64_t)v.number > length)
                return eval_fail(ev, "position %lld is outside the text of %zu characters",
                                 (long long)v.number, length);
        *out = (size_t)v.number;
        return ERR_OK;
}

enum err run_text_size(struct eval *ev, const struct value *args, struct value *out)
{
        *out = value_int((int64_t)count(args[0].text));
        return charge_texts(ev, args, 1);
}

enum err run_contains(struct eval *ev, const struct value *args, struct value *out)
{
        *out = value_bool(find(args[0].text, args[1].text, 0) != SIZE_MAX);
        return charge_texts(ev, args, 2);
}

enum err run_starts(struct eval *ev, const struct value *args, struct value *out)
{
        *out = value_bool(begins(args[0].text, args[1].text, 0));
        return charge_texts(ev, args + 1, 1);
}

enum err run_ends(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text, end = args[1].text;

        *out = value_bool(end.n <= s.n && begins(s, end, s.n - end.n));
        return charge_texts(ev, args + 1, 1);
}

enum err run_matches(struct eval *ev, const struct value *args, struct value *out)
{
        bool matches = false;
        enum err e = regex_match(ev, args[0].text, args[1].text, &matches);

        *out = value_bool(matches);
        return e;
}

enum err run_join_two(struct eval *ev, const struct value *args, struct value *out)
{
        struct str a = args[0].text, b = args[1].text;
        char *text = NULL;
        enum err e = eval_bytes(ev, a.n + b.n, &text);

        if (e)
                return e;
        if (a.n)
                memcpy(text, a.p, a.n);
        if (b.n)
                memcpy(text + a.n, b.p, b.n);
        *out = value_text((struct str){ text, a.n + b.n });
        return ERR_OK;
}

enum err run_char_at(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text;
        size_t i = 0, at;
        enum err e = charge_texts(ev, args, 1);

        if (!e)
                e = position(ev, args[1], count(s), &i);
        if (e)
                return e;
        at = byte_of(s, i);
        *out = value_text(at < s.n ? str_slice(s, at, after(s, at)) : STR(""));
        return ERR_OK;
}

enum err run_index_of(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text;
        size_t from = 0, at;
        enum err e = charge_texts(ev, args, 2);

        if (!e && ev->given == 3)
                e = position(ev, args[2], count(s), &from);
        if (e)
                return e;
        at = find(s, args[1].text, byte_of(s, from));
        *out = value_int(at == SIZE_MAX ? -1 : (int64_t)count(str_slice(s, 0, at)));
        return ERR_OK;
}

enum err run_last_index_of(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text, part = args[1].text;
        size_t from = 0, found = SIZE_MAX, at;
        enum err e = charge_texts(ev, args, 2);

        if (!e && ev->given == 3)
                e = position(ev, args[2], count(s), &from);
        if (e)
                return e;
        at = ev->given == 3 ? byte_of(s, from) : s.n;
        if (part.n <= s.n && at > s.n - part.n)
                at = s.n - part.n;
        /* Each step compares, at worst all of part. */
        for (size_t i = at + 1; part.n <= s.n && i-- > 0 && found == SIZE_MAX && !e;) {
                if (begins(s, part, i))
                        found = i;
                else if (i % 16 == 0)
                        e = eval_charge(ev, 1 + part.n / 16);
        }
        *out = value_int(found == SIZE_MAX ? -1 : (int64_t)count(str_slice(s, 0, found)));
        return e;
}

static enum err map_case(struct eval *ev, struct str s, char first, char last, struct value *out)
{
        char *text = NULL;
        enum err e = eval_bytes(ev, s.n, &text);

        if (e)
                return e;
        for (size_t i = 0; i < s.n; i++)
                text[i] = s.p[i] >= first && s.p[i] <= last ? (char)(s.p[i] ^ 0x20) : s.p[i];
        *out = value_text((struct str){ text, s.n });
        return ERR_OK;
}

enum err run_lower(struct eval *ev, const struct value *args, struct value *out)
{
        return map_case(ev, args[0].text, 'A', 'Z', out);
}

enum err run_upper(struct eval *ev, const struct value *args, struct value *out)
{
        return map_case(ev, args[0].text, 'a', 'z', out);
}

/* ---- replace and split ---- */

/* The next place of part from *from on, which moves behind it; an empty part is between any two. */
static bool next_place(struct str s, struct str part, size_t *from, bool *first, size_t *at)
{
        if (!part.n) {
                if (*from >= s.n && !*first)
                        return false;
                *at = *first ? 0 : after(s, *from);
                *first = false;
                *from = *at;
                return true;
        }
        *at = *from <= s.n ? find(s, part, *from) : SIZE_MAX;
        *from = *at + part.n;
        return *at != SIZE_MAX;
}

static size_t places(struct str s, struct str part, uint64_t limit)
{
        size_t from = 0, at, n = 0;
        bool first = true;

        while (n < limit && next_place(s, part, &from, &first, &at))
                n++;
        return n;
}

static size_t append(char *out, size_t n, struct str s)
{
        if (s.n)
                memcpy(out + n, s.p, s.n);
        return n + s.n;
}

enum err run_replace(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text, part = args[1].text, by = args[2].text;
        bool limited = ev->given == 4 && args[3].number >= 0, first = true;
        size_t n = 0, from = 0, done = 0, at = 0, made = 0;
        char *text = NULL;
        enum err e = charge_texts(ev, args, 3);

        if (e)
                return e;
        n = places(s, part, limited ? (uint64_t)args[3].number : UINT64_MAX);
        e = n && by.n > SIZE_MAX / 2 / n ? eval_bytes(ev, SIZE_MAX, &text) :
                                           eval_bytes(ev, s.n - n * part.n + n * by.n, &text);
        if (e)
                return e;
        for (size_t i = 0; i < n && next_place(s, part, &from, &first, &at); i++) {
                made = append(text, made, str_slice(s, done, at));
                made = append(text, made, by);
                done = at + part.n;
        }
        made = append(text, made, str_slice(s, done, s.n));
        *out = value_text((struct str){ text, made });
        return ERR_OK;
}

/* Between code points, for an empty separator; the last item takes what is left. */
static void split_letters(struct str s, struct value *items, size_t n)
{
        size_t at = 0;

        for (size_t i = 0; i < n; i++) {
                size_t end = i + 1 < n ? after(s, at) : s.n;

                items[i] = value_text(str_slice(s, at, end));
                at = end;
        }
}

static void split_at(struct str s, struct str sep, struct value *items, size_t n)
{
        size_t at = 0;

        for (size_t i = 0; i < n; i++) {
                size_t end = i + 1 < n ? find(s, sep, at) : s.n;

                items[i] = value_text(str_slice(s, at, end));
                at = end + sep.n;
        }
}

enum err run_split(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text, sep = args[1].text;
        bool limited = ev->given == 3 && args[2].number >= 0;
        uint64_t limit = limited ? (uint64_t)args[2].number : UINT64_MAX;
        struct value *items = NULL;
        size_t n;
        enum err e = charge_texts(ev, args, 2);

        if (e)
                return e;
        n = sep.n ? places(s, sep, limit ? limit - 1 : 0) + 1 : count(s);
        n = n > limit ? (size_t)limit : n;
        e = eval_items(ev, n, &items);
        if (e)
                return e;
        if (sep.n)
                split_at(s, sep, items, n);
        else
                split_letters(s, items, n);
        *out = value_list_of(ev->scope, items, n);
        return ERR_OK;
}

/* ---- parts ---- */

enum err run_substring(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text;
        size_t length = count(s), from = 0, to = length;
        enum err e = charge_texts(ev, args, 1);

        if (!e)
                e = position(ev, args[1], length, &from);
        if (!e && ev->given == 3)
                e = position(ev, args[2], length, &to);
        if (!e && from > to)
                e = eval_fail(ev, "the part begins at %zu, behind its end %zu", from, to);
        if (!e)
                *out = value_text(str_slice(s, byte_of(s, from), byte_of(s, to)));
        return e;
}

/* The bytes of the blank that s begins with (Unicode's White_Space), 0 for none. */
static size_t blank(struct str s)
{
        static const char *const blanks[] = {
                " ", "\t", "\n", "\v", "\f", "\r", "\xc2\x85", "\xc2\xa0", "\u1680", "\u2000", "\u2001",
                "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009",
                "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"
        };

        for (size_t i = 0; i < LENGTH(blanks); i++)
                if (str_starts(s, blanks[i]))
                        return strlen(blanks[i]);
        return 0;
}

enum err run_trim(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text;
        size_t from = 0, to = s.n, n;

        while (from < s.n && (n = blank(str_slice(s, from, s.n))))
                from += n;
        while (to > from) {
                size_t last = to - 1;

                while (last > from && !is_begin(s.p[last]))
                        last--;
                if (!blank(str_slice(s, last, to)))
                        break;
                to = last;
        }
        *out = value_text(str_slice(s, from, to));
        return charge_texts(ev, args, 1);
}

enum err run_reverse_text(struct eval *ev, const struct value *args, struct value *out)
{
        struct str s = args[0].text;
        char *text = NULL;
        enum err e = eval_bytes(ev, s.n, &text);

        if (e)
                return e;
        for (size_t at = 0, end; at < s.n; at = end) {
                end = after(s, at);
                memcpy(text + s.n - end, s.p + at, end - at);
        }
        *out = value_text((struct str){ text, s.n });
        return ERR_OK;
}

enum err run_quote(struct eval *ev, const struct value *args, struct value *out)
{
        static const char escapes[] = "\aa\bb\ff\nn\rr\tt\vv\"\"\\\\";
        struct str s = args[0].text;
        char *text = NULL;
        size_t n = 0;
        enum err e = eval_bytes(ev, 2 * s.n + 2, &text);

        if (e)
                return e;
        text[n++] = '"';
        for (size_t i = 0; i < s.n; i++) {
                char c = s.p[i];

                for (size_t k = 0; escapes[k]; k += 2)
                        if (s.p[i] == escapes[k]) {
                                text[n++] = '\\';
                                c = escapes[k + 1];
                        }
                text[n++] = c;
        }
        text[n++] = '"';
        *out = value_text((struct str){ text, n });
        return ERR_OK;
}
