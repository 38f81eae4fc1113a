/*
 * struct buf: a growing run of bytes with a mandatory cap.  Appending past the cap marks it full
 * and drops the bytes: append freely, check `full` once at the end.  Always NUL-terminated.
 */
#ifndef BATON_CORE_BUF_H
#define BATON_CORE_BUF_H

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
void buf_bytes(struct buf *, const void *, size_t);
void buf_str(struct buf *, struct str);
void buf_text(struct buf *, const char *c_string);
void buf_char(struct buf *, char);
void buf_int(struct buf *, int64_t);
void buf_printf(struct buf *, const char *fmt, ...) PRINTF(2, 3);
/* Room for n more bytes at the end, to be filled by the caller and added to n; NULL when full. */
char *buf_reserve(struct buf *, size_t n);
struct str buf_view(const struct buf *);

#endif
