/* The server under test, put together as src/server/serve.c does it, without threads or network. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/migrations.h"
#include "domain/sql.h"
#include "domain/workspace.h"
#include "sim.h"

/* ---- commits that fail ---- */

/* Whose commits fail: the writer's connection is opened inside the store, and the only way to it is
 * what SQLite lets every new connection run, which gets no argument. */
static struct sim *failing;

static int on_commit(void *arg)
{
        struct sim *s = arg;

        bool fails = s->fail_commit;

        s->commit_failed |= fails; /* also while the store opens the file again */
        s->fail_commit = false;
        return fails; /* 1: the commit becomes a rollback and fails */
}

static int on_connection(sqlite3 *db, const char **error, const void *api)
{
        (void)error, (void)api;
        sqlite3_commit_hook(db, on_commit, failing);
        return SQLITE_OK;
}

/* ---- what happens in a turn ---- */

int64_t tx_last_event(struct tx *tx)
{
        int64_t pos = 0;

        BUG_ON(tx_numbers(tx, SQL_COUNT, &pos, 1, NULL, 0) != ERR_OK);
        return pos;
}

static enum err tick(void *hooks, struct tx *tx)
{
        struct sim *s = hooks;
        enum err e;

        s->ticked = true;
        s->tick_ran = ++s->ran;
        s->tick_from = tx_last_event(tx);
        e = hooks_tick(hooks, tx);
        if (e)
                violation(s, "the tick failed: " STR_FMT, STR_ARG(tx_scope(tx)->fault.detail));
        s->tick_to = tx_last_event(tx);
        return e;
}

/* ---- life ---- */

static enum err find_workspace(struct tx *tx, void *arg)
{
        struct principal all = { .all_workspaces = true };
        struct workspace w;
        enum err e = workspace_get(tx, &all, STR("default"), &w);

        if (!e)
                memcpy(arg, w.id.p, w.id.n);
        return e;
}

static void people(struct sim *s)
{
        static const char *const actors[CLIENTS] = { "human:ada",       "human:bob",
                                                     "agent_session:1", "agent_session:2",
                                                     "automation:3",    "agent_session:4" };
        struct str workspace = str_from(s->workspace);

        for (int i = 0; i < CLIENTS; i++)
                s->clients[i] = (struct principal){ .actor = str_from(actors[i]),
                                                    .origin = STR("http:api"),
                                                    .workspace = workspace,
                                                    .scopes = SCOPE_ALL };
        s->worker_by = (struct principal){ .actor = STR("daemon:worker"),
                                           .origin = STR("daemon:worker"),
                                           .all_workspaces = true,
                                           .scopes = SCOPE_ALL | SCOPE_WORKER };
}

static void must(struct sim *s, enum err e, const char *what)
{
        if (e)
                violation(s, "%s: " STR_FMT, what, STR_ARG(s->scope.fault.detail));
}

/* The domain's, and one of ours. */
static const struct statement *registry(struct sim *s)
{
        if (!s->statements) {
                s->statements = xcalloc(SQL_COUNT + 1, sizeof(*s->statements));
                memcpy(s->statements, domain_statements, SQL_COUNT * sizeof(*s->statements));
                s->statements[SQL_COUNT] = (struct statement){
                        "last_event", "SELECT coalesce(max(pos), 0) FROM event", NULL
                };
        }
        return s->statements;
}

void server_start(struct sim *s, bool first)
{
        struct store_options options = { .path = s->path,
                                         .world = &s->w.world,
                                         .statements = registry(s),
                                         .n_statements = SQL_COUNT + 1,
                                         .migrations = migrations,
                                         .n_migrations = migrations_n };

        failing = s;
        s->fail_commit = false; /* a start writes too, and has nobody to refuse */
        sqlite3_auto_extension((void (*)(void))on_connection);
        s->definitions = definition_cache_new(&s->w.world);
        hooks_open(&s->hooks, &s->w.world, &s->store);
        hooks_set(&s->hooks, &options);
        options.tick = tick;
        s->hooks.domain->review_timeout = 25 * US_PER_S;
        s->hooks.domain->attention_after = ATTENTION;
        scope_init(&s->scope, &s->w.world);
        must(s, store_open(&s->scope, &options, &s->store), "the store does not open");
        if (s->failed)
                return;
        must(s, store_run(s->store, &s->scope, domain_boot, s->hooks.domain), "the server does not boot");
        s->still_until = s->w.boot + (first ? 0 : 10 * US_PER_S);
        s->tick_boot = s->w.boot;
        if (first) {
                must(s, store_run(s->store, &s->scope, find_workspace, s->workspace), "no workspace");
                people(s);
                definitions_make(s);
        }
        model_boot(s);
}

void server_stop(struct sim *s)
{
        for (int i = 0; i < WORKERS; i++)
                worker_forget(&s->workers[i]);
        while (s->waiters) {
                reached(s, DROPPED);
                op_drop(s->waiters);
        }
        for (int i = 0; i < FOLLOWERS; i++)
                if (s->followers[i].tree) {
                        hub_unsubscribe(s->hooks.hub, &s->followers[i].subscription);
                        s->followers[i].tree = 0;
                }
        if (s->store)
                store_close(s->store);
        s->store = NULL;
        hooks_close(&s->hooks);
        definition_cache_free(s->definitions);
        scope_done(&s->scope);
}

void server_turn(struct sim *s)
{
        struct store_stats stats;

        s->n_served = 0;
        s->ticked = s->commit_failed = false;
        s->turn++;
        writer_turn(s->store);
        if (s->commit_failed)
                reached(s, COMMIT_FAILED);
        store_stats(s->store, &stats);
        s->commit_failed |= !stats.healthy;
}
