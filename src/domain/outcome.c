#include "domain/outcome.h"

static const char *const outcomes[] = {
        [OUTCOME_NONE] = "",
        [OUTCOME_OK] = "ok",
        [OUTCOME_FAILED] = "failed",
        [OUTCOME_TRANSIENT] = "transient",
        [OUTCOME_TIMED_OUT] = "timed_out",
        [OUTCOME_CANCELED] = "canceled",
        [OUTCOME_WORKER_LOST] = "worker_lost",
        [OUTCOME_BUDGET] = "budget",
        [OUTCOME_POLICY] = "policy",
        [OUTCOME_OPERATOR_FORCED] = "operator_forced",
        [OUTCOME_APPROVAL_DENIED] = "approval_denied",
        [OUTCOME_APPROVAL_EXPIRED] = "approval_expired",
        [OUTCOME_CONDITION_ERROR] = "condition_error",
        [OUTCOME_NO_PROVIDER] = "no_provider",
        [OUTCOME_DROPPED] = "dropped",
        NULL,
};
static const struct alias outcome_aliases[] = {
        { "timeout", OUTCOME_TIMED_OUT }, { "cancelled", OUTCOME_CANCELED },
        { "error", OUTCOME_FAILED },      { NULL, 0 },
};
const struct names outcome_names = { outcomes, outcome_aliases };

static const char *const step_statuses[] = {
        [STEP_PENDING] = "pending",     [STEP_RUNNING] = "running", [STEP_WAITING] = "waiting",
        [STEP_COMPLETED] = "completed", [STEP_FAILED] = "failed",   [STEP_SKIPPED] = "skipped",
        NULL,
};
const struct names step_status_names = { step_statuses, NULL };
