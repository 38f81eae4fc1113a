#include "api/request.h"
#include "domain/delivery.h"
#include "http/egress.h"

#define AT(member) offsetof(struct webhook_patch, member)
#define URL(flags) { "url", FIELD_STR, FIELD_WIRE | (flags), AT(url), NULL, 1, WEBHOOK_URL_MAX }
#define REST                                                                                    \
        { "events", FIELD_CAPS, FIELD_WIRE | FIELD_CLEARS, AT(events) },                        \
        { "description", FIELD_STR, FIELD_WIRE | FIELD_CLEARS, AT(description), NULL, 0,        \
          WEBHOOK_TEXT_MAX },                                                                   \
        { "enabled", FIELD_BOOL, FIELD_WIRE, AT(enabled) }
static const struct field create_fields[] = { URL(FIELD_REQUIRED), REST };
static const struct field patch_fields[] = { URL(0), REST };
static const struct record create_body = { "WebhookCreate", create_fields, LENGTH(create_fields),
                                           sizeof(struct webhook_patch), AT(given) };
static const struct record patch_body = { "WebhookPatch", patch_fields, LENGTH(patch_fields),
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
        struct webhook webhook; /* first: its members are this one's too */
        struct str secret;
};
static const struct field made_fields[] = {
        { "secret", FIELD_STR, FIELD_WIRE, offsetof(struct made_webhook, secret),
          .doc = "whsec_ and base64; it is never shown again, and no replay has it" },
};
static const struct record made_record = { "WebhookCreated", made_fields, 1,
                                           sizeof(struct made_webhook), -1,
                                           .base = &webhook_record };

static enum err post_webhook(struct request *r, struct tx *tx)
{
        struct made_webhook *made = arena_new(&r->scope.arena, struct made_webhook);
        struct webhook_patch *b = r->body;
        enum err e = check_url(r, b);

        if (!e)
                e = webhook_create(tx, &r->by, b, &made->webhook, &made->secret);
        return e ? e : request_reply(r, 201, &made_record, made);
}

static enum err list_webhooks(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        struct list items;
        enum err e = webhook_list(tx, &r->by, page->before, (int)page->limit + 1, &items);

        return e ? e :
                   request_reply_list(r, &webhook_record, items, (int)page->limit,
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

struct delivery_filter {
        struct paging page;
        int status;
};
static const struct field delivery_filter_fields[] = {
        PAGE_FIELDS(struct delivery_filter),
        { "status", FIELD_ENUM, FIELD_WIRE, offsetof(struct delivery_filter, status),
          &delivery_status_names, .preset = -1 },
};
static const struct record delivery_filter = { "DeliveryFilter", delivery_filter_fields,
                                               LENGTH(delivery_filter_fields),
                                               sizeof(struct delivery_filter), -1 };

static enum err list_deliveries(struct request *r, struct tx *tx)
{
        const struct delivery_filter *f = r->filter;
        const int limit = (int)f->page.limit;
        struct list items;
        int64_t id;
        enum err e = request_id(r, 0, "hook", "webhook", &id);

        if (!e)
                e = delivery_list(tx, &r->by, id, f->status, f->page.before, limit + 1, &items);
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

const struct route webhook_routes[] = {
        { HTTP_POST, "/v1/webhooks", SCOPE_ADMIN, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_SECRET | ROUTE_CREATES, &create_body, &made_record, post_webhook, CALL_CREATE, "Create a webhook; its secret is shown once" },
        { HTTP_GET, "/v1/webhooks", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &webhook_record,
          list_webhooks, 0, "List webhooks", .filter = &page_filter_record },
        { HTTP_GET, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_READ, 0, NULL, &webhook_record,
          get_webhook, 0, "Get a webhook" },
        { HTTP_PATCH, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, &patch_body,
          &webhook_record, patch_webhook, CALL_CREATE, "Change a webhook" },
        { HTTP_DELETE, "/v1/webhooks/{webhook}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_webhook, CALL_CANCEL, "Delete a webhook" },
        { HTTP_GET, "/v1/webhooks/{webhook}/deliveries", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL,
          &delivery_record, list_deliveries, 0, "Deliveries of a webhook", .filter = &delivery_filter },
        { HTTP_POST, "/v1/webhooks/{webhook}/deliveries/{delivery}/replay", SCOPE_ADMIN,
          ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, &delivery_record, replay_delivery, CALL_CREATE,
          "Send a delivery once more" },
        { 0 },
};
