/*
 * Error codes and the fault that explains one.
 *
 * A fallible function returns enum err, ERR_OK (0) on success, and leaves its out-parameters
 * untouched otherwise.  The sentence for a person is written once, where the fact is known, with
 * fail() or fail_field(), into the scope (core/scope.h); callers only pass the code up.
 */
#ifndef BATON_CORE_ERR_H
#define BATON_CORE_ERR_H

#include <stdint.h>

#include "core/record.h"

enum err {
#define ERR(code, http, rc, name) ERR_##code,
#include "core/err.def"
#undef ERR
        ERR_COUNT
};

/* What a problem document tells beside the code; absent members are empty or 0. */
struct fault {
        enum err code;
        struct str detail;   /* one sentence: what is wrong and what would be right */
        struct str field;    /* the request field at fault, as a path: steps[2].action */
        const char *diagnostic; /* finer than the code, for programs; NULL = none */
        struct str resource; /* what was not found: task, run, definition, ... */
        int64_t limit;       /* the bound that was passed; shown when has_limit */
        int64_t actual;
        bool has_limit;
        int retry_after;     /* seconds, for 429 and 503; 0 = none */
};

int err_http_status(enum err);
int err_exit_status(enum err);
const char *err_name(enum err);

/* Those that a problem may have; what is none is without a name. */
extern const struct names err_names;

/* The code with this wire name, or ERR_INTERNAL when there is none. */
enum err err_from_name(struct str name);

#endif
