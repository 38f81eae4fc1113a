#include "domain/domain.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "domain/approval.h"
#include "domain/attention.h"
#include "domain/cancel.h"
#include "domain/cascade.h"
#include "domain/claim.h"
#include "domain/force.h"
#include "domain/idempotency.h"
#include "domain/join.h"
#include "domain/lane_record.h"
#include "domain/purge.h"
#include "domain/retention.h"
#include "domain/review.h"
#include "domain/scheduler.h"
#include "domain/search.h"
#include "domain/server.h"
#include "domain/sql.h"
#include "domain/workspace.h"

enum { TICK_ROWS = 200 };
#define GAP (2 * US_PER_S)
#define LEASE_SAVE_EVERY US_PER_S

struct domain *domain_new(const struct world *world)
{
        struct domain *d = xcalloc(1, sizeof(*d));

        d->world = world;
        d->attention = attention_new();
        d->attention_after = ATTENTION_AFTER;
        d->review_timeout = REVIEW_TIMEOUT;
        d->force_limit = FORCE_LIMIT;
        d->lanes = lane_table_new();
        d->policies = -1;
        d->daemon = (struct principal){ .actor = STR("daemon:baton"),
                                        .origin = STR("daemon:tick"),
                                        .all_workspaces = true,
                                        .scopes = SCOPE_ALL };
        return d;
}

void domain_free(struct domain *d)
{
        lane_table_free(d->lanes);
        attention_free(d->attention);
        free(d);
}

void domain_committed(struct domain *d)
{
        lanes_committed(d->lanes);
        attention_committed(d->attention);
        d->committed = d->kept = d->now;
        d->number = d->now.server;
}

void domain_kept(struct domain *d)
{
        lanes_kept(d->lanes);
        d->kept = d->now;
}

void domain_rolled_back(struct domain *d, bool whole)
{
        lanes_rolled_back(d->lanes, whole);
        attention_rolled_back(d->attention);
        d->policies = -1;
        d->retention.tree = 0; /* rather told twice than not */
        if (whole)
                d->kept = d->committed;
        d->now = d->kept;
}

struct lane_table *lane_table_of(struct tx *tx)
{
        return ((struct domain *)tx_context(tx))->lanes;
}

/* ---- lease clock ---- */

static int64_t lease_source(const struct domain *d)
{
        return d->world->clock->boot(d->world->clock->ctx) + d->ahead;
}

void domain_turn(struct domain *d, int64_t now)
{
        d->ahead = now - d->world->clock->boot(d->world->clock->ctx);
}

static int64_t lease_at(const struct domain *d, int64_t time)
{
        int64_t ran = time - atomic_load(&d->lease_from);

        return atomic_load(&d->lease_base) + (ran > 0 ? ran : 0);
}

int64_t lease_now(const struct domain *d)
{
        int64_t now = lease_source(d);

        /* A gap that the next tick will tell of: what was queued meanwhile is served before it. */
        if (now - atomic_load(&d->last_seen) > GAP)
                return atomic_load(&d->lease_seen);
        return lease_at(d, now);
}

int64_t lease_wall(const struct domain *d, int64_t wall_now, int64_t lease_time)
{
        return wall_now + lease_time - lease_now(d);
}

/* The clock stands still at what it showed, and runs again after the grace. */
static void lease_hold(struct domain *d, int64_t at, int64_t grace)
{
        atomic_store(&d->lease_base, at);
        atomic_store(&d->lease_from, lease_source(d) + grace);
}

/* What servers that share a database must agree on. */
struct shared_clock {
        int64_t base, from, seen;
};

static enum err setting(struct tx *tx, const char *name, void *out, size_t n)
{
        struct setting s;
        enum err e = tx_one(tx, SQL_SETTING_GET, &s, TEXT(str_from(name)));

        if (!e && s.value.n == n)
                memcpy(out, s.value.p, n);
        return e == ERR_EMPTY ? ERR_OK : e;
}

static enum err setting_put(struct tx *tx, const char *name, const void *value, size_t n)
{
        return tx_exec(tx, SQL_SETTING_SET, TEXT(str_from(name)), BLOB(((struct str){ value, n })));
}

/* At a start mark is where the clock stands; with servers that share it, one of them keeps the mark, and
 * says for how long. */
static enum err lease_save(struct tx *tx, struct domain *d, int64_t rest)
{
        int64_t until = lease_source(d) + rest, mark = lease_now(d), ago = until - d->lease_saved;
        struct shared_clock shared = { d->lease_base, d->lease_from, until };
        enum err e;

        if (d->lease_saved && ago >= 0 && ago < LEASE_SAVE_EVERY)
                return ERR_OK;
        d->lease_saved = until;
        e = setting_put(tx, "lease_clock", &mark, sizeof(mark));
        return e || !d->place.p ? e : setting_put(tx, "lease_shared", &shared, sizeof(shared));
}

/* Follows the others; false while nobody has ticked for too long. */
static enum err lease_share(struct tx *tx, struct domain *d, bool *runs)
{
        struct shared_clock shared = { 0 };
        int64_t now = lease_source(d);
        enum err e = d->place.p ? setting(tx, "lease_shared", &shared, sizeof(shared)) : ERR_OK;

        *runs = !e && shared.seen && now - shared.seen <= GAP;
        if (e || !shared.seen)
                return e;
        if (shared.seen > now) /* by one that rests */
                shared.seen = now;
        d->lease_base = shared.base;
        d->lease_from = shared.from;
        if (shared.seen > d->last_seen)
                d->last_seen = shared.seen;
        if (shared.seen > d->lease_saved)
                d->lease_saved = shared.seen;
        d->lease_seen = lease_at(d, d->last_seen);
        return ERR_OK;
}

/* ---- boot ---- */

static enum err load_secret(struct tx *tx, struct domain *d)
{
        struct setting s;
        enum err e = tx_one(tx, SQL_SETTING_GET, &s, TEXT(STR("token_secret")));

        if (e == ERR_EMPTY) {
                scope_random(tx_scope(tx), d->secret, sizeof(d->secret));
                return tx_exec(tx, SQL_SETTING_SET, TEXT(STR("token_secret")),
                               BLOB(((struct str){ (char *)d->secret, sizeof(d->secret) })));
        }
        if (!e && s.value.n == sizeof(d->secret))
                memcpy(d->secret, s.value.p, sizeof(d->secret));
        return e;
}

/*
 * The database knows by which key its secrets are sealed, without knowing the key: who comes with another
 * would only find out when a secret does not open.
 */
static enum err check_vault(struct tx *tx, const struct domain *d)
{
        static const char said[] = "baton secret.key";
        unsigned char mark[32], known[sizeof(mark)] = { 0 };
        enum err e = setting(tx, "vault_mark", known, sizeof(known));

        crypto_generichash(mark, sizeof(mark), (const unsigned char *)said, sizeof(said) - 1, d->vault,
                           sizeof(d->vault));
        if (e || sodium_memcmp(mark, known, sizeof(mark)) == 0)
                return e;
        if (!sodium_is_zero(known, sizeof(known)) && !d->vault_replaced)
                return fail(tx_scope(tx), ERR_CONFLICT,
                            "the secrets of this database are sealed under another secret.key: copy it here from"
                            " the data directory of another server, or from where it is kept; if it is lost,"
                            " start once with --replace-secret-key and put the secrets again");
        return setting_put(tx, "vault_mark", mark, sizeof(mark));
}

/* What is kept in memory of the rows. */
static enum err load_kept(struct tx *tx, struct domain *d)
{
        enum err e = lanes_load(tx, d->lanes);

        if (!e)
                e = scheduler_load(tx);
        if (!e)
                e = cascade_load(tx);
        return e ? e : search_load(tx);
}

enum err domain_boot(struct tx *tx, void *context)
{
        struct domain *d = context;
        int64_t mark = 0;
        bool runs = false;
        /* The wall clock may stand before what it showed when the last ids were made. */
        enum err e = tx_number(tx, SQL_ID_LAST, &tx_scope(tx)->ids->last);

        if (!e)
                e = check_vault(tx, d);
        if (!e)
                e = workspace_boot(tx, &d->daemon);
        if (!e)
                e = load_secret(tx, d);
        if (!e)
                e = setting(tx, "lease_clock", &mark, sizeof(mark));
        if (!e)
                e = lease_share(tx, d, &runs);
        /* A fresh database starts the clock at 1, so that 0 can mean "no lease". */
        if (!runs) {
                lease_hold(d, mark ? mark : 1, mark ? LEASE_GRACE : 0);
                d->lease_saved = 0;
        }
        d->last_seen = lease_source(d);
        d->lease_seen = lease_now(d);
        if (!e)
                e = lease_save(tx, d, 0);
        if (!e)
                e = load_kept(tx, d);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_BOOT_RECOVER);
        if (!e)
                e = server_join(tx);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_BOOT_RECOVERED);
        d->booted = true;
        domain_committed(d);
        return e;
}

/* ---- others ---- */

const char *const domain_kept_tables[] = { "cascade",  "key",     "lane",    "scheduler_pause",
                                           "searched", "setting", "webhook", "workspace",       NULL };

enum err domain_others(struct domain *d, struct tx *tx, bool stale)
{
        bool runs;
        enum err e = ERR_OK;

        if (!d->booted)
                return ERR_OK;
        d->retention.tree = 0;
        lanes_doubt(d->lanes);
        if (stale) {
                d->policies = -1;
                e = lease_share(tx, d, &runs);
                if (!e)
                        e = load_kept(tx, d);
                if (!e)
                        domain_committed(d);
        }
        return e ? e : server_stay(tx);
}

/* ---- tick ---- */

/* Each of these reads what is due and then looks at every row once more: dealing with one may have
 * changed the next (a parent and its child that are due together). */

static enum err expire_leases(struct tx *tx, struct domain *d)
{
        struct list runs;
        struct run *run;
        enum err e = tx_all(tx, SQL_RUN_EXPIRED, &runs, INT(lease_now(d)), INT(TICK_ROWS));

        run = runs.items;
        for (size_t i = 0; !e && i < runs.n; i++) {
                e = run_load(tx, run[i].id, &run[i]);
                if (!e && run_is_leased(run[i].status) && run[i].lease_until <= lease_now(d))
                        e = claim_expire(tx, &run[i], false);
        }
        return e;
}

static enum err wake_one(struct tx *tx, struct domain *d, struct run *run)
{
        struct events events = { .by = &d->daemon, .tree = run->tree_id };
        enum err e = failpoint(tx_scope(tx), FAILPOINT_RUN_WAKES);

        if (e)
                return e;
        if (run_is_waiting(run->status)) { /* it has slept enough, or its step has waited too long */
                e = run_wake(tx, run, run->status == RUN_SLEEPING ? "awake" : "waited_too_long",
                             &events);
                return e ? e : events_append(tx, &events);
        }
        if (run->status != RUN_QUEUED)
                return tx_exec(tx, SQL_RUN_HOLD, INT(run->id),
                               INT(run->hold & ~(HOLD_BACKOFF | HOLD_CLEANUP)), NONE());
        run->wake_at = 0;
        return run_rehold(tx, run, run->hold & ~(HOLD_BACKOFF | HOLD_CLEANUP));
}

static enum err wake_runs(struct tx *tx, struct domain *d)
{
        struct list runs;
        struct run *run;
        enum err e = tx_all(tx, SQL_RUN_AWAKE, &runs, INT(tx_now(tx)), INT(TICK_ROWS));

        run = runs.items;
        for (size_t i = 0; !e && i < runs.n; i++) {
                e = run_load(tx, run[i].id, &run[i]);
                if (!e && run[i].wake_at && run[i].wake_at <= tx_now(tx))
                        e = wake_one(tx, d, &run[i]);
        }
        return e;
}

static enum err time_out_runs(struct tx *tx)
{
        struct list runs;
        struct run *run;
        enum err e = tx_all(tx, SQL_RUN_OVERDUE, &runs, INT(tx_now(tx)), INT(TICK_ROWS));

        run = runs.items;
        for (size_t i = 0; !e && i < runs.n; i++) {
                e = run_load(tx, run[i].id, &run[i]);
                if (!e && !run_is_terminal(run[i].status))
                        e = run_time_out(tx, &run[i]);
        }
        return e;
}

static enum err expire_approvals(struct tx *tx)
{
        struct list rows;
        struct approval *approval;
        enum err e = tx_all(tx, SQL_APPROVAL_DUE, &rows, INT(tx_now(tx)), INT(TICK_ROWS));

        approval = rows.items;
        for (size_t i = 0; !e && i < rows.n; i++) {
                e = approval_load(tx, approval[i].id, &approval[i]);
                if (!e && approval[i].status == APPROVAL_OPEN)
                        e = approval_expire(tx, &approval[i]);
        }
        return e;
}

static enum err trim(struct tx *tx, struct domain *d, int64_t rest)
{
        enum err e;

        if (tx_now(tx) < d->next_trim)
                return ERR_OK;
        d->next_trim = tx_now(tx) + 10 * US_PER_S + rest;
        e = force_trim(tx);
        return e ? e : tx_exec(tx, SQL_IDEMPOTENCY_TRIM, INT(tx_now(tx) - IDEMPOTENCY_AGE));
}

static enum err settle_due(struct tx *tx, struct domain *d)
{
        enum err e = expire_leases(tx, d);

        if (!e)
                e = wake_runs(tx, d);
        if (!e)
                e = time_out_runs(tx);
        if (!e)
                e = expire_approvals(tx);
        if (!e)
                e = drains_settle(tx, &d->daemon);
        if (e || d->now.cascading) /* what was promised comes before what tidies up */
                return e ? e : cascade_tick(tx, d);
        e = reviews_tick(tx); /* those of a tree that is being canceled end with it */
        if (!e)
                e = purge_piece(tx);
        if (!e)
                e = attention_tick(tx, d);
        if (!e)
                e = retention_tick(tx, d);
        return e ? e : search_tick(tx, d);
}

enum err domain_tick(struct domain *d, struct tx *tx)
{
        int64_t now = lease_source(d), rest = 0;
        enum err e;

        if (now - d->last_seen > GAP) {
                char ms[24];

                snprintf(ms, sizeof(ms), "%lld", (long long)((now - d->last_seen) / US_PER_MS));
                log_write(LOG_WARN, "tick_late", "ms", ms, "then", "leases stand still for 10 s", NULL);
                lease_hold(d, d->lease_seen, LEASE_GRACE);
                d->lease_saved = 0;
        }
        d->last_seen = now;
        d->lease_seen = lease_now(d);
        e = settle_due(tx, d);
        if (!e)
                e = server_rest(tx, &rest);
        d->last_seen = now + rest;
        if (!e)
                e = trim(tx, d, rest);
        if (!e)
                e = lease_save(tx, d, rest);
        if (!e)
                e = server_tick(tx, rest);
        tx_tick_rest(tx, rest);
        return e;
}
