/*
 * Queue: calls that wait for the writer or a reader, oldest first.  The caller holds the store's lock.
 *
 * `sheds`: once more than 64 wait, a call is refused on arrival while the oldest has waited for
 * QUEUE_ADMIT_US; on the writer also instead of being served, when it itself has waited for
 * QUEUE_PATIENCE_US.  So those who are served under overload are served while they still listen.
 */
#ifndef BATON_STORE_QUEUE_H
#define BATON_STORE_QUEUE_H

#include "core/time.h"
#include "store/call.h"

#define QUEUE_ADMIT_US (500 * US_PER_MS)
#define QUEUE_PATIENCE_US (1 * US_PER_S)

struct queue {
        struct call *first, **last;
        size_t n;
        bool sheds;
        int64_t turns; /* how often calls were taken from it */
};

void queue_init(struct queue *, bool sheds);
void queue_push(struct queue *, struct call *);
void queue_push_front(struct queue *, struct call *);
struct call *queue_pop(struct queue *); /* NULL = empty */
/* Whether the oldest has waited for longer than this, and was passed over: a disk that stalls makes
 * everybody old, and is no overload. */
bool queue_is_late(const struct queue *, int64_t now, int64_t most);

#endif
