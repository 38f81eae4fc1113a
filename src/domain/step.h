/*
 * Steps: what is recorded of a run's numbered actions.  run_advance() applies one plan in one
 * transaction, fenced by token and revision: the finished steps, the next one's start, events and
 * the run's move.
 */
#ifndef BATON_DOMAIN_STEP_H
#define BATON_DOMAIN_STEP_H

#include "domain/approval.h"
#include "domain/claim.h"
#include "domain/input.h"
#include "domain/retry.h"

struct step {
        int64_t run_id, index;
        int status;
        int64_t attempt;
        struct str input, output, error;
        int64_t approval_id;
        struct str sandbox;
        int64_t started_at, ended_at;

        /* Not columns: from the definition, set for the wire. */
        struct str id, action, label;
        struct str child_run_ids; /* JSON list */
        int64_t duration_ms;
};
extern const struct record step_record;

struct step_change {
        int64_t index;
        int status;
        int64_t attempt;
        struct str input, output, error, sandbox; /* absent keeps what is recorded */
        struct str id, action;                    /* for the event */
        bool begins;                              /* an attempt of it starts with this change */
        bool checkpoint;
};

struct child_spec {
        int64_t branch_index;
        struct str name, path, input, locals;
        int64_t definition_id; /* 0 = the parent's own, at path */
        struct str reference;  /* or by name or id, resolved here */
};

enum advance_move {
        ADVANCE_GO_ON,
        ADVANCE_COMPLETE,
        ADVANCE_FAIL,
        ADVANCE_APPROVAL,
        ADVANCE_INPUT,
        ADVANCE_SLEEP,
        ADVANCE_CHILDREN,
};

struct advance {
        int64_t run_id, revision;
        const struct run *known; /* what the caller last saw of it, or NULL */
        struct fence fence;
        const struct step_change *steps;
        size_t n_steps;
        int64_t at;
        enum advance_move move;
        struct str result;
        enum outcome outcome;
        struct str message;
        int64_t wake_in;
        struct approval_spec approval;
        struct str input_name; /* that is waited for, or absent */
        const struct child_spec *children;
        size_t n_children;
        bool join_any, fail_fast, subtask;
        int64_t max_concurrency;
        bool cancel_children;    /* a wait for them is over before they are */
        struct task_retry retry; /* of a child run with a definition of its own */
        int64_t timeout_seconds; /* of a child run with a definition of its own; 0 = none */
};

/* *run is brought up to date (its revision for the next advance). */
enum err run_advance(struct tx *, const struct advance *, struct run *) NODISCARD;
/* What that will read, for its call. */
void run_advance_likely(const struct advance *, struct likely[LIKELY_MAX]);

enum err steps_read(struct tx *, int64_t run, struct list *) NODISCARD;

/* How a child run ended, in what a join keeps of it: results that are too large for all of them
 * together are cut to a preview. */
struct child_result {
        int64_t id, branch_index;
        struct str branch_name;
        int status, failure_kind;
        struct str error, result;
        int64_t ended_at;
};
extern const struct record child_result_record;
enum { JOINED_MAX = 983040 /* bytes: 1 MiB less some room */ };

/* Everything a plan needs of a run. */
enum { SNAPSHOT_FRAMES = NESTING_MAX + 1 };
struct snapshot {
        struct run *run;
        struct task *task;
        struct snapshot_frame {
                struct run run;
                struct list steps; /* struct step */
        } frames[SNAPSHOT_FRAMES]; /* the run's own last, its inline parents before */
        int n_frames;
        struct list children;      /* struct child_result: of the step that waits */
        struct approval *approval; /* of the step that waits, or NULL */
        struct input *input;       /* that it was handed, or NULL */
};
enum err snapshot_read(struct tx *, struct run *, struct task *, struct snapshot *) NODISCARD;

#endif
