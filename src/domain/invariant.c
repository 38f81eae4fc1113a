#include "domain/invariant.h"

const struct statement invariants[] = {
#define INVARIANT(sentence, text) { sentence, text },
#include "domain/invariant.def"
#undef INVARIANT
};
const size_t invariants_n = LENGTH(invariants);

enum err invariants_ask(struct tx *tx, void *list)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct str *broken = arena_array(arena, struct str, LENGTH(invariants));
        struct list *out = list;
        size_t n = 0;
        enum err e = ERR_OK;

        for (int i = 0; !e && i < (int)LENGTH(invariants); i++) {
                int64_t rows = 0;

                e = tx_number(tx, i, &rows, NONE());
                if (rows)
                        broken[n++] = arena_printf(arena, "%lld rows break: %s", (long long)rows,
                                                   invariants[i].name);
        }
        *out = (struct list){ broken, n };
        return e;
}
