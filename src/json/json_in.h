/*
 * JSON reader: jansson reads the text, a record table moves it into a struct.  Unknown members,
 * wrong types and values out of bounds are refused with the path of the field.
 */
#ifndef BATON_JSON_JSON_IN_H
#define BATON_JSON_JSON_IN_H

#include <jansson.h>

#include "core/json_out.h"
#include "core/scope.h"

enum { JSON_MAX_DEPTH = 64 };

/* Parses text; fails with ERR_INVALID_JSON (position in the detail).  The caller json_decref()s. */
enum err json_parse(struct scope *, struct str text, json_t **out) NODISCARD;

/* Moves an object into *out (zeroed before), strings copied to the scope's arena. */
enum err json_to_record(struct scope *, const json_t *object, const char *path,
                        const struct record *, void *out) NODISCARD;

/* json_parse() and json_to_record() in one; empty text reads as {}. */
enum err json_read(struct scope *, struct str text, const struct record *, void *out) NODISCARD;

/* Writes a value: compact, members in their order, doubles by their shortest text. */
void json_print(struct json_out *, const json_t *);
/* The same as text in the arena. */
struct str json_dump(struct arena *, const json_t *);
/* Whether two texts are the same value, whatever the order of their members; absent equals absent. */
bool json_same(struct scope *, struct str a, struct str b);
/* A jansson string as a view. */
struct str json_view(const json_t *string);

#endif
