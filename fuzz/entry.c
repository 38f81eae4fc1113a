#include "fuzz.h"

#include <string.h>

#include "core/log.h"

enum { DAY_OF_ALL = 1767225600 }; /* 2026-01-01T00:00:00Z */

/* Of the process: each input begins at the same time with the same randomness. */
static int64_t moved;
static unsigned char counter;

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
        memset(bytes, 0, n);
        memset(bytes, ++counter, n < 4 ? n : 4);
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
        moved = 0;
        counter = 0;
        scope_init(&scope, &fuzz_world);
        fuzz(&scope, (struct str){ n ? (const char *)bytes : "", n });
        scope_done(&scope);
        return 0;
}
