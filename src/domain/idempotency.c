#include "domain/idempotency.h"

#include "core/failpoint.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct idempotency, member)
static const struct field idempotency_fields[] = {
        { "digest", FIELD_BYTES, FIELD_COLUMN, AT(digest) },
        { "status", FIELD_INT, FIELD_COLUMN, AT(status) },
        { "response", FIELD_STR, FIELD_COLUMN, AT(response) },
};
const struct record idempotency_record = { "idempotency", idempotency_fields,
                                           LENGTH(idempotency_fields), sizeof(struct idempotency),
                                           -1 };

static const struct field setting_fields[] = {
        { "value", FIELD_BYTES, FIELD_COLUMN, offsetof(struct setting, value) },
};
const struct record setting_record = { "setting", setting_fields, LENGTH(setting_fields),
                                       sizeof(struct setting), -1 };

enum err idempotency_find(struct tx *tx, const struct principal *by, struct str operation,
                          struct str key, struct str digest, struct idempotency *out)
{
        struct idempotency found;
        enum err e = tx_one(tx, SQL_IDEMPOTENCY_GET, &found, NAME(by->workspace), NAME(by->actor),
                            TEXT(operation), TEXT(key));

        if (e)
                return e;
        if (!str_eq(found.digest, digest))
                return fail(tx_scope(tx), ERR_IDEMPOTENCY_MISMATCH,
                            "this Idempotency-Key was used with another request");
        *out = found;
        return ERR_OK;
}

enum err idempotency_keep(struct tx *tx, const struct principal *by, struct str operation,
                          struct str key, const struct idempotency *record)
{
        enum err e = tx_exec(tx, SQL_IDEMPOTENCY_ADD, NAME(by->workspace), NAME(by->actor),
                             TEXT(operation), TEXT(key), BLOB(record->digest),
                             INT(record->status), TEXT(record->response), INT(tx_now(tx)));

        return e ? e : failpoint(tx_scope(tx), FAILPOINT_KEY_KEPT);
}

enum err idempotency_given_again(struct tx *tx, const struct principal *by, struct str operation,
                                 struct str key)
{
        return tx_exec(tx, SQL_IDEMPOTENCY_TOUCH, NAME(by->workspace), NAME(by->actor),
                       TEXT(operation), TEXT(key));
}

enum err idempotency_drop(struct tx *tx, const struct principal *by, struct str operation,
                          struct str key, int64_t kept)
{
        int64_t changed = 0;
        enum err e = tx_exec_changed(tx, SQL_IDEMPOTENCY_DROP, &changed, NAME(by->workspace),
                                     NAME(by->actor), TEXT(operation), TEXT(key), INT(kept));

        return e || changed ? e : ERR_EMPTY;
}
