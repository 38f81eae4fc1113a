#include "domain/definition.h"

#include "core/failpoint.h"
#include "domain/audit.h"
#include "domain/sql.h"

#define AT(member) offsetof(struct definition_row, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE };
static const struct field definition_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "def" },
        { "workspace_id", FIELD_NAME, BOTH | FIELD_REQUIRED, AT(workspace_id) },
        { "name", FIELD_STR, BOTH | FIELD_REQUIRED, AT(name) },
        { "version", FIELD_INT, BOTH | FIELD_REQUIRED, AT(version) },
        { "description", FIELD_STR, BOTH, AT(description) },
        { "spec", FIELD_JSON, FIELD_WIRE, AT(spec) },
        { "created_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(created_by) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "updated_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(updated_at) },
        { "archived_at", FIELD_TIME, BOTH, AT(archived_at) },
};
const struct record definition_record = { "Definition", definition_fields,
                                          LENGTH(definition_fields),
                                          sizeof(struct definition_row), -1 };
#undef AT
#define AT(member) offsetof(struct definition_version_row, member)
static const struct field version_fields[] = {
        { "definition_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(definition_id), "def" },
        { "version", FIELD_INT, BOTH | FIELD_REQUIRED, AT(version) },
        { "document", FIELD_JSON, FIELD_COLUMN, AT(document) },
        { "created_by", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(created_by) },
        { "created_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(created_at) },
        { "spec", FIELD_JSON, FIELD_WIRE | FIELD_REQUIRED, AT(document) },
};
const struct record definition_version_record = { "DefinitionVersion", version_fields,
                                                  LENGTH(version_fields),
                                                  sizeof(struct definition_version_row), -1 };

enum err definition_find(struct tx *tx, const struct principal *by, struct str id,
                         struct definition_row *out)
{
        struct definition_row row;
        int64_t number;
        enum err e;

        if (id_parse("def", id, &number))
                e = tx_one(tx, SQL_DEFINITION_GET, &row, INT(number));
        else
                e = tx_one(tx, SQL_DEFINITION_BY_NAME, &row, NAME(by->workspace), TEXT(id));
        if (e == ERR_EMPTY || (!e && !str_eq(row.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "definition");
        if (!e)
                *out = row;
        return e;
}

enum err definition_referred(struct tx *tx, const struct principal *by, int64_t from,
                             struct str reference, struct definition_row *out)
{
        enum err e = tx_one(tx, SQL_REFERENCE_BY_WORD, out, INT(from), TEXT(reference));
        if (e == ERR_EMPTY)
                e = definition_find(tx, by, reference, out);
        if (!e && out->archived_at)
                return fail_missing(tx_scope(tx), "definition");
        return e;
}

enum err definition_document(struct tx *tx, struct definition_row *row, int64_t version)
{
        struct definition_version_row found;
        enum err e = tx_one(tx, SQL_VERSION_GET, &found, INT(row->id),
                            INT(version ? version : row->version));

        if (e == ERR_EMPTY)
                return fail_missing(tx_scope(tx), "definition version");
        if (!e) {
                row->spec = found.document;
                row->version = found.version;
        }
        return e;
}

enum err definition_reaches(struct tx *tx, int64_t from, int64_t to, bool *out)
{
        int64_t found;
        enum err e = tx_number(tx, SQL_REFERENCE_REACHES, &found, INT(from), INT(to));

        *out = !e;
        return e == ERR_EMPTY ? ERR_OK : e;
}

/* What the references mean now; everything is read before anything is written. */
static enum err resolve(struct tx *tx, const struct principal *by, int64_t own, struct str name,
                        const struct definition_text *text, int64_t *ids)
{
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < text->n_references; i++) {
                struct str reference = text->references[i];
                struct definition_row to = { 0 };
                bool back = str_eq(reference, name);

                if (!back)
                        e = definition_find(tx, by, reference, &to);
                if (e == ERR_NOT_FOUND || (!e && to.archived_at))
                        return fail_field(tx_scope(tx), "steps", ERR_VALIDATION,
                                          "a step refers to the definition \"" STR_FMT
                                          "\", which does not exist; create it first",
                                          STR_ARG(reference));
                if (!e && !back && own)
                        e = definition_reaches(tx, to.id, own, &back);
                if (!e && back)
                        return fail_field(tx_scope(tx), "steps", ERR_SUBTASK_CYCLE,
                                          "the sub-task \"" STR_FMT "\" leads back to \"" STR_FMT
                                          "\": definitions must not form a cycle",
                                          STR_ARG(reference), STR_ARG(name));
                ids[i] = to.id;
        }
        return e;
}

static enum err refer(struct tx *tx, const struct definition_row *row,
                      const struct definition_text *text, const int64_t *ids)
{
        enum err e = failpoint(tx_scope(tx), FAILPOINT_DEFINITION_SAVED);

        if (!e)
                e = tx_exec(tx, SQL_REFERENCE_DROP, INT(row->id));
        for (size_t i = 0; !e && i < text->n_references; i++)
                e = tx_exec(tx, SQL_REFERENCE_ADD, INT(row->id), INT(ids[i]),
                            TEXT(text->references[i]));
        return e;
}

static enum err name_is_free(struct tx *tx, const struct principal *by, struct str name,
                             int64_t except)
{
        struct definition_row row;
        enum err e = tx_one(tx, SQL_DEFINITION_BY_NAME, &row, NAME(by->workspace), TEXT(name));

        if (e == ERR_EMPTY || (!e && row.id == except))
                return ERR_OK;
        return e ? e :
                   fail_field(tx_scope(tx), "name", ERR_CONFLICT,
                              "a definition named \"" STR_FMT "\" exists already; update it with"
                              " PUT and If-Match: \"%lld\"",
                              STR_ARG(name), (long long)row.version);
}

static enum err add_version(struct tx *tx, const struct principal *by,
                            const struct definition_text *text, struct definition_row *row)
{
        row->spec = text->document;
        return tx_exec(tx, SQL_VERSION_ADD, INT(row->id), INT(row->version), TEXT(text->document),
                       NAME(by->actor), INT(tx_now(tx)));
}

static struct str version_digest(struct tx *tx, const struct definition_version_row *version)
{
        return audit_digest(tx, &definition_version_record, version);
}

/* The version that was made, after the one that it replaces. */
static enum err tell_version(struct tx *tx, const struct principal *by,
                             const struct definition_row *row,
                             const struct definition_version_row *before)
{
        struct definition_version_row after;
        enum err e = tx_one(tx, SQL_VERSION_GET, &after, INT(row->id), INT(row->version));
        const struct audit_change change = {
                .action = before ? AUDIT_DEFINITION_CHANGED : AUDIT_DEFINITION_CREATED,
                .resource = audit_id(tx, "def", row->id),
                .workspace = row->workspace_id,
                .detail = arena_printf(&tx_scope(tx)->arena, STR_FMT " version %lld",
                                       STR_ARG(row->name), (long long)row->version),
                .before = before ? version_digest(tx, before) : STR_NONE,
                .after = e ? STR_NONE : version_digest(tx, &after),
        };

        return e ? e : audit_append(tx, by, &change);
}

enum err definition_create(struct tx *tx, const struct principal *by,
                           const struct definition_text *text, struct definition_row *out)
{
        int64_t *ids = arena_array(&tx_scope(tx)->arena, int64_t, text->n_references + 1);
        enum err e = name_is_free(tx, by, text->name, 0);

        if (!e)
                e = resolve(tx, by, 0, text->name, text, ids);
        if (e)
                return e;
        *out = (struct definition_row){ .id = scope_id(tx_scope(tx)),
                                        .workspace_id = by->workspace,
                                        .name = text->name,
                                        .version = 1,
                                        .description = text->description,
                                        .created_by = by->actor,
                                        .created_at = tx_now(tx),
                                        .updated_at = tx_now(tx) };
        e = tx_insert(tx, SQL_DEFINITION_ADD, out);
        if (!e)
                e = add_version(tx, by, text, out);
        if (!e)
                e = refer(tx, out, text, ids);
        return e ? e : tell_version(tx, by, out, NULL);
}

enum err definition_update(struct tx *tx, const struct principal *by, struct str id,
                           int64_t expected, const struct definition_text *text,
                           struct definition_row *out)
{
        struct definition_version_row before = { 0 };
        int64_t *ids = arena_array(&tx_scope(tx)->arena, int64_t, text->n_references + 1);
        enum err e = definition_find(tx, by, id, out);

        if (e)
                return e;
        if (out->archived_at)
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION, "the definition is archived");
        if (out->version != expected)
                return fail(tx_scope(tx), ERR_VERSION_MISMATCH,
                            "the newest version is %lld; read it and send If-Match: \"%lld\"",
                            (long long)out->version, (long long)out->version);
        e = name_is_free(tx, by, text->name, out->id);
        if (!e)
                e = resolve(tx, by, out->id, text->name, text, ids);
        if (!e)
                e = tx_one(tx, SQL_VERSION_GET, &before, INT(out->id), INT(out->version));
        if (e)
                return e;
        out->version++;
        out->name = text->name;
        out->description = text->description;
        out->updated_at = tx_now(tx);
        e = tx_exec(tx, SQL_DEFINITION_SET, INT(out->id), INT(out->version),
                    TEXT(out->description), INT(out->updated_at), TEXT(out->name));
        if (!e)
                e = add_version(tx, by, text, out);
        if (!e)
                e = refer(tx, out, text, ids);
        return e ? e : tell_version(tx, by, out, &before);
}

enum err definition_archive(struct tx *tx, const struct principal *by, struct str id)
{
        struct audit_change change = { .action = AUDIT_DEFINITION_ARCHIVED };
        struct definition_row row;
        enum err e = definition_find(tx, by, id, &row);

        if (e || row.archived_at)
                return e;
        change.resource = audit_id(tx, "def", row.id);
        change.workspace = row.workspace_id;
        change.detail = row.name;
        change.before = audit_digest(tx, &definition_record, &row);
        row.archived_at = tx_now(tx);
        change.after = audit_digest(tx, &definition_record, &row);
        e = tx_exec(tx, SQL_DEFINITION_ARCHIVE, INT(row.id), INT(row.archived_at));
        return e ? e : audit_append(tx, by, &change);
}

enum err definition_list(struct tx *tx, const struct principal *by, int64_t before, int limit,
                         struct list *out)
{
        return tx_all(tx, SQL_DEFINITION_LIST, out, NAME(by->workspace), INT(before), INT(limit));
}

enum err definition_versions(struct tx *tx, int64_t id, int64_t before, int limit, struct list *out)
{
        return tx_all(tx, SQL_VERSION_LIST, out, INT(id), INT(before), INT(limit));
}
