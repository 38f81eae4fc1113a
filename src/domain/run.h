/*
 * Runs: one attempt at a task, or a child of one (a branch, a sub-task).  run_move() is the only
 * function that changes a state: it checks the legal-next table and writes row, lane entry, events
 * and the task's projection together.
 */
#ifndef BATON_DOMAIN_RUN_H
#define BATON_DOMAIN_RUN_H

#include "domain/outcome.h"
#include "domain/task.h"

enum run_status {
        RUN_QUEUED,
        RUN_CLAIMED,
        RUN_STARTING,
        RUN_RUNNING,
        RUN_AWAITING_APPROVAL,
        RUN_AWAITING_INPUT,
        RUN_AWAITING_SUBTASK,
        RUN_AWAITING_PARALLEL,
        RUN_SLEEPING,
        RUN_COMPLETED,
        RUN_FAILED,
        RUN_CANCELED,
        RUN_TIMED_OUT,
        RUN_STATUSES,
        RUN_NONE = -1,
};
enum run_kind { RUN_ROOT, RUN_BRANCH, RUN_SUBTASK };
enum hold { HOLD_BLOCKED = 1, HOLD_PAUSED = 2, HOLD_BACKOFF = 4, HOLD_CLEANUP = 8, HOLD_LIMIT = 16 };

extern const struct names run_status_names, run_kind_names;

enum { MAX_RECOVERIES = 3, LEASE_DEFAULT = 300, LEASE_MAX = 86400, NESTING_MAX = 8, RUNS_MAX = 20000 /* of a task, children too */ };

static inline bool run_is_terminal(int status)
{
        return status >= RUN_COMPLETED;
}
static inline bool run_is_leased(int status)
{
        return status >= RUN_CLAIMED && status <= RUN_RUNNING;
}
static inline bool run_is_waiting(int status)
{
        return status >= RUN_AWAITING_APPROVAL && status <= RUN_SLEEPING;
}

struct usage {
        int64_t input_tokens, output_tokens, total_tokens, cost_microusd, steps, tool_calls;
};

struct run {
        int64_t id, task_id, tree_id;
        struct str workspace_id;
        int64_t definition_id, definition_version;
        int kind, status, executor;
        int64_t attempt, epoch, revision, current_step;
        int priority;
        int64_t previous_run_id, parent_run_id, parent_step_index, branch_index;
        struct str branch_name, path, locals;
        int64_t nesting;
        int failure_kind;
        struct str error, claimed_by, session_id, claim_token_hash, token_nonce;
        int64_t lease_until, lease_us, heartbeat_at;
        bool cancel_requested;
        int64_t recoveries;
        struct str origin, idempotency_key, network_channel, coordination_channel_id;
        struct str required_capabilities, preferred_capabilities;
        int64_t lane, hold;
        struct str review, attention;
        int64_t queued_at, claimed_at, started_at, ended_at, due_at, wake_at;
        int64_t input_tokens, output_tokens, cost_microusd, steps, tool_calls;
        struct str metadata, input, result;

        /* Not columns: set by run_show(), and by run_activity(). */
        struct usage *usage;
        int64_t last_activity_at;
};
extern const struct record run_record;

struct run_spec {
        enum run_kind kind;
        enum executor executor;
        int64_t attempt, previous_run_id;
        const struct run *parent;
        int64_t parent_step_index, branch_index;
        struct str branch_name, path, locals;
        int64_t definition_id, definition_version;
        struct str review; /* what follows from a rejection: run.review */
        struct str input, metadata, network_channel; /* the channel: absent = the task's */
        struct str idempotency_key; /* of the request that asked for the run */
        int64_t wake_at; /* held by backoff until then; 0 = at once */
        int64_t clean_at; /* set by run_after(): held at most until then */
        bool limited;    /* waits for a sibling to end (max_concurrency) */
};

/* How long the processes of a run that was ended from outside may take to die. */
#define CLEANUP_GRACE (5 * US_PER_S)

/* A new attempt waits until the previous one's processes are known to be dead, or the grace is over. */
enum err run_after(struct tx *, int64_t previous, struct run_spec *) NODISCARD;
/* The worker that held the run says so. */
enum err run_cleaned(struct tx *, int64_t run) NODISCARD;

/* A queued run and its lane entry; adds run.queued. */
enum err run_create(struct tx *, struct task *, const struct run_spec *, struct events *,
                    struct run *) NODISCARD;
/* Sets the holds of a queued run and with them whether it is on offer. */
enum err run_rehold(struct tx *, struct run *, int64_t hold) NODISCARD;
/* Its task has changed: a queued run takes over who may have it and how urgent it is; its channel,
 * which may be its own, only if that changed (`channel`). */
enum err run_follow(struct tx *, const struct task *, bool channel, struct run *) NODISCARD;
/* A queued run of a definition waits for a worker of that volume from now on; absent: for any. */
enum err run_to_volume(struct tx *, struct str volume, struct run *) NODISCARD;
enum err run_load(struct tx *, int64_t id, struct run *) NODISCARD; /* any workspace; ERR_EMPTY */
enum err run_get(struct tx *, const struct principal *, int64_t id, struct run *) NODISCARD;
/* Several runs are about to be asked for, one after the other: where a query costs a round trip they are read
 * together; if they are to be moved, with their tasks and the ends of their logs. */
enum err run_read_ahead(struct tx *, const int64_t *runs, size_t n, bool moves) NODISCARD;
void run_show(struct tx *, struct run *); /* usage, lease on the wall clock */
/* When it or a step of it last moved, or its holder was heard of. */
enum err run_activity(struct tx *, struct run *) NODISCARD;

struct run_filter {
        int status; /* -1 = any */
        int64_t task_id, definition_id, parent_run_id, created_after, created_before, before;
        struct str session_id;
        int limit;
        bool of_definition; /* its root runs; else definition_id only narrows */
};
enum err run_list(struct tx *, const struct principal *, const struct run_filter *,
                  struct list *) NODISCARD;

/* What a holder of a lease shows. */
struct fence {
        const struct principal *by;
        unsigned char digest[32]; /* SHA-256 of the token's bytes; zero when it is no token */
};
/* Of a token's text. */
struct fence fence_of(const struct principal *, struct str token);
/* As the argument of a statement; without a fence NULL. */
struct arg fence_arg(const struct fence *);
/* The lease was given to it, or to the session that it belongs to. */
bool run_is_held_by(const struct run *, const struct principal *);
bool run_has_token(const struct run *, const struct fence *);

/* What changes beside the status. */
struct run_change {
        int to;
        enum event_type event;
        struct str payload;
        const struct fence *fence; /* NULL: an operator or the server itself moves it */
        bool begun; /* run_begin() came before: the row still says claimed */
        /* used as the target state asks for */
        int failure_kind;
        struct str error, result;
        int64_t wake_at;
        int64_t hold;
};

/*
 * Moves a run that was read in this transaction; *run is brought up to date.  ERR_INVALID_TRANSITION
 * when the table does not allow it, ERR_STALE_TOKEN or ERR_LEASE_EXPIRED from the fence, which is
 * part of the writing statement.  The task's projection is written when the run is its root run.
 */
enum err run_move(struct tx *, struct run *, const struct run_change *, struct events *) NODISCARD;
bool run_may_move(int from, int to);
/* The deadline counts from the run's start: the first claim of it.  0 seconds = none. */
enum err run_set_deadline(struct tx *, struct run *, int64_t timeout_seconds) NODISCARD;
/* A claimed run begins: claimed → starting → running with their events, in memory; the next
 * run_move() or run_write() with `begun` writes it. */
void run_begin(struct tx *, struct run *, struct events *);
/* Writes a running run whose steps went on (current_step, steps), fenced; counts its revision. */
enum err run_write(struct tx *, struct run *, const struct fence *, bool begun) NODISCARD;

/* A run has ended otherwise than by its last step: what was under way in it is over too. */
enum err run_end_steps(struct tx *, const struct run *) NODISCARD;

/* Checks the fence without writing: for calls that only record. */
enum err run_check_fence(struct tx *, const struct run *, const struct fence *) NODISCARD;
/* The token of a claim that was granted to this run and epoch. */
struct str token_text(struct tx *, const struct run *);
/* What stands for it in an answer that is kept: never the token, but what it is made of. */
struct str token_recipe(struct arena *, const struct run *);
/* The answer with its tokens again. */
struct str tokens_remake(struct tx *, struct str text);

#endif
