/*
 * Sessions: a key may belong to one.  It holds one live lease at most, by which its calls are known
 * without a token; when its last key is revoked, what it holds goes back to the queue.
 */
#ifndef BATON_DOMAIN_SESSION_H
#define BATON_DOMAIN_SESSION_H

#include "domain/run.h"

/*
 * The fence of a call about a run by somebody who shows no token.  ERR_SESSION_REQUIRED: an agent's key
 * without a session; ERR_FOREIGN_RUN or ERR_NO_LEASE: the run is not the session's, which holds
 * another one or none.  Who is no agent gets a fence that holds nowhere.
 */
enum err session_fence(struct tx *, const struct principal *, int64_t run, struct fence *) NODISCARD;
/* ERR_EMPTY when the session holds no live lease; *run is the run that it holds.  Sessions are named
 * within a workspace: what another tenant's session of that name holds is no matter. */
enum err session_lease(struct tx *, struct str workspace, struct str session, int64_t *run) NODISCARD;
/* What it holds, in one workspace or (absent) in all, goes back to the queue. */
enum err session_release(struct tx *, const struct principal *, struct str session,
                         struct str workspace, const char *reason) NODISCARD;

#endif
