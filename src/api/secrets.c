#include "api/request.h"
#include "domain/secret.h"

struct secret_body {
        struct str value;
};
static const struct field body_fields[] = {
        { "value", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, offsetof(struct secret_body, value),
          NULL, SECRET_MIN, SECRET_MAX },
};
static const struct record secret_body = { "SecretPut", body_fields, LENGTH(body_fields),
                                           sizeof(struct secret_body), -1 };

static enum err put_secret(struct request *r, struct tx *tx)
{
        const struct secret_body *b = r->body;

        r->status = 204;
        return secret_put(tx, &r->by, r->params[0], b->value);
}

static enum err list_secrets(struct request *r, struct tx *tx)
{
        struct list items;
        enum err e = secret_list(tx, &r->by, &items);

        return e ? e : request_reply_part(r, &secret_record, items);
}

static enum err delete_secret(struct request *r, struct tx *tx)
{
        r->status = 204;
        return secret_delete(tx, &r->by, r->params[0]);
}

/* PUT takes no Idempotency-Key: a digest of the request would be a trace of the secret. */
const struct route secret_routes[] = {
        { HTTP_PUT, "/v1/secrets/{name}", SCOPE_ADMIN, ROUTE_WRITE, 0, &secret_body, NULL,
          put_secret, CALL_CREATE, "Make or replace a secret" },
        { HTTP_GET, "/v1/secrets", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &secret_record, list_secrets,
          0, "List the names of secrets", .filter = &page_filter_record },
        { HTTP_DELETE, "/v1/secrets/{name}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_secret, CALL_CANCEL, "Delete a secret" },
        { 0 },
};
