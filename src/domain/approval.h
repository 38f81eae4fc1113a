/* Approvals: one table for everything that a person must decide. */
#ifndef BATON_DOMAIN_APPROVAL_H
#define BATON_DOMAIN_APPROVAL_H

#include "domain/run.h"

enum approval_status {
        APPROVAL_OPEN,
        APPROVAL_YES,
        APPROVAL_NO,
        APPROVAL_EXPIRED,
        APPROVAL_VOID,
};
enum risk_level { RISK_LOW, RISK_MEDIUM, RISK_HIGH, RISK_CRITICAL };
extern const struct names approval_status_names, risk_level_names;

struct approval {
        int64_t id;
        struct str workspace_id;
        int64_t task_id, run_id, step_index;
        int status, risk_level;
        struct str permission_type, summary, arguments_digest, requested_by, decided_by;
        struct str decision_source, comment;
        int64_t expires_at, created_at, decided_at;
};
extern const struct record approval_record;

struct approval_spec {
        struct str message;
        struct str arguments_digest; /* of what is to be done, or absent */
        int risk_level;
        int64_t expires_in_seconds;
};

/* Adds run.awaiting_approval. */
enum err approval_open(struct tx *, const struct run *, int64_t step, const struct approval_spec *,
                       struct events *, struct approval *) NODISCARD;
/* Whether the task may run at all; its run_id is 0. */
enum err approval_open_task(struct tx *, const struct task *) NODISCARD;
/* The open approval of a task; ERR_EMPTY when there is none. */
enum err approval_of_task(struct tx *, int64_t task, struct approval *) NODISCARD;
enum err approval_close_task(struct tx *, int64_t task) NODISCARD;
enum err approval_load(struct tx *, int64_t id, struct approval *) NODISCARD;
enum err approval_get(struct tx *, const struct principal *, int64_t id, struct approval *) NODISCARD;
enum err approval_list(struct tx *, const struct principal *, int status, int64_t run,
                       int64_t before, int limit, struct list *) NODISCARD;
enum err approval_decide(struct tx *, const struct principal *, int64_t id, bool approve,
                         struct str comment, struct approval *) NODISCARD;
/* Its time is over: decided as expired, the run goes on to hear of it. */
enum err approval_expire(struct tx *, struct approval *) NODISCARD;
/* The run has ended: its open approvals are void. */
enum err approvals_close(struct tx *, int64_t run) NODISCARD;

#endif
