#include "domain/workspace.h"

#include <stdio.h>

#include "domain/audit.h"
#include "domain/channel.h"
#include "domain/sql.h"
#include "domain/volume.h"

#define AT(member) offsetof(struct workspace, member)
static const struct field workspace_fields[] = {
        { "id", FIELD_NAME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(id) },
        { "name", FIELD_STR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(name) },
        { "slug", FIELD_STR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(slug) },
        { "uid", FIELD_INT, FIELD_COLUMN, AT(uid) },
        { "quota_bytes", FIELD_INT, FIELD_COLUMN | FIELD_WIRE | FIELD_ALWAYS, AT(quota_bytes) },
        { "retention_seconds", FIELD_INT, FIELD_COLUMN | FIELD_WIRE, AT(retention_seconds) },
        { "network_channels", FIELD_CAPS, FIELD_COLUMN | FIELD_WIRE, AT(network_channels) },
        { "created_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(created_at) },
        { "deleted_at", FIELD_TIME, FIELD_COLUMN, AT(deleted_at) },
        { "volume", FIELD_STR, FIELD_COLUMN | FIELD_WIRE, AT(volume) },
};
const struct record workspace_record = { "Workspace", workspace_fields, LENGTH(workspace_fields),
                                         sizeof(struct workspace), -1 };

/* A random (version 4) UUID. */
static struct str uuid_new(struct scope *scope)
{
        unsigned char b[16];

        scope_random(scope, b, sizeof(b));
        b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
        b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
        return arena_printf(&scope->arena,
                            "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                            b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10],
                            b[11], b[12], b[13], b[14], b[15]);
}

/* Lower-case letters, digits and inner dashes, 1 to 64. */
static bool slug_is_valid(struct str s)
{
        for (size_t i = 0; i < s.n; i++) {
                char c = s.p[i];

                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i)))
                        return false;
        }
        return s.n >= 1 && s.n <= 64;
}

static struct str slug_of(struct scope *scope, struct str name)
{
        struct str lower = str_lower(&scope->arena, name);
        char *out = arena_alloc(&scope->arena, lower.n + 1, 1);
        size_t n = 0;

        for (size_t i = 0; i < lower.n && n < 64; i++) {
                char c = lower.p[i];

                if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
                        out[n++] = c;
                else if (n && out[n - 1] != '-')
                        out[n++] = '-';
        }
        return (struct str){ out, n };
}

static enum err check_name(struct scope *scope, struct str name)
{
        return name.n && name.n <= 200 ? ERR_OK :
                                         fail_field(scope, "name", ERR_VALIDATION,
                                                    "name must have 1 to 200 bytes");
}

static enum err check_slug(struct tx *tx, struct str slug)
{
        int64_t taken;

        if (!slug_is_valid(slug))
                return fail_field(tx_scope(tx), "slug", ERR_VALIDATION,
                                  "slug must be 1 to 64 of a-z, 0-9 and inner dashes");
        if (tx_number(tx, SQL_WORKSPACE_BY_SLUG, &taken, TEXT(slug)) != ERR_EMPTY)
                return fail_field(tx_scope(tx), "slug", ERR_CONFLICT,
                                  "a workspace with the slug " STR_FMT " exists already",
                                  STR_ARG(slug));
        return ERR_OK;
}

enum err workspace_create(struct tx *tx, const struct principal *by,
                          const struct workspace_spec *spec, struct workspace *out)
{
        struct scope *scope = tx_scope(tx);
        struct workspace w = { .name = str_trim(spec->name), .slug = spec->slug };
        struct audit_change change;
        enum err e = check_name(scope, w.name);

        if (!e)
                e = channels_check(scope, "network_channels", spec->network_channels);
        if (e)
                return e;
        if (!w.slug.p)
                w.slug = slug_of(scope, w.name);
        e = check_slug(tx, w.slug);
        if (e)
                return e;
        e = tx_numbers(tx, SQL_WORKSPACE_LAST_UID, &w.uid, 1, NULL, 0);
        if (e && e != ERR_EMPTY)
                return e;
        w.uid = w.uid < FIRST_WORKSPACE_UID ? FIRST_WORKSPACE_UID : w.uid + 1;
        w.id = uuid_new(scope);
        w.quota_bytes = spec->quota_bytes ? spec->quota_bytes : DEFAULT_QUOTA;
        w.retention_seconds = spec->retention_seconds;
        w.network_channels = spec->network_channels;
        w.created_at = tx_now(tx);
        e = tx_insert(tx, SQL_WORKSPACE_ADD, &w);
        if (e)
                return e;
        *out = w;
        change = (struct audit_change){ .action = AUDIT_WORKSPACE_CREATED,
                                        .resource = w.id,
                                        .workspace = w.id,
                                        .detail = w.slug,
                                        .after = audit_digest(tx, &workspace_record, &w) };
        return audit_append(tx, by, &change);
}

enum err workspace_get(struct tx *tx, const struct principal *by, struct str id,
                       struct workspace *out)
{
        struct workspace w;
        int64_t number = 0;
        enum err e = tx_name(tx, id, &number);

        if (!e)
                e = tx_one(tx, SQL_WORKSPACE_GET, &w, INT(number), TEXT(id));
        if (e == ERR_EMPTY || (!e && !by->all_workspaces && !str_eq(by->workspace, w.id)))
                return fail_missing(tx_scope(tx), "workspace");
        if (!e)
                *out = w;
        return e;
}

enum err workspace_for_change(struct tx *tx, const struct principal *by, struct str id,
                              struct workspace *out)
{
        enum err e = workspace_get(tx, by, id, out);

        if (!e && !by->all_workspaces)
                e = fail(tx_scope(tx), ERR_PERMISSION_DENIED, "this key is bound to the workspace");
        if (!e && str_is(out->id, SYSTEM_WORKSPACE))
                e = fail(tx_scope(tx), ERR_CONFLICT, "the system workspace stays as it is");
        return e;
}

enum err workspace_patch(struct tx *tx, const struct principal *by, struct str id,
                         const struct workspace_spec *spec, struct workspace *w)
{
        struct scope *scope = tx_scope(tx);
        struct audit_change change = { .action = AUDIT_WORKSPACE_CHANGED };
        enum err e = workspace_for_change(tx, by, id, w);
        bool new_slug = !e && spec->slug.p && !str_eq(spec->slug, w->slug);

        if (new_slug && str_is(w->slug, "default"))
                e = fail_field(scope, "slug", ERR_CONFLICT,
                               "the slug of the default workspace is what keys find it by");
        else if (new_slug)
                e = check_slug(tx, spec->slug);
        if (!e && spec->name.p)
                e = check_name(scope, str_trim(spec->name));
        if (!e)
                e = channels_check(scope, "network_channels", spec->network_channels);
        if (e)
                return e;
        change.before = audit_digest(tx, &workspace_record, w);
        w->name = spec->name.p ? str_trim(spec->name) : w->name;
        w->slug = spec->slug.p ? spec->slug : w->slug;
        w->quota_bytes = spec->quota_bytes ? spec->quota_bytes : w->quota_bytes;
        if (!spec->keeps_retention)
                w->retention_seconds = spec->retention_seconds;
        if (!spec->keeps_channels)
                w->network_channels = spec->network_channels;
        if (!spec->keeps_volume && !str_eq(spec->volume, w->volume)) {
                e = volume_change(tx, w, spec->volume);
                w->volume = spec->volume;
        }
        if (e)
                return e;
        e = tx_exec(tx, SQL_WORKSPACE_SET, NAME(w->id), TEXT(w->name), TEXT(w->slug),
                    INT(w->quota_bytes), INT(w->retention_seconds), NAME(w->network_channels));
        change.resource = change.workspace = w->id;
        change.detail = w->slug;
        change.after = audit_digest(tx, &workspace_record, w);
        return e ? e : audit_append(tx, by, &change);
}

enum err workspace_list(struct tx *tx, const struct principal *by, int64_t before, int limit,
                        struct list *out)
{
        return tx_all(tx, SQL_WORKSPACE_LIST, out, INT(before),
                      NAME(by->all_workspaces ? STR_NONE : by->workspace), INT(limit));
}

enum err workspace_boot(struct tx *tx, const struct principal *by)
{
        struct workspace system = { .id = STR(SYSTEM_WORKSPACE),
                                    .name = STR("system"),
                                    .slug = STR(""),
                                    .created_at = tx_now(tx) };
        struct workspace_spec first = { .name = STR("default"), .slug = STR("default") };
        struct workspace out;
        int64_t there;
        enum err e = tx_number(tx, SQL_WORKSPACE_BY_SLUG, &there, TEXT(first.slug));

        if (e != ERR_EMPTY)
                return e;
        e = tx_insert(tx, SQL_WORKSPACE_ADD, &system);
        return e ? e : workspace_create(tx, by, &first, &out);
}
