/* git_clone and git_pull: of local repositories, and of remote ones within the egress rules. */
#include <sodium.h>
#include <string.h>

#include "worker/performer.h"

enum { CLONE_SECONDS = 300, PULL_SECONDS = 120, SETTINGS_MAX = 24 };

/*
 * Arguments of the scripts: $1 where the clone goes, $2 where git fetches from, $3 branch or "",
 * $4 depth option or "", $5 what the origin is called, $6 a place for what is not whole yet, $7 not
 * empty: the clone must be there.
 *
 * The part that fetches may have the network and a token in its environment, so it never lets git
 * read what a command in the workspace could have written: git works in a fresh directory, which
 * among namespaces nobody else sees, and of the clone only the objects are written and the refs are
 * copied.  The part that checks out does read the clone's configuration, and has neither.
 */
#define LOCK                               \
        "set -e\n"                         \
        "mkdir -p \"$(dirname \"$1\")\"\n" \
        "exec 9>\"$1.lock\"\nflock 9\n"
#define FETCH                                                                                    \
        "T=$(mktemp -d)\n"                                                                       \
        "trap 'rm -rf \"$T\"' EXIT\n"                                                            \
        "if [ -d \"$1/.git\" ]; then\n"                                                          \
        "  [ \"$(git config --file \"$1/.git/config\" --get remote.origin.url)\" = \"$5\" ] ||"  \
        " { echo \"$1 is a clone of something else\" >&2; exit 3; }\n"                           \
        "  git init --quiet --bare \"$T/git\"\n"                                                 \
        "  for f in refs packed-refs shallow; do"                                                \
        " [ ! -e \"$1/.git/$f\" ] || cp -r \"$1/.git/$f\" \"$T/git\"; done\n"                    \
        "  GIT_OBJECT_DIRECTORY=\"$PWD/$1/.git/objects\""                                        \
        " git --git-dir=\"$T/git\" fetch --quiet $4 -- \"$2\" \"${3:-HEAD}\"\n"                  \
        "  for f in FETCH_HEAD shallow; do"                                                      \
        " [ ! -e \"$T/git/$f\" ] || cp \"$T/git/$f\" \"$1/.git/$f\"; done\n"                     \
        "else\n"                                                                                 \
        "  [ -z \"$7\" ] || { echo \"there is no clone at $1: git_clone it first\" >&2; exit 3;" \
        " }\n"                                                                                   \
        "  rm -rf \"$6\"\n"                                                                      \
        "  mkdir -p \"$6/.git/objects\"\n"                                                       \
        "  trap 's=$?; rm -rf \"$T\"; [ $s = 0 ] || rm -rf \"$6\"' EXIT\n"                       \
        "  GIT_OBJECT_DIRECTORY=\"$PWD/$6/.git/objects\" git clone --quiet --no-checkout"        \
        " --separate-git-dir=\"$T/git\" $4 ${3:+--branch \"$3\"} -- \"$2\" \"$T/tree\"\n"        \
        "  cp -r \"$T/git/.\" \"$6/.git\"\n"                                                     \
        "fi\n"
#define CHECK_OUT                                                                              \
        "if [ -d \"$1/.git\" ]; then\n"                                                        \
        "  rm -rf \"$6\"\n" /* of a step that was slower than another one */                   \
        "  [ ! -e \"$1/.git/FETCH_HEAD\" ] || git -C \"$1\" reset --quiet --hard FETCH_HEAD\n" \
        "  cached=true\n"                                                                      \
        "else\n"                                                                               \
        "  git -C \"$6\" config remote.origin.url \"$5\"\n"                                    \
        "  git -C \"$6\" reset --quiet --hard\n"                                               \
        "  mv -T \"$6\" \"$1\"\n"                                                              \
        "  cached=false\n"                                                                     \
        "fi\n"                                                                                 \
        "echo $cached\n"                                                                       \
        "git -C \"$1\" rev-parse HEAD\n"                                                       \
        "git -C \"$1\" rev-parse --abbrev-ref HEAD\n"

/* What a step asks for. */
struct wish {
        struct str path, repo, branch;
        struct str token_secret; /* name, or absent */
        struct str username;
        bool shallow, must_exist;
        int64_t seconds;
};

/* ---- names ---- */

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

static bool is_url(struct str repo)
{
        return str_starts(repo, "http://") || str_starts(repo, "https://");
}

/* ---- git's settings, by environment: neither arguments nor files ever hold them ---- */

struct settings {
        struct slot *slot;
        const char *env[2 * SETTINGS_MAX + 8];
        int n_env, n;
};

static void set(struct settings *c, const char *name, struct str value)
{
        struct arena *a = &c->slot->scope.arena;

        BUG_ON(c->n == SETTINGS_MAX);
        c->env[c->n_env++] = arena_printf(a, "GIT_CONFIG_KEY_%d=%s", c->n, name).p;
        c->env[c->n_env++] =
                arena_printf(a, "GIT_CONFIG_VALUE_%d=" STR_FMT, c->n, STR_ARG(value)).p;
        c->n++;
}

/* Nothing that a repository carries (hooks, monitors, submodules, helpers) is run. */
static void settings_begin(struct settings *c, struct slot *s)
{
        static const char *const env[] = { "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1",
                                           "GIT_TERMINAL_PROMPT=0", "GIT_LFS_SKIP_SMUDGE=1",
                                           "GIT_OPTIONAL_LOCKS=0" };
        static const char *const always[][2] = { { "core.hooksPath", "/dev/null" },
                                                 { "core.fsmonitor", "false" },
                                                 { "credential.helper", "" },
                                                 { "submodule.recurse", "false" },
                                                 { "advice.detachedHead", "false" },
                                                 { "init.templateDir", "" },
                                                 { "gc.auto", "0" },
                                                 { "maintenance.auto", "false" },
                                                 { "protocol.allow", "never" } };

        *c = (struct settings){ .slot = s };
        for (size_t i = 0; i < LENGTH(env); i++)
                c->env[c->n_env++] = env[i];
        for (size_t i = 0; i < LENGTH(always); i++)
                set(c, always[i][0], str_from(always[i][1]));
}

static const char *const *settings_end(struct settings *c)
{
        c->env[c->n_env] = arena_printf(&c->slot->scope.arena, "GIT_CONFIG_COUNT=%d", c->n).p;
        return c->env;
}

/* Basic, as the hosts of repositories want it: the token is the password. */
static struct str authorization(struct scope *scope, struct str username, struct str token)
{
        struct str pair =
                arena_printf(&scope->arena, STR_FMT ":" STR_FMT, STR_ARG(username), STR_ARG(token));
        size_t size = sodium_base64_ENCODED_LEN(pair.n, sodium_base64_VARIANT_ORIGINAL);
        char *coded = arena_alloc(&scope->arena, size, 1);

        sodium_bin2base64(coded, size, (const unsigned char *)pair.p, pair.n,
                          sodium_base64_VARIANT_ORIGINAL);
        return arena_printf(&scope->arena, "Authorization: Basic %s", coded);
}

/* git connects to the address that was judged here, and nowhere else: it has no resolver, and
 * follows no redirect. */
static enum err set_remote(struct settings *c, const struct wish *w, const struct egress_url *url)
{
        struct slot *s = c->slot;
        struct str pin, token = STR_NONE;
        enum err e = egress_pin(&s->scope, s->worker->options.egress, url, &pin);

        if (!e && w->token_secret.p)
                e = secret_find(s, w->token_secret, &token);
        if (e)
                return e;
        set(c, str_starts(url->text, "https") ? "protocol.https.allow" : "protocol.http.allow",
            STR("always"));
        set(c, "http.followRedirects", STR("false"));
        set(c, "http.proxy", STR(""));
        if (pin.p)
                set(c, "http.curloptResolve", pin);
        set(c, "http.lowSpeedLimit", STR("1"));
        set(c, "http.lowSpeedTime", STR("60"));
        set(c, "transfer.fsckObjects", STR("true"));
        if (token.p)
                set(c, "http.extraHeader", authorization(&s->scope, w->username, str_trim(token)));
        return ERR_OK;
}

/* ---- running it ---- */

static const char *const *arguments(struct slot *s, const char *script, const struct wish *w,
                                    const char *source)
{
        struct arena *a = &s->scope.arena;
        const char **argv = arena_array(a, const char *, 12);
        const char *words[] = { "/bin/sh",
                                "-c",
                                script,
                                "sh",
                                str_c(a, w->path),
                                source,
                                str_c(a, w->branch),
                                w->shallow ? "--depth=1" : "",
                                str_c(a, w->repo),
                                arena_printf(a, STR_FMT ".part-%llx", STR_ARG(w->path),
                                             (unsigned long long)s->run)
                                        .p,
                                w->must_exist ? "1" : "" };

        memcpy(argv, words, sizeof(words));
        return argv;
}

/* The network only for fetching; what is checked out is checked out without. */
static enum err run_remote(struct slot *s, const struct step_spec *step, const struct wish *w,
                           struct ended *out)
{
        struct spawn_spec spec = { .network = NETWORK_HOST };
        struct settings settings;
        struct egress_url url;
        int64_t fetched;
        enum err e = egress_url(&s->scope, w->repo, &url);

        settings_begin(&settings, s);
        settings.env[settings.n_env++] = "GIT_CONFIG_GLOBAL=/dev/null";
        if (!e)
                e = set_remote(&settings, w, &url);
        if (e)
                return e;
        spec.env = settings_end(&settings);
        spec.argv = arguments(s, LOCK FETCH, w, str_c(&s->scope.arena, url.text));
        e = run_command(s, step, &spec, w->seconds, out);
        if (e || out->over_quota.p || out->r.exit_code || out->r.timed_out || out->r.canceled)
                return e;
        fetched = out->r.duration_us;
        settings_begin(&settings, s);
        settings.env[settings.n_env++] = "GIT_CONFIG_GLOBAL=/dev/null";
        spec = (struct spawn_spec){ .env = settings_end(&settings),
                                    .argv = arguments(s, LOCK CHECK_OUT, w, "") };
        spec.timeout_us = out->timeout_us > fetched ? out->timeout_us - fetched : 1;
        e = run_command(s, step, &spec, w->seconds, out);
        out->r.duration_us += fetched;
        return e;
}

static enum err run_local(struct slot *s, const struct step_spec *step, const struct wish *w,
                          struct ended *out)
{
        struct spawn_spec spec = { .git_source = w->repo };
        struct settings settings;

        settings_begin(&settings, s);
        set(&settings, "protocol.file.allow", STR("always"));
        spec.env = settings_end(&settings);
        spec.argv = arguments(s, LOCK FETCH CHECK_OUT, w, "file:///source");
        return run_command(s, step, &spec, w->seconds, out);
}

static bool wants_credentials(struct str words)
{
        return str_contains(words, STR("could not read Username")) ||
               str_contains(words, STR("Authentication failed"));
}

static struct performed told(struct slot *s, const struct wish *w, const struct ended *ended)
{
        struct performed done = judge(s, ended, ended->r.exit_code == 0);
        struct str rest, cached = str_cut(ended->r.out, '\n', &rest);
        struct str commit = str_cut(rest, '\n', &rest), branch = str_cut(rest, '\n', &rest);
        struct spawn_result shown = ended->r;

        if (done.outcome == OUTCOME_OK)
                shown.out = STR(""); /* the script's own lines are told below */
        else if (wants_credentials(ended->r.err))
                done.message = w->token_secret.p ?
                                       STR("the server refuses the token") :
                                       STR("the server wants credentials: name a secret in"
                                           " token_secret");
        done.output = command_output(s, &shown, 4);
        if (done.outcome != OUTCOME_OK)
                return done;
        value_put(done.output, STR("repo_path"), value_text(w->path));
        value_put(done.output, STR("cached"), value_bool(str_is(cached, "true")));
        value_put(done.output, STR("commit"), value_text(commit));
        value_put(done.output, STR("branch"), value_text(branch));
        return done;
}

static struct performed bring(struct slot *s, const struct step_spec *step, struct wish *w)
{
        struct ended ended;
        enum err e;

        if (str_starts(w->repo, "file://"))
                w->repo = str_slice(w->repo, 7, w->repo.n);
        if (!is_url(w->repo) && !str_starts(w->repo, "/"))
                return failed(OUTCOME_POLICY,
                              STR("repo: give an http:// or https:// URL, or an absolute path below"
                                  " one of the server's --git-local-root"));
        if (w->branch.n && !is_branch_name(w->branch))
                return failed(OUTCOME_POLICY, STR("branch: this is not the name of a branch"));
        if (!w->path.p && !default_path(s, w->repo, &w->path))
                return failed(OUTCOME_POLICY, STR("repo: its last segment is no name for a"
                                                  " directory; give a path"));
        if (w->path.p[0] == '-' || w->path.p[0] == '/' || str_contains(w->path, STR("..")))
                return failed(OUTCOME_POLICY, STR("path: must lie below the workspace"));
        e = is_url(w->repo) ? run_remote(s, step, w, &ended) : run_local(s, step, w, &ended);
        return e ? refused(s, e) : told(s, w, &ended);
}

/* ---- the actions ---- */

static struct wish common(struct value parameters)
{
        return (struct wish){
                .path = text_param(parameters, "path", STR_NONE),
                .repo = text_param(parameters, "repo", STR_NONE),
                .branch = text_param(parameters, "branch", STR("")),
                .token_secret = text_param(parameters, "token_secret", STR_NONE),
                .username = text_param(parameters, "username", STR("x-access-token")),
        };
}

struct performed git_clone(struct slot *s, const struct step_spec *step, struct value parameters)
{
        struct value shallow = param(parameters, "shallow");
        struct wish w = common(parameters);

        w.shallow = shallow.kind != VALUE_BOOL || shallow.truth;
        w.seconds = CLONE_SECONDS;
        return bring(s, step, &w);
}

/* The origin that the clone itself names.  A command may have written it: no token goes there. */
static enum err find_origin(struct slot *s, const struct step_spec *step, struct wish *w,
                            struct ended *ended)
{
        static const char script[] = "[ -e \"$1/.git/config\" ] || { echo \"there is no clone at "
                                     "$1: git_clone it first\""
                                     " >&2; exit 3; }\n"
                                     "git config --file \"$1/.git/config\" --get remote.origin.url";
        struct spawn_spec spec = { .argv = arguments(s, script, w, "") };
        struct settings settings;
        enum err e;

        settings_begin(&settings, s);
        spec.env = settings_end(&settings);
        e = run_command(s, step, &spec, w->seconds, ended);
        w->repo = str_trim(ended->r.out);
        return e;
}

struct performed git_pull(struct slot *s, const struct step_spec *step, struct value parameters)
{
        struct wish w = common(parameters);

        w.must_exist = true;
        w.seconds = PULL_SECONDS;
        if (!w.repo.p) {
                struct ended ended;
                enum err e = find_origin(s, step, &w, &ended);
                struct performed done;

                if (e)
                        return refused(s, e);
                done = judge(s, &ended, ended.r.exit_code == 0);
                done.output = command_output(s, &ended.r, 0);
                if (done.outcome != OUTCOME_OK)
                        return done;
        }
        return bring(s, step, &w);
}
