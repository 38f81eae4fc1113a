/*
 * Commands without bubblewrap: the runtimes `landlock` and `trusted`.  A supervisor stays beside
 * the command; it reports like bubblewrap on the status pipe and leaves the killing to the spawner.
 *
 *   landlock, with namespaces (root, or user namespaces): own processes, network, IPC and mounts,
 *             of which all but the workspace are read-only; Landlock and the system call filter.
 *   landlock, without: Landlock and a filter that lets no socket be made.  The modes and times of
 *             other files of the same user stay within reach, which is why it must be named.
 *   trusted:  limits and a session of its own, nothing else; when root, the workspace's uid too.
 *
 * The workspace lies at its own path, or below /tmp where there is a mount namespace.
 */
#ifndef BATON_WORKER_PLAIN_H
#define BATON_WORKER_PLAIN_H

#include "worker/sandbox.h"

/* Makes the namespaces, except those for mounts and for processes. */
void plain_isolate(const struct sandbox *, const struct sandbox_run *);
/* workspace, source: where they are seen from here; "" = none. */
void plain_exec(const struct sandbox *, const struct sandbox_run *, const char *workspace,
                const char *source) NORETURN;

#endif
