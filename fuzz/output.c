/* Output of commands, which may be any bytes: what is kept is text, however it was cut. */
#include "core/utf8.h"
#include "fuzz.h"

void fuzz(struct scope *scope, struct str input)
{
        struct str clean = utf8_clean(&scope->arena, input, false);
        struct str cut = utf8_clean(&scope->arena, input, true);

        MUST(str_is_utf8(clean) && str_is_utf8(cut));
        MUST(clean.n >= input.n && clean.n <= 3 * input.n);
        MUST(str_eq(clean, input) == str_is_utf8(input));
        MUST(cut.n <= clean.n && str_eq(cut, str_slice(clean, 0, cut.n)));
        MUST(str_eq(utf8_clean(&scope->arena, clean, false), clean));
}
