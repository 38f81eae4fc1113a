/*
 * Deliveries: an event on its way to a webhook.  They are made from the committed log, by whoever
 * sends them, a page at a time: what commits events knows nothing of webhooks.  A delivery keeps
 * its id and its body through every attempt and replay; it ends delivered or dead.
 */
#ifndef BATON_DOMAIN_DELIVERY_H
#define BATON_DOMAIN_DELIVERY_H

#include "domain/retry.h"
#include "domain/webhook.h"

enum delivery_status { DELIVERY_PENDING, DELIVERY_DELIVERED, DELIVERY_DEAD };
extern const struct names delivery_status_names;

enum {
        DELIVERIES_PAGE = 200,     /* made in one transaction */
        DELIVERIES_PENDING = 2000, /* of a webhook; beyond that its cursor waits in the log */
        PAYLOAD_MAX = 16384,       /* of an event, in a body; a larger one is left out */
        RESPONSE_KEPT = 1024,
};

struct delivery {
        int64_t id, webhook_id;
        int type;
        int64_t tree_id, sequence, task_id, run_id;
        struct str body;
        int status;
        int64_t attempts, next_attempt_at, response_status;
        struct str response, error;
        int64_t duration_ms, created_at, finished_at;
};
extern const struct record delivery_record;
/* An event with what a body tells beside it; private, but the statement that reads it has to know.
 */
extern const struct record occurrence_record;

/* ---- making them ---- */

/* What a webhook has to be sent of the events after its cursor. */
struct finding {
        int64_t webhook, from, to; /* its cursor as it was and as it becomes */
        struct list deliveries;    /* without ids */
};
/*
 * What is remembered from one look to the next, so that the log is read once for all webhooks of workspaces in which
 * nothing happens.  It begins as zeros and may be lost at any time: the cursors are what counts.
 */
struct lookout {
        int64_t last;                 /* webhook that was looked for last */
        int64_t passed;               /* the place up to which the log has been read for all; 0: it is not known */
        int64_t tree, sequence;       /* of the event there: while it is there, no place before it was given anew */
        struct lookout_place *places; /* by webhook; its own */
        size_t n;
        bool more; /* there is more of the log to be read at once */
};
void lookout_free(struct lookout *);
/* At most DELIVERIES_PAGE in all.  For a reader. */
enum err deliveries_find(struct tx *, struct lookout *, struct list *findings) NODISCARD;
/* Those of webhooks that have changed meanwhile are dropped, and found again. */
enum err deliveries_make(struct tx *, struct list findings) NODISCARD;

/* ---- sending them ---- */

/* 0 when there is no webhook, and so nothing to make, send or trim. */
enum err deliveries_expected(struct tx *, int64_t *any) NODISCARD;
/* Pending ones whose time has come, at most `each` of a webhook, oldest first: id, webhook_id. */
enum err deliveries_due(struct tx *, int each, int64_t **pairs, size_t *n) NODISCARD;

/* A request, ready to be sent; the texts live in the scope's arena. */
struct posting {
        int64_t delivery, webhook, attempts; /* attempts so far */
        struct str url, id, timestamp, signature, body;
};
/* For a reader.  ERR_EMPTY when there is nothing to be sent any more; ERR_UNAVAILABLE, with the
 * numbers set, when the key does not open. */
enum err delivery_prepare(struct tx *, int64_t id, struct posting *) NODISCARD;

struct sent {
        int64_t delivery, webhook, attempts; /* of the posting */
        int64_t status;                      /* 0 = there was no answer */
        struct str response, error;
        int64_t duration_ms;
        int64_t retry_after_s; /* what the receiver asked for, 0 = nothing */
        int outcome;           /* set by delivery_sent(): enum delivery_status */
};
/* 2xx ends it, 410 ends it and disables the webhook, anything else comes again by the policy until
 * that ends.  Success after several failures brings forward what else waits for the receiver. */
enum err delivery_sent(struct tx *, const struct task_retry *policy, struct sent *) NODISCARD;

/* ---- for people ---- */

struct delivery_counts {
        int64_t delivered, failed; /* attempts since the start */
        int64_t dead;              /* deliveries given up */
        int64_t active;            /* requests under way */
};

enum err delivery_list(struct tx *, const struct principal *, int64_t webhook, int status,
                       int64_t before, int limit, struct list *) NODISCARD;
/* Once more from the first attempt on, at once; the same id and body. */
enum err delivery_replay(struct tx *, const struct principal *, int64_t webhook, int64_t id,
                         struct delivery *) NODISCARD;

/* Drops a piece of what ended before, of what belongs to deleted webhooks, and what is remembered
 * of deleted tasks.  *more: there may be more of it. */
enum err deliveries_trim(struct tx *, int64_t ended_before, bool *more) NODISCARD;

#endif
