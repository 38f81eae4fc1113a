/*
 * Secrets: named texts of a workspace that steps may be given and nobody can read back.  Stored
 * sealed (XChaCha20-Poly1305) under struct domain's vault, which lies in a file outside the
 * database.  The workspace and the name are authenticated with the value: a row that was moved does
 * not open.
 */
#ifndef BATON_DOMAIN_SECRET_H
#define BATON_DOMAIN_SECRET_H

#include "domain/principal.h"
#include "store/tx.h"

enum {
        SECRET_MIN = 4, /* bytes without line ends: what is shorter cannot be found in outputs */
        SECRET_MAX = 16384,  /* bytes of one value */
        SECRETS_MAX = 65536, /* bytes of all values of a workspace, as sealed */
        SECRET_NAME_MAX = 64,
};

struct secret {
        struct str workspace_id, name, nonce, sealed;
        int64_t created_at, updated_at;
};
extern const struct record secret_record; /* on the wire: name and times */

/* Letters, digits, _ - . ; begins with a letter or _. */
bool secret_name_is_valid(struct str);

/* Makes or replaces it in the principal's workspace. */
enum err secret_put(struct tx *, const struct principal *, struct str name,
                    struct str value) NODISCARD;
/* By name; the values stay sealed. */
enum err secret_list(struct tx *, const struct principal *, struct list *) NODISCARD;
enum err secret_delete(struct tx *, const struct principal *, struct str name) NODISCARD;

/* The sealing itself, for other nouns' secrets.  `bound` says whose value it is and must be the same
 * at both ends; no two values' are alike. */
struct sealed {
        struct str nonce, text;
};
struct sealed secret_seal(struct tx *, struct str bound, struct str value);
/* Into memory of its own, for secret_wipe(); absent when it was changed or belongs to another key. */
struct str secret_unseal(struct tx *, struct str bound, struct sealed);
void secret_wipe(struct str);

/* A workspace's secrets, opened.  The memory is their own, and wiped when they are done with. */
struct secrets {
        struct secret_value {
                struct str name, value; /* value absent: it does not open with this key */
        } * items;
        size_t n;
};
enum err secrets_open(struct tx *, struct str workspace, struct secrets *out) NODISCARD;
void secrets_done(struct secrets *); /* of none is fine */

#endif
