/*
 * Values of the expression language (CEL over JSON).  Plain data in a scope's arena; lists and maps
 * are immutable and may be shared.  Maps keep the order of their entries.
 */
#ifndef BATON_FLOW_EXPR_VALUE_H
#define BATON_FLOW_EXPR_VALUE_H

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
        VALUE_TIMESTAMP, /* number = microseconds since 1970 */
        VALUE_DURATION,  /* number = microseconds */
        VALUE_TYPE,      /* text = the type's name */
};

struct value {
        enum value_kind kind;
        uint32_t nanos; /* 0..999: what a TIMESTAMP or DURATION has beyond its microseconds */
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

/* JSON integers become ints, other numbers doubles.  ERR_INVALID_JSON. */
enum err value_read(struct scope *, struct str json, struct value *out) NODISCARD;
/* JSON from the store; absent text is null, what cannot be read is a text. */
struct value value_from_text(struct scope *, struct str json);

struct value value_text(struct str);
struct value value_int(int64_t);
struct value value_bool(bool);
struct value value_list_of(struct scope *, struct value *items, size_t n);
/* An empty map with room for so many entries, and an entry at its end. */
struct value value_map_of(struct scope *, size_t room);
void value_put(struct value map, struct str key, struct value);

/* As JSON.  Timestamps and durations are written as text, map keys as strings. */
struct str value_dump(struct scope *, struct value);
/* False, and absent text, when the JSON is longer than the limit. */
bool value_dump_limited(struct scope *, struct value, size_t limit, struct str *out);
/* The first bytes of its text, as far as whole characters go. */
struct str value_head(struct scope *, struct value, size_t n);
/* As JSON it nests at most so deep, and no two keys of a map read the same. */
bool value_is_storable(struct scope *, struct value, int depth);
/* Text as it is, everything else as JSON without quotes. */
struct str value_as_text(struct scope *, struct value);
/* Of a TIMESTAMP or DURATION: 2026-01-31T09:00:00.5Z, 1.5s. */
struct str value_moment_text(struct scope *, struct value);

bool value_equal(struct value, struct value);
/* The entry with this string key, or NULL. */
const struct value *value_member(struct value map, struct str key);

#endif
