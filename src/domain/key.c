#include "domain/key.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "core/failpoint.h"
#include "domain/audit.h"
#include "domain/session.h"
#include "domain/sql.h"

static const char *const scopes[] = { "tasks:read", "tasks:write",   "tasks:approve", "runs:claim",
                                      "admin",      "global:create", NULL };
const struct names key_scope_names = { scopes, NULL };
static_assert(SCOPE_TASKS_READ == 1 && SCOPE_GLOBAL_CREATE == 1 << 5, "a scope's bit is its place");

#define AT(member) offsetof(struct key, member)
static const struct field key_fields[] = {
        { "id", FIELD_ID, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(id), "key" },
        { "digest", FIELD_BYTES, FIELD_COLUMN, AT(digest) },
        { "name", FIELD_STR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(name) },
        { "actor", FIELD_ACTOR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(actor) },
        { "session_id", FIELD_NAME, FIELD_COLUMN | FIELD_WIRE, AT(session_id) },
        { "agent_name", FIELD_NAME, FIELD_COLUMN | FIELD_WIRE, AT(agent_name) },
        { "capabilities", FIELD_CAPS, FIELD_COLUMN | FIELD_WIRE, AT(capabilities) },
        { "scopes", FIELD_INT, FIELD_COLUMN, AT(scopes) },
        { "scopes", FIELD_SET, FIELD_WIRE | FIELD_ALWAYS, AT(scopes), &key_scope_names },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN | FIELD_WIRE, AT(workspace_id) },
        { "created_by", FIELD_ACTOR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(created_by) },
        { "created_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(created_at) },
        { "expires_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE, AT(expires_at) },
        { "revoked_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE, AT(revoked_at) },
};
const struct record key_record = { "Key", key_fields, LENGTH(key_fields), sizeof(struct key), -1 };

/* `daemon` is the server itself: no key speaks for it. */
static const char *const actor_kinds[] = { "human", "agent_session", "automation", "extension",
                                           "network_peer", NULL };
const struct names actor_kind_names = { actor_kinds, NULL };

void key_digest(struct str text, unsigned char digest[32])
{
        crypto_hash_sha256(digest, (const unsigned char *)text.p, text.n);
}

static struct str secret_new(struct scope *scope)
{
        static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
        unsigned char bytes[52];
        char *text = arena_alloc(&scope->arena, 4 + sizeof(bytes) + 1, 1);

        /* 52 digits of 5 random bits: 260 bits. */
        scope_random(scope, bytes, sizeof(bytes));
        memcpy(text, "btn_", 4);
        for (size_t i = 0; i < sizeof(bytes); i++)
                text[4 + i] = digits[bytes[i] & 31];
        return (struct str){ text, 4 + sizeof(bytes) };
}

static enum err check(struct tx *tx, const struct principal *by, const struct key_spec *spec)
{
        struct scope *scope = tx_scope(tx);

        if (!str_trim(spec->name).n || spec->name.n > 200)
                return fail_field(scope, "name", ERR_VALIDATION, "name must have 1 to 200 bytes");
        if (!spec->ref.n || spec->ref.n > 200)
                return fail_field(scope, "ref", ERR_VALIDATION, "ref must have 1 to 200 bytes");
        if (!spec->scopes)
                return fail_field(scope, "scopes", ERR_VALIDATION,
                                  "scopes must name at least one of " STR_FMT,
                                  STR_ARG(names_list(&scope->arena, &key_scope_names)));
        if (spec->scopes & ~by->scopes)
                return fail_field(scope, "scopes", ERR_PERMISSION_DENIED,
                                  "a key cannot be given scopes that its maker does not have");
        if (spec->expires_at && spec->expires_at <= tx_now(tx))
                return fail_field(scope, "expires_at", ERR_VALIDATION,
                                  "expires_at must lie in the future");
        return ERR_OK;
}

enum err key_create(struct tx *tx, const struct principal *by, const struct key_spec *spec,
                    struct key *out, struct str *secret)
{
        struct scope *scope = tx_scope(tx);
        struct audit_change change;
        unsigned char digest[32];
        struct str text;
        enum err e = check(tx, by, spec);

        if (e)
                return e;
        text = secret_new(scope);
        key_digest(text, digest);
        *out = (struct key){
                .id = scope_id(scope),
                .digest = str_dup(&scope->arena, (struct str){ (const char *)digest, 32 }),
                .name = str_trim(spec->name),
                .actor = arena_printf(&scope->arena, "%s:" STR_FMT,
                                      actor_kinds[spec->actor_kind], STR_ARG(spec->ref)),
                .session_id = spec->session_id,
                .agent_name = spec->agent_name,
                .capabilities = spec->capabilities,
                .scopes = spec->scopes,
                .workspace_id = spec->workspace_id,
                .created_by = by->actor,
                .created_at = tx_now(tx),
                .expires_at = spec->expires_at,
        };
        *secret = text;
        e = tx_insert(tx, SQL_KEY_ADD, out);
        change = (struct audit_change){ .action = AUDIT_KEY_CREATED,
                                        .resource = audit_id(tx, "key", out->id),
                                        .workspace = out->workspace_id,
                                        .detail = out->name,
                                        .after = audit_digest(tx, &key_record, out) };
        return e ? e : audit_append(tx, by, &change);
}

enum err key_create_admin(struct tx *tx, void *arg)
{
        struct principal by = { .actor = STR("daemon:baton"),
                                .origin = STR("daemon:boot"),
                                .all_workspaces = true,
                                .scopes = SCOPE_ALL };
        struct key_spec spec = { .name = STR("admin"),
                                 .actor_kind = ACTOR_HUMAN,
                                 .ref = STR("admin"),
                                 .scopes = SCOPE_ALL };
        struct key key;

        return key_create(tx, &by, &spec, &key, arg);
}

enum err key_find(struct tx *tx, struct str text, struct key *out)
{
        unsigned char digest[32];
        struct key key;
        enum err e;

        key_digest(text, digest);
        e = tx_one(tx, SQL_KEY_BY_DIGEST, &key, BLOB(((struct str){ (char *)digest, 32 })));
        if (e && e != ERR_EMPTY)
                return e;
        if (e || key.revoked_at || (key.expires_at && key.expires_at <= tx_now(tx)))
                return fail(tx_scope(tx), ERR_UNAUTHENTICATED,
                            "the key is missing, unknown, expired or revoked");
        *out = key;
        return ERR_OK;
}

static struct str bound_workspace(const struct principal *by)
{
        return by->all_workspaces ? STR_NONE : by->workspace;
}

enum err key_list(struct tx *tx, const struct principal *by, int64_t before, int limit,
                  struct list *out)
{
        return tx_all(tx, SQL_KEY_LIST, out, INT(before), NAME(bound_workspace(by)), INT(limit));
}

/* Without a key its session is over, and nobody can give back what it holds. */
static enum err end_session(struct tx *tx, const struct principal *by, const struct key *key)
{
        int64_t other;
        enum err e = tx_number(tx, SQL_KEY_OF_SESSION, &other, NAME(key->session_id), INT(tx_now(tx)),
                               NAME(key->workspace_id));

        return e == ERR_EMPTY ?
                       session_release(tx, by, key->session_id, key->workspace_id, "session_ended") :
                       e;
}

enum err key_revoke(struct tx *tx, const struct principal *by, int64_t id)
{
        struct audit_change change;
        int64_t changed = 0;
        struct key key;
        enum err e = tx_one(tx, SQL_KEY_GET, &key, INT(id));

        if (e == ERR_EMPTY || (!e && !by->all_workspaces && !str_eq(key.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "key");
        if (!e)
                e = tx_exec_changed(tx, SQL_KEY_REVOKE, &changed, INT(id), INT(tx_now(tx)));
        if (!e && !changed)
                return fail_missing(tx_scope(tx), "key");
        if (e)
                return e;
        tx_hint(tx, HINT_KEYS, id, 0);
        change = (struct audit_change){ .action = AUDIT_KEY_REVOKED,
                                        .resource = audit_id(tx, "key", id),
                                        .workspace = key.workspace_id,
                                        .detail = key.name,
                                        .before = audit_digest(tx, &key_record, &key) };
        key.revoked_at = tx_now(tx);
        change.after = audit_digest(tx, &key_record, &key);
        e = audit_append(tx, by, &change);
        if (e || !key.session_id.p)
                return e;
        e = failpoint(tx_scope(tx), FAILPOINT_SESSION_OVER);
        return e ? e : end_session(tx, by, &key);
}
