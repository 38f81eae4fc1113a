/*
 * struct domain: what operations keep between transactions: the lanes they know, the lease clock and
 * the secret of claim tokens.  It belongs to the store's writing thread (tx_context()); readers use
 * only lease_now() and the vault.
 */
#ifndef BATON_DOMAIN_DOMAIN_H
#define BATON_DOMAIN_DOMAIN_H

#include "domain/lane.h"
#include "domain/principal.h"

/* Lease clock: microseconds that never step, stand still while the server is not running, and for
 * LEASE_GRACE after it starts or was stopped for over 2 s. */
#define LEASE_GRACE (10 * US_PER_S)

/* What a batch may change and a rollback of it must restore. */
struct domain_state {
        int64_t turn[EXECUTORS]; /* the group of lanes served last by a claimer of all workspaces */
        bool paused;             /* no run is handed out: see scheduler.h */
        int64_t searched;        /* tasks up to this id are in the index of texts: see search.h */
        bool cascading;          /* a cancel has not reached every task yet: see cascade.h */
        int64_t server;          /* this one's number, and when it last said that it is there: see server.h */
        int64_t server_seen;
};

/* How far the look for trees to delete has come (domain/retention.c). */
struct retention {
        int64_t next;                     /* UTC: when it begins anew */
        int64_t workspace, status, after; /* of these, tasks up to this id were looked at */
        int64_t tree;                     /* this one's deletion has begun and is in the audit log */
};

struct domain {
        const struct world *world;
        struct lane_table *lanes;
        unsigned char secret[32];     /* of claim tokens */
        unsigned char vault[32];      /* seals secrets; set before the store is open */
        bool vault_replaced;          /* likewise: what was sealed under another does not matter any more */
        /* What distinguishes this server from others on its database, and its machine's name; absent where the
         * database is a file of its own.  Set before the store is open. */
        struct str place, host;
        struct str volume;            /* that its worker has, see volume.h; likewise */
        int64_t worker;               /* how many runs that one performs at once; likewise */
        _Atomic int64_t number;       /* of this server, committed */
        bool booted;
        _Atomic int64_t ahead;        /* of the boot clock, what leases run by: the database's, where servers share it */
        _Atomic int64_t lease_base;   /* lease time at lease_from */
        _Atomic int64_t lease_from;   /* time of that clock from which it runs */
        _Atomic int64_t last_seen;    /* that clock at the last tick */
        _Atomic int64_t lease_seen;   /* lease clock at the last tick */
        int64_t lease_saved;          /* that clock when the mark was written to the database; 0 = now is the time */
        struct attention *attention;
        int64_t attention_after;      /* microseconds before a run is marked; 0 = never */
        int64_t review_timeout;       /* microseconds that a review may take unless it says otherwise */
        int64_t force_limit;          /* of an agent's session, a task and a minute; 0 = forbidden */
        unsigned profile_refuses;     /* PROFILE_… bits (profile.h): what profiles may not say */
        int64_t next_trim;
        struct domain_state now, kept, committed; /* kept: as of domain_kept() */
        struct retention retention;
        int64_t policies;             /* webhooks that are asked before claims; -1 = to be counted */
        struct cascades *cascades;    /* of the operation under way, or NULL */
        struct principal daemon;      /* the server itself, as an actor */
};

struct domain *domain_new(const struct world *);
void domain_free(struct domain *);

/* First transaction after the store is open: workspaces, secret, lease clock, lanes, recovery of
 * what the embedded worker of the previous process held.  ERR_CONFLICT: the vault is not the database's. */
enum err domain_boot(struct tx *, void *domain) NODISCARD;
/* What is due: leases, wakes, deadlines, approvals, retention; in bounded pieces. */
enum err domain_tick(struct domain *, struct tx *) NODISCARD;
/* What is kept beside the database follows it. */
void domain_committed(struct domain *);
/* Where servers share the database: the time by its clock, at the begin of each transaction; and then, if others
 * have written, what they wrote.  `stale`: to one of the kept tables, which end with NULL. */
void domain_turn(struct domain *, int64_t now);
enum err domain_others(struct domain *, struct tx *, bool stale) NODISCARD;
extern const char *const domain_kept_tables[];
void domain_kept(struct domain *); /* up to here, if the batch is committed */
void domain_rolled_back(struct domain *, bool whole); /* to the last commit, or to what is kept */

int64_t lease_now(const struct domain *);
/* The instant of a lease time on the wall clock, for showing. */
int64_t lease_wall(const struct domain *, int64_t wall_now, int64_t lease_time);

#endif
