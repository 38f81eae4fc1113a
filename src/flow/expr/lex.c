#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/expr/parts.h"

/* At most so many bytes, but no part of a character. */
static struct str clip(struct str s, size_t most)
{
        while (s.n > most && most && ((unsigned char)s.p[most] & 0xc0) == 0x80)
                most--;
        return str_slice(s, 0, most);
}

struct str expr_clip(struct str s)
{
        return clip(s, 100);
}

enum err expr_refuse(struct scope *scope, struct str source, size_t at, const char *fmt, ...)
{
        size_t line = 1, column = 1;
        char text[900];
        struct str said = { text, 0 };
        va_list args;
        int n;

        for (size_t i = 0; i < at && i < source.n; i++) {
                if (source.p[i] == '\n') {
                        line++;
                        column = 1;
                } else if (((unsigned char)source.p[i] & 0xc0) != 0x80) {
                        column++;
                }
        }
        va_start(args, fmt);
        n = vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        said.n = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
        return fail(scope, ERR_INVALID_CONDITION, "%zu:%zu: " STR_FMT, line, column,
                    STR_ARG(clip(said, sizeof(text) - 8)));
}

static bool is_word(struct str s, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_is(s, words[i]))
                        return true;
        return false;
}

bool lex_is_keyword(struct str s)
{
        static const char *const words[] = { "false", "true", "null", "in" };

        return is_word(s, words, LENGTH(words));
}

bool lex_is_reserved(struct str s)
{
        static const char *const words[] = { "as",     "break",  "const",     "continue", "else",
                                             "for",    "function", "if",      "import",   "let",
                                             "loop",   "package", "namespace", "return",  "var",
                                             "void",   "while" };

        return is_word(s, words, LENGTH(words));
}

/* The byte at the reading position plus n, or NUL past the end; the source holds no NUL. */
static char peek(const struct lexer *l, size_t n)
{
        return l->at + n < l->source.n ? l->source.p[l->at + n] : '\0';
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int hex_digit(char c)
{
        return is_digit(c)             ? c - '0' :
               c >= 'a' && c <= 'f'    ? c - 'a' + 10 :
               c >= 'A' && c <= 'F'    ? c - 'A' + 10 :
                                         -1;
}

static void skip_blanks(struct lexer *l)
{
        for (;;) {
                char c = peek(l, 0);

                if (c && strchr(" \t\n\r\f", c))
                        l->at++;
                else if (c == '/' && peek(l, 1) == '/')
                        l->at = str_find(l->source, '\n', l->at);
                else
                        return;
        }
}

/* ---- numbers ---- */

static enum err after_number(struct lexer *l, const struct token *t)
{
        char c = peek(l, 0);

        if (c == 'u' || c == 'U')
                return expr_refuse(l->scope, l->source, t->at,
                                   "unsigned integers (%.*su) are not supported: JSON has none; "
                                   "write the number without \"u\"",
                                   (int)(l->at - t->at), l->source.p + t->at);
        if (is_letter(c) || is_digit(c))
                return expr_refuse(l->scope, l->source, l->at,
                                   "a number runs into a name; expected an operator between them");
        return ERR_OK;
}

static enum err take_hex(struct lexer *l, struct token *out)
{
        l->at += 2;
        if (hex_digit(peek(l, 0)) < 0)
                return expr_refuse(l->scope, l->source, l->at, "expected hex digits after 0x");
        for (int digit; (digit = hex_digit(peek(l, 0))) >= 0; l->at++) {
                if (out->magnitude >> 60)
                        return expr_refuse(l->scope, l->source, out->at,
                                           "the integer does not fit in 64 bits");
                out->magnitude = out->magnitude << 4 | (uint64_t)digit;
        }
        return ERR_OK;
}

static enum err take_decimal(struct lexer *l, struct token *out)
{
        for (; is_digit(peek(l, 0)); l->at++)
                if (__builtin_mul_overflow(out->magnitude, 10, &out->magnitude) ||
                    __builtin_add_overflow(out->magnitude, (uint64_t)(peek(l, 0) - '0'),
                                           &out->magnitude))
                        return expr_refuse(l->scope, l->source, out->at,
                                           "the integer does not fit in 64 bits");
        return ERR_OK;
}

/* Length of a double at the reading position, 0 when an integer stands there. */
static size_t double_length(const struct lexer *l)
{
        size_t n = 0, sign;
        bool is = false;

        while (is_digit(peek(l, n)))
                n++;
        if (peek(l, n) == '.' && is_digit(peek(l, n + 1))) {
                is = true;
                for (n++; is_digit(peek(l, n)); n++)
                        ;
        }
        if (peek(l, n) == 'e' || peek(l, n) == 'E') {
                sign = peek(l, n + 1) == '+' || peek(l, n + 1) == '-';
                if (is_digit(peek(l, n + 1 + sign))) {
                        is = true;
                        for (n += 1 + sign; is_digit(peek(l, n)); n++)
                                ;
                }
        }
        return is ? n : 0;
}

static enum err take_number(struct lexer *l, struct token *out)
{
        size_t n = double_length(l);
        enum err e = ERR_OK;

        out->kind = n ? TOKEN_DOUBLE : TOKEN_INT;
        if (n) {
                out->real = strtod(str_c(&l->scope->arena, str_slice(l->source, l->at, l->at + n)),
                                   NULL);
                l->at += n;
                if (!isfinite(out->real))
                        return expr_refuse(l->scope, l->source, out->at,
                                           "the number is larger than any double");
        } else if (peek(l, 0) == '0' && (peek(l, 1) == 'x' || peek(l, 1) == 'X')) {
                e = take_hex(l, out);
        } else {
                e = take_decimal(l, out);
        }
        return e ? e : after_number(l, out);
}

/* ---- texts ---- */

static size_t put_code_point(char *out, uint32_t c)
{
        if (c < 0x80) {
                out[0] = (char)c;
                return 1;
        }
        if (c < 0x800) {
                out[0] = (char)(0xc0 | c >> 6);
                out[1] = (char)(0x80 | (c & 0x3f));
                return 2;
        }
        if (c < 0x10000) {
                out[0] = (char)(0xe0 | c >> 12);
                out[1] = (char)(0x80 | (c >> 6 & 0x3f));
                out[2] = (char)(0x80 | (c & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | c >> 18);
        out[1] = (char)(0x80 | (c >> 12 & 0x3f));
        out[2] = (char)(0x80 | (c >> 6 & 0x3f));
        out[3] = (char)(0x80 | (c & 0x3f));
        return 4;
}

/* A code point by number: `digits` of them in the given base. */
static enum err numbered(struct lexer *l, size_t digits, uint32_t base, uint32_t *out)
{
        size_t at = l->at;

        *out = 0;
        for (size_t i = 0; i < digits; i++, l->at++) {
                int digit = hex_digit(peek(l, 0));

                if (digit < 0 || (uint32_t)digit >= base)
                        return expr_refuse(l->scope, l->source, at, "the escape takes %zu %s digits",
                                           digits, base == 8 ? "octal" : "hex");
                *out = *out * base + (uint32_t)digit;
        }
        if (*out == 0 || *out > 0x10ffff || (*out >= 0xd800 && *out < 0xe000))
                return expr_refuse(l->scope, l->source, at,
                                   "U+%04X is not a character that a text may hold", *out);
        return ERR_OK;
}

static enum err take_escape(struct lexer *l, char *out, size_t *n)
{
        static const char plain[] = "a\ab\bf\fn\nr\rt\tv\v\\\\\"\"''``??";
        size_t at = l->at - 1;
        char c = peek(l, 0);
        uint32_t code = 0;
        enum err e;

        for (size_t i = 0; plain[i]; i += 2)
                if (c == plain[i]) {
                        l->at++;
                        out[(*n)++] = plain[i + 1];
                        return ERR_OK;
                }
        if (c >= '0' && c <= '3') {
                e = numbered(l, 3, 8, &code);
        } else if (c && strchr("xXuU", c)) {
                l->at++;
                e = numbered(l, c == 'u' ? 4 : c == 'U' ? 8 : 2, 16, &code);
        } else {
                return expr_refuse(l->scope, l->source, at,
                                   "unknown escape; known are \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" "
                                   "\\' \\` \\? \\xHH \\uHHHH \\UHHHHHHHH \\OOO");
        }
        if (!e)
                *n += put_code_point(out + *n, code);
        return e;
}

static bool at_quotes(const struct lexer *l, char quote, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (peek(l, i) != quote)
                        return false;
        return true;
}

static enum err take_text(struct lexer *l, bool raw, struct token *out)
{
        char quote = peek(l, 0);
        size_t quotes = at_quotes(l, quote, 3) ? 3 : 1, n = 0;
        /* No escape is longer than the text that it stands for: \xff makes two bytes. */
        char *text = arena_array(&l->scope->arena, char, l->source.n - l->at + 1);
        enum err e;

        for (l->at += quotes; !at_quotes(l, quote, quotes);) {
                char c = peek(l, 0);

                if (!c || (quotes == 1 && (c == '\n' || c == '\r')))
                        return expr_refuse(l->scope, l->source, out->at,
                                           "the text is not closed; expected %.*s",
                                           (int)quotes, quote == '"' ? "\"\"\"" : "'''");
                l->at++;
                if (c != '\\' || raw) {
                        text[n++] = c;
                } else {
                        e = take_escape(l, text, &n);
                        if (e)
                                return e;
                }
        }
        l->at += quotes;
        out->kind = TOKEN_TEXT;
        out->text = (struct str){ text, n };
        return ERR_OK;
}

/* Letters before a quote: r for raw; b for bytes, which JSON has none of. */
static enum err take_prefixed(struct lexer *l, struct token *out, bool *found)
{
        size_t n = 0;
        bool raw = false, bytes = false;

        for (; n < 2 && peek(l, n) && strchr("rRbB", peek(l, n)); n++)
                *(strchr("rR", peek(l, n)) ? &raw : &bytes) = true;
        *found = (peek(l, n) == '"' || peek(l, n) == '\'') && n == (size_t)raw + (size_t)bytes;
        if (!*found)
                return ERR_OK;
        if (bytes)
                return expr_refuse(l->scope, l->source, out->at,
                                   "bytes are not supported: JSON has none; write a text without "
                                   "\"b\"");
        l->at += n;
        return take_text(l, raw, out);
}

/* `a name with any characters`, after a dot. */
static enum err take_quoted_name(struct lexer *l, struct token *out)
{
        size_t end = str_find(l->source, '`', l->at + 1);

        if (end == l->source.n || end == l->at + 1 ||
            str_find(str_slice(l->source, l->at, end), '\n', 0) < end - l->at)
                return expr_refuse(l->scope, l->source, out->at,
                                   "expected a name and a closing ` on the same line");
        out->kind = TOKEN_QUOTED;
        out->text = str_slice(l->source, l->at + 1, end);
        l->at = end + 1;
        return ERR_OK;
}

static enum err take_sign(struct lexer *l, struct token *out)
{
        static const char *const signs[] = { "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!",
                                             "+",  "-",  "*",  "/",  "%",  "?",  ":", "(", ")",
                                             "[",  "]",  "{",  "}",  ",",  "." };
        static const struct {
                const char *wrong, *right;
        } habits[] = { { "=", "==" }, { "&", "&&" }, { "|", "||" } };
        struct str rest = str_slice(l->source, l->at, l->source.n);
        size_t length = 1;

        for (size_t i = 0; i < LENGTH(signs); i++)
                if (str_starts(rest, signs[i])) {
                        out->kind = TOKEN_SIGN;
                        out->text = str_slice(rest, 0, strlen(signs[i]));
                        l->at += out->text.n;
                        return ERR_OK;
                }
        for (size_t i = 0; i < LENGTH(habits); i++)
                if (str_starts(rest, habits[i].wrong))
                        return expr_refuse(l->scope, l->source, l->at,
                                           "\"%s\" is no operator; expected \"%s\"",
                                           habits[i].wrong, habits[i].right);
        while (length < rest.n && ((unsigned char)rest.p[length] & 0xc0) == 0x80)
                length++;
        return expr_refuse(l->scope, l->source, l->at,
                           "\"%.*s\" begins nothing known; expected a value, name or operator",
                           (int)length, rest.p);
}

enum err lex(struct lexer *l, struct token *out)
{
        bool found;
        enum err e;

        skip_blanks(l);
        *out = (struct token){ .kind = TOKEN_END, .at = l->at };
        if (l->at == l->source.n)
                return ERR_OK;
        if (is_digit(peek(l, 0)) || (peek(l, 0) == '.' && is_digit(peek(l, 1)))) {
                e = take_number(l, out);
                out->text = str_slice(l->source, out->at, l->at);
                return e;
        }
        e = take_prefixed(l, out, &found);
        if (e || found)
                return e;
        if (peek(l, 0) == '`')
                return take_quoted_name(l, out);
        if (!is_letter(peek(l, 0)))
                return take_sign(l, out);
        while (is_letter(peek(l, 0)) || is_digit(peek(l, 0)))
                l->at++;
        out->kind = TOKEN_NAME;
        out->text = str_slice(l->source, out->at, l->at);
        return ERR_OK;
}
