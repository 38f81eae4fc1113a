/*
 * Ids: 63-bit, time-ordered: 41 bits of milliseconds since 2025-01-01, 10 bits of server number,
 * 12 bits of counter.  On the wire a prefix, '_' and 13 digits of lower-case Crockford base 32:
 * task_0c5q8v2k7m1xa.  0 is no id.
 */
#ifndef BATON_CORE_ID_H
#define BATON_CORE_ID_H

#include "core/str.h"

/* Milliseconds from 1970 to the epoch of ids. */
#define ID_EPOCH_MS INT64_C(1735689600000)

/* Makes ids that only grow.  Used by one thread. */
struct idgen {
        int64_t last;
        int64_t server; /* 0..1023 */
};

int64_t id_next(struct idgen *, int64_t now_us);
int64_t id_time_us(int64_t id);
/* The least id of the time's millisecond; 0 for 0 and times before the epoch. */
int64_t id_at(int64_t us);

enum { ID_TEXT_SIZE = 32, ID_DIGITS = 13 };

/* Writes the text and returns its length; prefix has at most 16 bytes. */
size_t id_print(const char *prefix, int64_t id, char out[ID_TEXT_SIZE]);
/* False unless the text is exactly prefix_ and 13 digits of a positive id. */
bool id_parse(const char *prefix, struct str, int64_t *out);

#endif
