/*
 * Expressions: the Common Expression Language over JSON values, by a small total evaluator.  There
 * is no loop but over a list that exists, and nesting, cost and the size of results are bounded, so
 * an evaluation always ends soon.  Errors are values with a position in the source.
 */
#ifndef BATON_FLOW_EXPR_EXPR_H
#define BATON_FLOW_EXPR_EXPR_H

#include "flow/expr/value.h"

enum {
        EXPR_MAX_SOURCE = 4096,     /* bytes */
        EXPR_MAX_DEPTH = 64,        /* nesting of the syntax tree */
        EXPR_MAX_COST = 1000000,    /* evaluation steps, elements copied and bytes made / 16 */
        EXPR_MAX_BYTES = 1048576,   /* of one result, as JSON */
};

struct expr;

/* ERR_INVALID_CONDITION; the detail names line, column and what was expected. */
enum err expr_compile(struct scope *, struct str source, struct expr **out) NODISCARD;

/* Where top-level names come from. */
struct expr_env {
        bool (*find)(const struct expr_env *, struct scope *, struct str name, struct value *out);
        /* "input, steps, last": for the message about a missing name; may be NULL. */
        struct str (*known)(const struct expr_env *, struct scope *);
        const void *ctx;
        bool dotted; /* a name may hold dots: for a.b.c the longest one found counts */
        int64_t now; /* microseconds UTC: the value of now(), the only time there is */
};

/* ERR_INVALID_CONDITION with position on any run-time error: missing name, no overload, division
 * by zero, overflow, a bound passed. */
enum err expr_eval(struct scope *, const struct expr *, const struct expr_env *,
                   struct value *out) NODISCARD;

/* Finds calls that every evaluation would refuse: unknown functions, wrong numbers of arguments.
 * expr_compile() lets them pass, since `false && f(1)` has a value. */
enum err expr_check(struct scope *, const struct expr *) NODISCARD;

/* Prints the syntax tree as source that compiles to the same tree. */
struct str expr_print(struct scope *, const struct expr *);

#endif
