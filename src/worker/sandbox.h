/*
 * Sandbox: turns the process that calls it into one sandboxed command, by bubblewrap or without it
 * (worker/plain.h).  What must hold for bubblewrap to be a sandbox at all (each was a hole once):
 *   - bubblewrap never runs as uid 0, or /proc/sys of the host stays writable inside;
 *   - its own environment is near-empty and its arguments come by descriptor, for both can be read
 *     inside as those of process 1;
 *   - no descriptor of ours is inherited;
 *   - every tmpfs has a size, for without one it is half of the memory.
 */
#ifndef BATON_WORKER_SANDBOX_H
#define BATON_WORKER_SANDBOX_H

#include <sys/types.h>

#include "worker/wire.h"

#define SANDBOX_WORKSPACE "/workspace"
#define SANDBOX_SOURCE    "/source"

/* How commands are kept apart from the machine. */
enum runtime { RUNTIME_NONE, RUNTIME_BWRAP, RUNTIME_LANDLOCK, RUNTIME_TRUSTED, RUNTIMES };
extern const char *const runtime_names[RUNTIMES];

/* What is the same for every run of a spawner. */
struct sandbox {
        enum runtime runtime;
        bool namespaces;        /* of its own for processes, network, IPC, mounts */
        int landlock;           /* ABI of this kernel where the runtime uses it, else 0 */
        const char *bwrap;      /* path of the program; NULL = not found */
        const char *workspaces; /* absolute, without symbolic links */
        uint64_t device, inode; /* of that directory when the program started */
        const char *const *git_roots;
        int filter; /* memfd with the system call filter */
        bool root;  /* started by uid 0: every run changes to a workspace's uid */
        uint32_t first_uid, server_uid, server_gid;
};

struct sandbox_run {
        const char *workspace; /* its directory's name; NULL = an empty one, for trying */
        uint32_t uid;
        const char *cwd;        /* absolute, inside */
        const char *git_source; /* NULL = none */
        enum network network;
        char *const *argv;      /* ends with NULL */
        char *const *env;
        int64_t file_size_cap, memory_cap, process_cap; /* memory: per process; 0 = none */
        bool processes_grouped; /* a control group counts them already */
        int control, out, err, status;
        pid_t parent; /* when it is gone, so are we */
};

/* The kinds of sandbox, the strongest first: fills in runtime, namespaces, landlock and filter for
 * the i-th that serves what was asked ("auto" or a runtime's name); false = there is no i-th.
 * Whether it works here only trying tells. */
bool sandbox_kind(struct sandbox *, const char *asked, unsigned i);
bool sandbox_asked_is_known(const char *asked);

/* Either the command runs, or a fault goes to the control socket and the process ends. */
void sandbox_exec(const struct sandbox *, const struct sandbox_run *) NORETURN;

/* The rlimits of a command. */
void sandbox_limit(const struct sandbox *, const struct sandbox_run *);

/* For every child of the spawner that acts for a workspace. */
bool sandbox_uid_allowed(const struct sandbox *, uint32_t uid);
void sandbox_change_uid(const struct sandbox *, uint32_t uid, int control);
/* A descriptor (O_PATH) of the directory of all of them.  Whoever the server has become may own a
 * directory above it: it is checked to be the one that was there at the start. */
int sandbox_open_workspaces(const struct sandbox *, int control);
/* A descriptor of the workspace's directory (O_PATH), checked for its owner. */
int sandbox_open_workspace(const struct sandbox *, const char *workspace, uint32_t uid,
                           int control);

#endif
