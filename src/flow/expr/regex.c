/*
 * matches(), by PCRE2.  Every item of the pattern calls out before it is tried, and that counts the
 * steps and the characters passed over: so a match has a price as everything else, and an endless one
 * ends.  What RE2 does not have, and what could change the bounds, is refused.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "flow/expr/parts.h"

enum { MAX_PATTERN = 1024, COMPILE_COST = 64 };

struct regex {
        struct str pattern;
        pcre2_code *code;
        pcre2_match_data *data;
        pcre2_match_context *context;
        struct eval *ev;
        uint64_t steps;  /* not charged yet */
        size_t position; /* where the last item was tried */
};

static int step(pcre2_callout_block *block, void *ctx)
{
        struct regex *r = ctx;
        size_t at = block->current_position;

        r->steps += 8 + (at > r->position ? at - r->position : r->position - at);
        r->position = at;
        if (r->steps < 64)
                return 0;
        if (eval_charge_bytes(r->ev, r->steps))
                return PCRE2_ERROR_CALLOUT;
        r->steps %= 16;
        return 0;
}

void regex_done(struct eval *ev)
{
        if (!ev->regex)
                return;
        pcre2_match_data_free(ev->regex->data);
        pcre2_match_context_free(ev->regex->context);
        pcre2_code_free(ev->regex->code);
        ev->regex = NULL;
}

static enum err compile_code(struct eval *ev, struct str pattern, pcre2_code **out)
{
        uint32_t flags = PCRE2_UTF | PCRE2_AUTO_CALLOUT | PCRE2_DOLLAR_ENDONLY |
                         PCRE2_NEVER_BACKSLASH_C;
        PCRE2_UCHAR reason[120];
        PCRE2_SIZE at;
        uint32_t references = 0;
        int code;

        if (pattern.n > MAX_PATTERN)
                return eval_fail(ev, "a pattern has at most %d bytes", MAX_PATTERN);
        if (str_contains(pattern, STR("(*")))
                return eval_fail(ev, "\"(*\" has no place in a pattern");
        *out = pcre2_compile((PCRE2_SPTR)(pattern.p ? pattern.p : ""), pattern.n, flags, &code, &at,
                             NULL);
        if (!*out) {
                pcre2_get_error_message(code, reason, sizeof(reason));
                return eval_fail(ev, "the pattern is wrong at its byte %zu: %s", (size_t)at,
                                 (const char *)reason);
        }
        pcre2_pattern_info(*out, PCRE2_INFO_BACKREFMAX, &references);
        if (references) {
                pcre2_code_free(*out);
                return eval_fail(ev, "a pattern has no references to its own groups");
        }
        return ERR_OK;
}

static enum err prepare(struct eval *ev, struct str pattern)
{
        struct regex *r;
        pcre2_code *code = NULL;
        enum err e;

        if (ev->regex && str_eq(ev->regex->pattern, pattern))
                return ERR_OK;
        e = eval_charge(ev, COMPILE_COST + pattern.n);
        if (!e)
                e = compile_code(ev, pattern, &code);
        if (e)
                return e;
        regex_done(ev);
        r = arena_new(&ev->scope->arena, struct regex);
        *r = (struct regex){ .pattern = pattern, .code = code, .ev = ev };
        r->data = pcre2_match_data_create(1, NULL);
        r->context = pcre2_match_context_create(NULL);
        BUG_ON(!r->data || !r->context);
        pcre2_set_callout(r->context, step, r);
        pcre2_set_match_limit(r->context, 16000000);
        pcre2_set_depth_limit(r->context, 10000);
        pcre2_set_heap_limit(r->context, 16 * 1024); /* KiB */
        ev->regex = r;
        return ERR_OK;
}

enum err regex_match(struct eval *ev, struct str text, struct str pattern, bool *out)
{
        struct regex *r;
        int found;
        enum err e = prepare(ev, pattern);

        if (!e)
                e = eval_charge_bytes(ev, 64 + text.n);
        if (e)
                return e;
        r = ev->regex;
        r->position = 0;
        found = pcre2_match(r->code, (PCRE2_SPTR)(text.p ? text.p : ""), text.n, 0, 0, r->data,
                            r->context);
        if (found == PCRE2_ERROR_CALLOUT)
                return ERR_INVALID_CONDITION; /* the cost; said where it was charged */
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
                return eval_fail(ev, "the pattern takes too long on this text (limit %d)", found);
        *out = found >= 0;
        return ERR_OK;
}
