#include "domain/search.h"

#include <limits.h>
#include <locale.h>
#include <wchar.h>
#include <wctype.h>

#include "core/buf.h"

static void add_character(struct buf *out, wchar_t c)
{
        mbstate_t state = { 0 };
        char bytes[MB_LEN_MAX];

        buf_bytes(out, bytes, wcrtomb(bytes, c, &state));
}

struct str search_pattern(struct arena *arena, struct str q)
{
        locale_t utf8, before;
        struct buf out = BUF_INIT(16 * SEARCH_MAX);
        struct str copy;

        if (!q.p)
                return STR_NONE;
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* part of the C library */
        BUG_ON(!utf8);
        before = uselocale(utf8);
        buf_char(&out, '*');
        for (size_t at = 0, n; at < q.n; at += n) {
                mbstate_t state = { 0 };
                wchar_t c;

                n = mbrtowc(&c, q.p + at, q.n - at, &state);
                if (!n || n > q.n - at) { /* no character: found nowhere */
                        n = 1;
                        buf_char(&out, '\xff');
                } else if (towlower((wint_t)c) != towupper((wint_t)c) || wcschr(L"*?[", c)) {
                        buf_char(&out, '[');
                        add_character(&out, (wchar_t)towlower((wint_t)c));
                        add_character(&out, (wchar_t)towupper((wint_t)c));
                        buf_char(&out, ']');
                } else {
                        add_character(&out, c);
                }
        }
        buf_char(&out, '*');
        uselocale(before);
        freelocale(utf8);
        copy = str_dup(arena, buf_view(&out));
        buf_done(&out);
        return copy;
}
