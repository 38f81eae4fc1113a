/* Actions that a step can name, by one table (action.def). */
#ifndef BATON_FLOW_ACTION_H
#define BATON_FLOW_ACTION_H

#include "core/record.h"

enum action_kind {
        ACTION_EFFECT,
        ACTION_CONDITIONAL,
        ACTION_PARALLEL,
        ACTION_FOR_EACH,
        ACTION_SUB_TASK,
        ACTION_APPROVAL,
        ACTION_INPUT,
        ACTION_DELAY,
        ACTION_CHECKPOINT,
};

enum action_id {
#define ACTION(name, kind, landed, ...) ACTION_ID_##name,
#include "flow/action.def"
#undef ACTION
        ACTION_IDS,
};

enum param_type {
        PARAM_TEXT, /* these may hold ${{ }}; checked when they are constant, and before use */
        PARAM_INT,
        PARAM_NUMBER,
        PARAM_BOOL,
        PARAM_TEXTS,
        PARAM_INTS,
        PARAM_TEXT_MAP,
        PARAM_ENVIRONMENT,
        PARAM_MAP,
        PARAM_LIST,
        PARAM_ANY,
        PARAM_RISK,
        PARAM_METHOD,
        PARAM_USERNAME,
        PARAM_SECRET, /* from here on they are written out: no input chooses a secret or a host */
        PARAM_SECRET_MAP,
        PARAM_SECRET_ENVIRONMENT,
        PARAM_HOSTS,
        PARAM_JOIN, /* from here on they are what the definition's structure is made of */
        PARAM_JOIN_FAILURE,
        PARAM_SUB_FAILURE,
        PARAM_NAME,
        PARAM_CONDITION,
        PARAM_TARGET,
        PARAM_STEPS,
        PARAM_BRANCHES,
        PARAM_REFERENCE,
};

struct param {
        const char *name;
        enum param_type type;
        bool required;
        int64_t min, max; /* 0,0 = unbounded */
};

struct action {
        const char *name;
        enum action_id id;
        enum action_kind kind;
        bool landed;
        const struct param *params; /* ends with a NULL name */
};

/* NULL when unknown; accepts CamelCase and dashes. */
const struct action *action_find(struct str name);
extern const struct names action_names;

#endif
