#include "server/serve.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "core/failpoint.h"
#include "core/log.h"
#include "domain/key.h"
#include "domain/sql.h"
#include "server/assembly.h"
#include "server/process.h"
#include "worker/files.h"

enum { HTTP_DRAIN_SECONDS = 5, IDLE_SECONDS = 5 };

/* An assembly that clients reach. */
struct server {
        struct assembly base;
        struct api *api;
        struct http_server *http;
};

/* ---- first start ---- */

/* The file comes after the commit: a crash between the two makes one more key at the next start. */
static enum err admin_key(struct scope *scope, struct server *s)
{
        struct str secret;
        enum err e;

        if (access(directory_file(scope, &s->base.data, "admin.key"), F_OK) == 0)
                return ERR_OK;
        e = store_run(s->base.store, scope, key_create_admin, &secret);
        if (!e)
                e = failpoint(scope, FAILPOINT_BOOT_KEY);
        return e ? e : directory_write(scope, &s->base.data, "admin.key", secret);
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
                .unix_socket = directory_file(scope, &s->base.data, "baton.sock"),
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

        return e ? e : directory_write(scope, &s->base.data, "listen", str_from(http_server_address(s->http)));
}

/* ---- what the API asks ---- */

static bool worker_shown(void *context, struct scope *scope, struct worker_info *out)
{
        struct server *s = context;
        struct str problem = s->base.spawner ? spawner_runtime_problem(s->base.spawner) : STR_NONE;
        struct buf sandbox = BUF_INIT(4096);
        struct json_out j = { .out = &sandbox };

        if (!s->base.worker)
                return false;
        json_begin_object(&j);
        json_key(&j, "runtime");
        json_put_str(&j, spawner_runtime(s->base.spawner));
        if (problem.n) {
                json_key(&j, "problem");
                json_put_str(&j, problem);
        }
        json_end_object(&j);
        *out = (struct worker_info){
                .id = STR("worker_embedded"),
                .kind = STR("worker"),
                .host = str_dup(&scope->arena, str_from(s->base.host)),
                .concurrency = s->base.options->concurrency,
                .active_runs = worker_active(s->base.worker),
                .last_heartbeat_at = scope->now,
                .sandbox = str_dup(&scope->arena, buf_view(&sandbox)),
        };
        buf_done(&sandbox);
        return true;
}

static enum err workspace_usage(void *context, struct scope *scope, const struct workspace *w, int64_t *bytes,
                                int64_t *files)
{
        struct server *s = context;
        enum err e;

        if (s->base.volume.n && w->volume.p && !str_eq(s->base.volume, w->volume))
                return fail(scope, ERR_UNAVAILABLE,
                            "the files of the workspace are on the volume " STR_FMT
                            ", which this server does not have: ask one that has (--workspaces)",
                            STR_ARG(w->volume));
        e = files_usage(scope, s->base.spawner, w->id, (uint32_t)w->uid, bytes, files);
        if (e == ERR_NOT_FOUND) { /* nothing has run in it yet */
                *bytes = *files = 0;
                scope->fault = (struct fault){ 0 };
                return ERR_OK;
        }
        return e;
}

static struct delivery_counts count_deliveries(void *context)
{
        const struct server *s = context;

        return deliverer_counts(s->base.deliverer);
}

static bool bus_shown(void *context, struct bus_stats *out)
{
        const struct server *s = context;

        if (s->base.hooks.bus)
                bus_stats(s->base.hooks.bus, out);
        return s->base.hooks.bus != NULL;
}

/* ---- its life ---- */

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
        struct hooks *hooks = &s->base.hooks;
        enum err e = assembly_open(scope, &s->base, o);

        if (!e)
                e = admin_key(scope, s);
        if (e)
                return e;
        api.store = s->base.store;
        api.hub = hooks->hub;
        api.definitions = s->base.definitions;
        s->api = api_new(&api);
        hooks->keys_changed = api_keys_changed;
        hooks->keys = s->api;
        e = assembly_start(scope, &s->base);
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
        if (store_call(s->base.store, &c.call))
                c.idle = false;
        scope_done(&scope);
        return c.idle;
}

/* With --exit-when-idle: 0 once there has been nothing to do for IDLE_SECONDS. */
static int wait_while_busy(struct server *s, const sigset_t *signals)
{
        const int enough = IDLE_SECONDS * 1000 / PROCESS_LOOK_MS;
        int moments = 0, signal = 0;

        while (!signal && moments < enough) {
                moments = is_idle(s) ? moments + 1 : 0;
                signal = process_wait(signals, true);
        }
        return signal;
}

static bool is_busy(void *http)
{
        return http_server_busy(http);
}

/* Nothing new is taken; what is under way may end, until its time is over or a second signal. */
static void drain(struct server *s, const sigset_t *signals, int signal)
{
        failpoint_pass(FAILPOINT_DRAIN);
        log_write(LOG_INFO, "draining", "reason", signal == SIGTERM ? "SIGTERM" : signal ? "SIGINT" : "idle", NULL);
        api_drain(s->api);
        http_server_drain(s->http);
        if (assembly_drain(&s->base, signals))
                process_patience(signals, HTTP_DRAIN_SECONDS, is_busy, s->http);
}

static void stop(struct scope *scope, struct server *s)
{
        failpoint_pass(FAILPOINT_DRAINED);
        /* The store before HTTP: every call that is under way gets its answer. */
        assembly_stop(scope, &s->base);
        if (s->http) {
                unlink(directory_file(scope, &s->base.data, "listen"));
                http_server_stop(s->http);
        }
        if (s->api)
                api_free(s->api);
        assembly_close(&s->base);
}

enum err serve(struct scope *scope, const struct options *o)
{
        struct server s = { .base = ASSEMBLY_INIT };
        sigset_t signals;
        int signal;
        enum err e;

        process_begin(&signals);
        e = start(scope, &s, o);
        if (!e) {
                printf("listening on http://%s\n", http_server_address(s.http));
                fflush(stdout);
                signal = o->exit_when_idle ? wait_while_busy(&s, &signals) : process_wait(&signals, false);
                e = process_check(scope, signal);
                if (!e)
                        drain(&s, &signals, signal);
        }
        stop(scope, &s);
        return e;
}
