/* Checks the chain of the audit log: all of its rows, in their order. */
#ifndef BATON_DOMAIN_AUDIT_CHAIN_H
#define BATON_DOMAIN_AUDIT_CHAIN_H

#include "domain/audit.h"

struct audit_chain {
        struct audit_link {
                int64_t id;
                char previous[AUDIT_HASH + 1], hash[AUDIT_HASH + 1];
                bool sound; /* the hash is that of the row's own content */
        } * links;          /* newest first */
        size_t n, size;
};

/* Takes the next older row. */
void audit_chain_add(struct audit_chain *, const struct audit_entry *);
void audit_chain_done(struct audit_chain *);

enum audit_fault {
        AUDIT_SOUND,
        AUDIT_CHANGED,   /* a row is not what was written */
        AUDIT_MISSING,   /* rows before this one were removed, or replaced */
        AUDIT_REORDERED, /* this one stands behind another row than when it was written */
        AUDIT_CUT,       /* rows after this one were removed */
};
struct audit_verdict {
        enum audit_fault fault;
        int64_t id; /* of the first row that is wrong; 0: there is none */
};
/*
 * head: the hash kept beside the rows; absent: the rows are those of one workspace, of which only
 * each by itself can be checked.  noted: a head of some time ago, absent if nobody noted one.
 * Whoever can write the database can write it anew from any row on; only a head that was noted
 * elsewhere tells then.
 */
struct audit_verdict audit_chain_judge(const struct audit_chain *, struct str head,
                                       struct str noted);

#endif
