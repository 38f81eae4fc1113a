#include "http/head.h"

#include <string.h>

static enum err bad(struct scope *scope, const char *what)
{
        return fail(scope, ERR_BAD_REQUEST, "malformed request: %s", what);
}

/* RFC 9110 5.6.2 */
bool head_is_token(struct str s)
{
        for (size_t i = 0; i < s.n; i++) {
                unsigned char c = (unsigned char)s.p[i];

                if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
                    !(c && strchr("!#$%&'*+-.^_`|~", c)))
                        return false;
        }
        return s.n > 0;
}

bool head_is_value(struct str s)
{
        for (size_t i = 0; i < s.n; i++) {
                unsigned char c = (unsigned char)s.p[i];

                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return false;
        }
        return true;
}

static const struct {
        const char *name;
        enum http_method method;
} methods[] = {
        { "GET", HTTP_GET },     { "HEAD", HTTP_HEAD },   { "POST", HTTP_POST },
        { "PUT", HTTP_PUT },     { "PATCH", HTTP_PATCH }, { "DELETE", HTTP_DELETE },
};

static enum err read_line(struct scope *scope, struct str line, struct head *h)
{
        struct str rest, version;

        if (line.n > REQUEST_LINE_MAX)
                return fail_limit(scope, "", ERR_HEADERS_TOO_LARGE, REQUEST_LINE_MAX,
                                  (int64_t)line.n, "bytes of the request line");
        h->method_text = str_cut(line, ' ', &rest);
        if (!rest.p || !head_is_token(h->method_text))
                return bad(scope, "request line");
        h->target = str_cut(rest, ' ', &version);
        if (!version.p || version.n != 8 || !str_starts(version, "HTTP/1.") ||
            (version.p[7] != '0' && version.p[7] != '1'))
                return bad(scope, "this server speaks HTTP/1.1");
        h->minor = version.p[7] - '0';
        if (!h->target.n || h->target.p[0] != '/')
                return bad(scope, "the target must start with /");
        for (size_t i = 0; i < h->target.n; i++)
                if ((unsigned char)h->target.p[i] <= 0x20 || (unsigned char)h->target.p[i] >= 0x7f)
                        return bad(scope, "the target holds bytes that must be percent-encoded");
        h->method = HTTP_OTHER;
        for (size_t i = 0; i < LENGTH(methods); i++)
                if (str_is(h->method_text, methods[i].name))
                        h->method = methods[i].method;
        return ERR_OK;
}

static enum err read_field(struct scope *scope, char *text, size_t n, struct head *h)
{
        struct str value, name;

        if (h->n == HEAD_FIELDS_MAX)
                return fail(scope, ERR_HEADERS_TOO_LARGE, "at most %d header fields",
                            HEAD_FIELDS_MAX);
        if (text[0] == ' ' || text[0] == '\t')
                return bad(scope, "folded header field");
        name = str_cut((struct str){ text, n }, ':', &value);
        if (!value.p || !head_is_token(name) || !head_is_value(value))
                return bad(scope, "header field");
        for (size_t i = 0; i < name.n; i++)
                if (text[i] >= 'A' && text[i] <= 'Z')
                        text[i] = (char)(text[i] + 32);
        h->fields[h->n++] = (struct head_field){ name, str_trim(value) };
        return ERR_OK;
}

struct str head_find(const struct head *h, const char *name)
{
        for (size_t i = 0; i < h->n; i++)
                if (str_is_nocase(h->fields[i].name, name))
                        return h->fields[i].value;
        return STR_NONE;
}

static size_t count(const struct head *h, const char *name)
{
        size_t n = 0;

        for (size_t i = 0; i < h->n; i++)
                n += str_is(h->fields[i].name, name);
        return n;
}

static bool is_host(struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'z') ||
                      (s.p[i] >= 'A' && s.p[i] <= 'Z') || strchr(".-_:[]", s.p[i])))
                        return false;
        return s.n > 0 && s.n < 256;
}

/* In a list with commas. */
static bool has_word(struct str list, const char *word)
{
        while (list.p && list.n)
                if (str_is_nocase(str_trim(str_cut(list, ',', &list)), word))
                        return true;
        return false;
}

/* How the body is framed, and what follows it. */
static enum err read_framing(struct scope *scope, struct head *h)
{
        struct str length = head_find(h, "content-length"), host = head_find(h, "host");
        struct str encoding = head_find(h, "transfer-encoding"), connection, expect;

        if (count(h, "host") > 1 || (h->minor == 1 && !host.p) || (host.p && !is_host(host)))
                return bad(scope, "exactly one valid Host is required");
        if (count(h, "content-length") > 1 || count(h, "transfer-encoding") > 1)
                return bad(scope, "Content-Length or Transfer-Encoding is repeated");
        if (length.p && encoding.p)
                return bad(scope, "Content-Length and Transfer-Encoding exclude each other");
        if (encoding.p && (!str_is_nocase(encoding, "chunked") || h->minor == 0))
                return bad(scope, "the only Transfer-Encoding understood is chunked");
        if (length.p && (length.n > 18 || length.p[0] == '-' || !str_to_int(length, &h->length)))
                return bad(scope, "Content-Length");
        for (size_t i = 0; i < h->n; i++)
                if (str_is(h->fields[i].name, "authorization") && count(h, "authorization") > 1)
                        return bad(scope, "Authorization is repeated");
        h->chunked = encoding.p != NULL;
        h->has_length = length.p != NULL;
        connection = head_find(h, "connection");
        h->keep_alive = !has_word(connection, "close") &&
                        (h->minor == 1 || has_word(connection, "keep-alive"));
        expect = h->minor == 1 ? head_find(h, "expect") : STR_NONE;
        h->expects_continue = str_is_nocase(expect, "100-continue");
        if (expect.p && !h->expects_continue)
                return fail(scope, ERR_EXPECTATION, "the only expectation met is 100-continue");
        return ERR_OK;
}

enum err head_parse(struct scope *scope, char *text, size_t n, struct head *h)
{
        enum err e = ERR_OK;
        bool first = true;
        size_t at = 0;

        *h = (struct head){ 0 };
        while (!e && at < n) {
                char *end = memchr(text + at, '\n', n - at);
                size_t length = end ? (size_t)(end - (text + at)) : 0;

                if (!end || length == 0 || text[at + length - 1] != '\r')
                        return bad(scope, "lines must end with CR LF");
                length--;
                if (memchr(text + at, '\r', length) || memchr(text + at, 0, length))
                        return bad(scope, "stray CR or NUL");
                if (first)
                        e = read_line(scope, (struct str){ text + at, length }, h);
                else if (length)
                        e = read_field(scope, text + at, length, h);
                first = false;
                at += length + 2;
        }
        return e ? e : read_framing(scope, h);
}
