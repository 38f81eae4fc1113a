/*
 * Policy: the webhook of a workspace that is asked before somebody outside may claim
 * (task.run.pre_claim).  The question is signed in the claim's first turn, which does nothing else;
 * it is sent outside of any transaction, and the claim's next turn acts on the answer.  An answer
 * can deny or narrow, never widen; none within POLICY_MS denies.
 */
#ifndef BATON_DOMAIN_POLICY_H
#define BATON_DOMAIN_POLICY_H

#include "domain/claim.h"
#include "domain/webhook.h"

enum { POLICY_MS = 500 };

enum policy_state { POLICY_UNKNOWN, POLICY_ASKS, POLICY_ALLOWS, POLICY_DENIES, POLICY_SILENT };

/* Of one claim; the texts live in its scope's arena. */
struct policy {
        enum policy_state state;
        struct str url, id, timestamp, signature, body; /* POLICY_ASKS: the request */
        struct str reason;                              /* of DENIES or SILENT */
        int64_t priority_min;                           /* of ALLOWS: at least */
        struct str capabilities;                        /* of ALLOWS: only these, if `narrows` */
        bool narrows;
};

/*
 * Narrows the claim by the answer; ERR_PERMISSION_DENIED when it is denied, ERR_UNAVAILABLE when
 * nothing was answered.  ERR_EMPTY with POLICY_ASKS: the question has to be asked first.  Without
 * any policy on this server it costs no statement.
 */
enum err policy_apply(struct tx *, const struct principal *, struct policy *,
                      struct claim_request *) NODISCARD;

#endif
