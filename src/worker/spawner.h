/*
 * Spawner: a small child process, forked before there are threads or a database.  It starts
 * sandboxed commands, holds privileges when the program was started as root, and kills everything
 * it started when its socket closes.  The server talks to it over a socketpair; descriptors travel
 * by SCM_RIGHTS.
 */
#ifndef BATON_WORKER_SPAWNER_H
#define BATON_WORKER_SPAWNER_H

#include "core/scope.h"

struct spawner;

struct spawner_options {
        const char *workspaces;      /* directory of all workspace directories */
        const char *const *git_roots; /* local paths that git may read; ends with NULL */
        uint32_t first_uid;          /* 200000: uids of workspaces when root */
        uint32_t server_uid, server_gid; /* what the server drops to when root */
};

/* Forks.  Call before any thread exists. */
enum err spawner_start(struct scope *, const struct spawner_options *, struct spawner **) NODISCARD;
void spawner_stop(struct spawner *); /* kills what runs, waits for the child */

/* "bwrap" or "none": what this machine can do, and why not when it cannot. */
struct str spawner_runtime(const struct spawner *);
struct str spawner_runtime_problem(const struct spawner *);

/* Creates the workspace's directory tree (repos, artifacts, tasks) with the right owner. */
enum err spawner_workspace(struct scope *, struct spawner *, struct str workspace_uuid,
                           uint32_t uid) NODISCARD;

struct spawn_spec {
        struct str workspace_uuid;
        uint32_t uid;            /* the workspace's, used when root */
        const char *const *argv; /* ends with NULL */
        const char *const *env;  /* NAME=value, beside the fixed ones; ends with NULL */
        struct str cwd;          /* relative to the workspace, "" = its root */
        struct str git_source;   /* a local repository to show read-only at /source, or absent */
        int64_t timeout_us;
        int64_t stdout_cap, stderr_cap; /* bytes kept for the result */
        int64_t output_cap;             /* bytes in all after which the tree is killed */
        int64_t file_size_cap;          /* RLIMIT_FSIZE */
        /* Called with each piece of output as it comes (stream 1 or 2); may be NULL. */
        void (*on_output)(void *ctx, int stream, struct str bytes);
        /* Polled about every 100 ms; true = kill the tree.  May be NULL. */
        bool (*canceled)(void *ctx);
        void *ctx;
};

struct spawn_result {
        int exit_code; /* 128+n after a signal */
        bool timed_out, canceled, truncated, output_exceeded, oom;
        struct str out, err; /* UTF-8 (bad bytes replaced), in the scope's arena */
        int64_t duration_us;
        struct str sandbox; /* profile really used: JSON {"runtime":"bwrap", ...} */
};

/* Runs to its end; any thread, many at once.  ERR_VALIDATION (cwd outside, bad argv),
 * ERR_UNAVAILABLE (no runtime, spawner gone). */
enum err spawner_run(struct scope *, struct spawner *, const struct spawn_spec *,
                     struct spawn_result *) NODISCARD;

#endif
