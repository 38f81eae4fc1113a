#include "core/utf8.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

struct str utf8_clean(struct arena *arena, struct str bytes, bool cut)
{
        char *text;
        size_t bad = 0, n = 0;

        if (!bytes.p)
                return STR("");
        if (cut)
                bytes = str_whole(bytes);
        if (str_is_utf8(bytes))
                return str_dup(arena, bytes);
        for (size_t at = 0, step; at < bytes.n; at += step ? step : 1) {
                step = str_character(str_slice(bytes, at, bytes.n));
                bad += !step;
        }
        text = arena_array(arena, char, bytes.n + bad * (sizeof(REPLACEMENT) - 2));
        for (size_t at = 0, step; at < bytes.n; at += step ? step : 1) {
                step = str_character(str_slice(bytes, at, bytes.n));
                memcpy(text + n, step ? bytes.p + at : REPLACEMENT,
                       step ? step : sizeof(REPLACEMENT) - 1);
                n += step ? step : sizeof(REPLACEMENT) - 1;
        }
        return (struct str){ text, n };
}
