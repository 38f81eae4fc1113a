#include "store/shape.h"

#include <ctype.h>
#include <string.h>

#include "core/buf.h"

#define ON_CONFLICT " ON CONFLICT "

/* ---- words ---- */

static bool is_letter(char c)
{
        return isalnum((unsigned char)c) || c == '_';
}

static struct str word_at(const char *at)
{
        const char *end = at;

        while (is_letter(*end))
                end++;
        return (struct str){ at, (size_t)(end - at) };
}

static const char *after(const char *at, const char *expected)
{
        size_t n = strlen(expected);

        return at && strncmp(at, expected, n) == 0 ? at + n : NULL;
}

struct str shape_word(const char **at)
{
        struct str word;

        while (**at && !is_letter(**at))
                (*at)++;
        word = word_at(*at);
        *at += word.n;
        return word;
}

/* What is not said row by row, or not of one table alone. */
static bool is_plain(const char *text)
{
        static const char *const words[] = { "SELECT", "RETURNING", " FROM ", " OR " };
        /* Within parentheses it only narrows what the key has chosen. */
        const char *narrows = strstr(text, " AND (");

        for (size_t i = 0; i < LENGTH(words); i++) {
                const char *found = strstr(text, words[i]);

                if (found && !(strcmp(words[i], " OR ") == 0 && narrows && found > narrows))
                        return false;
        }
        return true;
}

/* WHERE key = $1, and nothing else or AND ... */
static struct str key_of(const char *condition)
{
        struct str key = word_at(condition);
        const char *rest = after(key.p + key.n, " = $1");

        return key.n && rest && !is_letter(*rest) ? key : STR_NONE;
}

/* ---- shapes ---- */

/* Whether each list of values begins with $1. */
static bool lists_begin_with_key(const char *values)
{
        for (const char *list = values; list; list = strstr(list, "),("), list = list ? list + 2 : NULL)
                if (strncmp(list, "($1,", 4) != 0)
                        return false;
        return true;
}

/* By the new row alone, and always. */
static bool changes_what_is_there(const char *conflict)
{
        return strstr(conflict, ") DO UPDATE SET ") && !strchr(conflict, '$') && !strstr(conflict, " WHERE ");
}

static struct shape insertion(const char *table)
{
        struct shape s = { .kind = SHAPE_INSERT, .table = word_at(table) };
        const char *columns = after(s.table.p + s.table.n, " (");
        const char *values = columns ? strstr(columns, ") VALUES ") : NULL;
        const char *conflict;

        if (!values)
                return s;
        values += strlen(") VALUES ");
        conflict = strstr(values, ON_CONFLICT);
        if (conflict && changes_what_is_there(conflict))
                s.kind = SHAPE_UPSERT;
        /* A NULL in its place has no type where the rows are those of a query. */
        s.is_set = is_plain(values) && !strstr(values, "NULL") && (!conflict || s.kind == SHAPE_UPSERT);
        if (s.is_set && lists_begin_with_key(values))
                s.key = word_at(columns);
        return s;
}

static struct shape change(enum shape_kind kind, const char *table)
{
        struct shape s = { .kind = kind, .table = word_at(table) };
        const char *rest = s.table.p + s.table.n;
        const char *where = strstr(rest, " WHERE ");

        if (!where)
                return s;
        if (is_plain(rest))
                s.key = key_of(where + strlen(" WHERE "));
        s.is_set = s.key.p != NULL;
        return s;
}

static bool takes_key_alone(const char *text)
{
        size_t n = 0;

        for (const char *at = strchr(text, '$'); at; at = strchr(at + 1, '$'), n++)
                if (at[1] != '1' || isdigit((unsigned char)at[2]))
                        return false;
        return n > 0;
}

static struct shape selection(const char *text)
{
        const char *from = strstr(text, " FROM ");
        struct shape s = { .kind = SHAPE_SELECT };
        const char *where;

        if (!from)
                return s;
        s.table = word_at(from + strlen(" FROM "));
        where = after(s.table.p + s.table.n, " WHERE ");
        if (where && is_plain(where)) /* the parts before have no other table when this is the only FROM */
                s.key = key_of(where);
        s.is_set = takes_key_alone(text);
        return s;
}

struct shape shape_of(const char *text)
{
        const char *at;

        if ((at = after(text, "INSERT INTO ")))
                return insertion(at);
        if ((at = after(text, "UPDATE ")))
                return change(SHAPE_UPDATE, at);
        if ((at = after(text, "DELETE FROM ")))
                return change(SHAPE_DELETE, at);
        return strncmp(text, "SELECT ", 7) == 0 ? selection(text) : (struct shape){ .kind = SHAPE_OTHER };
}

/* ---- for many rows ---- */

/* A part of the text, with $7 as given.p7. */
static void add_part(struct buf *out, const char *from, const char *end)
{
        for (; from < end; from++)
                if (*from == '$')
                        buf_text(out, "given.p");
                else
                        buf_char(out, *from);
}

static void add_given(struct buf *out, const char *const *types, int n, bool numbered)
{
        buf_text(out, "unnest(");
        for (int i = 0; i < n; i++)
                buf_printf(out, "%sCAST($%d AS %s[])", i ? ", " : "", i + 1, types[i]);
        buf_text(out, numbered ? ") WITH ORDINALITY AS given(" : ") AS given(");
        for (int i = 0; i < n; i++)
                buf_printf(out, "%sp%d", i ? ", " : "", i + 1);
        buf_text(out, numbered ? ", number)" : ")");
}

const char *shape_set_text(struct arena *arena, const char *text, const char *const *types, int n)
{
        struct shape shape = shape_of(text);
        struct buf out = BUF_INIT(1 << 20);
        const char *end = text + strlen(text), *at;
        const char *copy;

        BUG_ON(!shape.is_set);
        if (shape.kind == SHAPE_SELECT) {
                buf_text(&out, "SELECT found.*, given.number FROM ");
                add_given(&out, types, n, true);
                buf_text(&out, ", LATERAL (");
                add_part(&out, text, end);
                buf_text(&out, ") AS found");
        } else if (shape.kind == SHAPE_INSERT || shape.kind == SHAPE_UPSERT) {
                at = strstr(text, " VALUES ");
                if (shape.kind == SHAPE_UPSERT)
                        end = strstr(at, ON_CONFLICT);
                buf_bytes(&out, text, (size_t)(at - text));
                buf_text(&out, " SELECT new.* FROM ");
                add_given(&out, types, n, false);
                buf_text(&out, ", LATERAL (");
                add_part(&out, at + 1, end);
                buf_text(&out, ") AS new");
                buf_text(&out, end);
        } else {
                at = strstr(text, " WHERE ");
                add_part(&out, text, at);
                buf_text(&out, shape.kind == SHAPE_UPDATE ? " FROM " : " USING ");
                add_given(&out, types, n, false);
                add_part(&out, at, end);
        }
        BUG_ON(out.full);
        copy = str_c(arena, buf_view(&out));
        buf_done(&out);
        return copy;
}
