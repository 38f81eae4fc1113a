#include "domain/explain.h"

#include "domain/cascade.h"
#include "domain/claimer.h"
#include "domain/dependency.h"
#include "domain/domain.h"
#include "domain/scheduler.h"
#include "domain/sql.h"
#include "domain/volume.h"

static const struct field reason_fields[] = {
#define AT(member) offsetof(struct reason, member)
        { "code", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(code) },
        { "detail", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(detail) },
        { "resource", FIELD_STR, FIELD_WIRE, AT(resource) },
        { "until", FIELD_TIME, FIELD_WIRE, AT(until) },
#undef AT
};
const struct record reason_record = { "Reason", reason_fields, LENGTH(reason_fields),
                                      sizeof(struct reason), -1 };
static const struct field explanation_fields[] = {
        { "status", FIELD_ENUM, FIELD_WIRE, offsetof(struct explanation, status),
          &run_status_names },
        { "reasons", FIELD_LIST, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct explanation, reasons),
          &reason_record },
};
const struct record explanation_record = { "Explanation", explanation_fields,
                                           LENGTH(explanation_fields), sizeof(struct explanation),
                                           -1 };

static void say(struct list *reasons, const char *code, struct str detail, int64_t until)
{
        ((struct reason *)reasons->items)[reasons->n++] =
                (struct reason){ str_from(code), detail, STR_NONE, until };
}

static const struct {
        int64_t hold;
        const char *code, *detail;
} holds[] = {
        { HOLD_BACKOFF, "backoff", "a failed attempt is tried again after a delay" },
        { HOLD_CLEANUP, "cleanup", "processes of the previous holder are being ended" },
        { HOLD_LIMIT, "limit", "as many siblings run as the step allows at once" },
};

static void name_task(struct tx *tx, struct list *reasons, int64_t task)
{
        char id[ID_TEXT_SIZE];

        ((struct reason *)reasons->items)[reasons->n - 1].resource = str_dup(
                &tx_scope(tx)->arena, (struct str){ id, id_print("task", task, id) });
}

static enum err explain_paused(struct tx *tx, const struct run *run, struct list *reasons)
{
        int64_t by;
        enum err e = tx_number(tx, SQL_TASK_PAUSED_ABOVE, &by, INT(run->task_id));

        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        say(reasons, "paused", STR("the task or one above it is paused"), 0);
        name_task(tx, reasons, by);
        return ERR_OK;
}

static enum err explain_blocked(struct tx *tx, const struct run *run, struct list *reasons)
{
        struct list found;
        const struct dependency *d;
        struct task task = { 0 };
        enum err e = dependencies_of(tx, run->task_id, &found);

        d = found.items;
        if (!e)
                e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (!e && task.approval_policy == APPROVAL_MANUAL && task.approval_state != APPROVAL_APPROVED)
                say(reasons, "awaiting_approval",
                    arena_printf(&tx_scope(tx)->arena, "the approval of the task is %s",
                                 approval_state_names.text[task.approval_state]),
                    0);
        for (size_t i = 0; !e && i < found.n; i++) {
                if (d[i].met)
                        continue;
                say(reasons, "blocked_by_dependency",
                    arena_printf(&tx_scope(tx)->arena, "the task that it waits for is %s",
                                 task_status_names.text[d[i].status]),
                    0);
                name_task(tx, reasons, d[i].depends_on_task_id);
        }
        return e;
}

static void say_scheduler_paused(struct tx *tx, struct str reason, struct list *reasons)
{
        say(reasons, "scheduler_paused",
            arena_printf(&tx_scope(tx)->arena, "no run is handed out until the scheduler is resumed%s" STR_FMT,
                         reason.n ? ": " : "", STR_ARG(reason)),
            0);
}

/* The lane's owner is where the files are, if that is known. */
static enum err explain_worker(struct tx *tx, const struct lane *lane, struct list *reasons)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct str volume = STR_NONE, words = STR("waiting for a free worker");
        bool served = true;
        enum err e = ERR_OK;

        str_cut(lane->owner, ':', &volume);
        if (lane->required.n)
                words = arena_printf(arena, STR_FMT " with the capabilities " STR_FMT, STR_ARG(words),
                                     STR_ARG(caps_words(arena, lane->required)));
        if (volume.p) {
                e = volume_is_served(tx, volume, &served);
                words = arena_printf(arena, STR_FMT " with the volume " STR_FMT ", where the workspace's files are%s",
                                     STR_ARG(words), STR_ARG(volume),
                                     served ? "" : "; none that is there has it: start one on that directory, or"
                                                   " give the workspace another with baton workspace update --volume");
        }
        say(reasons, "no_claimer", words, 0);
        return e;
}

/* What a claim must bring, in words. */
static enum err explain_claimer(struct tx *tx, const struct run *run, struct list *reasons)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct lane lane;
        enum err e = tx_one(tx, SQL_LANE_GET, &lane, INT(run->lane));

        if (e)
                return e;
        if (run->executor == EXECUTOR_WORKER)
                return explain_worker(tx, &lane, reasons);
        say(reasons, "no_claimer",
            arena_printf(arena, "waiting for an agent to claim it: one " STR_FMT, STR_ARG(lane_wants(arena, &lane))), 0);
        return ERR_OK;
}

static enum err explain_queued(struct tx *tx, const struct run *run, struct list *reasons)
{
        struct scheduler scheduler;
        int64_t ahead = 0;
        enum err e = scheduler_get(tx, &scheduler);

        if (!e && scheduler.paused)
                say_scheduler_paused(tx, scheduler.paused_reason, reasons);
        for (size_t i = 0; i < LENGTH(holds); i++)
                if (run->hold & holds[i].hold)
                        say(reasons, holds[i].code, str_from(holds[i].detail),
                            holds[i].hold == HOLD_BACKOFF ? run->wake_at : 0);
        if (!e && run->hold & HOLD_PAUSED)
                e = explain_paused(tx, run, reasons);
        if (!e && run->hold & HOLD_BLOCKED)
                e = explain_blocked(tx, run, reasons);
        if (e || run->hold || scheduler.paused)
                return e;
        e = tx_number(tx, SQL_READY_AHEAD, &ahead, INT(run->lane), INT(run->queued_at),
                      INT(run->id));
        if (e)
                return e;
        if (ahead)
                say(reasons, "queued_behind",
                    arena_printf(&tx_scope(tx)->arena, "%lld%s runs of the same kind are ahead",
                                 (long long)ahead, ahead == 1000 ? " or more" : ""),
                    0);
        return explain_claimer(tx, run, reasons);
}

/* ERR_EMPTY: nothing is going to cancel it. */
static enum err explain_cascade(struct tx *tx, const struct run *run, struct list *reasons)
{
        struct cascade c;
        enum err e = cascade_find(tx, run->task_id, &c);

        if (e)
                return e;
        say(reasons, "canceling", STR("the cancel of a task above it is under way and will end it"), 0);
        name_task(tx, reasons, c.task_id);
        return ERR_OK;
}

enum err run_explain(struct tx *tx, const struct principal *by, int64_t id, struct explanation *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct run run;
        enum err e = run_get(tx, by, id, &run);

        if (e)
                return e;
        *out = (struct explanation){ .status = run.status,
                                     .reasons = { arena_array(arena, struct reason, 8 + DEPENDENCIES_MAX), 0 } };
        e = run_is_terminal(run.status) ? ERR_EMPTY : explain_cascade(tx, &run, &out->reasons);
        if (e != ERR_EMPTY)
                return e;
        if (run.status == RUN_QUEUED)
                return explain_queued(tx, &run, &out->reasons);
        if (run_is_terminal(run.status))
                say(&out->reasons, "terminal",
                    run.error.p ? run.error : str_from(run_status_names.text[run.status]), 0);
        else if (run.status == RUN_AWAITING_APPROVAL)
                say(&out->reasons, "awaiting_approval", STR("a person must decide"), 0);
        else if (run.status == RUN_AWAITING_INPUT)
                say(&out->reasons, "waiting", STR("somebody must send the task an input"), run.wake_at);
        else if (run_is_waiting(run.status))
                say(&out->reasons, "waiting", str_from(run_status_names.text[run.status]),
                    run.wake_at);
        else
                say(&out->reasons, "running",
                    arena_printf(arena, "held by " STR_FMT, STR_ARG(run.claimed_by)),
                    lease_wall(tx_context(tx), tx_now(tx), run.lease_until));
        return ERR_OK;
}
