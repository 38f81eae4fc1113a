#include "cli/nearest.h"

#include <string.h>

/* Edits between two words, where swapped neighbours count one. */
static size_t distance(struct str a, struct str b)
{
        size_t row[3][48] = { { 0 } };

        if (a.n >= 47 || b.n >= 47)
                return NEAREST_NONE;
        for (size_t j = 0; j <= b.n; j++)
                row[0][j] = j;
        for (size_t i = 1; i <= a.n; i++) {
                size_t *now = row[i % 3], *up = row[(i + 2) % 3], *upup = row[(i + 1) % 3];

                now[0] = i;
                for (size_t j = 1; j <= b.n; j++) {
                        size_t best = up[j - 1] + (a.p[i - 1] != b.p[j - 1]);

                        if (up[j] + 1 < best)
                                best = up[j] + 1;
                        if (now[j - 1] + 1 < best)
                                best = now[j - 1] + 1;
                        if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
                            a.p[i - 2] == b.p[j - 1] && upup[j - 2] + 1 < best)
                                best = upup[j - 2] + 1;
                        now[j] = best;
                }
        }
        return row[a.n % 3][b.n];
}

void nearest_consider(struct nearest *n, struct str word)
{
        size_t edits = distance(n->given, word);

        if (n->given.n >= 2 && word.n > n->given.n && memcmp(word.p, n->given.p, n->given.n) == 0 &&
            edits > 1)
                edits = 1; /* the beginning of a word means it */
        /* Of two equally near words the one of the same length. */
        if (edits <= 1 + n->given.n / 3 &&
            (edits < n->edits ||
             (edits == n->edits && word.n == n->given.n && n->best.n != n->given.n))) {
                n->best = word;
                n->edits = edits;
        }
}
