#include "core/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

void buf_done(struct buf *b)
{
        free(b->p);
        *b = BUF_INIT(b->cap);
}

void buf_clear(struct buf *b)
{
        b->n = 0;
        b->full = false;
        if (b->p)
                b->p[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
        size_t want = b->n + n + 1;

        if (b->full || n > b->cap || b->n > b->cap - n) {
                b->full = true;
                return NULL;
        }
        if (want > b->size) {
                size_t size = b->size ? b->size * 2 : 256;

                while (size < want)
                        size *= 2;
                b->p = xrealloc(b->p, size);
                b->size = size;
        }
        return b->p + b->n;
}

void buf_str(struct buf *b, struct str s)
{
        buf_bytes(b, s.p, s.n);
}

void buf_text(struct buf *b, const char *s)
{
        buf_bytes(b, s, strlen(s));
}

void buf_int(struct buf *b, int64_t value)
{
        char digits[24], *at = digits + sizeof(digits);
        uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        do
                *--at = (char)('0' + rest % 10);
        while (rest /= 10);
        if (value < 0)
                *--at = '-';
        buf_bytes(b, at, (size_t)(digits + sizeof(digits) - at));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
        va_list args;
        char *at;
        int n;

        va_start(args, fmt);
        n = vsnprintf(NULL, 0, fmt, args);
        va_end(args);
        BUG_ON(n < 0);
        at = buf_reserve(b, (size_t)n);
        if (!at)
                return;
        va_start(args, fmt);
        vsnprintf(at, (size_t)n + 1, fmt, args);
        va_end(args);
        b->n += (size_t)n;
}

struct str buf_view(const struct buf *b)
{
        return (struct str){ b->p ? b->p : "", b->n };
}
