/*
 * The SQLite engine, private to this folder: connections, statements, transactions.  One engine is
 * one connection, used by one thread.
 */
#ifndef BATON_STORE_ENGINE_H
#define BATON_STORE_ENGINE_H

#include "store/names.h"
#include "store/store.h"

struct engine;

enum engine_mode { ENGINE_WRITER, ENGINE_READER };

enum err engine_open(struct scope *, const char *path, enum engine_mode,
                     const struct statement *, size_t n, struct engine **) NODISCARD;
void engine_close(struct engine *);
/* Runs text of several statements, outside the registry (migrations, pragmas). */
enum err engine_script(struct scope *, struct engine *, const char *sql) NODISCARD;
enum err engine_prepare_all(struct scope *, struct engine *) NODISCARD;

enum err engine_begin(struct scope *, struct engine *) NODISCARD;
enum err engine_commit(struct scope *, struct engine *) NODISCARD;
void engine_rollback(struct engine *);
enum err engine_savepoint(struct scope *, struct engine *) NODISCARD;
enum err engine_release(struct scope *, struct engine *) NODISCARD;
enum err engine_rollback_to(struct scope *, struct engine *) NODISCARD;
/* ERR_STORAGE_FULL or ERR_UNAVAILABLE once disk, file or memory failed since engine_begin(), whatever
 * the operation made of it: nothing of the transaction may be committed. */
enum err engine_failure(struct engine *);

/* Copies committed pages home; truncate also waits and empties the log. */
enum err engine_checkpoint(struct scope *, struct engine *, bool truncate);
/* Bytes of the log that no checkpoint has copied home yet. */
int64_t engine_wal_bytes(struct engine *);

struct tx {
        struct engine *engine;
        struct names_table *names;
        struct scope *scope;
        void *context;
        bool writing;
        size_t writes; /* writing statements since the call began */
        struct hint *hints;
        size_t n_hints, size_hints;
        enum tick_again again;
        bool full;
};

#endif
