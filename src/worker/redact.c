#include "worker/redact.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_out.h"

/*
 * Case is folded, and the two alphabets of base64 are one.  Line ends do not count, up to GAP in a
 * row, so that wrapped forms are found; secrets are compared without theirs.
 */
enum { FORM_MIN = 4, GAP = 4, NOT_COUNTED = -1, COMPACT = 262144 };

struct node {
        uint32_t child, sibling, fail;
        uint32_t depth;
        uint32_t longest; /* form that ends here, in bytes; 0 = none */
        unsigned char c;
};

struct redactor {
        struct node *nodes; /* 0 is the root */
        uint32_t n, size;
        uint32_t root[256]; /* its children */
};

static int counted(unsigned char c)
{
        if (c == '\n' || c == '\r')
                return NOT_COUNTED;
        if (c >= 'A' && c <= 'Z')
                return c - 'A' + 'a';
        return c == '-' ? '+' : c == '_' ? '/' : c;
}

/* ---- the forms ---- */

static uint32_t find_child(const struct redactor *r, uint32_t node, unsigned char c)
{
        uint32_t at;

        if (!node)
                return r->root[c];
        for (at = r->nodes[node].child; at && r->nodes[at].c != c; at = r->nodes[at].sibling)
                ;
        return at;
}

static uint32_t add_child(struct redactor *r, uint32_t node, unsigned char c)
{
        if (r->n == r->size) {
                struct node *larger = xcalloc((size_t)r->size * 2, sizeof(*larger));

                memcpy(larger, r->nodes, r->n * sizeof(*larger));
                sodium_memzero(r->nodes, r->n * sizeof(*larger));
                free(r->nodes);
                r->nodes = larger;
                r->size *= 2;
        }
        r->nodes[r->n] = (struct node){ .sibling = r->nodes[node].child,
                                        .depth = r->nodes[node].depth + 1,
                                        .c = c };
        r->nodes[node].child = r->n;
        if (!node)
                r->root[c] = r->n;
        return r->n++;
}

static void add_form(struct redactor *r, struct str form)
{
        uint32_t at = 0;

        for (size_t i = 0; i < form.n; i++) {
                int c = counted((unsigned char)form.p[i]);
                uint32_t next = c < 0 ? at : find_child(r, at, (unsigned char)c);

                at = next || c < 0 ? next : add_child(r, at, (unsigned char)c);
        }
        if (r->nodes[at].depth >= FORM_MIN)
                r->nodes[at].longest = r->nodes[at].depth;
}

static void add_buf(struct redactor *r, struct buf *form)
{
        add_form(r, buf_view(form));
        if (form->p)
                sodium_memzero(form->p, form->n);
        buf_clear(form);
}

/* The characters that stand for the secret alone when `before` bytes precede it in what is coded.
 */
static void put_base64(struct buf *out, struct str s, size_t before)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t from = (before * 8 + 5) / 6, to = (before + s.n) * 8 / 6;

        for (size_t i = from; i < to; i++) {
                unsigned value = 0;

                for (size_t bit = i * 6; bit < i * 6 + 6; bit++) {
                        unsigned byte = (unsigned char)s.p[bit / 8 - before];

                        value = value << 1 | (byte >> (7 - bit % 8) & 1);
                }
                buf_char(out, digits[value]);
        }
}

/* Kept: what this kind of encoder leaves as it is beside letters, digits and -._~ . */
static void put_url(struct buf *out, struct str s, const char *kept, bool form)
{
        for (size_t i = 0; i < s.n; i++) {
                unsigned char c = (unsigned char)s.p[i];
                bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || (c && strchr("-._~", c)) ||
                             (c && strchr(kept, c));

                if (plain)
                        buf_char(out, (char)c);
                else if (form && c == ' ')
                        buf_char(out, '+');
                else
                        buf_printf(out, "%%%02x", c);
        }
}

static void put_hex(struct buf *out, struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                buf_printf(out, "%02x", (unsigned char)s.p[i]);
}

static void put_json(struct buf *out, struct str s)
{
        struct json_out j = { .out = out };

        json_put_str(&j, s);
        memmove(out->p, out->p + 1, out->n - 2); /* without the quotes */
        out->n -= 2;
}

void redactor_add(struct redactor *r, struct str s)
{
        static const char *const kept[] = { "", "!*'()", "/" };
        struct buf form = BUF_INIT(s.n * 6 + 16);

        add_form(r, s);
        for (size_t before = 0; before < 3; before++) {
                put_base64(&form, s, before);
                add_buf(r, &form);
        }
        for (size_t i = 0; i < LENGTH(kept); i++)
                for (int plus = 0; plus < 2; plus++) {
                        put_url(&form, s, kept[i], plus);
                        add_buf(r, &form);
                }
        put_hex(&form, s);
        add_buf(r, &form);
        put_json(&form, s);
        add_buf(r, &form);
        buf_done(&form);
}

static uint32_t follow(const struct redactor *r, uint32_t state, unsigned char c)
{
        uint32_t next = find_child(r, state, c);

        while (!next && state) {
                state = r->nodes[state].fail;
                next = find_child(r, state, c);
        }
        return next;
}

/* Fail links, breadth first: a node's fail is less deep than itself. */
void redactor_ready(struct redactor *r)
{
        uint32_t *queue = xcalloc(r->n, sizeof(*queue));
        uint32_t head = 0, tail = 0;

        queue[tail++] = 0;
        while (head < tail) {
                uint32_t node = queue[head++];

                for (uint32_t at = r->nodes[node].child; at; at = r->nodes[at].sibling) {
                        struct node *n = &r->nodes[at];

                        n->fail = node ? follow(r, r->nodes[node].fail, n->c) : 0;
                        if (!n->longest)
                                n->longest = r->nodes[n->fail].longest;
                        queue[tail++] = at;
                }
        }
        free(queue);
}

struct redactor *redactor_new(void)
{
        struct redactor *r = xcalloc(1, sizeof(*r));

        r->size = 1024;
        r->nodes = xcalloc(r->size, sizeof(*r->nodes));
        r->n = 1;
        return r;
}

void redactor_free(struct redactor *r)
{
        if (!r)
                return;
        sodium_memzero(r->nodes, r->n * sizeof(*r->nodes));
        free(r->nodes);
        free(r);
}

/* ---- a stream ---- */

void redaction_begin(struct redaction *s, const struct redactor *redactor)
{
        *s = (struct redaction){ .redactor = redactor,
                                 .held = BUF_INIT(SIZE_MAX),
                                 .covered = BUF_INIT(SIZE_MAX) };
}

/* Gives out what stands before `to`. */
static void give(struct redaction *s, size_t to, struct buf *out)
{
        for (; s->from < to; s->from++) {
                bool covered = s->covered.p[s->from];

                if (!covered)
                        buf_char(out, s->held.p[s->from]);
                else if (!s->starred)
                        buf_text(out, "***");
                s->starred = covered;
        }
}

/* Moves what is held to the front: a stream may keep looking like the beginning of a secret. */
static void compact(struct redaction *s)
{
        size_t gone = s->from;

        s->held.n -= gone;
        s->covered.n -= gone;
        memmove(s->held.p, s->held.p + gone, s->held.n);
        memmove(s->covered.p, s->covered.p + gone, s->covered.n);
        memmove(s->place, s->place + s->first, s->n * sizeof(*s->place));
        for (size_t i = 0; i < s->n; i++)
                s->place[i] -= gone;
        s->cover_begin -= s->cover_begin < gone ? s->cover_begin : gone;
        s->cover_end -= s->cover_end < gone ? s->cover_end : gone;
        s->from = s->first = 0;
}

/* Only the last `depth` bytes that count may still become part of a secret. */
static void settle(struct redaction *s, struct buf *out)
{
        size_t depth = s->redactor->nodes[s->state].depth, drop = s->n - depth;

        s->first += drop;
        s->n = depth;
        give(s, depth ? s->place[s->first] : s->held.n, out);
        if (!depth) {
                buf_clear(&s->held);
                buf_clear(&s->covered);
                s->from = s->first = s->cover_begin = s->cover_end = 0;
        } else if (s->from > COMPACT) {
                compact(s);
        }
}

static void push(struct redaction *s, unsigned char raw, bool counts)
{
        if (counts && s->first + s->n == s->size) {
                s->size = s->size ? s->size * 2 : 64;
                s->place = xrealloc(s->place, s->size * sizeof(*s->place));
        }
        if (counts)
                s->place[s->first + s->n++] = s->held.n;
        buf_char(&s->held, (char)raw);
        buf_char(&s->covered, 0);
}

/* The last `length` bytes that count are a secret.  What an earlier find covers is left alone. */
static void cover(struct redaction *s, size_t length)
{
        size_t begin = s->place[s->first + s->n - length], at = begin;

        if (begin >= s->cover_begin && begin < s->cover_end)
                at = s->cover_end;
        else
                s->cover_begin = begin;
        s->cover_end = s->held.n;
        memset(s->covered.p + at, 1, s->held.n - at);
}

static void take(struct redaction *s, unsigned char raw, struct buf *out)
{
        int c = counted(raw);

        s->gap = c < 0 ? s->gap + 1 : 0;
        if (s->gap > GAP)
                s->state = 0;
        push(s, raw, c >= 0);
        if (c >= 0)
                s->state = follow(s->redactor, s->state, (unsigned char)c);
        if (c >= 0 && s->redactor->nodes[s->state].longest)
                cover(s, s->redactor->nodes[s->state].longest);
        settle(s, out);
}

/* Up to the next byte with which a secret may begin. */
static size_t harmless(const struct redactor *r, struct str bytes)
{
        size_t n = 0;

        while (n < bytes.n) {
                int c = counted((unsigned char)bytes.p[n]);

                if (c >= 0 && r->root[c])
                        break;
                n++;
        }
        return n;
}

void redaction_feed(struct redaction *s, struct str bytes, struct buf *out)
{
        while (bytes.n) {
                size_t n = s->state ? 0 : harmless(s->redactor, bytes);

                if (n) {
                        buf_bytes(out, bytes.p, n);
                        s->starred = false;
                } else {
                        take(s, (unsigned char)bytes.p[0], out);
                        n = 1;
                }
                bytes = str_slice(bytes, n, bytes.n);
        }
}

void redaction_end(struct redaction *s, bool cut, struct buf *out)
{
        if (cut && s->state)
                cover(s, s->redactor->nodes[s->state].depth);
        give(s, s->held.n, out);
        if (s->held.p)
                sodium_memzero(s->held.p, s->held.n);
        buf_done(&s->held);
        buf_done(&s->covered);
        free(s->place);
        *s = (struct redaction){ .redactor = s->redactor };
}

struct str redact(struct arena *arena, const struct redactor *redactor, struct str text, bool cut)
{
        struct buf out = BUF_INIT(SIZE_MAX);
        struct redaction s;

        if (!redactor || !text.n)
                return text;
        redaction_begin(&s, redactor);
        redaction_feed(&s, text, &out);
        redaction_end(&s, cut, &out);
        text = str_dup(arena, buf_view(&out));
        buf_done(&out);
        return text;
}
