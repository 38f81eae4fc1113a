/*
 * Execution profiles: who should work on a task, and how.  One a task, set as a whole.  Names of
 * agents, peers and capabilities decide which claims get the task's runs, and which of them sooner:
 * they are its rule (claimer.h), part of the lane of every run.  The rest is told to who holds the run.
 */
#ifndef BATON_DOMAIN_PROFILE_H
#define BATON_DOMAIN_PROFILE_H

#include "domain/run.h"

enum { PROFILE_PROVIDER = 1, PROFILE_SANDBOX_NONE = 2, PROFILE_SANDBOX_REF = 4 };
/* The bits of such words, with commas; ERR_VALIDATION names the first that is none. */
enum err profile_refusals(struct scope *, struct str words, unsigned *out) NODISCARD;

enum { PROFILE_MAX = 4096 /* bytes of its JSON beside the guidance */, GUIDANCE_MAX = 8192 };

enum coordinator_mode { COORDINATOR_INHERIT, COORDINATOR_GUIDED };
enum worker_mode { WORKER_INHERIT, WORKER_SELECT };
enum sandbox_mode { SANDBOX_INHERIT, SANDBOX_NONE, SANDBOX_REF };
enum runtime_mode { RUNTIME_DEFAULT, RUNTIME_EVIDENCE };

/* Lists are sorted and joined by commas. */
struct agent_choice {
        struct str agent_name, provider, model, allowed_agent_names, preferred_agent_names;
        struct str required_capabilities, preferred_capabilities;
        struct str allowed_channel_ids, preferred_channel_ids, allowed_peer_ids, preferred_peer_ids;
};
struct coordinator {
        int mode;
        struct agent_choice choice; /* agent, provider, model */
        struct str guidance;
        uint64_t given;
};
struct profile_worker {
        int mode;
        struct agent_choice choice;
        uint64_t given;
};
struct profile_sandbox {
        int mode;
        struct str sandbox_ref;
};
struct profile_runtime {
        int mode;
};
struct profile {
        int64_t task_id;
        struct coordinator *coordinator;
        struct profile_worker *worker;
        struct agent_choice *review, *participants;
        struct profile_sandbox *sandbox;
        struct profile_runtime *runtime;
        int64_t created_at, updated_at; /* 0: the task has none */
};
extern const struct record profile_record, profile_body_record;

/* Of a task that was read; absent blocks become those that inherit everything. */
enum err profile_of(struct tx *, int64_t task, struct profile *) NODISCARD;
enum err profile_get(struct tx *, const struct principal *, int64_t task, struct profile *) NODISCARD;
/*
 * Replaces all of it; *profile is made complete and normal.  ERR_VALIDATION with the block's field when
 * it contradicts itself or could never be met; ERR_INVALID_TRANSITION while a run of the task is under
 * way.  A queued run follows at once.
 */
enum err profile_put(struct tx *, const struct principal *, int64_t task, struct profile *) NODISCARD;
/* ERR_NOT_FOUND when there is none. */
enum err profile_delete(struct tx *, const struct principal *, int64_t task) NODISCARD;

#endif
