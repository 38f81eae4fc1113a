/* The names that an expression of a running definition sees: private to this room. */
#ifndef BATON_FLOW_ENVIRONMENT_H
#define BATON_FLOW_ENVIRONMENT_H

#include "flow/plan.h"

struct environment {
        struct expr_env env; /* first: handed to the evaluator */
        const struct progress *progress;
        struct value locals; /* of for_each, in the parent: the item that is looked at; else null */
        struct value last;   /* once made */
        struct value steps;
        bool has_last, has_steps;
};

void environment_init(struct environment *, const struct progress *, int64_t now);
/* A step has changed: what was made of it is void. */
void environment_stale(struct environment *);

void remember_output(const struct progress *, int64_t index, struct value);
void forget_output(const struct progress *, int64_t index);
/* The output of the last step that has ended before `at`; null when there is none. */
struct value last_output(struct scope *, const struct progress *, int64_t at);

#endif
