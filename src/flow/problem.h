/* Problems of a document: where, what, and how to mend it.  At most PROBLEMS_MAX are collected. */
#ifndef BATON_FLOW_PROBLEM_H
#define BATON_FLOW_PROBLEM_H

#include "core/buf.h"
#include "core/record.h"
#include "core/scope.h"

enum { PROBLEMS_MAX = 100 };

struct problem {
        struct str path, code, message, hint; /* hint may be absent */
};
extern const struct record definition_problem_record;

struct problems {
        struct scope *scope;
        struct problem *items;
        size_t n;
};

/* Without a hint, the code's usual remedy is given. */
void problem_add(struct problems *, struct str path, const char *code, const char *hint,
                 const char *fmt, ...) PRINTF(5, 6);
struct str path_member(struct scope *, struct str path, struct str name);
struct str path_item(struct scope *, struct str path, size_t i);
/* "did you mean \"steps\"?" for the nearest of `names` (ends with NULL), else the whole list. */
const char *nearest_hint(struct scope *, struct str given, const char *const *names);

#endif
