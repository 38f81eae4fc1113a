/* Why is this run not running?  As data. */
#ifndef BATON_DOMAIN_EXPLAIN_H
#define BATON_DOMAIN_EXPLAIN_H

#include "domain/run.h"

struct reason {
        struct str code, detail, resource;
        int64_t until;
};
struct explanation {
        int status;
        struct list reasons;
};
extern const struct record explanation_record, reason_record;

enum err run_explain(struct tx *, const struct principal *, int64_t run, struct explanation *) NODISCARD;

#endif
