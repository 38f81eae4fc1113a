/*
 * Webhooks: where the events of a workspace are sent to.  Requests are signed as Standard Webhooks
 * says, with a key of 32 random bytes that is shown once, as whsec_ and base64, and kept sealed.
 */
#ifndef BATON_DOMAIN_WEBHOOK_H
#define BATON_DOMAIN_WEBHOOK_H

#include "domain/principal.h"
#include "store/tx.h"

/* The hook point that is no event: who claims waits for its answer (policy.h). */
#define WEBHOOK_PRE_CLAIM "task.run.pre_claim"

enum { WEBHOOKS_MAX = 32 /* of a workspace */, WEBHOOK_URL_MAX = 2048, WEBHOOK_TEXT_MAX = 1000 };

struct webhook {
        int64_t id;
        struct str workspace_id, url, description;
        struct str events; /* "a,b"; absent = all */
        bool asks;         /* among them is WEBHOOK_PRE_CLAIM */
        bool enabled;
        struct str disabled_reason, nonce, sealed;
        int64_t cursor; /* pos of the last event that it has seen */
        struct str created_by;
        int64_t created_at, updated_at, deleted_at;
};
extern const struct record webhook_record;

/* A change; `given` has the bit of each field present (order of the body's record). */
struct webhook_patch {
        uint64_t given;
        struct str url, events, description;
        bool enabled;
};
enum {
        WEBHOOK_URL = 1,
        WEBHOOK_EVENTS = 2,
        WEBHOOK_DESCRIPTION = 4,
        WEBHOOK_ENABLED = 8,
};

/* It hears of what is committed from now on.  The URL was checked by the caller; *secret (in the
 * arena) is the only copy of its text there will ever be. */
enum err webhook_create(struct tx *, const struct principal *, const struct webhook_patch *,
                        struct webhook *, struct str *secret) NODISCARD;
enum err webhook_get(struct tx *, const struct principal *, int64_t id, struct webhook *) NODISCARD;
enum err webhook_list(struct tx *, const struct principal *, int64_t before, int limit,
                      struct list *) NODISCARD;
/* One that is enabled again goes on with what is committed from now on. */
enum err webhook_update(struct tx *, const struct principal *, int64_t id,
                        const struct webhook_patch *, struct webhook *) NODISCARD;
/* Its deliveries go after it, in pieces (deliveries_trim()). */
enum err webhook_delete(struct tx *, const struct principal *, int64_t id) NODISCARD;

/* The receiver wants nothing more. */
enum err webhook_disable(struct tx *, int64_t id, struct str reason) NODISCARD;

/* Event types, by number. */
struct type_set {
        uint64_t bits[2];
};
struct type_set webhook_types(const struct webhook *);
/* The hook point that an event type is, or NULL. */
const char *webhook_hook(int type);

/* "v1,<base64>": HMAC-SHA256 of id.timestamp.body, in the arena. */
struct str webhook_signature(struct arena *, struct str key, struct str id, struct str timestamp,
                             struct str body);
/* The key, into memory of its own for secret_wipe(); absent when it does not open. */
struct str webhook_key(struct tx *, const struct webhook *);

#endif
