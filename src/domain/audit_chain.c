#include "domain/audit_chain.h"

#include <stdlib.h>
#include <string.h>

static void copy_hash(char out[AUDIT_HASH + 1], struct str hash)
{
        size_t n = hash.n < AUDIT_HASH ? hash.n : AUDIT_HASH;

        if (n)
                memcpy(out, hash.p, n);
        out[n] = '\0';
}

void audit_chain_add(struct audit_chain *chain, const struct audit_entry *entry)
{
        char own[AUDIT_HASH + 1];
        struct audit_link *link;

        if (chain->n == chain->size) {
                chain->size = chain->size ? chain->size * 2 : 512;
                chain->links = xrealloc(chain->links, chain->size * sizeof(*chain->links));
        }
        link = &chain->links[chain->n++];
        link->id = entry->id;
        copy_hash(link->previous, entry->previous);
        copy_hash(link->hash, entry->hash);
        audit_hash(entry, own);
        link->sound = str_is(entry->hash, own);
}

void audit_chain_done(struct audit_chain *chain)
{
        free(chain->links);
        *chain = (struct audit_chain){ 0 };
}

static bool has(const struct audit_chain *chain, struct str hash)
{
        if (str_is(hash, AUDIT_NO_HASH))
                return true; /* before the first row */
        for (size_t i = 0; i < chain->n; i++)
                if (str_is(hash, chain->links[i].hash))
                        return true;
        return false;
}

static enum audit_fault judge(const struct audit_chain *chain, const struct audit_link *link,
                              const char *before)
{
        bool linked = strcmp(link->previous, before) == 0;

        if (!linked && has(chain, str_from(link->previous)))
                return AUDIT_REORDERED;
        return !link->sound ? AUDIT_CHANGED : !linked ? AUDIT_MISSING : AUDIT_SOUND;
}

struct audit_verdict audit_chain_judge(const struct audit_chain *chain, struct str head,
                                       struct str noted)
{
        const char *before = AUDIT_NO_HASH;

        for (size_t i = chain->n; i-- > 0;) {
                const struct audit_link *link = &chain->links[i];
                enum audit_fault fault = head.p      ? judge(chain, link, before) :
                                         link->sound ? AUDIT_SOUND :
                                                       AUDIT_CHANGED;

                if (fault)
                        return (struct audit_verdict){ fault, link->id };
                before = link->hash;
        }
        if ((head.p && !str_is(head, before)) || (noted.p && !has(chain, noted)))
                return (struct audit_verdict){ AUDIT_CUT, chain->n ? chain->links[0].id : 0 };
        return (struct audit_verdict){ AUDIT_SOUND, 0 };
}
