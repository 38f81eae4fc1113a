#include "domain/search.h"

#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <wchar.h>
#include <wctype.h>

#include "core/buf.h"
#include "domain/sql.h"

enum {
        GROUP = 3,
        PROBE = 100, /* entries of the index that tell how often a group occurs */
        WORDS = 3,
        RARER = 16, /* what is so much more frequent than the rarest only costs time */
};

struct searched {
        int64_t id;
        struct str title, identifier;
};
static const struct field searched_fields[] = {
        { "id", FIELD_ID, FIELD_COLUMN, offsetof(struct searched, id), "task" },
        { "title", FIELD_STR, FIELD_COLUMN, offsetof(struct searched, title) },
        { "identifier", FIELD_STR, FIELD_COLUMN, offsetof(struct searched, identifier) },
};
const char *const search_tables[] = { "searched", "task_text", NULL };

const struct record searched_record = { "searched", searched_fields, LENGTH(searched_fields),
                                        sizeof(struct searched), -1 };

/* ---- characters ---- */

struct letters {
        locale_t utf8, before;
};

static struct letters letters_begin(void)
{
        struct letters l = { .utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0) };

        BUG_ON(!l.utf8); /* part of the C library */
        l.before = uselocale(l.utf8);
        return l;
}

static void letters_end(struct letters l)
{
        uselocale(l.before);
        freelocale(l.utf8);
}

/* Its bytes; 0: there is no character. */
static size_t next_character(const char *p, size_t n, wchar_t *c)
{
        mbstate_t state = { 0 };
        size_t bytes = mbrtowc(c, p, n, &state);

        return bytes > n ? 0 : bytes;
}

static void add_character(struct buf *out, wchar_t c)
{
        mbstate_t state = { 0 };
        char bytes[MB_LEN_MAX];

        buf_bytes(out, bytes, wcrtomb(bytes, c, &state));
}

/* The same for all that the pattern takes for one letter. */
static wchar_t fold(wchar_t c)
{
        return (wchar_t)towlower(towupper((wint_t)c));
}

static void add_folded(struct buf *out, struct str s)
{
        for (size_t at = 0, n; at < s.n; at += n) {
                wchar_t c;

                n = next_character(s.p + at, s.n - at, &c);
                if (!n)
                        return;
                add_character(out, fold(c));
        }
}

static struct str finish(struct arena *arena, struct buf *out)
{
        struct str copy = str_dup(arena, buf_view(out));

        buf_done(out);
        return copy;
}

/* ---- what is searched for ---- */

struct str search_pattern(struct arena *arena, struct str q)
{
        struct buf out = BUF_INIT(16 * SEARCH_MAX);
        struct letters letters;

        if (!q.p)
                return STR_NONE;
        letters = letters_begin();
        buf_char(&out, '*');
        for (size_t at = 0, n; at < q.n; at += n) {
                wchar_t c;

                n = next_character(q.p + at, q.n - at, &c);
                if (!n) { /* found nowhere */
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
        letters_end(letters);
        return finish(arena, &out);
}

static struct str word(struct arena *arena, const wchar_t *c)
{
        struct buf out = BUF_INIT(256);

        buf_char(&out, '"');
        for (int i = 0; i < GROUP; i++) {
                if (c[i] == '"')
                        buf_char(&out, '"');
                add_character(&out, c[i]);
        }
        buf_char(&out, '"');
        return finish(arena, &out);
}

size_t search_groups(struct arena *arena, struct str q, struct str out[SEARCH_GROUPS])
{
        struct letters letters = letters_begin();
        wchar_t text[SEARCH_MAX];
        size_t length = 0, found = 0;

        for (size_t at = 0, n; at < q.n && length < SEARCH_MAX; at += n) {
                n = next_character(q.p + at, q.n - at, &text[length]);
                if (!n)
                        break;
                text[length] = fold(text[length]);
                length++;
        }
        /* Of a long text some: what they find is looked at anyhow. */
        for (size_t at = 0; at + GROUP <= length; at += length / SEARCH_GROUPS + 1)
                out[found++] = word(arena, text + at);
        letters_end(letters);
        return found;
}

struct rarity {
        struct str word;
        double density; /* entries an id */
};

static int by_density(const void *a, const void *b)
{
        const struct rarity *x = a, *y = b;

        return (x->density > y->density) - (x->density < y->density);
}

/* How many of the newest ids have it tells how many have. */
static enum err probe(struct tx *tx, int64_t below, struct rarity *r)
{
        const struct arg args[] = { TEXT(r->word), INT(below), INT(PROBE) };
        int64_t found[2];
        enum err e = tx_numbers(tx, SQL_SEARCH_PROBE, found, 2, args, LENGTH(args));

        if (!e)
                r->density = (double)found[0] / (double)(below - (found[0] < PROBE ? 0 : found[1]));
        return e;
}

enum err search_words(struct tx *tx, struct str q, int64_t below, struct str *words)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct str groups[SEARCH_GROUPS];
        struct rarity all[SEARCH_GROUPS] = { 0 };
        size_t n = search_groups(arena, q, groups);
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < n; i++) {
                all[i].word = groups[i];
                e = probe(tx, below, &all[i]);
        }
        if (e)
                return e;
        qsort(all, n, sizeof(*all), by_density);
        *words = n ? all[0].word : STR_NONE;
        for (size_t i = 1; i < n && i < WORDS && all[i].density <= RARER * all[0].density; i++)
                *words = arena_printf(arena, STR_FMT " " STR_FMT, STR_ARG(*words), STR_ARG(all[i].word));
        return ERR_OK;
}

enum err search_upto(struct tx *tx, int64_t *id)
{
        return tx_numbers(tx, SQL_SEARCHED, id, 1, NULL, 0);
}

enum err search_candidates(struct tx *tx, struct str words, int64_t below, int64_t **ids, size_t *n)
{
        const struct arg args[] = { TEXT(words), INT(below), INT(SEARCH_CANDIDATES) };

        return tx_number_rows(tx, SQL_SEARCH, ids, n, 1, args, LENGTH(args));
}

/* ---- the index ---- */

static struct str text_of(struct arena *arena, struct str title, struct str identifier)
{
        struct buf out = BUF_INIT(1 << 20);

        add_folded(&out, title);
        buf_char(&out, '\n');
        add_folded(&out, identifier);
        return finish(arena, &out);
}

enum err search_follow(struct tx *tx, int64_t id, const struct task *before,
                       const struct task *after)
{
        const struct domain *domain = tx_context(tx);
        struct arena *arena = &tx_scope(tx)->arena;
        struct str was = STR_NONE, is = STR_NONE;
        struct letters letters;
        enum err e = ERR_OK;

        if (id > domain->now.searched)
                return ERR_OK;
        letters = letters_begin();
        if (before)
                was = text_of(arena, before->title, before->identifier);
        if (after)
                is = text_of(arena, after->title, after->identifier);
        letters_end(letters);
        if (str_eq(was, is))
                return ERR_OK;
        if (before)
                e = tx_exec(tx, SQL_SEARCH_DROP, INT(id), TEXT(was));
        return e || !after ? e : tx_exec(tx, SQL_SEARCH_ADD, INT(id), TEXT(is));
}

enum err search_load(struct tx *tx)
{
        return search_upto(tx, &((struct domain *)tx_context(tx))->now.searched);
}

static enum err add_all(struct tx *tx, const struct list *rows)
{
        const struct searched *row = rows->items;
        struct letters letters = letters_begin();
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < rows->n; i++)
                e = tx_exec(tx, SQL_SEARCH_ADD, INT(row[i].id),
                            TEXT(text_of(&tx_scope(tx)->arena, row[i].title, row[i].identifier)));
        letters_end(letters);
        return e;
}

enum err search_tick(struct tx *tx, struct domain *domain)
{
        int64_t last;
        struct list rows;
        enum err e;

        if (tx_disk_is_full(tx))
                return ERR_OK;
        e = tx_number(tx, SQL_SEARCH_DUE, &last, INT(domain->now.searched), INT(id_at(tx_now(tx))),
                      INT(SEARCH_TASKS - 1));
        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        e = tx_all(tx, SQL_SEARCH_NEXT, &rows, INT(domain->now.searched), INT(last));
        if (!e)
                e = add_all(tx, &rows);
        if (!e)
                e = tx_exec(tx, SQL_SEARCHED_SET, INT(last));
        domain->now.searched = last;
        tx_tick_again(tx, TICK_WHEN_IDLE);
        return e;
}
