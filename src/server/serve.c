#include "server/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "core/failpoint.h"
#include "core/log.h"
#include "domain/key.h"
#include "domain/migrations.h"
#include "domain/profile.h"
#include "domain/server.h"
#include "domain/sql.h"
#include "domain/workspace.h"
#include "hub/bus.h"
#include "hub/hooks.h"
#include "hub/redis.h"
#include "server/privileges.h"
#include "webhook/asker.h"
#include "webhook/deliverer.h"
#include "worker/files.h"
#include "worker/worker.h"

/* It cannot be forked again from a process with threads, a database and no rights. */
static const char SPAWNER_DIED[] = "the spawner has died";

enum { HTTP_DRAIN_SECONDS = 5, MOMENT_MS = 50, IDLE_SECONDS = 5,
       SPARE_BYTES = 16 << 20 };

struct server {
        struct hooks hooks;
        struct store *store;
        struct api *api;
        struct http_server *http;
        struct spawner *spawner;
        struct definition_cache *definitions;
        struct worker *worker;
        struct deliverer *deliverer;
        struct asker *asker;
        struct egress egress;
        const struct options *options;
        char host[256];
        int lock;
        bool started; /* the store's threads run */
        char data[512];
};

/* ---- files of the data directory ---- */

static const char *in_data(struct scope *scope, const struct server *s, const char *name)
{
        return arena_printf(&scope->arena, "%s/%s", s->data, name).p;
}

static enum err make_directory(struct scope *scope, const char *path)
{
        char *at = str_c(&scope->arena, str_from(path));

        for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                mkdir(at, 0700);
                *slash = '/';
        }
        if (mkdir(at, 0700) && errno != EEXIST)
                return fail(scope, ERR_UNAVAILABLE, "cannot make %s: %s", path, strerror(errno));
        return ERR_OK;
}

static enum err open_data(struct scope *scope, struct server *s, const char *data)
{
        enum err e;

        snprintf(s->data, sizeof(s->data), "%s", data);
        e = make_directory(scope, s->data);
        if (e)
                return e;
        s->lock = open(in_data(scope, s, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (s->lock < 0)
                return fail(scope, ERR_UNAVAILABLE, "cannot write in %s: %s", s->data,
                            strerror(errno));
        if (flock(s->lock, LOCK_EX | LOCK_NB))
                return fail(scope, ERR_UNAVAILABLE,
                            "another server already uses %s; stop it or choose another --data",
                            s->data);
        return ERR_OK;
}

static bool sync_directory(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        return ok;
}

/* Whole or not at all, and durable: written beside, synced, renamed, and the name synced too. */
static enum err write_file(struct scope *scope, const struct server *s, const char *name,
                           struct str text)
{
        const char *path = in_data(scope, s, name), *temporary;
        bool ok;
        int fd;

        temporary = arena_printf(&scope->arena, "%s.new", path).p;
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ok = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0;
        if (fd >= 0)
                close(fd);
        if (!ok || failpoint_fails(FAILPOINT_BOOT_FILE) || rename(temporary, path) ||
            !sync_directory(s->data))
                return fail(scope, ERR_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
        return ERR_OK;
}

/*
 * The key under which secrets are sealed, made at the first start.  Whoever can read it and a copy of
 * the database can read the secrets: one that others can read is refused.
 */
static enum err read_vault(struct scope *scope, const struct server *s)
{
        const char *path = in_data(scope, s, "secret.key");
        unsigned char *vault = s->hooks.domain->vault;
        const size_t n = sizeof(s->hooks.domain->vault);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat st = { 0 };
        bool whole;

        if (fd < 0 && errno == ENOENT) {
                scope_random(scope, vault, n);
                return write_file(scope, s, "secret.key", (struct str){ (char *)vault, n });
        }
        if (fd < 0)
                return fail(scope, ERR_UNAVAILABLE, "cannot read %s: %s", path, strerror(errno));
        whole = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == (off_t)n &&
                read(fd, vault, n) == (ssize_t)n;
        close(fd);
        if (st.st_mode & 077)
                return fail(scope, ERR_UNAVAILABLE,
                            "%s can be read by others (mode %04o): make it 0600, and put the"
                            " secrets anew if somebody may have copied it",
                            path, (unsigned)st.st_mode & 07777);
        if (!whole)
                return fail(scope, ERR_UNAVAILABLE, "%s is not a key of %zu bytes", path, n);
        return ERR_OK;
}

/* What distinguishes this data directory from those of other servers on the database. */
static enum err read_place(struct scope *scope, struct server *s)
{
        struct domain *d = s->hooks.domain;
        unsigned char random[16];
        const size_t n = 2 * sizeof(random);
        char place[2 * sizeof(random) + 1] = "";
        const char *path = in_data(scope, s, "server.id");
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        bool whole = fd >= 0 && read(fd, place, n) == (ssize_t)n;
        bool missing = fd < 0 && errno == ENOENT;
        enum err e = ERR_OK;

        if (fd >= 0)
                close(fd);
        if (!missing && !whole)
                return fail(scope, ERR_UNAVAILABLE, "%s is no name of a server: remove it", path);
        if (missing) {
                scope_random(scope, random, sizeof(random));
                sodium_bin2hex(place, sizeof(place), random, sizeof(random));
                e = write_file(scope, s, "server.id", str_from(place));
        }
        d->place = str_dup(&scope->arena, str_from(place));
        d->host = str_from(s->host);
        return e;
}

/* ---- first start ---- */

/* The file comes after the commit: a crash between the two makes one more key at the next start. */
static enum err admin_key(struct scope *scope, struct server *s)
{
        struct str secret;
        enum err e;

        if (access(in_data(scope, s, "admin.key"), F_OK) == 0)
                return ERR_OK;
        e = store_run(s->store, scope, key_create_admin, &secret);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_KEY);
        return e ? e : write_file(scope, s, "admin.key", secret);
}

static enum err open_store(struct scope *scope, struct server *s, const struct options *o)
{
        bool is_file = !o->store[0];
        struct store_options options = {
                .path = is_file ? in_data(scope, s, "baton.db") : o->store,
                .reserve = is_file ? in_data(scope, s, "reserve") : NULL,
                .world = &system_world,
                .statements = domain_statements,
                .n_statements = SQL_COUNT,
                .migrations = migrations,
                .n_migrations = migrations_n,
                .readers = (int)o->reader_threads,
        };
        enum err e;

        if (!is_file && !store_is_url(o->store))
                return fail_field(scope, "store", ERR_VALIDATION,
                                  "--store must be a URL as postgres://user@host/name");
        hooks_set(&s->hooks, &options);
        e = is_file ? ERR_OK : read_place(scope, s);
        if (e)
                return e;
        e = store_open(scope, &options, &s->store);

        if (!e)
                e = store_run(s->store, scope, domain_boot, s->hooks.domain);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_OPEN);
        return e ? e : admin_key(scope, s);
}

/* ---- serving ---- */

static const char **host_list(struct scope *scope, const char *text)
{
        const char **out = arena_array(&scope->arena, const char *, 65);
        struct str rest = str_from(text);
        size_t n = 0;

        while (rest.n && n < 64)
                out[n++] = str_c(&scope->arena, str_cut(rest, ',', &rest));
        return out;
}

/* The user's name, or its number where nobody has one. */
static const char *user_name(struct scope *scope, uid_t uid)
{
        const struct passwd *user = getpwuid(uid);

        return user ? str_c(&scope->arena, str_from(user->pw_name)) :
                      arena_printf(&scope->arena, "uid-%u", uid).p;
}

static enum err open_http(struct scope *scope, struct server *s, const struct options *o)
{
        struct http_options options = {
                .listen = o->listen,
                .unix_socket = in_data(scope, s, "baton.sock"),
                .socket_uid = geteuid(),
                .loops = (int)o->http_threads,
                .head_seconds = 10,
                .idle_seconds = 60,
                .max_connections = (size_t)o->max_connections,
                .max_per_source = (size_t)o->max_connections_per_source,
                .world = &system_world,
                .body_limit = api_body_limit,
                .handle = api_handle,
                .loop_start = api_loop_start,
                .loop_stop = api_loop_stop,
                .app = s->api,
        };
        enum err e = http_server_start(scope, &options, &s->http);

        return e ? e : write_file(scope, s, "listen", str_from(http_server_address(s->http)));
}

/* ---- what the API asks of the worker ---- */

static bool worker_shown(void *context, struct scope *scope, struct worker_info *out)
{
        struct server *s = context;
        struct str problem = s->spawner ? spawner_runtime_problem(s->spawner) : STR_NONE;
        struct buf sandbox = BUF_INIT(4096);
        struct json_out j = { .out = &sandbox };

        if (!s->worker)
                return false;
        json_begin_object(&j);
        json_key(&j, "runtime");
        json_put_str(&j, spawner_runtime(s->spawner));
        if (problem.n) {
                json_key(&j, "problem");
                json_put_str(&j, problem);
        }
        json_end_object(&j);
        *out = (struct worker_info){
                .id = STR("worker_embedded"),
                .kind = STR("worker"),
                .host = str_dup(&scope->arena, str_from(s->host)),
                .concurrency = s->options->concurrency,
                .active_runs = worker_active(s->worker),
                .last_heartbeat_at = scope->now,
                .sandbox = str_dup(&scope->arena, buf_view(&sandbox)),
        };
        buf_done(&sandbox);
        return true;
}

static enum err workspace_usage(void *context, struct scope *scope, struct str workspace, int64_t uid,
                                int64_t *bytes, int64_t *files)
{
        struct server *s = context;
        enum err e = files_usage(scope, s->spawner, workspace, (uint32_t)uid, bytes, files);

        if (e == ERR_NOT_FOUND) { /* nothing has run in it yet */
                *bytes = *files = 0;
                scope->fault = (struct fault){ 0 };
                return ERR_OK;
        }
        return e;
}

/* ---- the worker ---- */

static enum err start_spawner(struct scope *scope, struct server *s, const struct options *o)
{
        struct spawner_options options = { .workspaces = in_data(scope, s, "workspaces"),
                                           .git_roots = o->git_local_root,
                                           .sandbox = o->sandbox,
                                           .memory_cap = o->command_memory << 20,
                                           .process_cap = o->command_processes,
                                           .cpu_cap = o->command_cpus };

        if (!spawner_sandbox_is_known(o->sandbox))
                return fail_field(scope, "sandbox", ERR_VALIDATION,
                                  "--sandbox must be auto, bwrap, landlock or trusted, not \"%s\"",
                                  o->sandbox);
        return spawner_start(scope, &options, &s->spawner);
}

static enum err await_spawner(struct scope *scope, struct server *s)
{
        const char *runtime, *problem;
        enum err e = spawner_ready(scope, s->spawner);

        if (e)
                return e;
        runtime = str_c(&scope->arena, spawner_runtime(s->spawner));
        problem = str_c(&scope->arena, spawner_runtime_problem(s->spawner));
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

static enum err start_worker(struct scope *scope, struct server *s, const struct options *o)
{
        struct worker_options options = { .store = s->store,
                                          .hub = s->hooks.hub,
                                          .spawner = s->spawner,
                                          .definitions = s->definitions,
                                          .world = &system_world,
                                          .actor = server_worker(&scope->arena, s->hooks.domain->number),
                                          .concurrency = (int)o->concurrency,
                                          .capabilities = sorted_names(scope, o->capabilities),
                                          .egress = &s->egress };

        if (!o->concurrency)
                return ERR_OK;
        return worker_start(scope, &options, &s->worker);
}

/* ---- webhooks ---- */

static enum err start_webhooks(struct scope *scope, struct server *s, const struct options *o)
{
        const int64_t day_ms = 86400000;
        struct deliverer_options options = {
                .store = s->store,
                .world = &system_world,
                .egress = &s->egress,
                .policy = { .max_attempts = o->webhook_attempts,
                            .delay_ms = o->webhook_retry_seconds * 1000,
                            .max_delay_ms = day_ms,
                            .backoff = 2.5,
                            .jitter = 0.2 },
                .keep_us = o->webhook_keep_days * day_ms * US_PER_MS,
        };
        enum err e = deliverer_start(scope, &options, &s->deliverer);

        if (!e)
                e = asker_start(scope, s->store, &s->egress, &s->asker);

        /* HTTP comes later: nothing has changed before. */
        s->hooks.webhooks = s->deliverer;
        s->hooks.webhooks_changed = deliverer_wake;
        s->hooks.asker = s->asker;
        s->hooks.ask = asker_ask;
        return e;
}

static struct delivery_counts count_deliveries(void *context)
{
        const struct server *s = context;

        return deliverer_counts(s->deliverer);
}

/* ---- the bus ---- */

/* By Redis, if one is named, or by the database; a file has no other servers to hear of. */
static enum err make_bus(struct scope *scope, struct server *s, const struct options *o)
{
        const bool by_redis = o->redis[0], shared = o->store[0];
        struct bus_options options = { .link = by_redis ? &redis_link : &notify_link,
                                       .url = by_redis ? o->redis : o->store,
                                       .place = o->redis_prefix,
                                       .shared = shared,
                                       .store = &s->store,
                                       .hooks = &s->hooks,
                                       .world = &system_world };
        const struct copies_options copies = {
                .url = o->redis,
                .prefix = o->redis_prefix,
                .store = &s->store,
                .world = &system_world,
        };
        enum err e = by_redis ? redis_check(scope, o->redis) : ERR_OK;

        if (e)
                return e;
        if (by_redis || shared)
                s->hooks.bus = bus_new(&options);
        if (by_redis)
                s->hooks.copies = copies_new(&copies);
        return ERR_OK;
}

static enum err start_bus(struct scope *scope, struct server *s, const struct options *o)
{
        struct str worker = o->concurrency ? server_worker(&scope->arena, s->hooks.domain->number) : STR_NONE;
        enum err e = s->hooks.copies ? copies_start(scope, s->hooks.copies, worker) : ERR_OK;

        return e || !s->hooks.bus ? e : bus_start(scope, s->hooks.bus);
}

static bool bus_shown(void *context, struct bus_stats *out)
{
        const struct server *s = context;

        if (s->hooks.bus)
                bus_stats(s->hooks.bus, out);
        return s->hooks.bus != NULL;
}

static enum err start(struct scope *scope, struct server *s, const struct options *o)
{
        struct api_options api = { .hosts = host_list(scope, o->allow_host),
                                   .world = &system_world,
                                   .version = BATON_VERSION,
                                   .root = user_name(scope, 0),
                                   .owner = user_name(scope, geteuid()),
                                   .max_streams = (size_t)o->max_streams_per_key,
                                   .hooks = s,
                                   .worker = worker_shown,
                                   .usage = workspace_usage,
                                   .deliveries = count_deliveries,
                                   .bus = bus_shown };
        enum err e = egress_read(scope, str_from(o->egress_allow), &s->egress);

        if (!e)
                e = open_data(scope, s, o->data);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_LOCKED);
        /* The spawner is forked while there is nothing yet that it must not have.  It tries its sandbox
         * while the database is opened. */
        if (!e)
                e = start_spawner(scope, s, o);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_SPAWNER);
        if (!e)
                e = privileges_drop(scope, s->data);
        if (e)
                return e;
        s->options = o;
        gethostname(s->host, sizeof(s->host) - 1);
        s->definitions = definition_cache_new(&system_world);
        hooks_open(&s->hooks, &system_world, &s->store);
        s->hooks.domain->force_limit = o->agent_force_limit;
        s->hooks.domain->review_timeout = o->review_seconds * US_PER_S;
        s->hooks.domain->attention_after = o->attention_seconds * US_PER_S;
        e = profile_refusals(scope, str_from(o->profile_refuse), &s->hooks.domain->profile_refuses);
        if (!e)
                e = read_vault(scope, s);
        if (!e)
                e = make_bus(scope, s, o);
        if (!e)
                e = open_store(scope, s, o);
        if (e)
                return e;
        api.store = s->store;
        api.hub = s->hooks.hub;
        api.definitions = s->definitions;
        s->api = api_new(&api);
        s->hooks.keys_changed = api_keys_changed;
        s->hooks.keys = s->api;
        e = store_start(scope, s->store);
        s->started = !e;
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_THREADS);
        if (!e)
                e = await_spawner(scope, s);
        if (!e)
                e = start_worker(scope, s, o);
        if (!e)
                e = start_webhooks(scope, s, o);
        if (!e)
                e = start_bus(scope, s, o);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_HTTP);
        return e ? e : open_http(scope, s, o);
}

struct idle_call {
        struct call call;
        bool idle;
};

static enum err look_for_work(struct call *call, struct tx *tx)
{
        int64_t one;
        enum err e = tx_number(tx, SQL_RUN_OPEN_FOR_WORKER, &one);

        ((struct idle_call *)call)->idle = e == ERR_EMPTY;
        return e == ERR_EMPTY ? ERR_OK : e;
}

static bool is_idle(struct server *s)
{
        struct scope scope;
        struct idle_call c = { .call = { .run = look_for_work, .reads = true, .scope = &scope } };

        if (http_server_busy(s->http))
                return false;
        scope_init(&scope, &system_world);
        if (store_call(s->store, &c.call))
                c.idle = false;
        scope_done(&scope);
        return c.idle;
}

/* With --exit-when-idle: false once there has been nothing to do for IDLE_SECONDS. */
static bool has_work(struct server *s, int *idle_moments)
{
        const int enough = IDLE_SECONDS * 1000 / (MOMENT_MS * 10);

        *idle_moments = is_idle(s) ? *idle_moments + 1 : 0;
        return *idle_moments < enough;
}

static const char *cause(int signal)
{
        return signal == SIGTERM ? "SIGTERM" : signal == SIGINT ? "SIGINT" : SPAWNER_DIED;
}

/* What a burst of connections took and gave back lies between what others hold: 5,000 idle streams
 * are 12 MiB with this and 44 MiB without. */
static void give_back_memory(void)
{
        if (mallinfo2().fordblks > SPARE_BYTES)
                malloc_trim(0);
}

static const char *wait_for_end(struct server *s, const sigset_t *signals)
{
        const struct timespec look = { 0, MOMENT_MS * 10 * 1000000L }, turn = { 10, 0 };
        int signal, idle_moments = 0;

        if (!s->options->exit_when_idle) {
                while ((signal = sigtimedwait(signals, NULL, &turn)) < 0)
                        give_back_memory();
                return cause(signal);
        }
        while ((signal = sigtimedwait(signals, NULL, &look)) < 0)
                if (!has_work(s, &idle_moments))
                        return "idle";
        return cause(signal);
}

/* Nothing new is taken; what is under way may end, until its time is over or a second signal. */
static void drain(struct server *s, const sigset_t *signals, const char *reason)
{
        const struct timespec moment = { 0, MOMENT_MS * 1000000L };
        const int64_t moments = 1000 / MOMENT_MS;
        int64_t left = s->options->drain_seconds * moments;

        failpoint_pass(FAILPOINT_DRAIN);
        log_write(LOG_INFO, "draining", "reason", reason, NULL);
        api_drain(s->api);
        http_server_drain(s->http);
        if (s->worker)
                worker_drain(s->worker);
        for (; s->worker && worker_active(s->worker) && left > 0; left--)
                if (sigtimedwait(signals, NULL, &moment) > 0)
                        return;
        deliverer_drain(s->deliverer);
        for (int64_t i = 0; i < DELIVERER_SECONDS * moments && count_deliveries(s).active; i++)
                if (sigtimedwait(signals, NULL, &moment) > 0)
                        return;
        for (int64_t i = 0; i < HTTP_DRAIN_SECONDS * moments && http_server_busy(s->http); i++)
                if (sigtimedwait(signals, NULL, &moment) > 0)
                        return;
}

static void stop(struct scope *scope, struct server *s)
{
        failpoint_pass(FAILPOINT_DRAINED);
        if (s->worker)
                worker_stop(s->worker);
        if (s->deliverer)
                deliverer_stop(s->deliverer);
        if (s->asker)
                asker_stop(s->asker);
        if (s->hooks.bus)
                bus_stop(s->hooks.bus);
        if (s->hooks.copies)
                copies_stop(s->hooks.copies);
        failpoint_pass(FAILPOINT_STOP_STORE);
        /* The store before HTTP: every call that is under way gets its answer. */
        if (s->started) {
                store_stop(s->store);
                if (store_run(s->store, scope, server_leave, s->hooks.domain))
                        log_write(LOG_WARN, "server_not_signed_off", NULL);
        }
        if (s->http) {
                unlink(in_data(scope, s, "listen"));
                http_server_stop(s->http);
        }
        if (s->api)
                api_free(s->api);
        failpoint_pass(FAILPOINT_STOP_CLOSE);
        if (s->store)
                store_close(s->store);
        if (s->worker)
                worker_free(s->worker);
        if (s->deliverer)
                deliverer_free(s->deliverer);
        if (s->asker)
                asker_free(s->asker);
        spawner_free(s->spawner);
        if (s->definitions)
                definition_cache_free(s->definitions);
        if (s->hooks.bus)
                bus_free(s->hooks.bus);
        if (s->hooks.copies)
                copies_free(s->hooks.copies);
        if (s->hooks.domain)
                hooks_close(&s->hooks);
        if (s->lock > 0)
                close(s->lock);
}

static void raise_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

enum err serve(struct scope *scope, const struct options *o)
{
        const struct sigaction ends_only = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP };
        struct server s = { .lock = -1 };
        const char *ended_by;
        sigset_t signals;
        enum err e;

        umask(077);
        mallopt(M_ARENA_MAX, 2); /* few heaps: a small idle footprint */
        raise_descriptors();
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGCHLD);
        sigaction(SIGCHLD, &ends_only, NULL);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        e = start(scope, &s, o);
        if (!e) {
                printf("listening on http://%s\n", http_server_address(s.http));
                fflush(stdout);
                ended_by = wait_for_end(&s, &signals);
                if (ended_by == SPAWNER_DIED)
                        e = fail(scope, ERR_UNAVAILABLE, "%s; start the server again", SPAWNER_DIED);
                else
                        drain(&s, &signals, ended_by);
        }
        stop(scope, &s);
        return e;
}
