/*
 * Redaction: finds known secrets in whatever is about to be recorded and writes *** instead.  Found
 * are a value itself and its base64 (at each of the three alignments), URL, JSON and hex forms, in
 * either case, wrapped over lines, and cut into pieces of a stream at any place.
 */
#ifndef BATON_WORKER_REDACT_H
#define BATON_WORKER_REDACT_H

#include "core/arena.h"
#include "core/buf.h"

/* The forms of all secrets (Aho-Corasick); read-only once made, so streams may share it. */
struct redactor;
struct redactor *redactor_new(void);
void redactor_add(struct redactor *, struct str secret);
void redactor_ready(struct redactor *); /* after the last one */
void redactor_free(struct redactor *);  /* wipes; NULL is fine */

/* One stream.  It holds back what may be the beginning of a secret. */
struct redaction {
        const struct redactor *redactor;
        uint32_t state;
        int gap;                     /* line ends in a row */
        struct buf held;             /* bytes not yet given out, from `from` on */
        struct buf covered;          /* a flag for each of them */
        size_t *place;               /* where in `held` each byte that counts stands */
        size_t from, first, n, size; /* place[first..first+n) */
        size_t cover_begin, cover_end;
        bool starred; /* the last that was given out is *** */
};

void redaction_begin(struct redaction *, const struct redactor *);
void redaction_feed(struct redaction *, struct str bytes, struct buf *out);
/* What was held back.  With cut, the stream goes on unseen: the beginning of a secret is hidden
 * too. */
void redaction_end(struct redaction *, bool cut, struct buf *out);

/* A whole text; itself when there is nothing to hide. */
struct str redact(struct arena *, const struct redactor *, struct str, bool cut);

#endif
