/*
 * YAML reader (libyaml's events into values): one document of the 1.2 core schema.  An alias shares
 * what its anchor holds, so a bomb of aliases costs no memory; its expanded size (values, and
 * one more for each 64 bytes of text) is counted all the same and bounded.  Refused: several documents, tags beyond the core's, keys that are no scalars,
 * keys given twice, nesting beyond 64.
 */
#ifndef BATON_FLOW_YAML_H
#define BATON_FLOW_YAML_H

#include "flow/expr/value.h"

enum { YAML_MAX_DEPTH = 64, YAML_MAX_NODES = 50000, YAML_MAX_KEYS = 4096 };

/* ERR_INVALID_YAML; the detail names line and column. */
enum err yaml_read(struct scope *, struct str text, struct value *out) NODISCARD;

#endif
