/* Names of an expression that are the members of an object: the value at env->ctx. */
#ifndef BATON_FUZZ_MEMBERS_H
#define BATON_FUZZ_MEMBERS_H

#include "flow/expr/expr.h"

static inline bool members_find(const struct expr_env *env, struct scope *scope, struct str name,
                                struct value *out)
{
        const struct value *found = value_member(*(const struct value *)env->ctx, name);

        (void)scope;
        if (found)
                *out = *found;
        return found;
}

#endif
