/*
 * Keys: 256 random bits shown once, stored as SHA-256.  A key says who acts: actor, session, agent
 * name, most capabilities, scopes, workspace.  Text form: btn_ and 52 digits of base 32.
 */
#ifndef BATON_DOMAIN_KEY_H
#define BATON_DOMAIN_KEY_H

#include "domain/principal.h"
#include "store/tx.h"

struct key {
        int64_t id;
        struct str digest, name, actor, session_id, agent_name, capabilities;
        int64_t scopes;
        struct str workspace_id, created_by;
        int64_t created_at, expires_at, revoked_at;
};
extern const struct record key_record;

enum actor_kind { ACTOR_HUMAN }; /* and the others of actor_kind_names */
extern const struct names actor_kind_names;
/* SCOPE_… bits, in their order. */
extern const struct names key_scope_names;

struct key_spec {
        struct str name;
        int actor_kind;
        struct str ref;
        struct str session_id, agent_name, capabilities;
        unsigned scopes;
        struct str workspace_id;
        int64_t expires_at;
};

/* Makes a key; *secret (in the arena) is the only copy of its text there will ever be. */
enum err key_create(struct tx *, const struct principal *by, const struct key_spec *, struct key *,
                    struct str *secret) NODISCARD;
/* The first start's: human:admin with every scope.  For store_run(); arg is the struct str *secret. */
enum err key_create_admin(struct tx *, void *arg) NODISCARD;
/* The live key of this text, or ERR_UNAUTHENTICATED. */
enum err key_find(struct tx *, struct str text, struct key *) NODISCARD;
enum err key_list(struct tx *, const struct principal *, int64_t before, int limit,
                  struct list *) NODISCARD;
enum err key_revoke(struct tx *, const struct principal *, int64_t id) NODISCARD;

void key_digest(struct str text, unsigned char digest[32]);

#endif
