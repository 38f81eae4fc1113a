/* Performers of effectful steps: one function for each action, by a table. */
#include <string.h>

#include "core/utf8.h"
#include "domain/secret.h"
#include "http/proxy.h"
#include "worker/files.h"
#include "worker/performer.h"
#include "worker/redact.h"

/* Sizes and times of spec/workspace-and-chat A.6, as corrected there. */
enum {
        STDOUT_KEPT = 100000,
        STDERR_KEPT = 50000,
        READ_KEPT = 500000,
        WRITE_MAX = 10 << 20,
        COMMAND_SECONDS = 3600,
        LOG_BUFFER = 32768,
};
#define LOG_EVERY (200 * US_PER_MS)
/* The quota is looked at before a command and now and then while it runs, the rarer the longer a
 * look takes.  A workspace that was far from full a moment ago is not looked at again. */
#define QUOTA_EVERY (200 * US_PER_MS)
#define QUOTA_FRESH US_PER_S
/* Names take room on the disk too: beyond the first, there may be one for each block of the quota. */
enum { QUOTA_SHARE = 20, FILE_BYTES = 4096, FILES_FREE = 1000 };

struct value param(struct value parameters, const char *name)
{
        const struct value *v = value_member(parameters, str_from(name));

        return v ? *v : (struct value){ .kind = VALUE_NULL };
}

struct str text_param(struct value parameters, const char *name, struct str otherwise)
{
        struct value v = param(parameters, name);

        return v.kind == VALUE_STRING ? v.text : otherwise;
}

struct performed failed(enum outcome outcome, struct str message)
{
        return (struct performed){ .outcome = outcome, .message = message };
}

struct performed refused(struct slot *s, enum err e)
{
        struct str detail = s->scope.fault.detail;

        s->scope.fault = (struct fault){ 0 };
        return failed(e == ERR_UNAVAILABLE || e == ERR_OVERLOADED ? OUTCOME_TRANSIENT :
                      e == ERR_REQUEST_TIMEOUT                    ? OUTCOME_TIMED_OUT :
                      e == ERR_NOT_FOUND                          ? OUTCOME_FAILED :
                                                                    OUTCOME_POLICY,
                      detail);
}

static enum err have_directory(struct slot *s)
{
        enum err e = s->has_directory ? ERR_OK :
                                        spawner_workspace(&s->scope, s->worker->options.spawner,
                                                          str_from(s->workspace_id), s->workspace_uid);

        s->has_directory = !e;
        return e;
}

/* ---- secrets ---- */

struct open_call {
        struct call call;
        struct str workspace;
        struct secrets *secrets;
};

static enum err open_secrets(struct call *call, struct tx *tx)
{
        struct open_call *c = (struct open_call *)call;

        secrets_done(c->secrets);
        return secrets_open(tx, c->workspace, c->secrets);
}

/* All of the workspace's, not only those that the step names: one may have been left in a file. */
static enum err learn_secrets(struct slot *s)
{
        struct open_call c = { .call = { .run = open_secrets, .reads = true, .scope = &s->scope },
                               .workspace = str_from(s->workspace_id),
                               .secrets = &s->secrets };
        enum err e = store_call(s->worker->options.store, &c.call);

        if (e || !s->secrets.n)
                return e;
        s->redactor = redactor_new();
        /* Headers carry them without the blanks at their ends, and so do many programs. */
        for (size_t i = 0; i < s->secrets.n; i++)
                if (s->secrets.items[i].value.p)
                        redactor_add(s->redactor, str_trim(s->secrets.items[i].value));
        redactor_ready(s->redactor);
        return ERR_OK;
}

static void forget_secrets(struct slot *s)
{
        secrets_done(&s->secrets);
        redactor_free(s->redactor);
        s->redactor = NULL;
}

enum err secret_find(struct slot *s, struct str name, struct str *value)
{
        for (size_t i = 0; i < s->secrets.n; i++) {
                const struct secret_value *v = &s->secrets.items[i];

                if (!str_eq(v->name, name))
                        continue;
                if (!v->value.p)
                        return fail(&s->scope, ERR_VALIDATION,
                                    "the secret \"" STR_FMT "\" does not open with this server's"
                                    " secret.key: put it again",
                                    STR_ARG(name));
                *value = v->value;
                return ERR_OK;
        }
        return fail(&s->scope, ERR_VALIDATION,
                    "there is no secret \"" STR_FMT "\" in this workspace", STR_ARG(name));
}

struct str slot_redact(struct slot *s, struct str text, bool cut)
{
        return redact(&s->scope.arena, s->redactor, text, cut);
}

/* In place: the output was made by a performer and is nobody else's. */
static void redact_value(struct slot *s, struct value *v)
{
        if (v->kind == VALUE_STRING)
                v->text = slot_redact(s, v->text, false);
        for (size_t i = 0; v->kind == VALUE_LIST && i < v->list->n; i++)
                redact_value(s, &v->list->items[i]);
        for (size_t i = 0; v->kind == VALUE_MAP && i < v->map->n; i++)
                redact_value(s, &v->map->entries[i].value);
}

/* ---- commands ---- */

/* Output on its way to the run's log: gathered a little, so that a chatty command does not become a
 * transaction a line. */
struct output {
        struct slot *slot;
        int64_t step;
        struct redaction redaction[2]; /* when there are secrets */
        struct buf pending[2];
        int64_t flushed; /* boot clock */
        int64_t quota_due; /* boot clock */
        bool over_quota, unreadable; /* unreadable: something cannot be counted */
};

static void flush(struct output *o, bool all)
{
        for (int i = 0; i < 2; i++) {
                struct str text = buf_view(&o->pending[i]);
                size_t keep = all ? 0 : text.n - str_whole(text).n;
                struct arena arena = { 0 };
                char tail[4];

                if (text.n <= keep)
                        continue;
                memcpy(tail, text.p + text.n - keep, keep);
                slot_log(o->slot, o->step, i + 1,
                         utf8_clean(&arena, str_slice(text, 0, text.n - keep), false));
                arena_done(&arena);
                buf_clear(&o->pending[i]);
                buf_bytes(&o->pending[i], tail, keep);
        }
        o->flushed = worker_boot_now(o->slot->worker);
}

static void gather(struct output *o, int stream, struct str bytes)
{
        struct buf *b = &o->pending[stream - 1];

        while (bytes.n) {
                size_t room = LOG_BUFFER - b->n, n = bytes.n < room ? bytes.n : room;

                buf_bytes(b, bytes.p, n);
                bytes = str_slice(bytes, n, bytes.n);
                if (b->n >= LOG_BUFFER)
                        flush(o, false);
        }
}

static void on_output(void *ctx, int stream, struct str bytes)
{
        struct output *o = ctx;
        struct buf clean = BUF_INIT(SIZE_MAX);

        if (!o->slot->redactor) {
                gather(o, stream, bytes);
                return;
        }
        redaction_feed(&o->redaction[stream - 1], bytes, &clean);
        gather(o, stream, buf_view(&clean));
        buf_done(&clean);
}

static void begin_output(struct output *o)
{
        for (int i = 0; i < 2; i++) {
                o->pending[i] = BUF_INIT(LOG_BUFFER + 8);
                redaction_begin(&o->redaction[i], o->slot->redactor);
        }
}

static void end_output(struct output *o, bool cut)
{
        for (int i = 0; i < 2; i++) {
                struct buf clean = BUF_INIT(SIZE_MAX);

                redaction_end(&o->redaction[i], cut, &clean);
                gather(o, i + 1, buf_view(&clean));
                buf_done(&clean);
        }
        flush(o, true);
        buf_done(&o->pending[0]);
        buf_done(&o->pending[1]);
}

static bool is_over_quota(struct output *o)
{
        struct slot *s = o->slot;
        int64_t files, now = worker_boot_now(s->worker), took;
        struct scope scope;
        enum err e;

        if (now < o->quota_due)
                return false;
        scope_init(&scope, s->worker->options.world);
        e = files_usage(&scope, s->worker->options.spawner, str_from(s->workspace_id),
                        s->workspace_uid, &s->used, &files);
        o->unreadable = e == ERR_PERMISSION_DENIED;
        o->over_quota = !e && (s->used >= s->workspace_quota ||
                               files > FILES_FREE + s->workspace_quota / FILE_BYTES);
        scope_done(&scope);
        s->used_at = worker_boot_now(s->worker);
        took = s->used_at - now;
        o->quota_due = now + (took * QUOTA_SHARE > QUOTA_EVERY ? took * QUOTA_SHARE : QUOTA_EVERY);
        return o->over_quota || o->unreadable;
}

static bool is_canceled(void *ctx)
{
        struct output *o = ctx;

        if (worker_boot_now(o->slot->worker) - o->flushed >= LOG_EVERY)
                flush(o, false);
        return slot_is_stopped(o->slot) || is_over_quota(o);
}

static void on_listener(void *ctx, int fd)
{
        struct output *o = ctx;

        proxy_serve(o->slot->proxy, fd);
}

static struct str quota_message(struct slot *s, const struct output *o)
{
        if (o->unreadable)
                return STR("a directory of the workspace cannot be read, so what it holds cannot be"
                           " counted; its owner must be able to read it");
        return arena_printf(&s->scope.arena,
                            "the workspace holds %lld bytes, its quota is %lld and a file for every"
                            " %d of it; remove files",
                            (long long)s->used, (long long)s->workspace_quota, FILE_BYTES);
}

static void prepare(struct slot *s, const struct step_spec *step, struct spawn_spec *spec,
                    int64_t seconds, struct output *o)
{
        spec->workspace_uuid = str_from(s->workspace_id);
        spec->uid = s->workspace_uid;
        if (!spec->timeout_us)
                spec->timeout_us = step->timeout_us ? step->timeout_us : seconds * US_PER_S;
        spec->stdout_cap = STDOUT_KEPT;
        spec->stderr_cap = STDERR_KEPT;
        spec->on_output = on_output;
        spec->canceled = is_canceled;
        spec->on_listener = on_listener;
        spec->ctx = o;
        /* One file cannot outgrow the quota between two looks. */
        if (s->workspace_quota - s->used < SPAWN_FILE_SIZE)
                spec->file_size_cap = s->workspace_quota - s->used;
}

enum err run_command(struct slot *s, const struct step_spec *step, struct spawn_spec *spec,
                     int64_t seconds, struct ended *out)
{
        struct output o = { .slot = s,
                            .step = step->index,
                            .flushed = worker_boot_now(s->worker) };
        enum err e = have_directory(s);

        if (s->used_at && o.flushed - s->used_at < QUOTA_FRESH && s->used < s->workspace_quota / 2)
                o.quota_due = o.flushed + QUOTA_EVERY;
        *out = (struct ended){ .over_quota = STR_NONE };
        /* What cannot be read only a command can mend. */
        if (!e && is_over_quota(&o) && o.over_quota)
                e = fail(&s->scope, ERR_QUOTA_EXCEEDED, STR_FMT, STR_ARG(quota_message(s, &o)));
        if (e)
                return e;
        prepare(s, step, spec, seconds, &o);
        begin_output(&o);
        e = spawner_run(&s->scope, s->worker->options.spawner, spec, &out->r);
        end_output(&o, !e && out->r.output_exceeded);
        out->r.out = slot_redact(s, out->r.out, out->r.truncated);
        out->r.err = slot_redact(s, out->r.err, out->r.truncated);
        out->timeout_us = spec->timeout_us;
        if (!e && (o.over_quota || o.unreadable || is_over_quota(&o)))
                out->over_quota = quota_message(s, &o);
        return e;
}

struct value command_output(struct slot *s, const struct spawn_result *r, size_t room)
{
        struct value v = value_map_of(&s->scope, room + 6);

        value_put(v, STR("exit_code"), value_int(r->timed_out ? -1 : r->exit_code));
        value_put(v, STR("stdout"), value_text(r->out));
        value_put(v, STR("stderr"), value_text(r->err));
        value_put(v, STR("duration_ms"), value_int(r->duration_us / US_PER_MS));
        value_put(v, STR("truncated"), value_bool(r->truncated));
        if (r->timed_out)
                value_put(v, STR("timed_out"), value_bool(true));
        return v;
}

static struct str last_line(struct str text)
{
        size_t from;

        text = str_trim(text);
        from = text.n;
        while (from > 0 && text.p[from - 1] != '\n')
                from--;
        text = str_slice(text, from, text.n);
        return text.n > 300 ? STR("") : text;
}

struct performed judge(struct slot *s, const struct ended *ended, bool good)
{
        const struct spawn_result *r = &ended->r;
        struct arena *a = &s->scope.arena;
        struct performed done = { .outcome = OUTCOME_OK, .sandbox = r->sandbox };
        struct str line = last_line(r->err);

        if (ended->over_quota.p) {
                done.outcome = OUTCOME_POLICY;
                done.message = ended->over_quota;
        } else if (r->canceled) {
                done.outcome = OUTCOME_CANCELED;
                done.message = STR("it was stopped");
        } else if (r->timed_out) {
                done.outcome = OUTCOME_TIMED_OUT;
                done.message = arena_printf(a, "no end within %lld s",
                                            (long long)(ended->timeout_us / US_PER_S));
        } else if (r->output_exceeded) {
                done.outcome = OUTCOME_FAILED;
                done.message = STR("it was killed: more than 256 MiB of output");
        } else if (r->oom) {
                done.outcome = OUTCOME_FAILED;
                done.message = arena_printf(a, "it was killed: out of memory, its limit is %lld MiB",
                                            (long long)(r->memory_cap >> 20));
        } else if (!good) {
                done.outcome = OUTCOME_FAILED;
                done.message = arena_printf(a, "exit code %d%s" STR_FMT, r->exit_code,
                                            line.n ? ": " : "", STR_ARG(line));
                if (r->forks_refused)
                        done.message = arena_printf(a, STR_FMT "; it came to its limit of %lld processes",
                                                    STR_ARG(done.message), (long long)r->process_cap);
        }
        return done;
}

static const char **texts(struct scope *scope, struct value list)
{
        const char **out = arena_array(&scope->arena, const char *, list.list->n + 1);

        for (size_t i = 0; i < list.list->n; i++)
                out[i] = str_c(&scope->arena, list.list->items[i].text);
        return out;
}

static const char *variable(struct scope *scope, struct str name, struct str value)
{
        return arena_printf(&scope->arena, STR_FMT "=" STR_FMT, STR_ARG(name), STR_ARG(value)).p;
}

static size_t entries_of(struct value map)
{
        return map.kind == VALUE_MAP ? map.map->n : 0;
}

/* Who the programs of a command ask for what is outside. */
static const char *const proxy_variables[] = {
        "http_proxy=" NETWORK_PROXY_URL, "https_proxy=" NETWORK_PROXY_URL,
        "HTTP_PROXY=" NETWORK_PROXY_URL, "HTTPS_PROXY=" NETWORK_PROXY_URL,
        "no_proxy=localhost,127.0.0.1",  "NO_PROXY=localhost,127.0.0.1",
};

/* They reach the command by its environment, which bubblewrap is told by descriptor. */
static enum err variables(struct slot *s, struct value env, struct value secrets, const char ***out)
{
        /* A trusted command has the host's network, where nobody answers at that address. */
        bool proxied = s->proxy && !str_is(spawner_runtime(s->worker->options.spawner), "trusted");
        size_t n = 0, n_proxy = proxied ? LENGTH(proxy_variables) : 0;

        *out = arena_array(&s->scope.arena, const char *,
                           n_proxy + entries_of(env) + entries_of(secrets) + 1);
        while (n < n_proxy) {
                (*out)[n] = proxy_variables[n];
                n++;
        }
        for (size_t i = 0; i < entries_of(env); i++)
                (*out)[n++] = variable(&s->scope, env.map->entries[i].key.text,
                                       env.map->entries[i].value.text);
        for (size_t i = 0; i < entries_of(secrets); i++) {
                struct str value;
                enum err e = secret_find(s, secrets.map->entries[i].value.text, &value);

                if (e)
                        return e;
                (*out)[n++] = variable(&s->scope, secrets.map->entries[i].key.text, value);
        }
        return ERR_OK;
}

static struct proxy *open_proxy(struct slot *s, struct value hosts)
{
        struct proxy *proxy;

        if (hosts.kind != VALUE_LIST)
                return NULL;
        proxy = proxy_new(s->scope.world, s->worker->options.egress);
        for (size_t i = 0; i < hosts.list->n; i++)
                proxy_allow(proxy, hosts.list->items[i].text);
        return proxy;
}

/* The hosts that were refused, as a list; null = there was none, or no proxy. */
static struct value close_proxy(struct slot *s)
{
        struct value *hosts = arena_array(&s->scope.arena, struct value, PROXY_REFUSED_KEPT);
        struct str lines = STR_NONE;
        size_t n = 0;

        if (s->proxy)
                lines = proxy_stop(s->proxy, &s->scope.arena);
        s->proxy = NULL;
        while (lines.n)
                hosts[n++] = value_text(slot_redact(s, str_cut(lines, '\n', &lines), false));
        return n ? value_list_of(&s->scope, hosts, n) : (struct value){ .kind = VALUE_NULL };
}

static bool is_ok_exit(struct value codes, int code)
{
        if (codes.kind != VALUE_LIST)
                return code == 0;
        for (size_t i = 0; i < codes.list->n; i++)
                if (codes.list->items[i].number == code)
                        return true;
        return false;
}

static struct performed execute_command(struct slot *s, const struct step_spec *step,
                                        struct value parameters)
{
        struct str command = text_param(parameters, "command", STR(""));
        const char *const shell[] = { "/bin/sh", "-c", str_c(&s->scope.arena, command), NULL };
        struct value argv = param(parameters, "argv");
        struct spawn_spec spec = {
                .argv = argv.kind == VALUE_LIST ? texts(&s->scope, argv) : shell,
                .cwd = text_param(parameters, "cwd", STR("")),
        };
        const char **env;
        struct ended ended;
        struct performed done;
        struct value closed;
        enum err e;

        s->proxy = open_proxy(s, param(parameters, "network"));
        spec.network = s->proxy ? NETWORK_PROXY : NETWORK_NONE;
        e = variables(s, param(parameters, "env"), param(parameters, "secrets"), &env);
        spec.env = env;
        if (!e)
                e = run_command(s, step, &spec, COMMAND_SECONDS, &ended);
        closed = close_proxy(s);
        if (e)
                return refused(s, e);
        done = judge(s, &ended, is_ok_exit(param(parameters, "ok_exit_codes"), ended.r.exit_code));
        done.output = command_output(s, &ended.r, 1);
        if (closed.kind == VALUE_LIST)
                value_put(done.output, STR("refused_hosts"), closed);
        return done;
}

/* ---- files ---- */

static struct performed file_done(struct value output)
{
        return (struct performed){ .outcome = OUTCOME_OK, .output = output };
}

static struct performed read_file(struct slot *s, const struct step_spec *step,
                                  struct value parameters)
{
        struct str path = text_param(parameters, "path", STR("")), bytes;
        struct value v = value_map_of(&s->scope, 4);
        int64_t size;
        bool cut;
        enum err e = have_directory(s);

        (void)step;
        if (!e)
                e = files_read(&s->scope, s->worker->options.spawner, str_from(s->workspace_id),
                               s->workspace_uid, path, READ_KEPT, &bytes, &size);
        if (e)
                return refused(s, e);
        cut = size > (int64_t)bytes.n;
        value_put(v, STR("path"), value_text(path));
        value_put(v, STR("content"),
                  value_text(slot_redact(s, utf8_clean(&s->scope.arena, bytes, cut), cut)));
        value_put(v, STR("size_bytes"), value_int(size));
        value_put(v, STR("truncated"), value_bool(cut));
        return file_done(v);
}

static struct performed write_file(struct slot *s, const struct step_spec *step,
                                   struct value parameters)
{
        struct str path = text_param(parameters, "path", STR(""));
        struct str content = value_as_text(&s->scope, param(parameters, "content"));
        struct value v = value_map_of(&s->scope, 3);
        enum err e = have_directory(s);

        (void)step;
        if (content.n > WRITE_MAX)
                return failed(OUTCOME_POLICY, STR("content: at most 10 MiB can be written"));
        if (!e)
                e = files_write(&s->scope, s->worker->options.spawner, str_from(s->workspace_id),
                                s->workspace_uid, path, content, s->workspace_quota);
        if (e)
                return refused(s, e);
        value_put(v, STR("written"), value_bool(true));
        value_put(v, STR("path"), value_text(path));
        value_put(v, STR("size_bytes"), value_int((int64_t)content.n));
        return file_done(v);
}

static struct value entry_value(struct scope *scope, const struct file_entry *entry)
{
        struct value v = value_map_of(scope, 3);

        value_put(v, STR("name"), value_text(entry->name));
        value_put(v, STR("type"), value_text(entry->type == FILE_REGULAR   ? STR("file") :
                                             entry->type == FILE_DIRECTORY ? STR("dir") :
                                                                             STR("unknown")));
        value_put(v, STR("size"),
                  entry->type == FILE_REGULAR ? value_int(entry->size) :
                                                (struct value){ .kind = VALUE_NULL });
        return v;
}

static struct performed list_directory(struct slot *s, const struct step_spec *step,
                                       struct value parameters)
{
        struct str path = text_param(parameters, "path", STR("."));
        struct value v = value_map_of(&s->scope, 3), *items;
        struct file_entry *entries;
        size_t n;
        enum err e = have_directory(s);

        (void)step;
        if (!e)
                e = files_list(&s->scope, s->worker->options.spawner, str_from(s->workspace_id),
                               s->workspace_uid, str_is(path, ".") ? STR("") : path,
                               &entries, &n);
        if (e)
                return refused(s, e);
        items = arena_array(&s->scope.arena, struct value, n + 1);
        for (size_t i = 0; i < n; i++)
                items[i] = entry_value(&s->scope, &entries[i]);
        value_put(v, STR("path"), value_text(path));
        value_put(v, STR("entries"), value_list_of(&s->scope, items, n));
        value_put(v, STR("count"), value_int((int64_t)n));
        return file_done(v);
}

static struct performed create_directory(struct slot *s, const struct step_spec *step,
                                         struct value parameters)
{
        struct str path = text_param(parameters, "path", STR(""));
        struct value v = value_map_of(&s->scope, 2);
        enum err e = have_directory(s);

        (void)step;
        if (!e)
                e = files_mkdir(&s->scope, s->worker->options.spawner, str_from(s->workspace_id),
                                s->workspace_uid, path);
        if (e)
                return refused(s, e);
        value_put(v, STR("created"), value_bool(true));
        value_put(v, STR("path"), value_text(path));
        return file_done(v);
}

/* ---- the table ---- */

static struct performed noop(struct slot *s, const struct step_spec *step, struct value parameters)
{
        (void)s;
        (void)step;
        return file_done(param(parameters, "output"));
}

static performer *const performers[ACTION_IDS] = {
        [ACTION_ID_execute_command] = execute_command,
        [ACTION_ID_git_clone] = git_clone,
        [ACTION_ID_git_pull] = git_pull,
        [ACTION_ID_read_file] = read_file,
        [ACTION_ID_write_file] = write_file,
        [ACTION_ID_list_directory] = list_directory,
        [ACTION_ID_create_directory] = create_directory,
        [ACTION_ID_http_request] = http_request,
        [ACTION_ID_noop] = noop,
};

/* Nothing that a performer hands back is recorded with a secret in it. */
struct performed perform(struct slot *s, const struct step_spec *step, struct value parameters)
{
        performer *function = performers[step->action->id];
        struct performed done;
        enum err e = ERR_OK;

        BUG_ON(!function);
        if (function != noop) /* which sees nothing but what is recorded */
                e = learn_secrets(s);
        done = e ? refused(s, e) : function(s, step, parameters);
        if (s->redactor) {
                redact_value(s, &done.output);
                done.message = slot_redact(s, done.message, false);
        }
        forget_secrets(s);
        return done;
}
