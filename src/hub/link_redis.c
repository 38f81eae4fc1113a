#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "hub/link.h"
#include "hub/redis.h"

/* A connection that listens takes no other commands. */
struct link {
        redisContext *ear, *mouth;
        struct buf channel;
};

static void link_close(struct link *link)
{
        if (link->ear)
                redisFree(link->ear);
        if (link->mouth)
                redisFree(link->mouth);
        buf_done(&link->channel);
        free(link);
}

static enum err link_open(struct scope *scope, const char *url, const char *place, struct link **out)
{
        struct link *link = xcalloc(1, sizeof(*link));
        enum err e;

        link->channel = BUF_INIT(1024);
        buf_printf(&link->channel, "%sbaton:hints", place);
        e = redis_open(scope, url, &link->ear);
        if (!e)
                e = redis_open(scope, url, &link->mouth);
        if (!e && (redisAppendCommand(link->ear, "SUBSCRIBE %s", link->channel.p) ||
                   !redis_settle(link->ear, 1)))
                e = fail(scope, ERR_UNAVAILABLE, "cannot subscribe");
        if (e) {
                link_close(link);
                return e;
        }
        *out = link;
        return ERR_OK;
}

static int link_fd(const struct link *link)
{
        return link->ear->fd;
}

static bool link_send(struct link *link, struct str text)
{
        return !redisAppendCommand(link->mouth, "PUBLISH %s %b", link->channel.p, text.p, text.n) &&
               redis_settle(link->mouth, 1);
}

/* ["message", channel, text] */
static void hand_over(const redisReply *r, void (*take)(void *, struct str), void *arg)
{
        if (r->type == REDIS_REPLY_ARRAY && r->elements == 3 &&
            r->element[2]->type == REDIS_REPLY_STRING)
                take(arg, (struct str){ r->element[2]->str, (size_t)r->element[2]->len });
}

static bool link_receive(struct link *link, void (*take)(void *, struct str), void *arg)
{
        struct pollfd fd = { link->ear->fd, POLLIN, 0 };
        redisReply *reply = NULL;

        while (poll(&fd, 1, 0) > 0)
                if (redisBufferRead(link->ear))
                        return false;
        while (!redisGetReplyFromReader(link->ear, (void **)&reply) && reply) {
                hand_over(reply, take, arg);
                freeReplyObject(reply);
                reply = NULL;
        }
        return !link->ear->err;
}

const struct link_type redis_link = { "redis", link_open, link_close, link_fd, link_send,
                                      link_receive };
