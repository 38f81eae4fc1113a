/*
 * Records: one table of fields describes a struct to everybody who moves it: the row reader and
 * writer of the store, JSON in and out, and the OpenAPI document.  Nothing is written by hand per
 * struct.
 *
 *   kind      C member            column         JSON
 *   INT       int64_t             INTEGER        number
 *   BOOL      bool                0 / 1          true / false
 *   TIME      int64_t us, 0 none  INTEGER        RFC 3339 text
 *   ID        int64_t, 0 none     INTEGER        prefix_digits; type = prefix
 *   ENUM      int                 INTEGER        its name; type = struct names
 *   STR       struct str          TEXT           string
 *   SET       int64_t bits        -              list of names; type = struct names, bit i is name i
 *   JSON      struct str          TEXT           the value itself (text is valid JSON); type = the
 *                                                only type of JSON that it may have, or NULL
 *   NAME      struct str          INTEGER        string; interned
 *   ACTOR     struct str          INTEGER        {"kind","ref"} of "kind:ref"; interned
 *   CAPS      struct str          INTEGER        list of strings, stored sorted as "a,b"; interned
 *   BYTES     struct str          BLOB           lower-case hex
 *   RECORD    struct T *          -              object; type = record
 *   LIST      struct list         -              list of objects; type = record
 */
#ifndef BATON_CORE_RECORD_H
#define BATON_CORE_RECORD_H

#include <stddef.h>

#include "core/str.h"

enum field_kind {
        FIELD_INT,
        FIELD_BOOL,
        FIELD_TIME,
        FIELD_ID,
        FIELD_ENUM,
        FIELD_SET,
        FIELD_STR,
        FIELD_JSON,
        FIELD_NAME,
        FIELD_ACTOR,
        FIELD_CAPS,
        FIELD_BYTES,
        FIELD_RECORD,
        FIELD_LIST,
};

enum field_flag {
        FIELD_COLUMN = 1,   /* is a column of the noun's table */
        FIELD_WIRE = 2,     /* appears in JSON */
        FIELD_ALWAYS = 4,   /* written even when zero or absent (absent text as null) */
        FIELD_REQUIRED = 8, /* must be given in a request body; never empty in an answer */
        FIELD_FOLLOWS = 32, /* written, even when zero, if the member before it in the table is */
        FIELD_FIXED = 64,   /* in a request body: refused, it cannot be changed */
        FIELD_CLEARS = 16,  /* null in a request body clears it: given, but absent */
        FIELD_CURSOR = 256, /* of a query: where to go on; a wrong one is ERR_INVALID_CURSOR */
        FIELD_TRIMS = 128,  /* CAPS in a request body: blanks around names go, inner ones stay; doubles go */
};

struct field {
        const char *name; /* on the wire and in SQL */
        enum field_kind kind;
        unsigned flags;
        size_t offset;
        const void *type;
        int64_t min, max; /* of a number, or of a text's or list's length; 0,0 = unbounded */
        const char *doc;  /* one line for the API description; NULL = the name says it */
        int64_t preset;   /* of a query: what a number or an enum is when it is not given */
};

struct record {
        const char *name;
        const struct field *fields;
        size_t n, size;
        /* Body records: where the bit set of given fields lives (uint64_t), else -1. */
        int given_offset;
        /* Of what stands in a list, each on its own: where the struct fault of one that was refused
         * lives; 0 = then the list is refused. */
        size_t fault_offset;
        /* Of an answer: the record whose struct this one begins with; its members come first. */
        const struct record *base;
};

/* A list of structs of one kind, contiguous. */
struct list {
        void *items;
        size_t n;
};

/* Names of an enum, indexed by value, NULL-terminated; aliases are accepted on input only. */
struct names {
        const char *const *text;
        const struct alias {
                const char *text;
                int value;
        } *aliases; /* ends with a NULL text; may be NULL */
};

/* The value of a name: case-insensitive, '-' and CamelCase humps equal '_'.  -1 when unknown. */
int names_find(const struct names *, struct str);
const char *names_text(const struct names *, int value);
bool names_has(const struct names *, int64_t value);
/* "low, medium or high": for messages. */
struct str names_list(struct arena *, const struct names *);

const struct field *record_field(const struct record *, struct str name);

/* Columns of the record joined by commas, "?1,?2,…" for them, and "a=?1,b=?2". */
struct str record_columns(struct arena *, const struct record *);
struct str record_placeholders(struct arena *, const struct record *);

#define FIELD_AT(base, field, type) ((type *)(void *)((char *)(base) + (field)->offset))
#define FIELD_IN(base, field, type) \
        ((const type *)(const void *)((const char *)(base) + (field)->offset))

/* True when the member holds nothing: 0, false, no text, no list. */
bool field_is_empty(const struct field *, const void *base);
/* Whether an empty one that is written all the same is null. */
bool field_has_null(const struct field *);
/* Whether an answer has it in any case. */
bool field_is_sure(const struct field *);

#endif
