/* Outcome kinds of a run or a step (DESIGN: typed, stable), and the states of a step. */
#ifndef BATON_DOMAIN_OUTCOME_H
#define BATON_DOMAIN_OUTCOME_H

#include "core/record.h"

enum outcome {
        OUTCOME_NONE,
        OUTCOME_OK,
        OUTCOME_FAILED,
        OUTCOME_TRANSIENT,
        OUTCOME_TIMED_OUT,
        OUTCOME_CANCELED,
        OUTCOME_WORKER_LOST,
        OUTCOME_BUDGET,
        OUTCOME_POLICY,
        OUTCOME_OPERATOR_FORCED,
        OUTCOME_APPROVAL_DENIED,
        OUTCOME_APPROVAL_EXPIRED,
        OUTCOME_CONDITION_ERROR,
        OUTCOME_NO_PROVIDER,
        OUTCOME_DROPPED,
};

extern const struct names outcome_names;

enum step_status {
        STEP_PENDING,
        STEP_RUNNING,
        STEP_WAITING,
        STEP_COMPLETED,
        STEP_FAILED,
        STEP_SKIPPED,
};

extern const struct names step_status_names;

#endif
