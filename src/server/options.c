#include "server/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_TEXT, KIND_NUMBER };

static const struct option {
        const char *name;
        size_t offset;
        enum kind kind;
        const char *fallback, *help;
} table[] = {
#define OPTION(name, member, kind, fallback, help) \
        { name, offsetof(struct options, member), KIND_##kind, fallback, help },
#include "server/options.def"
#undef OPTION
};

static enum err set(struct scope *scope, struct options *out, const struct option *option,
                    const char *value)
{
        void *at = (char *)out + option->offset;
        int64_t number;

        if (option->kind == KIND_TEXT) {
                *(const char **)at = str_c(&scope->arena, str_from(value));
                return ERR_OK;
        }
        if (!str_to_int(str_from(value), &number) || number < 1 || number > 1000000)
                return fail_field(scope, option->name, ERR_VALIDATION,
                                  "--%s must be a number from 1 to 1000000, not \"%s\"",
                                  option->name, value);
        *(int64_t *)at = number;
        return ERR_OK;
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

        for (size_t i = 0; !e && i < LENGTH(table); i++) {
                const char *value = from_environment(&table[i]);

                e = set(scope, out, &table[i], value ? value : table[i].fallback);
        }
        for (int i = 0; !e && i < argc; i++) {
                const char *value = NULL;
                const struct option *option =
                        strncmp(argv[i], "--", 2) == 0 ? find(argv[i] + 2, &value) : NULL;

                if (!option)
                        return fail(scope, ERR_VALIDATION,
                                    "unknown option %s; see baton serve --help", argv[i]);
                if (!value && i + 1 == argc)
                        return fail(scope, ERR_VALIDATION, "--%s needs a value", option->name);
                e = set(scope, out, option, value ? value : argv[++i]);
        }
        return e;
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
