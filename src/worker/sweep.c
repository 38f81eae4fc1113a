#include "worker/sweep.h"

#include "core/failpoint.h"
#include "core/log.h"
#include "domain/purge.h"
#include "worker/files.h"

/* A second or two of a slow disk: who keeps leases has no more to spare. */
enum { ENTRIES = 5000 };
#define LOOK_EVERY    (10 * US_PER_S)
#define AFTER_FAILURE (60 * US_PER_S)

struct sweep_call {
        struct call call;
        struct str volume;
        struct workspace workspace;
};

static enum err find(struct call *call, struct tx *tx)
{
        struct sweep_call *c = (struct sweep_call *)call;

        return sweep_next(tx, c->volume, &c->workspace);
}

static enum err finish(struct call *call, struct tx *tx)
{
        return sweep_done(tx, ((struct sweep_call *)call)->workspace.id);
}

void sweep(const struct worker_options *o, struct scope *scope, int64_t *next)
{
        struct sweep_call c = { .call = { .run = find, .reads = true, .scope = scope }, .volume = o->volume };
        int64_t now = o->world->clock->boot(o->world->clock->ctx);
        bool left = false;
        enum err e;

        if (now < *next)
                return;
        *next = now + LOOK_EVERY;
        scope_reset(scope);
        if (store_call(o->store, &c.call))
                return; /* nothing to do, or no time for it */
        e = files_clear(scope, o->spawner, c.workspace.id, (uint32_t)c.workspace.uid, ENTRIES,
                        &left);
        if (e && e != ERR_NOT_FOUND) { /* that would be a workspace in which nothing ever ran */
                log_write(LOG_WARN, "files of a deleted workspace stay", "workspace",
                          str_c(&scope->arena, c.workspace.id), "detail",
                          str_c(&scope->arena, scope->fault.detail), NULL);
                *next = now + AFTER_FAILURE;
                return;
        }
        if (left) {
                *next = now;
                return;
        }
        failpoint_pass(FAILPOINT_FILES_SWEPT);
        c.call = (struct call){ .run = finish, .class = CALL_IDLE, .scope = scope };
        if (!store_call(o->store, &c.call))
                *next = now;
}
