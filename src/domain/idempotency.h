/*
 * Idempotency-Key: the answer of the first request with a key is kept in the transaction that did
 * it.  Scope: workspace, key owner, operation.  The same body again gets the same answer; another
 * body is refused.  Kept for 48 h.  What was refused, or found nothing, leaves nothing.
 */
#ifndef BATON_DOMAIN_IDEMPOTENCY_H
#define BATON_DOMAIN_IDEMPOTENCY_H

#include "domain/principal.h"
#include "store/tx.h"

#define IDEMPOTENCY_AGE (48 * 3600 * US_PER_S)

struct idempotency {
        struct str digest;   /* SHA-256 of the request */
        int64_t status;      /* 0: begun, and not answered yet */
        struct str response; /* without secrets; of one that has begun, what it has begun */
};
extern const struct record idempotency_record;

/* ERR_EMPTY: not seen.  ERR_IDEMPOTENCY_MISMATCH: seen with another body. */
enum err idempotency_find(struct tx *, const struct principal *, struct str operation,
                          struct str key, struct str digest, struct idempotency *) NODISCARD;
/* Of one that had begun, the answer takes its place. */
enum err idempotency_keep(struct tx *, const struct principal *, struct str operation,
                          struct str key, const struct idempotency *) NODISCARD;
/* An answer that grants something was given once more. */
enum err idempotency_given_again(struct tx *, const struct principal *, struct str operation,
                                 struct str key) NODISCARD;
/* As if it had never been asked; ERR_EMPTY when what was kept at `kept` has been given again. */
enum err idempotency_drop(struct tx *, const struct principal *, struct str operation,
                          struct str key, int64_t kept) NODISCARD;

/* Settings of the database itself: secrets and marks. */
struct setting {
        struct str value;
};
extern const struct record setting_record;

#endif
