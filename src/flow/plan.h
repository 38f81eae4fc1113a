/*
 * Planning: a pure function from what a run's definition says and what is recorded of its steps to
 * what is to be done next.  Control steps are evaluated here, several at once; effectful steps are
 * handed back to be performed.  No transaction, no clock, no I/O.
 */
#ifndef BATON_FLOW_PLAN_H
#define BATON_FLOW_PLAN_H

#include "flow/definition.h"

enum { PLAN_MAX_FRAMES = 9 };

/* What is recorded of one step; index = its place in the step list. */
struct plan_step {
        enum step_status status; /* STEP_PENDING when there is no row */
        int attempt;             /* 1 for the first */
        struct str output;       /* JSON, or absent */
        struct str error;        /* JSON {"kind","message"}, or absent */
};

/* One run's steps.  Inline branches see the frames of their parents, outermost first. */
struct plan_frame {
        const struct step_list *steps;
        const struct plan_step *recorded; /* one for each step of the list */
        struct str locals;                /* JSON object (for_each: {"<as>": item, "index": i}), or absent */
};

/* An ended child of the step that waits. */
struct plan_child {
        int index; /* branch index */
        struct str name;
        int64_t run;
        enum outcome outcome; /* OUTCOME_OK when completed */
        struct str status;    /* wire name of the run's status: completed failed canceled timed_out */
        struct str output;    /* JSON */
        struct str error;     /* JSON */
};

struct plan_input {
        const struct definition *definition;
        struct plan_frame frames[PLAN_MAX_FRAMES];
        int n_frames;      /* the last frame is this run's own */
        int at;            /* index of the current step; == list length when all is done */
        struct str input;  /* JSON object */
        struct str run;    /* JSON object {id, task_id, attempt, epoch, ...} for expressions */
        struct str task;   /* JSON object {id, title, ...} for expressions */
        int64_t now;

        /* Facts about the current step if it is STEP_WAITING. */
        const struct plan_child *children;
        size_t n_children;
        bool decided;      /* approval: a decision is there */
        enum outcome decision_outcome; /* OUTCOME_OK, OUTCOME_APPROVAL_DENIED, _EXPIRED */
        struct str decision;           /* JSON output {decision, comment?} */
};

/* The end of a performed effectful step. */
struct plan_outcome {
        enum outcome outcome; /* OUTCOME_OK or why it failed */
        struct str output;    /* JSON, also kept when failed */
        struct str message;   /* one sentence when failed */
};

enum plan_move {
        PLAN_PERFORM,  /* perform step `index` with `parameters` */
        PLAN_COMPLETE, /* the run is done: `result` */
        PLAN_FAIL,     /* the run fails: `outcome`, `message` */
        PLAN_APPROVAL, /* wait for a decision: parameters {message, risk_level, expires_in_seconds} */
        PLAN_SLEEP,    /* until wake_in microseconds from now: a delay step, or a step's retry */
        PLAN_CHILDREN, /* start `children` and wait for them to join */
};

/* A step whose record changes with this plan, in order. */
struct plan_record {
        int index;
        enum step_status status; /* COMPLETED, FAILED, SKIPPED, RUNNING, WAITING, PENDING (retry) */
        int attempt;
        struct str input, output, error; /* JSON or absent */
};

struct plan_new_child {
        int index;
        struct str name;
        int64_t definition; /* a referenced definition (id), else 0 and */
        struct str reference; /* the text that names it */
        struct str path;    /* inline: "<step>.<branch>" appended to the parent's path */
        struct str input;   /* JSON, for a referenced definition */
        struct str locals;  /* JSON, for_each */
};

struct plan {
        struct plan_record *records;
        size_t n_records;
        enum plan_move move;
        int at;                /* the run's new current step */
        struct str parameters; /* JSON, resolved */
        int64_t timeout_us;    /* of the step to perform; 0 = only the run's deadline */
        struct str result;
        enum outcome outcome;
        struct str message;
        int64_t wake_in;
        struct plan_new_child *children;
        size_t n_children;
        bool join_any;         /* else all */
        bool fail_fast;        /* else wait_all */
        int max_concurrency;   /* for_each; 0 = all at once */
        bool subtask;          /* children[0] is a sub_task, not a branch */
};

/*
 * Decide.  `done` is the end of the effectful step `at` that was just performed, or NULL (a fresh
 * claim or a resumed wait).  A step found STEP_RUNNING without `done` was interrupted: its
 * on_interrupt decides.  Never fails: what is wrong becomes PLAN_FAIL with the kind.
 */
void plan_next(struct scope *, const struct plan_input *, const struct plan_outcome *done,
               struct plan *out);

#endif
