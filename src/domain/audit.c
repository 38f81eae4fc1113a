#include "domain/audit.h"

#include <sodium.h>

#include "core/failpoint.h"
#include "core/json_out.h"
#include "domain/idempotency.h"
#include "domain/sql.h"

enum { STATE_MAX = 16 << 20, ENTRY_MAX = 1 << 20 };

static const char *const action_names[] = { [0] = "", [28 ... 39] = "", [42 ... 44] = "",
#define AUDIT(code, number, name) [number] = name,
#include "domain/audit.def"
#undef AUDIT
                                            NULL };
const struct names audit_action_names = { action_names, NULL };

#define AT(member) offsetof(struct audit_entry, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field audit_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "audit" },
        { "at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(at) },
        { "actor", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(actor) },
        { "key_id", FIELD_ID, BOTH, AT(key_id), "key" },
        { "origin", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(origin) },
        { "action", FIELD_ENUM, BOTH | FIELD_REQUIRED, AT(action), &audit_action_names },
        { "resource", FIELD_STR, BOTH | FIELD_REQUIRED, AT(resource) },
        { "workspace_id", FIELD_NAME, BOTH, AT(workspace_id) },
        { "detail", FIELD_STR, BOTH, AT(detail) },
        { "before", FIELD_STR, BOTH, AT(before) },
        { "after", FIELD_STR, BOTH, AT(after) },
        { "previous", FIELD_STR, BOTH | FIELD_REQUIRED, AT(previous) },
        { "hash", FIELD_STR, BOTH | FIELD_REQUIRED, AT(hash) },
};
const struct record audit_record = { "AuditEntry", audit_fields, LENGTH(audit_fields),
                                     sizeof(struct audit_entry), -1 };

/* ---- hashes ---- */

static void hash_hex(struct str bytes, char hex[AUDIT_HASH + 1])
{
        unsigned char digest[crypto_hash_sha256_BYTES];

        crypto_hash_sha256(digest, (const unsigned char *)bytes.p, bytes.n);
        sodium_bin2hex(hex, AUDIT_HASH + 1, digest, sizeof(digest));
}

struct str audit_digest(struct tx *tx, const struct record *record, const void *value)
{
        struct buf text = BUF_INIT(STATE_MAX);
        struct json_out j = { .out = &text };
        char hex[AUDIT_HASH + 1];

        json_stored(&j, record, value);
        BUG_ON(text.full);
        hash_hex(buf_view(&text), hex);
        buf_done(&text);
        return str_dup(&tx_scope(tx)->arena, str_from(hex));
}

struct str audit_id(struct tx *tx, const char *prefix, int64_t id)
{
        char text[ID_TEXT_SIZE];

        id_print(prefix, id, text);
        return str_dup(&tx_scope(tx)->arena, str_from(text));
}

void audit_encode(struct buf *out, const struct audit_entry *entry)
{
        char id[ID_TEXT_SIZE], key[ID_TEXT_SIZE] = "", at[TIME_TEXT_SIZE];
        const struct str parts[] = {
                STR("baton-audit-1"),
                (struct str){ id, id_print("audit", entry->id, id) },
                str_from((time_print(entry->at, at), at)),
                entry->actor,
                (struct str){ key, entry->key_id ? id_print("key", entry->key_id, key) : 0 },
                entry->origin,
                str_from(names_text(&audit_action_names, entry->action)),
                entry->resource,
                entry->workspace_id,
                entry->detail,
                entry->before,
                entry->after,
                entry->previous,
        };

        for (size_t i = 0; i < LENGTH(parts); i++) {
                buf_int(out, (int64_t)parts[i].n);
                buf_char(out, ':');
                buf_str(out, parts[i]);
                buf_char(out, ',');
        }
}

void audit_hash(const struct audit_entry *entry, char hex[AUDIT_HASH + 1])
{
        struct buf text = BUF_INIT(ENTRY_MAX);

        audit_encode(&text, entry);
        hash_hex(buf_view(&text), hex);
        buf_done(&text);
}

/* ---- the log ---- */

enum err audit_head(struct tx *tx, struct str *hash)
{
        struct setting head;
        enum err e = tx_one(tx, SQL_SETTING_GET, &head, TEXT(STR("audit_head")));

        if (e && e != ERR_EMPTY)
                return e;
        *hash = e ? STR(AUDIT_NO_HASH) : head.value;
        return ERR_OK;
}

enum err audit_append(struct tx *tx, const struct principal *by, const struct audit_change *change)
{
        struct audit_entry entry = { .id = scope_id(tx_scope(tx)),
                                     .at = tx_now(tx),
                                     .actor = by->actor,
                                     .key_id = by->key,
                                     .origin = by->origin,
                                     .action = change->action,
                                     .resource = change->resource,
                                     .workspace_id = change->workspace,
                                     .detail = change->detail,
                                     .before = change->before,
                                     .after = change->after };
        char hex[AUDIT_HASH + 1];
        enum err e = audit_head(tx, &entry.previous);

        if (e)
                return e;
        audit_hash(&entry, hex);
        entry.hash = str_from(hex);
        e = tx_insert(tx, SQL_AUDIT_ADD, &entry);
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_AUDIT_ADDED);
        return e ? e : tx_exec(tx, SQL_SETTING_SET, TEXT(STR("audit_head")), BLOB(entry.hash));
}

enum err audit_list(struct tx *tx, const struct audit_filter *f, struct list *out)
{
        enum sql statement = f->resource.p  ? SQL_AUDIT_LIST_RESOURCE :
                             f->workspace.p ? SQL_AUDIT_LIST_WORKSPACE :
                                              SQL_AUDIT_LIST;

        return tx_all(tx, statement, out, INT(f->before), NAME(f->workspace), TEXT(f->resource),
                      NAME(f->actor), INT(f->action), INT(f->since),
                      INT(f->until ? f->until : INT64_MAX), INT(f->limit), INT(id_at(f->since)));
}
