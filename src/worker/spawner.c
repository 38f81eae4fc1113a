#include "worker/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/spawner_call.h"
#include "worker/spawner_child.h"

/* How long a helper may take over a file operation. */
enum { HELPER_MS = 60000 };

struct spawner {
        pid_t pid;
        int socket;
        uint32_t uid; /* the child's */
        struct spawner_kind kind;
        int64_t caps[CGROUP_LIMITS];
        char problem[sizeof(((struct wire_reply *)0)->text)];
};

static const char *find_bwrap(const struct spawner_options *options)
{
        static const char *const places[] = { "/usr/bin/bwrap", "/usr/local/bin/bwrap",
                                              "/bin/bwrap" };

        if (options->bwrap)
                return access(options->bwrap, X_OK) ? NULL : options->bwrap;
        for (unsigned i = 0; i < LENGTH(places); i++)
                if (!access(places[i], X_OK))
                        return places[i];
        return NULL;
}

static enum err start_child(struct scope *scope, const struct spawner_options *options,
                            struct spawner *spawner)
{
        char workspaces[PATH_MAX];
        struct stat st;
        int ends[2];

        if ((mkdir(options->workspaces, 0700) && errno != EEXIST) ||
            !realpath(options->workspaces, workspaces) || stat(workspaces, &st))
                return fail(scope, ERR_UNAVAILABLE, "directory of workspaces %s: %s",
                            options->workspaces, strerror(errno));
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
                return fail(scope, ERR_UNAVAILABLE, "spawner's socket: %s", strerror(errno));
        spawner->pid = fork();
        if (!spawner->pid) {
                struct sandbox box = { .bwrap = find_bwrap(options),
                                       .workspaces = workspaces,
                                       .device = st.st_dev,
                                       .inode = st.st_ino,
                                       .git_roots = options->git_roots,
                                       .root = geteuid() == 0,
                                       .filter = -1,
                                       .first_uid = options->first_uid ? options->first_uid :
                                                                         SPAWNER_FIRST_UID,
                                       .server_uid = options->server_uid,
                                       .server_gid = options->server_gid };

                close(ends[0]);
                spawner_child(ends[1], &box, options->sandbox ? options->sandbox : "auto");
        }
        close(ends[1]);
        spawner->socket = ends[0];
        if (spawner->pid < 0)
                return fail(scope, ERR_UNAVAILABLE, "cannot fork the spawner: %s", strerror(errno));
        return ERR_OK;
}

enum err spawner_start(struct scope *scope, const struct spawner_options *options,
                       struct spawner **out)
{
        struct spawner *spawner = xcalloc(1, sizeof(*spawner));
        enum err e;

        spawner->socket = -1;
        spawner->caps[CGROUP_MEMORY] = options->memory_cap;
        spawner->caps[CGROUP_PROCESSES] =
                options->process_cap ? options->process_cap : SPAWN_PROCESSES;
        spawner->caps[CGROUP_CPUS] = options->cpu_cap;
        e = start_child(scope, options, spawner);
        if (e)
                spawner_free(spawner);
        else
                *out = spawner;
        return e;
}

enum err spawner_ready(struct scope *scope, struct spawner *spawner)
{
        struct wire_reply hello = { 0 };

        if (wire_receive(spawner->socket, &hello, sizeof(hello), 0, NULL, NULL) != 1 ||
            hello.kind != WIRE_HELLO)
                return fail(scope, ERR_UNAVAILABLE, "the spawner did not start");
        spawner->kind = (struct spawner_kind){ .runtime = hello.hello.runtime,
                                               .landlock = hello.hello.landlock,
                                               .namespaces = hello.hello.namespaces };
        spawner->uid = (uint32_t)hello.a;
        memcpy(spawner->problem, hello.text, sizeof(spawner->problem));
        return ERR_OK;
}

void spawner_stop(struct spawner *spawner)
{
        if (!spawner || spawner->pid <= 0)
                return;
        (void)shutdown(spawner->socket, SHUT_RDWR);
        while (waitpid(spawner->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        spawner->pid = 0;
}

void spawner_free(struct spawner *spawner)
{
        if (!spawner)
                return;
        spawner_stop(spawner);
        if (spawner->socket >= 0)
                close(spawner->socket);
        free(spawner);
}

struct str spawner_runtime(const struct spawner *spawner)
{
        return str_from(runtime_names[spawner->kind.runtime]);
}

struct str spawner_runtime_problem(const struct spawner *spawner)
{
        return str_from(spawner->problem);
}

bool spawner_sandbox_is_known(const char *name)
{
        return sandbox_asked_is_known(name);
}

const struct spawner_kind *spawner_kind(const struct spawner *spawner)
{
        return &spawner->kind;
}

const int64_t *spawner_caps(const struct spawner *spawner)
{
        return spawner->caps;
}

uint32_t spawner_uid(const struct spawner *spawner, uint32_t workspace_uid)
{
        return spawner->uid ? spawner->uid : workspace_uid;
}

enum err spawner_request(struct scope *scope, struct wire_request *q, enum wire_op op,
                         struct str workspace, uint32_t uid)
{
        bool good = workspace.n > 0 && workspace.n < sizeof(q->workspace);

        for (size_t i = 0; good && i < workspace.n; i++) {
                char c = workspace.p[i];

                good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_';
        }
        if (!good)
                return fail(scope, ERR_VALIDATION, "not the name of a workspace directory");
        *q = (struct wire_request){ .op = op, .uid = uid };
        memcpy(q->workspace, workspace.p, workspace.n);
        return ERR_OK;
}

static int body_memfd(const struct buf *body)
{
        int fd = memfd_create("request", MFD_CLOEXEC);
        size_t done = 0;

        while (fd >= 0 && body && done < body->n) {
                ssize_t n = write(fd, body->p + done, body->n - done);

                if (n <= 0) {
                        close(fd);
                        return -1;
                }
                done += (size_t)n;
        }
        return fd;
}

enum err spawner_send(struct scope *scope, struct spawner *spawner, const struct wire_request *q,
                      const struct buf *body, const int *fds, size_t n_fds, int *control)
{
        int ends[2], all[WIRE_MAX_FDS];
        bool sent;

        if (body && body->full)
                return fail_limit(scope, "body", ERR_TOO_LARGE, WIRE_BODY_MAX, WIRE_BODY_MAX + 1,
                                  "texts for the spawner, in bytes");
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
                return fail(scope, ERR_UNAVAILABLE, "socket: %s", strerror(errno));
        all[WIRE_CONTROL] = ends[1];
        all[WIRE_BODY] = body_memfd(body);
        for (size_t i = 0; i < n_fds; i++)
                all[WIRE_RESULT + i] = fds[i];
        sent = all[WIRE_BODY] >= 0 &&
               wire_send(spawner->socket, q, sizeof(*q), all, WIRE_RESULT + n_fds);
        if (all[WIRE_BODY] >= 0)
                close(all[WIRE_BODY]);
        close(ends[1]);
        if (!sent) {
                int why = errno;

                close(ends[0]);
                return fail(scope, ERR_UNAVAILABLE, "the spawner does not answer: %s",
                            strerror(why));
        }
        *control = ends[0];
        return ERR_OK;
}

enum err spawner_finish(struct scope *scope, int control, struct wire_reply *figures)
{
        struct pollfd wait = { .fd = control, .events = POLLIN };
        struct wire_reply reply = { 0 };
        enum err e = ERR_OK;
        bool told = !figures;

        for (;;) {
                int ready = poll(&wait, 1, HELPER_MS);

                if (ready < 0 && errno == EINTR)
                        continue;
                if (ready <= 0)
                        return fail(scope, ERR_UNAVAILABLE, "the file operation took too long");
                if (wire_receive(control, &reply, sizeof(reply), 0, NULL, NULL) != 1)
                        return e ? e : fail(scope, ERR_UNAVAILABLE, "the spawner is gone");
                if (reply.kind == WIRE_FAULT) {
                        enum err code = reply.err && reply.err < ERR_COUNT ? (enum err)reply.err :
                                                                             ERR_INTERNAL;

                        reply.text[sizeof(reply.text) - 1] = 0;
                        e = fail(scope, code, "%s", reply.text);
                } else if (reply.kind == WIRE_FIGURES && figures) {
                        *figures = reply;
                        told = true;
                } else if (reply.kind == WIRE_DONE) {
                        if (!e && (reply.status || !told))
                                e = fail(scope, ERR_INTERNAL,
                                         "the file helper ended with status %d", (int)reply.status);
                        return e;
                }
        }
}

enum err spawner_workspace(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                           uint32_t uid)
{
        struct wire_request q;
        int control;
        enum err e = spawner_request(scope, &q, WIRE_WORKSPACE, workspace_uuid, uid);

        if (!e)
                e = spawner_send(scope, spawner, &q, NULL, NULL, 0, &control);
        if (e)
                return e;
        e = spawner_finish(scope, control, NULL);
        close(control);
        return e;
}
