#include "hub/hub.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/arena.h"

enum { BUCKETS = 8192 };

struct hub {
        pthread_mutex_t lock;
        struct subscription *buckets[BUCKETS];
        int64_t n;
};

struct hub *hub_new(void)
{
        struct hub *hub = xcalloc(1, sizeof(*hub));

        pthread_mutex_init(&hub->lock, NULL);
        return hub;
}

void hub_free(struct hub *hub)
{
        pthread_mutex_destroy(&hub->lock);
        free(hub);
}

static struct subscription **bucket(struct hub *hub, int64_t topic)
{
        uint64_t h = (uint64_t)topic * UINT64_C(0x9e3779b97f4a7c15);

        return &hub->buckets[h >> 51];
}

void hub_subscribe(struct hub *hub, struct subscription *s)
{
        struct subscription **head = bucket(hub, s->topic);

        pthread_mutex_lock(&hub->lock);
        s->next = *head;
        s->link = head;
        if (*head)
                (*head)->link = &s->next;
        *head = s;
        hub->n++;
        pthread_mutex_unlock(&hub->lock);
}

void hub_unsubscribe(struct hub *hub, struct subscription *s)
{
        pthread_mutex_lock(&hub->lock);
        if (s->link) {
                *s->link = s->next;
                if (s->next)
                        s->next->link = s->link;
                s->link = NULL;
                hub->n--;
        }
        pthread_mutex_unlock(&hub->lock);
}

void hub_publish(struct hub *hub, int64_t topic)
{
        pthread_mutex_lock(&hub->lock);
        for (struct subscription *s = *bucket(hub, topic), *next; s; s = next) {
                next = s->next;
                if (s->topic == topic)
                        s->wake(s);
        }
        pthread_mutex_unlock(&hub->lock);
}

void hub_publish_all(struct hub *hub)
{
        pthread_mutex_lock(&hub->lock);
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct subscription *s = hub->buckets[i], *next; s; s = next) {
                        next = s->next;
                        s->wake(s);
                }
        pthread_mutex_unlock(&hub->lock);
}

int64_t hub_count(struct hub *hub)
{
        int64_t n;

        pthread_mutex_lock(&hub->lock);
        n = hub->n;
        pthread_mutex_unlock(&hub->lock);
        return n;
}
