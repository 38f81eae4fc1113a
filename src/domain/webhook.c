#include "domain/webhook.h"

#include <assert.h>
#include <sodium.h>

#include "domain/audit.h"
#include "domain/domain.h"
#include "domain/event.h"
#include "domain/secret.h"
#include "domain/sql.h"

enum { KEY_BYTES = 32, TYPES = 128 };

#define AT(member) offsetof(struct webhook, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field webhook_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "hook" },
        { "workspace_id", FIELD_NAME, BOTH | FIELD_REQUIRED, AT(workspace_id) },
        { "url", FIELD_STR, BOTH | FIELD_REQUIRED, AT(url) },
        { "description", FIELD_STR, BOTH, AT(description) },
        { "events", FIELD_CAPS, BOTH, AT(events) },
        { "asks", FIELD_BOOL, FIELD_COLUMN, AT(asks) },
        { "enabled", FIELD_BOOL, BOTH | FIELD_ALWAYS, AT(enabled) },
        { "disabled_reason", FIELD_STR, BOTH, AT(disabled_reason) },
        { "nonce", FIELD_BYTES, FIELD_COLUMN, AT(nonce) },
        { "sealed", FIELD_BYTES, FIELD_COLUMN, AT(sealed) },
        { "cursor", FIELD_INT, FIELD_COLUMN, AT(cursor) },
        { "created_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(created_by) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "updated_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(updated_at) },
        { "deleted_at", FIELD_TIME, FIELD_COLUMN, AT(deleted_at) },
};
const struct record webhook_record = { "Webhook", webhook_fields, LENGTH(webhook_fields),
                                       sizeof(struct webhook), -1 };

/* ---- what it wants to hear of ---- */

/* The hook points whose moment is an event.  A heartbeat is none: it would cost every lease-holder
 * a row. */
static const struct {
        const char *name;
        enum event_type type;
} hooks[] = {
        { "task.run.enqueued", EVENT_RUN_QUEUED },
        { "task.run.post_claim", EVENT_RUN_CLAIMED },
        { "task.run.lease_expired", EVENT_RUN_LEASE_EXPIRED },
        { "task.run.lease_recovered", EVENT_RUN_RECOVERED },
        { "task.run.released", EVENT_RUN_RELEASED },
        { "task.run.completed", EVENT_RUN_COMPLETED },
        { "task.run.failed", EVENT_RUN_FAILED },
        { "task.run.failed", EVENT_RUN_TIMED_OUT },
};

const char *webhook_hook(int type)
{
        for (size_t i = 0; i < LENGTH(hooks); i++)
                if ((int)hooks[i].type == type)
                        return hooks[i].name;
        return NULL;
}

static void add_type(struct type_set *set, int type)
{
        BUG_ON(type >= TYPES);
        set->bits[type / 64] |= UINT64_C(1) << type % 64;
}

/* False when the name is of neither. */
static bool add_name(struct type_set *set, struct str name)
{
        int type = names_find(&event_names, name);
        bool known = type >= 0 || str_is(name, WEBHOOK_PRE_CLAIM);

        if (type >= 0)
                add_type(set, type);
        for (size_t i = 0; i < LENGTH(hooks); i++)
                if (str_is(name, hooks[i].name)) {
                        add_type(set, (int)hooks[i].type);
                        known = true;
                }
        return known;
}

struct type_set webhook_types(const struct webhook *w)
{
        struct type_set set = { { 0 } };
        struct str rest = w->events;

        if (!w->events.p)
                return (struct type_set){ { UINT64_MAX, UINT64_MAX } };
        while (rest.n)
                (void)add_name(&set, str_cut(rest, ',', &rest));
        return set;
}

static enum err events_check(struct scope *scope, struct webhook *w)
{
        struct type_set set = { { 0 } };
        struct str events = w->events;

        w->asks = false;

        while (events.n) {
                struct str name = str_cut(events, ',', &events);

                w->asks |= str_is(name, WEBHOOK_PRE_CLAIM);
                if (!add_name(&set, name))
                        return fail_field(
                                scope, "events", ERR_VALIDATION,
                                "\"" STR_FMT "\" is neither a type of event, such as"
                                " run.completed, nor a hook point: task.run.enqueued,"
                                " pre_claim, post_claim, lease_expired, lease_recovered, released,"
                                " completed, failed",
                                STR_ARG(name));
        }
        return ERR_OK;
}

/* ---- the key ---- */

static struct str binding(struct arena *arena, const struct webhook *w)
{
        return arena_printf(arena, "webhook/" STR_FMT "/%lld", STR_ARG(w->workspace_id),
                            (long long)w->id);
}

struct str webhook_key(struct tx *tx, const struct webhook *w)
{
        return secret_unseal(tx, binding(&tx_scope(tx)->arena, w),
                             (struct sealed){ w->nonce, w->sealed });
}

static struct str base64(struct arena *arena, const unsigned char *bytes, size_t n)
{
        size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
        char *text = arena_alloc(arena, size, 1);

        sodium_bin2base64(text, size, bytes, n, sodium_base64_VARIANT_ORIGINAL);
        return (struct str){ text, size - 1 };
}

/* A new key, sealed in *w; its text. */
static struct str make_key(struct tx *tx, struct webhook *w)
{
        struct arena *arena = &tx_scope(tx)->arena;
        unsigned char key[KEY_BYTES];
        struct sealed sealed;
        struct str text;

        scope_random(tx_scope(tx), key, sizeof(key));
        sealed = secret_seal(tx, binding(arena, w), (struct str){ (char *)key, sizeof(key) });
        w->nonce = sealed.nonce;
        w->sealed = sealed.text;
        text = arena_printf(arena, "whsec_" STR_FMT, STR_ARG(base64(arena, key, sizeof(key))));
        sodium_memzero(key, sizeof(key));
        return text;
}

static void hmac_add(crypto_auth_hmacsha256_state *state, struct str text)
{
        crypto_auth_hmacsha256_update(state, (const unsigned char *)text.p, text.n);
}

struct str webhook_signature(struct arena *arena, struct str key, struct str id,
                             struct str timestamp, struct str body)
{
        const struct str parts[] = { id, STR("."), timestamp, STR("."), body };
        unsigned char mac[crypto_auth_hmacsha256_BYTES];
        crypto_auth_hmacsha256_state state;

        crypto_auth_hmacsha256_init(&state, (const unsigned char *)key.p, key.n);
        for (size_t i = 0; i < LENGTH(parts); i++)
                hmac_add(&state, parts[i]);
        crypto_auth_hmacsha256_final(&state, mac);
        return arena_printf(arena, "v1," STR_FMT, STR_ARG(base64(arena, mac, sizeof(mac))));
}

/* ---- operations ---- */

static void apply(struct webhook *w, const struct webhook_patch *p)
{
        if (p->given & WEBHOOK_URL)
                w->url = p->url;
        if (p->given & WEBHOOK_EVENTS)
                w->events = p->events;
        if (p->given & WEBHOOK_DESCRIPTION)
                w->description = p->description;
        if (p->given & WEBHOOK_ENABLED) {
                w->enabled = p->enabled;
                w->disabled_reason = STR_NONE;
        }
}

static enum err room(struct tx *tx, const struct principal *by)
{
        int64_t n;
        enum err e = tx_number(tx, SQL_WEBHOOK_COUNT, &n, NAME(by->workspace));

        return !e && n >= WEBHOOKS_MAX ? fail_limit(tx_scope(tx), "url", ERR_CONFLICT, WEBHOOKS_MAX,
                                                    n + 1, "webhooks of a workspace") :
                                         e;
}

/* One that is asked is asked alone. */
static enum err policy_check(struct tx *tx, const struct webhook *w)
{
        struct domain *domain = tx_context(tx);
        struct webhook other;
        enum err e = ERR_EMPTY;

        if (w->asks && w->enabled)
                e = tx_one(tx, SQL_WEBHOOK_POLICY, &other, NAME(w->workspace_id), INT(w->id));
        if (!e)
                return fail_field(tx_scope(tx), "events", ERR_CONFLICT,
                                  "another webhook of the workspace is asked before claims; "
                                  "take " WEBHOOK_PRE_CLAIM " from it, or disable it");
        domain->policies = -1;
        return e == ERR_EMPTY ? ERR_OK : e;
}

static struct str digest(struct tx *tx, const struct webhook *w)
{
        return audit_digest(tx, &webhook_record, w);
}

static enum err tell(struct tx *tx, const struct principal *by, enum audit_action action,
                     const struct webhook *w, struct str before, struct str after)
{
        const struct audit_change change = {
                .action = action,
                .resource = audit_id(tx, "webhook", w->id),
                .workspace = w->workspace_id,
                .detail = w->url,
                .before = before,
                .after = after,
        };

        return audit_append(tx, by, &change);
}

enum err webhook_create(struct tx *tx, const struct principal *by, const struct webhook_patch *spec,
                        struct webhook *out, struct str *secret)
{
        struct webhook w = { .workspace_id = by->workspace,
                             .enabled = true,
                             .created_by = by->actor,
                             .created_at = tx_now(tx),
                             .updated_at = tx_now(tx) };
        struct str text;
        enum err e;

        apply(&w, spec);
        e = events_check(tx_scope(tx), &w);
        if (!e)
                e = policy_check(tx, &w);
        if (!e)
                e = room(tx, by);
        if (!e)
                e = tx_number(tx, SQL_EVENT_END, &w.cursor);
        if (e)
                return e;
        w.id = scope_id(tx_scope(tx));
        text = make_key(tx, &w);
        e = tx_insert(tx, SQL_WEBHOOK_ADD, &w);
        if (!e)
                e = tell(tx, by, AUDIT_WEBHOOK_CREATED, &w, STR_NONE, digest(tx, &w));
        if (e)
                return e;
        tx_hint(tx, HINT_WEBHOOKS, w.id, 0);
        *out = w;
        *secret = text;
        return ERR_OK;
}

enum err webhook_get(struct tx *tx, const struct principal *by, int64_t id, struct webhook *out)
{
        struct webhook w;
        enum err e = tx_one(tx, SQL_WEBHOOK_GET, &w, INT(id));

        if (e == ERR_EMPTY || (!e && !by->all_workspaces && !str_eq(w.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "webhook");
        if (!e)
                *out = w;
        return e;
}

enum err webhook_list(struct tx *tx, const struct principal *by, int64_t before, int limit,
                      struct list *out)
{
        return tx_all(tx, SQL_WEBHOOK_LIST, out, NAME(by->workspace), INT(before), INT(limit));
}

enum err webhook_update(struct tx *tx, const struct principal *by, int64_t id,
                        const struct webhook_patch *patch, struct webhook *out)
{
        struct webhook w, before;
        enum err e = webhook_get(tx, by, id, &w);
        bool was_enabled;

        if (e)
                return e;
        before = w;
        was_enabled = w.enabled;
        apply(&w, patch);
        w.updated_at = tx_now(tx);
        e = events_check(tx_scope(tx), &w);
        if (!e)
                e = policy_check(tx, &w);
        if (!e && w.enabled && !was_enabled)
                e = tx_number(tx, SQL_EVENT_END, &w.cursor);
        if (!e)
                e = tx_exec(tx, SQL_WEBHOOK_SET, INT(id), TEXT(w.url), TEXT(w.description),
                            NAME(w.events), INT(w.enabled), TEXT(w.disabled_reason), INT(w.cursor),
                            INT(w.updated_at), INT(w.asks));
        if (!e)
                e = tell(tx, by, AUDIT_WEBHOOK_CHANGED, &w, digest(tx, &before), digest(tx, &w));
        if (e)
                return e;
        tx_hint(tx, HINT_WEBHOOKS, id, 0);
        *out = w;
        return ERR_OK;
}

enum err webhook_delete(struct tx *tx, const struct principal *by, int64_t id)
{
        struct webhook w;
        enum err e = webhook_get(tx, by, id, &w);

        ((struct domain *)tx_context(tx))->policies = -1;
        if (!e)
                e = tx_exec(tx, SQL_WEBHOOK_DELETE, INT(id), INT(tx_now(tx)));
        return e ? e : tell(tx, by, AUDIT_WEBHOOK_DELETED, &w, digest(tx, &w), STR_NONE);
}

enum err webhook_disable(struct tx *tx, int64_t id, struct str reason)
{
        ((struct domain *)tx_context(tx))->policies = -1;
        return tx_exec(tx, SQL_WEBHOOK_DISABLE, INT(id), TEXT(reason), INT(tx_now(tx)));
}
