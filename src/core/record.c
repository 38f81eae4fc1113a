#include "core/record.h"

#include <string.h>

#include "core/arena.h"
#include "core/buf.h"

/* Lower case, with '_' for '-' and before an inner capital; false when it does not fit. */
static bool snake(struct str s, char *out, size_t size)
{
        size_t n = 0;

        for (size_t i = 0; i < s.n; i++) {
                char c = s.p[i];
                bool capital = c >= 'A' && c <= 'Z';

                if (n + 2 >= size)
                        return false;
                if (capital && i && s.p[i - 1] >= 'a' && s.p[i - 1] <= 'z')
                        out[n++] = '_';
                out[n++] = (char)(capital ? c + 32 : c == '-' ? '_' : c);
        }
        out[n] = '\0';
        return true;
}

int names_find(const struct names *names, struct str text)
{
        char key[64];

        /* Numbers that are not in use have the empty name. */
        if (!text.n || !snake(text, key, sizeof(key)))
                return -1;
        for (int i = 0; names->text[i]; i++)
                if (strcmp(names->text[i], key) == 0)
                        return i;
        for (const struct alias *a = names->aliases; a && a->text; a++)
                if (strcmp(a->text, key) == 0)
                        return a->value;
        return -1;
}

const char *names_text(const struct names *names, int value)
{
        return names->text[value];
}

bool names_has(const struct names *names, int64_t value)
{
        int64_t n = 0;

        while (n < value && names->text[n])
                n++;
        return value >= 0 && names->text[n];
}

struct str names_list(struct arena *arena, const struct names *names)
{
        struct str out = STR("");

        for (int i = 0; names->text[i]; i++)
                if (names->text[i][0])
                        out = arena_printf(arena, STR_FMT "%s%s", STR_ARG(out),
                                           out.n == 0            ? "" :
                                           names->text[i + 1]    ? ", " :
                                                                   " or ",
                                           names->text[i]);
        return out;
}

const struct field *record_field(const struct record *record, struct str name)
{
        for (size_t i = 0; i < record->n; i++)
                if ((record->fields[i].flags & FIELD_WIRE) && str_is(name, record->fields[i].name))
                        return &record->fields[i];
        return NULL;
}

static struct str joined(struct arena *arena, const struct record *record, bool placeholders)
{
        struct buf out = BUF_INIT(16384);
        struct str copy;
        int column = 0;

        for (size_t i = 0; i < record->n; i++) {
                if (!(record->fields[i].flags & FIELD_COLUMN))
                        continue;
                if (column++)
                        buf_char(&out, ',');
                if (placeholders)
                        buf_printf(&out, "?%d", column);
                else
                        buf_text(&out, record->fields[i].name);
        }
        BUG_ON(out.full);
        copy = str_dup(arena, buf_view(&out));
        buf_done(&out);
        return copy;
}

struct str record_columns(struct arena *arena, const struct record *record)
{
        return joined(arena, record, false);
}

struct str record_placeholders(struct arena *arena, const struct record *record)
{
        return joined(arena, record, true);
}

bool field_is_empty(const struct field *field, const void *base)
{
        switch (field->kind) {
        case FIELD_INT:
        case FIELD_TIME:
        case FIELD_ID:
        case FIELD_SET:
                return *FIELD_IN(base, field, int64_t) == 0;
        case FIELD_BOOL:
                return !*FIELD_IN(base, field, bool);
        case FIELD_ENUM:
                return ((const struct names *)field->type)->text[*FIELD_IN(base, field, int)][0] ==
                       '\0';
        case FIELD_STR:
        case FIELD_JSON:
        case FIELD_NAME:
        case FIELD_ACTOR:
        case FIELD_CAPS:
        case FIELD_BYTES:
                return FIELD_IN(base, field, struct str)->p == NULL;
        case FIELD_RECORD:
                return *FIELD_IN(base, field, void *const) == NULL;
        case FIELD_LIST:
                return FIELD_IN(base, field, struct list)->items == NULL;
        }
        return true;
}

bool field_has_null(const struct field *f)
{
        return f->kind != FIELD_INT && f->kind != FIELD_BOOL && f->kind != FIELD_LIST &&
               f->kind != FIELD_CAPS && f->kind != FIELD_SET;
}

/* An enum whose values all have names is never empty. */
static bool names_all(const struct names *names)
{
        int i = 0;

        while (names->text[i] && names->text[i][0])
                i++;
        return !names->text[i];
}

bool field_is_sure(const struct field *f)
{
        return (f->flags & (FIELD_ALWAYS | FIELD_REQUIRED)) ||
               (f->kind == FIELD_ENUM && names_all(f->type));
}
