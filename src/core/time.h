/*
 * Time.  Everything is int64 microseconds; instants are UTC since 1970.  Nothing reads a clock but
 * through struct clock, so that a simulator can replace it.
 */
#ifndef BATON_CORE_TIME_H
#define BATON_CORE_TIME_H

#include "core/buf.h"
#include "core/str.h"

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

struct clock {
        int64_t (*wall)(void *ctx); /* UTC, may be stepped by an operator or NTP */
        int64_t (*boot)(void *ctx); /* monotonic, counts suspend, origin arbitrary */
        void *ctx;
};

extern const struct clock system_clock;

/* RFC 3339, UTC, six fractional digits: 2026-01-31T09:00:00.000000Z. */
enum { TIME_TEXT_SIZE = 28 };
void time_print(int64_t us, char out[TIME_TEXT_SIZE]);
bool time_parse(struct str, int64_t *us);

#endif
