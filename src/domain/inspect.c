#include "domain/inspect.h"

#include "domain/claimer.h"
#include "domain/domain.h"
#include "domain/explain.h"
#include "domain/scheduler.h"
#include "domain/sql.h"

#define STUCK_AFTER    (120 * US_PER_S)
#define STRANDED_AFTER (300 * US_PER_S)

/* ---- views ---- */

#define AT(member) offsetof(struct task_view, member)
enum { SHOWN = FIELD_WIRE | FIELD_ALWAYS };
static const struct field task_view_fields[] = {
        { "id", FIELD_ID, FIELD_WIRE | FIELD_REQUIRED, AT(task.id), "task" },
        { "identifier", FIELD_STR, FIELD_WIRE, AT(task.identifier) },
        { "title", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(task.title) },
        { "status", FIELD_ENUM, FIELD_WIRE, AT(task.status), &task_status_names },
        { "priority", FIELD_ENUM, FIELD_WIRE, AT(task.priority), &priority_names },
        { "parent_task_id", FIELD_ID, FIELD_WIRE, AT(task.parent_task_id), "task" },
        { "definition_id", FIELD_ID, FIELD_WIRE, AT(task.definition_id), "def" },
        { "owner", FIELD_ACTOR, FIELD_WIRE, AT(task.owner) },
        { "network_channel", FIELD_NAME, FIELD_WIRE, AT(task.network_channel) },
        { "approval_state", FIELD_ENUM, FIELD_WIRE, AT(task.approval_state),
          &approval_state_names },
        { "attempts", FIELD_INT, SHOWN, AT(task.attempts) },
        { "max_attempts", FIELD_INT, SHOWN, AT(task.max_attempts) },
        { "child_count", FIELD_INT, SHOWN, AT(task.child_count) },
        { "dependency_count", FIELD_INT, SHOWN, AT(task.dependency_count) },
        { "unmet_dependency_count", FIELD_INT, SHOWN, AT(task.unmet_deps) },
        { "effective_paused", FIELD_BOOL, SHOWN, AT(task.effective_paused) },
        { "paused_by_task_id", FIELD_ID, FIELD_WIRE, AT(task.paused_by_task_id), "task" },
        { "current_run_id", FIELD_ID, FIELD_WIRE, AT(task.current_run_id), "run" },
        { "latest_sequence", FIELD_INT, SHOWN, AT(task.latest_sequence) },
        { "last_activity_at", FIELD_TIME, FIELD_WIRE, AT(last_activity_at) },
};
const struct record task_view_record = { "TaskSummary", task_view_fields, LENGTH(task_view_fields),
                                         sizeof(struct task_view), -1 };
#undef AT
#define AT(member) offsetof(struct run_view, member)
static const struct field run_view_fields[] = {
        { "id", FIELD_ID, FIELD_WIRE | FIELD_REQUIRED, AT(run.id), "run" },
        { "kind", FIELD_ENUM, FIELD_WIRE, AT(run.kind), &run_kind_names },
        { "status", FIELD_ENUM, FIELD_WIRE, AT(run.status), &run_status_names },
        { "executor", FIELD_ENUM, FIELD_WIRE, AT(run.executor), &executor_names },
        { "attempt", FIELD_INT, SHOWN, AT(run.attempt) },
        { "retries", FIELD_INT, SHOWN, AT(retries) },
        { "recoveries", FIELD_INT, SHOWN, AT(run.recoveries) },
        { "previous_run_id", FIELD_ID, FIELD_WIRE, AT(run.previous_run_id), "run" },
        { "parent_run_id", FIELD_ID, FIELD_WIRE, AT(run.parent_run_id), "run" },
        { "required_capabilities", FIELD_CAPS, FIELD_WIRE, AT(run.required_capabilities) },
        { "claimed_by", FIELD_ACTOR, FIELD_WIRE, AT(run.claimed_by) },
        { "session_id", FIELD_NAME, FIELD_WIRE, AT(run.session_id) },
        { "claim_token_hash", FIELD_BYTES, FIELD_WIRE, AT(run.claim_token_hash) },
        { "lease_until", FIELD_TIME, FIELD_WIRE, AT(run.lease_until) },
        { "heartbeat_at", FIELD_TIME, FIELD_WIRE, AT(run.heartbeat_at) },
        { "heartbeat_age_seconds", FIELD_INT, FIELD_WIRE | FIELD_FOLLOWS,
          AT(heartbeat_age_seconds) },
        { "failure_kind", FIELD_ENUM, FIELD_WIRE, AT(run.failure_kind), &outcome_names },
        { "last_error", FIELD_STR, FIELD_WIRE, AT(run.error) },
        { "queued_at", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(run.queued_at) },
        { "claimed_at", FIELD_TIME, FIELD_WIRE, AT(run.claimed_at) },
        { "started_at", FIELD_TIME, FIELD_WIRE, AT(run.started_at) },
        { "ended_at", FIELD_TIME, FIELD_WIRE, AT(run.ended_at) },
};
const struct record run_view_record = { "RunSummary", run_view_fields, LENGTH(run_view_fields),
                                        sizeof(struct run_view), -1 };
#undef AT
#define AT(member) offsetof(struct diagnostic, member)
static const struct field diagnostic_fields[] = {
        { "code", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(code) },
        { "severity", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(severity) },
        { "message", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(message) },
        { "suggested_command", FIELD_STR, FIELD_WIRE, AT(suggested_command) },
};
static const struct record diagnostic_record = { "Diagnostic", diagnostic_fields,
                                                 LENGTH(diagnostic_fields),
                                                 sizeof(struct diagnostic), -1 };
static const struct field target_fields[] = {
        { "kind", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct target, kind) },
        { "id", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct target, id) },
};
static const struct record target_record = { "Target", target_fields, LENGTH(target_fields),
                                             sizeof(struct target), -1 };
#undef AT
#define AT(member) offsetof(struct inspection, member)
static const struct field inspection_fields[] = {
        { "target", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(target), &target_record },
        { "next_action", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(next_action) },
        { "diagnostics", FIELD_LIST, SHOWN, AT(diagnostics), &diagnostic_record },
        { "reasons", FIELD_LIST, SHOWN, AT(reasons), &reason_record },
        { "task", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(task), &task_view_record },
        { "current_run", FIELD_RECORD, FIELD_WIRE, AT(current_run), &run_view_record },
        { "recent_runs", FIELD_LIST, SHOWN, AT(recent_runs), &run_view_record },
        { "recent_events", FIELD_LIST, SHOWN, AT(recent_events), &event_record },
        { "as_of", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(as_of) },
};
const struct record inspection_record = { "Inspection", inspection_fields,
                                          LENGTH(inspection_fields), sizeof(struct inspection),
                                          -1 };

static struct str characters(struct str s, size_t most)
{
        size_t at = 0;

        for (; at < s.n; at++)
                if (((unsigned char)s.p[at] & 0xc0) != 0x80 && most-- == 0)
                        break;
        return str_slice(s, 0, at);
}

struct run_view run_view(struct tx *tx, const struct run *run)
{
        struct run_view v = { .run = *run, .retries = run->attempt - 1 };

        run_show(tx, &v.run);
        v.run.claim_token_hash = str_slice(v.run.claim_token_hash, 0, HASH_SHOWN);
        v.run.error = characters(run->error, ERROR_SHOWN);
        if (run_is_leased(run->status))
                v.heartbeat_age_seconds = (tx_now(tx) - run->heartbeat_at) / US_PER_S;
        else
                v.run.heartbeat_at = 0;
        return v;
}

enum err task_events(struct tx *tx, const struct task *task, int limit, struct list *out)
{
        struct event_page page = { .tree = task->tree_id,
                                   .task = task->id == task->tree_id ? 0 : task->id,
                                   .descending = true,
                                   .limit = limit };
        int64_t head = 0;
        enum err e = events_head(tx, task->tree_id, &head);

        page.after = head > EVENTS_BACK ? head - EVENTS_BACK : 0;
        return e ? e : events_read(tx, &page, out);
}

enum err task_view(struct tx *tx, const struct task *task, const struct list *events,
                   struct task_view *out)
{
        const struct event *newest = events->items;

        *out = (struct task_view){ .task = *task, .last_activity_at = task->updated_at };
        if (events->n && newest->timestamp > task->updated_at)
                out->last_activity_at = newest->timestamp;
        return task_show(tx, &out->task);
}

/* ---- judgement ---- */

static const struct {
        unsigned found;
        const char *code, *severity, *message;
        const char *command; /* of the run's id, or NULL */
} diagnostics[] = {
        { FOUND_STUCK, "task_run_stuck", "warn",
          "it was claimed, but not begun, and its holder has not been heard of for two minutes",
          "baton runs force-release" },
        { FOUND_STALE_LEASE, "task_run_stale_lease", "error",
          "its lease is over; the server takes it back at its next tick", NULL },
        { FOUND_ORPHAN, "task_run_orphan", "error",
          "every key of its holder is revoked or expired: nobody can complete it",
          "baton runs force-release" },
        { FOUND_CRASHED, "task_run_crashed", "error", "it failed, and nothing was tried since",
          "baton runs retry" },
        { FOUND_STRANDED, "task_run_stranded", "warn",
          "it has waited five minutes, and nobody is at work who may claim it: see its"
          " capabilities, owner and channel",
          NULL },
};

unsigned run_findings(const struct run_facts *f)
{
        const struct run *r = f->run;
        unsigned found = 0;

        if (!r)
                return 0;
        if (r->status == RUN_CLAIMED && f->now - r->heartbeat_at > STUCK_AFTER)
                found |= FOUND_STUCK;
        if (run_is_leased(r->status) && r->lease_until <= f->lease_now)
                found |= FOUND_STALE_LEASE;
        if (run_is_leased(r->status) && f->holder_gone)
                found |= FOUND_ORPHAN;
        if (r->kind == RUN_ROOT && !f->superseded &&
            (r->status == RUN_FAILED || r->status == RUN_TIMED_OUT))
                found |= FOUND_CRASHED;
        if (r->status == RUN_QUEUED && !r->hold && !f->claimer && !f->paused &&
            f->now - r->queued_at >= STRANDED_AFTER)
                found |= FOUND_STRANDED;
        return found;
}

const char *run_next_action(const struct run_facts *f, unsigned found)
{
        const struct run *r = f->run;

        if (found & ~(unsigned)FOUND_STRANDED)
                return "recovery_required";
        if (found)
                return "stranded";
        if (r ? run_is_terminal(r->status) : f->closed)
                return "terminal";
        if (r && run_is_leased(r->status))
                return "running";
        if (r && r->status == RUN_QUEUED && !r->hold && !f->paused && f->claimer)
                return "claim_available";
        return "waiting_for_session";
}

/* Who took that run may take this one too.  A claim that names a channel gets the runs of no other.
 */
static bool may_take_both(const struct lane *held, const struct lane *wanted)
{
        return held->executor == wanted->executor &&
               (held->executor == EXECUTOR_WORKER || str_eq(held->workspace, wanted->workspace)) &&
               (!held->channel.p || str_eq(held->channel, wanted->channel)) &&
               (!wanted->owner.p || str_eq(held->owner, wanted->owner)) &&
               (!wanted->agent.p || str_eq(held->agent, wanted->agent)) &&
               caps_within(wanted->required, held->required);
}

static enum err find_claimer(struct tx *tx, const struct run *run, bool *found)
{
        const struct lane *held;
        struct list lanes = { 0 };
        struct lane wanted;
        enum err e = tx_one(tx, SQL_LANE_GET, &wanted, INT(run->lane));

        if (!e)
                e = tx_rows(tx, SQL_LANES_HELD, &lanes, NULL, 0);
        held = lanes.items;
        for (size_t i = 0; i < lanes.n && !*found; i++)
                *found = may_take_both(&held[i], &wanted);
        return e;
}

/* Actors without any key are the local socket's and the server's own. */
static enum err find_holder(struct tx *tx, const struct run *run, bool *gone)
{
        int64_t keys[2] = { 0 };
        enum err e =
                tx_numbers(tx, SQL_KEYS_OF_HOLDER, keys, LENGTH(keys),
                           ARGS(NAME(run->claimed_by), NAME(run->session_id), INT(tx_now(tx))));

        *gone = keys[0] && !keys[1];
        return e;
}

static enum err find_later(struct tx *tx, const struct task *task, const struct run *run,
                           bool *found)
{
        int64_t later;
        enum err e;

        *found = task->status == TASK_CANCELED;
        if (*found || task->last_run_id == run->id)
                return ERR_OK;
        e = tx_number(tx, SQL_RUN_LATER, &later, INT(task->id), INT(run->id));
        *found = !e;
        return e == ERR_EMPTY ? ERR_OK : e;
}

/* Only what the run's state asks for. */
static enum err gather(struct tx *tx, const struct task *task, struct run_facts *f)
{
        const struct run *run = f->run;

        f->closed = task->closed_at != 0;
        f->now = tx_now(tx);
        f->lease_now = lease_now(tx_context(tx));
        if (!run)
                return ERR_OK;
        if (run->status == RUN_QUEUED && !run->hold) {
                struct scheduler scheduler;
                enum err e = scheduler_get(tx, &scheduler);

                f->paused = !e && scheduler.paused;
                return e ? e : find_claimer(tx, run, &f->claimer);
        }
        if (run_is_leased(run->status))
                return find_holder(tx, run, &f->holder_gone);
        return run_is_terminal(run->status) ? find_later(tx, task, run, &f->superseded) : ERR_OK;
}

static struct diagnostic diagnostic_of(struct tx *tx, size_t i, const struct task *task,
                                       const struct run *run)
{
        struct diagnostic d = { .code = str_from(diagnostics[i].code),
                                .severity = str_from(diagnostics[i].severity),
                                .message = str_from(diagnostics[i].message) };
        char id[ID_TEXT_SIZE];

        if (diagnostics[i].found == FOUND_CRASHED && task->attempts >= task->max_attempts) {
                d.message =
                        STR("it failed, and the task has no attempt left: raise max_attempts, then"
                            " retry");
                return d;
        }
        id_print("run", run->id, id);
        if (diagnostics[i].command)
                d.suggested_command =
                        arena_printf(&tx_scope(tx)->arena, "%s %s", diagnostics[i].command, id);
        return d;
}

static enum err judge(struct tx *tx, const struct principal *by, const struct task *task,
                      const struct run *run, struct inspection *out)
{
        struct diagnostic *items =
                arena_array(&tx_scope(tx)->arena, struct diagnostic, LENGTH(diagnostics));
        struct run_facts facts = { .run = run };
        struct explanation why = { 0 };
        unsigned found;
        enum err e = gather(tx, task, &facts);

        if (!e && run && !run_is_terminal(run->status))
                e = run_explain(tx, by, run->id, &why);
        if (e)
                return e;
        found = run_findings(&facts);
        out->next_action = str_from(run_next_action(&facts, found));
        out->reasons = why.reasons;
        out->diagnostics.items = items;
        for (size_t i = 0; i < LENGTH(diagnostics); i++)
                if (found & diagnostics[i].found)
                        items[out->diagnostics.n++] = diagnostic_of(tx, i, task, run);
        return ERR_OK;
}

/* ---- the whole ---- */

static struct target *target_of(struct tx *tx, const char *kind, int64_t id)
{
        struct target *t = arena_new(&tx_scope(tx)->arena, struct target);
        char text[ID_TEXT_SIZE];

        t->kind = str_from(kind);
        t->id = str_dup(&tx_scope(tx)->arena, (struct str){ text, id_print(kind, id, text) });
        return t;
}

static enum err latest_runs(struct tx *tx, const struct task *task, struct list *out)
{
        struct list rows = { 0 };
        enum err e = tx_all(tx, SQL_RUN_LATEST, &rows, INT(task->id), INT(RECENT_RUNS));
        struct run_view *views = arena_array(&tx_scope(tx)->arena, struct run_view, RECENT_RUNS);

        for (size_t i = 0; i < rows.n; i++)
                views[i] = run_view(tx, (const struct run *)rows.items + i);
        *out = (struct list){ views, rows.n };
        return e;
}

static enum err inspect(struct tx *tx, const struct principal *by, const struct task *task,
                        const struct run *run, struct inspection *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        enum err e = judge(tx, by, task, run, out);

        if (!e)
                e = latest_runs(tx, task, &out->recent_runs);
        if (!e)
                e = task_events(tx, task, RECENT_EVENTS, &out->recent_events);
        if (e)
                return e;
        out->as_of = tx_now(tx);
        if (run) {
                out->current_run = arena_new(arena, struct run_view);
                *out->current_run = run_view(tx, run);
        }
        out->task = arena_new(arena, struct task_view);
        return task_view(tx, task, &out->recent_events, out->task);
}

enum err run_inspect(struct tx *tx, const struct principal *by, int64_t id, struct inspection *out)
{
        struct task task = { 0 };
        struct run run = { 0 };
        enum err e = run_get(tx, by, id, &run);

        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run.task_id));
        *out = (struct inspection){ .target = target_of(tx, "run", id) };
        return e ? e : inspect(tx, by, &task, &run, out);
}

enum err task_inspect(struct tx *tx, const struct principal *by, int64_t id, struct inspection *out)
{
        struct task task = { 0 };
        struct run run = { 0 };
        enum err e = task_get(tx, by, id, &task);

        if (!e && task.last_run_id)
                e = run_load(tx, task.last_run_id, &run);
        *out = (struct inspection){ .target = target_of(tx, "task", id) };
        return e ? e : inspect(tx, by, &task, task.last_run_id ? &run : NULL, out);
}
