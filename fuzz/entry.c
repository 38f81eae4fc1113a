#include "fuzz.h"

#include <string.h>

#include "core/log.h"

enum { DAY_OF_ALL = 1767225600 }; /* 2026-01-01T00:00:00Z */

/* Of the process: time only goes on, and what is random differs each time. */
static int64_t moved;
static uint64_t counter;

static int64_t wall(void *ctx)
{
        (void)ctx;
        return DAY_OF_ALL * US_PER_S + moved;
}

static int64_t boot(void *ctx)
{
        (void)ctx;
        return 3600 * US_PER_S + moved;
}

static void counted(void *ctx, void *bytes, size_t n)
{
        (void)ctx;
        counter++;
        memset(bytes, 0, n);
        memcpy(bytes, &counter, n < sizeof(counter) ? n : sizeof(counter));
}

static const struct clock clock_of_all = { wall, boot, NULL };
const struct world fuzz_world = { &clock_of_all, counted, NULL };

void fuzz_clock_move(int64_t us)
{
        moved += us;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct scope scope;

        log_configure(LOG_ERROR, false);
        scope_init(&scope, &fuzz_world);
        fuzz(&scope, (struct str){ n ? (const char *)bytes : "", n });
        scope_done(&scope);
        return 0;
}
