#include "api/request.h"
#include "domain/profile.h"

static enum err get_profile(struct request *r, struct tx *tx)
{
        struct profile *p = arena_new(&r->scope.arena, struct profile);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = profile_get(tx, &r->by, id, p);
        return e ? e : request_reply(r, 200, &profile_record, p);
}

static enum err put_profile(struct request *r, struct tx *tx)
{
        /* The operation may run twice: it completes a copy. */
        struct profile *p = arena_new(&r->scope.arena, struct profile);
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        *p = *(const struct profile *)r->body;
        if (!e)
                e = profile_put(tx, &r->by, id, p);
        return e ? e : request_reply(r, 200, &profile_record, p);
}

static enum err delete_profile(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        r->status = 204;
        return e ? e : profile_delete(tx, &r->by, id);
}

const struct route profile_routes[] = {
        { HTTP_GET, "/v1/tasks/{task}/execution-profile", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &profile_record, get_profile, 0, "Who should work on a task, and how" },
        { HTTP_PUT, "/v1/tasks/{task}/execution-profile", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT, &profile_body_record,
          &profile_record, put_profile, CALL_CREATE, "Say so, replacing what was said" },
        { HTTP_DELETE, "/v1/tasks/{task}/execution-profile", SCOPE_TASKS_WRITE, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_profile, CALL_CREATE, "Let it inherit everything" },
        { 0 },
};
