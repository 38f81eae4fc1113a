#include "domain/session.h"

#include <string.h>

#include "domain/claim.h"
#include "domain/domain.h"
#include "domain/review.h"
#include "domain/sql.h"

enum err session_lease(struct tx *tx, struct str workspace, struct str session, int64_t *run)
{
        int64_t name = 0;
        enum err e = tx_name_find(tx, session, &name);

        /* Not made here: who holds nothing shall write nothing. */
        if (e)
                return e;
        return name ? tx_number(tx, SQL_RUN_SESSION_LEASE, run, INT(name),
                                INT(lease_now(tx_context(tx))), NAME(workspace)) :
                      ERR_EMPTY;
}

static enum err not_its_run(struct tx *tx, const struct principal *by)
{
        int64_t held;
        enum err e = session_lease(tx, by->workspace, by->session_id, &held);

        if (e && e != ERR_EMPTY)
                return e;
        return e ? fail(tx_scope(tx), ERR_NO_LEASE,
                        "this session does not hold the run, nor any other; claim it first") :
                   fail(tx_scope(tx), ERR_FOREIGN_RUN, "this session holds another run, not this one");
}

enum err session_fence(struct tx *tx, const struct principal *by, int64_t id, struct fence *out)
{
        struct fence fence = { .by = by };
        struct run run;
        enum err e = run_get(tx, by, id, &run);

        if (!e && !by->session_id.p && str_starts(by->actor, "agent_session:"))
                e = fail(tx_scope(tx), ERR_SESSION_REQUIRED,
                         "show the claim token, or use a key that belongs to a session");
        else if (!e && by->session_id.p && !str_eq(run.session_id, by->session_id))
                e = not_its_run(tx, by);
        if (e)
                return e;
        if (by->session_id.p && run.claim_token_hash.n == sizeof(fence.digest))
                memcpy(fence.digest, run.claim_token_hash.p, sizeof(fence.digest));
        *out = fence;
        return ERR_OK;
}

enum err session_release(struct tx *tx, const struct principal *by, struct str session,
                         struct str workspace, const char *reason)
{
        struct run_change back = { .to = RUN_QUEUED, .event = EVENT_RUN_RELEASED };
        struct list runs;
        struct run *run;
        enum err e = tx_all(tx, SQL_RUN_OF_SESSION, &runs, NAME(session), NAME(workspace));

        back.payload = arena_printf(&tx_scope(tx)->arena, "{\"reason\":\"%s\"}", reason);
        run = runs.items;
        for (size_t i = 0; !e && i < runs.n; i++)
                e = run_requeue(tx, &run[i], &back, by);
        return e ? e : reviews_of_session(tx, by, session, workspace);
}
