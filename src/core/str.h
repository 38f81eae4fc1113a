/*
 * struct str: a view of bytes, never freed, not NUL-terminated.  Whoever made the bytes owns them,
 * usually an arena.  p == NULL means absent, which differs from empty.
 */
#ifndef BATON_CORE_STR_H
#define BATON_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
        const char *p;
        size_t n;
};

struct arena;

#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
#define STR_NONE ((struct str){ NULL, 0 })

/* For printf: printf("%.*s", STR_ARG(s)). */
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

struct str str_from(const char *c_string);
bool str_eq(struct str, struct str);
bool str_is(struct str, const char *c_string);
/* The same, letters of ASCII in either case. */
bool str_eq_nocase(struct str, struct str);
bool str_is_nocase(struct str, const char *c_string);
bool str_starts(struct str, const char *prefix);
bool str_ends(struct str, const char *suffix);
int str_cmp(struct str, struct str);
/* Position of the first c at or after from, or s.n. */
size_t str_find(struct str s, char c, size_t from);
bool str_contains(struct str haystack, struct str needle);
struct str str_slice(struct str, size_t from, size_t to);
struct str str_trim(struct str); /* ASCII blanks at both ends */
/* Splits off what stands before the first sep; *rest is what follows, absent at the end. */
struct str str_cut(struct str, char sep, struct str *rest);

/* Copies that live as long as the arena. */
struct str str_dup(struct arena *, struct str);
char *str_c(struct arena *, struct str);
struct str str_lower(struct arena *, struct str);

/* UTF-8 that was cut somewhere: without the character that is not whole at its end. */
struct str str_whole(struct str);

/* The whole text must be a decimal number in range. */
bool str_to_int(struct str, int64_t *out);
/* Strict UTF-8 (RFC 3629) without NUL. */
bool str_is_utf8(struct str);
/* Bytes of the first character of a text that is not empty; 0: it is not such UTF-8. */
size_t str_character(struct str);

#endif
