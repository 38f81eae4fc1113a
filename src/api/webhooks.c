#include "api/request.h"
#include "domain/delivery.h"
#include "http/egress.h"

#define AT(member) offsetof(struct webhook_patch, member)
static const struct field body_fields[] = {
        { "url", FIELD_STR, FIELD_WIRE, AT(url), NULL, 1, WEBHOOK_URL_MAX },
        { "events", FIELD_CAPS, FIELD_WIRE | FIELD_CLEARS, AT(events) },
        { "description", FIELD_STR, FIELD_WIRE | FIELD_CLEARS, AT(description), NULL, 0,
          WEBHOOK_TEXT_MAX },
        { "enabled", FIELD_BOOL, FIELD_WIRE, AT(enabled) },
};
static const struct record webhook_body = { "WebhookBody", body_fields, LENGTH(body_fields),
                                            sizeof(struct webhook_patch), AT(given) };

/* Where a host is, is judged with every request that is sent to it. */
static enum err check_url(struct request *r, struct webhook_patch *b)
{
        struct egress_url url;
        enum err e;

        if (!(b->given & WEBHOOK_URL))
                return ERR_OK;
        e = egress_url(&r->scope, b->url, &url);
        if (!e)
                b->url = url.text;
        return e;
}

struct made_webhook {
        struct webhook webhook;
        struct str secret;
};

static void render_made(struct request *r, struct json_out *j)
{
        const struct made_webhook *made = r->reply_value;

        json_begin_object(j);
        json_members(j, &webhook_record, &made->webhook);
        json_key(j, "secret");
        json_put_str(j, made->secret);
        json_end_object(j);
}

static enum err post_webhook(struct request *r, struct tx *tx)
{
        struct made_webhook *made = arena_new(&r->scope.arena, struct made_webhook);
        struct webhook_patch *b = r->body;
        enum err e = ERR_OK;

        if (!(b->given & WEBHOOK_URL))
                e = fail_field(&r->scope, "url", ERR_VALIDATION, "url is required");
        if (!e)
                e = check_url(r, b);
        if (!e)
                e = webhook_create(tx, &r->by, b, &made->webhook, &made->secret);
        r->status = 201;
        r->reply_value = made;
        r->render = render_made;
        return e;
}

static enum err list_webhooks(struct request *r, struct tx *tx)
{
        struct list items;
        int64_t before;
        int limit;
        enum err e = query_page(r, &limit, &before);

        if (!e)
                e = webhook_list(tx, &r->by, before, limit + 1, &items);
        return e ? e :
                   request_reply_list(r, &webhook_record, items, limit,
                                      offsetof(struct webhook, id));
}

static enum err get_webhook(struct request *r, struct tx *tx)
{
        struct webhook *w = arena_new(&r->scope.arena, struct webhook);
        int64_t id;
        enum err e = request_id(r, 0, "hook", "webhook", &id);

        if (!e)
                e = webhook_get(tx, &r->by, id, w);
        return e ? e : request_reply(r, 200, &webhook_record, w);
}

static enum err patch_webhook(struct request *r, struct tx *tx)
{
        struct webhook *w = arena_new(&r->scope.arena, struct webhook);
        int64_t id;
        enum err e = request_id(r, 0, "hook", "webhook", &id);

        if (!e)
                e = check_url(r, r->body);
        if (!e)
                e = webhook_update(tx, &r->by, id, r->body, w);
        return e ? e : request_reply(r, 200, &webhook_record, w);
}

static enum err delete_webhook(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "hook", "webhook", &id);

        r->status = 204;
        return e ? e : webhook_delete(tx, &r->by, id);
}

static enum err list_deliveries(struct request *r, struct tx *tx)
{
        int status = -1, limit;
        int64_t id, before;
        struct list items;
        enum err e = query_page(r, &limit, &before);

        if (!e)
                e = request_id(r, 0, "hook", "webhook", &id);
        if (!e)
                e = query_enum(r, "status", &delivery_status_names, &status);
        if (!e)
                e = delivery_list(tx, &r->by, id, status, before, limit + 1, &items);
        return e ? e :
                   request_reply_list(r, &delivery_record, items, limit,
                                      offsetof(struct delivery, id));
}

static enum err replay_delivery(struct request *r, struct tx *tx)
{
        struct delivery *d = arena_new(&r->scope.arena, struct delivery);
        int64_t webhook, id;
        enum err e = request_id(r, 0, "hook", "webhook", &webhook);

        if (!e)
                e = request_id(r, 1, "dlv", "delivery", &id);
        if (!e)
                e = delivery_replay(tx, &r->by, webhook, id, d);
        return e ? e : request_reply(r, 200, &delivery_record, d);
}

/* No Idempotency-Key where they are made: an answer with a secret is never stored. */
const struct route webhook_routes[] = {
        { HTTP_POST, "/v1/webhooks", SCOPE_ADMIN, ROUTE_WRITE, 0, &webhook_body, &webhook_record,
          post_webhook, CALL_CREATE, "Create a webhook; its secret is shown once" },
        { HTTP_GET, "/v1/webhooks", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &webhook_record,
          list_webhooks, 0, "List webhooks" },
        { HTTP_GET, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_READ, 0, NULL, &webhook_record,
          get_webhook, 0, "Get a webhook" },
        { HTTP_PATCH, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_WRITE, 0, &webhook_body,
          &webhook_record, patch_webhook, CALL_CREATE, "Change a webhook" },
        { HTTP_DELETE, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_WRITE, 0, NULL, NULL,
          delete_webhook, CALL_CANCEL, "Delete a webhook" },
        { HTTP_GET, "/v1/webhooks/{webhook}/deliveries", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL,
          &delivery_record, list_deliveries, 0, "Deliveries of a webhook" },
        { HTTP_POST, "/v1/webhooks/{webhook}/deliveries/{delivery}/replay", SCOPE_ADMIN,
          ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, &delivery_record, replay_delivery, CALL_CREATE,
          "Send a delivery once more" },
        { 0 },
};
