#include "domain/log_line.h"

#include "domain/sql.h"

#define AT(member) offsetof(struct log_line, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };

static const struct field log_line_fields[] = {
        { "position", FIELD_INT, FIELD_COLUMN, AT(position) },
        { "step_index", FIELD_INT, FIELD_COLUMN, AT(step) },
        { "stream", FIELD_INT, FIELD_COLUMN, AT(stream) },
        { "at", FIELD_TIME, BOTH, AT(at) },
        { "text", FIELD_STR, BOTH, AT(text) },
};
const struct record log_line_record = { "LogLine", log_line_fields, LENGTH(log_line_fields),
                                        sizeof(struct log_line), -1 };

enum err log_end(struct tx *tx, int64_t run, int64_t *out)
{
        enum err e;

        *out = 0;
        e = tx_number(tx, SQL_LOG_END, out, INT(run));
        return e == ERR_EMPTY ? ERR_OK : e;
}

enum err log_append(struct tx *tx, const struct fence *fence, int64_t id, int64_t step, int stream,
                    struct str text)
{
        struct run run;
        int64_t end = 0;
        enum err e = run_load(tx, id, &run);

        if (!e)
                e = run_check_fence(tx, &run, fence);
        if (e)
                return e;
        e = log_end(tx, id, &end);
        if (e)
                return e;
        tx_hint(tx, HINT_TREE, run.tree_id, 0);
        return tx_exec(tx, SQL_LOG_ADD, INT(id), INT(end), INT(step), INT(stream), INT(tx_now(tx)),
                       TEXT(text));
}

enum err log_read(struct tx *tx, int64_t run, int64_t from, int limit, struct list *out)
{
        enum err e = tx_all(tx, SQL_LOG_PAGE, out, INT(run), INT(from), INT(limit));
        struct log_line *line = out->items;
        size_t skip;

        if (e || !out->n || line->position >= from)
                return e;
        /* The first piece holds the offset: what lies before it goes, and whole characters stay. */
        skip = (size_t)(from - line->position);
        while (skip < line->text.n && ((unsigned char)line->text.p[skip] & 0xc0) == 0x80)
                skip++;
        if (skip >= line->text.n) {
                *out = (struct list){ line + 1, out->n - 1 };
                return e;
        }
        line->text = str_slice(line->text, skip, line->text.n);
        line->position += (int64_t)skip;
        return e;
}
