#include "server/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "core/log.h"
#include "domain/key.h"
#include "domain/migrations.h"
#include "domain/sql.h"
#include "domain/workspace.h"

enum { TICK_MS = 250, DRAIN_SECONDS = 5 };

struct server {
        struct domain *domain;
        struct waiting *waiting;
        struct hub *hub;
        struct store *store;
        struct api *api;
        struct http_server *http;
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
        const char *home = getenv("HOME");
        enum err e;

        if (*data)
                snprintf(s->data, sizeof(s->data), "%s", data);
        else
                snprintf(s->data, sizeof(s->data), "%s/.local/share/baton", home ? home : "/root");
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

/* Whole or not at all, and durable: written beside, synced, renamed. */
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
        if (!ok || rename(temporary, path))
                return fail(scope, ERR_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
        return ERR_OK;
}

/* ---- first start ---- */

static enum err make_admin_key(struct tx *tx, void *arg)
{
        struct principal by = { .actor = STR("daemon:baton"),
                                .origin = STR("daemon:boot"),
                                .all_workspaces = true,
                                .scopes = SCOPE_ALL };
        struct key_spec spec = { .name = STR("admin"),
                                 .actor_kind = STR("human"),
                                 .ref = STR("admin"),
                                 .scopes = SCOPE_ALL };
        struct key key;

        return key_create(tx, &by, &spec, &key, arg);
}

/* The file comes after the commit: a crash between the two makes one more key at the next start. */
static enum err admin_key(struct scope *scope, struct server *s)
{
        struct str secret;
        enum err e;

        if (access(in_data(scope, s, "admin.key"), F_OK) == 0)
                return ERR_OK;
        e = store_run(s->store, scope, make_admin_key, &secret);
        return e ? e : write_file(scope, s, "admin.key", secret);
}

/* ---- hooks of the store ---- */

static void committed(void *context, const struct hint *hints, size_t n)
{
        struct server *s = context;

        lanes_committed(s->domain->lanes);
        for (size_t i = 0; i < n; i++) {
                if (hints[i].kind == HINT_TREE)
                        hub_publish(s->hub, hints[i].key);
                else if (hints[i].kind == HINT_LANE)
                        waiting_lane(s->waiting, hints[i].key);
                else if (hints[i].kind == HINT_KEYS)
                        api_keys_changed(s->api);
        }
}

static enum err tick(void *context, struct tx *tx)
{
        struct server *s = context;
        const struct clock *clock = s->domain->world->clock;

        waiting_tick(s->waiting, clock->boot(clock->ctx));
        return domain_tick(s->domain, tx);
}

/* The store's hooks and the transactions' context differ: operations see only the domain. */
static void park(void *context, struct call *call)
{
        struct server *s = context;

        waiting_park(s->waiting, (struct claim_call *)call);
}

static void rolled_back(void *context)
{
        domain_rolled_back(((struct server *)context)->domain);
}

static enum err open_store(struct scope *scope, struct server *s, const struct options *o)
{
        struct store_options options = {
                .path = in_data(scope, s, "baton.db"),
                .world = &system_world,
                .statements = domain_statements,
                .n_statements = SQL_COUNT,
                .migrations = migrations,
                .n_migrations = migrations_n,
                .readers = (int)o->reader_threads,
                .context = s->domain,
                .hooks = s,
                .committed = committed,
                .rolled_back = rolled_back,
                .park = park,
                .tick = tick,
                .tick_ms = TICK_MS,
        };
        enum err e = store_open(scope, &options, &s->store);

        if (!e)
                e = store_run(s->store, scope, domain_boot, s->domain);
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

static enum err start(struct scope *scope, struct server *s, const struct options *o)
{
        struct api_options api = { .hosts = host_list(scope, o->allow_host),
                                   .world = &system_world,
                                   .version = BATON_VERSION };
        enum err e = open_data(scope, s, o->data);

        if (e)
                return e;
        s->domain = domain_new(&system_world);
        s->waiting = waiting_new(&s->store, s->domain);
        s->hub = hub_new();
        e = open_store(scope, s, o);
        if (e)
                return e;
        api.store = s->store;
        api.hub = s->hub;
        s->api = api_new(&api);
        e = store_start(scope, s->store);
        s->started = !e;
        return e ? e : open_http(scope, s, o);
}

static void wait_for_end(struct server *s, const sigset_t *signals)
{
        const struct timespec moment = { 0, 50000000 };
        int signal;

        sigwait(signals, &signal);
        log_write(LOG_INFO, "draining", "signal", signal == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
        api_drain(s->api);
        http_server_drain(s->http);
        for (int i = 0; i < DRAIN_SECONDS * 20 && http_server_busy(s->http); i++)
                if (sigtimedwait(signals, NULL, &moment) > 0)
                        break; /* a second signal: at once */
}

static void stop(struct scope *scope, struct server *s)
{
        /* The store first: every call that is under way gets its answer. */
        if (s->started)
                store_stop(s->store);
        if (s->http) {
                unlink(in_data(scope, s, "listen"));
                http_server_stop(s->http);
        }
        if (s->api)
                api_free(s->api);
        if (s->store)
                store_close(s->store);
        if (s->hub) {
                hub_free(s->hub);
                waiting_free(s->waiting);
                domain_free(s->domain);
        }
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
        struct server s = { .lock = -1 };
        sigset_t signals;
        enum err e;

        umask(077);
        mallopt(M_ARENA_MAX, 2); /* few heaps: a small idle footprint */
        raise_descriptors();
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        e = start(scope, &s, o);
        if (!e) {
                printf("listening on http://%s\n", http_server_address(s.http));
                fflush(stdout);
                wait_for_end(&s, &signals);
        }
        stop(scope, &s);
        return e;
}
