/* A definition as nodes and edges. */
#include "flow/definition.h"

struct drawing {
        struct scope *scope;
        struct json_out *j;
};

static struct str node_id(struct drawing *d, struct str prefix, const struct step_spec *s)
{
        return arena_printf(&d->scope->arena, STR_FMT "%s" STR_FMT, STR_ARG(prefix),
                            prefix.n ? "/" : "", STR_ARG(s->id));
}

static void node(struct drawing *d, struct str id, const struct step_spec *s, struct str parent)
{
        json_begin_object(d->j);
        json_key(d->j, "id");
        json_put_str(d->j, id);
        json_key(d->j, "index");
        json_put_int(d->j, s->index);
        json_key(d->j, "action");
        json_put_text(d->j, s->action->name);
        if (s->label.p) {
                json_key(d->j, "label");
                json_put_str(d->j, s->label);
        }
        if (parent.n) {
                json_key(d->j, "parent");
                json_put_str(d->j, parent);
        }
        json_end_object(d->j);
}

static void edge(struct drawing *d, struct str from, struct str to, const char *kind)
{
        json_begin_object(d->j);
        json_key(d->j, "from");
        json_put_str(d->j, from);
        json_key(d->j, "to");
        json_put_str(d->j, to);
        json_key(d->j, "kind");
        json_put_text(d->j, kind);
        json_end_object(d->j);
}

/* Where the steps of a branch are named: below their step, by branch. */
static struct str branch_prefix(struct drawing *d, struct str id, size_t branch)
{
        return arena_printf(&d->scope->arena, STR_FMT "/%zu", STR_ARG(id), branch);
}

static void nodes(struct drawing *d, const struct step_list *list, struct str prefix,
                  struct str parent)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct step_spec *s = &list->steps[i];
                struct str id = node_id(d, prefix, s);

                node(d, id, s, parent);
                for (size_t b = 0; b < s->n_branches; b++)
                        nodes(d, &s->branches[b].inline_steps, branch_prefix(d, id, b), id);
        }
}

static void edges(struct drawing *d, const struct step_list *list, struct str prefix)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct step_spec *s = &list->steps[i];
                struct str id = node_id(d, prefix, s);

                if (s->action->kind == ACTION_CONDITIONAL) {
                        edge(d, id, node_id(d, prefix, &list->steps[s->then_index]), "then");
                        edge(d, id, node_id(d, prefix, &list->steps[s->else_index]), "else");
                } else if (i + 1 < list->n) {
                        edge(d, id, node_id(d, prefix, &list->steps[i + 1]), "next");
                }
                if (s->on_error == ON_ERROR_GOTO)
                        edge(d, id, node_id(d, prefix, &list->steps[s->on_error_target]), "error");
                for (size_t b = 0; b < s->n_branches; b++) {
                        const struct branch_spec *branch = &s->branches[b];

                        if (branch->reference.p)
                                edge(d, id, branch->reference, "reference");
                        else
                                edge(d, id,
                                     node_id(d, branch_prefix(d, id, b),
                                             &branch->inline_steps.steps[0]),
                                     "branch");
                        edges(d, &branch->inline_steps, branch_prefix(d, id, b));
                }
        }
}

void definition_graph(struct scope *scope, struct json_out *j, const struct definition *definition)
{
        struct drawing d = { scope, j };

        json_begin_object(j);
        json_key(j, "nodes");
        json_begin_list(j);
        nodes(&d, &definition->steps, STR_NONE, STR_NONE);
        json_end_list(j);
        json_key(j, "edges");
        json_begin_list(j);
        edges(&d, &definition->steps, STR_NONE);
        json_end_list(j);
        json_end_object(j);
}

void definition_report(struct scope *scope, struct json_out *j, const struct problems *problems,
                       const struct definition *definition)
{
        json_begin_object(j);
        json_key(j, "valid");
        json_put_bool(j, problems->n == 0);
        json_key(j, "problems");
        json_begin_list(j);
        for (size_t i = 0; i < problems->n; i++)
                json_record(j, &problem_record, &problems->items[i]);
        json_end_list(j);
        if (definition) {
                json_key(j, "graph");
                definition_graph(scope, j, definition);
        }
        json_end_object(j);
}
