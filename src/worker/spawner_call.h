/* How the server's side speaks to the spawner.  Private to this room. */
#ifndef BATON_WORKER_SPAWNER_CALL_H
#define BATON_WORKER_SPAWNER_CALL_H

#include "worker/sandbox.h"
#include "worker/spawner.h"
#include "worker/wire.h"

/* The sandbox that was found to work when the spawner started. */
struct spawner_kind {
        enum runtime runtime;
        uint32_t landlock; /* ABI, 0 = not used */
        bool namespaces;
};
const struct spawner_kind *spawner_kind(const struct spawner *);
/* What holds for runs that say nothing, by enum cgroup_limit. */
const int64_t *spawner_caps(const struct spawner *);

/* What a workspace's processes run as: its own uid, or the program's when that is not root. */
uint32_t spawner_uid(const struct spawner *, uint32_t workspace_uid);

/* Fills in op, uid and the workspace's name; ERR_VALIDATION when it is none. */
enum err spawner_request(struct scope *, struct wire_request *, enum wire_op, struct str workspace,
                         uint32_t uid) NODISCARD;
/* Sends it with the body and the descriptors of the operation; the caller closes the control
 * socket, which kills what still runs. */
enum err spawner_send(struct scope *, struct spawner *, const struct wire_request *,
                      const struct buf *body, const int *fds, size_t n_fds, int *control) NODISCARD;
/* Waits for the end of a helper; its fault becomes ours.  Figures may be NULL. */
enum err spawner_finish(struct scope *, int control, struct wire_reply *figures) NODISCARD;

#endif
