#include "core/utf8.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

enum { LONGEST = 4 };

/* Length of the well-formed sequence at a place, 0 = there is none. */
static size_t sequence(struct str s, size_t at)
{
        if ((unsigned char)s.p[at] < 0x80)
                return s.p[at] != 0;
        for (size_t n = 2; n <= LONGEST && at + n <= s.n; n++)
                if (str_is_utf8((struct str){ s.p + at, n }))
                        return n;
        return 0;
}

/* Where a sequence begins that the end cuts off, or s.n. */
static size_t cut_sequence(struct str s)
{
        for (size_t back = 1; back < LONGEST && back <= s.n; back++) {
                unsigned char c = (unsigned char)s.p[s.n - back];

                if (c < 0x80)
                        break;
                if (c >= 0xc0)
                        return (size_t)(c >= 0xf0 ? 4 :
                                        c >= 0xe0 ? 3 :
                                                    2) > back ?
                                       s.n - back :
                                       s.n;
        }
        return s.n;
}

struct str utf8_clean(struct arena *arena, struct str bytes, bool cut)
{
        char *text;
        size_t bad = 0, n = 0;

        if (!bytes.p)
                return STR("");
        if (cut)
                bytes.n = cut_sequence(bytes);
        if (str_is_utf8(bytes))
                return str_dup(arena, bytes);
        for (size_t at = 0, step; at < bytes.n; at += step ? step : 1) {
                step = sequence(bytes, at);
                bad += !step;
        }
        text = arena_array(arena, char, bytes.n + bad * (sizeof(REPLACEMENT) - 2));
        for (size_t at = 0, step; at < bytes.n; at += step ? step : 1) {
                step = sequence(bytes, at);
                memcpy(text + n, step ? bytes.p + at : REPLACEMENT,
                       step ? step : sizeof(REPLACEMENT) - 1);
                n += step ? step : sizeof(REPLACEMENT) - 1;
        }
        return (struct str){ text, n };
}
