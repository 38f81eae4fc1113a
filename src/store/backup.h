/*
 * Backups of a database in a file, and what brings one back.  The caller sees to it that no server uses
 * the place that is written to.
 */
#ifndef BATON_STORE_BACKUP_H
#define BATON_STORE_BACKUP_H

#include "store/store.h"

/*
 * Writes a whole copy of the database `from`, as it is at one moment, to the file `to`; servers may use
 * the one meanwhile and write to it.  It is one file, without a log beside it.  ERR_CONFLICT: `to` is
 * there and may not be replaced.
 */
enum err store_backup(struct scope *, const char *from, const char *to, bool replace) NODISCARD;
/* The other way; a database that is at `to` is kept as *aside, NULL: there was none. */
enum err store_restore(struct scope *, const char *from, const char *to, bool replace, const char **aside) NODISCARD;

/*
 * Looks at a database without changing it: what the engine says of its pages, whether it has the tables
 * and columns of this program's schema.  *faults: struct str, a sentence each; none = it is sound.
 * *current: it has this program's schema, so that its statements can be asked.
 */
enum err store_verify(struct scope *, const char *path, const struct migration *, size_t n, struct list *faults,
                      bool *current) NODISCARD;

#endif
