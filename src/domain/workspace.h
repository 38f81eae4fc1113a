/* Workspaces: tenant and directory.  The integer key is the number of the UUID among the names. */
#ifndef BATON_DOMAIN_WORKSPACE_H
#define BATON_DOMAIN_WORKSPACE_H

#include "domain/principal.h"
#include "store/tx.h"

#define SYSTEM_WORKSPACE "00000000-0000-0000-0000-000000000000"
#define DEFAULT_QUOTA (INT64_C(5) << 30)
#define FIRST_WORKSPACE_UID 200000
#define RETENTION_MAX (INT64_C(3660) * 86400) /* ten years */

struct workspace {
        struct str id; /* UUID */
        struct str name, slug;
        int64_t uid, quota_bytes, retention_seconds, created_at; /* retention 0: for ever */
        struct str network_channels; /* absent: its runs may be in any */
        int64_t deleted_at; /* the row stays, so that its uid is never another's */
        struct str volume;  /* where its files are; absent: nowhere yet, or the store is a file */
};
extern const struct record workspace_record;

struct workspace_spec {
        struct str name, slug, network_channels, volume;
        int64_t quota_bytes, retention_seconds;
        bool keeps_retention, keeps_channels, keeps_volume; /* of a patch: leave it as it is */
        uint64_t given;
};

enum err workspace_create(struct tx *, const struct principal *, const struct workspace_spec *,
                          struct workspace *) NODISCARD;
/* By UUID or slug, as far as the principal may see it. */
enum err workspace_get(struct tx *, const struct principal *, struct str id,
                       struct workspace *) NODISCARD;
/* The same for who may change it: ERR_PERMISSION_DENIED with a key that is bound to it. */
enum err workspace_for_change(struct tx *, const struct principal *, struct str id,
                              struct workspace *) NODISCARD;
/* Absent texts and 0 stay as they are. */
enum err workspace_patch(struct tx *, const struct principal *, struct str id,
                         const struct workspace_spec *, struct workspace *) NODISCARD;
/* Those that the principal sees, newest first, by their uids; before 0: from the newest. */
enum err workspace_list(struct tx *, const struct principal *, int64_t before, int limit,
                        struct list *out) NODISCARD;
/* Creates the default and the system workspace in a fresh database. */
enum err workspace_boot(struct tx *, const struct principal *) NODISCARD;

#endif
