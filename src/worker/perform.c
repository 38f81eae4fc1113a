/* Performers of effectful steps: one function for each action, by a table. */
#include <string.h>

#include "worker/files.h"
#include "worker/slot.h"
#include "worker/utf8.h"

/* Sizes and times of spec/workspace-and-chat A.6, as corrected there. */
enum {
        STDOUT_KEPT = 100000,
        STDERR_KEPT = 50000,
        READ_KEPT = 500000,
        WRITE_MAX = 10 << 20,
        COMMAND_SECONDS = 3600,
        CLONE_SECONDS = 300,
        LOG_BUFFER = 32768,
};
#define LOG_EVERY (200 * US_PER_MS)
/* The quota is looked at before a command and now and then while it runs, the rarer the longer a
 * look takes.  A workspace that was far from full a moment ago is not looked at again. */
#define QUOTA_EVERY (200 * US_PER_MS)
#define QUOTA_FRESH US_PER_S
/* Names take room on the disk too: beyond the first, there may be one for each block of the quota. */
enum { QUOTA_SHARE = 20, FILE_BYTES = 4096, FILES_FREE = 1000 };

typedef struct performed performer(struct slot *, const struct step_spec *, struct value);

static struct value param(struct value parameters, const char *name)
{
        const struct value *v = value_member(parameters, str_from(name));

        return v ? *v : (struct value){ .kind = VALUE_NULL };
}

static struct str text_param(struct value parameters, const char *name, struct str otherwise)
{
        struct value v = param(parameters, name);

        return v.kind == VALUE_STRING ? v.text : otherwise;
}

static struct performed failed(enum outcome outcome, struct str message)
{
        return (struct performed){ .outcome = outcome, .message = message };
}

/* A refusal of a lower layer as the end of a step: what another try may mend is transient. */
static struct performed refused(struct slot *s, enum err e)
{
        struct str detail = s->scope.fault.detail;

        s->scope.fault = (struct fault){ 0 };
        return failed(e == ERR_UNAVAILABLE || e == ERR_OVERLOADED ? OUTCOME_TRANSIENT :
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

/* ---- commands ---- */

/* Output on its way to the run's log: gathered a little, so that a chatty command does not become a
 * transaction a line. */
struct output {
        struct slot *slot;
        int64_t step;
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

static void on_output(void *ctx, int stream, struct str bytes)
{
        struct output *o = ctx;
        struct buf *b = &o->pending[stream - 1];

        while (bytes.n) {
                size_t room = LOG_BUFFER - b->n, n = bytes.n < room ? bytes.n : room;

                buf_bytes(b, bytes.p, n);
                bytes = str_slice(bytes, n, bytes.n);
                if (b->n >= LOG_BUFFER)
                        flush(o, false);
        }
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

/* How a command that ran ended. */
struct ended {
        struct spawn_result r;
        struct str over_quota; /* why, when that is what stopped it */
};

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
        spec->timeout_us = step->timeout_us ? step->timeout_us : seconds * US_PER_S;
        spec->stdout_cap = STDOUT_KEPT;
        spec->stderr_cap = STDERR_KEPT;
        spec->on_output = on_output;
        spec->canceled = is_canceled;
        spec->ctx = o;
        /* One file cannot outgrow the quota between two looks. */
        if (s->workspace_quota - s->used < SPAWN_FILE_SIZE)
                spec->file_size_cap = s->workspace_quota - s->used;
}

static enum err run_command(struct slot *s, const struct step_spec *step, struct spawn_spec *spec,
                            int64_t seconds, struct ended *out)
{
        struct output o = { .slot = s,
                            .step = step->index,
                            .pending = { BUF_INIT(LOG_BUFFER + 8), BUF_INIT(LOG_BUFFER + 8) },
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
        e = spawner_run(&s->scope, s->worker->options.spawner, spec, &out->r);
        flush(&o, true);
        buf_done(&o.pending[0]);
        buf_done(&o.pending[1]);
        if (!e && (o.over_quota || o.unreadable || is_over_quota(&o)))
                out->over_quota = quota_message(s, &o);
        return e;
}

static struct value command_output(struct slot *s, const struct spawn_result *r, size_t room)
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

/* Why a command that ran did not end well; OUTCOME_OK when its exit code is a good one. */
static struct performed judge(struct slot *s, const struct step_spec *step,
                              const struct ended *ended, bool good)
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
                done.message = arena_printf(
                        a, "no end within %lld s",
                        (long long)(step->timeout_us ? step->timeout_us / US_PER_S :
                                                       COMMAND_SECONDS));
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

static const char **variables(struct scope *scope, struct value env)
{
        const char **out;

        if (env.kind != VALUE_MAP)
                return NULL;
        out = arena_array(&scope->arena, const char *, env.map->n + 1);
        for (size_t i = 0; i < env.map->n; i++)
                out[i] = arena_printf(&scope->arena, STR_FMT "=" STR_FMT,
                                      STR_ARG(env.map->entries[i].key.text),
                                      STR_ARG(env.map->entries[i].value.text))
                                 .p;
        return out;
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
                .env = variables(&s->scope, param(parameters, "env")),
                .cwd = text_param(parameters, "cwd", STR("")),
        };
        struct ended ended;
        struct performed done;
        enum err e = run_command(s, step, &spec, COMMAND_SECONDS, &ended);

        if (e)
                return refused(s, e);
        done = judge(s, step, &ended,
                     is_ok_exit(param(parameters, "ok_exit_codes"), ended.r.exit_code));
        done.output = command_output(s, &ended.r, 0);
        return done;
}

/* ---- git ---- */

/*
 * $1 where it goes, $2 where it comes from, $3 branch or "", $4 depth option or "".  A clone appears
 * under its name only when it is whole; one that is there is brought up to date.  Nothing that a
 * repository carries (hooks, filters by fsmonitor, submodules) is run.
 */
static const char clone_script[] =
        "set -e\n"
        "G='git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c protocol.allow=never"
        " -c protocol.file.allow=always -c submodule.recurse=false -c advice.detachedHead=false'\n"
        "mkdir -p \"$(dirname \"$1\")\"\n"
        "exec 9>\"$1.lock\"\nflock 9\n"
        "if [ -d \"$1/.git\" ]; then\n"
        "  [ \"$(git -C \"$1\" config --get remote.origin.url)\" = \"$2\" ] ||"
        " { echo \"$1 is a clone of something else\" >&2; exit 3; }\n"
        "  $G -C \"$1\" fetch --quiet $4 file:///source \"${3:-HEAD}\"\n"
        "  $G -C \"$1\" reset --quiet --hard FETCH_HEAD\n"
        "  cached=true\n"
        "else\n"
        "  rm -rf \"$1.part\"\n"
        "  $G clone --quiet $4 ${3:+--branch \"$3\"} -- file:///source \"$1.part\"\n"
        "  git -C \"$1.part\" config remote.origin.url \"$2\"\n"
        "  mv -T \"$1.part\" \"$1\"\n"
        "  cached=false\n"
        "fi\n"
        "echo $cached\n"
        "git -C \"$1\" rev-parse HEAD\n"
        "git -C \"$1\" rev-parse --abbrev-ref HEAD\n";

static bool is_repo_name(struct str name)
{
        if (!name.n || name.n > 100 || name.p[0] == '.' || name.p[0] == '-')
                return false;
        for (size_t i = 0; i < name.n; i++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
                            name.p[i]))
                        return false;
        return true;
}

/* repos/<last segment without .git> */
static bool default_path(struct slot *s, struct str repo, struct str *out)
{
        size_t from;

        while (repo.n > 1 && repo.p[repo.n - 1] == '/')
                repo.n--;
        if (str_ends(repo, ".git") && repo.n > 5 && repo.p[repo.n - 5] != '/')
                repo.n -= 4;
        from = repo.n;
        while (from > 0 && repo.p[from - 1] != '/')
                from--;
        repo = str_slice(repo, from, repo.n);
        *out = arena_printf(&s->scope.arena, "repos/" STR_FMT, STR_ARG(repo));
        return is_repo_name(repo);
}

static bool is_branch_name(struct str b)
{
        if (b.p[0] == '-' || b.p[0] == '/' || str_contains(b, STR("..")) ||
            str_contains(b, STR("@{")) || str_ends(b, ".lock") || str_ends(b, "/"))
                return false;
        for (size_t i = 0; i < b.n; i++)
                if ((unsigned char)b.p[i] <= ' ' || b.p[i] == 0x7f || strchr("~^:?*[\\", b.p[i]))
                        return false;
        return true;
}

static struct performed clone_result(struct slot *s, const struct step_spec *step, struct str path,
                                     const struct ended *ended)
{
        struct performed done = judge(s, step, ended, ended->r.exit_code == 0);
        struct str rest, cached = str_cut(ended->r.out, '\n', &rest);
        struct str commit = str_cut(rest, '\n', &rest), branch = str_cut(rest, '\n', &rest);
        struct spawn_result shown = ended->r;

        if (done.outcome == OUTCOME_OK)
                shown.out = STR(""); /* the script's own lines are told below */
        done.output = command_output(s, &shown, 4);
        if (done.outcome != OUTCOME_OK)
                return done;
        value_put(done.output, STR("repo_path"), value_text(path));
        value_put(done.output, STR("cached"), value_bool(str_is(cached, "true")));
        value_put(done.output, STR("commit"), value_text(commit));
        value_put(done.output, STR("branch"), value_text(branch));
        return done;
}

static struct performed git_clone(struct slot *s, const struct step_spec *step,
                                  struct value parameters)
{
        struct str repo = text_param(parameters, "repo", STR(""));
        struct str branch = text_param(parameters, "branch", STR(""));
        struct str path = text_param(parameters, "path", STR_NONE);
        struct value shallow = param(parameters, "shallow");
        struct spawn_spec spec = { 0 };
        struct ended ended;
        enum err e;

        if (str_starts(repo, "file://"))
                repo = str_slice(repo, 7, repo.n);
        if (!repo.n || repo.p[0] != '/')
                return failed(OUTCOME_NO_PROVIDER,
                              STR("repo: only local repositories can be cloned: give an absolute"
                                  " path below one of the server's --git-local-root"));
        if (branch.n && !is_branch_name(branch))
                return failed(OUTCOME_POLICY, STR("branch: this is not the name of a branch"));
        if (!path.p && !default_path(s, repo, &path))
                return failed(OUTCOME_POLICY, STR("repo: its last segment is no name for a"
                                                  " directory; give a path"));
        if (path.p[0] == '-' || path.p[0] == '/' || str_contains(path, STR("..")))
                return failed(OUTCOME_POLICY, STR("path: must lie below the workspace"));
        spec.argv = (const char *const[]){
                "/bin/sh", "-c", clone_script, "sh", str_c(&s->scope.arena, path),
                str_c(&s->scope.arena, repo), str_c(&s->scope.arena, branch),
                shallow.kind != VALUE_BOOL || shallow.truth ? "--depth=1" : "", NULL
        };
        spec.git_source = repo;
        e = run_command(s, step, &spec, CLONE_SECONDS, &ended);
        return e ? refused(s, e) : clone_result(s, step, path, &ended);
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
        enum err e = have_directory(s);

        (void)step;
        if (!e)
                e = files_read(&s->scope, s->worker->options.spawner, str_from(s->workspace_id),
                               s->workspace_uid, path, READ_KEPT, &bytes, &size);
        if (e)
                return refused(s, e);
        value_put(v, STR("path"), value_text(path));
        value_put(v, STR("content"),
                  value_text(utf8_clean(&s->scope.arena, bytes, size > (int64_t)bytes.n)));
        value_put(v, STR("size_bytes"), value_int(size));
        value_put(v, STR("truncated"), value_bool(size > (int64_t)bytes.n));
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
        [ACTION_ID_read_file] = read_file,
        [ACTION_ID_write_file] = write_file,
        [ACTION_ID_list_directory] = list_directory,
        [ACTION_ID_create_directory] = create_directory,
        [ACTION_ID_noop] = noop,
};

struct performed perform(struct slot *s, const struct step_spec *step, struct value parameters)
{
        BUG_ON(!performers[step->action->id]);
        return performers[step->action->id](s, step, parameters);
}
