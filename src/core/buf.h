/*
 * struct buf: a growing run of bytes with a mandatory cap.  Appending past the cap marks it full
 * and drops the bytes: append freely, check `full` once at the end.  Always NUL-terminated.
 */
#ifndef BATON_CORE_BUF_H
#define BATON_CORE_BUF_H

#include <string.h>

#include "core/attr.h"
#include "core/str.h"

struct buf {
        char *p;
        size_t n, size, cap;
        bool full;
};

#define BUF_INIT(max) ((struct buf){ .cap = (max) })

void buf_done(struct buf *);
void buf_clear(struct buf *); /* empty, memory kept */
/* Room for n more bytes at the end, to be filled by the caller and added to n; NULL when full. */
char *buf_reserve(struct buf *, size_t n);

/* Inline: what is rendered is made of pieces of a few bytes. */
static inline void buf_bytes(struct buf *b, const void *bytes, size_t n)
{
        char *at = !b->full && n < b->size - b->n && n <= b->cap - b->n ? b->p + b->n :
                                                                          buf_reserve(b, n);

        if (!at)
                return;
        if (n)
                memcpy(at, bytes, n);
        at[n] = '\0';
        b->n += n;
}

static inline void buf_char(struct buf *b, char c)
{
        buf_bytes(b, &c, 1);
}

void buf_str(struct buf *, struct str);
void buf_text(struct buf *, const char *c_string);
void buf_int(struct buf *, int64_t);
void buf_printf(struct buf *, const char *fmt, ...) PRINTF(2, 3);
struct str buf_view(const struct buf *);

#endif
