/*
 * Input schemas: the part of JSON Schema that is understood whole: type, required, properties,
 * items, enum, default, minimum, maximum, minLength, maxLength, minItems, maxItems, title,
 * description.  Other keywords are refused, so that none is silently without effect.
 */
#ifndef BATON_FLOW_SCHEMA_H
#define BATON_FLOW_SCHEMA_H

#include "flow/expr/value.h"
#include "flow/problem.h"

/* Reports what is wrong with the schema itself. */
void schema_check(struct problems *, struct str path, struct value schema);

/* Checks a value and fills in defaults (objects only).  ERR_VALIDATION names the member and what is
 * allowed. */
enum err schema_apply(struct scope *, struct value schema, struct str path, struct value in,
                      struct value *out) NODISCARD;

#endif
