#include "cli/follow.h"

#include <stdlib.h>
#include <string.h>

#include "cli/reply.h"
#include "json/json_in.h"

enum {
        RUNS_MAX = 64,   /* shown; a wider fan-out is summed up by its parent's step */
        STEPS_MAX = 500, /* of a run */
        DRAW_EVERY_US = 50000,
        DEPTH_MAX = 8,
        NAME_MAX_WIDTH = 48,
};

struct row {
        struct str id, action, label, status, note;
        int64_t index, started, ended, attempt;
};

struct shown {
        struct str id, name;  /* name: of a branch */
        struct shown *parent; /* NULL for the run that is followed */
        int64_t parent_step;
        struct row *rows;
        size_t n;
        bool known, over;
};

struct follow {
        struct cli *cli;
        const char *task, *run;
        struct shown runs[RUNS_MAX];
        size_t n;
        bool drawn_live, done, lost;
        int lines;     /* drawn last */
        int64_t began; /* of the run, wall clock */
        int64_t drawn_at;
};

int exit_status_of(struct str status)
{
        if (str_is(status, "completed"))
                return 0;
        if (str_is(status, "canceled"))
                return 3;
        return str_is(status, "timed_out") ? 4 : 1;
}

/* ---- what is known ---- */

static struct str keep(struct follow *f, struct str s)
{
        return text_clean(&f->cli->scope, s);
}

static int64_t wall(const struct follow *f)
{
        const struct clock *clock = f->cli->scope.world->clock;

        return clock->wall(clock->ctx);
}

static struct row *row_at(struct shown *run, int64_t index)
{
        struct row *grown;
        size_t at = 0;

        while (at < run->n && run->rows[at].index < index)
                at++;
        if (at < run->n && run->rows[at].index == index)
                return &run->rows[at];
        if (run->n == STEPS_MAX)
                return NULL;
        grown = xrealloc(run->rows, (run->n + 1) * sizeof(*grown));
        memmove(grown + at + 1, grown + at, (run->n - at) * sizeof(*grown));
        grown[at] = (struct row){ .index = index, .status = STR("pending") };
        run->rows = grown;
        run->n++;
        return &grown[at];
}

static int64_t member_time(const json_t *object, const char *name)
{
        int64_t at;

        return time_parse(member_text(object, name), &at) ? at : 0;
}

static int64_t member_int(const json_t *object, const char *name)
{
        return json_integer_value(json_object_get(object, name));
}

/* Rows from the server's list; events that came meanwhile are not taken back. */
static void load_steps(struct follow *f, struct shown *run)
{
        const char *id = str_c(&f->cli->scope.arena, run->id);
        const json_t *items, *step;
        json_t *reply;
        size_t i;

        if (get_json(f->cli, path_of(f->cli, "/v1/runs/", id, "/steps?limit=500"), &reply))
                return;
        items = member_items(reply);
        json_array_foreach(items, i, step) {
                struct row *row = row_at(run, member_int(step, "index"));

                if (!row)
                        return;
                row->id = keep(f, member_text(step, "id"));
                row->action = keep(f, member_text(step, "action"));
                row->label = keep(f, member_text(step, "label"));
                row->status = keep(f, member_text(step, "status"));
                row->attempt = member_int(step, "attempt");
                row->started = member_time(step, "started_at");
                row->ended = member_time(step, "ended_at");
        }
}

static void load_child(struct follow *f, struct shown *child)
{
        const char *id = str_c(&f->cli->scope.arena, child->id);
        struct str parent;
        json_t *run;

        if (get_json(f->cli, path_of(f->cli, "/v1/runs/", id, NULL), &run))
                return;
        parent = member_text(run, "parent_run_id");
        for (size_t i = 0; i < f->n; i++)
                if (f->runs[i].known && str_eq(f->runs[i].id, parent))
                        child->parent = &f->runs[i];
        child->parent_step = member_int(run, "parent_step_index");
        child->name = keep(f, member_text(run, "branch_name"));
        if (!child->name.n && str_is(member_text(run, "kind"), "branch")) /* 0 may be left out */
                child->name = arena_printf(&f->cli->scope.arena, "%lld",
                                           (long long)member_int(run, "branch_index"));
        child->known = child->parent != NULL;
        if (child->known)
                load_steps(f, child);
}

static struct shown *run_of(struct follow *f, struct str id)
{
        struct shown *run;

        for (size_t i = 0; i < f->n; i++)
                if (str_eq(f->runs[i].id, id))
                        return &f->runs[i];
        if (f->n == RUNS_MAX || !id.n)
                return NULL;
        run = &f->runs[f->n++];
        run->id = keep(f, id);
        run->known = f->n == 1; /* the first is the one that is followed */
        if (!run->known)
                load_child(f, run);
        return run;
}

/* ---- lines ---- */

static struct str row_name(struct follow *f, const struct shown *run, const struct row *row)
{
        struct scope *scope = &f->cli->scope;
        struct str name = row->id;

        if (row->label.n)
                name = row->label;
        if (!name.n)
                name = arena_printf(&scope->arena, "step %lld", (long long)row->index);
        if (run->name.n)
                name = arena_printf(&scope->arena, STR_FMT "/" STR_FMT, STR_ARG(run->name),
                                    STR_ARG(name));
        return row->action.n && !str_eq(row->action, name) ?
                       arena_printf(&scope->arena, STR_FMT " (" STR_FMT ")", STR_ARG(name),
                                    STR_ARG(row->action)) :
                       name;
}

static int depth_of(const struct shown *run)
{
        int depth = 0;

        while (run->parent && depth < DEPTH_MAX) {
                run = run->parent;
                depth++;
        }
        return depth;
}

static struct str elapsed(struct follow *f, const struct row *row)
{
        if (!row->started || str_is(row->status, "pending"))
                return STR("");
        return duration_text(&f->cli->scope, (row->ended ? row->ended : wall(f)) - row->started);
}

static const char *mark(struct str status)
{
        static const char *const marks[][2] = {
                { "completed", "✓" }, { "failed", "✗" },  { "pending", "·" },
                { "skipped", "-" },   { "waiting", "…" },
        };

        for (size_t i = 0; i < LENGTH(marks); i++)
                if (str_is(status, marks[i][0]))
                        return marks[i][1];
        return "▸";
}

struct drawing {
        struct str *lines;
        const char **colours;
        size_t n, max;
};

static void draw_line(struct drawing *d, struct str line, const char *colour)
{
        if (d->n == d->max)
                return;
        d->colours[d->n] = colour;
        d->lines[d->n++] = line;
}

/* Names of steps stand in one column, those of all branches of a step alike. */
static int name_width(struct follow *f, const struct shown *like)
{
        int width = 0;

        for (size_t i = 0; i < f->n; i++) {
                const struct shown *run = &f->runs[i];

                if (run->parent != like->parent || run->parent_step != like->parent_step)
                        continue;
                for (size_t k = 0; k < run->n; k++) {
                        int n = text_width(row_name(f, run, &run->rows[k]));

                        width = n > width ? n : width;
                }
        }
        return width < NAME_MAX_WIDTH ? width : NAME_MAX_WIDTH;
}

static void draw_run(struct follow *f, struct drawing *d, const struct shown *run, int depth)
{
        struct scope *scope = &f->cli->scope;
        int width = name_width(f, run);

        for (size_t i = 0; i < run->n; i++) {
                const struct row *row = &run->rows[i];
                struct str name = row_name(f, run, row), line;
                int gap = width - text_width(name);

                line = arena_printf(&scope->arena, "%*s%s " STR_FMT "%*s  " STR_FMT, depth * 2 + 1,
                                    "", mark(row->status), STR_ARG(name), gap > 0 ? gap : 0, "",
                                    STR_ARG(elapsed(f, row)));
                if (row->note.n)
                        line = arena_printf(&scope->arena, STR_FMT "  " STR_FMT, STR_ARG(line),
                                            STR_ARG(row->note));
                draw_line(d, line, status_colour(&f->cli->err, row->status));
                if (row->ended || depth >= DEPTH_MAX)
                        continue; /* what is over takes one line */
                for (size_t k = 1; k < f->n; k++)
                        if (f->runs[k].parent == run && f->runs[k].parent_step == row->index)
                                draw_run(f, d, &f->runs[k], depth + 1);
        }
}

/* Goes up over what was drawn last and draws anew; what does not fit is left out at the top. */
static void draw(struct follow *f)
{
        struct screen *screen = &f->cli->err;
        int width = screen_width(screen), height = screen_height(screen) - 1;
        struct drawing d = { .max = 4096 };
        struct scope *scope = &f->cli->scope;
        size_t from;

        d.lines = xcalloc(d.max, sizeof(*d.lines));
        d.colours = xcalloc(d.max, sizeof(*d.colours));
        draw_run(f, &d, &f->runs[0], 0);
        draw_line(&d,
                  arena_printf(&scope->arena, "   " STR_FMT "%s",
                               STR_ARG(duration_text(scope, wall(f) - f->began)),
                               f->lost ? "  no answer from the server, trying again" : ""),
                  colour_dim(screen));
        from = d.n > (size_t)height ? d.n - (size_t)height : 0;
        if (f->lines)
                fprintf(screen->to, "\033[%dA", f->lines);
        fputs("\r\033[J", screen->to);
        for (size_t i = from; i < d.n; i++)
                fprintf(screen->to, "%s" STR_FMT "%s\n", d.colours[i],
                        STR_ARG(text_cut(scope, d.lines[i], width - 1)), colour_off(screen));
        fflush(screen->to);
        f->lines = (int)(d.n - from);
        f->drawn_at = wall(f);
        free(d.lines);
        free(d.colours);
}

static void say(struct follow *f, int64_t at, int depth, struct str what)
{
        struct screen *screen = &f->cli->err;

        fprintf(screen->to, "[%7.1fs] %*s" STR_FMT "\n",
                (double)(at > f->began ? at - f->began : 0) / (double)US_PER_S, depth * 2, "",
                STR_ARG(what));
        fflush(screen->to);
}

/* ---- events ---- */

static void on_step(struct follow *f, struct shown *run, const json_t *event, const char *what)
{
        const json_t *payload = json_object_get(event, "payload");
        struct row *row = row_at(run, member_int(payload, "step_index"));
        int64_t at = member_time(event, "timestamp");
        bool started = strcmp(what, "started") == 0;

        if (!row)
                return;
        if (!row->id.n)
                row->id = keep(f, member_text(payload, "id"));
        if (!row->action.n)
                row->action = keep(f, member_text(payload, "action"));
        row->attempt = member_int(payload, "attempt");
        row->status = started ? STR("running") : str_from(what);
        row->note = STR("");
        if (started && row->attempt > 1)
                row->note =
                        arena_printf(&f->cli->scope.arena, "attempt %lld", (long long)row->attempt);
        if (started || !row->started)
                row->started = at;
        row->ended = started ? 0 : at;
        if (!f->drawn_live)
                say(f, at, depth_of(run),
                    arena_printf(&f->cli->scope.arena, STR_FMT " %s%s" STR_FMT "%s" STR_FMT,
                                 STR_ARG(row_name(f, run, row)), what, started ? "" : " in ",
                                 STR_ARG(started ? STR("") : elapsed(f, row)),
                                 row->note.n ? ", " : "", STR_ARG(row->note)));
}

static struct row *last_started(struct shown *run)
{
        struct row *found = NULL;

        for (size_t i = 0; i < run->n; i++)
                if (run->rows[i].started && !run->rows[i].ended)
                        found = &run->rows[i];
        return found;
}

/* Who waits for a person says how that person can answer. */
static struct str approval_note(struct follow *f, struct shown *run)
{
        struct path path = PATH_INIT(f->cli);
        const json_t *approval;
        json_t *reply;
        struct str id;

        path_add(&path, "/v1/approvals");
        path_query(&path, "status", "pending");
        path_query(&path, "run_id", str_c(&f->cli->scope.arena, run->id));
        if (get_json(f->cli, path_end(&path), &reply))
                return STR("waits for an approval");
        approval = json_array_get(member_items(reply), 0);
        id = keep(f, member_text(approval, "id"));
        if (!id.n)
                return STR("waits for an approval");
        return arena_printf(&f->cli->scope.arena,
                            "waits for an approval: baton approvals approve " STR_FMT "%s",
                            STR_ARG(id), cli_same_server(f->cli));
}

/* In quotes for a shell, unless that takes more. */
static struct str name_option(struct follow *f, struct str name)
{
        if (!name.n || str_find(name, '\'', 0) < name.n)
                return str_from(name.n ? " --name …" : "");
        return arena_printf(&f->cli->scope.arena, " --name '" STR_FMT "'", STR_ARG(name));
}

/* The same of one that waits for an input: what its step asks, and the answer's command. */
static struct str input_note(struct follow *f, struct shown *run)
{
        struct scope *scope = &f->cli->scope;
        const json_t *step, *asked = NULL;
        json_t *reply;
        struct str message;
        size_t i;

        if (get_json(f->cli,
                     path_of(f->cli, "/v1/runs/", str_c(&scope->arena, run->id), "/steps?limit=500"),
                     &reply))
                return STR("waits for an input");
        json_array_foreach(member_items(reply), i, step)
                if (str_is(member_text(step, "status"), "waiting"))
                        asked = json_object_get(step, "input");
        message = text_clean(scope, member_text(asked, "message"));
        return arena_printf(&scope->arena,
                            "waits for an input%s" STR_FMT ": baton task input %s" STR_FMT
                            " --message TEXT%s",
                            message.n ? ", " : "", STR_ARG(message), f->task,
                            STR_ARG(name_option(f, text_clean(scope, member_text(asked, "name")))),
                            cli_same_server(f->cli));
}

/* Events of the run itself that a person wants to see.  Of a child only what is unusual: its steps
 * tell the rest. */
static void on_move(struct follow *f, struct shown *run, struct str type, int64_t at)
{
        struct row *row = last_started(run);
        struct str note = str_slice(type, 4, type.n);

        if (str_is(note, "awaiting_approval"))
                note = approval_note(f, run);
        if (str_is(note, "awaiting_input"))
                note = input_note(f, run);
        if (!f->drawn_live) {
                if (str_is(note, "resumed") || (run->parent && str_is(note, "completed")))
                        return;
                say(f, at, depth_of(run),
                    arena_printf(&f->cli->scope.arena, "%s" STR_FMT ": " STR_FMT,
                                 run->name.n ? "branch " : "run", STR_ARG(run->name),
                                 STR_ARG(note)));
                return;
        }
        if (row)
                row->note = str_is(note, "resumed") || str_is(note, "started") ? STR("") : note;
}

static bool is_end(struct str type)
{
        return str_is(type, "run.completed") || str_is(type, "run.failed") ||
               str_is(type, "run.canceled") || str_is(type, "run.timed_out") ||
               str_is(type, "run.operator_forced_fail");
}

static bool is_shown_move(struct str type)
{
        static const char *const moves[] = { "run.awaiting_approval", "run.approval_resolved",
                                             "run.awaiting_input",    "run.sleeping",
                                             "run.resumed",           "run.lease_expired",
                                             "run.released",          "run.recovered",
                                             "run.operator_retry" };

        for (size_t i = 0; i < LENGTH(moves); i++)
                if (str_is(type, moves[i]))
                        return true;
        return is_end(type);
}

static void take_event(struct follow *f, const json_t *event)
{
        struct str type = keep(f, member_text(event, "type"));
        struct shown *run = run_of(f, member_text(event, "run_id"));

        if (!run || !run->known)
                return;
        if (str_is(type, "run.step_started"))
                on_step(f, run, event, "started");
        else if (str_is(type, "run.step_completed"))
                on_step(f, run, event, "completed");
        else if (str_is(type, "run.step_failed"))
                on_step(f, run, event, "failed");
        else if (is_shown_move(type))
                on_move(f, run, type, member_time(event, "timestamp"));
        run->over |= is_end(type);
        f->done |= run == &f->runs[0] && run->over;
}

static bool on_event(void *ctx, const struct http_event *event)
{
        struct follow *f = ctx;
        json_t *value;

        f->lost = false;
        if (json_parse(&f->cli->scope, event->data, &value))
                return true;
        take_event(f, value);
        json_decref(value);
        if (f->drawn_live && !f->done && wall(f) - f->drawn_at > DRAW_EVERY_US)
                draw(f);
        return !f->done && !interrupted();
}

/* The stream ends by itself; its events are of no interest. */
static bool on_event_quiet(void *ctx, const struct http_event *event)
{
        (void)ctx, (void)event;
        return !interrupted();
}

static bool on_idle(void *ctx)
{
        struct follow *f = ctx;

        if (f->drawn_live)
                draw(f);
        return !interrupted();
}

/* ---- the whole ---- */

static const char *stream_path(struct follow *f, bool shown)
{
        const char *task =
                path_of(f->cli, "/v1/tasks/", f->task, shown ? "/events/stream" : "/runs/");

        return shown ? task : path_of(f->cli, task, f->run, "/events/stream");
}

static void say_stopped(struct cli *cli, const char *run)
{
        fprintf(cli->err.to,
                "\nstopped following; the run goes on. Cancel it with: baton runs"
                " cancel %s%s\n",
                run, cli_same_server(cli));
        cli->status = 130;
}

/* The whole tree is followed, so that children are seen; its stream has no end, so the run's own
 * end is waited for.  A run that is only waited for has a stream of its own. */
static enum err follow_stream(struct follow *f, bool shown)
{
        const struct http_follower follower = { .on_event = shown ? on_event : on_event_quiet,
                                                .on_idle = on_idle,
                                                .ctx = f,
                                                .patience_seconds = PATIENCE_SECONDS };
        enum err e;

        interrupt_catch();
        e = http_follow(&f->cli->scope, f->cli->connection.client, stream_path(f, shown),
                        &follower);
        interrupt_release();
        return e;
}

enum err follow_run(struct cli *cli, const char *task, const char *run, bool shown,
                    const json_t **out)
{
        struct follow *f = xcalloc(1, sizeof(*f));
        json_t *end = NULL;
        enum err e;

        f->cli = cli;
        f->task = task;
        f->run = run;
        f->began = wall(f);
        f->drawn_live = shown && cli->err.terminal;
        run_of(f, str_from(run));
        if (shown)
                load_steps(f, &f->runs[0]);
        e = follow_stream(f, shown);
        if (!e && !interrupted()) {
                e = get_json(cli, path_of(cli, "/v1/runs/", run, NULL), &end);
                if (f->drawn_live && !e) {
                        load_steps(f, &f->runs[0]);
                        draw(f);
                }
        }
        if (interrupted())
                say_stopped(cli, run);
        for (size_t i = 0; i < f->n; i++)
                free(f->runs[i].rows);
        free(f);
        *out = end;
        return e;
}
