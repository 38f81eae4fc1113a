#include "core/err.h"

#include "core/attr.h"

static const struct {
        int http, exit_status;
        const char *name;
} errors[] = {
#define ERR(code, http, rc, name) [ERR_##code] = { http, rc, name },
#include "core/err.def"
#undef ERR
};

/* Success is no problem's code. */
static const char *const names[] = {
#define ERR(code, http, rc, name) [ERR_##code] = (http) < 300 ? "" : name,
#include "core/err.def"
#undef ERR
        NULL,
};
const struct names err_names = { names, NULL };

int err_http_status(enum err e)
{
        return errors[e].http;
}

int err_exit_status(enum err e)
{
        return errors[e].exit_status;
}

const char *err_name(enum err e)
{
        return errors[e].name;
}

enum err err_from_name(struct str name)
{
        for (unsigned i = 0; i < LENGTH(errors); i++)
                if (str_is(name, errors[i].name))
                        return (enum err)i;
        return ERR_INTERNAL;
}
