#include "server/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NUMBER: 1 or more; COUNT: 0 or more; FLAG: given or not; LIST: may be repeated, with colons in
 * the environment. */
enum kind { KIND_TEXT, KIND_NUMBER, KIND_COUNT, KIND_FLAG, KIND_LIST };
enum { LIST_MAX = 64 };

static const struct option {
        const char *name;
        size_t offset;
        enum kind kind;
        int64_t most;
        const char *fallback, *help;
} table[] = {
#define OPTION(name, member, kind, most, fallback, help) \
        { name, offsetof(struct options, member), KIND_##kind, most, fallback, help },
#include "server/options.def"
#undef OPTION
};

static enum err set_number(struct scope *scope, const struct option *option, const char *value,
                           int64_t *at)
{
        int64_t number, least = option->kind == KIND_NUMBER;

        if (!str_to_int(str_from(value), &number) || number < least ||
            number > option->most)
                return fail_field(scope, option->name, ERR_VALIDATION,
                                  "--%s must be a number from %lld to %lld, not \"%s\"",
                                  option->name, (long long)least, (long long)option->most, value);
        *at = number;
        return ERR_OK;
}

static enum err set_flag(struct scope *scope, const struct option *option, const char *value,
                         bool *at)
{
        static const char *const on[] = { "1", "true", "yes" }, *const off[] = { "", "0", "false", "no" };

        for (size_t i = 0; i < LENGTH(on); i++)
                if (strcmp(value, on[i]) == 0) {
                        *at = true;
                        return ERR_OK;
                }
        for (size_t i = 0; i < LENGTH(off); i++)
                if (strcmp(value, off[i]) == 0) {
                        *at = false;
                        return ERR_OK;
                }
        return fail_field(scope, option->name, ERR_VALIDATION, "--%s must be true or false, not \"%s\"",
                          option->name, value);
}

static enum err append(struct scope *scope, const struct option *option, const char *value,
                       const char *const **at)
{
        const char **list = arena_array(&scope->arena, const char *, LIST_MAX + 1);
        size_t n = 0;

        for (const char *const *old = *at; old && *old; old++)
                list[n++] = *old;
        if (n == LIST_MAX)
                return fail_field(scope, option->name, ERR_VALIDATION,
                                  "--%s may be given at most %d times", option->name, LIST_MAX);
        if (*value)
                list[n++] = str_c(&scope->arena, str_from(value));
        *at = list;
        return ERR_OK;
}

static enum err set(struct scope *scope, struct options *out, const struct option *option,
                    const char *value)
{
        void *at = (char *)out + option->offset;

        switch (option->kind) {
        case KIND_TEXT:
                *(const char **)at = str_c(&scope->arena, str_from(value));
                return ERR_OK;
        case KIND_NUMBER:
        case KIND_COUNT:
                return set_number(scope, option, value, at);
        case KIND_FLAG:
                return set_flag(scope, option, value, at);
        case KIND_LIST:
                return append(scope, option, value, at);
        }
        return ERR_INTERNAL;
}

/* What the environment or the table says before the flags are read. */
static enum err set_default(struct scope *scope, struct options *out, const struct option *option,
                            const char *value)
{
        struct str rest = str_from(value);
        enum err e = ERR_OK;

        if (option->kind != KIND_LIST)
                return set(scope, out, option, value);
        do
                e = set(scope, out, option, str_c(&scope->arena, str_cut(rest, ':', &rest)));
        while (!e && rest.p);
        return e;
}

static const char *from_environment(const struct option *option)
{
        char name[64] = "BATON_";
        size_t n = strlen(name);

        for (const char *c = option->name; *c && n + 1 < sizeof(name); c++)
                name[n++] = (char)(*c == '-' ? '_' : toupper(*c));
        name[n] = '\0';
        return getenv(name);
}

static const struct option *find(const char *word, const char **value)
{
        for (size_t i = 0; i < LENGTH(table); i++) {
                size_t n = strlen(table[i].name);

                if (strncmp(word, table[i].name, n) != 0)
                        continue;
                if (word[n] == '\0' || word[n] == '=') {
                        *value = word[n] ? word + n + 1 : NULL;
                        return &table[i];
                }
        }
        return NULL;
}

enum err options_read(struct scope *scope, int argc, char **argv, struct options *out)
{
        enum err e = ERR_OK;

        *out = (struct options){ 0 };
        for (size_t i = 0; !e && i < LENGTH(table); i++) {
                const char *value = from_environment(&table[i]);

                e = set_default(scope, out, &table[i], value ? value : table[i].fallback);
        }
        for (int i = 0; !e && i < argc; i++) {
                const char *value = NULL;
                const struct option *option =
                        strncmp(argv[i], "--", 2) == 0 ? find(argv[i] + 2, &value) : NULL;

                if (!option)
                        return fail(scope, ERR_VALIDATION,
                                    "unknown option %s; see baton serve --help", argv[i]);
                if (!value && option->kind == KIND_FLAG)
                        value = "1";
                if (!value && i + 1 == argc)
                        return fail(scope, ERR_VALIDATION, "--%s needs a value", option->name);
                e = set(scope, out, option, value ? value : argv[++i]);
        }
        return e;
}

const char *options_data(struct scope *scope, const struct options *o)
{
        const char *home = getenv("HOME");

        if (*o->data)
                return o->data;
        return arena_printf(&scope->arena, "%s/.local/share/baton", home ? home : "/root").p;
}

void options_help(void)
{
        printf("usage: baton serve [options]\n\nRuns the server. Every option may also be given as"
               " BATON_<NAME> in the environment.\n\n");
        for (size_t i = 0; i < LENGTH(table); i++) {
                printf("  --%-16s %s", table[i].name, table[i].help);
                if (*table[i].fallback)
                        printf(" (default %s)", table[i].fallback);
                printf("\n");
        }
}
