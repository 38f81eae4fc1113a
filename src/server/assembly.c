#include "server/assembly.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "domain/migrations.h"
#include "domain/profile.h"
#include "domain/server.h"
#include "domain/sql.h"
#include "hub/redis.h"
#include "server/privileges.h"
#include "server/process.h"

/* ---- the store ---- */

/* What distinguishes this data directory from those of other servers on the database. */
static enum err read_place(struct scope *scope, struct assembly *a)
{
        a->hooks.domain->host = str_from(a->host);
        return directory_name(scope, &a->data, "server.id", &a->hooks.domain->place);
}

static enum err open_store(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        bool is_file = !o->store[0];
        struct store_options options = {
                .path = is_file ? directory_file(scope, &a->data, "baton.db") : o->store,
                .reserve = is_file ? directory_file(scope, &a->data, "reserve") : NULL,
                .world = &system_world,
                .statements = domain_statements,
                .n_statements = SQL_COUNT,
                .migrations = migrations,
                .n_migrations = migrations_n,
                .readers = (int)o->reader_threads,
                .boost = a->boost,
        };
        enum err e;

        hooks_set(&a->hooks, &options);
        e = is_file ? ERR_OK : read_place(scope, a);
        if (!e)
                e = store_open(scope, &options, &a->store);
        if (!e)
                e = store_run(a->store, scope, domain_boot, a->hooks.domain);
        if (e == ERR_CONFLICT && a->made_vault) /* it is nobody's */
                unlink(directory_file(scope, &a->data, "secret.key"));
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_OPEN);
        return e;
}

/* ---- the worker ---- */

static const char *workspaces_of(struct scope *scope, const struct assembly *a)
{
        return a->options->workspaces[0] ? a->options->workspaces : directory_file(scope, &a->data, "workspaces");
}

static enum err start_spawner(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        struct spawner_options options = { .workspaces = workspaces_of(scope, a),
                                           .git_roots = o->git_local_root,
                                           .sandbox = o->sandbox,
                                           .memory_cap = o->command_memory << 20,
                                           .process_cap = o->command_processes,
                                           .cpu_cap = o->command_cpus };

        if (!spawner_sandbox_is_known(o->sandbox))
                return fail_field(scope, "sandbox", ERR_VALIDATION,
                                  "--sandbox must be auto, bwrap, landlock or trusted, not \"%s\"",
                                  o->sandbox);
        return spawner_start(scope, &options, &a->spawner);
}

/* The name of the directory of workspaces.  Others may be about to give it one too. */
static enum err read_volume(struct scope *scope, struct assembly *a)
{
        struct directory d = { .lock = -1 };
        enum err e;

        a->volume = STR("");
        if (!a->options->store[0])
                return ERR_OK;
        snprintf(d.path, sizeof(d.path), "%s", workspaces_of(scope, a));
        d.lock = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d.lock < 0 || flock(d.lock, LOCK_EX))
                return fail(scope, ERR_UNAVAILABLE, "cannot lock %s: %s", d.path, strerror(errno));
        e = directory_name(scope, &d, "volume.id", &a->volume);
        directory_close(&d);
        return e;
}

static enum err await_spawner(struct scope *scope, struct assembly *a)
{
        const char *runtime, *problem;
        enum err e = spawner_ready(scope, a->spawner);

        if (e)
                return e;
        runtime = str_c(&scope->arena, spawner_runtime(a->spawner));
        problem = str_c(&scope->arena, spawner_runtime_problem(a->spawner));
        if (strcmp(runtime, "none") == 0)
                log_write(LOG_WARN, "commands will be refused", "reason", problem, NULL);
        else
                log_write(strcmp(runtime, "bwrap") ? LOG_WARN : LOG_INFO, "sandbox", "runtime",
                          runtime, "without", problem, NULL);
        return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
        return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* "b, a" as the sorted "a,b" that capabilities are compared by. */
static struct str sorted_names(struct scope *scope, const char *text)
{
        struct str names[64] = { 0 }, rest = str_from(text), out = STR_NONE;
        size_t n = 0;

        while (rest.n && n < LENGTH(names)) {
                struct str name = str_trim(str_cut(rest, ',', &rest));

                if (name.n)
                        names[n++] = name;
        }
        qsort(names, n, sizeof(*names), by_name);
        for (size_t i = 0; i < n; i++)
                out = arena_printf(&scope->arena, STR_FMT "%s" STR_FMT, STR_ARG(out), i ? "," : "",
                                   STR_ARG(names[i]));
        return out;
}

static enum err start_worker(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        struct worker_options options = { .store = a->store,
                                          .hub = a->hooks.hub,
                                          .spawner = a->spawner,
                                          .definitions = a->definitions,
                                          .world = &system_world,
                                          .concurrency = (int)o->concurrency,
                                          .capabilities = sorted_names(scope, o->capabilities),
                                          .volume = a->volume,
                                          .egress = &a->egress };

        if (!o->concurrency)
                return ERR_OK;
        return worker_start(scope, &options, &a->worker);
}

/* ---- webhooks ---- */

static enum err start_webhooks(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        const int64_t day_ms = 86400000;
        struct deliverer_options options = {
                .store = a->store,
                .world = &system_world,
                .egress = &a->egress,
                .policy = { .max_attempts = o->webhook_attempts,
                            .delay_ms = o->webhook_retry_seconds * 1000,
                            .max_delay_ms = day_ms,
                            .backoff = 2.5,
                            .jitter = 0.2 },
                .keep_us = o->webhook_keep_days * day_ms * US_PER_MS,
        };
        enum err e = deliverer_start(scope, &options, &a->deliverer);

        if (!e)
                e = asker_start(scope, a->store, &a->egress, &a->asker);

        /* HTTP comes later: nothing has changed before. */
        a->hooks.webhooks = a->deliverer;
        a->hooks.webhooks_changed = deliverer_wake;
        a->hooks.asker = a->asker;
        a->hooks.ask = asker_ask;
        return e;
}

/* ---- the bus ---- */

/* By Redis, if one is named, or by the database; a file has no other servers to hear of. */
static enum err make_bus(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        const bool by_redis = o->redis[0], shared = o->store[0];
        struct bus_options options = { .link = by_redis ? &redis_link : &notify_link,
                                       .url = by_redis ? o->redis : o->store,
                                       .place = o->redis_prefix,
                                       .shared = shared,
                                       .store = &a->store,
                                       .hooks = &a->hooks,
                                       .world = &system_world };
        const struct copies_options copies = {
                .url = o->redis,
                .prefix = o->redis_prefix,
                .store = &a->store,
                .world = &system_world,
        };
        enum err e = by_redis ? redis_check(scope, o->redis) : ERR_OK;

        if (e)
                return e;
        if (by_redis || shared)
                a->hooks.bus = bus_new(&options);
        if (by_redis)
                a->hooks.copies = copies_new(&copies);
        return ERR_OK;
}

static enum err start_bus(struct scope *scope, struct assembly *a)
{
        const struct options *o = a->options;
        struct str worker = o->concurrency ? server_worker(&scope->arena, a->hooks.domain->number) : STR_NONE;
        enum err e = a->hooks.copies ? copies_start(scope, a->hooks.copies, worker) : ERR_OK;

        return e || !a->hooks.bus ? e : bus_start(scope, a->hooks.bus);
}

/* ---- its life ---- */

enum err assembly_open(struct scope *scope, struct assembly *a, const struct options *o)
{
        struct domain *domain;
        enum err e;

        a->options = o;
        if (o->store[0] && !store_is_url(o->store))
                return fail_field(scope, "store", ERR_VALIDATION,
                                  "--store must be a URL as postgres://user@host/name");
        e = egress_read(scope, str_from(o->egress_allow), &a->egress);
        if (!e)
                e = directory_open(scope, &a->data, o->data);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_LOCKED);
        /* The spawner is forked while there is nothing yet that it must not have.  It tries its sandbox
         * while the database is opened. */
        if (!e)
                e = start_spawner(scope, a);
        if (!e)
                e = read_volume(scope, a);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_SPAWNER);
        if (e)
                return e;
        a->boost = privileges_boost();
        e = privileges_drop(scope, a->data.path);
        if (e)
                return e;
        gethostname(a->host, sizeof(a->host) - 1);
        a->definitions = definition_cache_new(&system_world);
        hooks_open(&a->hooks, &system_world, &a->store);
        domain = a->hooks.domain;
        domain->vault_replaced = o->replace_secret_key;
        domain->volume = a->volume;
        domain->worker = o->concurrency;
        domain->force_limit = o->agent_force_limit;
        domain->review_timeout = o->review_seconds * US_PER_S;
        domain->attention_after = o->attention_seconds * US_PER_S;
        e = profile_refusals(scope, str_from(o->profile_refuse), &domain->profile_refuses);
        if (!e)
                e = directory_vault(scope, &a->data, domain->vault, sizeof(domain->vault), &a->made_vault);
        if (!e)
                e = make_bus(scope, a);
        return e ? e : open_store(scope, a);
}

enum err assembly_start(struct scope *scope, struct assembly *a)
{
        enum err e = store_start(scope, a->store);

        a->started = !e;
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_THREADS);
        if (!e)
                e = await_spawner(scope, a);
        if (!e)
                e = start_worker(scope, a);
        if (!e)
                e = start_webhooks(scope, a);
        return e ? e : start_bus(scope, a);
}

static bool works(void *assembly)
{
        const struct assembly *a = assembly;

        return a->worker && worker_active(a->worker);
}

static bool delivers(void *assembly)
{
        return deliverer_counts(((const struct assembly *)assembly)->deliverer).active;
}

bool assembly_drain(struct assembly *a, const sigset_t *signals)
{
        if (a->worker)
                worker_drain(a->worker);
        if (!process_patience(signals, a->options->drain_seconds, works, a))
                return false;
        deliverer_drain(a->deliverer);
        return process_patience(signals, DELIVERER_SECONDS, delivers, a);
}

void assembly_stop(struct scope *scope, struct assembly *a)
{
        if (a->worker)
                worker_stop(a->worker);
        if (a->deliverer)
                deliverer_stop(a->deliverer);
        if (a->asker)
                asker_stop(a->asker);
        if (a->hooks.bus)
                bus_stop(a->hooks.bus);
        if (a->hooks.copies)
                copies_stop(a->hooks.copies);
        failpoint_pass(FAILPOINT_STOP_STORE);
        if (!a->started)
                return;
        store_stop(a->store);
        if (store_run(a->store, scope, server_leave, a->hooks.domain))
                log_write(LOG_WARN, "server_not_signed_off", NULL);
}

void assembly_close(struct assembly *a)
{
        failpoint_pass(FAILPOINT_STOP_CLOSE);
        if (a->store)
                store_close(a->store);
        if (a->worker)
                worker_free(a->worker);
        if (a->deliverer)
                deliverer_free(a->deliverer);
        if (a->asker)
                asker_free(a->asker);
        spawner_free(a->spawner);
        if (a->definitions)
                definition_cache_free(a->definitions);
        if (a->hooks.bus)
                bus_free(a->hooks.bus);
        if (a->hooks.copies)
                copies_free(a->hooks.copies);
        if (a->hooks.domain)
                hooks_close(&a->hooks);
        directory_close(&a->data);
}
