/*
 * The audit log: one row for each change of who may do what, written in the transaction of the
 * change.
 *
 * Its rows form one chain over all workspaces: each holds the hash of the row before it (64 zeros
 * in the first) and its own, SHA-256 over audit_encode().  One chain and not one for each
 * workspace: then no workspace's rows can vanish as a whole, the order between workspaces is
 * proven, and one digest stands for everything.  Who sees one workspace alone can check each of its
 * rows, but not that there are no others.
 */
#ifndef BATON_DOMAIN_AUDIT_H
#define BATON_DOMAIN_AUDIT_H

#include "core/buf.h"
#include "domain/principal.h"
#include "store/tx.h"

enum audit_action {
#define AUDIT(code, number, name) AUDIT_##code = number,
#include "domain/audit.def"
#undef AUDIT
};
extern const struct names audit_action_names;

enum { AUDIT_HASH = 64 }; /* digits of a hash in hex */
#define AUDIT_NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"

struct audit_entry {
        int64_t id, at;
        struct str actor;
        int64_t key_id;
        struct str origin;
        int action;
        struct str resource, workspace_id, detail, before, after, previous, hash;
};
extern const struct record audit_record;

/* What an operation tells of itself. */
struct audit_change {
        enum audit_action action;
        struct str resource, workspace;
        struct str detail;        /* for people; absent: nothing */
        struct str before, after; /* audit_digest(), absent where it did not exist */
};
enum err audit_append(struct tx *, const struct principal *, const struct audit_change *) NODISCARD;
/* SHA-256, in hex, of the record's stored members as compact JSON. */
struct str audit_digest(struct tx *, const struct record *, const void *);
/* "task_0c5q8v2k7m1xa" */
struct str audit_id(struct tx *, const char *prefix, int64_t id);

struct audit_filter {
        int64_t before, since, until;          /* id; times, 0 = any */
        struct str workspace, resource, actor; /* absent = any */
        int action;                            /* -1 = any */
        int limit;
};
/* Newest first.  Who may see what is the caller's to say: workspace. */
enum err audit_list(struct tx *, const struct audit_filter *, struct list *) NODISCARD;
/* The hash of the newest row as it was kept beside the rows. */
enum err audit_head(struct tx *, struct str *hash) NODISCARD;

/*
 * The bytes that a hash is made of, so that anybody can check it: a netstring (<length>:<bytes>,)
 * for each of "baton-audit-1", id, at, actor as kind:ref, key_id, origin as kind:ref, action,
 * resource, workspace_id, detail, before, after, previous; as the API writes them, absent ones
 * empty.
 */
void audit_encode(struct buf *, const struct audit_entry *);
void audit_hash(const struct audit_entry *, char hex[AUDIT_HASH + 1]);

#endif
