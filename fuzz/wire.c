/* Bodies of the spawner's requests: texts one after the other, whatever the bytes say. */
#include "worker/wire.h"

#include "fuzz.h"

/* Each view lies within the bytes and is a C string too; the same texts make the same bytes. */
void fuzz(struct scope *scope, struct str input)
{
        struct wire_reader reader = { .p = input.p, .n = input.n };
        struct buf again = BUF_INIT(input.n);
        size_t whole = 0;

        (void)scope;
        for (int i = 0; i < WIRE_ITEMS_MAX && !reader.bad; i++) {
                struct str text = wire_get(&reader);

                if (reader.bad)
                        break;
                MUST(text.p >= input.p && text.p + text.n < input.p + input.n);
                MUST(text.p[text.n] == '\0' && reader.at <= reader.n);
                wire_put(&again, text);
                whole = reader.at;
        }
        MUST(!again.full && str_eq(buf_view(&again), str_slice(input, 0, whole)));
        if (reader.bad)
                MUST(wire_get(&reader).n == 0);
        buf_done(&again);
}
