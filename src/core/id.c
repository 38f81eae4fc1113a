#include "core/id.h"

#include <string.h>

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

enum { COUNTER_BITS = 12, SERVER_BITS = 10, LOW_BITS = COUNTER_BITS + SERVER_BITS };

int64_t id_next(struct idgen *gen, int64_t now_us)
{
        int64_t ms = now_us / 1000 - ID_EPOCH_MS;
        int64_t last_ms = gen->last >> LOW_BITS;
        int64_t counter = gen->last & ((1 << COUNTER_BITS) - 1);

        if (ms > last_ms) {
                counter = 0;
        } else if (++counter >> COUNTER_BITS == 0) {
                ms = last_ms; /* same millisecond, or the clock went back */
        } else {
                ms = last_ms + 1; /* counter spent: borrow from the future */
                counter = 0;
        }
        gen->last = ms << LOW_BITS | gen->server << COUNTER_BITS | counter;
        return gen->last;
}

int64_t id_time_us(int64_t id)
{
        return ((id >> LOW_BITS) + ID_EPOCH_MS) * 1000;
}

int64_t id_at(int64_t us)
{
        int64_t ms = us / 1000 - ID_EPOCH_MS;

        return us && ms > 0 ? ms << LOW_BITS : 0;
}

size_t id_print(const char *prefix, int64_t id, char out[ID_TEXT_SIZE])
{
        size_t n = strlen(prefix);

        memcpy(out, prefix, n);
        out[n++] = '_';
        for (int shift = 60; shift >= 0; shift -= 5)
                out[n++] = digits[id >> shift & 31];
        out[n] = '\0';
        return n;
}

bool id_parse(const char *prefix, struct str s, int64_t *out)
{
        size_t n = strlen(prefix);
        uint64_t id = 0;

        if (s.n != n + 1 + ID_DIGITS || memcmp(s.p, prefix, n) != 0 || s.p[n] != '_')
                return false;
        for (size_t i = n + 1; i < s.n; i++) {
                const char *digit = s.p[i] ? strchr(digits, s.p[i]) : NULL;

                if (!digit || id >> 58)
                        return false;
                id = id << 5 | (uint64_t)(digit - digits);
        }
        if (id == 0 || id > INT64_MAX)
                return false;
        *out = (int64_t)id;
        return true;
}
