/*
 * Definitions: versioned templates of ordered steps, read from YAML or JSON, validated with messages
 * that name the step, the problem and the fix.  A parsed definition is immutable and lives in the
 * arena of the scope that parsed it.
 */
#ifndef BATON_FLOW_DEFINITION_H
#define BATON_FLOW_DEFINITION_H

#include "domain/outcome.h"
#include "flow/expr/expr.h"

enum {
        DEFINITION_MAX_BYTES = 1048576,
        DEFINITION_MAX_STEPS = 100,     /* of one list */
        DEFINITION_MAX_BRANCHES = 1000, /* of one parallel or for_each */
        DEFINITION_MAX_NESTING = 8,
};

enum on_error { ON_ERROR_FAIL, ON_ERROR_CONTINUE, ON_ERROR_GOTO };
enum on_interrupt { ON_INTERRUPT_RERUN, ON_INTERRUPT_FAIL };

struct retry_policy {
        int max_attempts; /* 1 = never again */
        int64_t delay_ms, max_delay_ms;
        double backoff; /* factor per attempt, 1 = constant */
        double jitter;  /* 0..1, share of the delay that is random */
};

struct action; /* a row of the action table (flow/action.h) */

struct step_list {
        struct step_spec *steps;
        size_t n;
};

struct branch_spec {
        struct str name;
        struct str reference; /* referenced definition (id or name), else inline */
        struct step_list inline_steps;
        struct str input; /* JSON template for a referenced definition, or absent */
};

struct step_spec {
        int index;
        struct str id, label;
        const struct action *action;
        json_t *parameters; /* as written; strings may hold ${{ }} */
        int64_t timeout_us; /* 0 = none */
        struct retry_policy retry;
        enum on_error on_error;
        int on_error_target;
        enum on_interrupt on_interrupt;
        bool requires_approval;
        struct str required_capabilities; /* sorted "a,b" or absent */

        /* conditional */
        struct expr *condition;
        int then_index, else_index;
        /* parallel, for_each, sub_task */
        struct branch_spec *branches; /* for_each and sub_task: exactly one */
        size_t n_branches;
};

struct definition {
        struct str name, description;
        json_t *input_schema; /* NULL = anything */
        int64_t timeout_us;   /* of a whole run; 0 = none */
        struct retry_policy retry;
        struct step_list steps;
        json_t *document; /* the normalised document, as stored and shown (`spec`) */
};

struct problem {
        struct str path, code, message, hint;
};

struct problems {
        struct problem *items;
        size_t n;
};

enum definition_format { FORMAT_JSON, FORMAT_YAML };

/*
 * Reads and checks a document.  `name_hint` is used when it has no name (a file's base name).
 * ERR_INVALID_YAML, ERR_INVALID_JSON, or ERR_VALIDATION / ERR_INVALID_CONDITION with the first
 * problem as the fault; *problems lists all of them in any case.  json_t members are released by
 * definition_release().
 */
enum err definition_parse(struct scope *, struct str text, enum definition_format,
                          struct str name_hint, struct definition **out,
                          struct problems *problems) NODISCARD;
void definition_release(struct definition *);

/* The step list of an inline branch: path "" is the definition's own, "1.0" branch 0 of step 1,
 * "1.0/2.3" deeper.  NULL when there is no such path. */
const struct step_list *definition_steps_at(const struct definition *, struct str path);

/* Every definition that the steps name, once each: for the cycle check across definitions. */
struct str *definition_references(struct scope *, const struct definition *, size_t *n);

/* Checks an input against the schema and fills in defaults: *out is the JSON to store. */
enum err definition_input(struct scope *, const struct definition *, struct str input,
                          struct str *out) NODISCARD;

/* {"nodes":[{id,index,action,label,parent?}],"edges":[{from,to,kind}]} for drawing. */
void definition_graph(struct json_out *, const struct definition *);

#endif
