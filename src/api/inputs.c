#include "api/request.h"
#include "domain/input.h"
#include "flow/plan.h"

static const struct field send_fields[] = {
#define AT(member) offsetof(struct input_spec, member)
        { "message", FIELD_STR, FIELD_WIRE, AT(message), NULL, 1, INPUT_BYTES_MAX },
        { "data", FIELD_JSON, FIELD_WIRE, AT(data), NULL, 0, INPUT_BYTES_MAX },
        { "name", FIELD_STR, FIELD_WIRE, AT(name), NULL, 1, INPUT_NAME_MAX,
          "for who waits for one of this name" },
#undef AT
};
static const struct record send_body = { "InputSend", send_fields, LENGTH(send_fields),
                                         sizeof(struct input_spec), -1 };

/* It becomes the output of the step that takes it, a level deeper. */
static enum err check_data(struct request *r, struct str data)
{
        struct value value;
        enum err e = request_no_token(r, data, "data");

        if (!e)
                e = value_read(&r->scope, data, &value);
        if (!e && !value_is_storable(&r->scope, value, OUTPUT_DEPTH - 1))
                e = fail_field(&r->scope, "data", ERR_VALIDATION, "data must nest at most %d deep",
                               OUTPUT_DEPTH - 1);
        return e;
}

static enum err post_input(struct request *r, struct tx *tx)
{
        const struct input_spec *body = r->body;
        struct input *input = arena_new(&r->scope.arena, struct input);
        int64_t task;
        enum err e = request_id(r, 0, "task", "task", &task);

        if (!e && !str_trim(body->message).n && !body->data.p)
                e = fail_field(&r->scope, "message", ERR_VALIDATION,
                               "an input says something: give a message, data or both");
        if (!e && body->data.p)
                e = check_data(r, body->data);
        if (!e)
                e = input_send(tx, &r->by, task, body, input);
        return e ? e : request_reply(r, 201, &input_record, input);
}

struct input_query {
        struct paging page;
        int status;
        struct str name;
};
static const struct field query_fields[] = {
        PAGE_FIELDS(struct input_query),
        { "status", FIELD_ENUM, FIELD_WIRE, offsetof(struct input_query, status), &input_status_names,
          .preset = -1 },
        { "name", FIELD_STR, FIELD_WIRE, offsetof(struct input_query, name) },
};
static const struct record input_query = { "InputQuery", query_fields, LENGTH(query_fields),
                                           sizeof(struct input_query), -1 };

static enum err list_inputs(struct request *r, struct tx *tx)
{
        const struct input_query *q = r->filter;
        struct input_filter f = { .after = q->page.before,
                                  .status = q->status,
                                  .name = q->name,
                                  .limit = (int)q->page.limit + 1 };
        struct list items;
        enum err e = request_id(r, 0, "task", "task", &f.task);

        if (!e)
                e = input_list(tx, &r->by, &f, &items);
        return e ? e :
                   request_reply_list(r, &input_record, items, (int)q->page.limit,
                                      offsetof(struct input, id));
}

const struct route input_routes[] = {
        { HTTP_POST, "/v1/tasks/{task}/inputs", SCOPE_TASKS_WRITE, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_CREATES, &send_body, &input_record, post_input, CALL_CREATE, "Send an input to a task" },
        { HTTP_GET, "/v1/tasks/{task}/inputs", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL,
          &input_record, list_inputs, 0, "Inputs of a task, oldest first", .filter = &input_query },
        { 0 },
};
