/*
 * Hub: who wants to hear of a tree of tasks.  Topics carry no data: a wake-up only says that the
 * store has something newer, and the subscriber reads it from its own cursor.  Losing a wake-up
 * costs latency, never an event.
 */
#ifndef BATON_HUB_HUB_H
#define BATON_HUB_HUB_H

#include <stdint.h>

struct hub;

struct subscription {
        struct subscription *next, **link;
        int64_t topic;
        void (*wake)(struct subscription *); /* on the publisher's thread; must only hand over */
};

struct hub *hub_new(void);
void hub_free(struct hub *);
void hub_subscribe(struct hub *, struct subscription *);
/* After it returns, wake() is not called again. */
void hub_unsubscribe(struct hub *, struct subscription *);
void hub_publish(struct hub *, int64_t topic);
void hub_publish_all(struct hub *); /* every topic: wake-ups may have been lost */
/* Subscriptions there are, for the metrics. */
int64_t hub_count(struct hub *);

#endif
