/*
 * Values of the expression language (CEL over JSON).  Plain data in a scope's arena; lists and maps
 * are immutable and may be shared.  Maps keep the order of their entries.
 */
#ifndef BATON_FLOW_EXPR_VALUE_H
#define BATON_FLOW_EXPR_VALUE_H

#include <jansson.h>

#include "core/json_out.h"
#include "core/scope.h"

enum value_kind {
        VALUE_NULL,
        VALUE_BOOL,
        VALUE_INT,
        VALUE_DOUBLE,
        VALUE_STRING,
        VALUE_LIST,
        VALUE_MAP,
        VALUE_TIMESTAMP, /* number = microseconds since 1970; nanoseconds are not kept */
        VALUE_DURATION,  /* number = microseconds */
        VALUE_TYPE,      /* text = the type's name */
};

struct value {
        enum value_kind kind;
        union {
                bool truth;
                int64_t number;
                double real;
                struct str text;
                struct value_list *list;
                struct value_map *map;
        };
};

struct value_list {
        struct value *items;
        size_t n;
};

struct value_map {
        struct value_entry {
                struct value key, value;
        } *entries;
        size_t n;
};

/* JSON integers become ints, other numbers doubles. */
struct value value_from_json(struct scope *, const json_t *);
/* Parses text that is known to be valid JSON (it came from the store); absent text is null. */
struct value value_from_text(struct scope *, struct str json);
/* Timestamps and durations are written as text, map keys as strings. */
void value_print(struct json_out *, struct value);
struct str value_dump(struct scope *, struct value);

bool value_equal(struct value, struct value);
/* The entry with this string key, or NULL. */
const struct value *value_member(struct value map, struct str key);

#endif
