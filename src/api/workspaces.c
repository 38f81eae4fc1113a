#include "api/request.h"
#include "domain/key.h"
#include "domain/purge.h"
#include "domain/sql.h"
#include "domain/workspace.h"

/* ---- workspaces ---- */

#define AT(member) offsetof(struct workspace_spec, member)
static const struct field spec_fields[] = {
        { "name", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(name), NULL, 0, 200 },
        { "slug", FIELD_STR, FIELD_WIRE, AT(slug), NULL, 0, 64 },
        { "quota_bytes", FIELD_INT, FIELD_WIRE, AT(quota_bytes), NULL, 1, INT64_MAX },
        { "retention_seconds", FIELD_INT, FIELD_WIRE, AT(retention_seconds), NULL, 0, RETENTION_MAX,
          "trees that have ended so long ago are deleted; 0: never" },
        { "network_channels", FIELD_CAPS, FIELD_WIRE, AT(network_channels), .doc =
          "its runs may be in these channels alone; absent: in any" },
};
static const struct record spec_body = { "WorkspaceCreate", spec_fields, LENGTH(spec_fields),
                                         sizeof(struct workspace_spec), -1 };

static const struct field patch_fields[] = {
        { "name", FIELD_STR, FIELD_WIRE, AT(name), NULL, 1, 200 },
        { "slug", FIELD_STR, FIELD_WIRE, AT(slug), NULL, 1, 64 },
        { "quota_bytes", FIELD_INT, FIELD_WIRE, AT(quota_bytes), NULL, 1, INT64_MAX },
        { "retention_seconds", FIELD_INT, FIELD_WIRE, AT(retention_seconds), NULL, 0, RETENTION_MAX },
        { "network_channels", FIELD_CAPS, FIELD_WIRE | FIELD_CLEARS, AT(network_channels) },
        { "volume", FIELD_STR, FIELD_WIRE | FIELD_CLEARS, AT(volume), NULL, 1, 64,
          "where its files are from now on, and where its queued runs go; null: where the next worker is" },
        { "id", FIELD_STR, FIELD_WIRE | FIELD_FIXED, 0 },
        { "created_at", FIELD_STR, FIELD_WIRE | FIELD_FIXED, 0 },
};
enum { GIVEN_RETENTION = 1 << 3, GIVEN_CHANNELS = 1 << 4, GIVEN_VOLUME = 1 << 5 };
static const struct record patch_body = { "WorkspacePatch", patch_fields, LENGTH(patch_fields),
                                          sizeof(struct workspace_spec), AT(given) };

static enum err post_workspace(struct request *r, struct tx *tx)
{
        struct workspace *w = arena_new(&r->scope.arena, struct workspace);
        enum err e;

        if (!r->by.all_workspaces)
                return fail(&r->scope, ERR_PERMISSION_DENIED,
                            "this key is bound to one workspace");
        e = workspace_create(tx, &r->by, r->body, w);
        return e ? e : request_reply(r, 201, &workspace_record, w);
}

static enum err list_workspaces(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        struct list items;
        enum err e = workspace_list(tx, &r->by, page->before, (int)page->limit + 1, &items);

        return e ? e :
                   request_reply_list(r, &workspace_record, items, (int)page->limit,
                                      offsetof(struct workspace, uid));
}

static enum err get_workspace(struct request *r, struct tx *tx)
{
        struct workspace *w = arena_new(&r->scope.arena, struct workspace);
        enum err e = workspace_get(tx, &r->by, r->params[0], w);

        return e ? e : request_reply(r, 200, &workspace_record, w);
}

static enum err patch_workspace(struct request *r, struct tx *tx)
{
        struct workspace *w = arena_new(&r->scope.arena, struct workspace);
        struct workspace_spec *spec = r->body;
        enum err e;

        spec->keeps_retention = !(spec->given & GIVEN_RETENTION);
        spec->keeps_channels = !(spec->given & GIVEN_CHANNELS);
        spec->keeps_volume = !(spec->given & GIVEN_VOLUME);
        e = workspace_patch(tx, &r->by, r->params[0], spec, w);

        return e ? e : request_reply(r, 200, &workspace_record, w);
}

static enum err delete_workspace(struct request *r, struct tx *tx)
{
        r->status = 204;
        return workspace_delete(tx, &r->by, r->params[0]);
}

struct usage_reply {
        int64_t bytes, quota_bytes, files, tasks, runs_active;
};
static const struct field usage_fields[] = {
#define USAGE(member) \
        { #member, FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct usage_reply, member) }
        USAGE(bytes), USAGE(quota_bytes), USAGE(files), USAGE(tasks), USAGE(runs_active),
#undef USAGE
};
static const struct record usage_record = { "WorkspaceUsage", usage_fields, LENGTH(usage_fields),
                                            sizeof(struct usage_reply), -1 };

static enum err get_usage(struct request *r, struct tx *tx)
{
        const struct api_options *o = api_options(r->api);
        struct usage_reply *u = arena_new(&r->scope.arena, struct usage_reply);
        struct workspace w;
        enum err e = workspace_get(tx, &r->by, r->params[0], &w);

        if (!e)
                e = tx_number(tx, SQL_WORKSPACE_TASKS, &u->tasks, NAME(w.id));
        if (!e)
                e = tx_number(tx, SQL_WORKSPACE_RUNS, &u->runs_active, NAME(w.id));
        if (!e && o->usage)
                e = o->usage(o->hooks, &r->scope, &w, &u->bytes, &u->files);
        u->quota_bytes = w.quota_bytes;
        return e ? e : request_reply(r, 200, &usage_record, u);
}

const struct route workspace_routes[] = {
        { HTTP_POST, "/v1/workspaces", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT | ROUTE_CREATES,
          &spec_body, &workspace_record, post_workspace, CALL_CREATE, "Create a workspace" },
        { HTTP_GET, "/v1/workspaces", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_LIST, NULL, &workspace_record,
          list_workspaces, 0, "List workspaces", .filter = &page_filter_record },
        { HTTP_GET, "/v1/workspaces/{workspace}", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &workspace_record, get_workspace, 0, "Get a workspace" },
        { HTTP_PATCH, "/v1/workspaces/{workspace}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, &patch_body,
          &workspace_record, patch_workspace, CALL_CREATE, "Change a workspace" },
        { HTTP_DELETE, "/v1/workspaces/{workspace}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_workspace, CALL_CANCEL, "Delete a workspace in which nothing is open" },
        { HTTP_GET, "/v1/workspaces/{workspace}/usage", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL,
          &usage_record, get_usage, 0, "What a workspace uses" },
        { 0 },
};

/* ---- keys ---- */

struct key_body {
        struct str name, ref, session_id, agent_name, capabilities, workspace_id;
        int actor_kind;
        int64_t scopes, expires_at;
};
#undef AT
#define AT(member) offsetof(struct key_body, member)
static const struct field key_body_fields[] = {
        { "name", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(name), NULL, 0, 200 },
        { "actor_kind", FIELD_ENUM, FIELD_WIRE | FIELD_REQUIRED, AT(actor_kind), &actor_kind_names },
        { "ref", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(ref), NULL, 0, 200 },
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id), NULL, 1, 200 },
        { "agent_name", FIELD_STR, FIELD_WIRE, AT(agent_name), NULL, 1, 200 },
        { "capabilities", FIELD_CAPS, FIELD_WIRE, AT(capabilities) },
        { "scopes", FIELD_SET, FIELD_WIRE | FIELD_REQUIRED, AT(scopes), &key_scope_names },
        { "workspace_id", FIELD_STR, FIELD_WIRE, AT(workspace_id), NULL, 1, 64 },
        { "expires_at", FIELD_TIME, FIELD_WIRE, AT(expires_at) },
};
static const struct record key_body = { "KeyCreate", key_body_fields, LENGTH(key_body_fields),
                                        sizeof(struct key_body), -1 };

struct made_key {
        struct key key; /* first: its members are this one's too */
        struct str secret;
};
static const struct field made_key_fields[] = {
        { "key", FIELD_STR, FIELD_WIRE, offsetof(struct made_key, secret),
          .doc = "the text of the key; it is never shown again, and no replay has it" },
};
static const struct record made_key_record = { "KeyCreated", made_key_fields, 1,
                                               sizeof(struct made_key), -1, .base = &key_record };

static enum err post_key(struct request *r, struct tx *tx)
{
        const struct key_body *b = r->body;
        struct made_key *made = arena_new(&r->scope.arena, struct made_key);
        struct key_spec spec = { .name = b->name,
                                 .actor_kind = b->actor_kind,
                                 .ref = b->ref,
                                 .session_id = b->session_id,
                                 .agent_name = b->agent_name,
                                 .capabilities = b->capabilities,
                                 .scopes = (unsigned)b->scopes,
                                 .expires_at = b->expires_at,
                                 .workspace_id = r->by.all_workspaces ? STR_NONE :
                                                                        r->by.workspace };
        struct workspace w;
        enum err e = ERR_OK;

        if (b->workspace_id.p) {
                e = workspace_get(tx, &r->by, b->workspace_id, &w);
                spec.workspace_id = w.id;
        }
        if (!e)
                e = key_create(tx, &r->by, &spec, &made->key, &made->secret);
        return e ? e : request_reply(r, 201, &made_key_record, made);
}

static enum err list_keys(struct request *r, struct tx *tx)
{
        const struct paging *page = r->filter;
        struct list items;
        enum err e = key_list(tx, &r->by, page->before, (int)page->limit + 1, &items);

        return e ? e :
                   request_reply_list(r, &key_record, items, (int)page->limit,
                                      offsetof(struct key, id));
}

static enum err delete_key(struct request *r, struct tx *tx)
{
        int64_t id;
        enum err e = request_id(r, 0, "key", "key", &id);

        r->status = 204;
        return e ? e : key_revoke(tx, &r->by, id);
}

const struct route key_routes[] = {
        { HTTP_POST, "/v1/keys", SCOPE_ADMIN, ROUTE_WRITE,
          ROUTE_IDEMPOTENT | ROUTE_SECRET | ROUTE_CREATES, &key_body, &made_key_record, post_key, CALL_CREATE, "Create a key; its text is shown once" },
        { HTTP_GET, "/v1/keys", SCOPE_ADMIN, ROUTE_READ, ROUTE_LIST, NULL, &key_record, list_keys, 0,
          "List keys", .filter = &page_filter_record },
        { HTTP_DELETE, "/v1/keys/{key}", SCOPE_ADMIN, ROUTE_WRITE, ROUTE_IDEMPOTENT, NULL, NULL,
          delete_key, CALL_CANCEL, "Revoke a key" },
        { 0 },
};
