/*
 * Spawner: a small child process, forked before there are threads or a database.  It starts
 * sandboxed commands, holds privileges when the program was started as root, and kills everything
 * it started when its socket closes.  The server talks to it over a socketpair; descriptors travel
 * by SCM_RIGHTS.
 *
 * Under bubblewrap the workspace is /workspace (read and write), git_source is /source (read only)
 * and the command runs as uid 1000 without a network unless asked; worker/plain.h tells of the others.  When the
 * program was started as root, each workspace has a uid of its own on the host; otherwise everything
 * runs as the program's user.
 */
#ifndef BATON_WORKER_SPAWNER_H
#define BATON_WORKER_SPAWNER_H

#include "core/attr.h"
#include "core/scope.h"
#include "worker/network.h"

struct spawner;

/* What 0 stands for in the options and the spec. */
#define SPAWNER_FIRST_UID UINT32_C(200000)
#define SPAWN_KEPT        (INT64_C(1) << 20)
#define SPAWN_OUTPUT      (INT64_C(256) << 20)
#define SPAWN_FILE_SIZE   (INT64_C(2) << 30)
#define SPAWN_PROCESSES   INT64_C(512)

struct spawner_options {
        const char *workspaces; /* directory of all workspace directories; made when missing */
        const char *const
                *git_roots; /* local paths that git may read; ends with NULL; may be NULL */
        uint32_t first_uid; /* uids of workspaces begin here when root */
        uint32_t server_uid, server_gid; /* what the server drops to when root; 0 = not known */
        const char *bwrap;   /* bubblewrap's program; NULL = look in the usual places */
        const char *sandbox; /* "auto", "bwrap", "landlock" or "trusted"; NULL = auto */
        int64_t memory_cap, process_cap, cpu_cap; /* of runs that say nothing; 0 memory, cpu: none */
};

/* May this be asked for as a sandbox? */
bool spawner_sandbox_is_known(const char *name);

/* Forks.  Call before any thread exists. */
enum err spawner_start(struct scope *, const struct spawner_options *, struct spawner **) NODISCARD;
/* Waits until the child has found out what sandbox works here, some 15 ms after its start; once,
 * before anything below. */
enum err spawner_ready(struct scope *, struct spawner *) NODISCARD;
/* Kills what runs and waits for the child; runs in other threads return, later calls are
 * ERR_UNAVAILABLE.  One thread, once or more; NULL is fine. */
void spawner_stop(struct spawner *);
void spawner_free(struct spawner *); /* stops too; when no other thread uses it any more */

/* "bwrap", "landlock", "trusted", or "none" when nothing of what was asked works here; the problem
 * then says why, and else what stronger kind did not work. */
struct str spawner_runtime(const struct spawner *);
struct str spawner_runtime_problem(const struct spawner *);

/* Creates the workspace's directory tree (repos, artifacts, tasks) with the right owner; does
 * nothing when it is there.  ERR_CONFLICT: the directory belongs to another uid. */
enum err spawner_workspace(struct scope *, struct spawner *, struct str workspace_uuid,
                           uint32_t uid) NODISCARD;

struct spawn_spec {
        struct str workspace_uuid;
        uint32_t uid;            /* the workspace's, used when root */
        const char *const *argv; /* ends with NULL; argv[0] is looked up in PATH */
        const char *const *env; /* NAME=value, beside the fixed ones; ends with NULL; may be NULL */
        struct str cwd;         /* relative to the workspace, "" = its root; /workspace/... too */
        enum network network;
        struct str git_source;  /* a local repository to show read-only at /source, or absent */
        int64_t timeout_us;     /* 0 = none */
        int64_t stdout_cap, stderr_cap; /* bytes kept for the result */
        int64_t output_cap;             /* bytes in all after which the tree is killed */
        int64_t file_size_cap;          /* RLIMIT_FSIZE */
        int64_t memory_cap;             /* bytes; 0 = the spawner's */
        int64_t process_cap;            /* processes and threads at a time */
        /* Called with each piece of output as it comes, raw (stream 1 or 2); may be NULL. */
        void (*on_output)(void *ctx, int stream, struct str bytes);
        /* Polled about every 100 ms; true = kill the tree.  May be NULL. */
        bool (*canceled)(void *ctx);
        /* With NETWORK_PROXY: the listener, which is the callee's.  Not called by a runtime that keeps
         * nobody apart ("trusted"): its commands have the host's network. */
        void (*on_listener)(void *ctx, int fd);
        void *ctx;
};

struct spawn_result {
        int exit_code; /* 128+n after a signal; 127 no such command, 126 not executable */
        bool timed_out, canceled, truncated, output_exceeded;
        bool oom;            /* the kernel killed in it: it came to memory_cap */
        bool forks_refused;  /* it came to process_cap */
        int64_t memory_cap, process_cap; /* that held */
        struct str out, err; /* UTF-8 (bad bytes replaced), in the scope's arena */
        int64_t duration_us;
        struct str sandbox; /* profile really used: JSON {"runtime":"bwrap", ...} */
};

/*
 * Runs to its end; any thread, many at once.  When it returns, the whole tree is dead.
 * ERR_VALIDATION (cwd outside or missing, bad argv or env, git_source not allowed), ERR_NOT_FOUND
 * (no workspace directory), ERR_UNAVAILABLE (no runtime, spawner gone, sandbox could not be set
 * up).
 */
enum err spawner_run(struct scope *, struct spawner *, const struct spawn_spec *,
                     struct spawn_result *) NODISCARD;

#endif
