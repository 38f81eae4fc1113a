/* What a run's steps did: records, checkpoints, logs. */
#include "api/request.h"
#include "domain/log_line.h"
#include "domain/sql.h"
#include "domain/step.h"

static enum err find_run(struct request *r, struct tx *tx, struct run *run)
{
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        return e ? e : run_get(tx, &r->by, id, run);
}

/* ---- steps ---- */

enum { STEPS_WHOLE = 16 << 20 };

/* One row for each step of the definition, recorded or not. */
static void merge(struct request *r, const struct step_list *list, int64_t run,
                  const struct list *rows, struct list *out)
{
        struct step *all = arena_array(&r->scope.arena, struct step, list->n);
        const struct step *row = rows->items;

        for (size_t i = 0; i < list->n; i++)
                all[i] = (struct step){ .run_id = run, .index = (int64_t)i };
        for (size_t i = 0; i < rows->n; i++)
                if (row[i].index < (int64_t)list->n)
                        all[row[i].index] = row[i];
        for (size_t i = 0; i < list->n; i++) {
                const struct step_spec *spec = &list->steps[i];

                all[i].id = str_dup(&r->scope.arena, spec->id);
                all[i].action = str_from(spec->action->name);
                all[i].label = str_dup(&r->scope.arena, spec->label);
        }
        *out = (struct list){ all, list->n };
}

static enum err add_children(struct request *r, struct tx *tx, int64_t run, struct list *steps)
{
        struct step *step = steps->items;
        const struct arg args[] = { INT(run) };
        int64_t *rows;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_STEP_CHILD_IDS, &rows, &n, 2, args, LENGTH(args));

        for (size_t i = 0; !e && i < n;) {
                int64_t index = rows[2 * i];
                struct buf ids = BUF_INIT(1 << 20);
                struct json_out j = { .out = &ids };

                json_begin_list(&j);
                for (; i < n && rows[2 * i] == index; i++)
                        json_put_id(&j, "run", rows[2 * i + 1]);
                json_end_list(&j);
                if (index >= 0 && index < (int64_t)steps->n)
                        step[index].child_run_ids = str_dup(&r->scope.arena, buf_view(&ids));
                buf_done(&ids);
        }
        return e;
}

static enum err read_all(struct request *r, struct tx *tx, const struct run *run, struct list *out)
{
        const struct definition *definition;
        const struct step_list *list;
        struct list rows;
        enum err e = steps_read(tx, run->id, &rows);

        if (e || !run->definition_id) {
                *out = rows;
                return e;
        }
        e = request_definition(r, tx, run->definition_id, run->definition_version, &definition);
        if (e)
                return e;
        list = definition_steps_at(definition, run->path);
        if (list)
                merge(r, list, run->id, &rows, out);
        definition_cache_release(api_options(r->api)->definitions, definition);
        return add_children(r, tx, run->id, out);
}

/* Whole, as long as all of them are not more than a reader can use. */
static void shorten(struct request *r, struct list *steps)
{
        struct step *step = steps->items;
        size_t bytes = 0;

        for (size_t i = 0; i < steps->n; i++)
                bytes += step[i].input.n + step[i].output.n;
        for (size_t i = 0; bytes > STEPS_WHOLE && i < steps->n; i++) {
                step[i].input = request_listed(r, step[i].input);
                step[i].output = request_listed(r, step[i].output);
        }
}

static enum err list_steps(struct request *r, struct tx *tx)
{
        struct list items = { 0 };
        struct run run;
        enum err e = find_run(r, tx, &run);

        if (!e)
                e = read_all(r, tx, &run, &items);
        if (!e)
                shorten(r, &items);
        return e ? e : request_reply_part(r, &step_record, items);
}

/* ---- checkpoints ---- */

struct checkpoint {
        struct str id, label, state;
        int64_t step_index, at;
};
#define AT(member) offsetof(struct checkpoint, member)
static const struct field checkpoint_fields[] = {
        { "id", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(id) },
        { "step_index", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(step_index) },
        { "label", FIELD_STR, FIELD_WIRE, AT(label) },
        { "at", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(at) },
        { "state", FIELD_JSON, FIELD_WIRE | FIELD_REQUIRED, AT(state), "object" },
};
static const struct record checkpoint_record = { "Checkpoint", checkpoint_fields,
                                                 LENGTH(checkpoint_fields),
                                                 sizeof(struct checkpoint), -1 };

static struct checkpoint checkpoint_of(struct request *r, const struct step *step)
{
        struct value output = value_from_text(&r->scope, step->output);
        const struct value *label = value_member(output, STR("label"));
        const struct value *states = value_member(output, STR("steps"));
        char run[ID_TEXT_SIZE];

        id_print("run", step->run_id, run);
        return (struct checkpoint){
                .id = arena_printf(&r->scope.arena, "%s.%lld", run, (long long)step->index),
                .label = label ? label->text : STR_NONE,
                .state = states ? value_dump(&r->scope, *states) : STR("{}"),
                .step_index = step->index,
                .at = step->ended_at,
        };
}

static enum err list_checkpoints(struct request *r, struct tx *tx)
{
        struct list steps = { 0 };
        struct checkpoint *out;
        const struct step *step;
        struct run run;
        size_t n = 0;
        enum err e = find_run(r, tx, &run);

        if (!e)
                e = read_all(r, tx, &run, &steps);
        if (e)
                return e;
        step = steps.items;
        out = arena_array(&r->scope.arena, struct checkpoint, steps.n + 1);
        for (size_t i = 0; i < steps.n; i++)
                if (str_is(step[i].action, "checkpoint") && step[i].status == STEP_COMPLETED)
                        out[n++] = checkpoint_of(r, &step[i]);
        return request_reply_part(r, &checkpoint_record, (struct list){ out, n });
}

/* ---- logs ---- */

enum { LOG_TEXT_MAX = 4 << 20, LOG_PIECES = 500 };

static const struct field log_filter_fields[] = {
        { "after", FIELD_INT, FIELD_WIRE | FIELD_CURSOR, offsetof(struct log_filter, after), NULL, 0,
          INT64_MAX, "a byte offset: a whole number" },
        { "follow", FIELD_BOOL, FIELD_WIRE, offsetof(struct log_filter, follow),
          .doc = "as event frames, to the end of the run" },
};
static const struct record log_filter = { "LogFilter", log_filter_fields, LENGTH(log_filter_fields),
                                          sizeof(struct log_filter), -1 };

static enum err get_logs(struct request *r, struct tx *tx)
{
        const struct log_filter *f = r->filter;
        struct buf text = BUF_INIT(LOG_TEXT_MAX + (1 << 20));
        struct run run;
        enum err e = find_run(r, tx, &run);

        for (;;) {
                const struct log_line *line;
                struct list page = { 0 };

                if (!e)
                        e = log_read(tx, run.id, f->after + (int64_t)text.n, LOG_PIECES, &page);
                line = page.items;
                for (size_t i = 0; !e && i < page.n && text.n < LOG_TEXT_MAX; i++)
                        buf_str(&text, line[i].text);
                if (e || page.n < LOG_PIECES || text.n >= LOG_TEXT_MAX)
                        break;
        }
        r->status = 200;
        r->text_type = r->route->text;
        r->text = text.n ? str_dup(&r->scope.arena, buf_view(&text)) : STR("");
        buf_done(&text);
        return e;
}

static enum err get_or_follow_logs(struct request *r, struct tx *tx)
{
        const struct log_filter *f = r->filter;

        return f->follow ? stream_log(r, tx) : get_logs(r, tx);
}

const struct route step_routes[] = {
        { HTTP_GET, "/v1/runs/{run}/steps", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &step_record,
          list_steps, 0, "Steps of a run", .filter = &page_filter_record },
        { HTTP_GET, "/v1/runs/{run}/checkpoints", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &checkpoint_record, list_checkpoints, 0, "Checkpoints of a run",
          .filter = &page_filter_record },
        { HTTP_GET, "/v1/runs/{run}/logs", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_STREAM, NULL,
          &log_frame_record, get_or_follow_logs, 0,
          "Log of a run, as text or followed with ?follow=1", .filter = &log_filter,
          .text = "text/plain; charset=utf-8" },
        { 0 },
};
