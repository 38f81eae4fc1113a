/*
 * Definitions: versioned templates of ordered steps, read from YAML or JSON and checked with
 * messages that name the step, the problem and the fix.  A parsed definition is immutable and lives
 * in the arena of the scope that parsed it.
 */
#ifndef BATON_FLOW_DEFINITION_H
#define BATON_FLOW_DEFINITION_H

#include "domain/retry.h"
#include "domain/task.h"
#include "flow/action.h"
#include "flow/problem.h"
#include "flow/template.h"

enum {
        DEFINITION_MAX_BYTES = 1048576,
        DEFINITION_MAX_STEPS = 100,     /* of one list */
        DEFINITION_MAX_BRANCHES = 1000, /* of one parallel or for_each */
        DEFINITION_MAX_NESTING = 8,     /* of step lists within step lists */
        DEFINITION_MAX_TIMEOUT = 31536000, /* seconds */
        DEFINITION_MAX_NAME = 128,
        DEFINITION_MAX_REFERENCES = 1000,
};

enum on_error { ON_ERROR_FAIL, ON_ERROR_CONTINUE, ON_ERROR_GOTO };
enum on_interrupt { ON_INTERRUPT_RERUN, ON_INTERRUPT_FAIL };

struct step_list {
        struct step_spec *steps;
        size_t n;
};

/* What a child run does: a referenced definition, or inline steps. */
struct branch_spec {
        struct str name;
        struct str reference;   /* id or name of a definition, or absent */
        struct template *input; /* for a referenced definition; NULL = {} */
        struct step_list inline_steps;
};

struct step_spec {
        int index; /* its place in the list */
        struct str id, label;
        const struct action *action;
        struct template *parameters; /* those that are rendered before use: a map */
        int64_t timeout_us;          /* 0 = none */
        struct task_retry retry;     /* max_attempts 1 unless given */
        enum on_error on_error;
        int on_error_target;
        enum on_interrupt on_interrupt;
        bool requires_approval;
        struct str required_capabilities; /* sorted "a,b", or absent */

        /* conditional */
        struct expr *condition;
        int then_index, else_index;
        /* parallel; for_each and sub_task have exactly one branch */
        struct branch_spec *branches;
        size_t n_branches;
        bool join_any;      /* else all */
        bool wait_all;      /* else fail fast */
        bool child_may_fail; /* sub_task: on_failure continue */
        struct str as;       /* for_each: name of the item */
};

struct definition {
        struct str name, description;
        struct value input_schema; /* null = anything */
        int64_t timeout_seconds;   /* of a whole run; 0 = none */
        struct str retry;          /* JSON, or absent = the defaults */
        int review_policy;         /* of its tasks: enum review_policy */
        struct step_list steps;
        struct value document; /* normalised, as stored and shown (`spec`) */
        void *entry;           /* where the cache keeps it */
};

enum definition_format { FORMAT_JSON, FORMAT_YAML };

/*
 * Reads and checks a document.  `default_name` (may be absent) is used when it has none.
 * ERR_INVALID_YAML, ERR_INVALID_JSON; ERR_VALIDATION, ERR_UNKNOWN_FIELD or ERR_INVALID_CONDITION
 * with the first problem as the fault.  *problems lists all of them in any case.
 */
enum err definition_parse(struct scope *, struct str text, enum definition_format,
                          struct str default_name, struct definition **out,
                          struct problems *problems) NODISCARD;
/* A document that was checked when it was stored. */
enum err definition_load(struct scope *, struct str document, struct definition **out) NODISCARD;

/* The step list of an inline branch: an absent path is the definition's own, "1.0" is branch 0 of
 * step 1, "1.0/2.3" deeper.  NULL when there is no such path. */
const struct step_list *definition_steps_at(const struct definition *, struct str path);

/* Every definition that the steps name, once each, in order. */
struct str *definition_references(struct scope *, const struct definition *, size_t *n);

/* What a worker must have for its steps and those of its inline branches: sorted "a,b" with those
 * given, or absent. */
struct str definition_capabilities(struct scope *, const struct definition *, struct str given);

/* Checks an input against the schema and fills in defaults: *out is the JSON to store. */
enum err definition_input(struct scope *, const struct definition *, struct str input,
                          struct str *out) NODISCARD;

/* Nodes and edges for drawing: {id,index,action,label?,parent?} and {from,to,kind}. */
struct definition_graph {
        struct list nodes, edges;
};
extern const struct record definition_graph_record;
struct definition_graph *definition_graph(struct scope *, const struct definition *);

/* What validation says; a document with problems may have no definition, and then no graph. */
struct definition_report {
        bool valid;
        struct list problems;
        struct definition_graph *graph;
};
extern const struct record definition_report_record;
struct definition_report *definition_report(struct scope *, const struct problems *,
                                            const struct definition *);

/* Checks values against the parameter table of an action: those that are constant when a document
 * is read, all of them (`rendered`) before they are used. */
void parameters_check(struct problems *, struct str path, const struct action *, struct value map,
                      bool rendered);

#endif
