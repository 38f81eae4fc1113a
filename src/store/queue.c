#include "store/queue.h"

enum { BACKLOG = 64 }; /* calls that may wait however long the disk takes */

void queue_init(struct queue *q, bool sheds)
{
        *q = (struct queue){ .last = &q->first, .sheds = sheds };
}

void queue_push(struct queue *q, struct call *call)
{
        call->next = NULL;
        call->queued_turn = q->turns;
        *q->last = call;
        q->last = &call->next;
        q->n++;
}

void queue_push_front(struct queue *q, struct call *call)
{
        call->next = q->first;
        if (!q->first)
                q->last = &call->next;
        q->first = call;
        q->n++;
}

struct call *queue_pop(struct queue *q)
{
        struct call *call = q->first;

        if (call) {
                q->first = call->next;
                if (!q->first)
                        q->last = &q->first;
                q->n--;
        }
        return call;
}

bool queue_is_late(const struct queue *q, int64_t now, int64_t most)
{
        return q->sheds && q->n > BACKLOG && q->turns - q->first->queued_turn > 2 &&
               now - q->first->queued_at > most;
}
