#include "flow/definition.h"

#include <stdlib.h>
#include <string.h>

#include "flow/schema.h"
#include "flow/yaml.h"

struct reader {
        struct scope *scope;
        struct problems *problems;
};

static const char *const document_fields[] = { "name",  "description", "input", "timeout_seconds",
                                               "retry", "review_policy", "steps", "config", NULL };
static const char *const config_fields[] = { "steps", NULL };
static const char *const step_fields[] = { "index",        "id",
                                           "action",       "label",
                                           "parameters",   "timeout_seconds",
                                           "retry",        "on_error",
                                           "on_interrupt", "requires_approval",
                                           "required_capabilities", NULL };
static const char *const branch_fields[] = { "name", "steps", "referenced_task_id", "input", NULL };

/* ---- helpers ---- */

static int text_compare(const void *a, const void *b)
{
        return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static struct value member(struct value map, const char *name)
{
        const struct value *v = value_member(map, str_from(name));

        return v ? *v : (struct value){ .kind = VALUE_NULL };
}

static struct str at(struct reader *r, struct str path, const char *name)
{
        return path_member(r->scope, path, str_from(name));
}

static void unknown_fields(struct reader *r, struct str path, struct value map,
                           const char *const *known)
{
        for (size_t i = 0; i < map.map->n; i++) {
                struct str name = map.map->entries[i].key.text;
                size_t k = 0;

                while (known[k] && !str_is(name, known[k]))
                        k++;
                if (!known[k])
                        problem_add(r->problems, path_member(r->scope, path, name), "unknown_field",
                                    nearest_hint(r->scope, name, known), "unknown field \"%.64s\"",
                                    str_c(&r->scope->arena, name));
        }
}

static bool is_map(struct reader *r, struct str path, struct value v)
{
        if (v.kind == VALUE_MAP)
                return true;
        problem_add(r->problems, path, "type", NULL, "must be an object");
        return false;
}

/* Optional members: absent stays empty, another type is a problem. */
static struct str text_of(struct reader *r, struct str path, struct value map, const char *name,
                          size_t max)
{
        struct value v = member(map, name);

        if (v.kind == VALUE_NULL)
                return STR_NONE;
        if (v.kind != VALUE_STRING)
                problem_add(r->problems, at(r, path, name), "type", NULL, "must be text");
        else if (v.text.n > max)
                problem_add(r->problems, at(r, path, name), "limit", NULL,
                            "must be at most %zu bytes, not %zu", max, v.text.n);
        else
                return v.text;
        return STR_NONE;
}

static int64_t seconds_of(struct reader *r, struct str path, struct value map)
{
        struct value v = member(map, "timeout_seconds");

        if (v.kind == VALUE_NULL)
                return 0;
        if (v.kind == VALUE_INT && v.number >= 1 && v.number <= DEFINITION_MAX_TIMEOUT)
                return v.number;
        problem_add(r->problems, at(r, path, "timeout_seconds"), "limit", NULL,
                    "must be a whole number of seconds from 1 to %d", DEFINITION_MAX_TIMEOUT);
        return 0;
}

static bool bool_of(struct reader *r, struct str path, struct value map, const char *name)
{
        struct value v = member(map, name);

        if (v.kind != VALUE_NULL && v.kind != VALUE_BOOL)
                problem_add(r->problems, at(r, path, name), "type", NULL, "must be true or false");
        return v.kind == VALUE_BOOL && v.truth;
}

/* A fault that a lower layer put into the scope becomes a problem here. */
static void problem_from_fault(struct reader *r, struct str path, const char *code)
{
        problem_add(r->problems, path, code, NULL, STR_FMT, STR_ARG(r->scope->fault.detail));
        r->scope->fault = (struct fault){ 0 };
}

static struct str retry_of(struct reader *r, struct str path, struct value map,
                           struct task_retry *out)
{
        struct value v = member(map, "retry");
        struct str text;

        if (v.kind == VALUE_NULL)
                return STR_NONE;
        text = value_dump(r->scope, v);
        if (!retry_parse(r->scope, text, out))
                return text;
        problem_from_fault(r, at(r, path, "retry"), "type");
        return STR_NONE;
}

static int review_policy_of(struct reader *r, struct value map)
{
        struct str text = text_of(r, STR_NONE, map, "review_policy", 100);
        int policy = text.p ? names_find(&review_policy_names, text) : REVIEW_NONE;

        if (policy >= 0)
                return policy;
        problem_add(r->problems, STR("review_policy"), "type", NULL, "must be " STR_FMT,
                    STR_ARG(names_list(&r->scope->arena, &review_policy_names)));
        return REVIEW_NONE;
}

static bool is_name(struct str s, size_t max, const char *beside)
{
        if (!s.n || s.n > max || strchr(beside, s.p[0]))
                return false;
        for (size_t i = 0; i < s.n; i++) {
                char c = s.p[i];

                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
                    c != '_' && !strchr(beside, c))
                        return false;
        }
        return true;
}

static struct template *template_of(struct reader *r, struct str path, struct value v)
{
        struct template *t;
        struct str where = STR_NONE;

        if (!template_compile(r->scope, v, &t, &where))
                return t;
        problem_from_fault(r, arena_printf(&r->scope->arena, STR_FMT STR_FMT, STR_ARG(path),
                                           STR_ARG(where)),
                           "invalid_condition");
        return NULL;
}

/* An object, or an expression that will give one. */
static struct template *input_template(struct reader *r, struct str path, struct value v)
{
        struct template *t = template_of(r, path, v);

        if (t && v.kind != VALUE_MAP && template_is_constant(t))
                is_map(r, path, v);
        return t;
}

/* ---- steps ---- */

static void read_steps(struct reader *, struct str path, struct value, int depth,
                       struct step_list *);

/* The place of a later step that an index or an id names; -1 with a problem. */
static int target_of(struct reader *r, struct str path, struct value v, const struct step_list *list,
                     int self)
{
        int64_t found = -1, number;
        struct str text = v.kind == VALUE_STRING ? v.text : STR_NONE;

        if (v.kind == VALUE_INT)
                found = v.number;
        for (size_t i = 0; text.p && i < list->n; i++)
                if (str_eq(list->steps[i].id, text))
                        found = (int64_t)i;
        if (text.p && found < 0 && str_to_int(text, &number))
                found = number;
        if (found < 0 || found >= (int64_t)list->n)
                problem_add(r->problems, path, "target", NULL,
                            "there is no step " STR_FMT "; the list has steps 0 to %zu",
                            STR_ARG(value_dump(r->scope, v)), list->n - 1);
        else if (found <= self)
                problem_add(r->problems, path, "target", "put the target after this step",
                            "step %lld does not come after step %d: targets lead forward only",
                            (long long)found, self);
        else
                return (int)found;
        return self + 1;
}

static void read_branch(struct reader *r, struct str path, struct value v, int depth,
                        struct branch_spec *out)
{
        struct value steps, reference, input;

        if (!is_map(r, path, v))
                return;
        unknown_fields(r, path, v, branch_fields);
        out->name = text_of(r, path, v, "name", 255);
        steps = member(v, "steps");
        reference = member(v, "referenced_task_id");
        input = member(v, "input");
        if ((steps.kind == VALUE_NULL) == (reference.kind == VALUE_NULL)) {
                problem_add(r->problems, path, "required", NULL,
                            "a branch has either steps or referenced_task_id");
                return;
        }
        if (reference.kind != VALUE_NULL) {
                out->reference = text_of(r, path, v, "referenced_task_id", 255);
                if (input.kind != VALUE_NULL)
                        out->input = input_template(r, at(r, path, "input"), input);
                return;
        }
        if (input.kind != VALUE_NULL)
                problem_add(r->problems, at(r, path, "input"), "unknown_field",
                            "inline steps see the input of the run",
                            "input goes with referenced_task_id only");
        read_steps(r, at(r, path, "steps"), steps, depth + 1, &out->inline_steps);
}

static void read_branches(struct reader *r, struct str path, struct value v, int depth,
                          struct step_spec *step)
{
        if (v.kind != VALUE_LIST || !v.list->n || v.list->n > DEFINITION_MAX_BRANCHES)
                return; /* the parameter table has said so */
        step->n_branches = v.list->n;
        step->branches = arena_array(&r->scope->arena, struct branch_spec, v.list->n);
        for (size_t i = 0; i < v.list->n; i++)
                read_branch(r, path_item(r->scope, path, i), v.list->items[i], depth,
                            &step->branches[i]);
}

static bool says(struct value map, const char *name, const char *word)
{
        struct value v = member(map, name);

        return v.kind == VALUE_STRING && str_is(v.text, word);
}

/* for_each and sub_task: the one thing that is done for each item, or once. */
static void read_child(struct reader *r, struct str path, struct value p, int depth,
                       struct step_spec *step)
{
        struct value steps = member(p, "steps"), input = member(p, "input");
        struct branch_spec *b = arena_new(&r->scope->arena, struct branch_spec);

        step->branches = b;
        step->n_branches = 1;
        if (member(p, "referenced_task_id").kind == VALUE_STRING)
                b->reference = member(p, "referenced_task_id").text;
        if (input.kind != VALUE_NULL)
                b->input = input_template(r, at(r, path, "input"), input);
        if (steps.kind == VALUE_LIST)
                read_steps(r, at(r, path, "steps"), steps, depth + 1, &b->inline_steps);
}

static bool is_taken(struct str name)
{
        static const char *const taken[] = { "input", "steps", "last", "run", "task", "index" };

        for (size_t i = 0; i < LENGTH(taken); i++)
                if (str_is(name, taken[i]))
                        return true;
        return false;
}

static void read_control(struct reader *r, struct str path, struct value p, int depth,
                         struct step_spec *step)
{
        struct value v;

        step->join_any = says(p, "join", "any");
        step->wait_all = says(p, "on_failure", "wait_all");
        step->child_may_fail = says(p, "on_failure", "continue");
        if (step->action->kind == ACTION_PARALLEL)
                read_branches(r, at(r, path, "branches"), member(p, "branches"), depth, step);
        if (step->action->kind == ACTION_FOR_EACH || step->action->kind == ACTION_SUB_TASK)
                read_child(r, path, p, depth, step);
        if (step->action->kind == ACTION_FOR_EACH) {
                v = member(p, "as");
                step->as = v.kind == VALUE_STRING ? v.text : STR("item");
                if (!is_name(step->as, 64, "") || (step->as.p[0] >= '0' && step->as.p[0] <= '9'))
                        problem_add(r->problems, at(r, path, "as"), "type", NULL,
                                    "must be a name: letters, digits and _");
                else if (is_taken(step->as))
                        problem_add(r->problems, at(r, path, "as"), "duplicate", NULL,
                                    "is a name that expressions have already");
        }
        v = member(p, "condition");
        if (step->action->kind == ACTION_CONDITIONAL && v.kind == VALUE_STRING &&
            (expr_compile(r->scope, v.text, &step->condition) ||
             expr_check(r->scope, step->condition)))
                problem_from_fault(r, at(r, path, "condition"), "invalid_condition");
}

/* The parameters that are rendered: all but those that the structure was made of. */
static struct template *rendered_parameters(struct reader *r, struct str path,
                                            const struct action *action, struct value p)
{
        struct value kept = value_map_of(r->scope, p.map->n);

        for (const struct param *param = action->params; param->name; param++) {
                const struct value *v = value_member(p, str_from(param->name));

                if (v && param->type < PARAM_JOIN &&
                    (action->kind == ACTION_EFFECT || !str_is(str_from(param->name), "input")))
                        value_put(kept, str_from(param->name), *v);
        }
        return template_of(r, path, kept);
}

static struct str joined(struct scope *scope, struct str *names, size_t n)
{
        struct buf out = BUF_INIT(65536);
        struct str text = STR_NONE;

        qsort(names, n, sizeof(*names), text_compare);
        for (size_t i = 0; i < n; i++)
                buf_printf(&out, "%s" STR_FMT, i ? "," : "", STR_ARG(names[i]));
        if (n)
                text = str_dup(&scope->arena, buf_view(&out));
        buf_done(&out);
        return text;
}

static struct str capabilities_of(struct reader *r, struct str path, struct value map)
{
        struct value v = member(map, "required_capabilities");
        struct str sorted[32];
        size_t n = 0;

        if (v.kind == VALUE_NULL)
                return STR_NONE;
        path = at(r, path, "required_capabilities");
        if (v.kind != VALUE_LIST || v.list->n > LENGTH(sorted)) {
                problem_add(r->problems, path, "type", NULL, "must be a list of at most %zu names",
                            LENGTH(sorted));
                return STR_NONE;
        }
        for (size_t i = 0; i < v.list->n; i++) {
                struct value item = v.list->items[i];

                if (item.kind == VALUE_STRING && is_name(item.text, 64, "-.:/"))
                        sorted[n++] = item.text;
                else
                        problem_add(r->problems, path_item(r->scope, path, i), "type", NULL,
                                    "must be a name: letters, digits and _-.:/");
        }
        return joined(r->scope, sorted, n);
}

static void read_parameters(struct reader *r, struct str path, struct value step_map, int depth,
                            struct step_spec *step)
{
        struct value p = member(step_map, "parameters");

        path = at(r, path, "parameters");
        if (p.kind == VALUE_NULL)
                p = value_map_of(r->scope, 0);
        if (!is_map(r, path, p))
                return;
        parameters_check(r->problems, path, step->action, p, false);
        if (step->action->kind != ACTION_EFFECT)
                read_control(r, path, p, depth, step);
        step->parameters = rendered_parameters(r, path, step->action, p);
}

static void read_action(struct reader *r, struct str path, struct value map, struct step_spec *step)
{
        struct str name = text_of(r, path, map, "action", 64);

        if (!name.p) {
                if (member(map, "action").kind == VALUE_NULL)
                        problem_add(r->problems, at(r, path, "action"), "required",
                                    "for example action: execute_command",
                                    "a step needs an action");
                return;
        }
        step->action = action_find(name);
        if (!step->action)
                problem_add(r->problems, at(r, path, "action"), "unknown_action",
                            nearest_hint(r->scope, name, action_names.text),
                            "unknown action \"%.64s\"", str_c(&r->scope->arena, name));
}

/* First pass: what other steps of the list refer to. */
static void read_identity(struct reader *r, struct str path, struct value map,
                          struct step_list *list, struct step_spec *step)
{
        struct value index = member(map, "index");

        if (index.kind != VALUE_NULL && (index.kind != VALUE_INT || index.number != step->index))
                problem_add(r->problems, at(r, path, "index"), "index",
                            "leave the index out, or count from 0",
                            "is " STR_FMT ", but this is step %d of its list",
                            STR_ARG(value_dump(r->scope, index)), step->index);
        step->id = text_of(r, path, map, "id", 64);
        if (!step->id.p)
                step->id = arena_printf(&r->scope->arena, "step-%d", step->index);
        else if (!is_name(step->id, 64, "-"))
                problem_add(r->problems, at(r, path, "id"), "type", NULL,
                            "must be a name: letters, digits, _ and -");
        for (int i = 0; i < step->index; i++)
                if (str_eq(list->steps[i].id, step->id))
                        problem_add(r->problems, at(r, path, "id"), "duplicate", NULL,
                                    "step %d has the id \"" STR_FMT "\" already", i,
                                    STR_ARG(step->id));
}

static void read_on_error(struct reader *r, struct str path, struct value map,
                          const struct step_list *list, struct step_spec *step)
{
        struct value v = member(map, "on_error");

        if (v.kind == VALUE_NULL || says(map, "on_error", "fail"))
                return;
        if (says(map, "on_error", "continue")) {
                step->on_error = ON_ERROR_CONTINUE;
                return;
        }
        if (v.kind != VALUE_STRING && v.kind != VALUE_INT) {
                problem_add(r->problems, at(r, path, "on_error"), "type", NULL,
                            "must be fail, continue, or the index or id of a later step");
                return;
        }
        step->on_error = ON_ERROR_GOTO;
        step->on_error_target = target_of(r, at(r, path, "on_error"), v, list, step->index);
}

static void read_on_interrupt(struct reader *r, struct str path, struct value map,
                              struct step_spec *step)
{
        if (says(map, "on_interrupt", "fail"))
                step->on_interrupt = ON_INTERRUPT_FAIL;
        else if (member(map, "on_interrupt").kind != VALUE_NULL && !says(map, "on_interrupt", "rerun"))
                problem_add(r->problems, at(r, path, "on_interrupt"), "type", NULL,
                            "must be rerun or fail");
}

static void read_targets(struct reader *r, struct str path, struct value map,
                         const struct step_list *list, struct step_spec *step)
{
        struct value p = member(map, "parameters"), v;

        path = at(r, path, "parameters");
        v = member(p, "then_step_index");
        if (v.kind == VALUE_INT || v.kind == VALUE_STRING)
                step->then_index = target_of(r, at(r, path, "then_step_index"), v, list, step->index);
        v = member(p, "else_step_index");
        if (v.kind == VALUE_INT || v.kind == VALUE_STRING)
                step->else_index = target_of(r, at(r, path, "else_step_index"), v, list, step->index);
}

static void read_step(struct reader *r, struct str path, struct value map, int depth,
                      const struct step_list *list, struct step_spec *step)
{
        unknown_fields(r, path, map, step_fields);
        step->label = text_of(r, path, map, "label", 255);
        step->timeout_us = seconds_of(r, path, map) * US_PER_S;
        if (!retry_of(r, path, map, &step->retry).p)
                step->retry.max_attempts = 1;
        else if (!step->retry.max_attempts)
                step->retry.max_attempts = RETRY_ATTEMPTS;
        step->requires_approval = bool_of(r, path, map, "requires_approval");
        step->required_capabilities = capabilities_of(r, path, map);
        read_on_error(r, path, map, list, step);
        read_on_interrupt(r, path, map, step);
        read_action(r, path, map, step);
        if (!step->action)
                return;
        if (step->action->kind == ACTION_CONDITIONAL)
                read_targets(r, path, map, list, step);
        read_parameters(r, path, map, depth, step);
}

static void read_steps(struct reader *r, struct str path, struct value v, int depth,
                       struct step_list *out)
{
        if (v.kind != VALUE_LIST || !v.list->n || v.list->n > DEFINITION_MAX_STEPS) {
                problem_add(r->problems, path, v.kind == VALUE_NULL ? "required" : "type", NULL,
                            "must be a list of 1 to %d steps", DEFINITION_MAX_STEPS);
                return;
        }
        if (depth > DEFINITION_MAX_NESTING) {
                problem_add(r->problems, path, "limit", "move inner steps to a definition of their own",
                            "steps nest at most %d deep", DEFINITION_MAX_NESTING);
                return;
        }
        out->n = v.list->n;
        out->steps = arena_array(&r->scope->arena, struct step_spec, out->n);
        for (size_t i = 0; i < out->n; i++) {
                out->steps[i].index = (int)i;
                if (is_map(r, path_item(r->scope, path, i), v.list->items[i]))
                        read_identity(r, path_item(r->scope, path, i), v.list->items[i], out,
                                      &out->steps[i]);
        }
        for (size_t i = 0; i < out->n; i++)
                if (v.list->items[i].kind == VALUE_MAP)
                        read_step(r, path_item(r->scope, path, i), v.list->items[i], depth, out,
                                  &out->steps[i]);
}

/* ---- the document ---- */

static void read_name(struct reader *r, struct value map, struct str default_name,
                      struct definition *d)
{
        d->name = text_of(r, STR_NONE, map, "name", DEFINITION_MAX_NAME);
        if (member(map, "name").kind == VALUE_NULL)
                d->name = default_name;
        if (!d->name.p && member(map, "name").kind == VALUE_NULL)
                problem_add(r->problems, STR("name"), "required", NULL, "a definition needs a name");
        else if (d->name.p && (!is_name(d->name, DEFINITION_MAX_NAME, "-.") ||
                               str_starts(d->name, "def_")))
                problem_add(r->problems, STR("name"), "type", NULL,
                            "must be letters, digits, _ - and ., begin with a letter or digit, and"
                            " not with def_, as ids do");
}

/* config.steps is another place for steps. */
static struct value steps_of(struct reader *r, struct value map, struct str *path)
{
        struct value config = member(map, "config"), steps = member(map, "steps");

        *path = STR("steps");
        if (config.kind == VALUE_NULL)
                return steps;
        if (!is_map(r, STR("config"), config))
                return steps;
        unknown_fields(r, STR("config"), config, config_fields);
        if (steps.kind != VALUE_NULL) {
                problem_add(r->problems, STR("config.steps"), "duplicate", NULL,
                            "the steps stand under \"steps\" already");
                return steps;
        }
        *path = STR("config.steps");
        return member(config, "steps");
}

/* The document in one spelling: name first, steps on top. */
static struct value normalise(struct reader *r, struct value map, struct value steps,
                              const struct definition *d)
{
        struct value out = value_map_of(r->scope, map.map->n + 2);

        if (d->name.p)
                value_put(out, STR("name"), value_text(d->name));
        for (size_t i = 0; i < map.map->n; i++) {
                struct str key = map.map->entries[i].key.text;

                if (!str_is(key, "name") && !str_is(key, "steps") && !str_is(key, "config"))
                        value_put(out, key, map.map->entries[i].value);
        }
        value_put(out, STR("steps"), steps);
        return out;
}

/* Aliases of YAML may make the stored document larger than the one that was sent. */
static void check_size(struct reader *r, const struct definition *d)
{
        struct str text;
        size_t n;

        if (!value_dump_limited(r->scope, d->document, DEFINITION_MAX_BYTES, &text))
                problem_add(r->problems, STR_NONE, "limit", NULL,
                            "with its aliases written out the document has more than 1 MiB");
        definition_references(r->scope, d, &n);
        if (n > DEFINITION_MAX_REFERENCES)
                problem_add(r->problems, STR("steps"), "limit", NULL,
                            "refers to %zu definitions; at most %d", n, DEFINITION_MAX_REFERENCES);
}

static enum err first_problem(struct scope *scope, const struct problems *problems)
{
        const struct problem *p = problems->items;
        enum err code = str_is(p->code, "unknown_field")     ? ERR_UNKNOWN_FIELD :
                        str_is(p->code, "invalid_condition") ? ERR_INVALID_CONDITION :
                                                               ERR_VALIDATION;

        return fail_field(scope, str_c(&scope->arena, p->path), code,
                          STR_FMT ": " STR_FMT "%s" STR_FMT,
                          STR_ARG(p->path.n ? p->path : STR("document")), STR_ARG(p->message),
                          p->hint.p ? "; " : "", STR_ARG(p->hint));
}

static enum err read_text(struct scope *scope, struct str text, enum definition_format format,
                          struct value *out)
{
        if (text.n > DEFINITION_MAX_BYTES)
                return fail_limit(scope, "definition", ERR_TOO_LARGE, DEFINITION_MAX_BYTES,
                                  (int64_t)text.n, "bytes of a definition");
        return format == FORMAT_YAML ? yaml_read(scope, text, out) : value_read(scope, text, out);
}

enum err definition_parse(struct scope *scope, struct str text, enum definition_format format,
                          struct str default_name, struct definition **out,
                          struct problems *problems)
{
        struct reader r = { scope, problems };
        struct definition *d = arena_new(&scope->arena, struct definition);
        struct task_retry retry;
        struct value map, steps;
        struct str path;
        enum err e;

        *problems = (struct problems){ .scope = scope };
        *out = d;
        e = read_text(scope, text, format, &map);
        if (e) {
                struct str said = scope->fault.detail;

                problem_add(problems, STR(""), err_name(e), NULL, STR_FMT, STR_ARG(said));
                return e;
        }
        if (!is_map(&r, STR(""), map))
                return first_problem(scope, problems);
        unknown_fields(&r, STR_NONE, map, document_fields);
        read_name(&r, map, default_name, d);
        d->description = text_of(&r, STR_NONE, map, "description", 65536);
        d->input_schema = member(map, "input");
        if (d->input_schema.kind != VALUE_NULL)
                schema_check(problems, STR("input"), d->input_schema);
        d->timeout_seconds = seconds_of(&r, STR_NONE, map);
        d->retry = retry_of(&r, STR_NONE, map, &retry);
        d->review_policy = review_policy_of(&r, map);
        steps = steps_of(&r, map, &path);
        read_steps(&r, path, steps, 0, &d->steps);
        d->document = normalise(&r, map, steps, d);
        check_size(&r, d);
        return problems->n ? first_problem(scope, problems) : ERR_OK;
}

enum err definition_load(struct scope *scope, struct str document, struct definition **out)
{
        struct problems problems = { .scope = scope };

        return definition_parse(scope, document, FORMAT_JSON, STR_NONE, out, &problems);
}

/* ---- asking a definition ---- */

const struct step_list *definition_steps_at(const struct definition *d, struct str path)
{
        const struct step_list *list = &d->steps;

        while (path.n) {
                struct str rest, part = str_cut(path, '/', &rest), branch;
                struct str step = str_cut(part, '.', &branch);
                int64_t s, b;

                if (!str_to_int(step, &s) || !str_to_int(branch, &b) || s < 0 || b < 0 ||
                    (size_t)s >= list->n || (size_t)b >= list->steps[s].n_branches)
                        return NULL;
                list = &list->steps[s].branches[b].inline_steps;
                path = rest;
        }
        return list;
}

static size_t count_references(const struct step_list *list, struct str *out)
{
        size_t n = 0;

        for (size_t i = 0; i < list->n; i++)
                for (size_t b = 0; b < list->steps[i].n_branches; b++) {
                        const struct branch_spec *branch = &list->steps[i].branches[b];

                        if (branch->reference.p) {
                                if (out)
                                        out[n] = branch->reference;
                                n++;
                        }
                        n += count_references(&branch->inline_steps, out ? out + n : NULL);
                }
        return n;
}

struct str *definition_references(struct scope *scope, const struct definition *d, size_t *n)
{
        size_t all = count_references(&d->steps, NULL), kept = 0;
        struct str *found = arena_array(&scope->arena, struct str, all + 1);

        count_references(&d->steps, found);
        qsort(found, all, sizeof(*found), text_compare);
        for (size_t i = 0; i < all; i++)
                if (!kept || !str_eq(found[kept - 1], found[i]))
                        found[kept++] = found[i];
        *n = kept;
        return found;
}

struct names_found {
        struct str items[256];
        size_t n;
};

static void add_names(struct names_found *found, struct str list)
{
        while (list.n && found->n < LENGTH(found->items)) {
                struct str name = str_cut(list, ',', &list);
                size_t k = 0;

                while (k < found->n && !str_eq(found->items[k], name))
                        k++;
                if (k == found->n)
                        found->items[found->n++] = name;
        }
}

static void capabilities_of_steps(const struct step_list *list, struct names_found *found)
{
        for (size_t i = 0; i < list->n; i++) {
                add_names(found, list->steps[i].required_capabilities);
                for (size_t b = 0; b < list->steps[i].n_branches; b++)
                        capabilities_of_steps(&list->steps[i].branches[b].inline_steps, found);
        }
}

struct str definition_capabilities(struct scope *scope, const struct definition *d, struct str given)
{
        struct names_found found = { .n = 0 };

        add_names(&found, given);
        capabilities_of_steps(&d->steps, &found);
        return joined(scope, found.items, found.n);
}

enum err definition_input(struct scope *scope, const struct definition *d, struct str input,
                          struct str *out)
{
        struct value given = input.n ? value_from_text(scope, input) : value_map_of(scope, 0);
        struct value checked = given;
        enum err e = ERR_OK;

        if (given.kind != VALUE_MAP)
                return fail_field(scope, "input", ERR_VALIDATION, "input must be an object");
        if (d->input_schema.kind != VALUE_NULL)
                e = schema_apply(scope, d->input_schema, STR("input"), given, &checked);
        if (!e)
                *out = value_dump(scope, checked);
        return e;
}
