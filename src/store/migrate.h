/* Migrations: embedded, numbered, checksummed, forward only. Private to this folder. */
#ifndef BATON_STORE_MIGRATE_H
#define BATON_STORE_MIGRATE_H

#include "store/engine.h"

/* Applies what is missing, all or nothing.  Refuses a database whose newest migration says that
 * this program is too old for it, one whose applied text was changed, and, where programs share it,
 * what one that has it open would be too old for.  From then on this program counts as one that has
 * it open. */
enum err migrate(struct tx *, int own, const struct migration *, size_t n) NODISCARD;
/* The same within an open transaction, for one that does not stay. */
enum err migrate_within(struct tx *, int own, const struct migration *, size_t n) NODISCARD;
/* The refusals alone; `applied` holds rows of MIGRATION_APPLIED. */
enum err migrations_check(struct scope *, const struct list *applied, const struct migration *,
                          size_t n) NODISCARD;
/* What a program that opens its database again must ask: another one may have migrated it
 * meanwhile. */
enum err migrations_again(struct tx *, int own, const struct migration *, size_t n) NODISCARD;
/* Reads into memory what it does not know of the table of names. */
enum err names_load(struct tx *, int own) NODISCARD;

/* The store's own statements, the last of every registry; `own` is the number of the first. */
enum {
        MIGRATION_APPLIED,
        MIGRATION_ADD,
        MIGRATION_NEEDS,
        SCHEMA_KNOWN,
        SCHEMA_OLDER,
        NAME_NEWER,
        NAME_GET,
        NAME_ID,
        NAME_ADD,
        STORE_STATEMENTS
};
struct applied {
        int64_t number, min_compatible;
        struct str checksum;
};
struct name_row {
        int64_t id;
        struct str text;
};
extern const struct statement store_statements[STORE_STATEMENTS];
/* Those given, then the store's own; to be freed. */
struct statement *registry_build(const struct statement *, size_t n);

#endif
