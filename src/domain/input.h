/*
 * Inputs: what people and programs send to a task.  They lie in its inbox, in order, until whoever
 * works on the task takes them: a step that waits (wait_input), or the holder of a lease.  Each is
 * taken once, in the transaction that writes down who took it.
 */
#ifndef BATON_DOMAIN_INPUT_H
#define BATON_DOMAIN_INPUT_H

#include "domain/run.h"

enum input_status { INPUT_PENDING, INPUT_CONSUMED, INPUT_CANCELED };
extern const struct names input_status_names;

enum {
        INPUTS_MAX = 1000, /* of a task, those that were taken too */
        INPUT_NAME_MAX = 64,
        INPUT_BYTES_MAX = 65536, /* of a message, and of data */
};

struct input {
        int64_t id, task_id;
        int status;
        struct str name, message, data;
        struct str sent_by, origin;
        int64_t sent_at;
        int64_t run_id, step_index; /* who took it, and where that run stood */
        int64_t consumed_at;
};
extern const struct record input_record;

struct input_spec {
        struct str name, message, data; /* a message, data (JSON) or both */
};

/* Keeps it, and hands it to the oldest run of the task that waits for one of this name, if there is
 * one.  ERR_INVALID_TRANSITION: the task is canceled; ERR_GRAPH_LIMIT: it has too many. */
enum err input_send(struct tx *, const struct principal *, int64_t task, const struct input_spec *,
                    struct input *) NODISCARD;

struct input_filter {
        int64_t task, after; /* after: an id; 0 = from the oldest */
        int status;          /* -1 = any */
        struct str name;     /* absent = any */
        int limit;
};
/* Oldest first. */
enum err input_list(struct tx *, const struct principal *, const struct input_filter *,
                    struct list *) NODISCARD;

/* The holder of a run takes an input of its task; the same again changes nothing.  ERR_CONFLICT:
 * another run has taken it. */
enum err input_consume(struct tx *, const struct fence *, int64_t run, int64_t input,
                       struct input *) NODISCARD;

/* A run has begun to wait for one of this name (absent: of none): adds run.awaiting_input; one that
 * lies there is handed to it at once. */
enum err input_await(struct tx *, struct run *, struct str name, struct events *) NODISCARD;
/* What a step of a run took; NULL when that is nothing. */
enum err input_of_step(struct tx *, int64_t run, int64_t step, struct input **) NODISCARD;
/* The task is canceled: nobody will take what is left. */
enum err inputs_cancel(struct tx *, int64_t task) NODISCARD;

#endif
