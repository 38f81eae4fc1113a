/*
 * Templates: values whose texts may hold ${{ expression }}.  A text that is nothing but one
 * expression keeps the expression's type; within other text a value is written as text, lists and
 * maps as JSON.  "$${{" stands for a literal "${{".  Compiled once, rendered for each run.
 */
#ifndef BATON_FLOW_TEMPLATE_H
#define BATON_FLOW_TEMPLATE_H

#include "flow/expr/expr.h"

struct template;

/* ERR_INVALID_CONDITION with the reason; *where (may be NULL) is the path below the value, as
 * ".branches[0].name". */
enum err template_compile(struct scope *, struct value, struct template **out,
                          struct str *where) NODISCARD;
/* Holds no expression: rendering gives the value as written. */
bool template_is_constant(const struct template *);
enum err template_render(struct scope *, const struct template *, const struct expr_env *,
                         struct value *out) NODISCARD;

#endif
