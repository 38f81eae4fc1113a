/* Verdicts: what a reviewer says of a run, and what follows from it: the task is done, goes on with a
 * continuation run, is judged once more or stops for a person (review.h). */
#ifndef BATON_DOMAIN_VERDICT_H
#define BATON_DOMAIN_VERDICT_H

#include "domain/review.h"

struct verdict {
        int64_t run_id; /* the review's, or 0 */
        int outcome;
        struct str confidence, reason, delivery_id, missing_work, next_round_guidance, review_text;
};
struct judged {
        struct review *review;
        struct run *continuation_run; /* NULL where there is none */
        bool circuit_opened;
};
/* Records it, always, with what follows.  The same delivery again is answered as the first time, another
 * verdict is ERR_CONFLICT. */
enum err verdict_submit(struct tx *, const struct principal *, int64_t review, const struct verdict *,
                        struct judged *) NODISCARD;
/* The same for a review that was read in this transaction and is open, unchecked. */
enum err verdict_record(struct tx *, const struct principal *, struct review *, const struct verdict *) NODISCARD;

#endif
