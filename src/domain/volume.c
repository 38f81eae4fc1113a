#include "domain/volume.h"

#include "domain/domain.h"
#include "domain/lane_record.h"
#include "domain/server.h"
#include "domain/sql.h"

struct str volume_owner(struct arena *arena, struct str volume)
{
        return volume.p ? arena_printf(arena, "volume:" STR_FMT, STR_ARG(volume)) : STR_NONE;
}

enum err volume_bind(struct tx *tx, struct str workspace, struct str volume)
{
        return tx_exec(tx, SQL_VOLUME_BIND, NAME(workspace), TEXT(volume));
}

enum err volume_is_served(struct tx *tx, struct str volume, bool *out)
{
        const struct domain *d = tx_context(tx);
        int64_t workers = 0;
        enum err e = tx_number(tx, SQL_VOLUME_SERVED, &workers, TEXT(volume), INT(lease_now(d) - SERVER_GONE));

        *out = workers > 0;
        return e;
}

/* The runs of a lane go to the one that differs from it by the owner. */
static enum err move_runs(struct tx *tx, const struct lane *from, struct str owner)
{
        struct lane signature = *from;
        int64_t to;
        enum err e;

        signature.owner = owner;
        e = lane_find(tx, &signature, &to);
        if (!e)
                e = tx_exec(tx, SQL_VOLUME_MOVE_RUNS, INT(from->id), INT(to), NAME(from->workspace));
        if (!e)
                e = tx_exec(tx, SQL_VOLUME_MOVE_READY, INT(from->id), INT(to));
        if (e)
                return e;
        lane_fill(tx, to);
        tx_hint(tx, HINT_RESUMED, 0, 0); /* they may be many */
        return ERR_OK;
}

enum err volume_change(struct tx *tx, const struct workspace *w, struct str volume)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct str before = volume_owner(arena, w->volume), after = volume_owner(arena, volume);
        const struct lane_table *lanes = lane_table_of(tx);
        const size_t n = lanes_n(lanes);
        bool served = true;
        enum err e = volume.p ? volume_is_served(tx, volume, &served) : ERR_OK;

        if (!e && !served)
                return fail_field(tx_scope(tx), "volume", ERR_VALIDATION,
                                  "no worker that is there has the volume " STR_FMT
                                  "; GET /v1/workers lists those that there are",
                                  STR_ARG(volume));
        for (size_t i = 0; !e && w->volume.p && i < n; i++) {
                const struct lane *lane = lane_at(lanes, i);

                if (str_eq(lane->workspace, w->id) && str_eq(lane->owner, before))
                        e = move_runs(tx, lane, after);
        }
        return e ? e : volume_bind(tx, w->id, volume);
}
