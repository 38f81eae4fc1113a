/*
 * Request heads: a strict reader of RFC 9112 request lines and fields.  Anything that two readers
 * could frame differently is refused.  Pure: bytes in, a struct or an error out; private to http.
 */
#ifndef BATON_HTTP_HEAD_H
#define BATON_HTTP_HEAD_H

#include "core/scope.h"
#include "http/exchange.h"

enum {
        HEAD_MAX = 16384,
        HEAD_FIELDS_MAX = 64,
        REQUEST_LINE_MAX = 8192,
};

struct head_field {
        struct str name, value; /* name in lower case */
};

struct head {
        enum http_method method;
        struct str method_text, target;
        int minor; /* HTTP/1.minor */
        struct head_field fields[HEAD_FIELDS_MAX];
        size_t n;
        bool chunked, has_length, keep_alive, expects_continue;
        int64_t length;
};

/*
 * Reads a head: the bytes up to and including the empty line.  Names are lowered in place, so text
 * must be writable; the result points into it.  On refusal the fault says why (400, 417, 431).
 */
enum err head_parse(struct scope *, char *text, size_t n, struct head *) NODISCARD;
struct str head_find(const struct head *, const char *name);
bool head_is_token(struct str);
bool head_is_value(struct str); /* of a field, or a chunk's extension: no control characters */

#endif
