#include "domain/inspect.h"

#include "api/request.h"
#include "domain/context.h"

static enum err get_run_inspect(struct request *r, struct tx *tx)
{
        struct inspection *out = arena_new(&r->scope.arena, struct inspection);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = run_inspect(tx, &r->by, id, out);
        return e ? e : request_reply(r, 200, &inspection_record, out);
}

static enum err get_task_inspect(struct request *r, struct tx *tx)
{
        struct inspection *out = arena_new(&r->scope.arena, struct inspection);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_inspect(tx, &r->by, id, out);
        return e ? e : request_reply(r, 200, &inspection_record, out);
}

static enum err get_run_context(struct request *r, struct tx *tx)
{
        struct context *out = arena_new(&r->scope.arena, struct context);
        int64_t id;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = run_context(tx, &r->by, id, out);
        return e ? e : request_reply(r, 200, &context_record, out);
}

const struct route inspect_routes[] = {
        { HTTP_GET, "/v1/runs/{run}/inspect", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &inspection_record, get_run_inspect, 0,
          "Who holds a run, what is wrong, what comes next" },
        { HTTP_GET, "/v1/tasks/{task}/inspect", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &inspection_record, get_task_inspect, 0, "The same of a task's newest run" },
        { HTTP_GET, "/v1/runs/{run}/context", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &context_record, get_run_context, 0, "What a run's worker is told, at most 8192 bytes" },
        { 0 },
};
