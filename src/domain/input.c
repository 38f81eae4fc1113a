#include "domain/input.h"

#include "core/failpoint.h"
#include "domain/domain.h"
#include "domain/join.h"
#include "domain/sql.h"

static const char *const statuses[] = { "pending", "consumed", "canceled", NULL };
const struct names input_status_names = { statuses, NULL };

#define AT(member) offsetof(struct input, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field input_fields[] = {
        { "id", FIELD_ID, BOTH, AT(id), "input" },
        { "task_id", FIELD_ID, BOTH, AT(task_id), "task" },
        { "status", FIELD_ENUM, BOTH, AT(status), &input_status_names },
        { "name", FIELD_STR, BOTH, AT(name) },
        { "sent_by", FIELD_ACTOR, BOTH, AT(sent_by) },
        { "origin", FIELD_ACTOR, BOTH, AT(origin) },
        { "sent_at", FIELD_TIME, BOTH, AT(sent_at) },
        { "run_id", FIELD_ID, BOTH, AT(run_id), "run" },
        { "step_index", FIELD_INT, BOTH | FIELD_FOLLOWS, AT(step_index) },
        { "consumed_at", FIELD_TIME, BOTH, AT(consumed_at) },
        { "message", FIELD_STR, BOTH, AT(message) },
        { "data", FIELD_JSON, BOTH, AT(data) },
};
const struct record input_record = { "Input", input_fields, LENGTH(input_fields),
                                     sizeof(struct input), -1 };

/* What it says stays in its row: an event cannot be deleted with the task. */
static struct str payload(struct tx *tx, int64_t input, const struct run *run, struct str name)
{
        struct buf text = BUF_INIT(1024);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        if (input) {
                json_key(&j, "input_id");
                json_put_id(&j, "input", input);
        }
        if (run) {
                json_key(&j, "step_index");
                json_put_int(&j, run->current_step);
        }
        if (name.p) {
                json_key(&j, "name");
                json_put_str(&j, name);
        }
        json_end_object(&j);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

/* fence NULL: the run waits, and is handed it. */
static enum err take(struct tx *tx, const struct run *run, const struct fence *fence,
                     struct input *input, struct events *events)
{
        int64_t changed = 0;
        enum err e;

        input->status = INPUT_CONSUMED;
        input->run_id = run->id;
        input->step_index = run->current_step;
        input->consumed_at = tx_now(tx);
        e = tx_exec_changed(tx, SQL_INPUT_CONSUME, &changed, INT(input->id), INT(run->id),
                            INT(input->step_index), INT(input->consumed_at), fence_arg(fence),
                            INT(lease_now(tx_context(tx))));
        if (!e && !changed)
                e = fail(tx_scope(tx), ERR_CONFLICT,
                         "the input or the run is somebody else's by now");
        if (e)
                return e;
        events_add(tx, events, EVENT_RUN_INPUT_CONSUMED, run->task_id, run->id,
                   payload(tx, input->id, run, input->name));
        return failpoint(tx_scope(tx), FAILPOINT_INPUT_TAKEN);
}

static enum err hand_over(struct tx *tx, struct run *run, struct input *input,
                          struct events *events)
{
        enum err e = take(tx, run, NULL, input, events);

        return e ? e : run_wake(tx, run, "input_received", events);
}

static enum err check(struct tx *tx, const struct task *task)
{
        int64_t there = 0;
        enum err e;

        if (task->status == TASK_CANCELED)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                            "the task is canceled: nobody will take an input of it");
        e = tx_number(tx, SQL_INPUT_COUNT, &there, INT(task->id), INT(INPUTS_MAX));
        return e || there < INPUTS_MAX ? e :
                                         fail_limit(tx_scope(tx), NULL, ERR_GRAPH_LIMIT, INPUTS_MAX,
                                                    there + 1, "inputs of a task");
}

enum err input_send(struct tx *tx, const struct principal *by, int64_t id,
                    const struct input_spec *spec, struct input *out)
{
        struct events events = { .by = by };
        struct task task;
        struct run run;
        int64_t waiter = 0;
        enum err e = task_get(tx, by, id, &task);

        if (!e)
                e = check(tx, &task);
        if (e)
                return e;
        *out = (struct input){ .id = scope_id(tx_scope(tx)),
                               .task_id = id,
                               .name = spec->name,
                               .message = spec->message,
                               .data = spec->data,
                               .sent_by = by->actor,
                               .origin = by->origin,
                               .sent_at = tx_now(tx) };
        events.tree = task.tree_id;
        e = tx_insert(tx, SQL_INPUT_ADD, out);
        events_add(tx, &events, EVENT_TASK_INPUT_RECEIVED, id, 0,
                   payload(tx, out->id, NULL, out->name));
        if (!e)
                e = tx_number(tx, SQL_INPUT_WAITER, &waiter, INT(id), TEXT(spec->name));
        if (!e)
                e = run_load(tx, waiter, &run);
        if (!e)
                e = hand_over(tx, &run, out, &events);
        return e && e != ERR_EMPTY ? e : events_append(tx, &events);
}

enum err input_list(struct tx *tx, const struct principal *by, const struct input_filter *f,
                    struct list *out)
{
        struct task task;
        enum err e = task_get(tx, by, f->task, &task);

        return e ? e :
                   tx_all(tx, SQL_INPUT_LIST, out, INT(f->task), INT(f->after), INT(f->status),
                          TEXT(f->name), INT(f->limit));
}

enum err input_consume(struct tx *tx, const struct fence *fence, int64_t id, int64_t input_id,
                       struct input *out)
{
        struct events events = { .by = fence->by };
        struct input input = { 0 };
        struct run run;
        enum err e = run_get(tx, fence->by, id, &run);

        if (!e)
                e = run_check_fence(tx, &run, fence);
        if (e)
                return e;
        e = tx_one(tx, SQL_INPUT_GET, &input, INT(input_id));
        if (e == ERR_EMPTY || (!e && input.task_id != run.task_id))
                return fail_missing(tx_scope(tx), "input");
        if (e)
                return e;
        if (input.status != INPUT_PENDING && input.run_id != id)
                return fail(tx_scope(tx), ERR_CONFLICT, "the input is %s: another run has taken it",
                            statuses[input.status]);
        events.tree = run.tree_id;
        if (input.status == INPUT_PENDING)
                e = take(tx, &run, fence, &input, &events);
        *out = input;
        return e ? e : events_append(tx, &events);
}

enum err input_await(struct tx *tx, struct run *run, struct str name, struct events *events)
{
        struct input input;
        enum err e = tx_one(tx, SQL_INPUT_NEXT, &input, INT(run->task_id), TEXT(name));

        events_add(tx, events, EVENT_RUN_AWAITING_INPUT, run->task_id, run->id,
                   payload(tx, 0, run, name));
        return e == ERR_EMPTY ? ERR_OK : e ? e : hand_over(tx, run, &input, events);
}

enum err input_of_step(struct tx *tx, int64_t run, int64_t step, struct input **out)
{
        struct input *input = arena_new(&tx_scope(tx)->arena, struct input);
        enum err e = tx_one(tx, SQL_INPUT_OF_STEP, input, INT(run), INT(step));

        *out = e ? NULL : input;
        return e == ERR_EMPTY ? ERR_OK : e;
}

enum err inputs_cancel(struct tx *tx, int64_t task)
{
        return tx_exec(tx, SQL_INPUT_CANCEL, INT(task));
}
