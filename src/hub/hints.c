#include "hub/hints.h"

enum { TIMES_MAX = 100000 };

/* Stable: servers of two versions may talk to each other. */
static const char letters[] = {
        [HINT_TREE] = 't', [HINT_LANE] = 'l',     [HINT_KEYS] = 'k',
        [HINT_RESUMED] = 'r', [HINT_WEBHOOKS] = 'w', [HINT_EVERYTHING] = 'e',
};

void hint_set_clear(struct hint_set *set)
{
        if (set->n)
                memset(set->index, 0, sizeof(set->index));
        set->n = 0;
}

static bool knows_everything(const struct hint_set *set)
{
        return set->n && set->hints[0].kind == HINT_EVERYTHING;
}

void hint_set_add(struct hint_set *set, enum hint_kind kind, int64_t key, int64_t times)
{
        uint64_t hash = ((uint64_t)key * 8 + kind) * UINT64_C(0x9e3779b97f4a7c15);
        size_t at = hash >> 52;
        struct hint *hint;

        if (knows_everything(set))
                return;
        if (kind == HINT_EVERYTHING || set->n == HINTS_MAX) {
                hint_set_clear(set);
                set->hints[set->n++] = (struct hint){ HINT_EVERYTHING, 0, 1 };
                return;
        }
        for (; set->index[at]; at = (at + 1) % LENGTH(set->index)) {
                hint = &set->hints[set->index[at] - 1];
                if (hint->kind == kind && hint->key == key) {
                        hint->value += times;
                        return;
                }
        }
        set->hints[set->n++] = (struct hint){ kind, key, times };
        set->index[at] = (uint16_t)set->n;
}

void hint_print(struct buf *out, const struct hint *hint)
{
        int64_t times = hint->value < TIMES_MAX ? hint->value : TIMES_MAX;

        buf_char(out, letters[hint->kind]);
        buf_int(out, hint->key);
        if (times > 1) {
                buf_char(out, 'x');
                buf_int(out, times);
        }
}

bool hint_parse(struct str word, struct hint *out)
{
        const char *letter = word.n ? memchr(letters + 1, word.p[0], sizeof(letters) - 1) : NULL;
        struct hint hint = { .value = 1 };
        struct str key, times;

        if (!letter)
                return false;
        hint.kind = (enum hint_kind)(letter - letters);
        key = str_cut(str_slice(word, 1, word.n), 'x', &times);
        if (!str_to_int(key, &hint.key) || (times.p && !str_to_int(times, &hint.value)) ||
            hint.key < 0 || hint.value < 1 || hint.value > TIMES_MAX)
                return false;
        *out = hint;
        return true;
}
