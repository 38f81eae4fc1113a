/*
 * Link: one connection over which servers send each other short texts.  Used by the thread of a bus
 * alone.  Its calls wait for the other side for LINK_SECONDS at most; what fails is closed and opened
 * anew.
 */
#ifndef BATON_HUB_LINK_H
#define BATON_HUB_LINK_H

#include "core/scope.h"

enum { LINK_SECONDS = 2, LINK_TEXT_MAX = 7900 /* bytes: NOTIFY takes fewer than 8000 */ };

struct link;

struct link_type {
        const char *name;
        /* Connects and listens.  `place` tells those who use one database from others. */
        enum err (*open)(struct scope *, const char *url, const char *place, struct link **);
        void (*close)(struct link *);
        int (*fd)(const struct link *); /* readable when something may have come */
        /* To all who listen, itself too; false: the connection is lost. */
        bool (*send)(struct link *, struct str text);
        /* Hands over what has come, without waiting; false: the connection is lost. */
        bool (*receive)(struct link *, void (*take)(void *arg, struct str text), void *arg);
};

extern const struct link_type notify_link; /* PostgreSQL; `place` is not used: its schema is */
extern const struct link_type redis_link;  /* Redis; `place` is the prefix of the channel */

#endif
