/* A definition as nodes and edges. */
#include "flow/definition.h"

struct node {
        struct str id, action, label, parent;
        int64_t index;
};
struct edge {
        struct str from, to;
        int kind;
};
enum edge_kind { EDGE_NEXT, EDGE_THEN, EDGE_ELSE, EDGE_ERROR, EDGE_BRANCH, EDGE_REFERENCE };
static const char *const edge_kinds[] = { "next",   "then",      "else", "error",
                                          "branch", "reference", NULL };
static const struct names edge_kind_names = { edge_kinds, NULL };

enum { GIVEN = FIELD_WIRE | FIELD_REQUIRED, SHOWN = FIELD_WIRE | FIELD_ALWAYS };
#define AT(member) offsetof(struct node, member)
static const struct field node_fields[] = {
        { "id", FIELD_STR, GIVEN, AT(id), .doc = "the step's, below those that it is a branch of" },
        { "index", FIELD_INT, SHOWN, AT(index) },
        { "action", FIELD_STR, GIVEN, AT(action) },
        { "label", FIELD_STR, FIELD_WIRE, AT(label) },
        { "parent", FIELD_STR, FIELD_WIRE, AT(parent) },
};
static const struct record node_record = { "GraphNode", node_fields, LENGTH(node_fields),
                                           sizeof(struct node), -1 };
#undef AT
#define AT(member) offsetof(struct edge, member)
static const struct field edge_fields[] = {
        { "from", FIELD_STR, GIVEN, AT(from) },
        { "to", FIELD_STR, GIVEN, AT(to) },
        { "kind", FIELD_ENUM, FIELD_WIRE, AT(kind), &edge_kind_names },
};
static const struct record edge_record = { "GraphEdge", edge_fields, LENGTH(edge_fields),
                                           sizeof(struct edge), -1 };
static const struct field graph_fields[] = {
        { "nodes", FIELD_LIST, SHOWN, offsetof(struct definition_graph, nodes), &node_record },
        { "edges", FIELD_LIST, SHOWN, offsetof(struct definition_graph, edges), &edge_record },
};
const struct record definition_graph_record = { "Graph", graph_fields, LENGTH(graph_fields),
                                                sizeof(struct definition_graph), -1 };
#undef AT
#define AT(member) offsetof(struct definition_report, member)
static const struct field report_fields[] = {
        { "valid", FIELD_BOOL, SHOWN, AT(valid) },
        { "problems", FIELD_LIST, SHOWN, AT(problems), &definition_problem_record },
        { "graph", FIELD_RECORD, FIELD_WIRE, AT(graph), &definition_graph_record },
};
const struct record definition_report_record = { "Validation", report_fields, LENGTH(report_fields),
                                                 sizeof(struct definition_report), -1 };

struct drawing {
        struct scope *scope;
        struct definition_graph *graph;
};

/* Steps of the list and of the branches in it. */
static size_t count(const struct step_list *list)
{
        size_t n = list->n;

        for (size_t i = 0; i < list->n; i++)
                for (size_t b = 0; b < list->steps[i].n_branches; b++)
                        n += count(&list->steps[i].branches[b].inline_steps);
        return n;
}

/* The most edges that its steps have: two on, one to a handler, one into each branch. */
static size_t count_edges(const struct step_list *list)
{
        size_t n = 3 * list->n;

        for (size_t i = 0; i < list->n; i++)
                for (size_t b = 0; b < list->steps[i].n_branches; b++)
                        n += 1 + count_edges(&list->steps[i].branches[b].inline_steps);
        return n;
}

static struct str node_id(struct drawing *d, struct str prefix, const struct step_spec *s)
{
        return arena_printf(&d->scope->arena, STR_FMT "%s" STR_FMT, STR_ARG(prefix),
                            prefix.n ? "/" : "", STR_ARG(s->id));
}

static void edge(struct drawing *d, struct str from, struct str to, enum edge_kind kind)
{
        struct list *edges = &d->graph->edges;

        ((struct edge *)edges->items)[edges->n++] = (struct edge){ from, to, (int)kind };
}

/* Where the steps of a branch are named: below their step, by branch. */
static struct str branch_prefix(struct drawing *d, struct str id, size_t branch)
{
        return arena_printf(&d->scope->arena, STR_FMT "/%zu", STR_ARG(id), branch);
}

static void nodes(struct drawing *d, const struct step_list *list, struct str prefix,
                  struct str parent)
{
        struct list *out = &d->graph->nodes;

        for (size_t i = 0; i < list->n; i++) {
                const struct step_spec *s = &list->steps[i];
                struct str id = node_id(d, prefix, s);

                ((struct node *)out->items)[out->n++] =
                        (struct node){ .id = id,
                                       .index = s->index,
                                       .action = str_from(s->action->name),
                                       .label = s->label,
                                       .parent = parent };
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
                        edge(d, id, node_id(d, prefix, &list->steps[s->then_index]), EDGE_THEN);
                        edge(d, id, node_id(d, prefix, &list->steps[s->else_index]), EDGE_ELSE);
                } else if (i + 1 < list->n) {
                        edge(d, id, node_id(d, prefix, &list->steps[i + 1]), EDGE_NEXT);
                }
                if (s->on_error == ON_ERROR_GOTO)
                        edge(d, id, node_id(d, prefix, &list->steps[s->on_error_target]),
                             EDGE_ERROR);
                for (size_t b = 0; b < s->n_branches; b++) {
                        const struct branch_spec *branch = &s->branches[b];

                        if (branch->reference.p)
                                edge(d, id, branch->reference, EDGE_REFERENCE);
                        else
                                edge(d, id,
                                     node_id(d, branch_prefix(d, id, b),
                                             &branch->inline_steps.steps[0]),
                                     EDGE_BRANCH);
                        edges(d, &branch->inline_steps, branch_prefix(d, id, b));
                }
        }
}

struct definition_graph *definition_graph(struct scope *scope, const struct definition *definition)
{
        const struct step_list *steps = &definition->steps;
        struct definition_graph *graph = arena_new(&scope->arena, struct definition_graph);
        struct drawing d = { scope, graph };

        graph->nodes.items = arena_array(&scope->arena, struct node, count(steps));
        graph->edges.items = arena_array(&scope->arena, struct edge, count_edges(steps));
        nodes(&d, steps, STR_NONE, STR_NONE);
        edges(&d, steps, STR_NONE);
        return graph;
}

struct definition_report *definition_report(struct scope *scope, const struct problems *problems,
                                            const struct definition *definition)
{
        struct definition_report *report = arena_new(&scope->arena, struct definition_report);

        report->valid = problems->n == 0;
        report->problems = (struct list){ problems->items, problems->n };
        report->graph = definition ? definition_graph(scope, definition) : NULL;
        return report;
}
