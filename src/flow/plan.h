/*
 * Planning: a pure function from what a definition says and what is recorded of a run's steps to
 * what is to be done next.  Control steps are decided here, several at once; an effectful step is
 * handed back to be performed.  No transaction, no clock, no I/O.
 */
#ifndef BATON_FLOW_PLAN_H
#define BATON_FLOW_PLAN_H

#include "domain/step.h"
#include "flow/definition.h"

enum {
        OUTPUT_MAX = 1048576,    /* bytes of a step's output, as JSON */
        INPUT_KEPT_MAX = 65536,  /* of a step's recorded input; a preview beyond */
        PREVIEW_MAX = 1024,
        OUTPUT_DEPTH = 48,       /* nesting of an output; what wraps it may add a little */
        STORED_DEPTH = 56,
        LOCALS_MAX = 65536,      /* of an item that a branch is given */
        CHILDREN_MAX = 8388608,  /* of what all branches of a step are given */
};

struct known_output {
        struct value value;
        bool known;
};

/* One run under way: what was read when it was claimed, kept up to date by plan_next(). */
struct progress {
        const struct definition *definition;
        const struct step_list *list; /* this run's own steps */
        struct snapshot *snapshot;
        struct step *steps;           /* one for each of the list, pending when there is no row */
        struct step *before;          /* as they were before the last plan */
        struct known_output *outputs; /* of each step, once it was needed */
        struct value input;           /* after the schema's defaults */
        bool pausing; /* no effectful step is begun: the worker stops; set by the caller */
        bool without_files; /* no step is begun that touches files: this worker does not have them; likewise */
        struct str capabilities;      /* of the worker: sorted "a,b"; set by the caller */
};

/*
 * Reads a snapshot against its definition.  What is wrong (a path that the definition does not
 * have, an input that its schema refuses) is ERR_VALIDATION: the run cannot go on.
 */
enum err progress_init(struct scope *, const struct definition *, struct snapshot *,
                       struct progress *) NODISCARD;

/* How an effectful step ended. */
struct performed {
        enum outcome outcome; /* OUTCOME_OK or why it failed */
        struct value output;  /* also kept when it failed; null = none */
        struct str message;   /* one sentence when it failed */
        struct str sandbox;   /* JSON: the profile that was used, or absent */
};

struct plan {
        struct advance advance; /* to be applied; the caller adds the fence */
        /* The step to perform once that is committed, or NULL. */
        const struct step_spec *perform;
        struct value parameters; /* rendered and checked */
};

/*
 * Decides.  `done` is the end of the effectful step that the last plan handed out, or NULL (a fresh
 * claim).  A step found running without `done` was interrupted: its on_interrupt decides.  Never
 * fails: what is wrong becomes the failure of a step.
 */
void plan_next(struct scope *, struct progress *, const struct performed *done, struct plan *out);
/* The last plan could not be applied, for a reason that lies in its step (a sub-task that does not
 * exist any more): that step fails instead, what the plan decided before it stands. */
void plan_refused(struct scope *, struct progress *, struct str why, struct plan *);

#endif
