/* Heads of requests: what is accepted can be framed in one way only. */
#include <string.h>

#include "fuzz.h"
#include "http/head.h"

/* The fields as they would be sent again. */
static struct str written(struct scope *scope, const struct head *h)
{
        struct str text = arena_printf(&scope->arena, STR_FMT " " STR_FMT " HTTP/1.%d\r\n",
                                       STR_ARG(h->method_text), STR_ARG(h->target), h->minor);

        for (size_t i = 0; i < h->n; i++)
                text = arena_printf(&scope->arena, STR_FMT STR_FMT ": " STR_FMT "\r\n",
                                    STR_ARG(text), STR_ARG(h->fields[i].name),
                                    STR_ARG(h->fields[i].value));
        return arena_printf(&scope->arena, STR_FMT "\r\n", STR_ARG(text));
}

static size_t count(const struct head *h, const char *name)
{
        size_t n = 0;

        for (size_t i = 0; i < h->n; i++)
                n += str_is(h->fields[i].name, name);
        return n;
}

static bool is_plain(struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                if (strchr("\r\n", s.p[i]))
                        return false;
        return true;
}

static void check(const struct head *h)
{
        MUST(h->target.n && h->target.p[0] == '/' && is_plain(h->target));
        MUST(count(h, "host") <= 1 && count(h, "content-length") <= 1);
        MUST(count(h, "transfer-encoding") <= 1 && count(h, "authorization") <= 1);
        MUST(!(h->chunked && h->has_length) && h->length >= 0);
        MUST(h->has_length || h->length == 0);
        for (size_t i = 0; i < h->n; i++)
                MUST(h->fields[i].name.n && is_plain(h->fields[i].name) &&
                     is_plain(h->fields[i].value));
}

static bool same(const struct head *a, const struct head *b)
{
        bool all = a->n == b->n && a->method == b->method && str_eq(a->target, b->target) &&
                   a->minor == b->minor && a->chunked == b->chunked && a->length == b->length &&
                   a->has_length == b->has_length && a->keep_alive == b->keep_alive &&
                   a->expects_continue == b->expects_continue;

        for (size_t i = 0; all && i < a->n; i++)
                all = str_eq(a->fields[i].name, b->fields[i].name) &&
                      str_eq(a->fields[i].value, b->fields[i].value);
        return all;
}

void fuzz(struct scope *scope, struct str input)
{
        struct head *h = arena_new(&scope->arena, struct head);
        struct head *again = arena_new(&scope->arena, struct head);
        const char *end = memmem(input.p, input.n, "\r\n\r\n", 4);
        struct str text, second;

        /* The server hands over what ends with the first empty line. */
        if (end)
                input.n = (size_t)(end - input.p);
        text = arena_printf(&scope->arena, "%*s\r\n\r\n", (int)input.n, "");
        memcpy((char *)(uintptr_t)text.p, input.p, input.n);
        if (head_parse(scope, (char *)(uintptr_t)text.p, text.n, h)) {
                MUST(scope->fault.code && scope->fault.detail.n);
                return;
        }
        check(h);
        second = written(scope, h);
        MUST(!head_parse(scope, str_c(&scope->arena, second), second.n, again));
        MUST(same(h, again));
}
