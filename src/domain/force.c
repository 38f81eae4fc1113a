#include "domain/force.h"

#include "core/failpoint.h"
#include "domain/attention.h"
#include "domain/audit.h"
#include "domain/cancel.h"
#include "domain/claim.h"
#include "domain/domain.h"
#include "domain/sql.h"

/* ---- the gate ---- */

enum err force_gate(struct tx *tx, const struct principal *by, int64_t task)
{
        struct scope *scope = tx_scope(tx);
        int64_t now = tx_now(tx), limit = ((struct domain *)tx_context(tx))->force_limit;
        int64_t use[] = { now, 0 }; /* since when, how often */
        const struct arg args[] = { NAME(by->actor), INT(task), INT(now - FORCE_WINDOW), INT(now) };
        enum err e;

        if (!str_starts(by->actor, "agent_session:"))
                return ERR_OK;
        if (!limit)
                return fail(scope, ERR_FORBIDDEN_OPERATION,
                            "this server keeps force operations, retries and pauses from the sessions"
                            " of agents (--agent-force-limit)");
        e = tx_numbers(tx, SQL_FORCE_USE, use, LENGTH(use), args, LENGTH(args));
        if (e && e != ERR_EMPTY)
                return e;
        if (use[1] >= limit) {
                e = fail_limit(scope, "task_id", ERR_RATE_LIMITED, limit, use[1] + 1,
                               "operations of an agent's session on a task within a minute");
                scope->fault.retry_after = (int)((use[0] + FORCE_WINDOW - now) / US_PER_S + 1);
                return e;
        }
        e = tx_exec(tx, SQL_FORCE_COUNT, NAME(by->actor), INT(task), INT(use[0]), INT(use[1] + 1));
        return e ? e : failpoint(scope, FAILPOINT_FORCE_COUNTED);
}

enum err force_trim(struct tx *tx)
{
        return tx_exec(tx, SQL_FORCE_TRIM, INT(tx_now(tx) - FORCE_WINDOW), INT(tx_now(tx)));
}

/* ---- the operations ---- */

static struct str payload(struct tx *tx, const struct run *run, const struct said *said)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        json_key(&j, "manual");
        json_put_bool(&j, true);
        json_key(&j, "previous_status");
        json_put_text(&j, run_status_names.text[run->status]);
        if (run->attention.p) {
                json_key(&j, "attention");
                json_put_str(&j, run->attention);
        }
        if (run->session_id.p) {
                json_key(&j, "session_id");
                json_put_str(&j, run->session_id);
        }
        if (said->reason.p) {
                json_key(&j, "reason");
                json_put_str(&j, said->reason);
        }
        if (said->metadata.p) {
                json_key(&j, "metadata");
                json_put_raw(&j, said->metadata);
        }
        json_end_object(&j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static enum err is_over(struct tx *tx, const struct run *run)
{
        return fail_diagnosed(tx_scope(tx), "task_run_already_terminal", ERR_INVALID_TRANSITION,
                              "the run is %s already", run_status_names.text[run->status]);
}

static enum err tell(struct tx *tx, const struct principal *by, enum audit_action action,
                     const struct run *run, struct str before, const struct said *said)
{
        const struct audit_change change = { .action = action,
                                             .resource = audit_id(tx, "run", run->id),
                                             .workspace = run->workspace_id,
                                             .detail = said->reason,
                                             .before = before,
                                             .after = audit_digest(tx, &run_record, run) };

        return audit_append(tx, by, &change);
}

enum err force_release(struct tx *tx, const struct principal *by, int64_t id,
                       const struct said *said, struct run *run)
{
        struct run_change change = { .to = RUN_QUEUED, .event = EVENT_RUN_RELEASED };
        struct str before;
        enum err e = run_get(tx, by, id, run);

        if (!e && run_is_terminal(run->status))
                e = is_over(tx, run);
        else if (!e && run->status != RUN_CLAIMED)
                e = fail_diagnosed(tx_scope(tx), "task_run_not_releasable", ERR_INVALID_TRANSITION,
                                   "the run is %s; only a claimed run that has not begun can be"
                                   " released: cancel it, or force it to fail",
                                   run_status_names.text[run->status]);
        if (e)
                return e;
        change.payload = payload(tx, run, said);
        before = audit_digest(tx, &run_record, run);
        e = run_requeue(tx, run, &change, by);
        return e ? e : tell(tx, by, AUDIT_RUN_FORCE_RELEASED, run, before, said);
}

enum err run_recover(struct tx *tx, const struct principal *by, int64_t id, const struct said *said,
                     struct run *run)
{
        struct events events = { .by = by };
        struct run_change change = { .to = RUN_QUEUED, .event = EVENT_RUN_RECOVERED };
        enum err e = run_get(tx, by, id, run);

        if (!e && run_is_terminal(run->status))
                e = is_over(tx, run);
        else if (!e && !run->attention.p)
                e = fail_diagnosed(tx_scope(tx), "task_run_not_recoverable", ERR_INVALID_TRANSITION,
                                   "the run carries no attention mark: there is nothing to recover"
                                   " it from");
        if (e)
                return e;
        change.payload = payload(tx, run, said);
        if (run_is_leased(run->status))
                return run_requeue(tx, run, &change, by);
        events.tree = run->tree_id;
        events_add(tx, &events, change.event, run->task_id, id, change.payload);
        e = attention_set(tx, run, STR_NONE);
        return e ? e : events_append(tx, &events);
}

enum err force_reason_check(struct scope *scope, struct str reason)
{
        return str_trim(reason).n ? ERR_OK :
                                    fail_field(scope, "reason", ERR_REASON_REQUIRED,
                                               "say why it is forced to fail");
}

enum err force_fail(struct tx *tx, const struct principal *by, int64_t id, const struct said *said,
                    struct run *run)
{
        struct events events = { .by = by };
        struct run_change change = { .to = RUN_FAILED,
                                     .event = EVENT_RUN_OPERATOR_FORCED_FAIL,
                                     .failure_kind = OUTCOME_OPERATOR_FORCED,
                                     .error = str_trim(said->reason) };
        struct str before;
        enum err e = run_get(tx, by, id, run);

        if (!e)
                e = force_reason_check(tx_scope(tx), said->reason);
        if (!e && run_is_terminal(run->status))
                e = is_over(tx, run);
        if (e)
                return e;
        events.tree = run->tree_id;
        change.payload = payload(tx, run, said);
        before = audit_digest(tx, &run_record, run);
        e = run_break_off(tx, run, &change, &events);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_RUN_FORCED);
        if (e)
                return e;
        run->claim_token_hash = STR_NONE;
        e = tx_exec(tx, SQL_RUN_TOKEN_VOID, INT(id));
        return e ? e : tell(tx, by, AUDIT_RUN_FORCE_FAILED, run, before, said);
}
