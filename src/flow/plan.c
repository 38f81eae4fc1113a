#include "flow/plan.h"

#include <math.h>
#include <sodium.h>
#include <string.h>

#include "flow/environment.h"

struct planner {
        struct scope *scope;
        struct progress *p;
        struct plan *out;
        struct step_change *changes;
        size_t n, room;
        bool decided; /* the plan's move is known */
        struct environment env;
        size_t children_bytes; /* of what is handed to children in this plan */
};

/* ---- recording ---- */

static void change(struct planner *pl, const struct step_change *c)
{
        struct step *step = &pl->p->steps[c->index];

        if (pl->n == pl->room) {
                struct step_change *more = arena_array(&pl->scope->arena, struct step_change,
                                                       2 * pl->room + 8);

                if (pl->n)
                        memcpy(more, pl->changes, pl->n * sizeof(*more));
                pl->changes = more;
                pl->room = 2 * pl->room + 8;
        }
        pl->changes[pl->n++] = *c;
        step->status = c->status;
        step->attempt = c->attempt;
        if (c->input.p)
                step->input = c->input;
        step->output = c->output;
        step->error = c->error;
        environment_stale(&pl->env);
}

static struct step_change change_of(struct planner *pl, const struct step_spec *spec, int status)
{
        struct step *step = &pl->p->steps[spec->index];

        return (struct step_change){ .index = spec->index,
                                     .status = status,
                                     .attempt = step->attempt,
                                     .id = spec->id,
                                     .action = str_from(spec->action->name) };
}

static int64_t *at(struct planner *pl)
{
        return &pl->p->snapshot->run->current_step;
}

/* Goes on with a later step; what lies between is left out. */
static void go_to(struct planner *pl, int target)
{
        for (int i = (int)*at(pl) + 1; i < target; i++) {
                struct step_change c = change_of(pl, &pl->p->list->steps[i], STEP_SKIPPED);

                change(pl, &c);
        }
        *at(pl) = target;
}

static void decide(struct planner *pl, enum advance_move move)
{
        pl->out->advance.move = move;
        pl->decided = true;
}

static void fail_run(struct planner *pl, enum outcome outcome, struct str message)
{
        decide(pl, ADVANCE_FAIL);
        pl->out->advance.outcome = outcome;
        pl->out->advance.message = message;
}

static void sleep_for(struct planner *pl, int64_t us)
{
        decide(pl, ADVANCE_SLEEP);
        pl->out->advance.wake_in = us;
}

/* What is shown of a value that is too large to be kept. */
static struct str preview(struct scope *scope, struct value v, size_t limit)
{
        struct value short_form;
        struct str text;

        if (value_is_storable(scope, v, STORED_DEPTH) && value_dump_limited(scope, v, limit, &text))
                return text;
        short_form = value_map_of(scope, 2);
        value_put(short_form, STR("preview"), value_text(value_head(scope, v, PREVIEW_MAX)));
        value_put(short_form, STR("truncated"), value_bool(true));
        return value_dump(scope, short_form);
}

static struct str error_json(struct scope *scope, enum outcome kind, struct str message)
{
        struct value v = value_map_of(scope, 2);

        value_put(v, STR("kind"), value_text(str_from(outcome_names.text[kind])));
        value_put(v, STR("message"), value_text(message));
        return value_dump(scope, v);
}

/* ---- the end of a step ---- */

static void step_completed(struct planner *pl, const struct step_spec *spec, struct value output,
                           const struct performed *done, bool begins)
{
        struct step_change c = change_of(pl, spec, STEP_COMPLETED);

        c.begins = begins;
        c.checkpoint = spec->action->kind == ACTION_CHECKPOINT;
        c.sandbox = done ? done->sandbox : STR_NONE;
        if (output.kind != VALUE_NULL)
                c.output = value_dump(pl->scope, output);
        change(pl, &c);
        remember_output(pl->p, spec->index, output);
}

static void try_again(struct planner *pl, const struct step_spec *spec)
{
        struct step *step = &pl->p->steps[spec->index];
        unsigned char bytes[4];
        uint32_t random;
        int64_t delay;
        struct step_change c;

        scope_random(pl->scope, bytes, sizeof(bytes));
        memcpy(&random, bytes, sizeof(random));
        delay = retry_delay_us(&spec->retry, step->attempt, random / 4294967296.0);
        c = change_of(pl, spec, STEP_PENDING);
        c.attempt++;
        c.error = step->error;
        change(pl, &c);
        if (delay > 0)
                sleep_for(pl, delay);
}

static void step_failed(struct planner *pl, const struct step_spec *spec,
                        const struct performed *done, bool begins, bool may_retry)
{
        struct step_change c = change_of(pl, spec, STEP_FAILED);

        c.begins = begins;
        c.sandbox = done->sandbox;
        c.error = error_json(pl->scope, done->outcome, done->message);
        if (done->output.kind != VALUE_NULL)
                c.output = value_dump(pl->scope, done->output);
        change(pl, &c);
        remember_output(pl->p, spec->index, done->output);
        if (may_retry && outcome_is_retried(done->outcome) &&
            pl->p->steps[spec->index].attempt < spec->retry.max_attempts) {
                try_again(pl, spec);
                return;
        }
        if (spec->on_error == ON_ERROR_CONTINUE)
                *at(pl) = spec->index + 1;
        else if (spec->on_error == ON_ERROR_GOTO)
                go_to(pl, spec->on_error_target);
        else
                fail_run(pl, done->outcome,
                         arena_printf(&pl->scope->arena, "step %d (" STR_FMT ") failed: " STR_FMT,
                                      spec->index, STR_ARG(spec->id), STR_ARG(done->message)));
}

static void step_wrong(struct planner *pl, const struct step_spec *spec, enum outcome kind,
                       struct str message)
{
        struct performed done = { .outcome = kind, .message = message };

        step_failed(pl, spec, &done, true, true);
}

/* The fault that an evaluation left in the scope ends the step. */
static void step_fault(struct planner *pl, const struct step_spec *spec, const char *what)
{
        struct str detail = pl->scope->fault.detail;

        pl->scope->fault = (struct fault){ 0 };
        step_wrong(pl, spec, OUTCOME_CONDITION_ERROR,
                   arena_printf(&pl->scope->arena, "%s: " STR_FMT, what, STR_ARG(detail)));
}

/* An output that cannot be kept fails the step that made it. */
static const char *output_problem(struct scope *scope, struct value output)
{
        struct str text;

        if (!value_is_storable(scope, output, OUTPUT_DEPTH))
                return "the output nests deeper than 48, or two of its keys read the same";
        return value_dump_limited(scope, output, OUTPUT_MAX, &text) ?
                       NULL :
                       "the output is larger than 1 MiB";
}

static void settle(struct planner *pl, const struct step_spec *spec, const struct performed *done)
{
        const char *problem = output_problem(pl->scope, done->output);
        struct performed checked = *done;

        if (problem) {
                checked.output = (struct value){ .kind = VALUE_NULL };
                if (done->outcome == OUTCOME_OK) {
                        checked.outcome = OUTCOME_POLICY;
                        checked.message = str_from(problem);
                }
        }
        if (checked.outcome != OUTCOME_OK) {
                step_failed(pl, spec, &checked, false, true);
                return;
        }
        step_completed(pl, spec, checked.output, &checked, false);
        *at(pl) = spec->index + 1;
}

/* ---- the start of a step ---- */

static struct value param(struct value parameters, const char *name)
{
        const struct value *v = value_member(parameters, str_from(name));

        return v ? *v : (struct value){ .kind = VALUE_NULL };
}

static bool touches_files(const struct action *action)
{
        static const bool touch[ACTION_IDS] = {
                [ACTION_ID_execute_command] = true, [ACTION_ID_git_clone] = true,
                [ACTION_ID_git_pull] = true,        [ACTION_ID_read_file] = true,
                [ACTION_ID_write_file] = true,      [ACTION_ID_list_directory] = true,
                [ACTION_ID_create_directory] = true,
        };

        return touch[action->id];
}

static void begin_effect(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct step_change c = change_of(pl, spec, STEP_RUNNING);

        decide(pl, ADVANCE_GO_ON);
        if (pl->p->pausing || (pl->p->without_files && touches_files(spec->action)))
                return;
        c.begins = true;
        c.input = preview(pl->scope, parameters, INPUT_KEPT_MAX);
        change(pl, &c);
        pl->out->perform = spec;
        pl->out->parameters = parameters;
}

static void begin_waiting(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct step_change c = change_of(pl, spec, STEP_WAITING);

        c.begins = true;
        c.input = preview(pl->scope, parameters, INPUT_KEPT_MAX);
        change(pl, &c);
}

static void begin_conditional(struct planner *pl, const struct step_spec *spec, struct value unused)
{
        struct value holds, output;

        (void)unused;
        if (expr_eval(pl->scope, spec->condition, &pl->env.env, &holds)) {
                step_fault(pl, spec, "condition");
                return;
        }
        if (holds.kind != VALUE_BOOL) {
                step_wrong(pl, spec, OUTCOME_CONDITION_ERROR,
                           arena_printf(&pl->scope->arena,
                                        "condition: gives " STR_FMT ", not true or false",
                                        STR_ARG(preview(pl->scope, holds, 200))));
                return;
        }
        output = value_map_of(pl->scope, 2);
        value_put(output, STR("result"), holds);
        value_put(output, STR("next_step_index"),
                  value_int(holds.truth ? spec->then_index : spec->else_index));
        step_completed(pl, spec, output, NULL, true);
        go_to(pl, holds.truth ? spec->then_index : spec->else_index);
}

static struct str child_path(struct planner *pl, const struct step_spec *spec, size_t branch)
{
        struct str own = pl->p->snapshot->run->path;

        return arena_printf(&pl->scope->arena, STR_FMT "%s%d.%zu", STR_ARG(own), own.n ? "/" : "",
                            spec->index, branch);
}

/* Kept as JSON for a child: within bounds, for itself and with its siblings. */
static bool hand_over(struct planner *pl, const struct step_spec *spec, const char *what,
                      struct value v, size_t max, struct str *out)
{
        if (!value_is_storable(pl->scope, v, STORED_DEPTH) ||
            !value_dump_limited(pl->scope, v, max, out)) {
                step_wrong(pl, spec, OUTCOME_POLICY,
                           arena_printf(&pl->scope->arena,
                                        "%s: larger than %zu KiB, nested deeper than %d, or two keys"
                                        " read the same",
                                        what, max / 1024, STORED_DEPTH));
                return false;
        }
        pl->children_bytes += out->n;
        if (pl->children_bytes <= CHILDREN_MAX)
                return true;
        step_wrong(pl, spec, OUTCOME_POLICY,
                   STR("what the branches are given is larger than 8 MiB in all"));
        return false;
}

/* What one child does.  False: the step has failed. */
static bool make_child(struct planner *pl, const struct step_spec *spec, size_t branch,
                       int64_t index, struct value locals, struct child_spec *out)
{
        const struct branch_spec *b = &spec->branches[branch];
        struct value input;
        enum err e;

        *out = (struct child_spec){ .branch_index = index, .name = b->name };
        if (!b->reference.p) {
                out->path = child_path(pl, spec, branch);
                return locals.kind != VALUE_MAP ||
                       hand_over(pl, spec, "item", locals, LOCALS_MAX, &out->locals);
        }
        out->reference = b->reference;
        out->input = STR("{}");
        if (!b->input)
                return true;
        pl->env.locals = locals;
        e = template_render(pl->scope, b->input, &pl->env.env, &input);
        pl->env.locals = (struct value){ .kind = VALUE_NULL };
        if (e) {
                step_fault(pl, spec, "input");
                return false;
        }
        if (input.kind != VALUE_MAP) {
                step_wrong(pl, spec, OUTCOME_CONDITION_ERROR, STR("input: must be an object"));
                return false;
        }
        return hand_over(pl, spec, "input", input, INPUT_MAX, &out->input);
}

static void wait_for_children(struct planner *pl, const struct step_spec *spec,
                              struct value parameters, const struct child_spec *children, size_t n)
{
        struct advance *a = &pl->out->advance;
        struct value at_once = param(parameters, "max_concurrency");

        if (pl->p->snapshot->run->nesting >= NESTING_MAX) {
                step_wrong(pl, spec, OUTCOME_POLICY, STR("runs nest at most 8 deep"));
                return;
        }
        begin_waiting(pl, spec, parameters);
        decide(pl, ADVANCE_CHILDREN);
        a->children = children;
        a->n_children = n;
        a->join_any = spec->join_any;
        a->fail_fast = !spec->wait_all;
        a->subtask = spec->action->kind == ACTION_SUB_TASK;
        a->max_concurrency = at_once.kind == VALUE_INT ? at_once.number : 0;
        a->wake_in = spec->timeout_us;
}

static void begin_parallel(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct child_spec *children = arena_array(&pl->scope->arena, struct child_spec,
                                                  spec->n_branches);

        for (size_t i = 0; i < spec->n_branches; i++)
                if (!make_child(pl, spec, i, (int64_t)i, (struct value){ .kind = VALUE_NULL },
                                &children[i]))
                        return;
        wait_for_children(pl, spec, parameters, children, spec->n_branches);
}

static void begin_for_each(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct value items = param(parameters, "items");
        size_t n = items.kind == VALUE_LIST ? items.list->n : 0;
        struct child_spec *children = arena_array(&pl->scope->arena, struct child_spec, n + 1);

        if (!n) {
                struct value output = value_map_of(pl->scope, 1);

                value_put(output, STR("branches"), value_list_of(pl->scope, NULL, 0));
                step_completed(pl, spec, output, NULL, true);
                *at(pl) = spec->index + 1;
                return;
        }
        for (size_t i = 0; i < n; i++) {
                struct value locals = value_map_of(pl->scope, 2);

                value_put(locals, spec->as, items.list->items[i]);
                value_put(locals, STR("index"), value_int((int64_t)i));
                if (!make_child(pl, spec, 0, (int64_t)i, locals, &children[i]))
                        return;
        }
        wait_for_children(pl, spec, parameters, children, n);
}

static void begin_sub_task(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct child_spec *child = arena_new(&pl->scope->arena, struct child_spec);
        struct value shown = value_map_of(pl->scope, 2);

        (void)parameters; /* nothing of them is rendered but the child's input */
        if (!make_child(pl, spec, 0, 0, (struct value){ .kind = VALUE_NULL }, child))
                return;
        value_put(shown, STR("referenced_task_id"), value_text(child->reference));
        value_put(shown, STR("input"), value_from_text(pl->scope, child->input));
        wait_for_children(pl, spec, shown, child, 1);
}

static void ask(struct planner *pl, const struct step_spec *spec, const struct approval_spec *what)
{
        decide(pl, ADVANCE_APPROVAL);
        pl->out->advance.approval = *what;
        pl->out->advance.wake_in = spec->timeout_us;
}

enum { APPROVAL_SECONDS = 86400 };

static void begin_approval(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        struct value risk = param(parameters, "risk_level");
        struct value expires = param(parameters, "expires_in_seconds");

        const struct approval_spec what = {
                .message = param(parameters, "message").text,
                .risk_level = risk.kind == VALUE_STRING ? names_find(&risk_level_names, risk.text) :
                                                          RISK_MEDIUM,
                .expires_in_seconds = expires.kind == VALUE_INT ? expires.number : APPROVAL_SECONDS,
        };

        begin_waiting(pl, spec, parameters);
        ask(pl, spec, &what);
}

static void begin_wait_input(struct planner *pl, const struct step_spec *spec,
                             struct value parameters)
{
        struct value expires = param(parameters, "expires_in_seconds");
        struct value name = param(parameters, "name");
        int64_t us = expires.kind == VALUE_INT ? expires.number * US_PER_S : 0;

        begin_waiting(pl, spec, parameters);
        decide(pl, ADVANCE_INPUT);
        if (name.kind == VALUE_STRING)
                pl->out->advance.input_name = name.text;
        pl->out->advance.wake_in = us && (!spec->timeout_us || us < spec->timeout_us) ?
                                           us :
                                           spec->timeout_us;
}

static double number_of(struct value v)
{
        return v.kind == VALUE_INT ? (double)v.number : v.real;
}

static void begin_delay(struct planner *pl, const struct step_spec *spec, struct value parameters)
{
        int64_t us = llround(number_of(param(parameters, "seconds")) * 1e6);

        if (us <= 0) {
                step_completed(pl, spec, parameters, NULL, true);
                *at(pl) = spec->index + 1;
                return;
        }
        begin_waiting(pl, spec, parameters);
        sleep_for(pl, spec->timeout_us && spec->timeout_us < us ? spec->timeout_us : us);
}

static void begin_checkpoint(struct planner *pl, const struct step_spec *spec,
                             struct value parameters)
{
        struct value output = value_map_of(pl->scope, 2);
        struct value states = value_map_of(pl->scope, (size_t)spec->index + 1);
        struct value label = param(parameters, "label");

        for (int i = 0; i < spec->index; i++)
                value_put(states, pl->p->list->steps[i].id,
                          value_text(str_from(step_status_names.text[pl->p->steps[i].status])));
        if (label.kind == VALUE_STRING)
                value_put(output, STR("label"), label);
        value_put(output, STR("steps"), states);
        step_completed(pl, spec, output, NULL, true);
        *at(pl) = spec->index + 1;
}

static bool has_all(struct str have, struct str need)
{
        while (need.n) {
                struct str name = str_cut(need, ',', &need), rest = have;
                bool found = false;

                while (rest.n && !found)
                        found = str_eq(str_cut(rest, ',', &rest), name);
                if (!found)
                        return false;
        }
        return true;
}

/* Rendered against the table of the action; a problem fails the step. */
static bool render(struct planner *pl, const struct step_spec *spec, struct value *out)
{
        struct problems problems = { .scope = pl->scope };

        if (template_render(pl->scope, spec->parameters, &pl->env.env, out)) {
                step_fault(pl, spec, "parameters");
                return false;
        }
        parameters_check(&problems, STR("parameters"), spec->action, *out, true);
        if (!problems.n)
                return true;
        step_wrong(pl, spec, OUTCOME_CONDITION_ERROR,
                   arena_printf(&pl->scope->arena, STR_FMT ": " STR_FMT,
                                STR_ARG(problems.items[0].path), STR_ARG(problems.items[0].message)));
        return false;
}

typedef void begin_action(struct planner *, const struct step_spec *, struct value parameters);
static begin_action *const begin_by_kind[] = {
        [ACTION_EFFECT] = begin_effect,     [ACTION_CONDITIONAL] = begin_conditional,
        [ACTION_PARALLEL] = begin_parallel, [ACTION_FOR_EACH] = begin_for_each,
        [ACTION_SUB_TASK] = begin_sub_task, [ACTION_APPROVAL] = begin_approval,
        [ACTION_DELAY] = begin_delay,       [ACTION_CHECKPOINT] = begin_checkpoint,
        [ACTION_INPUT] = begin_wait_input,
};

/* Whether this worker can perform the step at all. */
static bool is_able(struct planner *pl, const struct step_spec *spec)
{
        if (!spec->action->landed)
                step_wrong(pl, spec, OUTCOME_NO_PROVIDER,
                           arena_printf(&pl->scope->arena, "no provider for %s is configured",
                                        spec->action->name));
        else if (!has_all(pl->p->capabilities, spec->required_capabilities))
                step_wrong(pl, spec, OUTCOME_NO_PROVIDER,
                           arena_printf(&pl->scope->arena,
                                        "this worker lacks one of the capabilities " STR_FMT,
                                        STR_ARG(spec->required_capabilities)));
        else
                return true;
        return false;
}

static void begin(struct planner *pl, const struct step_spec *spec)
{
        struct value parameters;

        if (is_able(pl, spec) && render(pl, spec, &parameters))
                begin_by_kind[spec->action->kind](pl, spec, parameters);
}

/* SHA-256 of action and rendered parameters: what a person allowed. */
static struct str digest_of(struct scope *scope, const struct step_spec *spec,
                            struct value parameters)
{
        struct str text = arena_printf(&scope->arena, "%s " STR_FMT, spec->action->name,
                                       STR_ARG(value_dump(scope, parameters)));
        unsigned char digest[crypto_hash_sha256_BYTES];
        char *hex = arena_alloc(&scope->arena, 2 * sizeof(digest) + 1, 1);

        crypto_hash_sha256(digest, (const unsigned char *)text.p, text.n);
        sodium_bin2hex(hex, 2 * sizeof(digest) + 1, digest, sizeof(digest));
        return str_from(hex);
}

/* Before the first attempt of a step that a person must allow.  It has no input yet: that is how
 * this wait is told from the step's own. */
static void ask_first(struct planner *pl, const struct step_spec *spec)
{
        struct step_change c = change_of(pl, spec, STEP_WAITING);
        struct approval_spec what = { .risk_level = RISK_MEDIUM,
                                      .expires_in_seconds = APPROVAL_SECONDS };
        struct value parameters;

        if (!is_able(pl, spec) || !render(pl, spec, &parameters))
                return;
        what.arguments_digest = digest_of(pl->scope, spec, parameters);
        what.message = arena_printf(&pl->scope->arena, "run step %d (" STR_FMT "): %s%s" STR_FMT,
                                    spec->index, STR_ARG(spec->id), spec->action->name,
                                    spec->label.p ? ", " : "", STR_ARG(spec->label));
        change(pl, &c);
        ask(pl, spec, &what);
}

/* What was allowed is what is done, or nothing is. */
static void begin_allowed(struct planner *pl, const struct step_spec *spec)
{
        struct value parameters;

        if (!is_able(pl, spec) || !render(pl, spec, &parameters))
                return;
        if (str_eq(digest_of(pl->scope, spec, parameters),
                   pl->p->snapshot->approval->arguments_digest))
                begin_by_kind[spec->action->kind](pl, spec, parameters);
        else
                step_wrong(pl, spec, OUTCOME_POLICY,
                           STR("its parameters are not those that were approved"));
}

/* ---- the end of a wait ---- */

static struct value decision_of(struct scope *scope, const struct approval *approval)
{
        struct value v = value_map_of(scope, 2);

        value_put(v, STR("decision"),
                  value_text(approval->status == APPROVAL_YES     ? STR("approve") :
                             approval->status == APPROVAL_EXPIRED ? STR("expired") :
                                                                    STR("deny")));
        if (approval->comment.p)
                value_put(v, STR("comment"), value_text(approval->comment));
        return v;
}

/* Woken by its time-out: what it waits for has not come.  Children that still run are canceled. */
static struct performed waited_too_long(struct planner *pl, const struct step_spec *spec)
{
        pl->out->advance.cancel_children = true;
        return (struct performed){
                .outcome = OUTCOME_TIMED_OUT,
                .message = arena_printf(&pl->scope->arena, "no end within %lld s",
                                        (long long)(spec->timeout_us / US_PER_S)),
        };
}

static struct performed decided(struct planner *pl, const struct step_spec *spec)
{
        const struct approval *approval = pl->p->snapshot->approval;
        struct performed done = { .outcome = OUTCOME_OK };

        if (approval->status == APPROVAL_OPEN)
                return waited_too_long(pl, spec);
        done.output = decision_of(pl->scope, approval);
        if (approval->status == APPROVAL_YES)
                return done;
        done.outcome = approval->status == APPROVAL_EXPIRED ? OUTCOME_APPROVAL_EXPIRED :
                                                              OUTCOME_APPROVAL_DENIED;
        done.message = approval->status == APPROVAL_EXPIRED ? STR("nobody decided in time") :
                       approval->comment.p ? arena_printf(&pl->scope->arena, "denied: " STR_FMT,
                                                          STR_ARG(approval->comment)) :
                                             STR("denied");
        return done;
}

static struct value child_value(struct scope *scope, const struct child_result *child)
{
        struct value v = value_map_of(scope, 6);
        char id[ID_TEXT_SIZE];

        id_print("run", child->id, id);
        value_put(v, STR("index"), value_int(child->branch_index));
        if (child->branch_name.p)
                value_put(v, STR("name"), value_text(child->branch_name));
        value_put(v, STR("run_id"), value_text(str_dup(&scope->arena, str_from(id))));
        value_put(v, STR("status"), value_text(str_from(run_status_names.text[child->status])));
        if (child->error.p)
                value_put(v, STR("error"), value_text(child->error));
        if (child->result.p)
                value_put(v, STR("output"), value_from_text(scope, child->result));
        return v;
}

/* {branches:[…]} in branch order. */
static struct value branches_of(struct scope *scope, const struct list *children)
{
        const struct child_result *child = children->items;
        struct value *items = arena_array(&scope->arena, struct value, children->n + 1);
        struct value out = value_map_of(scope, 1);

        for (size_t i = 0; i < children->n; i++)
                items[i] = child_value(scope, &child[i]);
        value_put(out, STR("branches"), value_list_of(scope, items, children->n));
        return out;
}

/* Why a join failed: a failure before a cancelation, which often only follows from it; of several
 * the one that came first. */
static bool is_worse(const struct child_result *a, const struct child_result *b)
{
        if ((a->status == RUN_CANCELED) != (b->status == RUN_CANCELED))
                return b->status == RUN_CANCELED;
        return a->ended_at < b->ended_at;
}

static struct performed joined(struct planner *pl, const struct step_spec *spec)
{
        const struct list *children = &pl->p->snapshot->children;
        const struct child_result *child = children->items, *bad = NULL;
        struct performed done = { .outcome = OUTCOME_OK };
        size_t completed = 0, open = 0;

        for (size_t i = 0; i < children->n; i++) {
                completed += child[i].status == RUN_COMPLETED;
                open += !run_is_terminal(child[i].status);
                if (child[i].status != RUN_COMPLETED && (!bad || is_worse(&child[i], bad)))
                        bad = &child[i];
        }
        if (open)
                return waited_too_long(pl, spec);
        done.output = branches_of(pl->scope, children);
        if (!bad || (spec->join_any && completed))
                return done;
        done.outcome = bad->failure_kind > OUTCOME_OK ? (enum outcome)bad->failure_kind :
                       bad->status == RUN_TIMED_OUT   ? OUTCOME_TIMED_OUT :
                                                        OUTCOME_FAILED;
        done.message = arena_printf(&pl->scope->arena, "branch %lld%s" STR_FMT "%s %s%s" STR_FMT,
                                    (long long)bad->branch_index, bad->branch_name.p ? " (" : "",
                                    STR_ARG(bad->branch_name), bad->branch_name.p ? ")" : "",
                                    run_status_names.text[bad->status], bad->error.p ? ": " : "",
                                    STR_ARG(bad->error));
        return done;
}

static struct performed sub_task_ended(struct planner *pl, const struct step_spec *spec)
{
        const struct child_result *child = pl->p->snapshot->children.items;
        struct performed done = { .outcome = OUTCOME_OK };

        if (!pl->p->snapshot->children.n) {
                done.outcome = OUTCOME_FAILED;
                done.message = STR("the sub-task's run is not there any more");
                return done;
        }
        if (!run_is_terminal(child->status))
                return waited_too_long(pl, spec);
        if (child->status == RUN_COMPLETED) {
                done.output = value_from_text(pl->scope, child->result);
                return done;
        }
        done.output = child_value(pl->scope, child);
        if (spec->child_may_fail)
                return done;
        done.outcome = child->failure_kind > OUTCOME_OK ? (enum outcome)child->failure_kind :
                                                          OUTCOME_FAILED;
        done.message = arena_printf(&pl->scope->arena, "the sub-task %s%s" STR_FMT,
                                    run_status_names.text[child->status], child->error.p ? ": " : "",
                                    STR_ARG(child->error));
        return done;
}

static struct performed answered(struct planner *pl)
{
        const struct input *input = pl->p->snapshot->input;
        struct performed done = { .outcome = OUTCOME_OK };
        char id[ID_TEXT_SIZE];

        if (!input) {
                done.outcome = OUTCOME_TIMED_OUT;
                done.message = STR("nobody sent an input in time");
                return done;
        }
        id_print("input", input->id, id);
        done.output = value_map_of(pl->scope, 5);
        value_put(done.output, STR("input_id"),
                  value_text(str_dup(&pl->scope->arena, str_from(id))));
        if (input->name.p)
                value_put(done.output, STR("name"), value_text(input->name));
        if (input->message.p)
                value_put(done.output, STR("message"), value_text(input->message));
        if (input->data.p)
                value_put(done.output, STR("data"), value_from_text(pl->scope, input->data));
        value_put(done.output, STR("sent_by"), value_text(input->sent_by));
        return done;
}

static struct performed slept(struct planner *pl, const struct step_spec *spec)
{
        struct performed done = { .outcome = OUTCOME_OK };

        done.output = value_from_text(pl->scope, pl->p->steps[spec->index].input);
        if (spec->timeout_us &&
            number_of(param(done.output, "seconds")) * 1e6 > (double)spec->timeout_us)
                return waited_too_long(pl, spec);
        return done;
}

static void resume(struct planner *pl, const struct step_spec *spec)
{
        struct step *step = &pl->p->steps[spec->index];
        struct performed done = { .outcome = OUTCOME_OK };

        if (!step->input.p && pl->p->snapshot->approval) { /* asked first */
                done = decided(pl, spec);
                if (done.outcome == OUTCOME_OK)
                        begin_allowed(pl, spec);
                else
                        settle(pl, spec, &done);
                return;
        }
        if (spec->action->kind == ACTION_APPROVAL && pl->p->snapshot->approval)
                done = decided(pl, spec);
        else if (spec->action->kind == ACTION_INPUT)
                done = answered(pl);
        else if (spec->action->kind == ACTION_SUB_TASK)
                done = sub_task_ended(pl, spec);
        else if (spec->action->kind == ACTION_PARALLEL || spec->action->kind == ACTION_FOR_EACH)
                done = joined(pl, spec);
        else
                done = slept(pl, spec);
        settle(pl, spec, &done);
}

/* A worker began the step and was lost. */
static void interrupted(struct planner *pl, const struct step_spec *spec)
{
        struct performed done = {
                .outcome = OUTCOME_POLICY,
                .message = STR("it was interrupted while it ran, and its on_interrupt is fail"),
        };

        if (spec->on_interrupt == ON_INTERRUPT_RERUN)
                begin(pl, spec);
        else
                step_failed(pl, spec, &done, false, false);
}

/* ---- the loop ---- */

static void complete(struct planner *pl)
{
        struct value result = last_output(pl->scope, pl->p, (int64_t)pl->p->list->n);

        decide(pl, ADVANCE_COMPLETE);
        if (result.kind != VALUE_NULL)
                pl->out->advance.result = value_dump(pl->scope, result);
}

static void next(struct planner *pl)
{
        const struct step_spec *spec;
        struct step *step;

        if (*at(pl) >= (int64_t)pl->p->list->n) {
                complete(pl);
                return;
        }
        spec = &pl->p->list->steps[*at(pl)];
        step = &pl->p->steps[spec->index];
        if (step->status == STEP_WAITING)
                resume(pl, spec);
        else if (step->status == STEP_RUNNING)
                interrupted(pl, spec);
        else if (step->status == STEP_PENDING && spec->requires_approval && step->attempt == 1)
                ask_first(pl, spec);
        else if (step->status == STEP_PENDING)
                begin(pl, spec);
        else
                ++*at(pl);
}

static void start(struct planner *pl, struct scope *scope, struct progress *p, struct plan *out)
{
        *out = (struct plan){ .advance = { .run_id = p->snapshot->run->id,
                                           .revision = p->snapshot->run->revision,
                                           .known = p->snapshot->run,
                                           .timeout_seconds = p->snapshot->n_frames == 1 ?
                                                                      p->definition->timeout_seconds :
                                                                      0 } };
        /* Attempts of a root run are the task's matter, those of a branch its parent's. */
        if (p->snapshot->run->kind != RUN_ROOT && p->snapshot->n_frames == 1 &&
            p->definition->retry.p) {
                if (retry_parse(scope, p->definition->retry, &out->advance.retry))
                        scope->fault = (struct fault){ 0 };
                else if (!out->advance.retry.max_attempts)
                        out->advance.retry.max_attempts = RETRY_ATTEMPTS;
        }
        *pl = (struct planner){ .scope = scope, .p = p, .out = out };
        environment_init(&pl->env, p, scope->now);
}

static void finish(struct planner *pl)
{
        while (!pl->decided)
                next(pl);
        pl->out->advance.at = *at(pl);
        pl->out->advance.steps = pl->changes;
        pl->out->advance.n_steps = pl->n;
}

void plan_next(struct scope *scope, struct progress *p, const struct performed *done,
               struct plan *out)
{
        struct planner pl;

        start(&pl, scope, p, out);
        memcpy(p->before, p->steps, p->list->n * sizeof(*p->steps));
        if (done)
                settle(&pl, &p->list->steps[p->snapshot->run->current_step], done);
        finish(&pl);
}

void plan_refused(struct scope *scope, struct progress *p, struct str why, struct plan *plan)
{
        const struct advance old = plan->advance;
        int64_t index = p->snapshot->run->current_step;
        struct performed done = { .outcome = OUTCOME_POLICY, .message = why };
        struct planner pl;

        start(&pl, scope, p, plan);
        plan->advance.cancel_children = old.cancel_children;
        forget_output(p, index);
        p->steps[index] = p->before[index];
        for (size_t i = 0; i < old.n_steps; i++)
                if (old.steps[i].index != index)
                        change(&pl, &old.steps[i]);
        step_failed(&pl, &p->list->steps[index], &done, true, false);
        finish(&pl);
}

enum err progress_init(struct scope *scope, const struct definition *definition,
                       struct snapshot *snapshot, struct progress *out)
{
        const struct snapshot_frame *own = &snapshot->frames[snapshot->n_frames - 1];
        const struct step *recorded = own->steps.items;
        struct str input;
        enum err e;

        *out = (struct progress){ .definition = definition,
                                  .list = definition_steps_at(definition, snapshot->run->path),
                                  .snapshot = snapshot };
        if (!out->list || !out->list->n)
                return fail(scope, ERR_VALIDATION, "the definition has no steps at \"" STR_FMT "\"",
                            STR_ARG(snapshot->run->path));
        e = definition_input(scope, definition, snapshot->frames[0].run.input, &input);
        if (e)
                return e;
        out->input = value_from_text(scope, input);
        out->steps = arena_array(&scope->arena, struct step, out->list->n);
        out->before = arena_array(&scope->arena, struct step, out->list->n);
        out->outputs = arena_array(&scope->arena, struct known_output, out->list->n);
        for (size_t i = 0; i < out->list->n; i++)
                out->steps[i] = (struct step){ .run_id = snapshot->run->id,
                                               .index = (int64_t)i,
                                               .attempt = 1 };
        for (size_t i = 0; i < own->steps.n; i++)
                if (recorded[i].index < (int64_t)out->list->n)
                        out->steps[recorded[i].index] = recorded[i];
        return ERR_OK;
}
