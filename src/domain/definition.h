/* Stored definitions: numbered immutable versions of a document, and which one names which. */
#ifndef BATON_DOMAIN_DEFINITION_H
#define BATON_DOMAIN_DEFINITION_H

#include "domain/principal.h"
#include "store/tx.h"

struct definition_row {
        int64_t id;
        struct str workspace_id, name;
        int64_t version;
        struct str description, created_by;
        int64_t created_at, updated_at, archived_at;

        struct str spec; /* the document of the version asked for; not a column */
};
extern const struct record definition_record;

struct definition_version_row {
        int64_t definition_id, version;
        struct str document, created_by;
        int64_t created_at;
};
extern const struct record definition_version_record;

struct definition_text {
        struct str name, description, document;
        const struct str *references; /* names or ids that its steps use */
        size_t n_references;
};

/* ERR_CONFLICT for a taken name, ERR_SUBTASK_CYCLE, ERR_VALIDATION for an unknown reference. */
enum err definition_create(struct tx *, const struct principal *, const struct definition_text *,
                           struct definition_row *) NODISCARD;
/* A new version; `expected` is the version that the caller knows (ERR_VERSION_MISMATCH). */
enum err definition_update(struct tx *, const struct principal *, struct str id, int64_t expected,
                           const struct definition_text *, struct definition_row *) NODISCARD;
enum err definition_archive(struct tx *, const struct principal *, struct str id) NODISCARD;
/* By id text (def_…) or name; without the document. */
enum err definition_find(struct tx *, const struct principal *, struct str id,
                         struct definition_row *) NODISCARD;
/* What a step of definition `from` means by a reference: what it meant when that was saved, so that a
 * name that is used again later cannot close a cycle.  Archived ones are missing. */
enum err definition_referred(struct tx *, const struct principal *, int64_t from,
                             struct str reference, struct definition_row *) NODISCARD;
/* Fills spec; version 0 = the newest. */
enum err definition_document(struct tx *, struct definition_row *, int64_t version) NODISCARD;
/* Whether the sub-tasks of one lead to the other. */
enum err definition_reaches(struct tx *, int64_t from, int64_t to, bool *out) NODISCARD;
enum err definition_list(struct tx *, const struct principal *, int64_t before, int limit,
                         struct list *) NODISCARD;
/* Newest first, those before a version; 0 = from the newest. */
enum err definition_versions(struct tx *, int64_t id, int64_t before, int limit,
                             struct list *) NODISCARD;

#endif
