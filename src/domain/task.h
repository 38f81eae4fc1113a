/*
 * Tasks: durable units of coordination that people see.  The stored status always equals the status
 * that task_derive() gives; task_project() is the function that writes it.
 */
#ifndef BATON_DOMAIN_TASK_H
#define BATON_DOMAIN_TASK_H

#include "domain/audit.h"
#include "domain/event.h"
#include "domain/lane.h"

enum task_status {
        TASK_DRAFT,
        TASK_PENDING,
        TASK_BLOCKED,
        TASK_READY,
        TASK_IN_PROGRESS,
        TASK_COMPLETED,
        TASK_FAILED,
        TASK_CANCELED,
        TASK_IN_REVIEW, /* its newest run has ended and is judged */
        TASK_STATUSES,
};
enum priority { PRIORITY_LOW, PRIORITY_MEDIUM, PRIORITY_HIGH, PRIORITY_URGENT };
enum task_scope { TASK_WORKSPACE, TASK_GLOBAL };
enum approval_policy { APPROVAL_NONE, APPROVAL_MANUAL };
enum approval_state { APPROVAL_NOT_REQUIRED, APPROVAL_PENDING, APPROVAL_APPROVED, APPROVAL_REJECTED };
enum review_policy { REVIEW_NONE, REVIEW_ON_SUCCESS, REVIEW_ON_FAILURE, REVIEW_ALWAYS };

extern const struct names task_status_names, priority_names, task_scope_names;
extern const struct names approval_policy_names, approval_state_names, review_policy_names;

enum {
        TITLE_MAX = 1000,
        TEXT_MAX = 65536,
        METADATA_MAX = 16384,
        INPUT_MAX = 262144,
        RESULT_MAX = 65536,
        ATTEMPTS_MAX = 10,
        BATCH_MAX = 1000,
        TASK_DEPTH_MAX = 8, /* a root has 1 */
        TASK_CHILDREN_MAX = 64,
};

struct run;

struct task {
        int64_t id, tree_id;
        struct str workspace_id;
        int64_t parent_task_id, depth;
        int scope;
        struct str identifier, title, description;
        int priority, status;
        int64_t max_attempts, attempts;
        struct str retry;
        int64_t timeout_seconds;
        bool auto_enqueue_on_ready;
        int approval_policy, approval_state, review_policy;
        int64_t review_round;      /* of its newest review */
        int64_t review_id;         /* what it waits for, 0 = nothing: review.h */
        int64_t review_circuit_at; /* since when that waits for a person */
        struct str owner, network_channel;
        int64_t definition_id, definition_version;
        struct str required_capabilities, preferred_capabilities;
        struct str claim_rule; /* what its execution profile says about claims (claimer.h), or absent */
        int64_t last_run_id, last_run_status; /* newest root run; how the newest ended one ended */
        int64_t unmet_deps, dependency_count, dependent_count, child_count;
        bool paused;
        int64_t paused_n;
        struct str paused_by;
        int64_t paused_at;
        struct str paused_reason, attention;
        struct str source_session_id, source_conversation_id, source_message_id;
        struct str conversation_context;
        struct str created_by, origin;
        int64_t created_at, updated_at, closed_at, archived_at;
        struct str metadata, input;

        /* Not columns: set by task_show() for the wire, the numbers by an operation that knows them, what
         * a summary adds by task_summarize(). */
        bool draft, effective_paused;
        int64_t paused_by_task_id; /* the nearest, itself included */
        int64_t latest_sequence;
        int64_t current_run_id;   /* the newest root run while it is under way */
        struct active_run *active_run; /* the same in short */
        int64_t last_activity_at;
        struct list runs;         /* of GET one: the latest 20 */
        struct list children;
        struct list dependencies;
};
extern const struct record task_record;

struct task_spec {
        struct str title, description, identifier;
        int scope, priority;
        int64_t max_attempts;
        struct str retry;
        int64_t timeout_seconds;
        struct str required_capabilities, preferred_capabilities, owner, network_channel;
        struct str metadata, input;
        int64_t definition_id, definition_version;
        int64_t id; /* given by the caller, or 0 */
        struct str source_session_id, source_conversation_id, source_message_id;
        struct str conversation_context;
        bool start, auto_enqueue_on_ready, draft;
        int approval_policy, review_policy;
        const struct task *parent; /* set by task_create_child() */
};

enum err task_create(struct tx *, const struct principal *, const struct task_spec *,
                     struct task *, struct run **run) NODISCARD;
/* Below another task: it lives in that one's tree and workspace (below a global one in any). */
enum err task_create_child(struct tx *, const struct principal *, int64_t parent,
                           struct task_spec *, struct task *, struct run **run) NODISCARD;
/* *canceled: it or one above it is; below such a task nothing new is created or started. */
enum err task_look_above(struct tx *, const struct task *, bool *canceled) NODISCARD;
/* Refuses new work below a task that was canceled. */
enum err task_check_above(struct tx *, const struct task *) NODISCARD;
/* The task and its descendants, level by level, after one of them. */
enum err task_tree(struct tx *, const struct principal *, int64_t id, int64_t after, int limit,
                   struct list *) NODISCARD;
/* 404 unless it exists in the principal's workspace. */
enum err task_get(struct tx *, const struct principal *, int64_t id, struct task *) NODISCARD;
/* Fills the members that are not columns. */
enum err task_show(struct tx *, struct task *) NODISCARD;

struct task_filter {
        int status, priority, approval_state; /* -1 = any */
        int scope;
        struct str owner_kind, owner_ref, network_channel;
        int64_t parent_task_id, definition_id, before;
        struct str q, source_conversation_id;
        bool include_drafts;
        int limit;
};
/* *next: a page with q may end before it is full, because it has looked at enough; the next one begins below
 * this task.  0: it is full, or there is no next one. */
enum err task_list(struct tx *, const struct principal *, const struct task_filter *,
                   struct list *, int64_t *next) NODISCARD;

/* Fields of a patch; `given` has the bit of each field present (order of the body's record). */
struct task_patch {
        uint64_t given;
        struct str title, description, metadata, required_capabilities, preferred_capabilities;
        struct str owner, network_channel;
        bool clear_owner, auto_enqueue_on_ready;
        int approval_policy, review_policy;
        int priority;
        int64_t max_attempts, timeout_seconds;
        struct str retry;
};
enum { PATCH_TITLE = 1, PATCH_DESCRIPTION = 2, PATCH_PRIORITY = 4, PATCH_MAX_ATTEMPTS = 8,
       PATCH_RETRY = 16, PATCH_TIMEOUT = 32, PATCH_CAPABILITIES = 64, PATCH_METADATA = 128,
       PATCH_PREFERRED = 256, PATCH_OWNER = 512, PATCH_CHANNEL = 1024, PATCH_CLEAR_OWNER = 2048,
       PATCH_AUTO = 4096, PATCH_APPROVAL = 8192, PATCH_REVIEW = 16384 };
enum err task_patch(struct tx *, const struct principal *, int64_t id, const struct task_patch *,
                    struct task *) NODISCARD;

/* With everything of it but its history, which ends with task.deleted.  Refused while it has
 * children or an open run. */
enum err task_delete(struct tx *, const struct principal *, int64_t id) NODISCARD;
/* Removes a task without children and open runs, with all of it but its events. */
enum err task_erase(struct tx *, const struct principal *, const struct task *) NODISCARD;
/* Tells the audit log of a change of the task: from `before` to what its row is now, or to nothing. */
enum err task_tell(struct tx *, const struct principal *, enum audit_action,
                   const struct task *before, struct str detail) NODISCARD;
/* Ends the task, its descendants and all their open runs. */
enum err task_cancel(struct tx *, const struct principal *, int64_t id, struct str reason,
                     struct str metadata, struct task *) NODISCARD;

/* It has ended; only an operator makes it go on. */
static inline bool task_is_closed(int status)
{
        return status >= TASK_COMPLETED && status <= TASK_CANCELED;
}
/* The status that the facts give: pure (spec task-domain 2.1 as corrected by DESIGN 1). */
enum task_status task_derive(const struct task *, int current_run_status);
/* Writes the status if it is another now, and adds task.status_changed. */
enum err task_project(struct tx *, struct task *, int current_run_status, struct events *) NODISCARD;
/* The same after its last run or its attempts changed: they are written in any case. */
enum err task_project_run(struct tx *, struct task *, int current_run_status,
                          struct events *) NODISCARD;

/* By a dependency, or for want of its approval. */
bool task_is_blocked(const struct task *);
/* HOLD_… bits that a queued run of the task must have: blocked, its root runs alone; paused. */
int64_t task_holds(const struct task *, bool root_run);
#endif
