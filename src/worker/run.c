/* The server's side of one sandboxed command: request, output, kill, result. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/json_out.h"
#include "core/utf8.h"
#include "worker/sandbox.h"
#include "worker/spawner_call.h"

#define CANCEL_POLL_US (100 * US_PER_MS)
/* A killed tree is gone within milliseconds; after this the spawner itself must be stuck. */
#define KILL_BOUND_US (5 * US_PER_S)

enum { OUT, ERROR_OUT, CONTROL, FDS };
enum { PIECE = 64 * 1024, SIGNALED = 128, NO_COMMAND = 127, NOT_EXECUTABLE = 126 };

struct run {
        struct scope *scope;
        struct spawner *spawner;
        const struct spawn_spec *spec;
        struct pollfd fds[FDS]; /* -1 once at its end */
        struct buf kept[2];
        char first[256]; /* the first words on standard error: bubblewrap's, when it fails */
        size_t n_first;
        int64_t total, output_cap, caps[CGROUP_LIMITS];
        int64_t started, next_cancel_poll, killed_at; /* killed_at 0 = not killed */
        bool truncated, timed_out, canceled, output_exceeded;
        bool done;
        enum err fault;
        struct wire_reply reply; /* of the fault until done */
};

static int64_t clock_now(const struct run *run)
{
        const struct clock *clock = run->scope->world->clock;

        return clock->boot(clock->ctx);
}

/* ---- the request ---- */

/* The absolute directory inside; refuses what would lead above the workspace. */
static enum err inner_cwd(struct scope *scope, struct str cwd, struct buf *path)
{
        struct str rest = cwd;
        size_t starts[256];
        size_t depth = 0;

        if (memchr(cwd.p ? cwd.p : "", 0, cwd.n))
                return fail_field(scope, "cwd", ERR_VALIDATION, "cwd holds a NUL byte");
        if (str_starts(cwd, "/")) {
                rest = str_slice(cwd, strlen(SANDBOX_WORKSPACE), cwd.n);
                if (!str_starts(cwd, SANDBOX_WORKSPACE) || (rest.n && rest.p[0] != '/'))
                        return fail_field(scope, "cwd", ERR_VALIDATION,
                                          "cwd " STR_FMT " is not in the workspace", STR_ARG(cwd));
        }
        buf_text(path, SANDBOX_WORKSPACE);
        while (rest.p) {
                struct str part = str_cut(rest, '/', &rest);

                if (!part.n || str_is(part, "."))
                        continue;
                if (str_is(part, "..")) {
                        if (!depth)
                                return fail_field(scope, "cwd", ERR_VALIDATION,
                                                  "cwd " STR_FMT " leads out of the workspace",
                                                  STR_ARG(cwd));
                        path->n = starts[--depth];
                        path->p[path->n] = 0;
                        continue;
                }
                if (depth == LENGTH(starts))
                        return fail_field(scope, "cwd", ERR_VALIDATION, "cwd is too deep");
                starts[depth++] = path->n;
                buf_char(path, '/');
                buf_str(path, part);
        }
        if (path->full)
                return fail_field(scope, "cwd", ERR_VALIDATION, "cwd is too long");
        return ERR_OK;
}

static enum err put_list(struct scope *scope, struct buf *body, const char *const *list,
                         const char *field, uint32_t *count)
{
        uint32_t n = 0;

        for (; list && list[n]; n++) {
                size_t length = strlen(list[n]);
                const char *equals = strchr(list[n], '=');

                if (n == WIRE_ITEMS_MAX)
                        return fail_limit(scope, field, ERR_VALIDATION, WIRE_ITEMS_MAX, n + 1,
                                          "number of texts");
                if (length > WIRE_ITEM_MAX)
                        return fail_limit(scope, field, ERR_VALIDATION, WIRE_ITEM_MAX,
                                          (int64_t)length, "bytes of one text");
                if (!strcmp(field, "env") && (!equals || equals == list[n]))
                        return fail_field(scope, field, ERR_VALIDATION,
                                          "environment entry %u is not NAME=value", n + 1);
                wire_put(body, (struct str){ list[n], length });
        }
        *count = n;
        return ERR_OK;
}

static enum err build_request(struct scope *scope, const struct spawn_spec *spec,
                              struct wire_request *q, struct buf *body)
{
        struct buf cwd = BUF_INIT(4000);
        enum err e = spawner_request(scope, q, WIRE_RUN, spec->workspace_uuid, spec->uid);

        if (e)
                return e;
        if (!spec->argv || !spec->argv[0] || !spec->argv[0][0])
                return fail_field(scope, "argv", ERR_VALIDATION, "there is no command");
        if (spec->git_source.p && memchr(spec->git_source.p, 0, spec->git_source.n))
                return fail_field(scope, "git_source", ERR_VALIDATION,
                                  "git source holds a NUL byte");
        e = inner_cwd(scope, spec->cwd, &cwd);
        wire_put(body, buf_view(&cwd));
        buf_done(&cwd);
        wire_put(body, spec->git_source);
        q->has_source = spec->git_source.p != NULL;
        q->network = spec->network;
        q->file_size_cap = spec->file_size_cap > 0 ? spec->file_size_cap : SPAWN_FILE_SIZE;
        if (!e)
                e = put_list(scope, body, spec->argv, "argv", &q->n_argv);
        if (!e)
                e = put_list(scope, body, spec->env, "env", &q->n_env);
        return e;
}

/* ---- while it runs ---- */

static void kill_tree(struct run *run)
{
        if (run->killed_at)
                return;
        run->killed_at = clock_now(run);
        (void)shutdown(run->fds[CONTROL].fd, SHUT_WR);
}

static void take(struct run *run, int stream, struct str piece)
{
        struct buf *kept = &run->kept[stream];
        struct str head = str_slice(piece, 0, kept->cap - kept->n);

        if (run->output_exceeded)
                return;
        buf_str(kept, head);
        if (head.n < piece.n)
                run->truncated = true;
        if (stream == ERROR_OUT && run->n_first < sizeof(run->first) - 1) {
                head = str_slice(piece, 0, sizeof(run->first) - 1 - run->n_first);
                memcpy(run->first + run->n_first, head.p, head.n);
                run->n_first += head.n;
        }
        run->total += (int64_t)piece.n;
        if (run->spec->on_output)
                run->spec->on_output(run->spec->ctx, stream + 1, piece);
        if (run->total > run->output_cap) {
                run->output_exceeded = run->truncated = true;
                kill_tree(run);
        }
}

/* False: nothing more now. */
static bool read_piece(struct run *run, int stream)
{
        char piece[PIECE];
        ssize_t n;

        if (run->fds[stream].fd < 0)
                return false;
        n = read(run->fds[stream].fd, piece, sizeof(piece));
        if (n > 0) {
                take(run, stream, (struct str){ piece, (size_t)n });
                return true;
        }
        if (!n || (errno != EAGAIN && errno != EINTR)) {
                close(run->fds[stream].fd);
                run->fds[stream].fd = -1;
        }
        return false;
}

static void read_control(struct run *run)
{
        struct wire_reply reply = { 0 };
        int fd = -1;
        size_t n_fds = 1;
        int got = wire_receive(run->fds[CONTROL].fd, &reply, sizeof(reply), MSG_DONTWAIT, &fd,
                               &n_fds);

        if (got < 0)
                return;
        if (!got) {
                run->done = true;
                if (!run->fault) {
                        run->fault = ERR_UNAVAILABLE;
                        strcpy(run->reply.text, "the spawner is gone");
                }
        } else if (reply.kind == WIRE_FAULT) {
                run->reply = reply;
                run->fault =
                        reply.err && reply.err < ERR_COUNT ? (enum err)reply.err : ERR_INTERNAL;
        } else if (reply.kind == WIRE_LISTENER && n_fds == 1) {
                run->spec->on_listener(run->spec->ctx, fd);
        } else if (reply.kind == WIRE_DONE) {
                run->done = true;
                if (!run->fault)
                        run->reply = reply;
        }
}

static void check_time(struct run *run)
{
        const struct spawn_spec *spec = run->spec;
        int64_t now = clock_now(run);

        if (run->killed_at) {
                if (now - run->killed_at > KILL_BOUND_US) {
                        run->done = true;
                        run->fault = ERR_UNAVAILABLE;
                        strcpy(run->reply.text, "the spawner does not end the command");
                }
                return;
        }
        if (spec->timeout_us > 0 && now - run->started >= spec->timeout_us) {
                run->timed_out = true;
                kill_tree(run);
        } else if (spec->canceled && now >= run->next_cancel_poll) {
                run->next_cancel_poll = now + CANCEL_POLL_US;
                if (spec->canceled(spec->ctx)) {
                        run->canceled = true;
                        kill_tree(run);
                }
        }
}

static int wait_ms(const struct run *run)
{
        int64_t now = clock_now(run), until = INT64_MAX;

        if (run->killed_at) {
                until = run->killed_at + KILL_BOUND_US;
        } else {
                if (run->spec->timeout_us > 0)
                        until = run->started + run->spec->timeout_us;
                if (run->spec->canceled && run->next_cancel_poll < until)
                        until = run->next_cancel_poll;
        }
        if (until == INT64_MAX)
                return -1;
        if (until <= now)
                return 0;
        return until - now > 3600 * US_PER_S ? 3600 * 1000 : (int)((until - now) / US_PER_MS) + 1;
}

static void attend(struct run *run)
{
        while (!run->done) {
                if (poll(run->fds, FDS, wait_ms(run)) > 0) {
                        if (run->fds[OUT].revents)
                                (void)read_piece(run, OUT);
                        if (run->fds[ERROR_OUT].revents)
                                (void)read_piece(run, ERROR_OUT);
                        if (run->fds[CONTROL].revents)
                                read_control(run);
                }
                check_time(run);
        }
        /* What is in the pipes; not to their end, for a writer of this tree is not left, but the
         * ends may have been handed to another sandbox of the workspace. */
        for (int stream = OUT; stream <= ERROR_OUT; stream++)
                while (!run->output_exceeded && read_piece(run, stream))
                        ;
}

/* ---- the result ---- */

/* Bubblewrap ended without telling an exit code: no command ran.  Its own words say why. */
static enum err explain(struct run *run, int *exit_code)
{
        struct str words = str_from(run->first);
        struct str line = str_cut(words, '\n', &words);

        if (str_starts(line, "bwrap: execvp ")) {
                *exit_code =
                        str_ends(line, ": No such file or directory") ? NO_COMMAND : NOT_EXECUTABLE;
                return ERR_OK;
        }
        if (str_starts(line, "bwrap: Can't chdir to "))
                return fail_field(run->scope, "cwd", ERR_VALIDATION,
                                  "there is no directory " STR_FMT " in the workspace",
                                  STR_ARG(run->spec->cwd));
        return fail(run->scope, ERR_UNAVAILABLE, "the sandbox could not be set up: " STR_FMT,
                    STR_ARG(line));
}

/* What keeps a limit: a control group for the tree, an rlimit for each process, or nothing. */
static const char *keeper(const struct run *run, enum cgroup_limit what)
{
        static const bool has_rlimit[CGROUP_LIMITS] = { [CGROUP_MEMORY] = true,
                                                        [CGROUP_PROCESSES] = true };

        return run->reply.bounds[what]                   ? "cgroup" :
               has_rlimit[what] && run->caps[what] > 0 ? "rlimit" :
                                                           "none";
}

static struct str profile(const struct run *run)
{
        const struct spawner_kind *kind = spawner_kind(run->spawner);
        static const char *const networks[] = { [NETWORK_NONE] = "none",
                                                [NETWORK_PROXY] = "proxy",
                                                [NETWORK_HOST] = "host" };
        bool trusted = kind->runtime == RUNTIME_TRUSTED;
        struct buf text = BUF_INIT(1024);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        json_key(&j, "runtime");
        json_put_text(&j, runtime_names[kind->runtime]);
        json_key(&j, "uid");
        json_put_int(&j, spawner_uid(run->spawner, run->spec->uid));
        json_key(&j, "network");
        json_put_text(&j, networks[trusted ? NETWORK_HOST : run->spec->network]);
        json_key(&j, "seccomp");
        json_put_bool(&j, !trusted);
        json_key(&j, "namespaces");
        json_put_bool(&j, kind->namespaces);
        if (kind->landlock) {
                json_key(&j, "landlock");
                json_put_int(&j, kind->landlock);
        }
        json_key(&j, "memory");
        json_put_text(&j, keeper(run, CGROUP_MEMORY));
        json_key(&j, "processes");
        json_put_text(&j, keeper(run, CGROUP_PROCESSES));
        json_key(&j, "cpu");
        json_put_text(&j, keeper(run, CGROUP_CPUS));
        json_end_object(&j);
        copy = str_dup(&run->scope->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static struct str text_of(struct arena *arena, const struct buf *kept)
{
        return utf8_clean(arena, buf_view(kept), kept->n == kept->cap);
}

static enum err result(struct run *run, struct spawn_result *out)
{
        const struct wire_reply *r = &run->reply;
        bool killed = r->exit_code < 0 && WIFSIGNALED(r->status);
        struct arena *arena = &run->scope->arena;
        int exit_code = r->exit_code;

        if (run->fault) {
                run->reply.text[sizeof(run->reply.text) - 1] = 0;
                return fail(run->scope, run->fault, "%s", run->reply.text);
        }
        if (killed) {
                exit_code = SIGNALED + WTERMSIG(r->status);
        } else if (exit_code < 0) {
                enum err e = explain(run, &exit_code);

                if (e)
                        return e;
        }
        *out = (struct spawn_result){
                .exit_code = exit_code,
                /* It may have ended by itself in the moment before the kill. */
                .timed_out = run->timed_out && killed,
                .canceled = run->canceled && killed,
                .truncated = run->truncated,
                .output_exceeded = run->output_exceeded,
                .oom = r->hit[CGROUP_MEMORY],
                .forks_refused = r->hit[CGROUP_PROCESSES],
                .memory_cap = run->caps[CGROUP_MEMORY],
                .process_cap = run->caps[CGROUP_PROCESSES],
                .out = text_of(arena, &run->kept[OUT]),
                .err = text_of(arena, &run->kept[ERROR_OUT]),
                .duration_us = clock_now(run) - run->started,
                .sandbox = profile(run),
        };
        return ERR_OK;
}

/* ---- all of it ---- */

static enum err begin(struct run *run)
{
        struct wire_request q;
        struct buf body = BUF_INIT(WIRE_BODY_MAX);
        int out[2], err[2], ends[2], control;
        enum err e = build_request(run->scope, run->spec, &q, &body);

        memcpy(q.caps, run->caps, sizeof(q.caps));
        if (e)
                goto done;
        if (pipe2(out, O_CLOEXEC)) {
                e = fail(run->scope, ERR_UNAVAILABLE, "pipe: %s", strerror(errno));
                goto done;
        }
        run->fds[OUT] = (struct pollfd){ .fd = out[0], .events = POLLIN };
        if (pipe2(err, O_CLOEXEC)) {
                e = fail(run->scope, ERR_UNAVAILABLE, "pipe: %s", strerror(errno));
                close(out[1]);
                goto done;
        }
        run->fds[ERROR_OUT] = (struct pollfd){ .fd = err[0], .events = POLLIN };
        (void)fcntl(out[0], F_SETFL, O_NONBLOCK);
        (void)fcntl(err[0], F_SETFL, O_NONBLOCK);
        ends[0] = out[1];
        ends[1] = err[1];
        e = spawner_send(run->scope, run->spawner, &q, &body, ends, 2, &control);
        if (!e)
                run->fds[CONTROL] = (struct pollfd){ .fd = control, .events = POLLIN };
        close(out[1]);
        close(err[1]);
done:
        buf_done(&body);
        return e;
}

static size_t kept_cap(int64_t cap)
{
        return (size_t)(cap > 0 ? cap : SPAWN_KEPT);
}

static void choose_caps(struct run *run)
{
        const int64_t asked[CGROUP_LIMITS] = { [CGROUP_MEMORY] = run->spec->memory_cap,
                                               [CGROUP_PROCESSES] = run->spec->process_cap };

        memcpy(run->caps, spawner_caps(run->spawner), sizeof(run->caps));
        for (int i = 0; i < CGROUP_LIMITS; i++)
                if (asked[i] > 0)
                        run->caps[i] = asked[i];
}

enum err spawner_run(struct scope *scope, struct spawner *spawner, const struct spawn_spec *spec,
                     struct spawn_result *out)
{
        struct run run = {
                .scope = scope,
                .spawner = spawner,
                .spec = spec,
                .fds = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } },
                .kept = { BUF_INIT(kept_cap(spec->stdout_cap)),
                          BUF_INIT(kept_cap(spec->stderr_cap)) },
                .output_cap = spec->output_cap > 0 ? spec->output_cap : SPAWN_OUTPUT,
        };
        enum err e;

        if (spawner_kind(spawner)->runtime == RUNTIME_NONE)
                return fail(scope, ERR_UNAVAILABLE, "commands cannot be sandboxed here: " STR_FMT,
                            STR_ARG(spawner_runtime_problem(spawner)));
        choose_caps(&run);
        run.started = clock_now(&run);
        run.next_cancel_poll = run.started;
        e = begin(&run);
        if (!e) {
                attend(&run);
                e = result(&run, out);
        }
        for (int i = 0; i < FDS; i++)
                if (run.fds[i].fd >= 0)
                        close(run.fds[i].fd);
        buf_done(&run.kept[OUT]);
        buf_done(&run.kept[ERROR_OUT]);
        return e;
}
