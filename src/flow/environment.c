#include "flow/environment.h"

#include "domain/task.h"

void remember_output(const struct progress *p, int64_t index, struct value output)
{
        p->outputs[index] = (struct known_output){ output, true };
}

void forget_output(const struct progress *p, int64_t index)
{
        p->outputs[index].known = false;
}

/* A step's output, parsed once. */
static struct value output_of(struct scope *scope, const struct progress *p, int64_t index)
{
        if (!p->outputs[index].known)
                remember_output(p, index, value_from_text(scope, p->steps[index].output));
        return p->outputs[index].value;
}

static struct value steps_entry(struct scope *scope, const struct step_spec *spec,
                                const struct step *step, struct value output)
{
        struct value v = value_map_of(scope, 6);

        value_put(v, STR("id"), value_text(spec->id));
        value_put(v, STR("index"), value_int(spec->index));
        value_put(v, STR("status"),
                  value_text(str_from(step_status_names.text[step->status])));
        value_put(v, STR("attempt"), value_int(step->attempt));
        if (step->output.p)
                value_put(v, STR("output"), output);
        if (step->error.p)
                value_put(v, STR("error"), value_from_text(scope, step->error));
        return v;
}

static struct value own_entry(struct scope *scope, const struct progress *p, int64_t index)
{
        return steps_entry(scope, &p->list->steps[index], &p->steps[index],
                           output_of(scope, p, index));
}

static struct value parent_entry(struct scope *scope, const struct step_spec *spec,
                                 const struct step *step)
{
        return steps_entry(scope, spec, step, value_from_text(scope, step->output));
}

static bool has_ended(const struct step *step)
{
        return step->status == STEP_COMPLETED || step->status == STEP_FAILED ||
               step->status == STEP_SKIPPED;
}

/* Room for two entries (id and index) of each step of this run and one of each parent's. */
static size_t steps_room(const struct progress *p)
{
        size_t n = 2 * p->list->n;

        for (int f = 0; f + 1 < p->snapshot->n_frames; f++)
                n += p->snapshot->frames[f].steps.n;
        return n;
}

static void add_own_steps(struct scope *scope, const struct progress *p, struct value map)
{
        for (size_t i = 0; i < p->list->n; i++) {
                struct value entry;

                if (!has_ended(&p->steps[i]))
                        continue;
                entry = own_entry(scope, p, (int64_t)i);
                value_put(map, p->list->steps[i].id, entry);
                map.map->entries[map.map->n++] =
                        (struct value_entry){ value_int((int64_t)i), entry };
        }
}

/* Steps of the inline parents, by id: the nearest wins. */
static void add_parent_steps(struct scope *scope, const struct progress *p, struct value map)
{
        for (int f = p->snapshot->n_frames - 2; f >= 0; f--) {
                const struct snapshot_frame *frame = &p->snapshot->frames[f];
                const struct step_list *list = definition_steps_at(p->definition, frame->run.path);
                const struct step *steps = frame->steps.items;

                for (size_t i = 0; list && i < frame->steps.n; i++) {
                        const struct step_spec *spec;

                        if (!has_ended(&steps[i]) || steps[i].index >= (int64_t)list->n)
                                continue;
                        spec = &list->steps[steps[i].index];
                        if (!value_member(map, spec->id))
                                value_put(map, spec->id, parent_entry(scope, spec, &steps[i]));
                }
        }
}

static struct value all_steps(struct scope *scope, struct environment *e)
{
        if (!e->has_steps) {
                e->steps = value_map_of(scope, steps_room(e->progress));
                add_own_steps(scope, e->progress, e->steps);
                add_parent_steps(scope, e->progress, e->steps);
                e->has_steps = true;
        }
        return e->steps;
}

/* steps.<id> without reading the others. */
static bool find_step(struct scope *scope, const struct progress *p, struct str id,
                      struct value *out)
{
        for (size_t i = 0; i < p->list->n; i++)
                if (has_ended(&p->steps[i]) && str_eq(p->list->steps[i].id, id)) {
                        *out = own_entry(scope, p, (int64_t)i);
                        return true;
                }
        for (int f = p->snapshot->n_frames - 2; f >= 0; f--) {
                const struct snapshot_frame *frame = &p->snapshot->frames[f];
                const struct step_list *list = definition_steps_at(p->definition, frame->run.path);
                const struct step *steps = frame->steps.items;

                for (size_t i = 0; list && i < frame->steps.n; i++)
                        if (has_ended(&steps[i]) && steps[i].index < (int64_t)list->n &&
                            str_eq(list->steps[steps[i].index].id, id)) {
                                *out = parent_entry(scope, &list->steps[steps[i].index], &steps[i]);
                                return true;
                        }
        }
        return false;
}

/* -1 when no step before `at` has ended. */
static int64_t last_index(const struct progress *p, int64_t at)
{
        for (int64_t i = at - 1; i >= 0; i--)
                if (p->steps[i].status == STEP_COMPLETED || p->steps[i].status == STEP_FAILED)
                        return i;
        return -1;
}

struct value last_output(struct scope *scope, const struct progress *p, int64_t at)
{
        int64_t index = last_index(p, at);

        if (index < 0)
                return (struct value){ .kind = VALUE_NULL };
        return output_of(scope, p, index);
}

/* The step that ended last; before the first of an inline branch, the last one of its parent. */
static struct value last(struct scope *scope, struct environment *e)
{
        const struct progress *p = e->progress;
        int64_t index = last_index(p, p->snapshot->run->current_step);
        bool found = index >= 0;

        if (e->has_last)
                return e->last;
        e->has_last = true;
        e->last = found ? own_entry(scope, p, index) : value_map_of(scope, 0);
        for (int f = p->snapshot->n_frames - 2; !found && f >= 0; f--) {
                const struct snapshot_frame *frame = &p->snapshot->frames[f];
                const struct step_list *list = definition_steps_at(p->definition, frame->run.path);
                const struct step *steps = frame->steps.items;

                for (size_t i = frame->steps.n; list && !found && i-- > 0;)
                        if ((steps[i].status == STEP_COMPLETED || steps[i].status == STEP_FAILED) &&
                            steps[i].index < (int64_t)list->n) {
                                found = true;
                                e->last = parent_entry(scope, &list->steps[steps[i].index], &steps[i]);
                        }
        }
        return e->last;
}

static struct str id_text(struct scope *scope, const char *prefix, int64_t id)
{
        char text[ID_TEXT_SIZE];

        id_print(prefix, id, text);
        return str_dup(&scope->arena, str_from(text));
}

static struct value run_value(struct scope *scope, const struct run *run)
{
        struct value v = value_map_of(scope, 8);

        value_put(v, STR("id"), value_text(id_text(scope, "run", run->id)));
        value_put(v, STR("task_id"), value_text(id_text(scope, "task", run->task_id)));
        if (run->definition_id)
                value_put(v, STR("definition_id"),
                          value_text(id_text(scope, "def", run->definition_id)));
        value_put(v, STR("definition_version"), value_int(run->definition_version));
        value_put(v, STR("kind"), value_text(str_from(run_kind_names.text[run->kind])));
        value_put(v, STR("attempt"), value_int(run->attempt));
        value_put(v, STR("epoch"), value_int(run->epoch));
        if (run->review.p)
                value_put(v, STR("review"), value_from_text(scope, run->review));
        return v;
}

static struct value task_value(struct scope *scope, const struct task *task)
{
        struct value v = value_map_of(scope, 6);

        value_put(v, STR("id"), value_text(id_text(scope, "task", task->id)));
        value_put(v, STR("title"), value_text(task->title));
        if (task->description.p)
                value_put(v, STR("description"), value_text(task->description));
        if (task->identifier.p)
                value_put(v, STR("identifier"), value_text(task->identifier));
        value_put(v, STR("priority"), value_text(str_from(priority_names.text[task->priority])));
        if (task->metadata.p)
                value_put(v, STR("metadata"), value_from_text(scope, task->metadata));
        return v;
}

static bool find_member(struct value map, struct str name, struct value *out)
{
        const struct value *v = value_member(map, name);

        if (v)
                *out = *v;
        return v != NULL;
}

/* Locals of this run and of the inline parents, the nearest first. */
static bool find_local(struct scope *scope, const struct environment *e, struct str name,
                       struct value *out)
{
        if (find_member(e->locals, name, out))
                return true;
        for (int f = e->progress->snapshot->n_frames - 1; f >= 0; f--) {
                struct str locals = e->progress->snapshot->frames[f].run.locals;

                if (locals.p && find_member(value_from_text(scope, locals), name, out))
                        return true;
        }
        return false;
}

static bool find(const struct expr_env *env, struct scope *scope, struct str name, struct value *out)
{
        struct environment *e = (struct environment *)(uintptr_t)env;
        const struct value *output;

        if (str_starts(name, "steps."))
                return find_step(scope, e->progress, str_slice(name, 6, name.n), out);
        if (str_is(name, "input"))
                *out = e->progress->input;
        else if (str_is(name, "steps"))
                *out = all_steps(scope, e);
        else if (str_is(name, "last"))
                *out = last(scope, e);
        else if (str_is(name, "run"))
                *out = run_value(scope, e->progress->snapshot->run);
        else if (str_is(name, "task"))
                *out = task_value(scope, e->progress->snapshot->task);
        else {
                if (find_local(scope, e, name, out))
                        return true;
                output = value_member(last(scope, e), STR("output"));
                if (output && find_member(*output, name, out))
                        return true;
                return find_member(e->progress->input, name, out);
        }
        return true;
}

static void add_names(struct buf *out, struct value map)
{
        for (size_t i = 0; map.kind == VALUE_MAP && i < map.map->n; i++)
                if (map.map->entries[i].key.kind == VALUE_STRING)
                        buf_printf(out, ", " STR_FMT, STR_ARG(map.map->entries[i].key.text));
}

static struct str known(const struct expr_env *env, struct scope *scope)
{
        struct environment *e = (struct environment *)(uintptr_t)env;
        struct buf out = BUF_INIT(2048);
        const struct value *output = value_member(last(scope, e), STR("output"));
        struct str text;

        buf_text(&out, "input, steps, last, run, task");
        add_names(&out, e->locals);
        for (int f = e->progress->snapshot->n_frames - 1; f >= 0; f--)
                if (e->progress->snapshot->frames[f].run.locals.p)
                        add_names(&out, value_from_text(
                                                scope,
                                                e->progress->snapshot->frames[f].run.locals));
        if (output)
                add_names(&out, *output);
        add_names(&out, e->progress->input);
        text = str_dup(&scope->arena, buf_view(&out));
        buf_done(&out);
        return text;
}

void environment_init(struct environment *e, const struct progress *progress, int64_t now)
{
        *e = (struct environment){ .env = { .find = find, .known = known, .dotted = true,
                                            .now = now },
                                   .progress = progress };
}

void environment_stale(struct environment *e)
{
        e->has_last = e->has_steps = false;
}
